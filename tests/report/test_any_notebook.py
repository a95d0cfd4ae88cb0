"""Kind 5: the exporter meets other people's notebooks: nothing vanishes or is fetched, a bad output costs itself."""

import contextlib
import inspect
import io
import json
import re
import threading
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, HTTPServer

import bs4
import matplotlib
import nbformat
import numpy as np
import pandas as pd
import pytest
from helpers import notebooks
from hypothesis import given
from hypothesis import strategies as st
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell
from pypdf import PdfReader

from deeplab_lib import report, train_one_epoch
from deeplab_lib.plotting.style import WIDTH, add_scope, figure, freeze_layout, styled
from deeplab_lib.report import export
from deeplab_lib.report.front import normal_front
from deeplab_lib.report.manuscript import Manuscript, is_bare_object
from deeplab_lib.report.pictures import PictureError, read_picture
from deeplab_lib.report.settled import width_of
from deeplab_lib.report.static_html import static_html
from deeplab_lib.report.terminal import terminal_text

NAMES = [case.name for case in notebooks.cases("http://web.example")]
# What stock nbconvert's page says, and ours does not, with the reason.
NOT_OURS = {
    "image/gif": {"<Image", "object>"},
    "JSON": {"<IPython.core.display.JSON", "object>"},  # says no more than what it is
    "estimator": {"LR(?)"},
    "Colab's table": {"Convert"},
    "hidden part": {"unseen"},  # made for a screen, or hidden on it
    "progress": {"5%", "99%"},
    "bars above each other": {"1%"},
    "one line in two outputs": {"1"},  # written over
    "erased": {"secret"},
    "cleared": {"oldnew"},
    "backspace": {"wrongg\b"},
    "far away": {"ab\0\a\x1bM"},
    "colours": {"\x1b(B"},
    "open sequence": {"\x1b]0;title"},  # for the terminal alone
    "link, ST": {"page\x1b]8;;\x1b\\", "\x1b]8;;https://example.org\x1b\\the"},
    "link, BEL": {"site\x1b]8;;\a", "\x1b]8;;https://example.org\athe"},
    "output: asis": {"output:", "*emphatic*", "asis"},
    "two captions": {"fig-cap:"},  # Quarto's, which stock does not know
    "footnote": {"Text.[^a]", "[^a]:", "The", "small", "print."},
    "heading twice": {"{#sec-setup}", "@sec-setup."},
    "event": {'[word]{onclick="run()"}'},
    "url() with an escape": {'[Seen.]{style="background:u\\72l('},
    "LaTeX formula": {"x^{2}$"},
    "dollars in a table": {"US$", "EU$x$"},  # MathML; each dollar in an element of its own
}


class Web:
    """A server that remembers who asked."""

    def __init__(self):
        asked = self.asked = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                self.send_error(404)

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def said(path):
    """What the export of a notebook says beside its file: {format: lines}."""
    lines = {}
    for kind, write in (("html", report.export_html), ("pdf", report.export_pdf)):
        with contextlib.redirect_stderr(io.StringIO()) as stream:
            write(path, path.with_suffix(f".{kind}"))
        lines[kind] = stream.getvalue().splitlines()
    return lines


def by_case(text, pattern=rf"{notebooks.MARK}\s*(\d+)\s*:"):
    """The text behind the line of each case: {case's name: text}."""
    pieces = re.split(pattern, text)
    return {NAMES[int(index)]: piece for index, piece in zip(pieces[1::2], pieces[2::2], strict=True)}


