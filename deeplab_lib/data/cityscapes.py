"""Cityscapes as it is downloaded: what identifies it, what is wrong with its files, and a PyTorch data set of them."""

import hashlib
import io
import json
import os
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from deeplab_lib import bootstrap, toycity
from deeplab_lib.common.errors import short_traceback
from deeplab_lib.common.files import absolute, project_root
from deeplab_lib.common.types import PathLike, Size
from deeplab_lib.data.archives import Member
from deeplab_lib.data.label_files import Labels, read_label_file
from deeplab_lib.data.normalization import RGB_IMAGENET, Normalization
from deeplab_lib.data.pairs import LABEL_SOURCES, SPLITS, Pair, archive_beside, match, scan
from deeplab_lib.data.pictures import image_size, read_bytes, read_image, resize_image, stream_size
from deeplab_lib.labels import IGNORE_INDEX

IDENTIFIED_BY = "names, sizes of images, contents of labels"  # what a fingerprint is made of
# The cities of the fine annotations' training and validation splits: what tells a subset from other data.
CITIES = {
    *("aachen", "bochum", "bremen", "cologne", "darmstadt", "dusseldorf", "erfurt", "hamburg", "hanover", "jena"),
    *("krefeld", "monchengladbach", "strasbourg", "stuttgart", "tubingen", "ulm", "weimar", "zurich"),
    *("frankfurt", "lindau", "munster"),
}


class Facts(NamedTuple):
    """What a pair's files tell without being decoded; the sizes are (height, width), None where nobody looked."""

    image_size: Size | None
    label_size: Size | None
    image_bytes: int
    label_crc: int


class DatasetInfo(NamedTuple):
    """What a run records of its data; `subset` says how it differs from the published Cityscapes, if it does.

    counts: images of each split. labels: kind of the label files. label_size: (height, width) of the first validation
    label; `label_sizes` holds those of all. digests: fingerprint of each split. pairs: its files.
    """

    root: str
    synthetic: bool
    subset: str | None
    counts: dict[str, int]
    labels: str
    label_size: Size
    label_sizes: set[Size]
    fingerprint: str
    digests: dict[str, str]
    pairs: dict[str, list[Pair]]


def data_root(data: PathLike | None = None) -> Path | None:
    """The data set's root: `data`, else `$CITYSCAPES_DATASET` (as in cityscapesScripts), else None.

    A relative path is looked for in the current folder, in the project, and where Kaggle and Colab mount data.
    """
    data = str(data or os.environ.get("CITYSCAPES_DATASET") or "")
    if not data:
        return None
    here = absolute(data)
    places = [here, project_root() / data, *([] if Path(data).is_absolute() else bootstrap.mounted(data))]
    return next((place for place in places if place.exists()), here)


def check(
    root: PathLike, splits: Sequence[str] = ("train", "val"), scenes: Mapping[str, Sequence[int]] | None = None
) -> None:
    """Refuse, in one line, data that a run would stumble over later; decodes nothing."""
    survey(root, splits, scenes)


@short_traceback
def survey(
    root: PathLike, splits: Sequence[str], scenes: Mapping[str, Sequence[int]] | None = None
) -> dict[str, tuple[list[Pair], list[Facts]]]:
    """The pairs of each split and their `Facts`, `{split: ([Pair], [Facts])}`; refuses what `check` is there for."""
    found = {split: match(root, split, (scenes or {}).get(split, ())) for split in splits}
    for split, (_, left) in found.items():
        if left and split != "test":
            advice = archive_beside(root, f"leftImg8bit/{split}") or "; copy it, or leave out its label too"
            what = f"{left[0]} has no image in leftImg8bit/{split} of {root}"
            raise FileNotFoundError(what + (f", nor have {len(left) - 1:,} other labels" if left[1:] else "") + advice)
    names = Counter((pair.city, pair.name) for pairs, _ in found.values() for pair in pairs)
    if repeated := [name for (_, name), count in names.items() if count > 1]:
        raise ValueError(f"{repeated[0]} is in more than one of the splits {', '.join(splits)} of {root}; remove one")
    return {split: (pairs, look_at(pairs)) for split, (pairs, _) in found.items()}


