"""A manuscript set as PDF (pandoc, then Typst) and as one self-contained HTML file (pandoc, MathML).

Both come out of one pandoc document, so they say the same under the same numbers. Nothing is loaded from the
network, no TeX and no browser is needed, and the same notebook gives the same bytes.
"""

import base64
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import nbformat
import pypandoc
import typst
from nbconvert.exporters import Exporter
from traitlets import Bool, default
from traitlets.config import Application

from deeplab_lib.common.files import write_atomic
from deeplab_lib.common.types import PathLike
from deeplab_lib.report.front import bibtex
from deeplab_lib.report.manuscript import Manuscript
from deeplab_lib.report.settled import Settler

TEMPLATES = Path(__file__).parent / "templates"
BIBLIOGRAPHY = "references.bib"
Render = Callable[[Manuscript, PathLike, bool], bytes]  # of a manuscript, the folder of its pictures, and `strict`


class ReportError(ValueError):
    """A notebook that cannot be set; the message says what is wrong and where."""


def export_pdf(notebook_path: PathLike, out: PathLike, strict: bool = False) -> Path:
    """Set the notebook (.ipynb) as PDF at `out`; code is left out. `strict` makes every warning an error."""
    return _write(Path(out), pdf, read_manuscript(notebook_path), Path(notebook_path).parent, strict)


def export_html(notebook_path: PathLike, out: PathLike, show_code: bool = False, strict: bool = False) -> Path:
    """Set the notebook (.ipynb) as one HTML file at `out`, with its code if `show_code`."""
    return _write(Path(out), html, read_manuscript(notebook_path, show_code), Path(notebook_path).parent, strict)


def make_report(executed_notebook: PathLike, folder: PathLike, strict: bool = False) -> list[Path]:
    """Write report.html, report.pdf and report-with-code.html into `folder`; the notebook must have been executed.

    Of a draft, whose front matter says so, the names begin with `draft`.
    """
    plain, with_code = (read_manuscript(executed_notebook, show_code) for show_code in (False, True))
    out, notebooks = Path(folder) / ("draft" if plain.front.get("draft") else "report"), Path(executed_notebook).parent
    with ThreadPoolExecutor(2) as pool:  # most of the time goes by in pandoc and Typst
        jobs = [
            pool.submit(_write, out.with_suffix(".pdf"), pdf, plain, notebooks, strict),
            pool.submit(_write, Path(f"{out}-with-code.html"), html, with_code, notebooks, strict),
            pool.submit(_write, out.with_suffix(".html"), html, plain, notebooks, strict),
        ]
    return [job.result() for job in jobs]


def _write(out: Path, render: Render, manuscript: Manuscript, folder: Path, strict: bool) -> Path:
    start = time.perf_counter()
    content = render(manuscript, folder, strict)
    write_atomic(out, lambda temporary: temporary.write_bytes(content))
    print(f"{out}: {len(content) / 1e6:.1f} MB in {time.perf_counter() - start:.1f} s")
    return out


def read_manuscript(notebook_path: PathLike, show_code: bool = False) -> Manuscript:
    """The manuscript of a notebook file. Raises ReportError if it is missing or no notebook."""
    path = Path(notebook_path)
    try:
        notebook = nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise ReportError(f"no notebook at {path}") from None
    except Exception as error:
        raise ReportError(f"{path} is no Jupyter notebook: {str(error).splitlines()[0]}") from error
    return Manuscript(notebook, path.stem, show_code)


def html(manuscript: Manuscript, folder: PathLike = ".", strict: bool = False) -> bytes:
    """One HTML page; local pictures of Markdown cells are looked for in `folder`."""
    font = base64.b64encode((TEMPLATES / "fonts/stix-two-math-subset.woff2").read_bytes()).decode()
    style = (TEMPLATES / "paper.css").read_text(encoding="utf-8").replace("$math-font$", font)
    with tempfile.TemporaryDirectory() as scratch:
        return _set("html", manuscript, folder, scratch, {"style": style}, strict).encode()


