"""The title block of a report: where a notebook may say it, and what it may say."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from deeplab_lib.common.types import PathLike

FRONT_MATTER_MIME = "application/vnd.deeplab.report+json"
TEXTS = {"title", "subtitle", "date", "abstract", "scope"}
LISTS = {"author", "affiliation", "keywords"}
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


def as_list(value: Any) -> list[Any]:
    """None, one thing or several, as a list."""
    if value is None or value == "":
        return []
    several = isinstance(value, Iterable) and not isinstance(value, (str, Path, Mapping))
    return list(value) if several else [value]


def front_matter_of(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Title and authors from the notebook's metadata: nbconvert's own keys, then ours under `report`."""
    front = {"title": metadata.get("title"), "author": metadata.get("authors")}
    own = metadata.get("report")
    return {key: value for key, value in (front | (dict(own) if isinstance(own, dict) else {})).items() if value}


def normal_front(front: Mapping[str, Any]) -> dict[str, Any]:
    """Lists of strings where several are possible, strings elsewhere; what says nothing is left out.

    `{"name": ...}`, as Quarto writes people and places, is their name.
    """
    normal: dict[str, Any] = {key: front[key] for key in ("bibliography", "draft") if front.get(key)}
    normal |= {key: _words(front[key]) for key in TEXTS if front.get(key) is not None}
    for key in LISTS:
        values = front.get(key)
        if key == "keywords" and isinstance(values, str):
            values = values.split(",")
        normal[key] = [name for name in map(_words, as_list(values)) if name]
    if language := re.match(r"([A-Za-z]{2,3})\b", str(front.get("lang") or "")):
        normal["lang"] = language[1].lower()
    return {key: value for key, value in normal.items() if value}


def _words(value: Any) -> str:
    """A person, a place or a sentence as text."""
    if isinstance(value, Mapping):
        parts = [value.get(key) for key in ("literal", "given", "family")]
        value = value.get("name") or " ".join(str(part) for part in parts if part)
        if isinstance(value, Mapping):
            return _words(value)
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    return UNPRINTABLE.sub(lambda match: "\n" if "\n" in match[0] else " ", str(value)).strip()


def bibtex(sources: Any, folder: PathLike = ".") -> str:
    """BibTeX text of `sources`: BibTeX text, a path to a .bib file in `folder`, or a list of these.

    Raises FileNotFoundError for a file that is not there.
    """
    texts = []
    for source in as_list(sources):
        if isinstance(source, str) and re.search(r"@\w+\s*\{", source):
            texts.append(source.strip())
            continue
        path = Path(folder, str(source))
        if not path.is_file():
            raise FileNotFoundError(
                f"no bibliography {str(source)!r} in {path.parent}: give BibTeX text or a .bib file"
            )
        texts.append(path.read_text(encoding="utf-8", errors="replace").strip())
    return "\n\n".join(texts)
