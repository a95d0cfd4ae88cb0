"""What the analysis notebook shows: paragraphs, the figures and tables that they cite, and what cannot be shown."""

import html
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import pandas as pd
from IPython.display import HTML, Markdown, display
from matplotlib.figure import Figure

from deeplab_lib import report
from deeplab_lib.analysis.alt_text import describe
from deeplab_lib.analysis.captions import CURVES, FIGURES, INTERVALS, TABLES, as_label, named
from deeplab_lib.analysis.numbers import Numbers
from deeplab_lib.analysis.plots import Missing
from deeplab_lib.common.files import without_paths
from deeplab_lib.common.markup import as_html, as_markdown
from deeplab_lib.plotting.style import add_scope, as_labels, freeze_layout
from deeplab_lib.study.grouping import Study, methods
from deeplab_lib.study.run import Run

Cited = Callable[[], None]  # displays a figure or a table that is ready
CITATION = re.compile(r"\s*\(((?:@(?:fig|tbl)-[\w-]*\w(?:, )?)+)\)")


class Gallery:
    """Makes figures and tables by label and shows them below the paragraph that cites them; captions are in `captions`.

    scope: what the results are about, signed in every figure and named in every table. titles: {run or method: display
    name}. no_intervals: why there are none, "" where there are some. curves: on which images the epochs are validated,
    where that is not on all. several_seeds: whether values are means over seeds.
    `shown` lists the labels of what was made, `missing` the figures that the files are too poor for, with the reason.
    """

    def __init__(
        self,
        scope: str,
        numbers: Numbers,
        titles: Mapping[str, str],
        no_intervals: str = "",
        curves: str = "",
        several_seeds: bool = False,
    ) -> None:
        self.scope, self.numbers, self.titles, self.curves = scope, numbers, titles, curves
        self.words = {"intervals": f"without intervals ({no_intervals})" if no_intervals else INTERVALS}
        self.words |= {"hollow": "" if no_intervals else ". Hollow: not significant"}
        self.words |= {"seeds": ", mean over seeds" if several_seeds else ""}
        self.shown: list[str] = []
        self.missing: dict[str, object] = {}

    def say(self, text: str, *cited: Cited) -> None:
        """Display a paragraph, and below it the figures and tables that it cites, made by `figure` and `table`.

        A paragraph cites in brackets, `(@fig-ranking, @tbl-ranking)`; what is not shown is left out of them.
        """
        if text := CITATION.sub(self._citation, text).strip():
            display(Markdown(as_markdown(without_paths(text))))
        for show in cited:
            show()

    def _citation(self, found: re.Match[str]) -> str:
        there = [label for label in found[1].split(", ") if label.removeprefix("@") in self.shown]
        return f" ({', '.join(there)})" if there else ""

    def figure(
        self,
        name: str,
        draw: Callable[..., Figure],
        *args: Any,
        words: Mapping[str, str] | None = None,
        vector: bool = True,
        **kwargs: Any,
    ) -> Cited:
        """`draw(*args, **kwargs)` as the figure `fig-<name>`; where that raises `Missing`, the reason is displayed.

        `words` fill the caption. What follows a `/` in the name distinguishes figures with one caption.
        """
        caption = FIGURES[name.partition("/")[0]].format(**self.words | dict(words or {}))
        if self.curves and name in CURVES:
            caption += f" Validated on {self.curves}."
        label = as_label(name)
        try:
            figure = freeze_layout(as_labels(add_scope(draw(*args, **kwargs), self.scope)))
        except Missing as reason:
            return partial(self.leave_out, label, reason)
        self.shown.append(f"fig-{label}")
        dpi = 150 if vector else 220  # photographs keep their pixels
        alt = describe(figure).replace("\\$", "$")
        return partial(report.figure, figure, f"fig-{label}", caption, alt, vector=vector, dpi=dpi)

    def table(
        self,
        label: str,
        frame: pd.DataFrame | None,
        note: str = "",
        titles: Mapping[str, str] | None = None,
        scope: str | None = None,
    ) -> Cited:
        """A frame as the table `tbl-<label>`, its numbers printed and registered; none when it holds nothing.

        Rows are named by `titles`. Columns without any value are left out. `scope`: what the rows are about, where that
        is not what all other results are about.
        """
        spec = TABLES[label]
        if frame is None or frame.empty:
            return nothing
        columns = {name: head for name, head in (spec.columns or {}).items() if frame[name].notna().any()}
        if spec.columns and not columns:
            return nothing
        if columns:
            formats = {name: form for name, (_, form) in columns.items()}
            frame = self.numbers.table(label, frame[list(columns)], formats)
            frame = frame.rename(columns={name: head for name, (head, _) in columns.items()})
        frame = frame.map(lambda value: without_paths(value) if isinstance(value, str) else value)
        caption = spec.caption.format(**self.words) + (f" ({scope or self.scope})." if spec.ours else ".")
        frame = frame.rename(index=self.titles if titles is None else titles)
        if self.curves and "best_val_mIoU" in (spec.columns or ()):
            note = f"The best epoch is chosen, and its mIoU measured, on {self.curves}. {note}"
        self.shown.append(f"tbl-{label}")
        return partial(report.table, frame, f"tbl-{label}", caption, f"{spec.note} {note}".strip() or None)

    def leave_out(self, label: str, reason: object) -> None:
        """Say in place of a figure why it is not there."""
        self.missing[label] = str(reason)
        text = f"*The figure “{named(label)}” is left out: {without_paths(str(reason))}.*"
        display(Markdown(as_markdown(text)))


def nothing() -> None:
    """Displays what a table without a value displays."""


def warn(text: str) -> None:
    """Display a warning in a red box; nothing when `text` is empty."""
    if text:
        style = "color:#8c1d18; background-color:#fdecea; padding:0.6em; text-align:left"
        note = f"<b>Note.</b> {as_html(html.escape(without_paths(text)))}"
        box = f'<div class="warning" role="note" style="{style}">{note}</div>'
        display(HTML(box))


def newest(runs: Iterable[Run]) -> str | None:
    """The day, YYYY-MM-DD, on which the last of the runs ended; None when no record says."""
    return max(((run.record or {}).get("ended") or "" for run in runs), default="")[:10] or None


def drawn_runs(study: Study) -> list[Run]:
    """The runs that figures show, one seed of each: the recipes as they are, unfinished ones included.

    Where a folder holds no recipe at all, every run is shown.
    """
    plain = [run for run in study.runs if run.recipe and not run.variant]
    return [seeds[0] for seeds in methods(plain or study.runs).values()]
