"""A notebook read as a manuscript: title block, prose, figures, tables and, where wanted, code.

The manuscript is a plain dictionary that `templates/notebook.lua` turns into a pandoc document. What each kind of
cell and output becomes is decided here; how it looks is decided by the templates.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from bs4 import BeautifulSoup
from soupsieve import SelectorSyntaxError

from deeplab_lib.common.types import PathLike

if TYPE_CHECKING:
    from nbformat import NotebookNode

FRONT_MATTER_MIME = "application/vnd.deeplab.report+json"
WIDGET_MIME = "application/vnd.jupyter.widget-view+json"
PICTURES = {"image/svg+xml": "svg", "image/png": "png", "image/jpeg": "jpg"}  # best first
HIDE_CELL = {"remove-cell", "remove_cell", "hide-cell", "hide_cell"}
HIDE_INPUT = {"remove-input", "remove_input", "hide-input", "hide_input"}
HIDE_OUTPUT = {"remove-output", "remove_output", "hide-output", "hide_output"}
ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07")
# What a cell shows for the value of its last line when nobody meant it: <Axes: >, [<Line2D at 0x7f..>], Text(0, 1, 'x')
BARE_OBJECT = re.compile(r"^[\[(]*<[^>]*>|^(Text|array)\(.*\)$|^Figure\(", re.DOTALL)


class Manuscript:
    """`name`, `front` (title block), `blocks` (in reading order), `pictures` {file name: bytes}, `warnings`."""

    def __init__(self, notebook: "NotebookNode", name: str = "notebook", show_code: bool = False) -> None:
        """Read an nbformat-4 notebook; code is left out unless `show_code` or the cell's `#| echo: true`."""
        self.name, self.show_code = name, show_code
        self.blocks: list[dict[str, Any]] = []
        self.pictures: dict[str, bytes] = {}
        self.warnings: list[str] = []
        self.front = _front_matter_of(notebook.metadata)
        for number, cell in enumerate(notebook.cells, 1):
            {"markdown": self._markdown, "raw": self._raw, "code": self._code}[cell.cell_type](cell, number)
        self.front = _normal_front(self.front)

    def _markdown(self, cell: "NotebookNode", number: int) -> None:
        if HIDE_CELL.isdisjoint(_tags(cell)):
            self._add("markdown", text=jupyter_markdown(self._attachments(cell)))

    def _attachments(self, cell: "NotebookNode") -> str:
        """The cell's source with its pasted pictures turned into files."""
        text = cell.source
        for name, bundle in cell.get("attachments", {}).items():
            for mime, data in bundle.items():
                file = self._picture(base64.b64decode(data), PICTURES.get(mime, "png"))
                text = text.replace(f"attachment:{name}", file)
        return text

    def _raw(self, cell: "NotebookNode", number: int) -> None:
        """A raw cell that is YAML between two `---` is front matter, as in Quarto; other raw cells are left out."""
        if match := re.fullmatch(r"---\n(.*?)\n---\s*", cell.source.strip() + "\n", re.DOTALL):
            try:
                self._update_front(yaml.safe_load(match[1]) or {})
            except yaml.YAMLError as error:
                raise ValueError(f"cell {number}: front matter is no valid YAML: {_one_line(error)}") from error

    def _code(self, cell: "NotebookNode", number: int) -> None:
        options, source = cell_options(cell)
        tags = _tags(cell)
        if not HIDE_CELL.isdisjoint(tags) or options.get("include") is False:
            return
        echo = options.get("echo", self.show_code) and HIDE_INPUT.isdisjoint(tags)
        if (echo or self.show_code) and source.strip():
            self._add("code", text=source.rstrip())
        if options.get("output") is not False and HIDE_OUTPUT.isdisjoint(tags):
            for output in cell.get("outputs", []):
                self._output(output, options, number)

    def _output(self, output: "NotebookNode", options: dict[str, Any], number: int) -> None:
        if output.output_type == "stream":
            if output.name == "stdout" and (text := terminal_text(output.text)).strip():
                self._add("output", text=text)
        elif output.output_type == "error":
            line = terminal_text(f"{output.ename}: {output.evalue}").partition("\n")[0]
            self.warnings.append(f"cell {number} failed: {line}")
            self._add("output", text=line)
        else:
            self._display(output, options)

    def _display(self, output: "NotebookNode", options: dict[str, Any]) -> None:
        """The richest form of one displayed object; the cell's label and caption go to its first figure or table."""
        data, metadata = output.data, output.metadata
        own = metadata.get("report", {})
        if FRONT_MATTER_MIME in data:
            self._update_front(data[FRONT_MATTER_MIME])
        elif own.get("skip") or WIDGET_MIME in data:
            return
        elif mime := next((mime for mime in PICTURES if mime in data), None):
            content = data[mime].encode() if mime == "image/svg+xml" else base64.b64decode(data[mime])
            width = metadata.get(mime, {}).get("width")  # pixels of the screen, 96 an inch
            own = {"width": width / 96 if width else None} | self._taken(options, "fig") | own
            self._add("figure", file=self._picture(content, PICTURES[mime]), **own)
        elif "text/markdown" in data or "text/latex" in data:
            self._add("markdown", text=jupyter_markdown(data.get("text/markdown") or data["text/latex"]))
        elif "<table" in data.get("text/html", ""):
            self._add("table", html=styled_table(data["text/html"]), **(self._taken(options, "tbl") | own))
        elif "text/html" in data:
            self._add("html", text=styled_table(data["text/html"]))
        elif (text := terminal_text(data.get("text/plain", ""))).strip() and not BARE_OBJECT.match(text):
            self._add("output", text=text)

    def _taken(self, options: dict[str, Any], kind: str) -> dict[str, Any]:
        """A cell's caption options for its first figure (or table), which uses them up."""
        names = {"caption": f"{kind}-cap", "alt": f"{kind}-alt", "note": f"{kind}-note"}
        taken = {name: str(options.pop(key)) for name, key in names.items() if options.get(key)}
        if str(options.get("label", "")).startswith(kind + "-"):
            taken["label"] = options.pop("label")
        return taken

    def _picture(self, content: bytes, suffix: str) -> str:
        name = f"{hashlib.sha256(content).hexdigest()[:16]}.{suffix}"
        self.pictures[name] = content
        return name

    def _add(self, kind: str, **fields: Any) -> None:
        self.blocks.append({"kind": kind} | {key: value for key, value in fields.items() if value is not None})

    def _update_front(self, fields: Mapping[str, Any]) -> None:
        self.front |= {key: value for key, value in fields.items() if value is not None}


