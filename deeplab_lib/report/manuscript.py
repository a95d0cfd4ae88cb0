"""A notebook read as a manuscript: title block, prose, figures, tables and, where wanted, code.

The manuscript is a plain dictionary that `templates/notebook.lua` turns into a pandoc document. What each kind of
cell and output becomes is decided here; how it looks is decided by the templates. Nothing is lost without a word:
what cannot be set leaves a trace in the document and a warning that names its cell.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import yaml

from deeplab_lib.report.directives import cell_options
from deeplab_lib.report.front import FRONT_MATTER_MIME, front_matter_of, normal_front
from deeplab_lib.report.pictures import Picture, PictureError, read_picture
from deeplab_lib.report.static_html import ACTIVE_IN_MARKDOWN, static_html, static_markdown
from deeplab_lib.report.terminal import terminal_text
from deeplab_lib.report.widgets import WIDGET_MIME, WidgetStates

if TYPE_CHECKING:
    from nbformat import NotebookNode

PICTURES = ("image/svg+xml", "image/png", "image/jpeg")  # best first; then any other image/...
HINTS = ("width", "height", "alt")
HIDE_CELL = {"remove-cell", "remove_cell", "hide-cell", "hide_cell"}
HIDE_INPUT = {"remove-input", "remove_input", "hide-input", "hide_input"}
HIDE_OUTPUT = {"remove-output", "remove_output", "hide-output", "hide_output"}
# What a cell shows for the value of its last line when nobody meant it: where an object lies in memory, and the parts
# of a drawing, such as <Axes: >, [<Line2D at 0x7f..>] or Text(0, 1, 'x').
BARE_OBJECT = re.compile(
    r"<[\w.]+ object>|<[^<>]*(?:<[^<>]*>[^<>]*)* at 0x[0-9a-f]+>|<Axes\w*:?.*?>|<Figure size [^<>]*>"
    r"|<\w*Container object of \d+ artists>|<matplotlib\.[^<>]*>|Text\([^()]*\)|Figure\(\d+x\d+\)",
    re.DOTALL,
)
ROUND_BARE_OBJECTS = re.compile(r"(?:[\[\](){},\s\d.e+:-]|array|dtype=\w+|'[^']*'|nan|inf)*")
FORMULA = re.compile(
    r"\\begin\{(?:equation|align|alignat|gather|multline|eqnarray|displaymath|math|split|cases|array|[bpvV]?matrix)\*?\}"
)
LONG_STAND_IN = 12  # lines of the text that stands in for an output that cannot be set


class Manuscript:
    """`name`, `front` (title block), `blocks` (in reading order), `pictures` {file name: content}, `warnings`.

    `notices` say what is left out on purpose: without code, a paper has no progress bars and no messages either.
    """

    def __init__(self, notebook: "NotebookNode", name: str = "notebook", show_code: bool = False) -> None:
        """Read an nbformat-4 notebook; code is left out unless `show_code` or the cell's `#| echo: true`."""
        self.name, self.show_code = name, show_code
        self.blocks: list[dict[str, Any]] = []
        self.pictures: dict[str, Picture] = {}
        self.warnings: list[str] = []
        self._messages: list[int] = []  # cells with text on stderr
        self._widgets = WidgetStates(notebook.get("metadata") or {})
        self.front = front_matter_of(notebook.get("metadata") or {})
        readers = {"markdown": self._markdown, "raw": self._raw, "code": self._code}
        for self._number, cell in enumerate(notebook.get("cells") or [], 1):
            readers.get(cell.get("cell_type"), self._unknown)(cell)
        self.front = normal_front(self.front)

    @property
    def notices(self) -> list[str]:
        if not self._messages:
            return []
        cells = ", ".join(map(str, dict.fromkeys(self._messages)))
        return [f"messages and progress bars of cell {cells} are left out; the version with code has them"]

    # Cells

    def _markdown(self, cell: "NotebookNode") -> None:
        if HIDE_CELL.isdisjoint(_tags(cell)):
            for name, bundle in (cell.get("attachments") or {}).items():
                self._keep(name, next(iter(bundle.values()), ""))
            self._prose(_joined(cell.get("source")))

    def _prose(self, text: str) -> None:
        self._add("markdown", text=self._static(jupyter_markdown(text)))

    def _static(self, text: str) -> str:
        """Markdown in which HTML that would load or run has become a trace."""

        def trace(match: re.Match[str]) -> str:
            if not match["active"]:
                return match[0]
            shown, left_out = static_markdown(match["active"])
            self._warn_left_out(left_out)
            return shown

        pattern = rf"{CODE}|(?P<active>{ACTIVE_IN_MARKDOWN})"
        return re.sub(pattern, trace, text, flags=re.DOTALL | re.MULTILINE | re.IGNORECASE)

    def _raw(self, cell: "NotebookNode") -> None:
        """YAML between two `---` is front matter, as in Quarto; other raw cells are what their format says, or text."""
        text, metadata = _joined(cell.get("source")), (cell.get("metadata") or {})
        if not HIDE_CELL.isdisjoint(_tags(cell)):
            return
        if match := re.fullmatch(r"---[ \t]*\n(.*?)^(?:---|\.\.\.)\s*", text.strip() + "\n", re.DOTALL | re.MULTILINE):
            try:
                fields = yaml.safe_load(match[1])
            except (yaml.YAMLError, ValueError) as error:
                self._warn(f"the front matter is no valid YAML: {_one_line(error)}")
            else:
                if isinstance(fields, dict):
                    return self._update_front({str(key): value for key, value in fields.items()})
                if fields is None:
                    return None
                self._warn("the front matter should have lines such as `title: ...`")
        if not text.strip(" \t\r\n-"):
            return None
        kind = str(metadata.get("raw_mimetype") or metadata.get("format") or "")
        if kind in ("text/markdown", "text/latex"):
            return self._prose(text)
        if kind == "text/html":
            self._set_html(text, {}, {})
            return None
        return self._add("output", text=terminal_text(text))

    def _code(self, cell: "NotebookNode") -> None:
        options, source = cell_options(cell)
        tags = _tags(cell)
        if not HIDE_CELL.isdisjoint(tags) or options.get("include") is False:
            return
        echo = options.get("echo", self.show_code) and HIDE_INPUT.isdisjoint(tags)
        if (echo or self.show_code) and source.strip():
            self._add("code", text=source.rstrip())
        if options.get("output") is not False and HIDE_OUTPUT.isdisjoint(tags):
            for output in _one_stream_each(cell.get("outputs") or []):
                self._output(output, options, expected="raises-exception" in tags)

    def _unknown(self, cell: "NotebookNode") -> None:
        self._warn(f"a cell of the unknown type {cell.get('cell_type')!r} is set as text")
        self._add("output", text=terminal_text(_joined(cell.get("source"))))

    # Outputs

    def _output(self, output: Mapping[str, Any], options: dict[str, Any], expected: bool = False) -> None:
        kind = output.get("output_type")
        if kind == "stream":
            self._stream(output, options)
        elif kind == "error":
            self._error(output, expected)
        elif kind in ("display_data", "execute_result", "update_display_data"):
            self._display(output, options)
        else:
            self._left_out(f"an output of the unknown type {kind!r}", options)

    def _stream(self, output: Mapping[str, Any], options: dict[str, Any]) -> None:
        text = _joined(output.get("text"))
        if options.get("output") == "asis" and output.get("name") != "stderr":
            self._prose(text)
        elif (shown := terminal_text(text)).strip():
            if output.get("name") == "stderr" and not self.show_code:
                self._messages.append(self._number)
            else:
                self._add("output", text=shown)

    def _error(self, output: Mapping[str, Any], expected: bool) -> None:
        """The error's line; with code the whole traceback."""
        line = terminal_text(f"{output.get('ename', 'Error')}: {output.get('evalue', '')}").partition("\n")[0]
        if not expected:
            self.warnings.append(f"cell {self._number} failed: {line}")
        traceback = terminal_text("\n".join(map(_joined, output.get("traceback") or [])))
        self._add("output", text=traceback if self.show_code and traceback.strip() else line)

    def _display(self, output: Mapping[str, Any], options: dict[str, Any]) -> None:
        """The richest form of one displayed object that can be set.

        The cell's label and caption go to its first figure or table.
        """
        data, metadata = output.get("data") or {}, output.get("metadata") or {}
        if FRONT_MATTER_MIME in data:
            return self._update_front(data[FRONT_MATTER_MIME])
        if isinstance(metadata.get("report"), dict) and metadata["report"].get("skip"):
            return None
        refused: list[str] = []
        for mime in _by_richness(data):
            problem = self._set_form(mime, data, metadata, options)
            if problem is None:
                for problem in refused:
                    self._warn(problem)
                return None
            refused += [problem] if problem else []
        text = terminal_text(_joined(data.get("text/plain")))
        meant = bool(text.strip()) and not is_bare_object(text)
        unknown = [mime for mime in data if not mime.startswith(("text/", "image/"))]
        if not refused and not unknown:
            if meant or (self.show_code and text.strip() and len(data) == 1):
                self._add("output", text=text)
            return None
        unnamed = [mime for mime in unknown if not any(problem.startswith(mime) for problem in refused)]
        what = "; ".join([*unnamed, *refused])
        lines = text.splitlines() if meant else []
        stand_in = "\n".join(lines[:LONG_STAND_IN] + ["…"] * (len(lines) > LONG_STAND_IN))
        return self._left_out(what, options, stand_in)

    def _set_form(
        self, mime: str, data: Mapping[str, Any], metadata: Mapping[str, Any], options: dict[str, Any]
    ) -> str | None:
        """Set one form of an output; if it cannot be set, say why, or "" where there is nothing to be seen."""
        own = _own(metadata)
        if mime.startswith("image/"):
            try:
                content = _joined(data[mime]).encode() if mime == "image/svg+xml" else decoded(data[mime])
                name = self._picture(content)
            except PictureError as error:
                return f"{mime}: {error}"
            given = metadata.get(mime)  # what IPython's Image(width=...) was given: pixels, or a length of CSS
            hints = {key: str(given[key]) for key in HINTS if key in given} if isinstance(given, dict) else {}
            self._add("figure", file=name, **(hints | self._taken(options, "fig") | own))
        elif mime in ("text/markdown", "text/latex"):
            self._prose(_joined(data[mime]))
        elif mime == "text/html":
            return self._set_html(_joined(data[mime]), options, own, _joined(data.get("text/plain")))
        elif mime == WIDGET_MIME:
            return self._set_widget(data[mime], options)
        elif mime == "application/json":
            self._add("output", text=json.dumps(data[mime], indent=2, ensure_ascii=False))
        else:
            self._add("output", text=terminal_text(_joined(data[mime])))
        return None

    def _set_html(self, text: str, options: dict[str, Any], own: dict[str, Any], plain: str = "") -> str | None:
        static = static_html(text)
        if static.asks and plain and not is_bare_object(plain):
            self._add("output", text=terminal_text(plain))
        elif not static.shows and not static.left_out:
            return ""
        elif not static.shows and all(what.startswith("script") for what in static.left_out):
            return "text/html, drawn by a " + ", ".join(dict.fromkeys(static.left_out))
        else:
            self._warn_left_out(static.left_out)
            if "<table" in static.html:
                self._add("table", html=static.html, **(self._taken(options, "tbl") | own))
            else:
                self._add("html", text=static.html)
        return None

    def _set_widget(self, view: Any, options: dict[str, Any]) -> str | None:
        """A widget as the notebook's file says that it stood: its words, and what was shown within it."""
        model = view.get("model_id") if isinstance(view, dict) else None
        if not isinstance(model, str) or not self._widgets.knows(model):
            return f"{WIDGET_MIME}: a widget whose state the notebook does not hold"
        for text, output in self._widgets.shown(model):
            if output is not None:
                self._output(output, options)
            elif text and self._widgets.is_progress(model) and not self.show_code:
                self._messages.append(self._number)
            elif text:
                self._add("output", text=text)
        return None

    # What they have in common

    def _taken(self, options: dict[str, Any], kind: str) -> dict[str, Any]:
        """A cell's caption options for its first figure (or table), which uses them up; of a list, one each."""
        taken = {}
        for name, key in {"caption": f"{kind}-cap", "alt": f"{kind}-alt", "note": f"{kind}-note"}.items():
            value = options.pop(key, None)
            if isinstance(value, list) and value:
                value, options[key] = value[0], value[1:]
            if value:
                taken[name] = str(value)
        if str(options.get("label", "")).startswith(kind + "-"):
            taken["label"] = as_id(options.pop("label"))
        return taken

    def _picture(self, content: bytes) -> str:
        name = f"output:{len(self.pictures)}"
        self.pictures[name] = read_picture(content)
        return name

    def _keep(self, name: str, data: Any) -> None:
        """Keep a picture that was pasted into the cell under its name."""
        try:
            self.pictures[f"attachment:{self._number}:{name}"] = read_picture(decoded(data))
        except PictureError as error:
            self._warn(f"the pasted picture {name} is left out: {error}")

    def _left_out(self, what: str, options: dict[str, Any], stand_in: str = "") -> None:
        """Say that an output cannot be set, in the document too, where it keeps its caption and number."""
        self._warn(f"an output cannot be set ({what})")
        trace = f"An output of cell {self._number} cannot be set here: {what}."
        self._add("missing", text=trace, stand_in=stand_in or None, **self._taken(options, "fig"))

    def _warn_left_out(self, left_out: list[str]) -> None:
        for what in left_out:
            self._warn(f"left out, as the report loads and runs nothing: {what}")

    def _warn(self, message: str) -> None:
        self.warnings.append(f"cell {self._number}: {message}")

    def _add(self, kind: str, **fields: Any) -> None:
        given = {key: value for key, value in fields.items() if value is not None}
        self.blocks.append({"kind": kind, "cell": self._number} | given)

    def _update_front(self, fields: Any) -> None:
        if isinstance(fields, dict):
            given = {key: value for key, value in fields.items() if value is not None}
            if isinstance(given.get("abstract"), str):
                given["abstract"] = self._static(given["abstract"])
            self.front |= given


