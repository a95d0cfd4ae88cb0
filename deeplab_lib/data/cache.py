"""Decode and resize every image once: a split of a data set as two memory-mapped arrays on local disk.

A cache is a folder `<split>-<width>x<height>-<fingerprint>` with `images.npy` uint8 `(N, H, W, 3)`, `labels.npy` uint8
`(N, H, W)` (train ids, 255 void), `values.bin`, the pixels of each value in each label file and how it was read, and
`checksums.bin`, one CRC-32 an image. While it grows its name ends in `.part`: the
files are appended to, the checksum last, so that whatever the checksums confirm survives a kill. Once renamed it never
changes, and needs no more than permission to read.
"""

import errno
import json
import math
import os
import shutil
import zlib
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_lib.common.devices import cores
from deeplab_lib.common.files import data_folder, sync, write_text
from deeplab_lib.common.locks import held
from deeplab_lib.common.progress import Progress
from deeplab_lib.common.types import PathLike, Say, Size
from deeplab_lib.data.cityscapes import Resized, fingerprint
from deeplab_lib.data.label_files import FORMS, Labels
from deeplab_lib.data.normalization import RGB_IMAGENET, Normalization
from deeplab_lib.data.pairs import Pair

ROW = 257  # numbers an image in values.bin: pixels of each value, and the place of the file's form in `FORMS`
RULES = "v2"  # of reading labels: a cache made by other rules has another name
CHUNK = 32  # images decoded between two writes: bounds the memory


def cached(
    root: PathLike,
    split: str,
    size: Size,
    normalization: Normalization = RGB_IMAGENET,
    folder: PathLike | None = None,
    say: Say = print,
    digest: str | None = None,
    pairs: list[Pair] | None = None,
) -> "CachedCityscapes":
    """`Cityscapes(root, split, size, ...)` served from the cache, which is filled first if need be: the same tensors.

    `folder` is where caches lie; None looks in `$DEEPLAB_CACHE` and the project's `data/cache`. `say` prints one line.
    `digest` is the split's fingerprint and `pairs` its scenes, where they are known already.
    Raises `ValueError` when the disk is too small, a file is damaged, or the cache itself is.
    """
    source = Resized(root, split, size, normalization, pairs)
    height, width = size
    digest = digest or fingerprint(root, source.pairs)
    name = f"{split}-{width}x{height}-{RULES}{digest[:14]}"
    places = [Path(folder)] if folder else locations()
    finished = next((place / name for place in places if (place / name).is_dir()), None)
    if finished is None:
        finished = next((place / name for place in places if _writable(place / f"{name}.lock")), None)
        if finished is None:
            raise ValueError(f"no cache {name} in {places[0]}, and no permission to write there: set DEEPLAB_CACHE")
        _fill_once(source, finished, digest, say)
    return CachedCityscapes(source, finished)


def locations() -> list[Path]:
    """Folders that may hold caches, the preferred one first: `$DEEPLAB_CACHE`, then the project's own."""
    shared = os.environ.get("DEEPLAB_CACHE")
    own = data_folder() / "cache"
    if not shared:
        return [own]
    folder = Path(shared).expanduser().resolve()
    if folder.is_file():
        raise ValueError(f"$DEEPLAB_CACHE is {folder}, a file; it must name a folder, which need not exist")
    return [folder, own]


def space_needed(count: int, size: Size) -> int:
    """Bytes of a cache of `count` images of `size` = (height, width)."""
    return count * 4 * size[0] * size[1]


