"""A notebook becomes a paper: what it shows, how it is numbered, and the traps between Jupyter, pandoc and Typst."""

import io
import json
import os
import re
import socket
import subprocess
import sys
import time
from html.parser import HTMLParser
from urllib.error import URLError
from urllib.request import Request, urlopen

import matplotlib
import nbformat
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbconvert.exporters import get_exporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell
from pypdf import PdfReader

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from deeplab_lib import report
from deeplab_lib.labels import CLASS_NAMES
from deeplab_lib.report import export
from deeplab_lib.report.directives import cell_options
from deeplab_lib.report.manuscript import Manuscript, jupyter_markdown
from deeplab_lib.report.static_html import static_html
from deeplab_lib.report.terminal import terminal_text
from deeplab_lib.report.widgets import STATE_MIME, WIDGET_MIME

SCOPE = "toy city (synthetic), demo scale"
BIBLIOGRAPHY = """
@inproceedings{lin2017focal, author={Lin, Tsung-Yi and Goyal, Priya}, title={Focal Loss for Dense Object Detection},
  booktitle={International Conference on Computer Vision}, year={2017}, pages={2980--2988}}
@inproceedings{berman2018, author={Berman, Maxim}, title={The {Lov{\\'a}sz}-{Softmax} Loss}, booktitle={CVPR},
  year={2018}}
"""

TQDM = {
    "row": {"model_name": "HBoxModel", "state": {"children": ["IPY_MODEL_bar", "IPY_MODEL_text"]}},
    "bar": {"model_name": "FloatProgressModel", "state": {"value": 9, "max": 9}},
    "text": {"model_name": "HTMLModel", "state": {"value": " 9/9 [00:02&lt;00:00]"}},
}


def shown(call, *args, **options):
    """The outputs that a cell running `call` would hold."""
    outputs = []

    def keep(data, metadata=None, raw=True):
        outputs.append(new_output("display_data", data=data, metadata=metadata or {}))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "display", keep)
        call(*args, **options)
    return outputs


def line_figure(size=(5, 3)):
    fig, ax = plt.subplots(figsize=size)
    ax.plot([0, 1], [0, 1])
    return fig


def per_class_table():
    """8 runs x 22 columns, no two cells alike."""
    values = 10 + np.arange(8 * 21).reshape(8, 21) / 2
    names = ["CE", "CE + Tversky", "CE + Lovász", "CE + Dice", "CE + Lovász (warm-up)", "CE + Focal",
             "CE + Lovász + Dice", "CE + Lovász + Focal"]  # fmt: skip
    return pd.DataFrame(values, index=names, columns=["train mIoU", "val mIoU", *CLASS_NAMES]).rename_axis("run")


def paper_notebook():
    front = shown(
        report.front_matter,
        "Eight losses, one Lovász",
        author=["Ada Example", "Bo Beispiel"],
        affiliation="University",
        date="2026-01-15",
        abstract="Focal loss [@lin2017focal] reaches 45.3 % in @tbl-classes.",
        scope=SCOPE,
        keywords=["segmentation", "losses"],
        bibliography=BIBLIOGRAPHY,
    )
    theory = r"""## Theory {#sec-theory}
Cross-entropy and Lovász [@berman2018], with α ≥ 0.5, see @fig-curves, @fig-photos, @tbl-classes, @tbl-small, @eq-iou,
\eqref{eq:focal} and @sec-results.[^1]

[^1]: A footnote with $\alpha \ge 0.5$.

$$\mathrm{IoU}_c = \frac{|P_c \cap G_c|}{|P_c \cup G_c|} \label{eq:iou}$$

\begin{align}
\mathcal{L} &= -\sum_i (1-p_i)^\gamma \log p_i \\
  &= \mathbb{E}\bigl[\ell_i\bigr] \label{eq:focal}
\end{align}

| loss | weight |
|:-----|-------:|
| CE   | 1.0    |

: Losses at a glance. {#tbl-small}
"""
    table = shown(report.table, per_class_table().style.format("{:.1f}").highlight_max(props="font-weight: bold"),
                  "tbl-classes", "Validation IoU of each class.", note="The best of each column in bold.")  # fmt: skip
    curves = shown(report.figure, line_figure(), "fig-curves", "Loss of all runs ($\\gamma = 2$).", "A rising line")
    photos = shown(report.figure, line_figure(), "fig-photos", "Photographs.", "Nine streets", vector=False)
    noise = [
        new_output("stream", name="stdout", text="\x1b[31mprinted\x1b[0m words\n10%\r100%\n"),
        new_output("stream", name="stderr", text="a stderr line\n"),
        new_output("display_data", data={WIDGET_MIME: {"model_id": "row"}, "text/plain": "a tqdm widget"}),
        new_output("execute_result", data={"text/plain": "<Axes: title={'center': 'bare object'}>"}, execution_count=1),
        new_output("display_data", data={"text/markdown": "A *computed* conclusion about @fig-curves."}),
    ]
    return new_notebook(
        cells=[
            new_markdown_cell("# A title that the front matter overrides"),
            new_code_cell("report.front_matter()", outputs=front),
            new_markdown_cell(theory),
            new_markdown_cell("## Results"),
            new_code_cell("#| echo: true\nshown_code = 1", outputs=[]),
            new_code_cell("hidden_code = 1", outputs=curves + photos + table),
            new_code_cell("noise()", outputs=noise),
            new_markdown_cell("## Appendix: Provenance\nEverything."),
        ],
        metadata={"widgets": {STATE_MIME: {"state": TQDM, "version_major": 2, "version_minor": 0}}},
    )


