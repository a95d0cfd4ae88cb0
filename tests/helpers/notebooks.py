"""A notebook of every kind of cell and output that other people's notebooks hold, one kind a cell."""

import base64
import io
from dataclasses import dataclass, field

import nbformat
import numpy as np
from nbformat.v4 import new_markdown_cell, new_output, new_raw_cell
from PIL import Image

SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="60" height="30"><rect width="60" height="30" fill="#1f3a5f"/></svg>'
)
MARK = "Nowbegins"


@dataclass
class Case:
    """One cell and what must be said of it: words in the document, words that must not be there, warnings."""

    name: str
    cell: nbformat.NotebookNode
    shows: tuple[str, ...] = ()
    hides: tuple[str, ...] = ()
    warns: tuple[str, ...] = ()
    pictures: int = 0
    floats: bool = False  # to another place of the page, and not behind the line that says which case it is
    metadata: dict = field(default_factory=dict)


def picture(kind="PNG", mode="RGB", frames=1, **options):
    """The bytes of a small picture."""
    ramp = (np.arange(24 * 48) * 5 % 256).astype(np.uint8).reshape(24, 48)
    if mode == "I;16":
        image = Image.fromarray(ramp.astype(np.uint16) * 257)
    elif mode == "F":
        image = Image.fromarray(ramp.astype(np.float32) / 255)
    else:
        image = Image.fromarray(ramp).convert("RGB").convert(mode)
    others = [image.transpose(Image.Transpose.ROTATE_180).copy() for _ in range(frames - 1)]
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"save_all": True, "append_images": others} if others else {}), **options)
    return buffer.getvalue()


def base64_of(content):
    return base64.b64encode(content).decode()


def new_code_cell(source, outputs=(), metadata=None):
    """A code cell as some program wrote it: not all of them ask the schema."""
    return nbformat.from_dict(
        {
            "cell_type": "code",
            "source": source,
            "outputs": list(outputs),
            "execution_count": None,
            "metadata": metadata or {},
        }
    )


def shown(data, metadata=None, source="show()", **cell):
    """A code cell with one displayed object."""
    output = new_output("display_data", data, metadata=metadata or {})
    return new_code_cell(source, outputs=[output], **cell)


def printed(text, name="stdout"):
    return new_code_cell("print()", outputs=[new_output("stream", name=name, text=text)])