CODE = r"(?P<code>^(?P<fence>```+|~~~+).*?^(?P=fence)|(?P<ticks>`+).*?(?P=ticks))"


def jupyter_markdown(text: str) -> str:
    """Markdown as Jupyter reads it, in pandoc's dialect: formulas may have inner spaces and blank lines."""
    code_or_math = re.compile(
        CODE + r"|(?<!\\)\$\$(?P<display>.+?)(?<!\\)\$\$|(?<![\\$\w])\$ *(?P<inline>[^$\n]*?[^$\n\\ ]) *\$(?![\d$])",
        re.DOTALL | re.MULTILINE,
    )

    def rewrite(match: re.Match[str]) -> str:
        if match["code"] is not None:
            return match[0]
        if match["display"] is not None:
            return "$$" + re.sub(r"\n\s*\n", "\n", match["display"].strip()) + "$$"
        return f"${match['inline']}$"

    return code_or_math.sub(rewrite, text)


def is_bare_object(text: str) -> bool:
    """Whether a text says no more than that there is an object, or which parts a drawing has."""
    rest, count = BARE_OBJECT.subn("", text.strip())
    return count > 0 and ROUND_BARE_OBJECTS.fullmatch(rest) is not None


def _by_richness(data: Mapping[str, Any]) -> Iterator[str]:
    """The forms of a bundle that may be set, best first; plain text is what is left when none can."""
    others = [mime for mime in data if mime.startswith("image/") and mime not in PICTURES]
    latex = _joined(data.get("text/latex")).lstrip()
    formula = latex.startswith(("$", "\\[", "\\(")) or FORMULA.match(latex)
    wanted = [*PICTURES, *others, "text/markdown", "text/latex" if formula else "", "text/html", WIDGET_MIME,
              "application/json"]  # fmt: skip
    yield from (mime for mime in wanted if mime in data and data[mime] not in ("", [], None))
    if "text/plain" not in data:
        yield from (mime for mime in data if mime.startswith("text/") and mime not in wanted)


