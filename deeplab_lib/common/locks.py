"""One process at a time makes a thing, be it a run, a cache or a toy city; others wait for it."""

import errno
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from deeplab_lib.common.files import remove
from deeplab_lib.common.types import Say

SILENCE = 1800  # seconds; whoever works writes every few minutes, and a validation may take some more
POLL = 0.5  # seconds between two looks at a lock that is held
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextmanager
def held(
    place: Path,
    what: str,
    doing: str,
    written: Callable[[], Iterable[Path]],
    patience: float = -1,
    say: Say = print,
) -> Iterator[None]:
    """Hold `<place>.lock` for this process; a second process waits, saying who holds it.

    The lock is the operating system's: it falls with its process, however that ends. Where the file system has none, a
    file `<place>.softlock` stands for it, which a process that is killed leaves behind: there the wait ends once none
    of the files and folders `written()` has changed for `SILENCE` seconds.

    Args:
        what, doing: for the line that is said: "the cache x", "filled".
        patience: seconds to wait; -1: for ever.
    Raises: TimeoutError after either; another OSError where nothing can be written.
    """
    firm, holder = locks_work(place.parent), Path(f"{place}.holder")
    file = Path(f"{place}.lock" if firm else f"{place}.softlock")
    lock: filelock.BaseFileLock = (filelock.FileLock if firm else filelock.SoftFileLock)(file)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        try:
            who = holder.read_text()
        except OSError:
            who = "another process"
        say(f"{what} is being {doing} by {who}; waiting for it")
        _wait(lock, what, who, patience, None if firm else written)
    try:
        with suppress(OSError):  # it only tells who waits whom for
            since = time.strftime("%Y-%m-%d %H:%M")
            holder.write_text(f"process {os.getpid()} on {socket.gethostname()} since {since}")
        yield
    finally:
        remove(holder)
        lock.release()


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


def _wait(
    lock: filelock.BaseFileLock, what: str, who: str, patience: float, written: Callable[[], Iterable[Path]] | None
) -> None:
    """Acquire the lock, or raise TimeoutError: after `patience` seconds, or where `written` shows a silent holder."""
    begun = seen = time.monotonic()
    latest = None
    while True:
        time.sleep(POLL)
        with suppress(filelock.Timeout):
            lock.acquire(timeout=0)
            return
        now = time.monotonic()
        if 0 <= patience <= now - begun:
            raise TimeoutError(f"{what} is still held by {who} after {patience:g} s; try again later")
        if written is None:
            continue
        if (times := _times(written())) != latest:
            seen, latest = now, times
        elif now - seen >= SILENCE:
            raise TimeoutError(
                f"{what} is held by {who}, and its files have not changed for {SILENCE / 60:g} min. This file system "
                "has no locks, so whether that process lives is not known here; if it does not, delete "
                f"{lock.lock_file} and run this again"
            )


def _times(paths: Iterable[Path]) -> list[int]:
    """When each of `paths` that is there was last written, in nanoseconds of the file system's clock."""
    times = []
    for path in paths:
        with suppress(OSError):
            times.append(path.stat().st_mtime_ns)
    return times