def pdf(manuscript: Manuscript, folder: PathLike = ".", strict: bool = False) -> bytes:
    """A tagged PDF/UA-1 document, also PDF/A-2a where the report has a date."""
    date = report_date(manuscript.front)
    variables = {"pdf-date": f"year: {date.year}, month: {date.month}, day: {date.day}"} if date else {}
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "report.typ")
        source.write_text(_set("typst", manuscript, folder, scratch, variables, strict), encoding="utf-8")
        return _typeset(source, date, manuscript.name, strict)


def _typeset(source: Path, date: datetime.datetime | None, name: str, strict: bool) -> bytes:
    """Compile with Typst's own fonts; the system's are asked only for letters that those lack.

    A document that breaks a rule of the archival standards for a reason we cannot fix is set without them.
    """
    standards = ["ua-1", "a-2a"] if date else ["ua-1"]
    timestamp = int(date.timestamp()) if date else None
    problem = ""
    for system_fonts, wanted in ((False, standards), (True, standards), (True, [])):
        try:
            options: dict[str, Any] = {"ignore_system_fonts": not system_fonts, "timestamp": timestamp}
            options |= {"pdf_standards": wanted}
            document = typst.compile(str(source), root=str(source.parent), **options)
            _tell(name, [] if wanted else [f"not accessible PDF (PDF/UA): {problem}"], strict)
            return document
        except typst.TypstError as error:
            line = re.search(r"^\d+ │ (.*)", error.diagnostic, re.MULTILINE)
            problem = f"{error} in: {line[1].strip()[:300]}" if line else str(error)
            if not str(error).startswith("PDF/"):
                break
    raise ReportError(f"Typst cannot set {name}: {problem}")


def report_date(front: Mapping[str, Any]) -> datetime.datetime | None:
    """Midnight UTC of the report's date if that is ISO, else SOURCE_DATE_EPOCH, else None."""
    try:
        day = datetime.date.fromisoformat(str(front.get("date"))[:10])
        return datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC)
    except ValueError:
        epoch = os.environ.get("SOURCE_DATE_EPOCH")
        return datetime.datetime.fromtimestamp(int(epoch), datetime.UTC) if epoch else None


class _ReportExporter(Exporter):
    """What both exporters share: `--ReportPDF.strict=True` makes every warning an error."""

    strict = Bool(False, help="Treat every warning (unknown macro, missing reference) as an error.").tag(config=True)
    show_code = Bool(False, help="Keep the code cells.").tag(config=True)

    def render(self, manuscript: Manuscript, folder: PathLike) -> str | bytes:
        """The manuscript as a file's content; pictures of Markdown cells are looked for in `folder`."""
        raise NotImplementedError

    def from_notebook_node(self, nb: nbformat.NotebookNode, resources: Any | None = None, **kw: Any) -> tuple[Any, Any]:
        nb, resources = super().from_notebook_node(nb, resources, **kw)
        where = resources.get("metadata", {})
        manuscript = Manuscript(nb, where.get("name", "notebook"), self.show_code)
        resources["output_extension"] = self.file_extension
        return self.render(manuscript, where.get("path") or "."), resources


class ReportPDF(_ReportExporter):
    """`report_pdf`: JupyterLab's menu "Save and Export Notebook As"."""

    export_from_notebook = "Report (PDF)"
    output_mimetype = "application/pdf"

    @default("file_extension")
    def _file_extension_default(self) -> str:
        return ".pdf"

    def render(self, manuscript: Manuscript, folder: PathLike) -> bytes:
        return pdf(manuscript, folder, self.strict)


class ReportHTML(_ReportExporter):
    """`report_html`: JupyterLab's menu "Save and Export Notebook As"."""

    export_from_notebook = "Report (HTML)"
    output_mimetype = "text/html"

    @default("file_extension")
    def _file_extension_default(self) -> str:
        return ".html"

    def render(self, manuscript: Manuscript, folder: PathLike) -> str:
        return html(manuscript, folder, self.strict).decode()


class _Hyphenated(_ReportExporter):
    """An exporter under a name with a hyphen: a Jupyter server has no address for it and must not list it."""

    @default("enabled")
    def _enabled_default(self) -> bool:
        server = sys.modules.get("jupyter_server.serverapp")
        return not (server and Application.initialized() and isinstance(Application.instance(), server.ServerApp))


class HyphenatedPDF(_Hyphenated, ReportPDF):
    """`jupyter nbconvert --to report-pdf any.ipynb`"""


