"""Where runs lie: a folder's tables, and those of the people whose folders are collected in it."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from deeplab_lib.common.files import EVENTS
from deeplab_lib.common.types import PathLike

SET_ASIDE = re.compile(r"\.old\d+\.csv$", re.IGNORECASE)
DEPTH = 5  # levels of sub-folders that are looked into, as in anna/kit/runs/toycity
# Sub-folders, in any case, whose tables are not read: earlier attempts, and what the kit itself makes of runs.
NOT_READ = {"draft", "drafts", "old", "backup", "backups", "tmp", "temp", "archive", "trash", "predictions", "report"}
NEVER_RUNS = {"data", "node_modules", "__pycache__", "__MACOSX"}  # large, or copies by the system; not looked into


def csv_files(folder: PathLike) -> list[Path]:
    """The runs' CSVs of a folder, without those that a fresh start moved aside."""
    files = sorted(Path(folder).glob("*.[cC][sS][vV]"))
    return [path for path in files if not path.name.startswith(".") and not SET_ASIDE.search(path.name)]


def sibling(path: PathLike, suffix: str) -> Path | None:
    """The file beside `path` with the same stem, in any case, and `suffix`; None when there is none."""
    path = Path(path)
    if (exact := path.with_name(path.stem + suffix)).exists():
        return exact
    wanted = (path.stem + suffix).lower()
    return next((other for other in sorted(path.parent.iterdir()) if other.name.lower() == wanted), None)


def run_folders(folder: PathLike) -> tuple[list[Path], dict[Path, str]]:
    """`(folders, not_read)`: the folder itself and those below it that hold CSVs; those that do and are not read, why.

    Hidden folders, virtual environments and data are not looked into; links to folders are not followed.
    """
    folder = Path(folder)
    found, not_read = [folder], {}
    for place in _with_tables(folder, DEPTH):
        names = sorted(NOT_READ & {part.lower() for part in place.relative_to(folder).parts})
        if names:
            not_read[place] = f"in a folder called {names[0]}"
        elif any(place.glob(f"{EVENTS}*")) and not any(sibling(path, ".json") for path in csv_files(place)):
            not_read[place] = "a TensorBoard folder"
        else:
            found.append(place)
    return found, {place: why for place, why in not_read.items() if "predictions" not in place.parts}


def _with_tables(folder: Path, depth: int) -> Iterator[Path]:
    """The folders below `folder` that hold CSVs."""
    for place in sorted(_inside(folder)) if depth and folder.is_dir() else ():
        if csv_files(place):
            yield place
        yield from _with_tables(place, depth - 1)


def _inside(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                hidden = entry.name.startswith(".") or entry.name in NEVER_RUNS
                if entry.is_dir(follow_symlinks=False) and not hidden and not Path(entry, "pyvenv.cfg").exists():
                    yield Path(entry.path)
    except PermissionError:  # a folder that is somebody else's alone
        return