def cell_options(cell: "NotebookNode") -> tuple[dict[str, Any], str]:
    """`#| key: value` lines at the top of a code cell, over the cell's metadata; and the source without them."""
    metadata = cell.metadata
    kind = "tbl" if str(metadata.get("label", "")).startswith("tbl-") else "fig"
    named = {"label": "label", "caption": f"{kind}-cap", "alt": f"{kind}-alt"}
    options = {named[key]: metadata[key] for key in named if key in metadata}
    lines = cell.source.split("\n")
    count = next((i for i, line in enumerate(lines) if not line.startswith("#|")), len(lines))
    block = [line[2:].removeprefix(" ") for line in lines[:count]]
    try:
        options |= yaml.safe_load("\n".join(block)) or {}
    except (yaml.YAMLError, TypeError):  # a caption with a colon in it is no YAML, and yet plain what is meant
        pairs = (line.split(":", 1) for line in block if ":" in line)
        options |= {key.strip(): yaml.safe_load(value) if value.strip() in {"true", "false"} else value.strip(" \"'")
                    for key, value in pairs}  # fmt: skip
    return options, "\n".join(lines[count:])


def jupyter_markdown(text: str) -> str:
    """Markdown as Jupyter reads it, in pandoc's dialect: formulas may have inner spaces and blank lines."""
    code_or_math = re.compile(
        r"(?P<code>^(?P<fence>```+|~~~+).*?^(?P=fence)|(?P<ticks>`+).*?(?P=ticks))"
        r"|(?<!\\)\$\$(?P<display>.+?)(?<!\\)\$\$|(?<![\\$\w])\$ *(?P<inline>[^$\n]*?[^$\n\\ ]) *\$(?![\d$])",
        re.DOTALL | re.MULTILINE,
    )

    def rewrite(match: re.Match[str]) -> str:
        if match["code"] is not None:
            return match[0]
        if match["display"] is not None:
            return "$$" + re.sub(r"\n\s*\n", "\n", match["display"].strip()) + "$$"
        return f"${match['inline']}$"

    return code_or_math.sub(rewrite, text)


