"""Where known data sets keep their images and labels, how the two belong together, and how a label is read.

A source is a folder or a zip archive as it was downloaded; archives inside a folder are read in place.
"""

import json
import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from deeplab_lib.data.archives import Member
from deeplab_lib.data.mappings import (
    CAMVID_11,
    CAMVID_32,
    COLORS,
    IDD,
    LABEL_IDS,
    MAPILLARY_12,
    MAPILLARY_20,
    TRAIN_IDS,
    SourceClass,
    Table,
    by_name,
)
from deeplab_lib.data.pictures import read_bytes, read_png

File = Path | Member
DOUBTFUL, UNKNOWN = 254, 255  # instead of a class: between two colours; a value or colour that no class has
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
SPLITS |= {"test": "test", "testing": "test"}
PICTURE = r"(?P<name>[^/]+)\.(?:png|jpe?g|bmp|webp|tiff?)"
MASK = r"(?P<name>[^/]+)\.(?:png|bmp|tiff?)"
SPLIT = r"(?P<split>train|val|test)"
FAR = 40  # distance in RGB from every colour of a palette at which a pixel has none of them
MOST_FILES = 20_000  # that are looked at to tell what a folder holds


class Scene(NamedTuple):
    """An image and its label; `split` is None where the source has none, `city` where it has no groups."""

    split: str | None
    city: str | None
    name: str
    image: File
    label: File | None


# -- files -----------------------------------------------------------------------------------------------------------


def list_source(source: Path, most: int | None = None) -> dict[str, File]:
    """The files of a folder or a zip archive, `{path within it: file}`; archives in a folder are seen through.

    most: stop after so many files. Raises ValueError for a file that is no zip archive.
    """
    if source.is_file():
        return dict(_members(source, ""))
    found: dict[str, File] = {}
    for folder, folders, names in os.walk(source):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        inside = Path(folder).relative_to(source).as_posix()
        prefix = "" if inside == "." else f"{inside}/"
        for name in sorted(name for name in names if not name.startswith(".")):
            path = Path(folder, name)
            if name.lower().endswith(".zip") and zipfile.is_zipfile(path):
                found |= dict(_members(path, prefix))
            else:
                found.setdefault(prefix + name, path)
        if most and len(found) > most:
            break
    return found


def _members(path: Path, prefix: str) -> Iterator[tuple[str, Member]]:
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        raise ValueError(f"{path} is no zip archive: unpack it, and give the folder") from None
    with archive:
        for info in archive.infolist():
            name = info.filename.replace("\\", "/")
            hidden = any(part.startswith((".", "__MACOSX")) for part in name.split("/"))
            if not (info.is_dir() or hidden or stat.S_ISLNK(info.external_attr >> 16)):
                yield prefix + name, Member(path, info.filename, info.file_size, info.CRC)


# -- readers of labels -----------------------------------------------------------------------------------------------
# Each turns a label file into numbers of `classes` (H, W), uint8, with DOUBTFUL and UNKNOWN among them.


@dataclass(frozen=True)
class Reader:
    """Reads the masks of one numbering."""

    table: Table

    @property
    def classes(self) -> tuple[SourceClass, ...]:
        return self.table.classes

    def read(self, label: Any) -> np.ndarray:
        """Class numbers of a decoded picture, or of the content of a polygon file."""
        raise NotImplementedError


class Values(Reader):
    """Masks whose pixels are numbers; of a palette, the numbers of its entries."""

    def read(self, image: Image.Image) -> np.ndarray:
        if image.mode not in ("1", "L", "P") and not image.mode.startswith("I"):
            channels = np.asarray(image.convert("RGB"))
            if (channels != channels[..., :1]).any():
                return np.full(channels.shape[:2], UNKNOWN, np.uint8)
            values = channels[..., 0]
        else:
            values = np.asarray(image.convert("L") if image.mode == "1" else image)
        lookup = np.full(65536, UNKNOWN, np.uint8)
        for number, known in enumerate(self.classes):
            lookup[known.key] = number
        return lookup[np.clip(values, 0, 65535)]


class Colors(Reader):
    """Masks whose pixels are colours, exactly."""

    def read(self, image: Image.Image) -> np.ndarray:
        channels = np.asarray(image.convert("RGB")).astype(np.uint32)
        packed = channels[..., 0] << 16 | channels[..., 1] << 8 | channels[..., 2]
        return _color_lookup(self.table)[packed]


@lru_cache(maxsize=2)
def _color_lookup(table: Table) -> np.ndarray:
    lookup = np.full(1 << 24, UNKNOWN, np.uint8)
    for number, one in enumerate(table.classes):
        if isinstance(one.key, tuple):
            red, green, blue = one.key
            lookup[red << 16 | green << 8 | blue] = number
    return lookup


