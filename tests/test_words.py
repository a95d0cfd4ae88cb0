"""Plain words: what a reader in a second language would have to look up stays out of the library and its documents."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RARE = re.compile(r"(?i)\b(whither|knobs?|told|mend|plainly|thaws|farewell|barred)\b")
SOURCES = [*sorted((ROOT / "deeplab_lib").rglob("*.py")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))


@pytest.mark.parametrize("path", [*SOURCES, *NOTEBOOKS], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_rare_word(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = (cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")
        text = "\n".join("".join(cell["source"]) for cell in cells)
    assert not [line for line in text.splitlines() if RARE.search(line)]