def look_at(pairs: Sequence[Pair]) -> list[Facts]:
    """`Facts` of each pair; `ValueError` where image and label differ in size.

    On a network drive every file costs a round trip: several at once. In archives, which cannot lose a file on the
    way, only some are opened. Whatever is decoded later is compared again.
    """
    step = 50 if any(isinstance(pair.image, Member) for pair in pairs[:1]) else 1
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda number, pair: _facts(pair, number % step == 0), range(len(pairs)), pairs))


def _facts(pair: Pair, closely: bool) -> Facts:
    image, image_bytes = _head(pair.image, closely)
    if pair.label is None:
        return Facts(image, None, image_bytes, 0)
    if isinstance(pair.label, Member):
        label, crc = _head(pair.label, closely)[0], pair.label.crc
    else:
        content = read_bytes(pair.label)
        label, crc = stream_size(io.BytesIO(content), pair.label), zlib.crc32(content)
    if image and label:
        _check_sizes(pair, image, label)
    return Facts(image, label, image_bytes, crc)


def _head(file: Path | Member, closely: bool) -> tuple[Size | None, int]:
    """Size in pixels, if it is looked at closely, and in bytes of an image file."""
    if isinstance(file, Member):
        return image_size(file) if closely else None, file.size
    with file.open("rb") as stream:  # both by one opening
        return stream_size(stream, file), os.fstat(stream.fileno()).st_size


def _check_sizes(pair: Pair, image: Sequence[int], label: Sequence[int]) -> None:
    if image != label:
        sizes = f"{pair.image} is {image[1]}x{image[0]} and {pair.label} is {label[1]}x{label[0]}"
        raise ValueError(f"image and label differ in size (width x height): {sizes}")


def fingerprint(
    root: PathLike,
    pairs: Sequence[Pair],
    facts: Sequence[Facts] | None = None,
    scenes: Mapping[str, Sequence[int]] | None = None,
) -> str:
    """SHA-256 that is the same on disk and zipped, wherever and whenever the files were copied; see `IDENTIFIED_BY`.

    Labels, which people correct, are identified by their content; photographs, whose noise leaves hardly two of one
    size, by their number of bytes. A toy city is identified by what it was drawn from: its files depend on Pillow's
    compression.
    """
    digest = hashlib.sha256()
    if (drawn := _drawn_from(root, scenes)) is not None:
        content: list[object] = [drawn, *(pair.name for pair in pairs)]
    else:
        facts = facts or look_at(pairs)
        content = [
            (pair.image.name, seen.image_bytes, pair.label and pair.label.name, seen.label_crc)
            for pair, seen in zip(pairs, facts, strict=True)
        ]
    for part in content:
        digest.update(repr(part).encode())
    return digest.hexdigest()


def _drawn_from(root: PathLike, scenes: Mapping[str, Sequence[int]] | None = None) -> str | None:
    """The text of a toy city's parameters, as if it had but the first `scenes`; None for other data."""
    path = Path(root) / toycity.PARAMETERS_FILE
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8")
    if not scenes:
        return text
    parameters = json.loads(text)
    return toycity.parameters_text({key: scenes[key][-1] if key in scenes else parameters[key] for key in parameters})


