"""How long the sentences of a text are, as a reader counts: names of runs, formulas and citations are one word each."""

import json
import re
from pathlib import Path
from statistics import median

from bs4 import BeautifulSoup

MEDIAN, LONGEST = 20, 40  # words a sentence
RARE = re.compile(r"(?i)\b(whither|knobs?|told|mend|plainly|thaws|farewell|barred)\b")
# Archaic, or with several meanings of which a reader may take the wrong one.
AMBIGUOUS = re.compile(
    r"(?i)\b(surely|hitherto|thereby|whereby|wherein|besides|lest|yardsticks?|reckon(s|ed)?|convicts?|for ever|"
    r"h[eo]ld(s|ing)? against|bears?|lies? (with|against) (it|a|the) claim|told (apart|from)|hence|shy|luck of|"
    r"bonnets?|prams?|specks?|restless|microphones?|in passing|by heart|moods?|lives (from|and dies))\b"
)
RUN = re.compile(r"\bCE(?: ?\+ ?[\wáÁ]+)+(?: \(warm-up\))?|\bCE \(warm-up\)")
SKIPPED = re.compile(
    r"^(```|~~~).*?^\1[^\n]*$|\$\$.*?\$\$|\\begin\{(\w+\*?)\}.*?\\end\{\2\}|<[^>]*>", re.DOTALL | re.MULTILINE
)
LINKS = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
CITED = re.compile(r"\[-?@[^\]]*\]")
WORD = re.compile(r"[^\W\d_][\w'’\-]*")
END = re.compile(r"(?<=[.!?])[*_”’)]*\s+(?=[*_“‘(]*[A-ZÀ-Þ@])")


def prose(markdown: str) -> list[str]:
    """The paragraphs and list items of Markdown; code blocks, display formulas, headings and tables left out."""
    text = SKIPPED.sub("\n\n", markdown)
    text = re.sub(r"\$[^$\n]+\$|`[^`\n]+`", "Code", CITED.sub("", LINKS.sub(r"\1", text)))
    parts = re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.)\s)", text)
    return [re.sub(r"\s+", " ", part).strip() for part in parts if not re.match(r"\s*[#|]", part) and part.strip()]


def page(html: str) -> list[str]:
    """The paragraphs, list items, captions and notes of a report; formulas, tables, code and references left out."""
    soup = BeautifulSoup(html, "html.parser")
    for element in soup.select("nav, pre, table, style, math, code, #refs"):
        element.replace_with("Code" if element.name in ("math", "code") else " ")
    parts = [part for part in soup.select("p, li, figcaption, .note, .warning") if not part.find(["p", "li"])]
    return [re.sub(r"\s+", " ", part.get_text()).strip() for part in parts]


def sentences(paragraphs: list[str]) -> list[str]:
    """The sentences of paragraphs; "et al. [1]" and "x = 0.5" end none."""
    return [sentence for part in paragraphs for sentence in END.split(RUN.sub("CE", part)) if words(sentence)]


def words(sentence: str) -> int:
    """The number of words in a sentence; numbers and single letters are none."""
    return sum(len(word) > 1 and word != "Code" for word in WORD.findall(sentence))


def notebook(path: Path) -> list[str]:
    """`prose` of all Markdown cells of a notebook."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [part for cell in cells if cell["cell_type"] == "markdown" for part in prose("".join(cell["source"]))]


def too_long(paragraphs: list[str]) -> dict[str, int]:
    """`{sentence: words}` of the sentences over `LONGEST`; an AssertionError where their median is over `MEDIAN`."""
    lengths = {sentence: words(sentence) for sentence in sentences(paragraphs)}
    assert median(lengths.values()) <= MEDIAN
    return {sentence: number for sentence, number in lengths.items() if number > LONGEST}


def unclear(paragraphs: list[str]) -> list[str]:
    """The paragraphs with a word that is rare, archaic or ambiguous."""
    return [part for part in paragraphs if RARE.search(part) or AMBIGUOUS.search(part)]
