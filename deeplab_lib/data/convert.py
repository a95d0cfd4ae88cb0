"""Other data sets of streets in Cityscapes' layout: `python -m deeplab_lib.data.convert KIND SOURCE OUT`.

Images are linked or copied, labels become Cityscapes' label ids, and `mapping.md` says which class became which and
why. A class that the data set lacks stays absent; what fits no class of Cityscapes is void.
"""

import argparse
import csv
import io
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from deeplab_lib.common.devices import cores
from deeplab_lib.common.errors import interruptible, short_traceback
from deeplab_lib.common.files import absolute, for_project, in_project, write_text
from deeplab_lib.common.progress import Progress
from deeplab_lib.common.text import did_you_mean
from deeplab_lib.common.types import Say, Size
from deeplab_lib.data.mappings import LABEL_ID, SourceClass, Table
from deeplab_lib.data.pictures import read_bytes, read_png
from deeplab_lib.data.sources import (
    DOUBTFUL,
    KINDS,
    PICTURE,
    SPLIT,
    UNKNOWN,
    Colors,
    File,
    Kind,
    Layout,
    NearestColor,
    Polygons,
    Reader,
    Scene,
    Values,
    detect,
    find_scenes,
    left_half,
    list_source,
    read_polygons,
    right_half,
)
from deeplab_lib.labels import CLASS_NAMES, LABELS

VALIDATION = 5  # without a published split, the last of so many parts of the images validates
MOST_UNKNOWN = 0.5  # share of unknown pixels above which the source is not what it is said to be
EVALUATED = {label.name for label in LABELS if label.train_id < 255}


@dataclass
class Tally:
    """What a conversion has met: pixels of each of the reader's classes, and what was left out."""

    pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    unknown: Counter = field(default_factory=Counter)  # pixels by file
    no_label: list = field(default_factory=list)
    other_size: list = field(default_factory=list)
    no_image: list = field(default_factory=list)
    scenes: Counter = field(default_factory=Counter)


class Pictures(NamedTuple):
    """A scene, read: the label's class numbers (None without a label), and the image where it is to be encoded anew."""

    numbers: np.ndarray | None
    size: Size
    image: Image.Image | None