@dataclass(frozen=True)
class ValuesOrColors(Reader):
    """Masks of numbers, or of the colours that stand for the same classes, whichever a file holds."""

    colors: Table

    @property
    def classes(self) -> tuple[SourceClass, ...]:
        return (*self.table.classes, *self.colors.classes)

    def read(self, image: Image.Image) -> np.ndarray:
        if image.mode in ("1", "L", "P") or image.mode.startswith("I"):
            return Values(self.table).read(image)
        numbers = Colors(self.colors).read(image)
        return np.where(numbers < DOUBTFUL, numbers + len(self.table.classes), numbers).astype(np.uint8)


class NearestColor(Reader):
    """Colours blurred by JPEG: the nearest one, DOUBTFUL where it is far or another is less than twice as far."""

    def read(self, image: Image.Image) -> np.ndarray:
        pixels = np.asarray(image.convert("RGB")).astype(np.float32)
        colors = np.array([known.key for known in self.classes], np.float32)
        # |pixel - color|^2 without the term that all colours share
        shared = np.square(pixels).sum(-1, keepdims=True)
        squares = shared + np.square(colors).sum(1) - 2 * pixels @ colors.T
        nearest = squares.argmin(-1).astype(np.uint8)
        best, second = np.moveaxis(np.partition(squares, 1, axis=-1)[..., :2], -1, 0)
        nearest[(second < 4 * best) | (best > FAR**2)] = DOUBTFUL
        return nearest


class Polygons(Reader):
    """Cityscapes' polygon files: drawn one over the other as cityscapesScripts draws them."""

    def read(self, content: Any) -> np.ndarray:
        numbers = {known.name: number for number, known in enumerate(self.classes)}
        image = Image.new("L", (content["imgWidth"], content["imgHeight"]), numbers["unlabeled"])
        draw = ImageDraw.Draw(image)
        for item in content["objects"]:
            name = item["label"]
            if name not in numbers and name.endswith("group"):
                name = name.removesuffix("group")
            if not item.get("deleted") and name != "license plate" and len(item["polygon"]) > 1:
                draw.polygon([tuple(point) for point in item["polygon"]], fill=numbers.get(name, UNKNOWN))
        return np.asarray(image)


# -- kinds -----------------------------------------------------------------------------------------------------------


class Layout(NamedTuple):
    """One way in which a data set is laid out: patterns of the ends of paths, with groups `name`, `split`, `city`."""

    image: str
    label: str
    reader: Reader | Callable[[dict[str, File]], Reader | None]
    split: Callable[[str], str] | None = None


class Kind(NamedTuple):
    """A data set that can be converted: what it is, where it is published, and its layouts, the preferred one first."""

    title: str
    home: str
    layouts: tuple[Layout, ...]
    splits: str = "as published"


def camvid_split(name: str) -> str:
    """Split of a frame of CamVid, as the SegNet tutorial has it: 367 for training, 101 for validation, 233 to test."""
    sequence, _, frame = name.partition("_")
    number = int(re.sub(r"\D", "", frame) or 0)
    if sequence.upper() == "0016E5" and 7959 <= number <= 8159:
        return "val"
    return "test" if sequence.upper() == "SEQ05VD" or (sequence.upper() == "0001TP" and number >= 8550) else "train"


def annotated_classes(files: dict[str, File]) -> Reader | None:
    """Reader of a tool's colour masks by the list of classes beside them, None where there is none.

    `label_colors.txt` has lines `r g b name`, `labelmap.txt` lines `name:r,g,b:parts:actions`.
    """
    for path in sorted(files):
        if path.rpartition("/")[2] in ("label_colors.txt", "labelmap.txt"):
            lines = read_bytes(files[path]).decode("utf-8", "replace").splitlines()
            return Colors(Table(tuple(parse_classes(lines)), f"{path} of the export, by the classes' names"))
    return None


def numbered_classes(files: dict[str, File]) -> Reader | None:
    """As `annotated_classes`, of masks whose pixels are a class's place in the list."""
    reader = annotated_classes(files)
    if reader is None:
        return None
    classes = tuple(by_name(known.name, number) for number, known in enumerate(reader.classes))
    return Values(Table(classes, reader.table.source))


def numbered_names(root: Path) -> list[str]:
    """The names that a list of classes in the folder `root` gives to 0, 1, 2, ...; none where there is no list."""
    lists: dict[str, File] = {
        name: root / name for name in ("label_colors.txt", "labelmap.txt") if (root / name).is_file()
    }
    reader = annotated_classes(lists)
    return [known.name for known in reader.classes] if reader else []


