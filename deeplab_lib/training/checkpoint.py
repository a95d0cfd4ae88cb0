"""The state of a run on disk: written whole, checked by hash, the previous one kept, loaded without running code."""

import glob
import hashlib
import io
import os
import socket
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import filelock
import torch

from deeplab_lib.common.errors import plain
from deeplab_lib.common.files import remove, write_atomic

WRITTEN = (".json", ".csv", ".npz", ".pt", ".previous.pt", ".best.pt", ".damaged.pt")  # what a run leaves behind
SEAL = b"sha256:"  # stands, with the digest of all before it, at the very end of a checkpoint file


@dataclass(frozen=True)
class RunFiles:
    """Where the files of the run `stem` lie in `folder`."""

    folder: Path
    stem: str

    def path(self, ending):
        """`<folder>/<stem><ending>`; endings: those of `WRITTEN`, .lock, .holder and .ipynb."""
        return self.folder / f"{self.stem}{ending}"

    def move_aside(self):
        """Rename the run's files to `<stem>.old<N>...`; nothing is deleted. Returns the new stem, or None."""
        found = [ending for ending in WRITTEN if self.path(ending).exists()]
        number = 1
        while any(self.folder.glob(f"{self.stem}.old{number}.*")):
            number += 1
        for ending in found:
            os.replace(self.path(ending), self.folder / f"{self.stem}.old{number}{ending}")
        return f"{self.stem}.old{number}" if found else None

    def keep_damaged(self):
        """Rename a damaged checkpoint to `<stem>.damaged.pt`, so that it cannot replace the good previous one."""
        if self.path(".pt").exists():
            os.replace(self.path(".pt"), self.path(".damaged.pt"))

    def sweep(self):
        """Delete the temporary files that a killed process left; only for the holder of the run's lock."""
        for ending in WRITTEN:
            for temporary in self.folder.glob(f".{glob.escape(self.stem + ending)}.*.tmp"):
                remove(temporary)


def save(path, state, keep=None):
    """Write `state` to `path` atomically; what was there becomes `keep`.

    The file is an ordinary `torch.save` archive with its SHA-256 behind it (`torch.load` reads it as it is).
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getbuffer()
    seal = SEAL + hashlib.sha256(data).hexdigest().encode()

    def write(temporary):
        with open(temporary, "wb") as file:
            file.write(data)
            file.write(seal)
        if keep and Path(path).exists():
            # A hard link, so that at no instant both names are gone; a copy by rename where links are not to be had.
            remove(keep)
            try:
                os.link(path, keep)
            except OSError:
                os.replace(path, keep)

    write_atomic(path, write)


def load(path):
    """State in a file, on the CPU; ValueError in one line if it is cut, changed, or carries anything but data."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"checkpoint {path} cannot be read: {error.strerror}") from None
    body, seal = data[: -(len(SEAL) + 64)], data[-(len(SEAL) + 64) :]
    if seal != SEAL + hashlib.sha256(body).hexdigest().encode():
        raise ValueError(f"checkpoint {path} is damaged: its content does not match its hash")
    try:
        return torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except Exception as error:  # the reader's errors have no common type
        first = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise ValueError(f"checkpoint {path} holds more than tensors and plain values; not loaded ({first})") from None


def load_newest(files):
    """`(state, warnings)` of a run: its checkpoint, else the previous one; `(None, warnings)` when neither is good."""
    warnings = []
    for ending in (".pt", ".previous.pt"):
        if files.path(ending).exists():
            try:
                return load(files.path(ending)), warnings
            except ValueError as error:
                warnings.append(str(error))
    return None, warnings


def lock_seconds():
    """`$DEEPLAB_LOCK_SECONDS`, for which a run waits that another process holds; -1, for ever, where it is not set."""
    wish = os.environ.get("DEEPLAB_LOCK_SECONDS", "-1")
    try:
        return float(wish)
    except ValueError:
        raise plain(ValueError(f"$DEEPLAB_LOCK_SECONDS is {wish!r}; it must be a number of seconds")) from None


@contextmanager
def run_lock(files, patience=None, say=print):
    """Hold the run for this process; a second process waits, saying who holds it.

    The lock is the operating system's: it falls with its process, however that ends. `patience`: seconds to wait
    (None: $DEEPLAB_LOCK_SECONDS, else for ever), then TimeoutError. Raises ValueError where nothing can be written.
    """
    path, holder = files.path(".lock"), files.path(".holder")
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
        say(f"{files.stem} is being trained by {who}; waiting for it")
        try:
            lock.acquire(timeout=patience, poll_interval=0.5)
        except filelock.Timeout:
            late = f"{files.stem} is still held by {who} after {patience:g} s; try again later"
            raise plain(TimeoutError(late)) from None
    except OSError as error:
        raise plain(ValueError(f"cannot write in {path.parent} ({error.strerror}); give another out_dir")) from None
    try:
        files.sweep()
        with suppress(OSError):  # it only tells who waits whom for
            since = time.strftime("%Y-%m-%d %H:%M")
            holder.write_text(f"process {os.getpid()} on {socket.gethostname()} since {since}")
        yield
    finally:
        remove(holder)
        lock.release()
