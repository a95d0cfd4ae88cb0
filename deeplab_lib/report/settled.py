"""The pandoc document between reading and writing: every picture becomes a file, and nothing in it loads or runs.

Whatever cell, output or reader an element came from, it passes here. So this is where a report is made safe: of its
attributes only those are kept that the writers know, of links those that are followed by a click, and of raw markup
nothing.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from deeplab_lib.report.manuscript import as_id, decoded
from deeplab_lib.report.pictures import Picture, PictureError, read_picture

Node = Any  # of pandoc's JSON: {"t": kind, "c": content}, and lists of them
ATTRIBUTES = {"number", "alt", "width", "style", "place"}
INCHES = {"px": 1 / 96, "pt": 1 / 72, "in": 1, "cm": 1 / 2.54, "mm": 1 / 25.4, "em": 1 / 6, "rem": 1 / 6}
# One declaration of CSS without functions that load (url, image-set) and without escapes that hide them.
DECLARATION = re.compile(r"\s*[a-z-]+\s*:\s*(?:[\w\s#%.,+!'/-]|(?:rgb|hsl)a?\([\w\s.,%/+-]*\))+", re.IGNORECASE)
LINK = re.compile(r"(?:https?:|mailto:|#|(?![a-z][a-z0-9+.-]*:))", re.IGNORECASE)


class Settler:
    """Walks one document; `warnings` say what was left out. `medium` is "html" or "typst"."""

    def __init__(
        self, pictures: Mapping[str, Picture], folder: Path, scratch: Path, medium: Literal["html", "typst"]
    ) -> None:
        """`pictures` are the notebook's own, others lie in its `folder`; the files go to `scratch`."""
        self.pictures, self.folder, self.scratch, self.medium = pictures, folder, scratch, medium
        self.warnings: list[str] = []

    def settle(self, node: Node) -> Node:
        """The node as it can be written."""
        if isinstance(node, list):
            if _is_attr(node):
                return [as_id(node[0]), [as_id(name) for name in node[1]], _clean(node[2])]
            return [self.settle(item) for item in node if not _is_raw(item)]
        if not isinstance(node, dict):
            return node
        kind = node.get("t")
        if kind == "Image":
            return self._image(*node["c"])
        if kind == "Link":
            attr, text, (target, title) = node["c"]
            if not LINK.match(target.strip()):
                return {"t": "Span", "c": [self.settle(attr), self.settle(text)]}
            target = "#" + as_id(target[1:]) if target.startswith("#") else target
            return {"t": "Link", "c": [self.settle(attr), self.settle(text), [target, title]]}
        return {key: self.settle(value) for key, value in node.items()}

    def _image(self, attr: Node, caption: Node, target: Node) -> Node:
        source, attributes = target[0], dict(attr[2])
        cell = f"cell {attributes['cell']}: " if "cell" in attributes else ""
        if re.match(r"(?!data:|attachment:|file:)(?:[a-z][a-z0-9+.-]+:)?//", source, re.IGNORECASE):
            self.warnings.append(f"{cell}a picture from the web is left out, the report loads nothing: {source}")
            address = "https:" + source if source.startswith("//") else source
            text = self.settle(caption) or _words(address)
            return {"t": "Link", "c": [["", [], []], [_emph("[picture left out: ", text)], [address, ""]]}
        try:
            picture = self._found(source, attributes.get("cell", ""))
        except PictureError as error:
            shown = source if len(source) < 120 else source[:60] + "…"
            self.warnings.append(f"{cell}{error}: {shown}" if source not in self.pictures else f"{cell}{error}")
            return _emph(f"[{error}: {shown}", [])
        self.warnings += [f"{cell}{remark}" for remark in self._remarks(picture)]
        content, suffix = picture.moving if self.medium == "html" else picture.still
        name = f"{hashlib.sha256(content).hexdigest()[:16]}.{suffix}"
        (self.scratch / name).write_bytes(content)
        kept = [[key, attributes[key]] for key in ("alt",) if attributes.get(key)]
        if width := width_of(attributes, picture.size):
            kept.append(["width", width])
        return {"t": "Image", "c": [["", [], kept], self.settle(caption), [name, ""]]}

    def _remarks(self, picture: Picture) -> tuple[str, ...]:
        """Of a moving picture, the page loses nothing."""
        moves = self.medium == "html" and picture.moving != picture.still
        return () if moves else picture.remarks

    def _found(self, source: str, cell: str) -> Picture:
        """The picture behind an address. Raises PictureError."""
        if source in self.pictures:
            return self.pictures[source]
        if source.startswith("data:"):
            return read_picture(decoded(source))
        if source.startswith("attachment:"):
            for name in (source[11:], unquote(source[11:])):
                if (key := f"attachment:{cell}:{name}") in self.pictures:
                    return self.pictures[key]
            raise PictureError("pasted picture not found")
        path = re.sub(r"^file:(?://(?:localhost)?(?=/))?", "", source)
        names = dict.fromkeys([path, unquote(path), unquote(re.sub(r"[?#].*", "", path))])
        for name in (*names, *(name.replace("\\", "/") for name in names)):
            try:
                content = (self.folder / name).read_bytes() if (self.folder / name).is_file() else None
            except (OSError, ValueError) as error:  # no right to read it, or a name that no file can have
                raise PictureError(f"picture not readable ({type(error).__name__})") from error
            if content is not None:
                return read_picture(content)
        raise PictureError("picture not found")