def parse_classes(lines: Iterable[str]) -> Iterable[SourceClass]:
    """The classes that the lines of a `label_colors.txt` or a `labelmap.txt` name."""
    for line in lines:
        voc = re.match(r"\s*([^:#]+):\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)", line)
        camvid = re.match(r"\s*(\d+)\s+(\d+)\s+(\d+)\s+(\S.*)", line)
        if voc:
            yield by_name(voc[1].strip(), (int(voc[2]), int(voc[3]), int(voc[4])))
        elif camvid:
            yield by_name(camvid[4].strip(), (int(camvid[1]), int(camvid[2]), int(camvid[3])))


_ANNOTATED = Kind(
    "masks of an annotation tool, with label_colors.txt or labelmap.txt",
    "docs.cvat.ai, formats CamVid, Segmentation mask, Cityscapes and KITTI",
    (
        Layout(
            r"leftImg8bit/(?P<split>[^/]+)/(?:[^/]+/)*(?P<name>[^/]+?)(?:_leftImg8bit)?\.(?:png|jpe?g)",
            r"gtFine/(?P<split>[^/]+)/(?:[^/]+/)*(?P<name>[^/]+)_gtFine_color\.png",
            annotated_classes,
        ),
        Layout(
            r"leftImg8bit/(?P<split>[^/]+)/(?:[^/]+/)*(?P<name>[^/]+?)(?:_leftImg8bit)?\.(?:png|jpe?g)",
            r"gtFine/(?P<split>[^/]+)/(?:[^/]+/)*(?P<name>[^/]+)_gtFine_labelIds\.png",
            numbered_classes,
        ),
        Layout(rf"JPEGImages/{PICTURE}", rf"SegmentationClass/{MASK}", annotated_classes),
        Layout(rf"(?P<split>[^/]+)/image_2/{PICTURE}", rf"(?P<split>[^/]+)/semantic_rgb/{MASK}", annotated_classes),
        Layout(rf"(?P<split>[^/]+)/{PICTURE}", rf"(?P<split>[^/]+)annot/{MASK}", annotated_classes),
    ),
)
_LEFT = r"leftImg8bit/(?P<split>train|val|test)/(?P<city>{})/(?P<name>[^/]+)_leftImg8bit\.(?:png|jpe?g)"
_FINE = r"gtFine/(?P<split>train|val|test)/(?P<city>{})/(?P<name>[^/]+)_gtFine_{}"
_VISTAS = r"(?P<split>training|validation|testing)"
KINDS = {
    "camvid": Kind(
        "CamVid",
        "http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/",
        (
            Layout(
                rf"(?:701_StillsRaw_full|CamVid_RGB)/{PICTURE}",
                r"(?:LabeledApproved_full|CamVid_Label)/(?P<name>[^/]+)_L\.png",
                Colors(CAMVID_32),
                camvid_split,
            ),
            Layout(rf"{SPLIT}/{PICTURE}", rf"{SPLIT}_labels/(?P<name>[^/]+)_L\.png", Colors(CAMVID_32)),
            Layout(rf"{SPLIT}/{PICTURE}", rf"{SPLIT}annot/{MASK}", ValuesOrColors(CAMVID_11, CAMVID_32)),
        ),
        "as the SegNet tutorial's (367, 101 and 233 images)",
    ),
    "kitti": Kind(
        "KITTI semantic segmentation",
        "http://www.cvlibs.net/datasets/kitti/eval_semseg.php",
        (Layout(rf"training/image_2/{PICTURE}", rf"training/semantic/{MASK}", Values(LABEL_IDS)),),
    ),
    "bdd100k": Kind(
        "BDD100K semantic segmentation",
        "https://doc.bdd100k.com",
        (
            Layout(rf"images/10k/{SPLIT}/{PICTURE}", rf"labels/sem_seg/masks/{SPLIT}/{MASK}", Values(TRAIN_IDS)),
            Layout(
                rf"seg/images/{SPLIT}/{PICTURE}",
                rf"seg/labels/{SPLIT}/(?P<name>[^/]+)_train_id\.png",
                Values(TRAIN_IDS),
            ),
        ),
    ),
    "mapillary": Kind(
        "Mapillary Vistas (2.0's labels where they are there, else 1.2's)",
        "https://www.mapillary.com/dataset/vistas",
        (
            Layout(rf"{_VISTAS}/images/{PICTURE}", rf"{_VISTAS}/v2\.0/labels/{MASK}", Values(MAPILLARY_20)),
            Layout(rf"{_VISTAS}/images/{PICTURE}", rf"{_VISTAS}/(?:v1\.2/)?labels/{MASK}", Values(MAPILLARY_12)),
        ),
    ),
    "idd": Kind(
        "India Driving Dataset",
        "https://idd.insaan.iiit.ac.in",
        (
            Layout(_LEFT.format(r"\d+"), _FINE.format(r"\d+", r"polygons\.json"), Polygons(IDD)),
            Layout(_LEFT.format(r"\d+"), _FINE.format(r"\d+", r"labelids\.png"), Values(IDD)),
        ),
    ),
    "gta5": Kind(
        "GTA5 (Playing for Data)",
        "https://download.visinf.tu-darmstadt.de/data/from_games/",
        (Layout(r"images/(?P<name>\d+)\.png", r"labels/(?P<name>\d+)\.png", ValuesOrColors(LABEL_IDS, COLORS)),),
    ),
    "cvat": _ANNOTATED,
    "datumaro": _ANNOTATED,
    "polygons": Kind(
        "Cityscapes' polygons",
        "https://www.cityscapes-dataset.com",
        (Layout(_LEFT.format("[^/]+"), _FINE.format("[^/]+", r"polygons\.json"), Polygons(LABEL_IDS)),),
    ),
    "kaggle-pairs": Kind(
        "Cityscapes image pairs (image and coloured label side by side, as JPEG)",
        "https://www.kaggle.com/datasets/dansbecker/cityscapes-image-pairs",
        (Layout(rf"{SPLIT}/(?P<name>[^/]+)\.jpe?g", rf"{SPLIT}/(?P<name>[^/]+)\.jpe?g", NearestColor(COLORS)),),
    ),
}