@short_traceback
@interruptible("the data were converted: nothing is kept of it, so begin anew")
def convert(kind: str, source: str | Path, out: str | Path, table: str | Path | None = None, say: Say = print) -> Path:
    """Write the data set `source` (a folder or a zip archive) of a known kind in Cityscapes' layout to `out`.

    kind: one of `KINDS`, or "table": images in `images/`, masks in `masks/`, and the CSV `table` (`classes.csv` in the
    source) with columns `value` or `red`, `green`, `blue`, and `class`, the name of a label of Cityscapes. `say` prints
    one line. Returns the folder `out`, which is written whole or not at all. Raises ValueError or FileNotFoundError in
    one line.
    """
    kind, source, out = kind.lower(), absolute(in_project(source)), absolute(for_project(out))
    if kind != "table" and kind not in KINDS:
        raise ValueError(f"no kind {kind!r}{did_you_mean(kind, [*KINDS, 'table'])}; kinds: {', '.join(KINDS)}, table")
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist; give the folder or the zip archive that was downloaded")
    title = f"# {kind} from {source}"
    if _is_done(out, title):
        say(f"{out} is converted already; delete it to convert again")
        return out
    files = list_source(source)
    about = table_kind(files, table, source) if kind == "table" else KINDS[kind]
    reader, scenes, alone = find_scenes(about, files)
    if not any(scene.label is not None for scene in scenes):
        raise FileNotFoundError(_nothing_found(kind, about, source, files))
    scenes, rule = split(scenes, about)
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        tally = write_scenes(reader, scenes, kind, part, say)
        tally.no_image = alone
        _check_known(tally, kind, source)
        write_text(part / "mapping.md", mapping_text(title, about, reader, tally, rule))
        if out.is_dir():
            out.rmdir()
        os.replace(part, out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    counts = ", ".join(f"{tally.scenes[name]:,} {name}" for name in ("train", "val", "test") if tally.scenes[name])
    say(f"{out}: {counts} images; classes in {out / 'mapping.md'}")
    for line in left_out(reader, tally):
        say(line)
    return out


def _is_done(out: Path, title: str) -> bool:
    """Whether `out` holds this very conversion; ValueError if it holds anything else."""
    if not out.exists():
        return False
    mapping = out / "mapping.md"
    if mapping.is_file() and mapping.read_text(encoding="utf-8").partition("\n")[0] == title:
        return True
    if any(out.iterdir()):
        raise ValueError(f"{out} holds other files: name a new folder")
    return False


def _nothing_found(kind: str, about: Kind, source: Path, files: Mapping[str, File]) -> str:
    """One line: what was looked for, and what the source seems to be."""
    looks_like = detect(source) if source.is_dir() else None
    if looks_like and looks_like != kind:
        return f"{source} holds no {about.title}, but looks like {looks_like}: give {looks_like} as the kind"
    if kind in ("cvat", "datumaro") and not any(path.endswith(("label_colors.txt", "labelmap.txt")) for path in files):
        missing = "the export's label_colors.txt or labelmap.txt is missing"
        return f"no {about.title} in {source}: {missing}; export the task again and keep the file"
    wanted = " or ".join(dict.fromkeys(f"{readable(one.image)} with {readable(one.label)}" for one in about.layouts))
    return f"no {about.title} in {source}: looked for {wanted} among {len(files):,} files"


def readable(pattern: str) -> str:
    """A layout's pattern as a person writes it: `training/image_2/<name>.png`."""
    text = re.sub(r"\(\?P<(\w+)>(?:[^()]|\([^()]*\))*\)", r"<\1>", pattern)
    text = re.sub(r"\(\?:([^|()]*)\|[^()]*\)", r"\1", text)
    text = re.sub(r"\(\?:([^()]*)\)[?*]", "", text)
    return text.replace("\\.", ".").replace("e?g", "g")


def table_kind(files: dict[str, File], table: str | Path | None, source: Path) -> Kind:
    """The kind of masks that a CSV of values or colours describes; ValueError in one line for a CSV that does not."""
    if table is None:
        found = next((path for path in sorted(files) if path.rpartition("/")[2] == "classes.csv"), None)
        if found is None:
            columns = "columns value (or red, green, blue) and class"
            raise FileNotFoundError(f"no classes.csv in {source}: write one with {columns}, or give --table FILE")
        name, content = f"{source}: {found}", read_bytes(files[found])
    else:
        path = absolute(in_project(table))
        if not path.is_file():
            raise FileNotFoundError(f"no table {path}: it should be a CSV with columns value and class")
        name, content = str(path), path.read_bytes()
    known = read_table(content.decode("utf-8-sig"), name)
    reader = Colors(known) if isinstance(known.classes[0].key, tuple) else Values(known)
    folder = r"(?:masks|labels|annotations)"
    mask = r"(?P<name>[^/]+?)(?:_mask|_label|_L)?\.(?:png|bmp|tiff?)"
    layouts = (
        Layout(rf"images/{SPLIT}/{PICTURE}", rf"{folder}/{SPLIT}/{mask}", reader),
        Layout(rf"{SPLIT}/images/{PICTURE}", rf"{SPLIT}/{folder}/{mask}", reader),
        Layout(rf"images/{PICTURE}", rf"{folder}/{mask}", reader),
        Layout(
            rf"leftImg8bit/{SPLIT}/(?P<city>[^/]+)/(?P<name>[^/]+)_leftImg8bit\.(?:png|jpe?g)",
            rf"gtFine/{SPLIT}/(?P<city>[^/]+)/(?P<name>[^/]+)_gtFine_labelIds\.png",
            reader,
        ),
    )
    return Kind(f"masks with a table of classes ({Path(str(name)).name})", "", layouts)


def read_table(text: str, name: str | Path) -> Table:
    """The classes of a CSV with columns `value` (or `red`, `green`, `blue`) and `class`; ValueError names the row."""
    rows = list(csv.DictReader(io.StringIO(text), skipinitialspace=True))
    columns = {key.strip().lower() for key in (rows[0] if rows else {}) if key}
    if "class" not in columns or not ("value" in columns or {"red", "green", "blue"} <= columns):
        found = ", ".join(sorted(columns)) or "none"
        raise ValueError(f"{name} needs columns value (or red, green, blue) and class; its columns: {found}")
    classes = []
    for line, row in enumerate(rows, start=2):
        row = {key.strip().lower(): (value or "").strip() for key, value in row.items() if key}
        label = row["class"].lower() or "unlabeled"
        if label not in LABEL_ID:
            label = {"void": "unlabeled"}.get(label, label)
        if label not in LABEL_ID:
            hint = did_you_mean(label, LABEL_ID)
            raise ValueError(f"{name}, line {line}: no label {row['class']!r} in Cityscapes{hint}")
        cells = [row["value"]] if "value" in columns else [row[name] for name in ("red", "green", "blue")]
        try:
            numbers = tuple(int(cell) for cell in cells)
        except ValueError:
            numbers = (-1,)
        if any(not 0 <= number <= 255 for number in numbers):
            raise ValueError(f"{name}, line {line}: {' '.join(cells)!r} is no value from 0 to 255")
        key = numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1], numbers[2])
        classes.append(SourceClass(row.get("name") or row["class"], key, label, "as the table says"))
    return Table(tuple(classes), str(name))


