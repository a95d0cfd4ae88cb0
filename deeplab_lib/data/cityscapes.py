"""Cityscapes as it is downloaded: which files belong together, what is wrong with them, and a PyTorch data set of them.

Layout, on disk or inside the official zip files: `leftImg8bit/<split>/<city>/<name>_leftImg8bit.png` and
`gtFine/<split>/<city>/<name>_gtFine_labelIds.png`; the coarse annotations of `train_extra` lie in `gtCoarse`.
"""

import hashlib
import io
import json
import os
import struct
import zipfile
import zlib
from bisect import bisect_right
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from deeplab_lib import toycity
from deeplab_lib.common.errors import short_traceback
from deeplab_lib.common.files import absolute, project_root
from deeplab_lib.data.archives import ARCHIVES, Member, city_of, find_archives, list_files
from deeplab_lib.data.normalization import RGB_IMAGENET
from deeplab_lib.labels import IGNORE_INDEX, NUM_CLASSES, TRAIN_ID_OF_ID

SPLITS = {"train": 2975, "val": 500, "test": 1525, "train_extra": 20000}
LABEL_SOURCES = ("labelIds", "labelTrainIds")
HEADER = 24  # bytes of a PNG up to its width and height
IDENTIFIED_BY = "names, sizes of images, contents of labels"  # what a fingerprint is made of
# The cities of the fine annotations' training and validation splits: what tells a subset from other data.
CITIES = {
    *("aachen", "bochum", "bremen", "cologne", "darmstadt", "dusseldorf", "erfurt", "hamburg", "hanover", "jena"),
    *("krefeld", "monchengladbach", "strasbourg", "stuttgart", "tubingen", "ulm", "weimar", "zurich"),
    *("frankfurt", "lindau", "munster"),
}
TRAIN_IDS = np.array([value if value in (*range(NUM_CLASSES), IGNORE_INDEX) else -1 for value in range(256)], np.int16)


class Pair(NamedTuple):
    """One scene: its files are a `Path` or a zip `Member`; `label` is None where the test split has none."""

    name: str
    image: Path | Member
    label: Path | Member | None
    city: str


class Facts(NamedTuple):
    """What a pair's files tell without being decoded; the sizes are (height, width), None where nobody looked."""

    image_size: tuple[int, int] | None
    label_size: tuple[int, int] | None
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
    label_size: tuple[int, int]
    label_sizes: set[tuple[int, int]]
    fingerprint: str
    digests: dict[str, str]
    pairs: dict[str, list[Pair]]


def data_root(data=None):
    """The data set's root: `data`, else `$CITYSCAPES_DATASET` (as in cityscapesScripts), else None.

    A relative path is looked for in the current folder, then in the project's.
    """
    data = data or os.environ.get("CITYSCAPES_DATASET")
    if not data:
        return None
    here, home = absolute(data), project_root() / data
    return home if home.exists() and not here.exists() else here


def scan(root, split):
    """Pairs of image and label of one split, sorted by name.

    Labels are the `*_labelIds.png` files, or where there is none the `*_labelTrainIds.png`. Raises `FileNotFoundError`
    for a missing split or label and `ValueError` for a name that occurs twice.
    """
    return _match(root, split)[0]