def pdf_of(*cells, strict=False, **front):
    """The pages' text of a PDF made of Markdown texts or cells."""
    return "\n".join(
        page.extract_text() for page in PdfReader(io.BytesIO(pdf_bytes(*cells, strict=strict, **front))).pages
    )


def manuscript_of(*cells, **front):
    cells = [new_markdown_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    notebook = new_notebook(cells=cells, metadata={"report": front} if front else {})
    manuscript = Manuscript(notebook)
    manuscript.name = "test"
    return manuscript


def pdf_bytes(*cells, strict=False, **front):
    return export.pdf(manuscript_of(*cells, **front), strict=strict)


def html_of(*cells, strict=False, **front):
    return export.html(manuscript_of(*cells, **front), strict=strict).decode()


class Text(HTMLParser):
    """The words of a page, and every address that a browser would load by itself."""

    def __init__(self, page):
        super().__init__()
        self.words, self.loads, self.alts, self._skip = [], [], [], 0
        self.feed(page)
        self.text = re.sub(r"\s+", " ", "".join(self.words)).replace("\u2062", "")
        self.loads += re.findall(r"url\(\s*[\"']?([^\"')]*)", page)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self._skip += tag in ("style", "annotation", "script")
        self.loads += [attributes["src"]] if "src" in attributes else []
        self.loads += [attributes["href"]] if tag == "link" else []
        self.alts += [attributes.get("alt")] if tag == "img" else []

    def handle_endtag(self, tag):
        self._skip -= tag in ("style", "annotation", "script")

    def handle_data(self, data):
        if not self._skip:
            self.words.append(data)


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paper")
    nbformat.write(paper_notebook(), folder / "analysis.ipynb")
    report.make_report(folder / "analysis.ipynb", folder, strict=True)
    return folder


def test_kind_9_a_draft_looks_like_one(tmp_path):
    """In its title, at the top of every page, and by the names of its files."""
    front = shown(report.front_matter, "Eight losses", scope="toy city", draft=True)
    pages = "\n\n".join("Words. " * 600 for _ in range(3))
    cells = [new_code_cell("", outputs=front), new_markdown_cell(pages)]
    nbformat.write(new_notebook(cells=cells), tmp_path / "analysis.ipynb")
    report.make_report(tmp_path / "analysis.ipynb", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "analysis.ipynb", "draft.pdf", "draft.html", "draft-with-code.html"
    }  # fmt: skip
    pages = [page.extract_text() for page in PdfReader(tmp_path / "draft.pdf").pages]
    assert len(pages) > 2 and all("DRAFT · toy city" in page for page in pages)
    assert "Draft: Eight losses" in pages[0]
    html = (tmp_path / "draft.html").read_text()
    assert "<title>Draft: Eight losses</title>" in html and "DRAFT · toy city" in html


@pytest.fixture(scope="module")
def pdf(paper):
    return PdfReader(paper / "report.pdf")


@pytest.fixture(scope="module")
def pdf_text(pdf):
    return re.sub(r"\s+", " ", " ".join(page.extract_text() for page in pdf.pages))


@pytest.fixture(scope="module")
def page(paper):
    return Text((paper / "report.html").read_text(encoding="utf-8"))


class TestDisplays:
    def test_a_figure_is_vector_and_bitmap_labelled_and_closed(self):
        fig = line_figure()
        picture, caption = shown(report.figure, fig, "fig-a", "A line.", "It rises")
        assert {"image/svg+xml", "image/png"} <= picture.data.keys()
        assert picture.metadata.report == {"label": "fig-a", "caption": "A line.", "alt": "It rises", "width": 5.0}
        assert caption.metadata.report == {"skip": True}
        assert not plt.fignum_exists(fig.number)

    def test_the_same_figure_gives_the_same_bytes(self):
        assert shown(report.figure, line_figure(), "fig-a") == shown(report.figure, line_figure(), "fig-a")

    def test_a_styled_table_gives_the_same_bytes(self):
        assert shown(report.table, per_class_table().style, "tbl-a") == shown(
            report.table, per_class_table().style, "tbl-a"
        )

    @pytest.mark.parametrize("show, label", [(report.figure, "tbl-a"), (report.figure, "fig a"), (report.table, "a")])
    def test_a_label_of_the_wrong_kind_is_refused(self, show, label):
        with pytest.raises(ValueError, match=re.escape(repr(label))):
            show(line_figure(), label)

    def test_a_missing_bibliography_is_named(self):
        with pytest.raises(FileNotFoundError, match=r"missing\.bib"):
            report.front_matter("T", bibliography="missing.bib")

    def test_bibliography_files_are_read_at_once(self, tmp_path):
        (tmp_path / "a.bib").write_text("@book{a, title={A}}")
        (front,) = shown(report.front_matter, "T", bibliography=[tmp_path / "a.bib", "@book{b, title={B}}"])
        assert front.data[report.FRONT_MATTER_MIME]["bibliography"] == "@book{a, title={A}}\n\n@book{b, title={B}}"


class TestPDF:
    def test_scope_stands_on_every_page(self, pdf):
        assert len(pdf.pages) > 1
        assert all(SCOPE in page.extract_text() for page in pdf.pages)

    def test_metadata_language_tags_and_bookmarks(self, pdf):
        assert pdf.metadata.title == "Eight losses, one Lovász"
        assert "Ada Example" in pdf.metadata.author and "segmentation" in pdf.metadata["/Keywords"]
        assert str(pdf.trailer["/Root"]["/Lang"]).startswith("en")
        assert pdf.trailer["/Root"]["/MarkInfo"]["/Marked"]
        assert [re.sub(r"^[\dA-Z]\s+", "", item.title) for item in pdf.outline if not isinstance(item, list)] == [
            "Theory",
            "Results",
            "Provenance",
            "References",
        ]
        assert pdf.xmp_metadata is not None
        packet = pdf.trailer["/Root"]["/Metadata"].get_data().decode()
        assert "<pdfuaid:part>1" in packet and "<pdfaid:part>2" in packet

    def test_page_is_a4(self, pdf):
        assert [round(float(side)) for side in pdf.pages[0].mediabox[2:]] == [595, 842]

    def test_no_letter_is_lost(self, pdf_text):
        for word in ["Lovász", "α ≥ 0.5", "45.3 %", "Bo Beispiel"]:
            assert word in pdf_text

    def test_every_font_is_embedded(self, pdf):
        for page in pdf.pages:
            for font in page["/Resources"]["/Font"].values():
                descendant = font.get_object()["/DescendantFonts"][0].get_object()
                assert {"/FontFile2", "/FontFile3"} & descendant["/FontDescriptor"].keys()

    def test_figures_are_vectors_unless_they_were_bitmaps(self, pdf):
        assert sum(len(page.images) for page in pdf.pages) == 1

    def test_pictures_and_formulas_are_described(self, pdf):
        alts = [str(obj["/Alt"]) for obj in structure(pdf) if "/Alt" in obj]
        assert {"A rising line", "Nine streets"} <= set(alts)
        assert any(r"\cap G_c" in alt for alt in alts)

    def test_no_cell_of_the_wide_table_is_cut(self, pdf):
        placed = {}
        for page in pdf.pages:
            page.extract_text(
                visitor_text=lambda text, cm, tm, *_: placed.update({text.strip(): tm[4] * cm[0] + cm[4]})
            )
        values = {f"{value:.1f}" for value in per_class_table().to_numpy().ravel()}
        text = " ".join(page.extract_text() for page in pdf.pages)
        assert values <= set(text.split())
        assert all(40 < x < 555 for word, x in placed.items() if word)

    def test_contents_are_listed_where_there_are_many_sections(self, pdf):
        text = "\n\n".join(f"# Part {letter}\n\n## Detail" for letter in "ABCDE")
        reader = PdfReader(io.BytesIO(pdf_bytes(text, date="2026-01-15")))
        entries = re.findall(r"\d Part \w[ .]+1\n", reader.pages[0].extract_text())
        assert len(entries) == 5
        assert "Theory ..." not in pdf.pages[0].extract_text()

    def test_a_figure_behind_a_heading_stands_below_its_text(self):
        figure = new_code_cell("", outputs=shown(report.figure, line_figure(), "fig-a", "Drawn."))
        text = pdf_of("# Before\n\nAn end.\n\n# After", figure, "Words.")
        places = [text.index(word) for word in ("An end.", "After", "Words.", "Figure 1. Drawn.")]
        assert places == sorted(places)

    def test_tables_stay_in_order(self, pdf_text):
        assert pdf_text.index("Table 1. Losses") < pdf_text.index("Table 2. Validation")

    def test_same_notebook_same_bytes(self, paper, tmp_path):
        for name in ("report.pdf", "report.html"):
            write = report.export_pdf if name.endswith("pdf") else report.export_html
            write(paper / "analysis.ipynb", tmp_path / name)
            assert (tmp_path / name).read_bytes() == (paper / name).read_bytes()


def structure(pdf):
    """All elements of the PDF's structure tree."""
    stack = [pdf.trailer["/Root"]["/StructTreeRoot"]]
    while stack:
        element = stack.pop().get_object()
        if isinstance(element, list):
            stack.extend(element)
        elif isinstance(element, dict):
            yield element
            stack.extend([element["/K"]] if "/K" in element else [])


class TestHTML:
    def test_loads_nothing(self, page, paper):
        assert "http" not in (paper / "report.html").read_text(encoding="utf-8")
        assert all(address.startswith("data:") for address in page.loads)
        assert "<script" not in (paper / "report.html").read_text(encoding="utf-8")

    def test_scope_language_phone_and_size(self, page, paper):
        text = (paper / "report.html").read_text(encoding="utf-8")
        assert page.text.strip().find(SCOPE) < 200
        assert 'lang="en"' in text and 'name="viewport"' in text
        assert len(text) < 8e6

    def test_formulas_are_mathml_and_pictures_described(self, page, paper):
        text = (paper / "report.html").read_text(encoding="utf-8")
        assert text.count("<math") == 4 and "$" not in page.text
        assert page.alts == ["A rising line", "Nine streets"]

    def test_sections_stand_below_the_title(self, paper):
        text = (paper / "report.html").read_text(encoding="utf-8")
        heads = re.findall(r"<h(\d)[^>]*>(?:<span[^>]*>\w</span> )?([^<]*)</h", text)
        below = ["Abstract", "Theory", "Results", "Provenance", "References"]
        assert heads == [("1", "Eight losses, one Lovász"), *(("2", head) for head in below)]

    def test_a_number_in_a_table_is_told_with_its_row_and_column(self, paper):
        text = (paper / "report.html").read_text(encoding="utf-8")
        assert re.search(r'<th[^>]* scope="col"[^>]*>val mIoU</th>', text)
        assert re.search(r'<th[^>]* scope="row"[^>]*>CE \+ Dice</th>', text)
        assert not re.search(r"<th\b(?![^>]*scope)[^>]*>[^<]", text)

    def test_a_table_that_scrolls_has_a_name_and_others_are_no_stop_of_the_keyboard(self, paper):
        text = (paper / "report.html").read_text(encoding="utf-8")
        named = re.findall(r'<div class="scroll" tabindex="0" role="region" aria-label="([^"]*)"', text)
        assert named == ["Table 2"]

    def test_pictures_and_tables_scroll_in_themselves(self, paper):
        soup = BeautifulSoup((paper / "report.html").read_text(encoding="utf-8"), "html.parser")
        assert all(element.find_parent(class_="scroll") for element in soup.select("figure img, figure table"))

    def test_the_keyboard_can_skip_the_contents(self, paper):
        soup = BeautifulSoup((paper / "report.html").read_text(encoding="utf-8"), "html.parser")
        link = soup.select_one("body > a.skip")
        assert link.find_next_siblings()[0].name in ("div", "header") and soup.select_one(f"main{link['href']}")


class TestBothFormats:
    @pytest.mark.parametrize(
        "words",
        [
            "Table 1. Losses at a glance.",
            "Table 2. Validation IoU of each class.",
            "Figure 1. Loss of all runs",
            "Figure 2. Photographs.",
            "see Figure 1, Figure 2, Table 2, Table 1, Equation (1), (2) and Section 2.",
            "Focal loss [1] reaches 45.3 % in Table 2.",
            "Lovász [2]",
            "The best of each column in bold.",
            "A computed conclusion about Figure 1.",
            "A Provenance",
            "printed words",
            "[1]",
            "Focal loss for dense object detection",
            "A footnote with",
            "shown_code",
        ],
    )
    def test_say_the_same_under_the_same_numbers(self, words, page, pdf_text):
        assert words in page.text.replace("\u00a0", " ")
        assert words in pdf_text.replace("\u00a0", " ")

    @pytest.mark.parametrize(
        "words",
        ["hidden_code", "stderr", "tqdm widget", "bare object", "\x1b", "[31m", "10%", "front matter overrides", "#|"],
    )
    def test_leave_out_code_and_noise(self, words, page, pdf_text):
        assert words not in page.text.replace("100%", "")
        assert words not in pdf_text.replace("100%", "")

    def test_code_is_in_the_second_version(self, paper):
        text = Text((paper / "report-with-code.html").read_text(encoding="utf-8")).text
        assert "hidden_code = 1" in text and "#|" not in text


SYMBOLS = r"""
\alpha \beta \gamma \delta \epsilon \varepsilon \zeta \eta \theta \kappa \lambda \mu \nu \xi \pi \rho \sigma \tau \phi
\varphi \chi \psi \omega \Gamma \Delta \Theta \Lambda \Sigma \Phi \Psi \Omega \cap \cup \odot \otimes \ominus \oplus
\times \cdot \cdots \ldots \pm \mp \div \ast \star \circ \bullet \le \ge \ll \gg \neq \approx \equiv \sim \simeq
\propto \subset \subseteq \supset \in \notin \ni \emptyset \varnothing \forall \exists \neg \land \lor \to \mapsto
\Rightarrow \Leftrightarrow \leftarrow \infty \nabla \partial \sum \prod \int \bigcup \bigcap \ell \hbar \Re \Im \top
\bot \perp \mid \parallel \setminus \lfloor \rfloor \lceil \rceil \langle \rangle \dagger \prime \triangle \square
\sqcap \sqcup \uplus \oslash \boxplus \boxtimes \wedge \vee \prec \succ \preceq \succeq \vdash \models \angle \cong
\leqslant \geqslant \lesssim \gtrsim \nsubseteq \complement \aleph \blacksquare \lozenge \iff \implies \hookrightarrow
"""

FORMULAS = [
    r"\|x\|_1 \le \left\|y\right\|_2^2 + \lVert z \rVert + |S| + \lvert T \rvert",
    r"p(y \mid x) = p(y|x)",
    r"\bigl( \Bigl[ \biggl\{ x \biggr\} \Bigr] \bigr)",
    r"a\,b\:c\;d\quad e\qquad f\!g",
    r"\operatorname{IoU}(x) + \operatorname*{arg\,max}_x f + \arg\min_\theta g",
    r"\mathbf{M}\boldsymbol{\theta}\mathcal{L}\mathbb{R}\mathrm{TP}\mathsf{A}\text{if } \mathbb{1} + \mathbbm{1}",
    r"\overline{\Delta_{J_c}} \widehat{y} \tilde{x} \bar{x} \hat{\mathbf{x}} \underbrace{x+y}_{z}",
    r"\begin{cases} 1 & \text{if } x > 0 \\ 0 & \text{otherwise} \end{cases}",
    r"\begin{pmatrix} a & b \\ c & d \end{pmatrix}",
    r"\dfrac{a}{b} + \tfrac{c}{d} + \sqrt[3]{x} + \binom{n}{k}",
    r"a \& b + 50\,\%",
    r"\frac{2\,|P \cap G|}{|P| + |G|}",
]


class TestFormulas:
    def test_every_symbol_and_construction_is_set(self):
        formulas = SYMBOLS.split() + FORMULAS
        text = "\n\n".join(f"${formula}$" for formula in formulas)
        assert pdf_bytes(text, strict=True).startswith(b"%PDF")
        assert html_of(text, strict=True).count("<math") == len(formulas)

    def test_bars_hug_what_they_hold_and_part_what_they_part(self):
        assert "‖𝑥‖" in pdf_of(r"$\|x\|$").replace(" ", "").replace("∥", "‖")
        page = html_of(r"$\|x\|_1$")
        assert page.count('form="prefix">‖') == page.count('form="postfix">‖') == 1

    @pytest.mark.parametrize("environment", ["align", "align*", "equation", "gather"])
    def test_an_environment_without_dollars_is_a_formula(self, environment):
        text = f"\\begin{{{environment}}}\nq = 17\n\\end{{{environment}}}"
        assert "17" in pdf_of(text, strict=True) and "<mn>17</mn>" in html_of(text)
        assert "17" in pdf_of(f"Within $x$ prose:\n{text}\nand on.", strict=True)

    def test_an_unknown_macro_is_named(self, capsys):
        assert r"\foo{x}" in pdf_of(r"Formula $\foo{x}$.")
        assert r"\foo" in capsys.readouterr().err
        for render in (pdf_of, html_of):
            with pytest.raises(report.ReportError, match=r"\\foo"):
                render(r"Formula $\foo{x}$.", strict=True)

    def test_a_macro_defined_in_one_cell_holds_in_the_next(self):
        assert "ℝ" in pdf_of(r"$$\newcommand{\R}{\mathbb{R}}$$", r"Set $\R$.", strict=True)

    @pytest.mark.parametrize(
        "written, read",
        [
            ("$ x $", "$x$"),
            ("$$\na\n\n+ b\n$$", "$$a\n+ b$$"),
            ("`$ x $` and ``$ y $``", "`$ x $` and ``$ y $``"),
            ("```\n$ x $\n```", "```\n$ x $\n```"),
            ("costs \\$ 5 and \\$ 6", "costs \\$ 5 and \\$ 6"),
            ("$x$ and $ y $", "$x$ and $y$"),
        ],
    )
    def test_jupyters_dollars(self, written, read):
        assert jupyter_markdown(written) == read

    def test_mathbf_is_upright_and_overline_is_a_border(self):
        text = html_of(r"$\mathbf{M} \overline{xy}$")
        assert "𝐌" in text and "𝑴" not in text.split("<annotation")[0]
        assert "border-top" in text

    def test_equation_labels_in_braces(self):
        text = "$$a = b$$ {#eq-one}\n\nSee @eq-one."
        assert "Equation (1)" in pdf_of(text, strict=True).replace("\u00a0", " ")
        assert "{#eq" not in pdf_of(text)


class TestTables:
    def test_styler_rules_reach_the_cells(self):
        html = static_html(per_class_table().style.highlight_max(props="font-weight: bold").to_html()).html
        assert "<style" not in html and html.count("font-weight: bold") == 21

    def test_the_index_name_joins_the_column_heads(self):
        assert static_html(per_class_table().to_html()).html.split("</thead>")[0].count("<tr") == 1

    def test_rules_that_paper_cannot_show_are_dropped(self):
        html = static_html("<style>#t td:hover {color: red} #t td::before {color: red} #t td {color: blue}</style>"
                            "<table id='t'><tr><td>1</td></tr></table>").html  # fmt: skip
        assert "blue" in html and "red" not in html

    def test_names_of_networks_and_runs_are_set_as_code_in_text_and_table(self):
        table = pd.DataFrame({"a": [1]}, index=["deeplabv2_wide_resnet101_2, 1024×512"])
        page = html_of("Of deeplabv2_mini, `ce_dice` and (DeepLabV2_ce05_f05).",
                       new_code_cell("", outputs=shown(report.table, table)))  # fmt: skip
        named = [text.replace("\u200b", "") for text in re.findall("<code>([^<]*)</code>", page)]
        assert named == ["deeplabv2_mini", "ce_dice", "DeepLabV2_ce05_f05", "deeplabv2_wide_resnet101_2"]

    def test_html_tables_in_markdown_are_kept(self):
        assert "inside" in pdf_of("<table><tr><td>inside</td></tr></table>")

    def test_uncaptioned_tables_take_no_number(self):
        pipe = "|a|b|\n|-|-|\n|1|2|\n"
        text = pdf_of(pipe, pipe + "\n: Captioned. {#tbl-x}\n\nSee @tbl-x.", strict=True).replace("\u00a0", " ")
        assert "Table 1. Captioned." in text and "See Table 1." in text and "Table 2" not in text

    def test_a_table_too_wide_for_the_page_turns_it(self):
        table = pd.DataFrame([[f"{i}.{j:02d}5" for j in range(36)] for i in range(3)])
        reader = PdfReader(
            io.BytesIO(pdf_bytes(new_code_cell("", outputs=shown(report.table, table, "tbl-x", "Wide."))))
        )
        assert any(page.mediabox.width > page.mediabox.height for page in reader.pages)
        assert "2.355" in "".join(page.extract_text() for page in reader.pages)

    def test_a_table_too_wide_for_any_page_is_transposed(self):
        table = pd.DataFrame([[f"{j}.{i}25" for j in range(80)] for i in range(3)], index=["CE", "Dice", "Focal"])
        text = pdf_of(new_code_cell("", outputs=shown(report.table, table, "tbl-x", "Very wide.")))
        assert "CE Dice Focal" in text and "79 79.025 79.125 79.225" in text

    def test_a_long_table_breaks_and_repeats_its_head(self):
        table = pd.DataFrame({"headword": range(150)})
        text = pdf_of(new_code_cell("", outputs=shown(report.table, table, "tbl-x", "Long.")))
        assert text.count("headword") > 1 and "149" in text


class TestManuscript:
    def test_options_are_read_and_stripped(self):
        cell = new_code_cell("#| label: fig-a\n#| fig-cap: Loss: all runs\n#| echo: true\nx = 1")
        options, source = cell_options(cell)
        assert options == {"label": "fig-a", "fig-cap": "Loss: all runs", "echo": True} and source == "x = 1"

    def test_cell_metadata_serve_as_options(self):
        cell = new_code_cell("x", metadata={"label": "fig-a", "caption": "C", "alt": "A"})
        assert cell_options(cell)[0] == {"label": "fig-a", "fig-cap": "C", "fig-alt": "A"}

    def test_options_caption_the_first_figure(self):
        picture = shown(report.figure, line_figure())[0]
        plain = new_output("display_data", data={"image/png": picture.data["image/png"]})
        cell = new_code_cell("#| label: fig-a\n#| fig-cap: Caption here.\n#| fig-alt: Alt here", outputs=[plain, plain])
        first, second = manuscript_of(cell).blocks
        assert (first["label"], first["caption"], first["alt"]) == ("fig-a", "Caption here.", "Alt here")
        assert "label" not in second and "caption" not in second

    def test_terminal_text(self):
        assert terminal_text("\x1b[1;31mred\x1b[0m\n 5%\r 50%\r100%\nend\r\n") == "red\n100%\nend"

    def test_tags_hide(self):
        cell = new_code_cell("x", outputs=[new_output("stream", text="out")], metadata={"tags": ["remove-output"]})
        assert manuscript_of(cell, new_markdown_cell("gone", metadata={"tags": ["remove-cell"]})).blocks == []

    def test_a_printed_word_longer_than_the_line_breaks(self):
        word = "/a/long/path/" + "0123456789" * 30
        cell = new_code_cell("print(path)", outputs=[new_output("stream", name="stdout", text=f"{word}\nshort\n")])
        lines = [line.replace("\u200b", "") for line in pdf_of(cell).splitlines()]
        assert max(map(len, lines)) < 130 and word in "".join(lines) and "short" in lines

    def test_front_matter_from_metadata_yaml_and_output(self):
        cells = [
            new_raw_cell("---\ntitle: From YAML\nsubtitle: Sub\n---"),
            new_code_cell("", outputs=shown(report.front_matter, scope="Scope")),
        ]
        front = manuscript_of(*cells, title="From metadata", author={"name": "Ada"}).front
        assert front == {"title": "From YAML", "subtitle": "Sub", "author": ["Ada"], "scope": "Scope"}

    def test_a_failed_cell_is_told(self):
        error = new_output("error", ename="ValueError", evalue="too bad", traceback=[])
        manuscript = manuscript_of(new_code_cell("", outputs=[error]))
        assert manuscript.warnings == ["cell 1 failed: ValueError: too bad"]


def fetched(address, seconds=600):
    """What a Jupyter server (token: kit) has at an address, as soon as it listens."""
    end = time.monotonic() + seconds
    while True:
        try:
            return urlopen(Request(address, headers={"Authorization": "token kit"})).read()
        except URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError) or time.monotonic() > end:
                raise
            time.sleep(0.1)