def squeezed(text):
    return re.sub(r"[\s\u200b\u00ad\u2062]|-\n", "", text)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The corpus as a notebook, both of its documents, and what was said: everything in one export."""
    web = Web()
    path = tmp_path_factory.mktemp("corpus") / "corpus.ipynb"
    cases = notebooks.cases(web.address)
    path.write_text(json.dumps(notebooks.notebook(cases)))
    lines = said(path)
    page = path.with_suffix(".html").read_text(encoding="utf-8")
    reader = PdfReader(path.with_suffix(".pdf"))
    pdf = "\n".join(sheet.extract_text() for sheet in reader.pages)
    return {
        "web": web,
        "cases": dict(zip(NAMES, cases, strict=True)),
        "lines": lines,
        "page": page,
        "reader": reader,
        "html": by_case(bs4.BeautifulSoup(page, "html.parser").find("main").get_text()),
        "pdf": by_case(pdf),
        "markup": by_case(page),
        "path": path,
    }


class TestCorpus:
    @pytest.mark.parametrize("name", NAMES)
    def test_kind_5_each_cell_says_what_it_has_to_and_warns_of_what_it_lost(self, corpus, name):
        case, cell = corpus["cases"][name], 2 * NAMES.index(name) + 2
        for kind in ("html", "pdf"):
            text = squeezed(" ".join(corpus[kind].values()) if case.floats else corpus[kind][name])
            assert all(squeezed(words) in text for words in case.shows), (kind, text)
            assert not any(squeezed(words) in text for words in case.hides), (kind, text)
            lines = [line for line in corpus["lines"][kind] if re.search(rf": cell {cell}\b", line)]
            for pattern in case.warns:
                assert any(re.search(pattern, line) for line in lines), (kind, lines)
            if not case.warns and "moving" not in name:
                assert not lines
        assert corpus["markup"][name].count("<img") == case.pictures

    def test_kind_5_nothing_is_fetched_or_would_be_when_it_is_opened(self, corpus):
        assert corpus["web"].asked == []
        loads = []

        class Loads(HTMLParser):
            def handle_starttag(self, tag, attributes):
                attributes = dict(attributes)
                loads.extend(
                    value
                    for name, value in attributes.items()
                    if name in ("src", "srcset", "data", "poster", "background")
                )
                loads.extend([tag] if tag in ("script", "iframe", "link", "object", "embed", "base", "video") else [])
                loads.extend(re.findall(r"url\(", attributes.get("style") or ""))
                loads.extend(name for name in attributes if name.startswith("on"))
                if tag == "a":
                    loads.extend(re.findall(r"^(?:javascript|data|file):", attributes.get("href") or ""))

        Loads().feed(corpus["page"])
        assert all(address.startswith("data:image/") for address in loads)
        assert corpus["web"].address in corpus["page"]  # in the traces, as text and links

    def test_kind_5_the_pdf_keeps_its_standard(self, corpus):
        packet = corpus["reader"].trailer["/Root"]["/Metadata"].get_data().decode()
        assert "<pdfuaid:part>1" in packet

    def test_kind_5_strict_makes_an_error_of_what_was_lost(self, corpus, tmp_path):
        for name in ("plotly", "cut PNG", "IFrame", "missing picture", "moving GIF"):
            case = corpus["cases"][name]
            path = tmp_path / "one.ipynb"
            path.write_text(json.dumps(notebooks.notebook([case])))
            with pytest.raises(report.ReportError, match=r"cell 2: .*") as error:
                report.export_pdf(path, tmp_path / "one.pdf", strict=True)
            assert "\n" not in str(error.value)

    def test_kind_5_every_word_of_stock_nbconverts_page_is_on_ours(self, corpus):
        kept = [
            name
            for name in NAMES
            if not corpus["cases"][name].warns and not name.startswith(("#|", "raw", "metadata", "pasted"))
        ]
        some = notebooks.notebook([corpus["cases"][name] for name in kept])
        stock = HTMLExporter(template_name="basic").from_notebook_node(nbformat.from_dict(some))[0]
        ours = export.html(Manuscript(nbformat.from_dict(some), show_code=True)).decode()
        pages = []
        for page in (stock, ours):
            soup = bs4.BeautifulSoup(page, "html.parser")
            for element in soup.find_all(["script", "style", "annotation", "title", "mjx-assistive-mml"]):
                element.decompose()
            pieces = re.split(rf"{notebooks.MARK}\s*(\d+)\s*:", soup.get_text(" ").replace("\u200b", ""))
            pages.append([set(piece.replace("¶", " ").split()) for piece in pieces[2::2]])
        lost = {}
        for name, theirs, mine in zip(kept, *pages, strict=True):
            missing = {word for word in theirs - mine if re.search(r"\w", word)} - {"In", "Out[", "[", "]:"}
            if missing := {
                word for word in missing if not word.startswith(("$", "http")) and word not in " ".join(mine)
            }:
                lost[name] = missing
        assert {name: words for name, words in lost.items() if words - set(NOT_OURS.get(name, ()))} == {}


class TestPictures:
    def test_kind_5_a_picture_is_what_its_content_says(self):
        kinds = {kind: read_picture(notebooks.picture(kind)) for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP")}
        assert {kind: picture.still[1] for kind, picture in kinds.items()} == {
            "PNG": "png",
            "JPEG": "jpg",
            "GIF": "png",
            "WEBP": "png",
            "TIFF": "png",
            "BMP": "png",
        }
        assert kinds["GIF"].moving[1] == "gif" and kinds["TIFF"].moving[1] == "png"

    @pytest.mark.parametrize("mode", ["L", "RGB", "P", "1", "LA", "RGBA", "I;16", "F", "CMYK"])
    def test_kind_5_reencoding_keeps_what_is_seen(self, mode):
        from PIL import Image

        content = notebooks.picture("TIFF", mode)
        still, suffix = read_picture(content).still
        shown = np.asarray(Image.open(io.BytesIO(still)).convert("L"), int)
        ramp = np.arange(24 * 48).reshape(24, 48) * 5 % 256
        assert suffix == "png" and shown.shape == ramp.shape
        near = {"1": 128, "P": 26}.get(mode, 2)  # dithered, and 216 colours
        assert np.abs(shown - ramp).mean() <= near

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"GIF89a",
            b"%PDF-1.7",
            b"\x89PNG\r\n\x1a\n" + b"\0" * 40,
            b"\x1f\x8bxx",
            b"RIFF1234WEBPVP8 ",
            b"BM" + b"\0" * 60,
            b"<svg",
            b"<svg><script/></svg",
        ],
    )
    def test_kind_5_what_is_none_is_refused_in_a_line(self, content):
        with pytest.raises(PictureError) as error:
            read_picture(content)
        assert "\n" not in str(error.value) and len(str(error.value)) < 200

    @given(st.binary(max_size=60))
    def test_kind_5_any_bytes_are_a_picture_or_a_line(self, tail):
        for head in (b"", b"GIF89a", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"<svg "):
            with contextlib.suppress(PictureError):
                read_picture(head + tail)

    @pytest.mark.parametrize(
        ("given", "width"),
        [
            ({"width": "400px"}, "4.167in"),
            ({"width": "192"}, "2.000in"),
            ({"width": "50%"}, "50%"),
            ({"width": "2.54cm"}, "1.000in"),
            ({"width": "5.5in"}, "5.500in"),
            ({"width": "900%"}, "100%"),
            ({"height": "96"}, "2.000in"),
            ({"style": "max-width:3px; width: 96px"}, "1.000in"),
            ({"width": "auto"}, None),
            ({"width": "0"}, None),
            ({"width": "1e5"}, None),
            ({"width": "7px;background:url(x)"}, None),
            ({}, None),
        ],
    )
    def test_kind_5_lengths_of_html(self, given, width):
        assert width_of(given, (200, 100)) == width

    def test_kind_5_a_picture_beside_the_notebook_that_is_none_costs_itself(self, tmp_path, capsys):
        (tmp_path / "a b.png").write_bytes(notebooks.picture("JPEG"))
        (tmp_path / "c.png").write_bytes(notebooks.picture("BMP"))
        (tmp_path / "d.png").write_text("no picture")
        (tmp_path / "e.jpg").mkdir()
        text = "![](a%20b.png) ![](<a b.png>) ![](c.png?raw=true) ![](d.png) ![](e.jpg) ![](.\\c.png) and words"
        nbformat.write(new_notebook(cells=[new_markdown_cell(text)]), tmp_path / "n.ipynb")
        page = report.export_html(tmp_path / "n.ipynb", tmp_path / "n.html").read_text()
        lines = capsys.readouterr().err.splitlines()
        assert page.count("data:image/") == 4 and "and words" in page
        assert [re.sub(r".*cell", "cell", line) for line in lines] == [
            "cell 1: no picture, it begins with b'no pictu': d.png",
            "cell 1: picture not found: e.jpg",
        ]
        report.export_pdf(tmp_path / "n.ipynb", tmp_path / "n.pdf")


class TestTerminal:
    @pytest.mark.parametrize(
        ("printed", "left"),
        [
            ("a\x1b]8;;x:y\x1b\\b\x1b]8;;\x1b\\c", "abc"),
            ("a\x1b]8;id=1;x:y\x07b\x1b]8;;\x07c", "abc"),
            ("\x1b]2;title\x9cx", "x"),
            ("\x1bP1$r\x1b\\x", "x"),
            ("\x1b_app\x1b\\x", "x"),
            ("\x9b31mx\x9b0m", "x"),
            ("12345\r\x1b[3Cx", "123x5"),
            ("one\ntwo\x1b[A\rONE", "ONE\ntwo"),
            ("abc\x1b[2D\x1b[K", "a"),
            ("abc\x1b[1K", ""),
            ("a\nb\nc\x1b[2A\x1b[J", "a"),
            ("\x1b[3;2Hx", "\n\n x"),
            ("ab\x1b[1Gx", "xb"),
            ("abcd\x1b[4D\x1b[2P", "cd"),
            ("abc\x1b[3D\x1b[2X", "  c"),
            ("a\tb\x1b[m", "a       b"),
            ("50%\r 9%", " 9%"),
            ("x\r\ny\r\n", "x\ny"),
            ("漢字\r一", "一字"),
            ("no sequence\ttab\n", "no sequence\ttab"),
            ("\x1b", ""),
            ("\x1b[", ""),
        ],
    )
    def test_kind_5_text_as_a_terminal_leaves_it(self, printed, left):
        assert terminal_text(printed) == left

    @given(st.text(alphabet="ab \n\r\b\t\x1b[]\\0129;?ABCDHJKPXm\x07\x9b漢\u0301", max_size=60))
    def test_kind_5_no_control_character_is_left(self, text):
        left = terminal_text(text)
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", left)
        assert terminal_text(left) == left

    def test_kind_5_a_cursor_sent_far_away_stops_at_the_edge(self):
        assert len(terminal_text("\x1b[999999999;999999999Hx" * 9)) < 20_000


class TestCells:
    @pytest.mark.parametrize(
        ("text", "bare"),
        [
            ("<Axes: title={'center': 'a'}>", True),
            ("[<matplotlib.lines.Line2D at 0x7f00>]", True),
            ("Text(0.5, 1.0, 'x')", True),
            ("<Figure size 640x480 with 1 Axes>", True),
            ("<keras.src.callbacks.history.History at 0x7f00>", True),
            ("(array([1., 2.]), array([0., 1.]), <BarContainer object of 2 artists>)", True),
            ("array([<Axes: >, <Axes: >], dtype=object)", True),
            ("<IPython.core.display.HTML object>", True),
            ("<__main__.draw.<locals>.Plot object at 0x7f00>", True),
            ("array([1, 2])", False),
            ("<tf.Tensor: shape=(), numpy=3>", False),
            ("<xarray.Dataset>\nDimensions: ()", False),
            ("int", False),
            ("'<b>'", False),
            ("{'at': 3}", False),
            ("[1, 2]", False),
            ("", False),
        ],
    )
    def test_kind_5_only_what_says_nothing_is_left_out(self, text, bare):
        assert is_bare_object(text) is bare

    def test_kind_5_messages_stand_in_the_version_with_code_and_the_paper_says_so(self):
        cells = [new_code_cell("log()", outputs=[new_output("stream", name="stderr", text="epoch 1: 45 %\n")])]
        paper, complete = (Manuscript(new_notebook(cells=cells), show_code=code) for code in (False, True))
        assert paper.notices == ["messages and progress bars of cell 1 are left out; the version with code has them"]
        assert paper.warnings == [] and paper.blocks == []
        assert complete.notices == [] and complete.blocks[-1]["text"] == "epoch 1: 45 %"

    def test_kind_5_the_version_with_code_has_the_whole_traceback(self):
        error = new_output(
            "error", ename="KeyError", evalue="'a'", traceback=["\x1b[31mline 1\x1b[0m", "KeyError: 'a'"]
        )
        notebook = new_notebook(cells=[new_code_cell("x", outputs=[error])])
        assert Manuscript(notebook).blocks[-1]["text"] == "KeyError: 'a'"
        assert Manuscript(notebook, show_code=True).blocks[-1]["text"] == "line 1\nKeyError: 'a'"

    @pytest.mark.parametrize(
        "cell",
        [
            {"cell_type": "heading", "source": "old"},
            {"cell_type": "code"},
            {"cell_type": "markdown", "source": ["a\n", "b"]},
            {"cell_type": "code", "source": "", "outputs": [{"output_type": "stream"}]},
            {"source": "x"},
            {"cell_type": "code", "outputs": [{"output_type": "display_data"}], "metadata": {"tags": "hide"}},
            {"cell_type": "code", "outputs": [{"output_type": "error"}]},
            {"cell_type": "raw", "attachments": None},
            {"cell_type": "markdown", "source": None, "metadata": None, "attachments": {"a": {}}},
        ],
    )
    def test_kind_5_a_cell_that_breaks_the_schema_is_read_as_far_as_it_goes(self, cell):
        notebook = nbformat.from_dict({"cells": [cell, {"cell_type": "markdown", "source": "Last."}]})
        assert "Last." in export.html(Manuscript(notebook)).decode()


class TestFront:
    @pytest.mark.parametrize(
        ("written", "read"),
        [
            ({"title": 2024, "author": "Ada"}, {"title": "2024", "author": ["Ada"]}),
            (
                {"author": [{"name": {"given": "Ada", "family": "L"}}, {"name": "Bo", "email": "b@c.d"}]},
                {"author": ["Ada L", "Bo"]},
            ),
            ({"author": {"affiliation": "ETH"}, "title": None}, {}),
            ({"title": ["a", "b"]}, {"title": "a, b"}),
            ({"keywords": "a, b", "format": {"html": {}}}, {"keywords": ["a", "b"]}),
            ({"lang": "pt-BR"}, {"lang": "pt"}),
            ({"lang": 'en"); #panic('}, {"lang": "en"}),
            ({"title": "a\x00b\x1b"}, {"title": "a b"}),
            ({"affiliation": [{"name": "X"}]}, {"affiliation": ["X"]}),
        ],
    )
    def test_kind_5_front_matter_as_other_tools_write_it(self, written, read):
        assert normal_front(written) == read

    def test_kind_5_front_matter_costs_at_most_itself(self, tmp_path, capsys):
        front = (
            "---\ntitle: '@ETH $5'\nauthor:\n  - name: {literal: \"A <b>\"}\nlang: de-CH\nbibliography: none.bib\n---"
        )
        notebook = new_notebook(
            cells=[new_raw_cell(front), new_markdown_cell("Words.")],
            metadata={"report": "a text", "authors": [{"n": 1}]},
        )
        (tmp_path / "n.ipynb").write_text(json.dumps(notebook))
        page = report.export_html(tmp_path / "n.ipynb", tmp_path / "n.html").read_text()
        assert "<title>@ETH $5</title>" in page and "A &lt;b&gt;" in page and 'lang="de"' in page
        assert "no bibliography 'none.bib'" in capsys.readouterr().err
        assert report.export_pdf(tmp_path / "n.ipynb", tmp_path / "n.pdf").stat().st_size > 1000


def long_table(rows):
    return pd.DataFrame({"value": np.arange(rows) / 7, "name": [f"street_{row:05d}_left" for row in range(rows)]})


class TestLongTables:
    def test_kind_5_a_styled_table_is_searched_a_fixed_number_of_times(self, monkeypatch):
        """Styler writes a rule a cell: each was looked for in the whole table, a minute for 500 rows."""
        searches = []
        select = bs4.BeautifulSoup.select
        monkeypatch.setattr(bs4.BeautifulSoup, "select", lambda soup, rule: searches.append(rule) or select(soup, rule))
        for rows in (10, 200):
            html = long_table(rows).style.background_gradient(subset=["value"]).to_html(table_uuid="t")
            assert static_html(html).html.count("background-color") == rows
        assert searches == []

    def test_kind_5_a_long_table_is_measured_by_its_longest_cells(self, tmp_path):
        """Typst measured all of it up to 18 times: 2,000 rows took gigabytes."""
        samples = []
        for rows in (30, 60, 200):
            cell = new_code_cell("", outputs=[new_output("display_data", {"text/html": long_table(rows).to_html()})])
            source = export._set("typst", Manuscript(new_notebook(cells=[cell])), ".", tmp_path, {}, False)
            samples.append(re.findall(r"sample: (.*?)\)\n", source, re.DOTALL)[1:])
        assert [len(found) for found in samples] == [0, 1, 1]
        assert samples[1][0].count("colspan") == samples[2][0].count("colspan") == 8 * 3

    def test_kind_5_a_table_within_a_table_is_not_measured_with_every_measurement_of_the_outer_one(self, tmp_path):
        html = "<table><tr><td>a</td><td>" * 8 + "innermost" + "</td></tr></table>" * 8
        cell = new_code_cell("", outputs=[new_output("display_data", {"text/html": html})])
        manuscript = Manuscript(new_notebook(cells=[cell]))
        source = export._set("typst", manuscript, ".", tmp_path, {}, False)
        assert source.count("#paper-table(") == 8 and source.count("nested: true") == 7
        reader = PdfReader(io.BytesIO(export.pdf(manuscript)))
        assert "innermost" in reader.pages[0].extract_text()

    def test_kind_5_the_training_loop_that_a_notebook_shows_keeps_its_lines(self):
        source = inspect.getsource(train_one_epoch)
        cells = [new_markdown_cell(f"```\n{source}\n```")]
        (page,) = PdfReader(io.BytesIO(export.pdf(Manuscript(new_notebook(cells=cells))))).pages
        printed = {" ".join(line.split()) for line in page.extract_text().splitlines()}
        assert {" ".join(line.split()) for line in source.splitlines() if line.strip()} <= printed

    def test_kind_5_a_long_table_is_as_wide_as_its_widest_row_wherever_that_is(self):
        table = long_table(120)
        table.loc[77, "name"] = "the one long entry " * 3 + "ends"
        cell = new_code_cell("", outputs=[new_output("display_data", {"text/html": table.to_html()})])
        reader = PdfReader(io.BytesIO(export.pdf(Manuscript(new_notebook(cells=[cell])))))
        text = " ".join(page.extract_text() for page in reader.pages)
        assert (
            "the one long entry the one long entry the one long entry ends" in text
            and "street_00119" in text.replace(" ", "")
        )


@pytest.mark.parametrize(
    "settings",
    [
        {"text.usetex": True},
        {"figure.facecolor": "black", "axes.facecolor": "black", "text.color": "white"},
        {"savefig.facecolor": "black", "savefig.transparent": True},
        {"savefig.bbox": "tight"},
        {"path.sketch": (1, 100, 2)},
        {"axes.prop_cycle": matplotlib.cycler(color=["red"])},
        {"image.cmap": "hot", "axes.titlesize": 30},
        {"svg.fonttype": "none"},
        {"axes.unicode_minus": False, "axes.formatter.use_mathtext": True},
    ],
)
def test_kind_5_the_kits_figures_do_not_follow_the_readers_matplotlibrc(settings):
    @styled
    def drawn():
        fig, ax = figure(2.0)
        ax.plot([-1, 1], [1, -1], label="loss")
        ax.set_title("IoU")
        ax.legend()
        return fig

    def shown():
        outputs = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(report, "display", lambda data, **_: outputs.append(data))
            report.figure(freeze_layout(add_scope(drawn(), "toy city")), "fig-a")
        return outputs[0]

    expected = shown()
    with matplotlib.rc_context(settings):
        assert shown() == expected
    assert expected["image/svg+xml"].count("<svg") == 1 and WIDTH == 6.3