def describe(root: PathLike, train: str = "train", scenes: Mapping[str, Sequence[int]] | None = None) -> DatasetInfo:
    """`DatasetInfo` of the data under `root`, which is checked: counts, sizes, fingerprint of what trains and of val.

    `train` is the split that is trained on: "train", or "train_extra" with its coarse labels.
    scenes: of a toy city `{split: ends}`, which scenes to use: those numbered below `ends[0]` come first, then those
    below `ends[1]` ..., each part sorted by name. It is then the same data whatever else was drawn into the folder.
    """
    root = absolute(root)
    found = survey(root, (train, "val"), scenes)
    digests = {split: fingerprint(root, *seen, scenes) for split, seen in found.items()}
    train_pairs, (val_pairs, facts) = found[train][0], found["val"]
    counts = {"train": len(train_pairs), "val": len(val_pairs)}
    synthetic = _drawn_from(root) is not None
    labels = [pair.label for pair in val_pairs if pair.label]  # every one: only the test split has pairs without
    sizes = [seen.label_size or image_size(label) for label, seen in zip(labels, facts, strict=True)]
    source = next(kind for kind in LABEL_SOURCES if labels[0].name.lower().endswith(f"_{kind.lower()}.png"))
    known = val_pairs + (train_pairs if train == "train" else [])  # the coarse images come from other cities
    subset = None if synthetic else _subset(counts, {pair.city for pair in known}, train)
    return DatasetInfo(
        root=str(root),
        synthetic=synthetic,
        subset=subset,
        counts=counts,
        labels=source,
        label_size=sizes[0],
        label_sizes=set(sizes),
        fingerprint=hashlib.sha256("".join(digests.values()).encode()).hexdigest(),
        digests=digests,
        pairs={split: pairs for split, (pairs, _) in found.items()},
    )


def _subset(counts: Mapping[str, int], cities: set[str], train: str) -> str | None:
    if not cities <= CITIES:
        return f"not Cityscapes: {counts['train']:,} training and {counts['val']:,} validation images in its layout"
    whole = {"training": (counts["train"], SPLITS[train]), "validation": (counts["val"], SPLITS["val"])}
    missing = [f"{there:,} of {all_:,} {word} images" for word, (there, all_) in whole.items() if there != all_]
    return ", ".join(missing) or None


def resize_labels(labels: np.ndarray, size: Size) -> np.ndarray:
    """`(H, W)` to `size` = (height, width): the label under each new pixel's centre."""
    (old_h, old_w), (h, w) = labels.shape, size
    rows, columns = (2 * np.arange(h) + 1) * old_h // (2 * h), (2 * np.arange(w) + 1) * old_w // (2 * w)
    return labels[rows[:, None], columns]


class Cityscapes(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """One split as tensors: image float `(3, H, W)`, labels int64 `(H, W)` with train ids and 255 for void.

    `size` = (height, width) of both, None for the files' own; `normalization` turns uint8 `(H, W, 3)` into the image.
    `pairs`: the scenes, where they are known already.
    """

    def __init__(
        self,
        root: PathLike,
        split: str,
        size: Size | None = None,
        normalization: Normalization = RGB_IMAGENET,
        pairs: list[Pair] | None = None,
    ) -> None:
        self.pairs = pairs or scan(root, split)
        self.size: Size | None = (size[0], size[1]) if size else None
        self.normalization = normalization

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, labels = self.raw(index)
        return self.normalization(image), torch.from_numpy(labels.astype(np.int64))

    def raw(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image uint8 `(H, W, 3)` and train ids uint8 `(H, W)` at the data set's size."""
        return self.read(index)[:2]

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray, Labels | None]:
        """As `raw`, and the `Labels` of the file; None where there is none."""
        pair = self.pairs[index]
        image = read_image(pair.image)
        labels = None if pair.label is None else read_label_file(pair.label)
        train_ids = np.full(image.shape[:2], IGNORE_INDEX, np.uint8) if labels is None else labels.train_ids
        _check_sizes(pair, image.shape[:2], train_ids.shape)
        if self.size:
            return resize_image(image, self.size), resize_labels(train_ids, self.size), labels
        return image, train_ids, labels

    def full(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """As `raw`, at the files' own size, as the official evaluation needs them; no label file means all void."""
        whole = copy(self)
        whole.size = None
        return Cityscapes.raw(whole, index)

    def full_labels(self, index: int) -> np.ndarray:
        """Train ids uint8 `(H, W)` at the label file's own size."""
        return read_label_file(self.pairs[index].label).train_ids  # type: ignore[arg-type]  # only test has none


class Resized(Cityscapes):
    """One split, all of it at one size."""

    size: Size