class CachedCityscapes(Resized):
    """A finished cache: `images` (N, H, W, 3) and `labels` (N, H, W), both read-only uint8, and the data set's tensors.

    Each image's checksum is compared when a process first reads it.
    """

    def __init__(self, source: Resized, folder: Path) -> None:
        self.pairs, self.size, self.normalization = source.pairs, source.size, source.normalization
        self.folder = Path(folder)
        self._open()

    def _open(self) -> None:
        n, (h, w) = len(self.pairs), self.size
        self.checked = np.zeros(n, dtype=bool)
        try:
            self.images = np.load(self.folder / "images.npy", mmap_mode="r")
            self.labels = np.load(self.folder / "labels.npy", mmap_mode="r")
            self.checksums = np.fromfile(self.folder / "checksums.bin", dtype=np.uint32)
        except (OSError, ValueError) as error:
            raise self._damaged(error) from None
        if (self.images.shape, self.labels.shape, len(self.checksums)) != ((n, h, w, 3), (n, h, w), n):
            raise self._damaged(f"images {self.images.shape} and labels {self.labels.shape}, expected {(n, h, w)}")

    def label_values(self) -> tuple[np.ndarray, Counter]:
        """Pixels of each value `(256,)` in the label files at their own size, and how many files were read how."""
        rows = np.fromfile(self.folder / "values.bin", dtype=np.uint32).reshape(-1, ROW)
        if len(rows) != len(self.pairs):
            raise self._damaged(f"values of {len(rows)} labels, expected {len(self.pairs)}")
        return rows[:, :256].sum(0, dtype=np.int64), Counter(FORMS[form] for form in rows[:, 256])

    def _damaged(self, reason: object) -> ValueError:
        return ValueError(f"the cache {self.folder} is damaged ({reason}): delete this folder, and it is made again")

    def raw(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image uint8 `(H, W, 3)` and train ids uint8 `(H, W)`, views of the files."""
        image, labels = self.images[index], self.labels[index]
        if not self.checked[index]:
            if checksum(image, labels) != self.checksums[index]:
                raise self._damaged(f"checksum of {self.pairs[index].name}")
            self.checked[index] = True
        return image, labels

    def __getstate__(self) -> dict[str, Any]:
        # A memory map would be pickled as the whole array; a worker process opens its own.
        return {key: self.__dict__[key] for key in ("pairs", "size", "normalization", "folder")}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()


def checksum(image: np.ndarray, labels: np.ndarray) -> int:
    """CRC-32 over an image and its labels."""
    return zlib.crc32(labels.data, zlib.crc32(image.data))


def _writable(path: Path) -> bool:
    existing = next(place for place in (path, *path.parents) if place.exists())
    return os.access(existing, os.W_OK)


def _fill_once(source: Resized, finished: Path, digest: str, say: Say) -> None:
    """Fill the cache unless another process is at it: then wait for that one and use its result."""
    finished.parent.mkdir(parents=True, exist_ok=True)
    part = finished.with_name(finished.name + ".part")
    with held(finished, f"the cache {finished}", "filled", lambda: part.glob("*"), say=say):
        if not finished.is_dir():
            _fill(source, finished, part, digest, say)


def _fill(source: Resized, finished: Path, part: Path, digest: str, say: Say) -> None:
    part.mkdir(exist_ok=True)
    try:
        done = _resume(part, source)
        _check_space(part, source, done, say)
        _append(part, source, done, say)
        about = {"size": source.size, "fingerprint": digest, "names": [pair.name for pair in source.pairs]}
        write_text(part / "cache.json", json.dumps(about))
        for path in part.iterdir():
            sync(path)
        os.replace(part, finished)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):  # a drive that blinks: what is there stays
            raise
        shutil.rmtree(part, ignore_errors=True)
        raise ValueError(f"the disk of {finished.parent} is full: free some space or set DEEPLAB_CACHE") from None
    except ValueError:  # a damaged file; once mended, the data set has another fingerprint and this part no use
        shutil.rmtree(part, ignore_errors=True)
        raise


def _resume(part: Path, source: Resized) -> int:
    """Start the three files, or cut them back to the images whose checksums hold; returns how many these are."""
    n, (h, w) = len(source.pairs), source.size
    shapes = {part / "images.npy": (n, h, w, 3), part / "labels.npy": (n, h, w)}
    done = _confirmed(part, shapes)
    for path, shape in shapes.items():
        if not done:
            with path.open("wb") as stream:
                np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
        os.truncate(path, _header_bytes(path) + done * math.prod(shape[1:]))
    for name, size in (("checksums.bin", 4), ("values.bin", 4 * ROW)):
        (part / name).touch()
        os.truncate(part / name, size * done)
    return done


def _confirmed(part: Path, shapes: Mapping[Path, tuple[int, ...]]) -> int:
    """How many images, from the first, lie in the growing files as their checksums say."""
    try:
        images, labels = (_grown(path, shape) for path, shape in shapes.items())
        sums = np.fromfile(part / "checksums.bin", dtype=np.uint32)
        rows = (part / "values.bin").stat().st_size // (4 * ROW)
    except (OSError, ValueError):
        return 0
    known = min(len(images), len(labels), len(sums), rows)
    return next((i for i in range(known) if checksum(images[i], labels[i]) != sums[i]), known)


def _header_bytes(path: Path) -> int:
    with path.open("rb") as stream:
        np.lib.format.read_magic(stream)
        np.lib.format.read_array_header_1_0(stream)
        return stream.tell()


def _grown(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The whole images that a growing file holds so far."""
    offset, item = _header_bytes(path), math.prod(shape[1:])
    count = (path.stat().st_size - offset) // item
    if count == 0:
        return np.empty((0, *shape[1:]), np.uint8)
    return np.memmap(path, np.uint8, "r", offset, (count, *shape[1:]))


def _check_space(part: Path, source: Resized, done: int, say: Say) -> None:
    left, (h, w) = len(source.pairs) - done, source.size
    needed, free = space_needed(left, source.size), shutil.disk_usage(part).free
    task = f"caching {left:,} images of {part.name.partition('-')[0]} at {w}x{h}"
    if needed > free:
        amounts = f"needs {_amount(needed)}, and {_amount(free)} are free"
        raise ValueError(f"{task} in {part.parent} {amounts}: free some space or set DEEPLAB_CACHE to another disk")
    kept = f", {done:,} are there already" if done else ""
    say(f"{task}: {_amount(needed)} in {part.parent} ({_amount(free)} free{kept})")


def _amount(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def _append(part: Path, source: Resized, done: int, say: Say) -> None:
    """Decode, resize and append the images from number `done` on, in order."""
    n = len(source.pairs)
    with (
        (part / "images.npy").open("ab") as images,
        (part / "labels.npy").open("ab") as labels,
        (part / "values.bin").open("ab") as values,
        (part / "checksums.bin").open("ab") as checksums,
        ThreadPoolExecutor(cores()) as pool,
        Progress(n, done, say) as progress,
    ):
        for start in range(done, n, CHUNK):
            indices = range(start, min(start + CHUNK, n))
            for image, label, read in list(pool.map(source.read, indices)):
                images.write(image.data)
                labels.write(label.data)
                values.write(_row(read).tobytes())
                checksums.write(np.uint32(checksum(image, label)).tobytes())
            for stream in (images, labels, values, checksums):
                stream.flush()
            progress.update(len(indices))


def _row(labels: Labels | None) -> np.ndarray:
    """What `values.bin` holds of a label file."""
    row = np.zeros(ROW, np.uint32)
    if labels is not None:
        row[:256], row[256] = labels.values, FORMS.index(labels.form)
    return row
