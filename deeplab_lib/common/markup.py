"""Text that somebody else wrote, on its way into a document: it is shown as it stands and never read as markup.

`as_text` is applied where a file is read. It replaces every character that HTML, Markdown, LaTeX, Typst or a format
string could act on by a stand-in from Unicode's private use area, which none of them knows. So the text may go through
sentences, tables and captions; where these are displayed, `as_markdown`, `as_html`, `as_label` or `as_plain` puts the
characters back in a form that is inert there. On a way that forgets to do so, the text shows boxes and does no harm.
"""

import re
from typing import Any

FIRST = 0xE000  # of the private use area: the stand-in of the character c is FIRST + ord(c)
STAND_IN = re.compile("[\ue000-\ue07f]")
# An underscore within a word (DeepLabV2_ce) and a colon that begins no address are as good as letters.
ACTIVE = re.compile(r"""[<>&*`$\\\[\]{}#@!~^|"']|(?<![^\W_])_|_(?![^\W_])|:(?=//)|-(?=-)|(?<=-)-|\.(?=\.)|(?<=\.)\.""")
LEADING = re.compile(
    r"^[-+=%:]|(?<=^\d)[.)](?=\s)"
)  # what makes a list, a heading or a comment at the beginning of a paragraph
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ue000-\uf8ff]+")
CODE = re.compile(r"(?P<ticks>`+)(?P<code>.+?)(?P=ticks)", re.DOTALL)


def as_text(value: object) -> str:
    """`value` as text without markup, in one line; what cannot be printed (terminal sequences, too) is a space."""
    text = STAND_IN.sub(_original, str(value))  # what is text already stays as it is
    text = UNPRINTABLE.sub(" ", text)
    for pattern in (ACTIVE, LEADING):
        text = pattern.sub(lambda match: chr(FIRST + ord(match[0])), text)
    return text


def all_text(value: Any, keep: frozenset[str] = frozenset()) -> Any:
    """What a JSON file holds, with every string and key in it `as_text`; the values of the keys `keep` as they are."""
    if isinstance(value, dict):
        return {as_text(key): inner if key in keep else all_text(inner, keep) for key, inner in value.items()}
    if isinstance(value, list):
        return [all_text(inner, keep) for inner in value]
    return as_text(value) if isinstance(value, str) else value


def as_plain(text: str) -> str:
    """The text as it was: for terminals, file names, JSON and attributes, which escape by themselves."""
    return STAND_IN.sub(_original, text)


def as_html(text: str) -> str:
    """HTML in which the stand-ins show as text; a dollar stands in an element of its own, where it opens no formula."""
    return STAND_IN.sub(_entity, text)


def as_markdown(text: str) -> str:
    """Markdown in which the stand-ins show as text, within code too."""
    code = CODE.sub(lambda match: as_plain(match[0].replace(chr(FIRST + ord("`")), "ˋ")), text)
    return STAND_IN.sub(lambda match: f"&#{ord(_original(match))};", code)


def as_label(text: str) -> str:
    """Text of a figure, in which a dollar opens no formula."""
    return STAND_IN.sub(lambda match: "\\$" if _original(match) == "$" else _original(match), text)


def _original(match: re.Match[str]) -> str:
    return chr(ord(match[0]) - FIRST)


def _entity(match: re.Match[str]) -> str:
    entity = f"&#{ord(_original(match))};"
    return f"<span>{entity}</span>" if _original(match) in "$\\" else entity
