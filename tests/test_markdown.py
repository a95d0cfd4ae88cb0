"""The notebooks' Markdown says the same in JupyterLab and in the report: both kinds of Markdown give the same words."""

import re
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbconvert.filters.markdown_mistune import markdown2html_mistune

from deeplab_lib.report.export import html
from deeplab_lib.report.manuscript import Manuscript

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
MATH = re.compile(r"\$\$.*?\$\$|\\begin\{(\w+\*?)\}.*?\\end\{\1\}|(?<!\\)\$[^$\n]+?\$", re.DOTALL)
# What the report turns into numbers, names and citations.
MANUSCRIPT = re.compile(r"(?<=# )Appendix: |\s*\{#[\w-]+\}|\[-?@[^\]]*\]|@(?:fig|tbl|eq|sec)-[\w-]*\w")


def words(page):
    """The visible words, formulas left out; pandoc's typographic quotes and dashes as they are typed."""
    soup = BeautifulSoup(page, "html.parser")
    for element in soup.select("math, .number, nav, header, .anchor-link, style, script, #refs, .skip, .scope"):
        element.replace_with(" ")
    text = soup.get_text(" ")
    for typed, shown in (("'", "‘’"), ('"', "“”"), ("-", "–—\u2011"), (" ", "\xa0\u200b")):
        text = re.sub(f"[{shown}]", typed, text)
    return re.findall(r"\w+", text.replace("…", "..."))


def in_jupyter(cells):
    """Words of the cells as JupyterLab's kind of Markdown (CommonMark with tables and formulas) shows them."""
    return [word for source in cells for word in words(markdown2html_mistune(MATH.sub(" ", source)))]


def in_report(cells):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(source) for source in cells])
    page = html(Manuscript(notebook, "notebook")).decode()
    return words(page[page.index("<main") :])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_markdown_says_the_same_in_jupyter_and_in_the_report(path):
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    # A notebook's one title would become that of the report, which is not part of the text.
    cells = ["# Above", *(MANUSCRIPT.sub("", source) for source in cells)]
    assert in_report(cells) == in_jupyter(cells)


def test_a_difference_is_found():
    assert in_report(["# A", "# B\n~~gone~~ (a) first\n(b) second"]) == in_jupyter(
        ["# A", "# B\n~~gone~~ (a) first\n(b) second"]
    )
    assert in_report(["# A", "# B\n[^1]\n\n[^1]: a note"]) != in_jupyter(["# A", "# B\n[^1]\n\n[^1]: a note"])


def test_the_reports_own_text_refers_to_what_every_report_has():
    """Figures and tables that some runs lack are introduced where they are shown."""
    cells = nbformat.read(ROOT / "notebooks/analysis.ipynb", as_version=4).cells
    text = "\n".join(cell.source for cell in cells[1:] if cell.cell_type == "markdown")
    assert set(re.findall(r"@((?:fig|tbl)-[\w-]*\w)", text)) <= {"fig-network", "tbl-recipes", "tbl-claims"}