def terminal_text(text: str | Iterable[str]) -> str:
    """Text as a terminal would leave it: no colour codes, and of a line rewritten with \\r only its last state."""
    text = ANSI.sub("", "".join(text))
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")).rstrip("\n")


def styled_table(html: str) -> str:
    """HTML whose `<style>` rules (pandas' Styler) have become `style` attributes; scripts and styles are gone.

    Rules that no static table can show (`:hover`) are dropped.
    """
    soup = BeautifulSoup(html, "html.parser")
    for sheet in soup.find_all("style"):
        text = re.sub(r"/\*.*?\*/", "", sheet.get_text(), flags=re.DOTALL)
        for selectors, rules in re.findall(r"([^{}]+)\{([^{}]*)\}", text):
            try:
                elements = soup.select(selectors.strip())
            except (SelectorSyntaxError, NotImplementedError):
                continue
            own = "".join(rules.split("\n")).strip()
            for element in elements:
                element["style"] = f"{element.get('style', '')}{own}"
    for element in soup.find_all(["style", "script"]):
        element.decompose()
    for head in soup.find_all("thead"):
        _merge_index_names(head)
    return str(soup)


def _merge_index_names(head: Any) -> None:
    """pandas puts the index's name on a head row of its own: move it up into the empty corner."""
    rows = head.find_all("tr")
    if len(rows) < 2:
        return
    above, names = (row.find_all(["th", "td"]) for row in rows[-2:])
    named = [index for index, cell in enumerate(names) if cell.get_text(strip=True)]
    free = len(above) == len(names) and not any(above[index].get_text(strip=True) for index in named)
    if named and free:
        for index in named:
            above[index].string = names[index].get_text(strip=True)
        rows[-1].decompose()


def as_list(value: Any) -> list[Any]:
    """None, one thing or several, as a list."""
    if value is None or value == "":
        return []
    return [value] if isinstance(value, (str, Path, dict)) else list(value)


def bibtex(sources: Any, folder: PathLike = ".") -> str:
    """BibTeX text of `sources`: BibTeX text, a path to a .bib file in `folder`, or a list of these."""
    texts = []
    for source in as_list(sources):
        if isinstance(source, str) and re.search(r"@\w+\s*\{", source):
            texts.append(source.strip())
            continue
        path = Path(folder, source)
        if not path.is_file():
            raise FileNotFoundError(
                f"no bibliography {str(source)!r} in {path.parent}: give BibTeX text or a .bib file"
            )
        texts.append(path.read_text(encoding="utf-8").strip())
    return "\n\n".join(texts)


def _front_matter_of(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Title and authors from the notebook's metadata: nbconvert's own keys, then ours under `report`."""
    front = {"title": metadata.get("title"), "author": metadata.get("authors")} | dict(metadata.get("report", {}))
    return {key: value for key, value in front.items() if value is not None}


def _normal_front(front: dict[str, Any]) -> dict[str, Any]:
    """Lists where several are possible, and plain strings in them: `{"name": ...}` is the person's name."""
    for key in ("author", "affiliation", "keywords"):
        if key in front:
            front[key] = [item.get("name", "") if isinstance(item, dict) else str(item) for item in as_list(front[key])]
    single = front.keys() & {"title", "subtitle", "date", "abstract", "scope"}
    return front | {key: str(front[key]) for key in single}


def _tags(cell: "NotebookNode") -> set[str]:
    return set(cell.metadata.get("tags", []))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
