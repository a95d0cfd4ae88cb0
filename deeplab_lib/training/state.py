"""Where a run stands: everything that training changes, which is what a checkpoint holds."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from deeplab_lib.common import devices
from deeplab_lib.metrics import ConfusionMatrix


class Stopwatch:
    """Counts seconds from `seconds` on; what happens within `pause()` is not counted."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.started = time.monotonic() - seconds

    def elapsed(self) -> float:
        """Seconds counted so far."""
        return time.monotonic() - self.started

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Count nothing meanwhile."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.started += time.monotonic() - begun


class State:
    """What training changes, and where it stands.

    parts: `{name: object with a state_dict}`: network, optimiser, loss scaler and, where there is one, the average.
    terms: number of loss terms. steps_per_epoch: optimiser steps of an epoch. device: where losses are summed.
    """

    def __init__(self, parts: dict[str, Any], terms: int, steps_per_epoch: int, device: torch.device) -> None:
        self.parts, self.terms, self.steps_per_epoch, self.device = parts, terms, steps_per_epoch, device
        self.history: list[dict[str, Any]] = []
        self.sessions: list[dict[str, Any]] = []
        self.warnings: list[str] = []
        self.best: dict[str, Any] = {"epoch": 0, "val_mIoU": -1.0}
        self.start_epoch(1)

    def start_epoch(
        self,
        epoch: int,
        step: int = 0,
        seconds: float = 0.0,
        training_seconds: float | None = None,
        tally: torch.Tensor | None = None,
        confusion: torch.Tensor | None = None,
    ) -> None:
        """Stand at `step` of `epoch`, with what has been counted in it so far."""
        self.epoch, self.step_in_epoch, self.training_seconds = epoch, step, training_seconds
        self.clock, self.saved_at = Stopwatch(seconds), time.monotonic()
        sums = torch.zeros(2 * self.terms + 1) if tally is None else tally
        self.loss_sums = sums.to(self.device, devices.precise(self.device))
        self.confusion = ConfusionMatrix(matrix=confusion)

    @property
    def step(self) -> int:
        """Optimiser steps taken since the run began."""
        return (self.epoch - 1) * self.steps_per_epoch + self.step_in_epoch

    def as_dict(self) -> dict[str, Any]:
        """The state as tensors and plain values."""
        kept = {name: getattr(self, name) for name in ("history", "sessions", "warnings", "best")}
        kept |= {name: part.state_dict() for name, part in self.parts.items()}
        position: dict[str, Any] = {"epoch": self.epoch, "step": self.step_in_epoch, "seconds": self.clock.elapsed()}
        position |= {"tally": self.loss_sums.cpu(), "confusion": self.confusion.counts.cpu()}
        return kept | {"position": position | {"training_seconds": self.training_seconds}}

    def load(self, stored: dict[str, Any]) -> None:
        """Stand where `stored`, an `as_dict()`, stood; warnings of both are kept."""
        for name, part in self.parts.items():
            if stored[name]:  # a scaler that was not in use leaves nothing
                part.load_state_dict(stored[name])
        self.history, self.sessions, self.best = stored["history"], stored["sessions"], stored["best"]
        self.warnings = list(dict.fromkeys(stored["warnings"] + self.warnings))
        self.start_epoch(**stored["position"])
