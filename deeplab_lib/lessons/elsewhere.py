"""What other libraries mean by the same word: measured values with version and reason, as tables for the lessons.

`elsewhere.json` holds what was measured; `python -m benchmarks.elsewhere` measures it again with what is installed.
"""

from importlib import metadata
from importlib.resources import files

import pandas as pd
import torch
from torch import Tensor

from deeplab_lib.common.files import read_json
from deeplab_lib.labels import IGNORE_INDEX, NUM_CLASSES

FILE = files("deeplab_lib.lessons") / "elsewhere.json"
SECTIONS = ("losses", "miou", "operations", "conversions")
# The two pictures of `loss_batch`; the sizes of a grid are odd here as they are in training.
GRID, BLOCK = (33, 65), (3, 5)


def loss_batch(kind: str = "street") -> tuple[Tensor, Tensor]:
    """Logits `(2, 19, 33, 65)` and labels `(2, 33, 65)` on which losses of many libraries were measured.

    Class c has about 1/(c + 1) of the pixels; road is predicted too often. kind: "clean" (every class in both
    pictures, no void), "street" (the upper seven rows void, classes 16 and 18 nowhere, class 5 in one picture only) or
    "void" (all labels void).
    """
    draw = torch.Generator().manual_seed(25)
    cells = [side // block for side, block in zip(GRID, BLOCK, strict=True)]
    shares = 1 / torch.arange(1, NUM_CLASSES + 1)
    coarse = torch.multinomial(shares, 2 * cells[0] * cells[1], replacement=True, generator=draw).view(2, *cells)
    coarse[:, -2:] = torch.arange(2 * cells[1]).view(2, cells[1]) % NUM_CLASSES  # below: no class is missing
    labels = coarse.repeat_interleave(BLOCK[0], 1).repeat_interleave(BLOCK[1], 2)
    logits = torch.randn(2, NUM_CLASSES, *GRID, generator=draw)
    logits.scatter_add_(1, labels[:, None], torch.full((2, 1, *GRID), 2.5))
    logits[:, 0] += 1
    if kind != "clean":
        labels[:, :7] = IGNORE_INDEX
        labels[(labels == 16) | (labels == 18)] = 0
        labels[1][labels[1] == 5] = 0
    if kind == "void":
        labels.fill_(IGNORE_INDEX)
    return logits, labels


def miou_pair() -> tuple[Tensor, Tensor]:
    """Labels and predictions `(1, 64, 128)`, int64, on which the mIoU of many libraries was measured.

    Eight rows are void, with class 18 predicted on them; classes 14 and 15 are in neither map, 16 is predicted only.
    """
    draw = torch.Generator().manual_seed(25)
    coarse = torch.randint(0, 18, (8, 16), generator=draw)
    coarse[(coarse == 14) | (coarse == 15) | (coarse == 16)] = 18
    wrong = torch.rand(8, 16, generator=draw) < 0.25
    guess = torch.where(wrong, coarse.roll(1, 1), coarse)
    labels, predictions = (x.repeat_interleave(8, 0).repeat_interleave(8, 1)[None] for x in (coarse, guess))
    predictions[0, 40:48, 16:32] = 16
    labels[:, :8], predictions[:, :8] = IGNORE_INDEX, 18
    return labels, predictions


def entries(section: str) -> list[dict]:
    """The entries of a section ("losses", "miou", "operations" or "conversions") of `elsewhere.json`, in its order.

    Each has at least `library`, `version`, `date`, `name` and `reason`; measured ones a `value`, a number or a word.
    """
    return read_json(str(FILE))[section]


def installed(library: str) -> str | None:
    """The installed version of a package by its name in the package index; None where it is not installed."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def table(section: str, *columns: str, **chosen: str) -> pd.DataFrame:
    """The entries of a section whose fields are as `chosen`, with these columns, one row a library and name."""
    rows = [entry for entry in entries(section) if all(entry.get(key) == value for key, value in chosen.items())]
    index = [f"{entry['library']} {entry['version']}: {entry['name']}" for entry in rows]
    return pd.DataFrame([{column: entry.get(column, "") for column in columns} for entry in rows], index=index)
