"""Cityscapes' downloads read in place: a file of the data set is a path on disk or a member of a zip archive."""

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import IO

ARCHIVES = {
    "leftImg8bit": ("leftImg8bit_trainvaltest.zip", "leftImg8bit_trainextra.zip"),
    "gtFine": ("gtFine_trainvaltest.zip",),
    "gtCoarse": ("gtCoarse.zip",),
}
PICTURES = "[!.]*.png"  # macOS puts a hidden "._name.png" beside every file on disks that are not its own


@dataclass(frozen=True)
class Member:
    """A file inside a zip archive, with the few parts of `pathlib.Path` that a data set needs."""

    archive: Path
    member: str
    size: int
    crc: int

    @property
    def name(self) -> str:
        return self.member.rpartition("/")[2]

    def open(self, mode: str = "rb") -> IO[bytes]:
        return _archive(self.archive).open(self.member)

    def read_bytes(self) -> bytes:
        with self.open() as stream:
            return stream.read()

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


def find_archives(root: Path, top: str) -> list[Path]:
    """The official archives that hold the folder `top` (a key of `ARCHIVES`) and are present in `root`."""
    return [path for path in (Path(root) / name for name in ARCHIVES[top]) if path.is_file()]


def list_files(root: Path, folder: str) -> Sequence[Path | Member]:
    """The files two levels below `folder`, such as "leftImg8bit/train", sorted by city and name.

    The unpacked folder, unless it is empty, wins over an archive beside it. Returns a list of `Path` or of `Member`,
    empty when neither is there.
    """
    root, top = Path(root), folder.partition("/")[0]
    if unpacked := sorted((root / folder).glob(f"*/{PICTURES}")):
        return unpacked
    found = []
    for path in find_archives(root, top):
        for info in _archive(path).infolist():
            parts = info.filename.split("/")
            if len(parts) == 4 and "/".join(parts[:2]) == folder and fnmatch(parts[3], PICTURES):
                found.append(Member(path, info.filename, info.file_size, info.CRC))
    return sorted(found, key=lambda file: file.member)


def city_of(file: Path | Member) -> str:
    """The folder that holds a file."""
    return file.member.split("/")[-2] if isinstance(file, Member) else file.parent.name
