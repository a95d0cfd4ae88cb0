"""Ending early, in good order: stop requests, wrong input, exhausted memory and full disks explained in one line."""

from __future__ import annotations

import errno
import functools
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import torch

if TYPE_CHECKING:
    from deeplab_lib.config import Config

P = ParamSpec("P")
T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

PACKAGE = Path(__file__).parents[1]
SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1") if hasattr(signal, name)]

# What PyTorch says of it: on Linux and macOS, on Windows, of GPUs, out of cuBLAS and cuDNN.
OUT_OF_MEMORY = "can't allocate memory", "not enough memory", "out of memory", "STATUS_ALLOC_FAILED"
OUT_OF_SHARED_MEMORY = "out of shared memory", "allocate shared memory"  # what it says of a loader's process


class RunStopped(RuntimeError):
    """A run ended early; the message says why, where its last good state is and how to go on."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback: a stop is no failure."""
        return str(self).splitlines()


def short_traceback(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate what a notebook calls: there a ValueError of the kit's own, or an OSError, shows its message alone.

    One that a library raises is a fault of the kit and keeps its traceback. Elsewhere nothing changes: IPython looks
    for `_render_traceback_`, Python does not.
    """

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except (ValueError, OSError) as error:
            if isinstance(error, OSError) or raised_by_the_kit(error):
                plain(error)
            raise

    return wrapper


def raised_by_the_kit(error: BaseException) -> bool:
    """Whether the line that raised the error stands in this package."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return PACKAGE in Path(frame.f_code.co_filename).parents


@contextmanager
def interruptible(what: str) -> Iterator[None]:
    """Turn the stop button into a `RunStopped` of one line, "stopped while <what>", in the block or function."""
    try:
        yield
    except KeyboardInterrupt:
        raise RunStopped(f"stopped while {what}") from None


def plain(error: E) -> E:
    """The error itself, of which a notebook shows the message alone."""
    # Not a lambda: errors travel, pickled, between the processes of a run.
    shown = functools.partial(str.splitlines, f"{type(error).__name__}: {error}")
    vars(error)["_render_traceback_"] = shown
    return error


class StopRequested(Exception):
    """Raised between two steps once a stop was asked for; carries the signal's name."""


class Stop:
    """Turns the stop button (SIGINT) and a cluster's SIGTERM, SIGHUP or SIGUSR1 into a request that `check` obeys.

    The step at hand is finished first. A second SIGINT interrupts at once, unless `patient`.
    """

    def __init__(self, patient: bool = False) -> None:
        self.requested: str | None = None  # the signal's name
        self.patient = patient

    @classmethod
    @contextmanager
    def listening(cls, patient: bool = False) -> Iterator[Stop]:
        """A `Stop` that listens while the block runs; the signals' earlier handlers are put back after it."""
        stop = cls(patient)
        if threading.current_thread() is not threading.main_thread():
            yield stop  # only the main thread may handle signals
            return
        heard = [number for number in SIGNALS if not ignored(number)]
        before = {number: signal.signal(number, stop._on_signal) for number in heard}
        try:
            yield stop
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: object) -> None:
        if self.requested and number == signal.SIGINT and not self.patient:
            raise KeyboardInterrupt
        self.requested = signal.Signals(number).name

    def check(self) -> None:
        """Raise `StopRequested` if a stop was asked for."""
        if self.requested:
            raise StopRequested(self.requested)


def ignored(number: int) -> bool:
    """Whether the signal is a hang-up that this process was started to outlive, as by `nohup`."""
    return number == getattr(signal, "SIGHUP", None) and signal.getsignal(number) is signal.SIG_IGN


def leave_signals(worker: int) -> None:
    """Make a loader's process ignore stop requests, which a scheduler sends to all: the training ends it in order."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the GPU's or the machine's memory is exhausted."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(words in str(error) for words in OUT_OF_MEMORY)


def is_out_of_shared_memory(error: BaseException) -> bool:
    """Whether an exception says that the loader's processes had no room to hand over their images."""
    text = f"{error} {error.__cause__}"  # the loader passes on what a killed process died of as the cause
    return isinstance(error, RuntimeError) and any(words in text for words in OUT_OF_SHARED_MEMORY)


def is_disk_trouble(error: BaseException) -> bool:
    """Whether an exception is a write that failed: a full, read-only or vanished disk."""
    kinds = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENOENT, errno.EACCES, errno.ESTALE, errno.EFBIG)
    return isinstance(error, OSError) and error.errno in kinds


def memory_advice(config: Config) -> str:
    """What to try when memory ran out, from the configuration at hand."""
    micro = config.batch_size // (config.accumulate * config.gpus)
    if micro > 1:
        steps = config.accumulate * next(parts for parts in range(2, micro + 1) if micro % parts == 0)
        return (
            f"try accumulate={steps} (the same batch of {config.batch_size} in {steps} parts) or a smaller batch_size"
        )
    if config.label_stride or config.multiscale:
        return "try label_stride=0 and multiscale=false: the loss needs its memory for finer labels and more scales"
    height, width = max(32, config.image_height // 2), max(32, config.image_width // 2)
    return f"try image_height={height} and image_width={width}, or a smaller model than {config.model}"