def find_scenes(kind: Kind, files: dict[str, File]) -> tuple[Reader, list[Scene], list[File]]:
    """The reader, the scenes and the labels without an image of the first layout of `kind` that `files` have.

    Without one, no scenes. A scene without a label is there where its split has labels, and in split "test".
    """
    for layout in kind.layouts:
        images, labels = _matches(layout.image, files), _matches(layout.label, files)
        reader = layout.reader if isinstance(layout.reader, Reader) else layout.reader(files)
        common = images.keys() & labels.keys()
        if common and reader:
            listed = listed_splits(files)
            scenes = []
            for split, city, name in sorted(images, key=lambda key: tuple(part or "" for part in key)):
                key = split, city, name
                stated = layout.split(name) if layout.split else listed.get(name, split)
                if key in labels or any(split == other for other, _, _ in labels) or SPLITS.get(stated or "") == "test":
                    scenes.append(Scene(SPLITS.get((stated or "").lower()), city, name, images[key], labels.get(key)))
            return reader, scenes, [labels[key] for key in sorted(labels.keys() - common, key=str)]
    return Reader(LABEL_IDS), [], []


def _matches(pattern: str, files: Mapping[str, File]) -> dict[tuple[str | None, str | None, str], File]:
    """The files whose paths end as `pattern` says, by (split, city, name)."""
    wanted = re.compile(rf"(?:^|/){pattern}$", re.IGNORECASE)
    found: dict[tuple[str | None, str | None, str], File] = {}
    for path, file in files.items():
        if match := wanted.search(path):
            groups = match.groupdict()
            found.setdefault((groups.get("split"), groups.get("city"), groups["name"]), file)
    return found


def listed_splits(files: dict[str, File]) -> dict[str, str]:
    """Split of each name that a list `ImageSets/Segmentation/<split>.txt` has."""
    lists = _matches(r"ImageSets/Segmentation/(?P<name>[^/]+)\.txt", files)
    return {
        line.strip(): split
        for (_, _, split), file in lists.items()
        for line in read_bytes(file).decode("utf-8", "replace").splitlines()
    }


def detect(source: Path) -> str | None:
    """The kind of data set that a folder looks like, None where it looks like none."""
    files = list_source(source, MOST_FILES)
    for name, kind in KINDS.items():
        reader, scenes, _ = find_scenes(kind, files)
        labelled = [scene for scene in scenes if scene.label is not None]
        if labelled and (name != "kaggle-pairs" or _is_pair(labelled[0], reader)):
            # CamVid's 11 classes and an annotation tool's export share a layout; the list of classes tells them apart.
            return "cvat" if isinstance(reader, ValuesOrColors) and annotated_classes(files) else name
    return None


def _is_pair(scene: Scene, reader: Reader) -> bool:
    """Whether the right half of an image has few pixels of other colours than Cityscapes'."""
    return (reader.read(right_half(read_png(scene.image))) == DOUBTFUL).mean() < 0.3


def left_half(image: Image.Image) -> Image.Image:
    return image.crop((0, 0, image.width // 2, image.height))


def right_half(image: Image.Image) -> Image.Image:
    return image.crop((image.width - image.width // 2, 0, image.width, image.height))


def read_polygons(file: File) -> dict[str, Any]:
    """The object in a polygon file; ValueError with its name."""
    try:
        content = json.loads(read_bytes(file))
        if not {"imgWidth", "imgHeight", "objects"} <= content.keys():
            raise ValueError("imgWidth, imgHeight or objects is missing")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{file} cannot be read as polygons ({error})") from None
    return content
