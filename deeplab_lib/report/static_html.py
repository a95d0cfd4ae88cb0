"""HTML as paper can show it: style sheets have become attributes, and what would load or run leaves a trace."""

import html
import re
from collections import defaultdict
from typing import NamedTuple

from bs4 import BeautifulSoup, Tag
from soupsieve import SelectorSyntaxError

# What shows something of its own that no paper can, in a reader's words. Scripts are asked for apart.
ACTIVE = {
    "iframe": "web page",
    "frame": "web page",
    "object": "embedded object",
    "embed": "embedded object",
    "applet": "applet",
    "video": "video",
    "audio": "sound",
    "canvas": "drawing made by a script",
    "script": "script",
    "link": "style sheet",
}
ACTIVE_IN_MARKDOWN = (
    r"<(?P<tag>iframe|object|applet|video|audio|canvas|script|style)\b[^>]*>.*?</(?P=tag)\s*>|<(?:embed|link)\b[^>]*>"
)
CSS_URL = re.compile(r"""(?:url\(\s*|@import\s+)["']?(?!data:|#|url\()([^"')\s]+)""")
# Comments, `@import ...;` and blocks for some media or moments (`@media print {...}`).
CSS_NOT_A_RULE = re.compile(r"/\*.*?\*/|@[^{};]*;|@[^{};]*\{(?:[^{}]*\{[^{}]*\})*[^{}]*\}", re.DOTALL)
HIDDEN = re.compile(r"display\s*:\s*none(?!.*display\s*:)", re.DOTALL)


class StaticHTML(NamedTuple):
    """`html` as it can be set; `left_out`: what it lost; `shows`: whether more than traces is left of it.

    `asks`: it has form fields, so that it was made for a screen.
    """

    html: str
    left_out: list[str]
    shows: bool
    asks: bool


def static_html(text: str) -> StaticHTML:
    """What an HTML output shows without a network, scripts and a screen."""
    soup = BeautifulSoup(text, "html.parser")
    for button in soup.find_all(["button", "template"]):
        button.decompose()
    asks = soup.find(["input", "select", "textarea"]) is not None
    addresses = CSS_URL.findall(" ".join([*map(Tag.get_text, soup.find_all("style")), *_inline_styles(soup)]))
    _apply_style_sheets(soup)
    for element in soup.find_all(_is_unseen):
        element.decompose()
    for element in soup.find_all("noscript"):
        element.unwrap()
    traces = []
    for element in soup.find_all(list(ACTIVE)):
        if element.decomposed:  # within another that is gone
            continue
        if (what := left_out(element)) and not _is_decoration(element):
            traces.append(what)
            element.replace_with(BeautifulSoup(_trace(what), "html.parser"))
        else:
            element.decompose()
    for element in soup.find_all(class_=re.compile("tex2jax_ignore|mathjax_ignore")):
        _dollars_as_text(element)
    for head in soup.find_all("thead"):
        _merge_index_names(head)
    for address in dict.fromkeys(addresses):
        traces.append(f"what its style loads: {address}")
        soup.append(BeautifulSoup(f"<p>{_trace(traces[-1])}</p>", "html.parser"))
    shown = _without_traces(soup)
    return StaticHTML(str(soup), traces, shown, asks)


def static_markdown(text: str) -> tuple[str, list[str]]:
    """HTML that would load or run, within Markdown, as the trace of it; and what was left out."""
    element = BeautifulSoup(text, "html.parser").find(True)
    if not isinstance(element, Tag):
        return "", []
    if element.name == "style":
        traces = [f"what a style loads: {address}" for address in CSS_URL.findall(element.get_text())]
    else:
        traces = [what] if (what := left_out(element)) else []
    return "".join(map(_trace, traces)), traces


def left_out(element: Tag) -> str:
    """What an active element was, with its address: `web page: https://example.org`; "" for what shows nothing."""
    if element.name == "link" and "stylesheet" not in _attribute(element, "rel"):
        return ""
    tags = [element, *element.find_all(["source", "embed"])]
    found = (_attribute(tag, key) for key in ("src", "data", "href") for tag in tags)
    address = next(filter(None, found), "")
    what = ACTIVE[element.name]
    if element.name == "script" and not address:
        kind = _attribute(element, "type")
        return "" if "json" in kind or "math/" in kind else what
    if address.startswith(("data:", "blob:")) or not address:
        title = _attribute(element, "title")
        return f"{what}: {title}" if title else what
    return f"{what}: {address}"


def _trace(what: str) -> str:
    name, _, address = what.partition(": ")
    if re.match(r"(?:https?:)?//", address):
        address = ("https:" if address.startswith("//") else "") + address
        return f'<em>[{name} left out: <a href="{html.escape(address)}">{html.escape(address)}</a>]</em>'
    rest = f": {html.escape(address)}" if address else ""
    return f"<em>[{html.escape(name)} left out{rest}]</em>"


def _is_decoration(element: Tag) -> bool:
    """The scripts with which Colab surrounds every table, whose buttons are gone."""
    return element.find_parent(class_=re.compile("^colab-df")) is not None


def _without_traces(soup: BeautifulSoup) -> bool:
    """Whether more is to be seen than traces."""
    if soup.find(["img", "svg", "math", "hr"]):
        return True
    for text in soup.find_all(string=True):
        within = text.find_parent("em")
        if text.strip() and not (within and re.match(r"\[.* left out", within.get_text())):
            return True
    return False


def _inline_styles(soup: BeautifulSoup) -> list[str]:
    return [_attribute(element, "style") for element in soup.find_all(style=True)]


def _attribute(element: Tag, name: str) -> str:
    value = element.get(name) or ""
    return value if isinstance(value, str) else " ".join(value)


def _is_unseen(element: Tag) -> bool:
    return element.name in ("style", "title") or HIDDEN.search(_attribute(element, "style")) is not None


def _apply_style_sheets(soup: BeautifulSoup) -> None:
    """`<style>` rules (pandas' Styler) become `style` attributes; rules that paper cannot show (`:hover`) are dropped.

    Styler writes one selector a cell: those are looked up, and not searched for in the whole table.
    """
    sheets = soup.find_all("style")
    by_id: dict[str, list[Tag]] = defaultdict(list)
    for element in soup.find_all(id=True) if sheets else []:
        by_id[_attribute(element, "id")].append(element)
    for sheet in sheets:
        text = CSS_NOT_A_RULE.sub("", sheet.get_text())
        for selectors, rules in re.findall(r"([^{}]+)\{([^{}]*)\}", text):
            rules = "".join(rules.split("\n")).strip().rstrip(";") + ";"
            for selector in selectors.split(","):
                for element in _selected(soup, selector.strip(), by_id):
                    own = _attribute(element, "style").rstrip("; ")
                    element["style"] = f"{own};{rules}" if own else rules


def _selected(soup: BeautifulSoup, selector: str, by_id: dict[str, list[Tag]]) -> list[Tag]:
    if re.fullmatch(r"#[\w-]+", selector):
        return by_id[selector[1:]]
    try:
        return soup.select(selector)
    except (SelectorSyntaxError, NotImplementedError):
        return []


def _dollars_as_text(element: Tag) -> None:
    """A dollar in an element of its own opens no formula."""
    for text in element.find_all(string=re.compile(r"\$")):
        pieces = html.escape(str(text), quote=False).replace("$", "<span>$</span>")
        text.replace_with(BeautifulSoup(pieces, "html.parser"))


def _merge_index_names(head: Tag) -> None:
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
