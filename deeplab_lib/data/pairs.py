"""Which image and label of Cityscapes' layout belong together, and one line for what is missing.

The layout, on disk or inside the official zip files: `leftImg8bit/<split>/<city>/<name>_leftImg8bit.png` and
`gtFine/<split>/<city>/<name>_gtFine_labelIds.png`; the coarse annotations of `train_extra` lie in `gtCoarse`.
"""

import re
import shlex
import unicodedata
import zipfile
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from deeplab_lib.common.content import what_is
from deeplab_lib.common.search import Search, closeness, contents, nearest, works
from deeplab_lib.common.types import PathLike
from deeplab_lib.data.archives import ARCHIVES, Member, city_of, find_archives, home_of, inside, list_files

SPLITS = {"train": 2975, "val": 500, "test": 1525, "train_extra": 20000}
LABEL_SOURCES = ("labelIds", "labelTrainIds")
IMAGE_NAME = re.compile(r"(.+)_leftImg8bit\.(?:png|jpe?g)", re.IGNORECASE)


class Pair(NamedTuple):
    """One scene: its files are a `Path` or a zip `Member`; `label` is None where the test split has none."""

    name: str
    image: Path | Member
    label: Path | Member | None
    city: str


def scan(root: PathLike, split: str) -> list[Pair]:
    """Pairs of image and label of one split, sorted by name.

    Labels are the `*_labelIds.png` files, or where there is none the `*_labelTrainIds.png`. Raises `FileNotFoundError`
    for a missing split or label and `ValueError` for a name that occurs twice.
    """
    return match(root, split)[0]


def match(root: PathLike, split: str, ends: Sequence[int] = ()) -> tuple[list[Pair], list[Path | Member]]:
    """The pairs of one split, and the label files that no image belongs to; `ends`: of a toy city, see `describe`."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: one of {', '.join(SPLITS)}")
    images = _named(_before(ends, list_files(Path(root), f"leftImg8bit/{split}")), IMAGE_NAME)
    if not images:
        raise FileNotFoundError(_nothing_found(Path(root), split))
    kind = "gtCoarse" if split == "train_extra" else "gtFine"
    files = _before(ends, list_files(Path(root), f"{kind}/{split}"))
    for source in LABEL_SOURCES:
        if labels := _named(files, re.compile(rf"(.+)_{kind}_{source}\.png", re.IGNORECASE)):
            break
    # India's data set calls numbers of its own labelids, in folders that are numbers.
    foreign = all(city.isdigit() and "_labelids." in file.name for (city, _), file in labels.items())
    if foreign and split != "test" and (command := conversion(Path(root))):
        raise FileNotFoundError(f"no labels for {split} in {root}: {command}")
    alone = Counter(name for _, name in labels)  # a label in another folder than its image, if there is but one
    by_name = {name: key for key in labels for name in key[1:] if alone[name] == 1}
    repeated = {name for name, count in Counter(name for _, name in images).items() if count > 1}
    pairs, used = [], set()
    for (city, name), image in images.items():
        key = (city, name) if (city, name) in labels or name in repeated else by_name.get(name)
        if key not in labels and split != "test":
            others = {file.name for (_, other), file in labels.items() if (city, other) in images}
            raise FileNotFoundError(_no_label(root, split, kind, city, image, files, others))
        used.add(key)
        # An image is its folder and its name; alone, its name is enough.
        pairs.append(
            Pair(
                f"{city}/{name}" if name in repeated else name, image, labels.get(key) if key else None, city_of(image)
            )
        )
    pairs = sorted(pairs, key=lambda pair: (bisect_right(ends, _number(pair)) if ends else 0, pair))
    return pairs, [file for key, file in labels.items() if key not in used]


def _named(files: Iterable[Path | Member], pattern: re.Pattern[str]) -> dict[tuple[str, str], Path | Member]:
    """The files whose names fit, by folder and name, whichever way their letters are composed in Unicode."""
    named: dict[tuple[str, str], Path | Member] = {}
    for file in files:
        if match := pattern.fullmatch(unicodedata.normalize("NFC", file.name)):
            key = unicodedata.normalize("NFC", city_of(file)), match[1]
            if key in named:
                raise ValueError(f"two files share the name {match[1]}: {named[key]} and {file}; remove one")
            named[key] = file
    return named


def _no_label(
    root: PathLike,
    split: str,
    kind: str,
    city: str,
    image: Path | Member,
    files: Iterable[Path | Member],
    used: set[str],
) -> str:
    """One line for an image without a label: what is missing, what is nearest to it, what can be done."""
    source = "labelTrainIds" if any(file.name.lower().endswith("_labeltrainids.png") for file in files) else "labelIds"
    name = IMAGE_NAME.sub(r"\1", image.name)
    wanted = f"{name}_{kind}_{source}.png"
    expected = f"{kind}/{split}/{city}/{wanted}"
    near = nearest(wanted, set(list_all(root, f"{kind}/{split}")) - used)
    hint = f"; the nearest there is {near}" if near else ""
    return f"no label for {image}: {expected} is missing from {root}{hint}{archive_beside(root, f'{kind}/{split}')}"


def list_all(root: PathLike, folder: str) -> list[str]:
    """The names of all files below `folder`, of whatever kind."""
    home = home_of(root, folder.partition("/")[0])
    if home and (home / folder).is_dir():
        return [path.name for path in (home / folder).glob("**/*") if path.is_file() and path.name[0] != "."]
    archives = find_archives(root, folder.partition("/")[0])
    return [place.rpartition("/")[2] for path in archives for place, _ in inside(path, folder)]


def _before(ends: Sequence[int], files: Sequence[Path | Member]) -> Sequence[Path | Member]:
    """The files whose number lies below the last of `ends`, or all."""
    return [file for file in files if _number(file) < ends[-1]] if ends else files


def _number(file: Path | Member | Pair) -> int:
    """The number that follows the city in a scene's name."""
    return int(file.name.split("_")[1])


