"""How a run ends early: one line that says why, where it stands, and what to do."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from deeplab_lib.common.errors import (
    RunStopped,
    StopRequested,
    is_disk_trouble,
    is_out_of_memory,
    is_out_of_shared_memory,
    memory_advice,
)
from deeplab_lib.training import distributed
from deeplab_lib.training.trainer import Trainer


@contextmanager
def explain_errors(trainer: Trainer, save: Callable[..., object]) -> Iterator[None]:
    """Turn what ends a run early into one `RunStopped` that says what to do; a stop that was asked for saves first."""
    state, folder = trainer.state, trainer.folder
    where = lambda: f"epoch {state.epoch}, step {state.step_in_epoch}"  # noqa: E731
    again = "run it again" + ("" if trainer.config.resume else " with resume=True")
    try:
        try:
            yield
        except StopRequested as request:
            save(trainer, reason=f"interrupted by {request}")
            distributed.wait()
            raise RunStopped(f"stopped by {request} at {where()}; {folder.last_good}; {again} to continue") from None
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if is_out_of_shared_memory(error):
            way = "give the container more of it (docker run --shm-size=2g), or set workers=0"
            raise RunStopped(f"out of shared memory at {where()}: {way}; {folder.last_good}") from None
        if not is_out_of_memory(error):
            raise
        # A notebook keeps the error, and with its frames' variables the graph that filled the memory.
        traceback.clear_frames(error.__traceback__)
        advice = memory_advice(trainer.config)
        raise RunStopped(f"out of memory at {where()}: {advice}; {folder.last_good}") from None
    except OSError as error:
        if not is_disk_trouble(error):
            raise
        raise RunStopped(
            f"cannot use {error.filename or folder.folder} ({error.strerror}) at {where()}; {folder.last_good}; make "
            f"room there, or move {folder.stem}.* to another out_dir, and {again} to continue"
        ) from None
