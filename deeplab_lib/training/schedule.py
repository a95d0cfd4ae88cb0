"""The learning rate and everything else that changes while a run trains, as pure functions of the optimiser step.

Nothing here has state: a resumed run asks for step t and gets what the undisturbed run had at step t.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from deeplab_lib.recipes import Change, Follows


@dataclass(frozen=True)
class Step:
    """What the schedule says of one optimiser step.

    lr: base learning rate. power: exponent of the decay. weights: `{term: weight}` of the loss. frozen: names of the
    parts that do not train.
    """

    lr: float
    power: float
    weights: dict[str, float]
    frozen: tuple[str, ...]


WARMUP_START = 1e-6  # the first rate of a warm-up, by the study's logs


class PolyLR:
    """Poly decay after a linear warm-up, with mid-training changes (DeepLab, TPAMI 2018, section 4.1).

    Over the first `warmup_steps` w the rate rises linearly from 1e-6 to `base_lr`; then
    lr(t) = base_lr * (1 - (t - w) / (T - w))^power(t), with the power in force at step t. The formula holds from the
    first step on, so that a rising power makes the rate jump down, and a falling one up. Changes act by progress, so
    that a short run replays a plan of 50 epochs.

    The study's text describes the warm-up differently, which `follows="text"` gives: the decay starts with the first
    step, and the warm-up multiplies it, lr(t) = base_lr * (1 - t / T)^power(t) * min(1, (t + 1) / w).

    Args: base_lr: initial rate. total_steps: T. power, weights: in force from the start. changes: `recipes.Change`s.
    """

    def __init__(
        self,
        base_lr: float,
        total_steps: int,
        power: float = 0.9,
        warmup_steps: int = 0,
        weights: dict[str, float] | None = None,
        changes: Iterable[Change] = (),
        follows: Follows = "logs",
    ) -> None:
        self.base_lr, self.total_steps, self.warmup_steps, self.follows = base_lr, total_steps, warmup_steps, follows
        start = Change(epoch=1, power=power, weights=dict(weights or {}), freeze=())
        self.changes = (start, *sorted(changes, key=lambda change: change.epoch))

    def at(self, step: int) -> Step:
        """All that holds at optimiser step `step` (0-based)."""
        return Step(self.lr(step), self.power(step), self.weights(step), self.frozen(step))

    def lr(self, step: int) -> float:
        """Base learning rate of optimiser step `step` (0-based); 0 from T on, never negative."""
        if step >= self.total_steps:
            return 0.0
        if self.follows == "text":
            warmth = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
            return self.base_lr * (1 - step / self.total_steps) ** self.power(step) * warmth
        if step < self.warmup_steps:
            first = min(WARMUP_START, self.base_lr)
            return first + (self.base_lr - first) * step / self.warmup_steps
        decayed = (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        return self.base_lr * (1 - decayed) ** self.power(step)

    def power(self, step: int) -> float:
        """Exponent of the decay in force at `step`."""
        return self._last("power", step)

    def weights(self, step: int) -> dict[str, float]:
        """Loss weights `{term: weight}` in force at `step`."""
        return self._last("weights", step)

    def frozen(self, step: int) -> tuple[str, ...]:
        """Names of the parts frozen at `step`; what was frozen once stays so."""
        return tuple(dict.fromkeys(name for change in self._past(step) for name in change.freeze))

    def _past(self, step: float) -> list[Change]:
        return [change for change in self.changes if change.first_step(self.total_steps) <= step]

    def _last(self, setting: str, step: float) -> Any:
        return [getattr(c, setting) for c in self._past(step) if getattr(c, setting) is not None][-1]