def archive_beside(root: PathLike, folder: str) -> str:
    """What to do about an incomplete `folder`, as a clause, if the archive that it was unpacked from is still there."""
    archives = find_archives(root, folder.partition("/")[0]) if (Path(root) / folder).is_dir() else []
    return f"; unpack {archives[0].name} again, or delete {folder}, and the archive itself is read" if archives else ""


def _nothing_found(root: Path, split: str) -> str:
    """One line: what was looked for under `root`, what was turned away, and where it seems to be instead."""
    wanted = f"leftImg8bit/{split}"
    if not root.exists():
        return (
            f"data folder {root} does not exist; it should hold {wanted} and gtFine/{split}, or the official zip files"
        )
    if root.is_file():
        return f"data must be a folder, and {root} is a file; give {root.parent}, the folder that holds it"
    if command := conversion(root):
        return f"no images in {root}: {command}"
    archive = ARCHIVES["leftImg8bit"][split == "train_extra"]
    search = Search("images", root, f"{wanted}/<city>/*_leftImg8bit.png and for {archive}")
    for name, reason in turned_away(root, wanted):
        search.reject(name, reason)
    deeper = [path.parents[1] for step in ("*/", "*/*/") for path in sorted(root.glob(step + wanted))]
    above = [path for path in root.parents[:2] if (path / wanted).is_dir()]
    for home in (*deeper, *above):
        if works(scan, home, split):
            return search.message(f"found one at {home / wanted}: give {home}")
    return search.message(None if search.turned_away else f"found {contents(root)}")


def turned_away(root: Path, folder: str) -> Iterator[tuple[str, str]]:
    """What looks like images of `folder` and is not read as such: `(name, reason)`."""
    top, _, split = folder.partition("/")
    for path in sorted(root.iterdir()):
        if path.is_file() and path.suffix.lower() == ".zip" and path.name[0] != ".":
            if not zipfile.is_zipfile(path):
                yield path.name, "an incomplete zip archive" if what_is(path) == "zip archive" else what_is(path)
            elif not any(inside(path, folder)):
                yield path.name, f"no {folder}/ in it"
        elif path.is_dir() and path.name != top and closeness(path.name, top) > 0.7:
            yield f"{path.name}/", f"not {top}/"
    home = home_of(root, top) or root
    splits = sorted(path.name for path in (home / top).glob("*/"))
    if (home / top).is_dir() and split not in splits:
        for name in splits:
            yield f"{top}/{name}/", f"not {split}/"
    for name in list_all(root, folder):
        yield name, _reason(name)


def _reason(name: str) -> str:
    """Why a file below the images' folder is none of them."""
    if IMAGE_NAME.fullmatch(name):
        return "not in a folder of its city"
    picture = Path(name).suffix.lower() in (".png", ".jpg", ".jpeg")
    return "not named <name>_leftImg8bit.png" if picture else "no PNG or JPEG"


def conversion(root: Path) -> str | None:
    """What to do with a folder of another data set that can be converted, as a clause; None for any other folder."""
    from deeplab_lib.data import sources  # not at the top: needed for this message alone

    kind = sources.detect(root)
    if kind is None:
        return None
    out = f"data/{kind}"
    command = f"python -m deeplab_lib.data.convert {kind} {shlex.quote(str(root))} {out}"
    return f"it looks like {sources.KINDS[kind].title}; convert it by `{command}` and give {out} as data"
