"""One process at a time trains a run; others wait for it."""

import errno
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from deeplab_lib.common.errors import plain
from deeplab_lib.common.files import remove
from deeplab_lib.common.types import Say
from deeplab_lib.training.run_folder import RunFolder

SILENCE = 1800  # seconds; a checkpoint is written every few minutes, and a validation may take some more
POLL = 0.5  # seconds between two looks at a lock that is held
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


def lock_seconds() -> float:
    """`$DEEPLAB_LOCK_SECONDS`, for which a run waits that another process holds; -1, for ever, where it is not set."""
    wish = os.environ.get("DEEPLAB_LOCK_SECONDS", "-1")
    try:
        return float(wish)
    except ValueError:
        raise plain(ValueError(f"$DEEPLAB_LOCK_SECONDS is {wish!r}; it must be a number of seconds")) from None


def locks_work(folder: Path) -> bool:
    """Whether the file system of `folder` has locks that fall with their process, as local disks have."""
    try:
        import fcntl
    except ImportError:  # Windows, whose locks are of another kind and always there
        return True
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in NO_LOCKS
    return True


@contextmanager
def run_lock(folder: RunFolder, patience: float | None = None, say: Say = print) -> Iterator[None]:
    """Hold the run for this process; a second process waits, saying who holds it.

    The lock is the operating system's: it falls with its process, however that ends. Where the file system has none, a
    file `.softlock` stands for it, which a process that is killed leaves behind: there the wait ends once the run's
    files have not changed for `SILENCE` seconds. `patience`: seconds to wait (None: $DEEPLAB_LOCK_SECONDS, else for
    ever). After either TimeoutError. Raises ValueError where nothing can be written.
    """
    patience = lock_seconds() if patience is None else patience
    try:
        folder.folder.mkdir(parents=True, exist_ok=True)
        firm = locks_work(folder.folder)
        lock: filelock.BaseFileLock = (filelock.FileLock if firm else filelock.SoftFileLock)(
            folder.path(".lock" if firm else ".softlock")
        )
        lock.acquire(timeout=0)
    except filelock.Timeout:
        _wait(lock, patience, folder, firm, say)
    except OSError as error:
        raise plain(ValueError(f"cannot write in {folder.folder} ({error.strerror}); give another out_dir")) from None
    holder = folder.path(".holder")
    try:
        folder.sweep()
        with suppress(OSError):  # it only tells who waits whom for
            since = time.strftime("%Y-%m-%d %H:%M")
            holder.write_text(f"process {os.getpid()} on {socket.gethostname()} since {since}")
        yield
    finally:
        remove(holder)
        lock.release()


def _wait(lock: filelock.BaseFileLock, patience: float, folder: RunFolder, firm: bool, say: Say) -> None:
    """Acquire the lock, or raise TimeoutError: after `patience` seconds, or where an infirm lock's holder is silent."""
    try:
        who = folder.path(".holder").read_text()
    except OSError:
        who = "another process"
    say(f"{folder.stem} is being trained by {who}; waiting for it")
    begun, seen, written = time.monotonic(), time.monotonic(), None
    while True:
        time.sleep(POLL)
        with suppress(filelock.Timeout):
            lock.acquire(timeout=0)
            return
        now, latest = time.monotonic(), folder.changed()
        if latest != written:
            seen, written = now, latest
        if 0 <= patience <= now - begun:
            problem = f"{folder.stem} is still held by {who} after {patience:g} s; try again later"
            raise plain(TimeoutError(problem))
        if not firm and now - seen >= SILENCE:
            problem = (
                f"{folder.stem} is held by {who}, and its files have not changed for {SILENCE / 60:g} min. This file "
                "system has no locks, so whether that process lives is not known here; if it does not, delete "
                f"{folder.path('.softlock')} and run this again"
            )
            raise plain(TimeoutError(problem))
