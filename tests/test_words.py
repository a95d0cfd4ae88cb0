"""Plain words and short sentences: what a reader in a second language would have to look up stays out."""

import json
from pathlib import Path

import pytest
from helpers import readability

ROOT = Path(__file__).parents[1]
SOURCES = [*sorted((ROOT / "deeplab_lib").rglob("*.py")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
TEXTS = [*NOTEBOOKS, ROOT / "README.md"]


def name_of(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [*SOURCES, *NOTEBOOKS], ids=name_of)
def test_no_rare_word(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = (cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")
        text = "\n".join("".join(cell["source"]) for cell in cells)
    assert not [line for line in text.splitlines() if readability.RARE.search(line)]


def paragraphs(path):
    return (
        readability.notebook(path) if path.suffix == ".ipynb" else readability.prose(path.read_text(encoding="utf-8"))
    )


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_sentences_are_short(path):
    assert not readability.too_long(paragraphs(path))


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_no_archaic_or_ambiguous_word(path):
    assert not readability.unclear(paragraphs(path))


def test_words_and_sentences_by_hand():
    text = (
        "A run, `ce`, of CE + Lovász (warm-up) reaches 0.5 [@guo2017]. It is *good*.\n\n# Head\n\n- One $x$ only\n- Two"
    )
    found = readability.sentences(readability.prose(text))
    assert [readability.words(sentence) for sentence in found] == [4, 3, 2, 1]