def width_of(attributes: Mapping[str, str], size: tuple[int, int] | None) -> str | None:
    """How wide a picture is to be, in inches or per cent, where its attributes say so in any way that HTML knows."""
    style = dict(re.findall(r"([a-z-]+)\s*:\s*([^;]+)", attributes.get("style", "").lower()))
    for given in (attributes.get("width"), style.get("width")):
        if (width := _length(given)) is not None:
            return width
    for given in (attributes.get("height"), style.get("height")):
        height = _length(given)
        if height and height.endswith("in") and size and size[1]:
            return f"{float(height[:-2]) * size[0] / size[1]:.3f}in"
    return None


def _length(text: str | None) -> str | None:
    """A length of HTML or CSS: `50%`, or inches, such as `4.167in` for `400` and `400px`."""
    match = re.fullmatch(r"\s*\+?(\d{1,6}(?:\.\d+)?|\.\d+)\s*(px|pt|in|cm|mm|em|rem|%)?\s*", text or "", re.IGNORECASE)
    if not match or not float(match[1]):
        return None
    number, unit = float(match[1]), (match[2] or "px").lower()
    return f"{min(number, 100):g}%" if unit == "%" else f"{number * INCHES[unit]:.3f}in"


def _clean(attributes: list[list[str]]) -> list[list[str]]:
    kept = []
    for key, value in attributes:
        if key == "style":
            value = ";".join(part for part in value.split(";") if DECLARATION.fullmatch(part))
        if key in ATTRIBUTES and value:
            kept.append([key, value])
    return kept


def _is_attr(node: list[Any]) -> bool:
    """Whether a list is [identifier, classes, attributes]."""
    return (
        len(node) == 3 and isinstance(node[0], str) and isinstance(node[1], list) and isinstance(node[2], list)
        and all(isinstance(name, str) for name in node[1])
        and all(isinstance(pair, list) and len(pair) == 2 for pair in node[2])
    )  # fmt: skip


def _is_raw(node: Node) -> bool:
    return isinstance(node, dict) and node.get("t") in ("RawInline", "RawBlock")


def _words(text: str) -> list[Node]:
    return [{"t": "Str", "c": text}]


def _emph(opening: str, inlines: list[Node]) -> Node:
    return {"t": "Emph", "c": [*_words(opening), *inlines, *_words("]")]}