class TestAnyNotebook:
    TEXT = (
        "# My homework\n\nAn @decorator, a@b.org, (a) not a list.\n\n---\n\nkey: value\n\n"
        "CO<sub>2</sub> <b>bold</b><br>line\n\n<!-- secret -->\n\n- one\n  - two"
    )

    def test_the_first_heading_is_the_title(self):
        reader = PdfReader(io.BytesIO(pdf_bytes(self.TEXT, strict=True)))
        text = reader.pages[0].extract_text()
        assert reader.metadata.title == "My homework"
        for words in ["An @decorator", "a@b.org", "(a) not a list", "key: value", "bold"]:
            assert words in text
        assert "secret" not in text and "<b>" not in text

    def test_pictures_beside_the_notebook_are_taken_in(self, tmp_path):
        line_figure().savefig(tmp_path / "plot.png")
        nbformat.write(
            new_notebook(cells=[new_markdown_cell("![A plot.](plot.png){#fig-p}\n\n@fig-p")]), tmp_path / "n.ipynb"
        )
        page = report.export_html(tmp_path / "n.ipynb", tmp_path / "n.html", strict=True).read_text(encoding="utf-8")
        assert "data:image/png" in page and "Figure\u00a01" in page
        assert len(PdfReader(report.export_pdf(tmp_path / "n.ipynb", tmp_path / "n.pdf")).pages[0].images) == 1

    def test_pasted_pictures_are_taken_in(self):
        png = shown(report.figure, line_figure())[0].data["image/png"]
        cell = new_markdown_cell("![Pasted.](attachment:a.png)", attachments={"a.png": {"image/png": png}})
        assert "data:image/png" in html_of(cell, strict=True)

    @pytest.mark.parametrize(
        "text, named",
        [
            ("See @fig-nowhere.", "fig-nowhere"),
            ("![x](https://example.org/x.png)", "example.org"),
            ("![x](missing.png)", "missing.png"),
            ("As shown [@nobody].", "nobody"),
            ("Some \\vspace{1cm} TeX.", "vspace"),
        ],
    )
    def test_what_cannot_be_shown_is_told(self, text, named, capsys):
        assert html_of(text)
        assert named in capsys.readouterr().err
        with pytest.raises(report.ReportError, match=named):
            pdf_of(text, strict=True)

    def test_nbconvert_finds_the_exporters(self, tmp_path):
        nbformat.write(new_notebook(cells=[new_markdown_cell(self.TEXT)]), tmp_path / "any.ipynb")
        command = [sys.executable, "-m", "nbconvert", "--to", "report-pdf", "any.ipynb"]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        assert (tmp_path / "any.pdf").read_bytes().startswith(b"%PDF")
        page, resources = get_exporter("report-html")().from_filename(str(tmp_path / "any.ipynb"))
        assert "My homework" in page and resources["output_extension"] == ".html"

    def test_the_menu_of_a_jupyter_server_exports_what_it_lists(self, tmp_path):
        """A name with a hyphen has no address there; the command line keeps it."""
        nbformat.write(new_notebook(cells=[new_markdown_cell(self.TEXT)]), tmp_path / "any.ipynb")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        folders = {f"JUPYTER_{kind}_DIR": str(tmp_path / kind) for kind in ("CONFIG", "DATA", "RUNTIME")}
        command = [sys.executable, "-m", "jupyter_server", "--no-browser", f"--port={port}", "--allow-root"]
        command += ["--IdentityProvider.token=kit", "--notebook-dir", str(tmp_path)]
        server = subprocess.Popen(command, env=os.environ | folders, stderr=subprocess.DEVNULL)
        try:
            listed = json.loads(fetched(f"http://127.0.0.1:{port}/api/nbconvert"))
            assert {name for name in listed if name.startswith("report")} == {"report_pdf", "report_html"}
            assert fetched(f"http://127.0.0.1:{port}/nbconvert/report_pdf/any.ipynb").startswith(b"%PDF")
            assert b"My homework" in fetched(f"http://127.0.0.1:{port}/nbconvert/report_html/any.ipynb")
        finally:
            server.terminate()
            server.wait(60)

    def test_what_typst_refuses_is_quoted(self, tmp_path):
        (tmp_path / "report.typ").write_text("#nonsense")
        with pytest.raises(report.ReportError, match="unknown variable: nonsense in: #nonsense") as error:
            export._typeset(tmp_path / "report.typ", None, "test", strict=True)
        assert "\n" not in str(error.value)

    def test_letters_that_no_font_has_cost_the_standard_not_the_paper(self, capsys):
        assert "seen" in pdf_of("seen \ue238 unseen", date="2026-01-15")
        assert "e238" in capsys.readouterr().err

    def test_sections_skip_no_level(self):
        assert "1.1 Deep" in pdf_of("### Shallow\n\n##### Deep", strict=True)

    def test_errors_are_one_line_and_leave_no_file(self, tmp_path):
        (tmp_path / "bad.ipynb").write_text("no json")
        for name in ("bad.ipynb", "missing.ipynb"):
            with pytest.raises(report.ReportError, match=name) as error:
                report.export_pdf(tmp_path / name, tmp_path / "out.pdf")
            assert "\n" not in str(error.value)
        assert [path.name for path in tmp_path.iterdir()] == ["bad.ipynb"]
