"""One process at a time trains a run; others wait for it."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import filelock

from deeplab_lib.common.errors import plain
from deeplab_lib.common.files import remove
from deeplab_lib.common.types import Say
from deeplab_lib.training.run_folder import RunFolder


def lock_seconds() -> float:
    """`$DEEPLAB_LOCK_SECONDS`, for which a run waits that another process holds; -1, for ever, where it is not set."""
    wish = os.environ.get("DEEPLAB_LOCK_SECONDS", "-1")
    try:
        return float(wish)
    except ValueError:
        raise plain(ValueError(f"$DEEPLAB_LOCK_SECONDS is {wish!r}; it must be a number of seconds")) from None


@contextmanager
def run_lock(folder: RunFolder, patience: float | None = None, say: Say = print) -> Iterator[None]:
    """Hold the run for this process; a second process waits, saying who holds it.

    The lock is the operating system's: it falls with its process, however that ends. `patience`: seconds to wait
    (None: $DEEPLAB_LOCK_SECONDS, else for ever), then TimeoutError. Raises ValueError where nothing can be written.
    """
    path, holder = folder.path(".lock"), folder.path(".holder")
    patience = lock_seconds() if patience is None else patience
    lock = filelock.FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except filelock.Timeout:
        try:
            who = holder.read_text()
        except OSError:
            who = "another process"
        say(f"{folder.stem} is being trained by {who}; waiting for it")
        try:
            lock.acquire(timeout=patience, poll_interval=0.5)
        except filelock.Timeout:
            late = f"{folder.stem} is still held by {who} after {patience:g} s; try again later"
            raise plain(TimeoutError(late)) from None
    except OSError as error:
        raise plain(ValueError(f"cannot write in {path.parent} ({error.strerror}); give another out_dir")) from None
    try:
        folder.sweep()
        with suppress(OSError):  # it only tells who waits whom for
            since = time.strftime("%Y-%m-%d %H:%M")
            holder.write_text(f"process {os.getpid()} on {socket.gethostname()} since {since}")
        yield
    finally:
        remove(holder)
        lock.release()