def _match(root, split, ends=()):
    """The pairs of one split, and the label files that no image belongs to; `ends`: of a toy city, see `describe`."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: one of {', '.join(SPLITS)}")
    images = _before(ends, list_files(root, f"leftImg8bit/{split}"))
    images = {file: file.name.removesuffix("_leftImg8bit.png") for file in images if "_leftImg8bit." in file.name}
    if not images:
        raise FileNotFoundError(_nothing_found(Path(root), split))
    repeated = [name for name, count in Counter(images.values()).items() if count > 1]
    if repeated:
        first, second = [file for file, name in images.items() if name == repeated[0]][:2]
        raise ValueError(f"two images share the name {repeated[0]}: {first} and {second}; remove one")
    kind = "gtCoarse" if split == "train_extra" else "gtFine"
    found = {file.name: file for file in _before(ends, list_files(root, f"{kind}/{split}"))}
    suffix = f"_{kind}_{_label_source(found)}.png"
    pairs = [Pair(name, image, found.get(name + suffix), city_of(image)) for image, name in images.items()]
    for pair in pairs:
        if pair.label is None and split != "test":
            expected = f"{kind}/{split}/{pair.city}/{pair.name}{suffix}"
            advice = _archive_beside(root, f"{kind}/{split}")
            raise FileNotFoundError(f"no label for {pair.image}: {expected} is missing from {root}{advice}")
    used = {pair.name + suffix for pair in pairs}
    pairs = sorted(pairs, key=lambda pair: (bisect_right(ends, _number(pair)) if ends else 0, pair))
    return pairs, [file for name, file in found.items() if name.endswith(suffix) and name not in used]


def _before(ends, files):
    """The files whose number lies below the last of `ends`, or all."""
    return [file for file in files if _number(file) < ends[-1]] if ends else files


def _number(file):
    """The number that follows the city in a scene's name."""
    return int(file.name.split("_")[1])


def _archive_beside(root, folder):
    """What to do about an incomplete `folder`, as a clause, if the archive that it was unpacked from is still there."""
    archives = find_archives(root, folder.partition("/")[0]) if (Path(root) / folder).is_dir() else []
    return f"; unpack {archives[0].name} again, or delete {folder}, and the archive itself is read" if archives else ""


def _label_source(found):
    return next((kind for kind in LABEL_SOURCES if any(name.endswith(f"_{kind}.png") for name in found)), "labelIds")


def _nothing_found(root, split):
    """One line: what was looked for under `root`, and where it seems to be instead."""
    wanted = f"leftImg8bit/{split}"
    if not root.exists():
        return (
            f"data folder {root} does not exist; it should hold {wanted} and gtFine/{split}, or the official zip files"
        )
    if root.is_file():
        return f"data must be a folder, and {root} is a file; give {root.parent}, the folder that holds it"
    deeper = next((path for step in ("*/", "*/*/") for path in root.glob(step + wanted)), None)
    above = next((path for path in root.parents[:2] if (path / wanted).is_dir()), None)
    if deeper:
        home = deeper.parents[1]
        advice = f"found one at {deeper}: give {home}, or move its leftImg8bit and gtFine up into {root}"
    elif above:
        advice = f"it seems to be in the folder above: give {above}"
    else:
        names = sorted(path.name + "/" * path.is_dir() for path in root.iterdir())
        listing = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"
        advice = f"found {listing}"
    archive = ARCHIVES["leftImg8bit"][split == "train_extra"]
    return f"no images in {root}: looked for {wanted}/<city>/*_leftImg8bit.png and for {archive}; {advice}"


def image_size(file):
    """`(height, width)` from a PNG file's header, without decoding it."""
    return png_size(read_bytes(file, HEADER), file)


def png_size(head, file):
    """`(height, width)` from the first bytes of a PNG; `ValueError` with the name of the `file` that is none."""
    if len(head) < HEADER or head[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError(f"{file} is not a PNG file; copy or download it again")
    width, height = struct.unpack(">II", head[16:HEADER])
    return height, width


def check(root, splits=("train", "val"), scenes=None):
    """Refuse, in one line, data that a run would stumble over later; decodes nothing."""
    survey(root, splits, scenes)


@short_traceback
def survey(root, splits, scenes=None):
    """The pairs of each split and their `Facts`, `{split: ([Pair], [Facts])}`; refuses what `check` is there for."""
    found = {split: _match(root, split, (scenes or {}).get(split, ())) for split in splits}
    for split, (_, left) in found.items():
        if left and split != "test":
            advice = _archive_beside(root, f"leftImg8bit/{split}") or "; copy it, or leave out its label too"
            what = f"{left[0]} has no image in leftImg8bit/{split} of {root}"
            raise FileNotFoundError(what + (f", nor have {len(left) - 1:,} other labels" if left[1:] else "") + advice)
    names = Counter(pair.name for pairs, _ in found.values() for pair in pairs)
    if repeated := [name for name, count in names.items() if count > 1]:
        raise ValueError(f"{repeated[0]} is in more than one of the splits {', '.join(splits)} of {root}; remove one")
    return {split: (pairs, look_at(pairs)) for split, (pairs, _) in found.items()}


def look_at(pairs):
    """`Facts` of each pair; `ValueError` where image and label differ in size.

    On a network drive every file costs a round trip: several at once. In archives, which cannot lose a file on the
    way, only some are opened. Whatever is decoded later is compared again.
    """
    step = 50 if any(isinstance(pair.image, Member) for pair in pairs[:1]) else 1
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda number, pair: _facts(pair, number % step == 0), range(len(pairs)), pairs))