# -- splits ----------------------------------------------------------------------------------------------------------


def split(scenes: list[Scene], kind: Kind) -> tuple[list[Scene], str]:
    """The scenes with a split each, and the rule in words.

    Where no split is published for validation, the last fifth by name validates: neighbours in a sequence look alike,
    and must not stand on both sides.
    """
    names = {scene.split for scene in scenes if scene.label is not None}
    if {"train", "val"} <= names:
        return [scene for scene in scenes if scene.split], kind.splits
    if "val" in names and None in names:
        return [scene._replace(split=scene.split or "train") for scene in scenes], kind.splits
    pool = [scene for scene in scenes if scene.split != "test"] or scenes
    labelled = [scene for scene in pool if scene.label is not None]
    if len(labelled) < 2:
        raise ValueError(f"{len(labelled)} labelled image to split; training and validation need one each")
    validates = set(labelled[len(labelled) - max(1, len(labelled) // VALIDATION) :])
    sides = [scene._replace(split="val" if scene in validates else "train") for scene in pool]
    rest = [scene for scene in scenes if scene.split == "test" and scene not in pool]
    return sides + rest, "no validation split is published: the last fifth of the images, by name, validates"


# -- writing ---------------------------------------------------------------------------------------------------------


def write_scenes(reader: Reader, scenes: list[Scene], kind: str, out: Path, say: Say) -> Tally:
    """Write images and label ids of all scenes below `out`; returns the `Tally`."""
    lookup = np.zeros(256, np.uint8)
    lookup[: len(reader.classes)] = [LABEL_ID[known.label] for known in reader.classes]
    tally = Tally()
    taken: dict[tuple[str | None, str], Scene] = {}
    with ThreadPoolExecutor(cores()) as pool, Progress(len(scenes), 0, say) as progress:
        for scene, pictures in zip(scenes, pool.map(lambda scene: read_scene(reader, scene), scenes), strict=True):
            progress.update(1)
            if pictures is None:
                tally.no_label.append(scene.image)
                continue
            if pictures.numbers is not None and pictures.numbers.shape != pictures.size:
                tally.other_size.append((scene, pictures.size, pictures.numbers.shape))
                continue
            city = scene.city or kind
            name = scene.name if not scene.city or scene.name.startswith(scene.city) else f"{scene.city}_{scene.name}"
            if (other := taken.setdefault((scene.split, name), scene)) is not scene:
                raise ValueError(f"two images would be called {name}: {other.image} and {scene.image}; rename one")
            place_image(scene.image, pictures.image, out / f"leftImg8bit/{scene.split}/{city}/{name}_leftImg8bit")
            tally.scenes[scene.split] += 1
            if pictures.numbers is None:
                continue
            counts = np.bincount(pictures.numbers.ravel(), minlength=256)
            tally.pixels += counts
            if counts[UNKNOWN]:
                tally.unknown[str(scene.label)] = int(counts[UNKNOWN])
            label = out / f"gtFine/{scene.split}/{city}/{name}_gtFine_labelIds.png"
            label.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(lookup[pictures.numbers]).save(label)
    return tally


def read_scene(reader: Reader, scene: Scene) -> Pictures | None:
    """What is to be written of a scene; None for one that should have a label and has none."""
    if scene.label is None and scene.split != "test":
        return None
    if isinstance(reader, NearestColor):
        pair = read_png(scene.image).convert("RGB")
        photograph = left_half(pair)
        return Pictures(reader.read(right_half(pair)), photograph.size[::-1], photograph)
    image = read_png(scene.image)
    turned = ImageOps.exif_transpose(image)
    again = image.format not in ("PNG", "JPEG") or turned.size != image.size or image.getexif().get(0x0112, 1) != 1
    if scene.label is None:
        return Pictures(None, turned.size[::-1], turned if again else None)
    label = read_polygons(scene.label) if isinstance(reader, Polygons) else read_png(scene.label)
    return Pictures(reader.read(label), turned.size[::-1], turned if again else None)


def place_image(file: File, image: Image.Image | None, target: Path) -> None:
    """Link or copy the image `file` to `target` with the ending of its content; or save `image`, if there is one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if image is not None:
        image.convert("RGB").save(f"{target}.png")
        return
    with file.open("rb") as stream:
        ending = ".png" if stream.read(8) == b"\x89PNG\r\n\x1a\n" else ".jpg"
    target = target.with_name(target.name + ending)
    if not isinstance(file, Path):
        target.write_bytes(read_bytes(file))
        return
    try:
        os.link(file.resolve(), target)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(file, target)


# -- what is said ----------------------------------------------------------------------------------------------------


def _check_known(tally: Tally, kind: str, source: Path) -> None:
    """Refuse a source of which most is unknown: it is not what it is said to be."""
    if not tally.scenes["train"] or not tally.scenes["val"]:
        lines = "; ".join(left_out(None, tally)) or "none is labelled"
        raise ValueError(f"{source} leaves no images to train on or to validate with: {lines}")
    unknown, pixels = int(tally.pixels[UNKNOWN]), int(tally.pixels.sum())
    if unknown > MOST_UNKNOWN * pixels:
        what = f"{100 * unknown / pixels:.0f} % of the pixels have a value or colour that {kind} does not have"
        raise ValueError(f"{what} (first in {next(iter(tally.unknown))}): is {source} another kind?")


def left_out(reader: Reader | None, tally: Tally) -> list[str]:
    """One line each, with counts, of what became void or was left out."""
    lines, pixels = [], max(1, int(tally.pixels.sum()))
    if tally.unknown:
        share = 100 * int(tally.pixels[UNKNOWN]) / pixels
        where = f"in {len(tally.unknown):,} labels, first {next(iter(tally.unknown))}"
        lines.append(f"void: {share:.2f} % of the pixels have a value or colour that no class has, {where}")
    if isinstance(reader, NearestColor):
        share = 100 * int(tally.pixels[DOUBTFUL]) / pixels
        lines.append(f"void: {share:.2f} % of the pixels lie between two colours, which JPEG has blurred")
    if tally.no_label:
        lines.append(f"left out: {len(tally.no_label):,} images without a label, first {tally.no_label[0]}")
    if tally.no_image:
        lines.append(f"left out: {len(tally.no_image):,} labels without an image, first {tally.no_image[0]}")
    if tally.other_size:
        scene, image, label = tally.other_size[0]
        sizes = f"first {scene.image} ({image[1]}x{image[0]}, its label {label[1]}x{label[0]})"
        lines.append(f"left out: {len(tally.other_size):,} images whose label has another size, {sizes}")
    return lines


def in_use(reader: Reader, tally: Tally) -> list[tuple[int, SourceClass]]:
    """The classes with their numbers; where files may hold values or colours, of those that do occur."""
    numbered = list(enumerate(reader.classes))
    met = {type(known.key) for number, known in numbered if tally.pixels[number]}
    return [(number, known) for number, known in numbered if type(known.key) in met]


def mapping_text(title: str, kind: Kind, reader: Reader, tally: Tally, rule: str) -> str:
    """The text of `mapping.md`."""
    pixels = max(1, int(tally.pixels.sum()))
    counts = ", ".join(f"{tally.scenes[name]:,} {name}" for name in ("train", "val", "test") if tally.scenes[name])
    lines = [title, "", f"{kind.title}. {kind.home}".strip(), "", f"Classes by {reader.table.source}.", ""]
    lines += [f"Images: {counts}. Splits: {rule}.", "", *(f"{line}." for line in left_out(reader, tally)), ""]
    lines += ["| class | in the files | label of Cityscapes | id | evaluated | % of the pixels | why |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for number, known in in_use(reader, tally):
        key = " ".join(map(str, known.key)) if isinstance(known.key, tuple) else str(known.key)
        evaluated = "yes" if known.label in EVALUATED else "void"
        share = f"{100 * tally.pixels[number] / pixels:.2f}" if tally.pixels[number] else "–"
        cells = (known.name, key, known.label, LABEL_ID[known.label], evaluated, share, known.why)
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    present = {known.label for number, known in enumerate(reader.classes) if tally.pixels[number]}
    absent = [name for name in CLASS_NAMES if name not in present]
    if absent:
        lines += ["", f"Classes of Cityscapes that do not occur, and have no IoU: {', '.join(absent)}."]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m deeplab_lib.data.convert", description=__doc__.partition("\n")[0])
    kinds = "; ".join(f"{name}: {kind.title}" for name, kind in KINDS.items())
    parser.add_argument("kind", metavar="KIND", help=f"{kinds}; table: any masks with a CSV of their classes")
    parser.add_argument("source", metavar="SOURCE", help="the folder or zip archive that was downloaded")
    parser.add_argument("out", metavar="OUT", help="a new folder; its name is the data set's in tables and reports")
    parser.add_argument("--table", help="kind table: the CSV of values or colours and classes of Cityscapes")
    given = parser.parse_args(arguments)
    try:
        convert(given.kind, given.source, given.out, given.table)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
