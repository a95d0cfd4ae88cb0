"""What a label file holds, decided in one place: of each file from its pixels, of a data set from all its values.

Decoded is what is certain: grey values of any depth, a palette through its table, three equal channels, Cityscapes'
own colours. What is not certain is refused in one line with what was seen. Whether numbers are label ids or train ids
no single file tells; `judge` decides by the values of all.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from deeplab_lib.common.content import kind_of
from deeplab_lib.data.archives import Member
from deeplab_lib.data.mappings import by_name
from deeplab_lib.data.pictures import decode_picture, read_bytes
from deeplab_lib.data.sources import numbered_names
from deeplab_lib.labels import CLASS_NAMES, IGNORE_INDEX, LABELS, NUM_CLASSES, TRAIN_ID_OF_ID

TRAIN_IDS = np.array([value if value in (*range(NUM_CLASSES), IGNORE_INDEX) else -1 for value in range(256)], np.int16)
LEGAL = {"labelIds": "label ids 0-33 and 255", "labelTrainIds": "train ids 0-18 and 255"}
ADVICE = "use the *_labelIds.png or *_labelTrainIds.png files"
MUCH_VOID = 0.5  # share of void above which the labels are shown to the user
SUB_BYTE = {2: 85, 4: 17}  # bits of a grey PNG, and what its values are multiplied by when it is decoded
NAME_OF_ID = {label.id: label.name for label in LABELS}


# How the values of a file were found.
FORMS = (
    *("grey, 8 bits", "grey, 1 bit", "grey, 16 bits", "palette, grey", "palette, Cityscapes' colours"),
    *("three channels, grey", "three channels, Cityscapes' colours"),
)


class Labels(NamedTuple):
    """A label file, read: train ids uint8 `(H, W)`, pixels of each value `(256,)`, and one of `FORMS`."""

    train_ids: np.ndarray
    values: np.ndarray
    form: str


class Verdict(NamedTuple):
    """What the values of a data set say: a part of the run's record, and a warning, if there is one."""

    about: dict
    warning: str | None


def read_labels(file: Path | Member) -> np.ndarray:
    """Train ids, uint8 `(H, W)`, void 255; `ValueError` names the file and a value that no label has."""
    return read_label_file(file).train_ids


def read_label_file(file: Path | Member) -> Labels:
    """The `Labels` in a file; `ValueError` in one line where they are not certain."""
    content = read_bytes(file)
    image = decode_picture(content, file)
    if kind_of(content[:16]) == "JPEG":
        raise ValueError(f"{file} is a JPEG, which blurs numbers: labels must be PNG; {ADVICE}")
    kind = "labelTrainIds" if file.name.lower().endswith("_labeltrainids.png") else "labelIds"
    table = TRAIN_IDS if kind == "labelTrainIds" else TRAIN_ID_OF_ID
    values, form = _values(image, content[24], table, file)
    histogram = np.array(values.histogram(), np.int64)
    for value in map(int, np.flatnonzero(histogram)):
        if table[value] < 0:
            raise ValueError(_illegal(file, value, kind))
    # Pillow's own histogram and lookup: five times as fast as indexing a table with 2048x1024 pixels.
    return Labels(np.array(values.point((table % 256).tolist())), histogram, form)


def _illegal(file: object, value: int, kind: str) -> str:
    hint = ""
    if kind == "labelTrainIds" and value < 34:
        hint = "; if these are label ids, name them *_labelIds.png"
    elif value >= 1000:
        hint = f"; these look like instance ids: {ADVICE}"
    return f"{file} holds the value {value}, which is no label ({LEGAL[kind]} are){hint}"


