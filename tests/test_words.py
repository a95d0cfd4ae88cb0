"""Plain words and short sentences: what a reader in a second language would have to look up stays out."""

import json
import re
from pathlib import Path
from statistics import median

import pytest
from helpers import readability

ROOT = Path(__file__).parents[1]
RARE = re.compile(r"(?i)\b(whither|knobs?|told|mend|plainly|thaws|farewell|barred)\b")
# Archaic, or with several meanings of which a reader may take the wrong one.
AMBIGUOUS = re.compile(
    r"(?i)\b(surely|hitherto|thereby|whereby|wherein|besides|lest|yardsticks?|reckon(s|ed)?|convicts?|for ever|"
    r"h[eo]ld(s|ing)? against|bears?|lies? (with|against) (it|a|the) claim|told (apart|from)|hence|shy|luck of)\b"
)
SOURCES = [*sorted((ROOT / "deeplab_lib").rglob("*.py")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
TEXTS = [*NOTEBOOKS, ROOT / "README.md"]
MEDIAN, LONGEST = 20, 40  # words a sentence


def name_of(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [*SOURCES, *NOTEBOOKS], ids=name_of)
def test_no_rare_word(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = (cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")
        text = "\n".join("".join(cell["source"]) for cell in cells)
    assert not [line for line in text.splitlines() if RARE.search(line)]


def paragraphs(path):
    return (
        readability.notebook(path) if path.suffix == ".ipynb" else readability.prose(path.read_text(encoding="utf-8"))
    )


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_sentences_are_short(path):
    lengths = {sentence: readability.words(sentence) for sentence in readability.sentences(paragraphs(path))}
    assert median(lengths.values()) <= MEDIAN
    assert not {sentence: number for sentence, number in lengths.items() if number > LONGEST}


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_no_archaic_or_ambiguous_word(path):
    found = [part for part in paragraphs(path) if RARE.search(part) or AMBIGUOUS.search(part)]
    assert not found


def test_words_and_sentences_by_hand():
    text = (
        "A run, `ce`, of CE + Lovász (warm-up) reaches 0.5 [@guo2017]. It is *good*.\n\n# Head\n\n- One $x$ only\n- Two"
    )
    found = readability.sentences(readability.prose(text))
    assert [readability.words(sentence) for sentence in found] == [4, 3, 2, 1]
