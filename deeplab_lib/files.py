"""Files that are whole or not there: atomic writes with patience, hashes, and where the project lies."""

import contextlib
import errno
import hashlib
import os
import time
from pathlib import Path

# Errors of a mount that blinks (network drives, Colab's Drive). A full disk or a read-only folder is not among them:
# waiting does not mend those.
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


def write_atomic(path, write, pauses=PAUSES):
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
            return path
        except OSError as error:
            if pause is None or error.errno not in PASSING:
                raise
            time.sleep(pause)
        finally:
            remove(temporary)


def write_text(path, text):
    """Write `text` (UTF-8) atomically."""
    return write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))


def sync(path):
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


def remove(path):
    """Delete a file if it is there and can be."""
    with contextlib.suppress(OSError):
        Path(path).unlink(missing_ok=True)


def file_sha256(path):
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def text_sha256(text):
    """SHA-256 of a text in UTF-8, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def in_project(path):
    """`path`, `~` meaning home; a relative one that is not here is meant in the project."""
    path = Path(path).expanduser()
    return path if path.exists() else project_root() / path


def project_root():
    """The folder of the kit: the first one upwards from here, or from this package, that holds `notebooks/`.

    Falls back to the current folder, so that an installed package works anywhere.
    """
    for start in (Path.cwd(), Path(__file__).resolve().parent):
        for folder in (start, *start.parents):
            if (folder / "notebooks" / "train.ipynb").exists():
                return folder
    return Path.cwd()