def _values(image: Image.Image, depth: int, table: np.ndarray, file: object) -> tuple[Image.Image, str]:
    """The numbers of a decoded label as a Pillow picture of mode L, and how they were found."""
    if image.mode == "1":  # what optimisers make of road and void alone; `point` would leave it two-valued
        return image.convert("L"), "grey, 1 bit"
    if image.mode == "L":
        shown = int(np.asarray(image).max()) if depth in SUB_BYTE else 0
        if shown:
            stored = shown // SUB_BYTE[depth]
            raise ValueError(
                f"{file} is a grey PNG of {depth} bits: a stored {stored} means {shown}, and which one is meant is not "
                "certain; save it with 8 bits"
            )
        return image, "grey, 8 bits"
    if image.mode.startswith("I"):
        return _from_16_bits(np.asarray(image).astype(np.int64), table, file), "grey, 16 bits"
    if image.mode == "P":
        return _from_palette(image, table, file)
    if image.mode == "F":
        raise ValueError(f"{file} holds fractions, not label ids: {ADVICE}")
    return _from_channels(image, table, file)


def _from_16_bits(values: np.ndarray, table: np.ndarray, file: object) -> Image.Image:
    if values.max() > 255 and (values % 257 == 0).all() and (table[values // 257] >= 0).all():
        values = values // 257  # 8 bits stretched to 16
    values = np.where(values == 65535, 255, values)
    if values.max() > 255 or values.min() < 0:
        kind = "labelTrainIds" if table is TRAIN_IDS else "labelIds"
        strange = next(value for value in np.unique(values) if not 0 <= value < 256)
        raise ValueError(_illegal(file, strange, kind))
    return Image.fromarray(values.astype(np.uint8))


def _from_palette(image: Image.Image, table: np.ndarray, file: object) -> tuple[Image.Image, str]:
    """A palette is read through its table: as grey values where these are labels, as Cityscapes' colours where not."""
    used = np.flatnonzero(image.histogram())
    palette = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    if used.max() >= len(palette):
        raise ValueError(f"{file} has a palette of {len(palette)} colours and uses number {used.max()}; {ADVICE}")
    lookup, form, strange = _meaning(palette[used], table)
    if lookup is None:
        red, green, blue = palette[used[strange]]
        raise ValueError(
            f"{file} has a palette whose colours are neither grey values that are labels nor Cityscapes' colours "
            f"(number {used[strange]} is {red} {green} {blue}); {ADVICE}, or convert it: kind `table`"
        )
    numbers = np.zeros(256, np.uint8)
    numbers[used] = lookup
    return Image.fromarray(numbers[np.asarray(image)]), f"palette, {form}"


def _from_channels(image: Image.Image, table: np.ndarray, file: object) -> tuple[Image.Image, str]:
    """Several channels: one number three times, or Cityscapes' colours; an opaque alpha channel says nothing."""
    if "A" in image.getbands() and np.asarray(image.getchannel("A")).min() < 255:
        raise ValueError(f"{file} has transparent pixels, which are no labels: {ADVICE}")
    channels = np.asarray(image.convert("RGB"))
    red, green, blue = (channels[..., i].astype(np.uint32) for i in range(3))
    packed = red << 16 | green << 8 | blue
    colors, places = np.unique(packed, return_inverse=True)
    used = np.stack([colors >> 16, colors >> 8 & 255, colors & 255], 1)
    lookup, form, strange = _meaning(used, table)
    if lookup is None:
        share = 100 * np.mean(places == strange)
        color = " ".join(map(str, used[strange]))
        raise ValueError(f"{file} holds colours, not label ids ({color} in {share:.1f} % of its pixels): {ADVICE}")
    return Image.fromarray(lookup[places.reshape(packed.shape)]), f"three channels, {form}"


def _meaning(colors: np.ndarray, table: np.ndarray) -> tuple[np.ndarray | None, str, int]:
    """Values of the `colors` (N, 3), how they were found, 0; or None, "" and the number of one that means nothing."""
    grey = (colors == colors[:, :1]).all(1)
    if grey.all() and (table[colors[:, 0]] >= 0).all():
        return colors[:, 0].astype(np.uint8), "grey", 0
    column = "train_id" if table is TRAIN_IDS else "id"
    known: dict[tuple, int] = {}
    for label in LABELS:
        known.setdefault(label.color, getattr(label, column) % 256)
    found = [known.get(tuple(int(part) for part in color)) for color in colors]
    if None in found:
        return None, "", found.index(None)
    return np.array(found, np.uint8), "Cityscapes' colours", 0


# -- a whole data set --------------------------------------------------------------------------------------------------


def judge(
    values: Mapping[str, np.ndarray], forms: Mapping[str, int], kind: str, root: Path, command: Callable[[], str]
) -> Verdict:
    """Whether the values of all labels are what the files' names say.

    values: pixels of each value `(256,)` in each split; forms: how many files were read how; kind: "labelIds" or
    "labelTrainIds"; command: says how other numberings are converted. Labels that are half void or more give a warning
    with the shares. Raises ValueError where train ids, or an annotation tool's own numbers, are called label ids.
    """
    total = np.sum(list(values.values()), axis=0)
    converted = (root / "mapping.md").is_file()  # written by a conversion, which knows
    if kind == "labelIds" and not converted:
        _refuse_own_numbers(total, root, command)
        _refuse_train_ids(total, root)
    own = shares(total, TRAIN_ID_OF_ID if kind == "labelIds" else TRAIN_IDS)
    warning = None
    if own["void"] > 100 * MUCH_VOID:
        warning = f"the labels of {root} are mostly void ({in_words(own)}); look at the samples before you train"
    about: dict[str, Any] = {"read_as": kind, "forms": dict(forms), "warning": warning}
    about["values"] = {
        split: {str(v): int(counts[v]) for v in np.flatnonzero(counts)} for split, counts in values.items()
    }
    return Verdict(about, warning)


def _refuse_train_ids(total: np.ndarray, root: Path) -> None:
    present = set(np.flatnonzero(total).tolist())
    if present <= {*range(NUM_CLASSES), IGNORE_INDEX} and present - {0, IGNORE_INDEX}:
        as_ids, as_train_ids = shares(total, TRAIN_ID_OF_ID), shares(total, TRAIN_IDS)
        raise ValueError(
            f"the labels of {root} are named labelIds, but hold no value above 18 other than 255, as train ids do "
            f"(read as label ids: {in_words(as_ids, 3)}; as train ids: {in_words(as_train_ids, 3)}): name them "
            "*_labelTrainIds.png; if they are label ids, convert them with a table (kind `table`)"
        )


def _refuse_own_numbers(total: np.ndarray, root: Path, command: Callable[[], str]) -> None:
    """Refuse numbers that a list of classes beside them counts otherwise than Cityscapes does."""
    names = numbered_names(root)
    for value in map(int, np.flatnonzero(total)):
        if value < len(names) and by_name(names[value], 0).label != NAME_OF_ID.get(value, "unlabeled"):
            own, theirs = names[value], NAME_OF_ID.get(value, "none")
            void = shares(total, TRAIN_ID_OF_ID)["void"]
            raise ValueError(
                f"the labels of {root} are numbered by the list of classes beside them ({value} is {own} there, and "
                f"{theirs} in Cityscapes; read as Cityscapes' ids {void:.1f} % are void): {command()}"
            )


def shares(values: np.ndarray, table: np.ndarray) -> dict[str, float]:
    """Percent of the pixels of each class and of void, `{name: percent}`, void first, then the largest."""
    train_ids, pixels = table % 256, max(1, int(values.sum()))
    counts = np.bincount(train_ids, weights=values, minlength=256)
    order = sorted((i for i in range(NUM_CLASSES) if counts[i]), key=lambda i: -counts[i])
    void = 100 * (pixels - counts[:NUM_CLASSES].sum()) / pixels if values.any() else 0.0
    return {"void": void} | {CLASS_NAMES[i]: 100 * counts[i] / pixels for i in order}


def in_words(percents: Mapping[str, float], most: int = 5) -> str:
    """The largest of the shares, void first: "void 87.0 %, road 8.1 %"."""
    return ", ".join(f"{name} {percent:.1f} %" for name, percent in list(percents.items())[: most + 1])
