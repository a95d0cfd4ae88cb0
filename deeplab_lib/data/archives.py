"""Cityscapes' downloads read in place: a file of the data set is a path on disk or a member of a zip archive."""

import os
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

from deeplab_lib.common.types import PathLike

ARCHIVES = {
    "leftImg8bit": ("leftImg8bit_trainvaltest.zip", "leftImg8bit_trainextra.zip"),
    "gtFine": ("gtFine_trainvaltest.zip",),
    "gtCoarse": ("gtCoarse.zip",),
}
ENDINGS = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Member:
    """A file inside a zip archive, with the few parts of `pathlib.Path` that a data set needs."""

    archive: Path
    member: str
    size: int
    crc: int

    @property
    def name(self) -> str:
        return self._parts[-1]

    @property
    def _parts(self) -> list[str]:
        return self.member.replace("\\", "/").split("/")

    def open(self, mode: str = "rb") -> IO[bytes]:
        return _archive(self.archive).open(self.member)

    def __str__(self) -> str:
        return f"{self.archive}: {self.member}"


def _archive(path: Path) -> zipfile.ZipFile:
    """The open archive; each process has its own, since an inherited handle would share its file position."""
    status = path.stat()
    return _open_archive(path, status.st_size, status.st_mtime_ns, os.getpid())


@lru_cache(maxsize=16)
def _open_archive(path: Path, size: int, changed: int, process: int) -> zipfile.ZipFile:
    """Open an archive; `ValueError` in one line when it is a saved web page or only part of a download."""
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        with path.open("rb") as stream:
            start = stream.read(512).lstrip().lower()
        if start.startswith(b"<"):
            problem = "is a web page, not an archive: the site's login page was saved in its place"
        elif start.startswith(b"pk"):
            problem = f"is incomplete ({size:,} bytes without the end of a zip archive)"
        else:
            problem = "is not a zip archive"
        advice = f"delete it and download it again, logged in to cityscapes-dataset.com: csDownload {path.name}"
        raise ValueError(f"{path} {problem}; {advice}") from None


def find_archives(root: PathLike, top: str) -> list[Path]:
    """The archives in `root` that hold the folder `top` (a key of `ARCHIVES`), recognised by what is in them.

    The official names first; where there is none, any whole zip archive, such as `gtFine_trainvaltest (1).zip`.
    """
    official = [path for path in (Path(root) / name for name in ARCHIVES[top]) if path.is_file()]
    return official or [path for path in other_archives(root) if any(inside(path, top))]


def other_archives(root: PathLike) -> list[Path]:
    """The whole zip archives in `root`, by name."""
    if not Path(root).is_dir():
        return []
    zips = (path for path in Path(root).iterdir() if path.suffix.lower() == ".zip" and not path.name.startswith("."))
    return sorted(path for path in zips if path.is_file() and zipfile.is_zipfile(path))


def inside(archive: Path, folder: str) -> Iterator[tuple[str, zipfile.ZipInfo]]:
    """The members of an archive below `folder`, wherever it lies there: `(path from it on, zip's own entry)`."""
    wanted = re.compile(rf"(?:.*/)?({re.escape(folder)}/.+)")
    for info in _archive(archive).infolist():
        # Some programs on Windows write backslashes, others one more folder around all.
        match = None if info.is_dir() else wanted.fullmatch(info.filename.replace("\\", "/"))
        if match and "__MACOSX" not in info.filename:
            yield match[1], info


def home_of(root: PathLike, top: str) -> Path | None:
    """The folder that holds the folder `top`: `root`, or the one sub-folder of it that does.

    Two zips that were unpacked into a folder each are read so. A sub-folder that holds all of a data set is the user's
    to name: None.
    """
    root = Path(root)
    if (root / top).is_dir() or not root.is_dir():
        return root
    homes = [path.parent for path in sorted(root.glob(f"*/{top}")) if path.is_dir()]
    whole = homes and all((homes[0] / other).is_dir() for other in ("leftImg8bit", "gtFine"))
    return homes[0] if len(homes) == 1 and not whole else None


def list_files(root: Path, folder: str) -> Sequence[Path | Member]:
    """The files two levels below `folder`, such as "leftImg8bit/train", sorted by city and name.

    The unpacked folder, unless it is empty, wins over an archive beside it. Returns a list of `Path` or of `Member`,
    empty when neither is there.
    """
    top = folder.partition("/")[0]
    home = home_of(root, top)
    if home and (unpacked := sorted(path for path in (home / folder).glob("*/*") if _is_picture(path.name))):
        return unpacked
    found: dict = {}
    for path in find_archives(root, top):
        for place, info in inside(path, folder):
            if place.count("/") == folder.count("/") + 2 and _is_picture(place.rpartition("/")[2]):
                found.setdefault(place, Member(path, info.filename, info.file_size, info.CRC))
    return [found[place] for place in sorted(found)]


def _is_picture(name: str) -> bool:
    # macOS puts a hidden "._name.png" beside every file on disks that are not its own
    return name.lower().endswith(ENDINGS) and not name.startswith(".")


def city_of(file: Path | Member) -> str:
    """The folder that holds a file."""
    return file._parts[-2] if isinstance(file, Member) else file.parent.name
