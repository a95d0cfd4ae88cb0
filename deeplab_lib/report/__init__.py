"""A notebook as a paper: what its cells display, and the PDF and HTML that are made of it.

In the notebook, `front_matter`, `figure` and `table` display their argument together with what a paper needs and a
notebook has no place for: title and authors, label, caption, alternative text. Captions, notes and the abstract
are Markdown: formulas, references (`@fig-x`, `@tbl-x`, `@eq-x`, `@sec-x`) and citations (`[@key]`) work in them. Title,
subtitle, names and scope are text, and so is in any of them what went through `common.markup.as_text`.
"""

import base64
import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import matplotlib.style
import pandas as pd
from IPython.display import display

from deeplab_lib.common.markup import as_html, as_markdown, as_plain, as_text
from deeplab_lib.report.front import FRONT_MATTER_MIME, as_list, bibtex

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

EXPORTS = ("ReportError", "ReportHTML", "ReportPDF", "export_html", "export_pdf", "make_report")


def __getattr__(name: str) -> Any:
    """`EXPORTS`, loaded when first asked for: with nbconvert and Typst, 3 s that a notebook's figures do without."""
    if name in EXPORTS:
        from deeplab_lib.report import export

        return getattr(export, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def front_matter(
    title: str | None = None,
    *,
    subtitle: str | None = None,
    author: str | Iterable[str] | None = None,
    affiliation: str | Iterable[str] | None = None,
    date: str | None = None,
    abstract: str | None = None,
    scope: str | None = None,
    keywords: Iterable[str] = (),
    bibliography: str | Path | Iterable[str | Path] | None = None,
    draft: bool = False,
) -> None:
    """Display the report's title block; the exporters build the title page, header and metadata from it.

    `scope` says what the results are about ("toy city (synthetic), demo scale") and stands on every page.
    `date` is ISO (YYYY-MM-DD); it also dates the PDF, so that the same notebook gives the same bytes.
    `bibliography` is BibTeX text, a path to a .bib file, or a list of these; files are read at once. Raises
    FileNotFoundError for a missing one. `draft` marks title, page headers and, through `make_report`, the files' names.
    """
    if draft:
        title, scope = f"Draft: {title or 'report'}", " · ".join(filter(None, ["DRAFT", scope]))
    fields: dict[str, Any] = {
        "title": title,
        "subtitle": subtitle,
        "author": as_list(author),
        "affiliation": as_list(affiliation),
        "date": None if date is None else str(date),
        "abstract": abstract,
        "scope": scope,
        "keywords": as_list(keywords),
        "bibliography": bibtex(bibliography),
        "draft": draft,
    }
    fields = {key: _as_it_is(key, value) for key, value in fields.items() if value}
    byline = " · ".join(map(as_text, [*fields.get("author", []), *fields.get("affiliation", []), *as_list(date)]))
    named = {key: as_text(fields[key]) if fields.get(key) else "" for key in ("title", "subtitle", "scope")}
    lines = [
        named["title"] and f"# {named['title']}",
        named["subtitle"],
        byline,
        named["scope"] and f"*{named['scope']}*",
    ]
    fallback = as_markdown("\n\n".join(line for line in [*lines, abstract or ""] if line))
    display({FRONT_MATTER_MIME: fields, "text/markdown": fallback, "text/plain": fallback}, raw=True)


def _as_it_is(key: str, value: Any) -> Any:
    """A field of the title block: Markdown for the abstract, text for all others."""
    if key == "abstract":
        return as_markdown(value)
    if isinstance(value, list):
        return [_as_it_is(key, item) for item in value]
    return as_plain(value) if isinstance(value, str) else value


def figure(
    fig: plt.Figure,
    label: str | None = None,
    caption: str | None = None,
    alt: str | None = None,
    *,
    vector: bool = True,
    dpi: int = 150,
) -> None:
    """Display a matplotlib figure as SVG and PNG under `label` ("fig-..."), and close it.

    `alt` says in a sentence what the picture shows, for readers who cannot see it; the caption stands in for it.
    `vector=False` displays the PNG alone, at `dpi`: for grids of photographs, which an SVG would only wrap.
    The same figure gives the same bytes.
    """
    _check_label(label, "fig-")
    caption, alt = caption and as_markdown(caption), alt and as_plain(alt)
    bundle = {"text/plain": alt or caption or "figure"}
    with matplotlib.style.context(["default", {"svg.hashsalt": label or "figure", "svg.fonttype": "path"}]):
        if vector:
            bundle["image/svg+xml"] = _saved(fig, format="svg", metadata={"Date": None}).decode()
        png = _saved(fig, format="png", dpi=dpi, metadata={"Software": None})
        bundle["image/png"] = base64.b64encode(png).decode()
    width, _ = fig.get_size_inches()
    options = {"label": label, "caption": caption, "alt": alt, "width": round(float(width), 3)}
    display(bundle, metadata=_metadata(options), raw=True)
    _show_caption(caption)
    plt.close(fig)


def table(
    data: "pd.DataFrame | pd.Series | Styler",
    label: str | None = None,
    caption: str | None = None,
    note: str | None = None,
) -> None:
    """Display a DataFrame, Series or Styler as a table under `label` ("tbl-..."), with `note` below it.

    A Styler's bold, italic, colours and background reach PDF and HTML.
    """
    _check_label(label, "tbl-")
    if isinstance(data, pd.Series):
        data = data.to_frame()
    if isinstance(data, pd.DataFrame):
        html = data.to_html(na_rep="–", border=0)
    else:
        html = data.to_html(table_uuid=label or "table")  # the default is random: new bytes at every run
    html, caption, note = as_html(html), caption and as_markdown(caption), note and as_markdown(note)
    _show_caption(caption)
    display({"text/html": html, "text/plain": caption or "table"},
            metadata=_metadata({"label": label, "caption": caption, "note": note}), raw=True)  # fmt: skip
    _show_caption(note)


def _check_label(label: str | None, prefix: str) -> None:
    if label is not None and not re.fullmatch(prefix + r"[\w-]+", label):
        raise ValueError(f"label {label!r} should be {prefix!r} and then letters, digits, - or _: {prefix}example")


def _saved(fig: plt.Figure, **options: Any) -> bytes:
    buffer = io.BytesIO()
    fig.savefig(buffer, **options)
    return buffer.getvalue()


def _metadata(options: dict[str, Any]) -> dict[str, Any]:
    return {"report": {key: value for key, value in options.items() if value is not None}}


def _show_caption(text: str | None) -> None:
    """Show a caption in Jupyter; the exporters set it themselves and skip this."""
    if text:
        display({"text/markdown": text, "text/plain": text}, metadata={"report": {"skip": True}}, raw=True)