def _facts(pair, closely):
    image, image_bytes = _head(pair.image, closely)
    if pair.label is None:
        return Facts(image, None, image_bytes, 0)
    if isinstance(pair.label, Member):
        label, crc = _head(pair.label, closely)[0], pair.label.crc
    else:
        content = read_bytes(pair.label)
        label, crc = png_size(content, pair.label), zlib.crc32(content)
    if image and label:
        _check_sizes(pair, image, label)
    return Facts(image, label, image_bytes, crc)


def _head(file, closely):
    """Size in pixels, if it is looked at closely, and in bytes of an image file."""
    if isinstance(file, Member):
        return image_size(file) if closely else None, file.size
    with file.open("rb") as stream:  # both by one opening
        return png_size(stream.read(HEADER), file), os.fstat(stream.fileno()).st_size


def _check_sizes(pair, image, label):
    if image != label:
        sizes = f"{pair.image} is {image[1]}x{image[0]} and {pair.label} is {label[1]}x{label[0]}"
        raise ValueError(f"image and label differ in size (width x height): {sizes}")


def fingerprint(root, pairs, facts=None, scenes=None):
    """SHA-256 that is the same on disk and zipped, wherever and whenever the files were copied; see `IDENTIFIED_BY`.

    Labels, which people correct, are identified by their content; photographs, whose noise leaves hardly two of one
    size, by their number of bytes. A toy city is identified by what it was drawn from: its files depend on Pillow's
    compression.
    """
    digest = hashlib.sha256()
    if (drawn := _drawn_from(root, scenes)) is not None:
        content = [drawn, *(pair.name for pair in pairs)]
    else:
        facts = facts or look_at(pairs)
        content = [
            (pair.image.name, seen.image_bytes, pair.label and pair.label.name, seen.label_crc)
            for pair, seen in zip(pairs, facts, strict=True)
        ]
    for part in content:
        digest.update(repr(part).encode())
    return digest.hexdigest()


def _drawn_from(root, scenes=None):
    """The text of a toy city's parameters, as if it had but the first `scenes`; None for other data."""
    path = Path(root) / toycity.PARAMETERS_FILE
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8")
    if not scenes:
        return text
    parameters = json.loads(text)
    return toycity.parameters_text({key: scenes[key][-1] if key in scenes else parameters[key] for key in parameters})


def describe(root, train="train", scenes=None):
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
    sizes = [seen.label_size or image_size(pair.label) for pair, seen in zip(val_pairs, facts, strict=True)]
    source = val_pairs[0].label.name.removesuffix(".png").rpartition("_")[2]
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


def _subset(counts, cities, train):
    if not cities <= CITIES:
        return f"not Cityscapes: {counts['train']:,} training and {counts['val']:,} validation images in its layout"
    whole = {"training": (counts["train"], SPLITS[train]), "validation": (counts["val"], SPLITS["val"])}
    missing = [f"{there:,} of {all_:,} {word} images" for word, (there, all_) in whole.items() if there != all_]
    return ", ".join(missing) or None


def read_bytes(file, count=-1):
    """The first `count` bytes of a `Path` or `Member`; `ValueError` with its name when an archive cannot give them."""
    try:
        with file.open("rb") as stream:
            return stream.read(count)
    except (NotImplementedError, RuntimeError) as error:  # another compression than deflate; a password
        raise ValueError(f"{file} cannot be read ({error}); unpack the archive, or pack it as a plain zip") from None
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{file} cannot be read ({error}); download the archive again") from None