def pictures():
    """Formats, names that lie, and files that are damaged."""
    formats = {
        "png": picture(),
        "jpeg": picture("JPEG"),
        "gif": picture("GIF"),
        "webp": picture("WEBP"),
        "tiff": picture("TIFF"),
        "bmp": picture("BMP"),
        "16-bit PNG": picture(mode="I;16"),
        "P": picture(mode="P"),
        "CMYK JPEG": picture("JPEG", "CMYK"),
        "16-bit TIFF": picture("TIFF", "I;16"),
        "float TIFF": picture("TIFF", "F"),
        "LA": picture(mode="LA"),
        "1 bit": picture(mode="1"),
        "PPM": picture("PPM"),
        "ICO": picture("ICO", "RGBA"),
    }
    for name, content in formats.items():
        yield Case(f"{name} as image/png", shown({"image/png": base64_of(content), "text/plain": "<p>"}), pictures=1)
    yield Case("image/gif", shown({"image/gif": base64_of(picture("GIF")), "text/plain": "<Image object>"}), pictures=1)
    yield Case("image/webp", shown({"image/webp": base64_of(picture("WEBP"))}), pictures=1)
    yield Case("moving GIF", shown({"image/gif": base64_of(picture("GIF", "P", 3))}), pictures=1)
    yield Case("moving PNG", shown({"image/png": base64_of(picture("PNG", "RGB", 3))}), pictures=1)
    yield Case("SVG", shown({"image/svg+xml": SVG}), pictures=1)
    yield Case(
        "SVG as a page has it",
        shown({"image/svg+xml": SVG.replace(' xmlns="http://www.w3.org/2000/svg"', "")}),
        pictures=1,
    )
    cut = base64_of(picture()[: len(picture()) // 2])
    yield Case(
        "cut PNG",
        shown({"image/png": cut, "text/plain": "a plot"}),
        ("cannot be set", "a plot"),
        warns=("image/png: a damaged picture",),
    )
    yield Case(
        "no base64", shown({"image/png": "%%%"}), ("cannot be set",), warns=("image/png: the text is no base64",)
    )
    yield Case("empty JPEG", shown({"image/jpeg": ""}), warns=())
    yield Case("text as PNG", shown({"image/png": base64_of(b"hello, world")}), warns=("no picture, it begins with",))
    yield Case(
        "PDF", shown({"application/pdf": "JVBERg==", "text/plain": "a page"}), ("a page",), warns=("application/pdf",)
    )
    yield Case(
        "broken SVG, good PNG",
        shown({"image/svg+xml": "<svg><g></svg>", "image/png": base64_of(picture())}),
        pictures=1,
        warns=("image/svg.xml: a drawing that cannot be set",),
    )
    yield Case(
        "SVG without extent", shown({"image/svg+xml": SVG.replace("60", "0")}), warns=("a drawing that cannot be set",)
    )


def sizes():
    """Widths as IPython's Image takes them, sensible and not."""
    for width in ("400px", "50%", 200, "3cm", "wide", "-5", "calc(100% - 2px)", "1e99", None, {}):
        cell = shown({"image/png": base64_of(picture())}, {"image/png": {"width": width}})
        yield Case(f"width {width!r}", cell, pictures=1)
    yield Case(
        "height alone", shown({"image/png": base64_of(picture())}, {"image/png": {"height": "48px"}}), pictures=1
    )
    yield Case("metadata that is no object", shown({"image/png": base64_of(picture())}, {"image/png": 3}), pictures=1)


def rich(web):
    """Outputs that a library's JavaScript would draw, and what can stand in for them."""
    plotly = {
        "application/vnd.plotly.v1+json": {"data": [{"type": "bar", "x": [1], "y": [2]}], "layout": {}},
        "text/html": f'<div><div id="p" class="plotly-graph-div"></div><script src="{web}/plotly.js">'
        '</script><script type="text/javascript">Plotly.newPlot("p", [])</script></div>',
    }
    yield Case(
        "plotly", shown(plotly), ("cannot be set here: application/vnd.plotly",), ("newPlot",), ("vnd.plotly.v1.json",)
    )
    captioned = shown(plotly, source="#| label: fig-bars\n#| fig-cap: The bars.\nshow()")
    yield Case("plotly with a caption", captioned, ("The bars.",), warns=("vnd.plotly",), floats=True)
    yield Case("plotly with a PNG", shown(plotly | {"image/png": base64_of(picture())}), pictures=1)
    yield Case(
        "vega",
        shown({"application/vnd.vegalite.v5+json": {"mark": "bar"}, "text/plain": "alt.Chart(...)"}),
        ("vnd.vegalite.v5+json", "alt.Chart(...)"),
        warns=("vnd.vegalite",),
    )
    altair = f"<style>#v.vega-embed {{width: 100%}}</style><div id='v'></div><script>import('{web}/vega.js')</script>"
    yield Case(
        "altair's HTML",
        shown({"text/html": altair, "text/plain": "alt.Chart(...)"}),
        ("alt.Chart(...)",),
        ("vega-embed", "import("),
        ("text/html, drawn by a script",),
    )
    bokeh = {
        "text/html": '<div id="b" data-root-id="p1"></div>',
        "application/javascript": "embed()",
        "application/vnd.bokehjs_exec.v0+json": "",
    }
    yield Case("bokeh", shown(bokeh), ("cannot be set here: application/javascript",), warns=("vnd.bokehjs_exec",))
    yield Case(
        "JSON",
        shown({"application/json": {"depth": [1, 2]}, "text/plain": "<IPython.core.display.JSON object>"}),
        ('"depth"',),
        ("IPython.core",),
    )
    yield Case("GeoJSON", shown({"application/geo+json": {"type": "Point"}}), warns=("application/geo.json",))
    yield Case(
        "JavaScript", shown({"application/javascript": "alert(1)"}), hides=("alert(1)",), warns=("application/java",)
    )
    yield Case("model", shown({"model/stl": "solid", "text/plain": "a cube"}), ("a cube",), warns=("model/stl",))
    yield Case(
        "unknown output",
        new_code_cell("", outputs=[nbformat.from_dict({"output_type": "pyout2"})]),
        ("cannot be set",),
        warns=("unknown type 'pyout2'",),
    )
    yield Case("LaTeX formula", shown({"text/latex": "$\\displaystyle x^{2}$", "text/plain": "x**2"}), hides=("x**2",))
    yield Case(
        "LaTeX table",
        shown({"text/latex": "\\begin{tabular}{l}1\\end{tabular}", "text/html": "<b>seen</b>"}),
        ("seen",),
        ("tabular",),
    )
    yield Case(
        "Markdown", shown({"text/markdown": "A **bold** word", "text/plain": "<Markdown object>"}), ("A bold word",)
    )
    yield Case("other text", shown({"text/x-rst": "rst text"}), ("rst text",))
    yield Case(
        "estimator",
        shown(
            {
                "text/html": "<style>.t{color:red}</style><input type=checkbox><pre>LR(?)</pre>",
                "text/plain": "LogisticRegression()",
            }
        ),
        ("LogisticRegression()",),
        ("LR(?)",),
    )
    yield Case(
        "data set", shown({"text/plain": "<xarray.Dataset> Size: 48B\nDimensions: (x: 2)"}), ("Dimensions: (x: 2)",)
    )
    yield Case("array", shown({"text/plain": "array([1, 2, 3])"}), ("array([1, 2, 3])",))
    yield Case(
        "tensor", shown({"text/plain": "<tf.Tensor: shape=(2,), numpy=array([4, 5])>"}), ("numpy=array([4, 5])",)
    )


def widgets():
    """ipywidgets, with and without the state that the file holds."""
    view = "application/vnd.jupyter.widget-view+json"
    state = {
        "box": {"model_name": "VBoxModel", "state": {"children": ["IPY_MODEL_slider", "IPY_MODEL_out"]}},
        "slider": {"model_name": "IntSliderModel", "state": {"description": "depth", "value": 101}},
        "out": {
            "model_name": "OutputModel",
            "state": {"outputs": [{"output_type": "stream", "name": "stdout", "text": "seen within\n"}]},
        },
        "choice": {"model_name": "DropdownModel", "state": {"_options_labels": ["ce", "dice"], "index": 1}},
        "page": {"model_name": "HTMLModel", "state": {"value": "<b>bold</b> &amp; <script>run()</script>"}},
        "loop": {"model_name": "HBoxModel", "state": {"children": ["IPY_MODEL_loop"]}},
    }
    held = {"widgets": {"application/vnd.jupyter.widget-state+json": {"state": state}}}
    yield Case("box of widgets", shown({view: {"model_id": "box"}}), ("depth 101", "seen within"), metadata=held)
    yield Case(
        "choice", shown({view: {"model_id": "choice"}, "text/plain": "Dropdown(...)"}), ("dice",), ("Dropdown(",)
    )
    yield Case("HTML widget", shown({view: {"model_id": "page"}}), ("bold &",))
    yield Case("widget within itself", shown({view: {"model_id": "loop"}}))
    yield Case(
        "widget without state",
        shown({view: {"model_id": "gone"}, "text/plain": "IntSlider(value=3)"}),
        ("IntSlider(value=3)",),
        warns=("widget-view.json: a widget whose state",),
    )
    yield Case("widget view that is no object", shown({view: "x"}), ("cannot be set",), warns=("widget",))


def network(web):
    """What would be loaded when the document is made or opened."""
    page = f"{web}/page.html"
    yield Case(
        "IFrame",
        shown({"text/html": f'<iframe src="{page}"></iframe>', "text/plain": "<IFrame at 0x7f>"}),
        ("web page left out", page),
        ("0x7f",),
        ("web page: " + page,),
    )
    yield Case(
        "iframe in Markdown",
        new_markdown_cell(f'Before <iframe src="{page}"></iframe> behind.'),
        ("Before", "web page left out", "behind."),
        warns=("web page: ",),
    )
    yield Case(
        "iframe in a block",
        new_markdown_cell(f'<div>\n<iframe src="{page}">\n</iframe>\n</div>\n\nAfter it.'),
        ("web page left out", "After it."),
        warns=("web page: ",),
    )
    yield Case(
        "srcdoc", shown({"text/html": '<iframe srcdoc="&lt;p&gt;x"></iframe>'}), ("web page left out",), warns=("page",)
    )
    yield Case(
        "script from the web",
        shown({"text/html": f'<p>Seen.</p><script src="{web}/s.js"></script>'}),
        ("Seen.", "script left out"),
        warns=("script: ",),
    )
    yield Case(
        "picture from the web",
        new_markdown_cell(f"![a view]({web}/view.png)"),
        ("picture left out: a view",),
        warns=("a picture from the web is left out",),
        floats=True,
    )
    yield Case(
        "img from the web",
        shown({"text/html": f'<img src="{web}/view.png"><b>Seen.</b>'}),
        ("Seen.", "picture left out"),
        warns=("a picture from the web",),
    )
    yield Case(
        "img without protocol",
        new_markdown_cell(f'<img src="{web[5:]}/view.png" alt="eye">'),
        ("picture left out",),
        warns=("a picture from the web",),
    )
    yield Case(
        "style sheet",
        shown({"text/html": f'<link rel="stylesheet" href="{web}/a.css"><p>Seen.</p>'}),
        ("Seen.", "style sheet left out"),
        warns=("style sheet: ",),
    )
    style = f'<style>@import url("{web}/i.css"); .q {{background: url({web}/b.png)}}</style><p class="q">Seen.</p>'
    yield Case("url() in a style sheet", shown({"text/html": style}), ("Seen.",), warns=("its style loads", "b.png"))
    table = f'<table><tr><td style="background:url({web}/c.png)">Seen.</td></tr></table>'
    yield Case("url() in a table", shown({"text/html": table}), ("Seen.",), warns=("c.png",))
    yield Case(
        "url() with an escape", new_markdown_cell(f'[Seen.]{{style="background:u\\\\72l({web}/d.png)"}}'), ("Seen.",)
    )
    yield Case(
        "style in Markdown",
        new_markdown_cell(f"<style>@import '{web}/e.css';</style>\n\nSeen."),
        ("Seen.",),
        warns=("e.css",),
    )
    yield Case(
        "video",
        shown({"text/html": f'<video controls><source src="{web}/v.mp4">no</video>'}),
        ("video left out",),
        warns=("video: ",),
    )
    yield Case(
        "sound",
        shown({"text/html": '<audio controls><source src="data:audio/wav;base64,AA=="></audio>'}),
        ("sound left out",),
        warns=("sound",),
    )
    yield Case(
        "object",
        new_markdown_cell(f'<object data="{web}/o.svg"></object>'),
        ("embedded object left out",),
        warns=("embedded object",),
    )
    linked = SVG.replace("<rect", f'<image href="{web}/in.png" width="5" height="5"/><rect')
    yield Case("SVG that loads", shown({"image/svg+xml": linked}), pictures=1, warns=("in.png is left out",))
    yield Case(
        "refresh and base",
        shown({"text/html": f'<base href="{web}/"><meta http-equiv="refresh" content="0;url={web}"><p>Seen.</p>'}),
        ("Seen.",),
    )
    yield Case(
        "link that runs", new_markdown_cell("[press](javascript:alert(1)) and [file](data:text/html,x)"), ("press",)
    )
    yield Case("event", new_markdown_cell('<b onclick="run()">Seen.</b> [word]{onclick="run()"}'), ("Seen.", "word"))


def terminal():
    """What programs print for a terminal."""
    e = "\x1b"
    yield Case(
        "colours",
        printed(f"{e}[31mred{e}[0m {e}[38;5;200mpink{e}[0m {e}[38;2;1;2;3mtrue{e}[0m{e}(B"),
        ("red pink true",),
    )
    yield Case(
        "link, ST",
        printed(f"see {e}]8;;https://example.org{e}\\the page{e}]8;;{e}\\ now"),
        ("see the page now",),
        ("]8;",),
    )
    yield Case(
        "link, BEL", printed(f"see {e}]8;;https://example.org\x07the site{e}]8;;\x07 now"), ("see the site now",)
    )
    yield Case("progress", printed(" 5% |#   |\r 99% |### |\r100% |####|\n"), ("100% |####|",), ("99%",))
    yield Case("bars above each other", printed(f"a 1%\nb 1%\n{e}[2Aa 2%\nb 2%\n"), ("a 2%", "b 2%"), ("a 1%",))
    yield Case("erased", printed(f"secret{e}[2K\rplain{e}[0K\n"), ("plain",), ("secret",))
    yield Case("backspace", printed("wrongg\b \b."), ("wrong.",))
    yield Case("cleared", printed(f"old{e}[2J{e}[Hnew"), ("new",), ("old",))
    yield Case("open sequence", printed(f"{e}]0;title\nnext line {e}["), ("next line",))
    yield Case("far away", printed(f"a{e}[999999999;999999999Hb\x00\x07{e}[?25l{e}M"), ("a", "b"))
    two = [new_output("stream", name="stdout", text=text) for text in ("epoch 1\r", "epoch 2\n")]
    yield Case("one line in two outputs", new_code_cell("", outputs=two), ("epoch 2",), ("epoch 1",))
    yield Case("text of plain form", shown({"text/plain": f"{e}[1mbold{e}[0m"}), ("bold",), ("[1m",))
    yield Case(
        "traceback",
        new_code_cell(
            "",
            outputs=[
                new_output(
                    "error", ename="KeyError", evalue="'iou'", traceback=[f"{e}[31mKeyError{e}[0m", "line 3, in f"]
                )
            ],
        ),
        ("KeyError: 'iou'",),
        ("[31m",),
        ("failed: KeyError",),
    )
    expected = new_output("error", ename="ValueError", evalue="meant", traceback=[])
    yield Case(
        "expected error", new_code_cell("", outputs=[expected], metadata={"tags": ["raises-exception"]}), ("meant",)
    )


def directives():
    """`#|` lines, tags and raw cells."""
    out = [new_output("stream", name="stdout", text="printed words\n")]
    for line in ("#| hide", "#|hide", "#| include: false", "#| output: false"):
        yield Case(
            line,
            new_code_cell(f"{line}\nx = 1", outputs=[new_output("stream", text=f"gone {line}")]),
            hides=(f"gone {line}",),
        )
    for line in ("#| export", "#| default_exp core", "#| 3", "#| [a, b]", "#| label: [1, 2]", "#| : x", "#| {", "#|"):
        yield Case(line, new_code_cell(f"{line}\nx = 1", outputs=out), ("printed words",))
    asis = [new_output("stream", name="stdout", text="Some *emphatic* words\n")]
    yield Case("output: asis", new_code_cell("#| output: asis\nx", outputs=asis), ("Some emphatic words",))
    two = [new_output("display_data", {"image/png": base64_of(picture())}) for _ in range(2)]
    yield Case(
        "two captions",
        new_code_cell("#| fig-cap:\n#|   - First one.\n#|   - Second one.\nx", outputs=two),
        ("First one.", "Second one."),
        pictures=2,
        floats=True,
    )
    yield Case("raw ---", new_raw_cell("---"))
    yield Case("raw --- ---", new_raw_cell("---\n---"))
    yield Case("raw list", new_raw_cell("---\n- a list\n---"), ("a list",), warns=("front matter should have lines",))
    yield Case("raw bad YAML", new_raw_cell("---\na: [open\n---"), ("a: [open",), warns=("no valid YAML",))
    yield Case("raw text", new_raw_cell("a raw note <b>"), ("a raw note <b>",))
    yield Case(
        "raw HTML", new_raw_cell("<b>raw bold</b>", metadata={"format": "text/html"}), ("raw bold",), ("<b>raw",)
    )
    yield Case("raw Markdown", new_raw_cell("raw *md*", metadata={"raw_mimetype": "text/markdown"}), ("raw md",))
    yield Case(
        "typesetter's code",
        new_markdown_cell('```{=typst}\n#read("/etc/passwd")\n```'),
        ("raw typst left out",),
        warns=("raw typst is left out",),
    )


def prose():
    """Markdown as Kaggle, Colab, Quarto and courses write it."""
    image = picture()
    names = {"a b (1).png": {"image/png": base64_of(image)}, "a": {"image/png": base64_of(picture("GIF"))}}
    yield Case(
        "pasted pictures",
        new_markdown_cell("![](attachment:a%20b%20%281%29.png) ![](attachment:a)", attachments=names),
        pictures=2,
    )
    yield Case("pasted, missing", new_markdown_cell("![](attachment:none.png)"), warns=("pasted picture not found",))
    yield Case(
        "pasted, broken",
        new_markdown_cell("![](attachment:x)", attachments={"x": {"image/png": "!"}}),
        warns=("the pasted picture x is left out", "pasted picture not found"),
    )
    yield Case(
        "data address",
        new_markdown_cell(f'<img src="data:image/png;base64,{base64_of(image)}" width="50%">'),
        pictures=1,
    )
    yield Case(
        "missing picture", new_markdown_cell("![](figures/none.png)"), ("picture not found",), warns=("none.png",)
    )
    yield Case(
        "details",
        new_markdown_cell("<details>\n<summary>Solution</summary>\n\nThe **answer** is 42.\n\n</details>"),
        ("Solution", "The answer is 42."),
    )
    yield Case(
        "alert",
        new_markdown_cell(
            '<div class="alert alert-info"><b>Note:</b> read <a href="https://example.org">this</a>.</div>'
        ),
        ("Note: read this.",),
    )
    yield Case("HTML link", new_markdown_cell('Go <a href="https://example.org/x">there</a>.'), ("Go there.",))
    yield Case(
        "nested lists",
        new_markdown_cell("1. one\n   - two\n     - three\n2. four\n   ```python\n   five = 5\n   ```"),
        ("one", "two", "three", "four", "five = 5"),
    )
    yield Case("footnote", new_markdown_cell("Text.[^a]\n\n[^a]: The small print."), ("The small print.",), floats=True)
    yield Case("task list", new_markdown_cell("- [x] done\n- [ ] open"), ("done", "open"))
    yield Case(
        "long code", new_markdown_cell("```python\nx = " + "very_long_name + " * 40 + "1\n```"), ("very_long_name",)
    )
    yield Case("prices", new_markdown_cell("It costs $5 and $6, at 100%."), ("It costs $5 and $6, at 100%.",))
    dollars = '<table class="dataframe tex2jax_ignore"><tr><td>US$ and EU$x$</td></tr></table>'
    yield Case("dollars in a table", shown({"text/html": dollars}), ("US$ and EU$x$",))
    colab = (
        '<div class="colab-df-container"><table><tr><td>cell</td></tr></table><button class="colab-df-convert">'
        "Convert</button><script>convert()</script></div>"
    )
    yield Case("Colab's table", shown({"text/html": colab}), ("cell",), ("Convert", "convert()", "script left out"))
    yield Case(
        "broken HTML", new_markdown_cell("<div><b>never closed\n\nNext paragraph."), ("never closed", "Next paragraph.")
    )
    yield Case("broken formula", new_markdown_cell("$\\frac{1}{$ and on."), ("and on.",), warns=("formula with",))
    yield Case(
        "heading twice",
        new_markdown_cell("## Setup {#sec-setup}\n\n## Setup {#sec-setup}\n\nSee @sec-setup."),
        ("Setup",),
    )
    yield Case(
        "hidden part",
        shown({"text/html": "<style>#q{display:none}</style><p id=q>unseen</p><p>Seen.</p>"}),
        ("Seen.",),
        ("unseen",),
    )
    yield Case(
        "index",
        shown({"text/html": '<table><tr><td style="color:red;width:expression(1);--x:1">styled</td></tr></table>'}),
        ("styled",),
        ("expression",),
    )


def cases(web):
    """All cases; `web` is the address of a server that nothing should ask."""
    groups = [pictures(), sizes(), rich(web), widgets(), network(web), terminal(), directives(), prose()]
    return [case for group in groups for case in group]


def notebook(some):
    """The cases' cells as one notebook, each behind a line that says which it is."""
    cells, metadata = [], {}
    for index, case in enumerate(some):
        cells += [new_markdown_cell(f"{MARK} {index}:"), case.cell]
        metadata |= case.metadata
    return nbformat.from_dict({"nbformat": 4, "nbformat_minor": 4, "metadata": metadata, "cells": cells})
