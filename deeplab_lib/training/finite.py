"""The check that stops a training whose loss is no longer a finite number."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from deeplab_lib.common import devices
from deeplab_lib.common.errors import RunStopped
from deeplab_lib.data.pairs import Pair
from deeplab_lib.training.run_folder import RunFolder


class LossTerms(NamedTuple):
    """The raw loss terms of one step, on their way from the device, and what the step was made of."""

    values: devices.Copy
    epoch: int
    step: int
    numbers: Sequence[int]


class FiniteCheck:
    """Stops a run before a loss that is not finite reaches what is saved.

    A CPU is checked at once, before the weights are touched. A GPU would have to be waited for: there a step's terms
    are looked at a step later, and before anything is saved (`check_pending`).

    names: of the loss terms. delayed: whether to look a step later. pairs: the training images. folder: the run's,
    for what an error says.
    """

    def __init__(self, names: list[str], delayed: bool, pairs: Sequence[Pair], folder: RunFolder) -> None:
        self.names, self.delayed, self.pairs, self.folder = names, delayed, pairs, folder
        self.pending: list[LossTerms] = []

    def check(self, terms: torch.Tensor, epoch: int, step: int, numbers: Sequence[int]) -> None:
        """Check `terms` of `step` of `epoch`, or remember them and check those of the step before."""
        self.pending.append(LossTerms(devices.Copy(terms), epoch, step, numbers))
        while len(self.pending) > self.delayed:
            self._refuse_not_finite(self.pending.pop(0))

    def check_pending(self) -> None:
        """Check what still waits for it."""
        while self.pending:
            self._refuse_not_finite(self.pending.pop(0))

    def _refuse_not_finite(self, terms: LossTerms) -> None:
        values = dict(zip(self.names, terms.values.values(), strict=True))
        bad = [f"{name} = {value}" for name, value in values.items() if not math.isfinite(value)]
        if bad:
            images = ", ".join(self.pairs[number].name for number in terms.numbers)
            raise RunStopped(
                f"the loss is not finite at epoch {terms.epoch}, step {terms.step}: {', '.join(bad)}; images {images}. "
                f"{self.folder.last_good}; a smaller lr or a longer warm-up usually helps"
            )