def _one_stream_each(outputs: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The outputs with what one stream wrote in several pieces as one, so that a later piece may rewrite the line."""
    pending: dict[str, Any] | None = None
    for output in outputs:
        if output.get("output_type") == "stream":
            text = _joined(output.get("text"))
            if pending and pending["name"] == output.get("name"):
                pending["text"] += text
                continue
            if pending:
                yield pending
            pending = {"output_type": "stream", "name": output.get("name"), "text": text}
            continue
        if pending:
            yield pending
            pending = None
        yield output
    if pending:
        yield pending


def decoded(data: Any) -> bytes:
    """The bytes of a base64 text, or of a data address. Raises PictureError."""
    text = _joined(data)
    try:
        if match := re.match(r"data:[^,]*?(;base64)?,", text):
            rest = text[match.end() :]
            return base64.b64decode(rest) if match[1] else unquote_to_bytes(rest)
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise PictureError("the text is no base64") from error


def _joined(text: Any) -> str:
    """A text that a notebook's file may hold as a list of lines."""
    if isinstance(text, str):
        return text
    if isinstance(text, (list, tuple)):
        return "".join(map(str, text))
    return "" if text is None else str(text)


def as_id(text: str) -> str:
    """A name that is one in HTML and in Typst."""
    return re.sub(r"[^\w:.-]", "-", text)


def _own(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What `report.figure` and `report.table` say of an output; the width is in inches."""
    own = metadata.get("report")
    own = own if isinstance(own, dict) else {}
    texts = {key: str(own[key]) for key in ("label", "caption", "alt", "note") if key in own}
    if "label" in texts:
        texts["label"] = as_id(texts["label"])
    return texts | {"width": f"{own['width']}in"} if "width" in own else texts


def _tags(cell: "NotebookNode") -> set[str]:
    tags = (cell.get("metadata") or {}).get("tags") or []
    return {str(tag) for tag in tags} if isinstance(tags, list) else {str(tags)}


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