class HyphenatedHTML(_Hyphenated, ReportHTML):
    """`jupyter nbconvert --to report-html any.ipynb`"""


OPTIONS = {
    "html": ("page.html", ["--to=html5", "--mathml", "--toc", "--toc-depth=3", "--shift-heading-level-by=1"]),
    "typst": ("paper.typ", ["--to=typst-citations"]),
}


def _set(
    language: Literal["html", "typst"],
    manuscript: Manuscript,
    folder: PathLike,
    scratch: PathLike,
    variables: Mapping[str, str],
    strict: bool,
) -> str:
    """The manuscript in the typesetter's language; the folder `scratch` receives its pictures.

    In three steps: pandoc reads it, `Settler` makes files of its pictures and takes out what would load, pandoc writes.
    """
    scratch = Path(scratch)
    references, lost = _references(manuscript, folder)
    (scratch / BIBLIOGRAPHY).write_text(references, encoding="utf-8")
    read, messages = _read(manuscript, references)
    settler = Settler(manuscript.pictures, Path(folder).resolve(), scratch, language)
    try:
        document = settler.settle(json.loads(read))
    except RecursionError as error:
        raise ReportError(f"{manuscript.name}: lists, quotes or elements of HTML are nested too deeply") from error
    (scratch / "document.json").write_text(json.dumps(document), encoding="utf-8")
    (scratch / "variables.json").write_text(json.dumps({"variables": variables}), encoding="utf-8")
    template, options = OPTIONS[language]
    written, more = _pandoc(
        manuscript.name, scratch, "document.json", "--from=json", *options,
        "--standalone", "--wrap=none", "--template", str(TEMPLATES / template),
        "--citeproc", "--csl", str(TEMPLATES / "numeric.csl"), "--lua-filter", str(TEMPLATES / f"{language}.lua"),
        "--defaults=variables.json", f"--metadata=pagetitle={manuscript.front.get('title') or manuscript.name}",
    )  # fmt: skip
    _tell(manuscript.name, [*manuscript.warnings, *lost, *messages, *settler.warnings, *more], strict)
    for notice in manuscript.notices:
        print(f"{manuscript.name}: {notice}", file=sys.stderr)
    return written


def _references(manuscript: Manuscript, folder: PathLike) -> tuple[str, list[str]]:
    """The manuscript's bibliography as BibTeX, "" where it has none, and what is wrong with it."""
    try:
        return bibtex(manuscript.front.get("bibliography"), folder), []
    except FileNotFoundError as error:
        return "", [str(error)]


@lru_cache(maxsize=2)  # the paper and the page of one manuscript
def _read(manuscript: Manuscript, references: str) -> tuple[str, list[str]]:
    """The manuscript as pandoc reads it, in JSON, and pandoc's messages."""
    front = manuscript.front | {"bibliography": BIBLIOGRAPHY if references else None}
    front = {key: value for key, value in front.items() if value}
    document = {"name": manuscript.name, "front": front, "blocks": manuscript.blocks}
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, BIBLIOGRAPHY).write_text(references, encoding="utf-8")
        Path(scratch, "manuscript.json").write_text(json.dumps(document), encoding="utf-8")
        reader = ["--from", str(TEMPLATES / "notebook.lua"), "--to=json"]
        return _pandoc(manuscript.name, scratch, "manuscript.json", *reader)


def _pandoc(name: str, scratch: PathLike, *arguments: str) -> tuple[str, list[str]]:
    """What pandoc writes, and its messages. Raises ReportError."""
    done = subprocess.run(
        [pypandoc.get_pandoc_path(), *arguments], cwd=scratch, capture_output=True, encoding="utf-8", errors="replace"
    )
    messages = [line.removeprefix("report: ") for line in done.stderr.splitlines() if line.strip()]
    if done.returncode:
        raise ReportError(f"pandoc cannot set {name}: {' '.join(messages)}")
    return done.stdout, messages


def _tell(name: str, warnings: Sequence[str], strict: bool) -> None:
    """Print warnings, or raise them."""
    if warnings and strict:
        raise ReportError(f"{name}: " + "; ".join(warnings))
    for warning in warnings:
        print(f"{name}: {warning}", file=sys.stderr)