def read_png(file):
    """Decode a PNG; `ValueError` with the file's name when it is truncated or damaged."""
    content = read_bytes(file)
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
    except (OSError, SyntaxError, ValueError, struct.error, zlib.error) as error:
        raise ValueError(f"{file} cannot be read as an image ({error}); copy or download it again") from None
    return image


def read_image(file):
    """uint8 RGB `(H, W, 3)`."""
    return np.asarray(as_rgb(read_png(file), file))


def as_rgb(image, file):
    """A Pillow picture in RGB, 16-bit grey brought to 8 bits; `ValueError` when its numbers have no known range."""
    if image.mode.startswith("I;16"):  # Pillow would cut off at 255: white
        image = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"{file} holds numbers of no known range (mode {image.mode}); save it with 8 bits a channel")
    return image.convert("RGB")


def read_labels(file):
    """Train ids, uint8 `(H, W)`, void 255; `ValueError` names the file and a value that no label has."""
    image = read_png(file)
    if len(image.getbands()) > 1:
        raise ValueError(f"{file} holds colours, not label ids: use the *_labelIds.png or *_labelTrainIds.png files")
    by_id = not file.name.endswith("_labelTrainIds.png")
    table, legal = (TRAIN_ID_OF_ID, "label ids 0-33 and 255") if by_id else (TRAIN_IDS, "train ids 0-18 and 255")
    if image.mode == "1":  # what optimisers make of road and void alone; `point` would leave it two-valued
        image = image.convert("L")
    if image.mode.startswith("I"):  # 16 bits
        values = np.asarray(image)
        present, image = np.unique(values), Image.fromarray(values.astype(np.uint8))
    else:
        present = np.flatnonzero(image.histogram())
    for value in present:
        if value != 65535 and (value > 255 or table[value] < 0):
            raise ValueError(f"{file} holds the value {value}, which is no label ({legal} are)")
    # Pillow's own histogram and lookup: five times as fast as indexing a table with 2048x1024 pixels.
    return np.array(image.point((table % 256).tolist()))


def resize_image(image, size):
    """uint8 `(H, W, 3)` to `size` = (height, width), bilinear with antialiasing; the aspect is not kept."""
    if image.shape[:2] == tuple(size):
        return image
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))


def resize_labels(labels, size):
    """`(H, W)` to `size` = (height, width): the label under each new pixel's centre."""
    (old_h, old_w), (h, w) = labels.shape, size
    rows, columns = (2 * np.arange(h) + 1) * old_h // (2 * h), (2 * np.arange(w) + 1) * old_w // (2 * w)
    return labels[rows[:, None], columns]


class Cityscapes(torch.utils.data.Dataset):
    """One split as tensors: image float `(3, H, W)`, labels int64 `(H, W)` with train ids and 255 for void.

    `size` = (height, width) of both, None for the files' own; `normalization` turns uint8 `(H, W, 3)` into the image.
    `pairs`: the scenes, where they are known already.
    """

    def __init__(self, root, split, size=None, normalization=RGB_IMAGENET, pairs=None):
        self.pairs = pairs or scan(root, split)
        self.size, self.normalization = size and tuple(size), normalization

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        image, labels = self.raw(index)
        return self.normalization(image), torch.from_numpy(labels.astype(np.int64))

    def raw(self, index):
        """Image uint8 `(H, W, 3)` and train ids uint8 `(H, W)` at the data set's size."""
        image, labels = self.full(index)
        return (resize_image(image, self.size), resize_labels(labels, self.size)) if self.size else (image, labels)

    def full(self, index):
        """As `raw`, at the files' own size, as the official evaluation needs them; no label file means all void."""
        pair = self.pairs[index]
        image = read_image(pair.image)
        if pair.label is None:
            return image, np.full(image.shape[:2], IGNORE_INDEX, np.uint8)
        labels = self.full_labels(index)
        _check_sizes(pair, image.shape[:2], labels.shape)
        return image, labels

    def full_labels(self, index):
        """Train ids uint8 `(H, W)` at the label file's own size."""
        return read_labels(self.pairs[index].label)
