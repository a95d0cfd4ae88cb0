"""Files that are whole or not there: atomic writes with patience, JSON, hashes, and where the project lies."""

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from deeplab_lib.common.types import PathLike

# Transient errors of a mount (network drives, Colab's Drive). A full disk or a read-only folder is not among them:
# waiting does not fix those.
PASSING = {
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ENOTCONN,
    errno.EBUSY,
    errno.EAGAIN,
    errno.EINTR,
    errno.ENOENT,
    *([errno.EACCES] if os.name == "nt" else []),  # there a file that a spreadsheet or a scanner has open
}
PAUSES = (0.5, 2, 5, 10, 20)
EVENTS = "events.out.tfevents"  # how the files of a TensorBoard folder begin


def write_atomic(path: PathLike, write: Callable[[Path], object], pauses: Sequence[float] = PAUSES) -> Path:
    """Let `write(temporary_path)` fill a file beside `path`, sync it to disk and rename it to `path`.

    A reader sees the old file or the new one, never a part. Errors of a blinking mount are retried after `pauses`
    seconds; the last error is raised, and no temporary file stays behind.
    """
    path = Path(path)
    for pause in (*pauses, None):
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(temporary)
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
            break
        except OSError as error:
            if pause is None or error.errno not in PASSING:
                raise
            time.sleep(pause)
        finally:
            remove(temporary)
    return path


def write_text(path: PathLike, text: str) -> Path:
    """Write `text` (UTF-8) atomically."""
    return write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))


def write_npz(path: PathLike, **arrays: np.ndarray) -> None:
    """Write `arrays` as a compressed NPZ file, atomically."""

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # an array may not be called allow_pickle

    write_atomic(path, write)


def sync(path: PathLike) -> None:
    """Flush a file, or a folder's entries, to disk."""
    if os.name == "nt" and Path(path).is_dir():
        return
    handle = os.open(path, os.O_RDONLY if Path(path).is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(handle)


def remove(path: PathLike) -> None:
    """Delete a file if it is there and can be."""
    with contextlib.suppress(OSError):
        Path(path).unlink(missing_ok=True)


def file_sha256(path: PathLike) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def in_project(path: PathLike) -> Path:
    """`path`, `~` meaning home; a relative one that is not here is meant in the project."""
    path = Path(path).expanduser()
    return path if path.exists() else project_root() / path


def for_project(path: PathLike, name: str = "") -> Path:
    """The folder `path` to write in, `~` meaning home: below one of the project a relative one is meant in the project.

    So `runs/mine` is the same for a notebook, whose kernel starts in `notebooks/`, and for the shell; `../mine` is what
    it says. ValueError where it is a file or lies below one; `name`: of the parameter that was given.
    """
    path, root = Path(path).expanduser(), project_root()
    folder = path if path.exists() or ".." in path.parts or root not in Path.cwd().parents else root / path
    if file := next((place for place in (folder, *folder.parents) if place.is_file()), None):
        raise ValueError(f"{file} is a file: name a folder{f' as {name}' if name else ''}")
    return folder


ELSEWHERE = "…/"  # before the name of a file or folder outside the project


def portable(path: str | Path) -> str:
    """A path as others may read it: relative to the project, or only its name; text that is no absolute path as it is.

    A document that is handed in says nothing of its author's folders. Paths of other systems are understood.
    """
    text = str(path)
    if PureWindowsPath(text).drive and PureWindowsPath(text).is_absolute():
        return ELSEWHERE + PureWindowsPath(text).name
    if not PurePosixPath(text).is_absolute() and not Path(text).is_absolute():
        return text
    root = project_root().resolve()
    place = Path(text)
    for inside in (place, place.resolve()):
        if inside.is_relative_to(root):
            return inside.relative_to(root).as_posix()
    return ELSEWHERE + place.name


def without_paths(text: str) -> str:
    """`text` with every absolute path in it made `portable`."""
    for folder in (project_root().resolve(), project_root()):
        text = text.replace(f"{folder}{os.sep}", "")
    return ABSOLUTE_PATH.sub(lambda match: portable(match[0]), text)


# A path of at least two parts, as it stands in a sentence: not the end of an address, a fraction or a relative path.
ABSOLUTE_PATH = re.compile(
    r"(?<![\w:/.~<…\\-])(?:/|[A-Za-z]:[\\/])(?:[^\s/\\'\"`,;:()|<>]+[/\\])+[^\s/\\'\"`,;:()|<>]*"
)


def project_root() -> Path:
    """The folder of the kit: the first one upwards from here, or from this package, that holds `notebooks/`.

    Falls back to the current folder, so that an installed package works anywhere.
    """
    for start in (Path.cwd(), Path(__file__).resolve().parent):
        for folder in (start, *start.parents):
            if (folder / "notebooks" / "train.ipynb").exists():
                return folder
    return Path.cwd()


def data_folder() -> Path:
    """Where the kit keeps its toy city and its cache: `$DEEPLAB_DATA`, else `data/` in the project."""
    return absolute(os.environ.get("DEEPLAB_DATA") or project_root() / "data")


def absolute(path: PathLike) -> Path:
    """An absolute path that keeps symbolic links: the link's name is the one that its owner chose."""
    return Path(os.path.abspath(Path(path).expanduser()))


def read_json(path: PathLike) -> Any:
    """The object in a JSON file, None if there is no file; ValueError naming a file that is not JSON."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("no object at its top")
        return content
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(
            f"{path} is not a readable JSON file ({error}); move it away, and the same command writes it anew"
        ) from None


def write_json(path: PathLike, content: object) -> None:
    """Write `content` as readable JSON, atomically; NaN as null."""
    write_text(path, json.dumps(jsonable(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def jsonable(value: object) -> Any:
    """`value` with arrays as lists, paths as text and NaN as None, ready for JSON."""
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return jsonable(value.tolist())
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, os.PathLike) else value
