"""What the analysis notebook shows: figures signed with their scope, tables as printed, and what cannot be shown."""

import html
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd
from IPython.display import HTML, Markdown, display
from matplotlib.figure import Figure

from deeplab_lib import report
from deeplab_lib.analysis.alt_text import describe
from deeplab_lib.analysis.captions import CURVES, FIGURES, INTERVALS, TABLES, named
from deeplab_lib.analysis.numbers import Numbers
from deeplab_lib.analysis.plots import Missing
from deeplab_lib.common.files import without_paths
from deeplab_lib.common.markup import as_html, as_markdown
from deeplab_lib.plotting.style import add_scope, as_labels, freeze_layout
from deeplab_lib.study.grouping import Study, methods
from deeplab_lib.study.run import Run


class Gallery:
    """Shows figures and tables by label; captions are those of `captions`.

    scope: what the results are about, signed in every figure. titles: {run or method: display name}. no_intervals: why
    there are none, "" where there are some. curves: on which images the epochs are validated, where that is not on all.
    several_seeds: whether values are means over seeds.
    `shown` lists the figures that were drawn, `missing` those that the files are too poor for, with the reason.
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

    def show(
        self,
        label: str,
        draw: Callable[..., Figure],
        *args: Any,
        words: Mapping[str, str] | None = None,
        vector: bool = True,
        lead: str = "",
        **kwargs: Any,
    ) -> None:
        """Display `draw(*args, **kwargs)` as `fig-<label>`; where it raises `Missing`, say so.

        `words` fill the caption; `lead` introduces the figure, in a paragraph above it, as `@this`. What follows a `/`
        in the label distinguishes figures with one caption.
        """
        caption = FIGURES[label.partition("/")[0]].format(**self.words | dict(words or {}))
        if self.curves and label in CURVES:
            caption += f" Validated on {self.curves}."
        label = re.sub(r"[^\w-]", "-", label)  # a run's name has points
        try:
            figure = freeze_layout(as_labels(add_scope(draw(*args, **kwargs), self.scope)))
        except Missing as reason:
            self.leave_out(label, reason)
        else:
            self.say(lead.replace("@this", f"@fig-{label}"))
            dpi = 150 if vector else 220  # photographs keep their pixels
            report.figure(figure, f"fig-{label}", caption, describe(figure).replace("\\$", "$"), vector=vector, dpi=dpi)
            self.shown.append(label)

    def table(
        self,
        label: str,
        frame: pd.DataFrame,
        note: str = "",
        titles: Mapping[str, str] | None = None,
        scope: str | None = None,
        lead: str = "",
    ) -> None:
        """Display a frame as `tbl-<label>`, its numbers printed and registered; nothing when it holds nothing.

        `lead` introduces the table, in a paragraph above it. Rows are named by `titles`. Columns without any value are
        left out. `scope`: what the rows are about, where that is not what all other results are about.
        """
        spec = TABLES[label]
        if frame.empty:
            return
        if spec.columns:
            columns = {name: head for name, head in spec.columns.items() if frame[name].notna().any()}
            if not columns:
                return
            formats = {name: form for name, (_, form) in columns.items()}
            frame = self.numbers.table(label, frame[list(columns)], formats)
            frame = frame.rename(columns={name: head for name, (head, _) in columns.items()})
        frame = frame.map(lambda value: without_paths(value) if isinstance(value, str) else value)
        caption = spec.caption.format(**self.words) + (f" ({scope or self.scope})." if spec.ours else ".")
        frame = frame.rename(index=self.titles if titles is None else titles)
        if self.curves and "best_val_mIoU" in (spec.columns or ()):
            note = f"The best epoch is chosen, and its mIoU measured, on {self.curves}. {note}"
        self.say(lead)
        report.table(frame, f"tbl-{label}", caption, f"{spec.note} {note}".strip() or None)

    def say(self, text: str, lead: str = "") -> None:
        """Display a paragraph; `lead`, a sentence that points at figures, comes first if all of them are there."""
        pointed = re.findall(r"@fig-([\w-]*\w)", lead)
        text = f"{lead} {text}".strip() if set(pointed) <= set(self.shown) else text
        if text:
            display(Markdown(as_markdown(without_paths(text))))

    def leave_out(self, label: str, reason: object) -> None:
        """Say in place of a figure why it is not there."""
        self.missing[label] = str(reason)
        text = f"*The figure “{named(label)}” is left out: {without_paths(str(reason))}.*"
        display(Markdown(as_markdown(text)))


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
