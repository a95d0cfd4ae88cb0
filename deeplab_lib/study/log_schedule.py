"""What a log says of its run's training: the schedule in its `lr` column, and where its loss was changed.

After the warm-up the rates of a poly schedule, logged once an epoch, are lr(e) = r ((E - e) / S)^q: r is the initial
rate, q the power, E the epoch at which the rate reaches zero, S the epochs from the end of the warm-up to E. Two
neighbouring epochs of one power give it exactly, whatever r and S are. Two stretches of different powers give r and S,
hence the warm-up; so does a warm-up whose line is seen in two epochs. Otherwise only r / S^q is known, and a warm-up
inside epoch 1 leaves a range of rates.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal, Self

import numpy as np
import pandas as pd

PRECISION = 1e-4  # relative error of a rate in a log, at most: four digits are enough
LONG = 3  # epochs of one power that prove it: two ratios agree
JUMP = 1.08  # factor by which both losses move in one epoch when the loss was changed
UNUSUAL = 6  # usual changes from epoch to epoch, as standard deviations, beyond which one stands out


@dataclass(frozen=True)
class LogSchedule:
    """The schedule that a column of rates shows.

    kind: "poly"; "constant"; "other" for any other decay; "absent" without rates. powers: (first epoch, power) of each
    stretch, in order. initial_lr: None where it is not determined. lr_range: the rates that are possible where the log
    leaves a range. inferred: `initial_lr` is the round rate in that range. warmup_epochs: 0 for none; None: not
    determined. rates: (epoch, rate) of every epoch that has a positive one.
    """

    kind: Literal["poly", "constant", "other", "absent"]
    powers: tuple[tuple[int, float], ...] = ()
    initial_lr: float | None = None
    lr_range: tuple[float, float] | None = None
    inferred: bool = False
    warmup_epochs: float | None = None
    rates: tuple[tuple[int, float], ...] = ()

    def __str__(self) -> str:
        """The schedule as text; logs with equal texts share a schedule."""
        if self.kind == "absent":
            return "rates not recorded"
        if self.kind == "other" or (self.initial_lr is None and self.lr_range is None):
            return "rates " + " ".join(f"{epoch}:{rate:.4g}" for epoch, rate in self.rates)
        rate = f"{self.initial_lr:g}" if self.lr_range is None else "{:.4g} to {:.4g}".format(*self.lr_range)
        parts = [f"power {power:g}" + (f" from epoch {epoch}" if epoch > 1 else "") for epoch, power in self.powers]
        warmup = "unknown" if self.warmup_epochs is None else f"{self.warmup_epochs:.3g} epochs"
        return "; ".join([f"lr {rate}", *parts, f"warm-up {warmup}"])


@dataclass(frozen=True)
class LossChange:
    """A change of the loss that a log shows: from `epoch` on both losses are higher or lower by these factors."""

    epoch: int
    train: float
    val: float


def infer_schedule(frame: pd.DataFrame) -> LogSchedule:
    """The schedule of a run from the columns `epoch` and `lr` of its table, in the order of the epochs."""
    table = frame[["epoch", "lr"]].dropna()
    epochs, rates = table["epoch"].to_numpy(float), table["lr"].to_numpy(float)
    positive = rates > 0
    pairs = tuple((int(e), float(r)) for e, r in zip(epochs[positive], rates[positive], strict=True))
    if len(pairs) < LONG:
        return LogSchedule("other" if pairs else "absent", rates=pairs)
    epochs, logs = np.array(pairs).T[0], np.log(rates[positive])
    if np.ptp(logs) < PRECISION:
        return LogSchedule("constant", ((1, 0.0),), _round(pairs[0][1]), warmup_epochs=0.0, rates=pairs)
    zeros = [float(e) for e in table["epoch"][~positive & (table["epoch"] > epochs[-1]).to_numpy()][:1]]
    ends = zeros or [epochs[-1] + 1, *_solved_ends(epochs, logs)]
    decays = [decay for end in ends if (decay := _Decay.toward(end, epochs, logs, logged_zero=bool(zeros)))]
    if not decays:
        return LogSchedule("other", rates=pairs)
    most = max(decay.covered for decay in decays)
    best = min((decay for decay in decays if decay.covered == most), key=lambda decay: decay.misfit)
    return best.schedule(pairs)


def loss_changes(frame: pd.DataFrame) -> list[LossChange]:
    """Epochs in which training and validation loss jump the same way while neither mIoU moves more than usual.

    Such a jump is another loss function, not another network. Empty where the table lacks losses or mIoU.
    """
    columns = ["train_loss", "val_loss", "train_mIoU", "val_mIoU"]
    table = frame.dropna(subset=columns)
    table = table[(table[columns[:2]] > 0).all(axis=1)]
    if len(table) < 10:
        return []
    moves = np.log(table[columns[:2]]).diff().join(table[columns[2:]].diff()).iloc[1:]
    usual = 1.4826 * (moves - moves.median()).abs().median()  # a standard deviation that a jump does not move
    losses, means = moves[columns[:2]], moves[columns[2:]]
    jumps = (losses.abs() > np.maximum(UNUSUAL * usual[columns[:2]], math.log(JUMP))).all(axis=1)
    jumps &= np.sign(losses["train_loss"]) == np.sign(losses["val_loss"])
    jumps &= (means.abs() < np.maximum(3 * usual[columns[2:]], 1)).all(axis=1)
    found = moves[jumps]
    factors = np.exp(found[columns[:2]])
    return [
        LossChange(int(table["epoch"][row]), float(factors["train_loss"][row]), float(factors["val_loss"][row]))
        for row in found.index
    ]


# --- poly ------------------------------------------------------------------------------------------------------------


RateAndSpan = tuple[float, float]  # the rate that decays, and over how many epochs


@dataclass(frozen=True)
class _Stretch:
    """Places `first` to `last` of the epochs, whose rates prove one power; level = log(r / S^power)."""

    first: int
    last: int
    power: float
    level: float


@dataclass(frozen=True)
class _Decay:
    """Rates that fall toward zero at epoch `end`, in stretches of one power each.

    left: log(end - epoch). total: epochs from the first step to `end`.
    """

    epochs: np.ndarray
    logs: np.ndarray
    left: np.ndarray
    total: float
    stretches: list[_Stretch]

    @classmethod
    def toward(cls, end: float, epochs: np.ndarray, logs: np.ndarray, logged_zero: bool) -> Self | None:
        """The decay toward `end`; None where less than most of the epochs lie in stretches of one power."""
        if end <= epochs[-1]:
            return None
        left = np.log(end - epochs)
        decay = cls(epochs, logs, left, end - _first_step(end, logs, logged_zero), _proven(left, logs))
        return decay if decay.covered >= 0.6 * len(epochs) else None

    @property
    def covered(self) -> int:
        """How many epochs lie in a stretch."""
        return sum(stretch.last - stretch.first + 1 for stretch in self.stretches)

    @property
    def misfit(self) -> float:
        """How far the rates lie from the stretches' powers, at most, as a logarithm."""
        return max(
            np.abs(self.logs[s.first : s.last + 1] - s.level - s.power * self.left[s.first : s.last + 1]).max()
            for s in self.stretches
        )

    def schedule(self, pairs: tuple[tuple[int, float], ...]) -> LogSchedule:
        """The `LogSchedule` of this decay, whose epochs and rates are `pairs`."""
        found = self._from_two_powers() or self._from_warmup_line()
        possible, inferred = None, False
        if not found:
            found, possible, inferred = self._from_one_power()
        rate, span = found or (None, None)
        warmup = None if span is None else max(0.0, self.total - span)
        if warmup is not None and warmup < 1e-3:
            warmup = 0.0
        return LogSchedule("poly", self._powers(rate, span), rate, possible, inferred, warmup, pairs)

    def _from_two_powers(self) -> RateAndSpan | None:
        """`(r, S)` from the two longest stretches of different powers, None when there is one power alone."""
        first, *others = sorted(self.stretches, key=lambda stretch: stretch.first - stretch.last)
        other = next((stretch for stretch in others if abs(stretch.power - first.power) > 0.02), None)
        if other is None:
            return None
        span = math.exp((other.level - first.level) / (first.power - other.power))
        if abs(span - self.total) < 2 * PRECISION * self.total / abs(first.power - other.power):
            plain = math.exp(first.level) * self.total**first.power
            span = self.total if _is_round(plain) else span
        if not 0 < span < 1.001 * self.total:
            return None
        return _round(math.exp(first.level) * span**first.power), span

    def _from_warmup_line(self) -> RateAndSpan | None:
        """`(r, S)` where a linear warm-up is seen in at least two epochs: its line meets the decay."""
        first, whole = self.stretches[0], self.stretches[0].first
        rates = np.exp(self.logs[:whole])
        if whole < 2 or not np.allclose(np.diff(rates), rates[1] - rates[0], rtol=1e-3) or rates[1] <= rates[0]:
            return None
        slope = rates[1] - rates[0]

        def gap(warmup: float) -> float:
            return rates[0] + slope * (warmup - 1) - math.exp(first.level) * (self.total - warmup) ** first.power

        warmup = _root(gap, whole, whole + 1)
        return None if warmup is None else (_round(rates[0] + slope * (warmup - 1)), self.total - warmup)

    def _from_one_power(self) -> tuple[RateAndSpan | None, tuple[float, float] | None, bool]:
        """`((r, S) or None, range of r, whether r is inferred)`: all that one power says."""
        first, whole = self.stretches[0], self.stretches[0].first
        if whole and not (np.diff(self.logs[: whole + 1]) > 0).all():
            return None, None, False
        high, low = (math.exp(first.level) * (self.total - whole - part) ** first.power for part in (0, 1))
        if not whole and _is_round(high):
            return (_round(high), self.total), None, False
        rate = _roundest(low, high)
        if rate is None:
            return None, (low, high), False
        return (rate, (rate / math.exp(first.level)) ** (1 / first.power)), (low, high), True

    def _powers(self, rate: float | None, span: float | None) -> tuple[tuple[int, float], ...]:
        """`((first epoch, power), ...)`: proven ones, between them what rate and span or two neighbours say."""
        powers = np.full(len(self.epochs), np.nan)
        for stretch in self.stretches:
            powers[stretch.first : stretch.last + 1] = stretch.power
        for place in np.flatnonzero(np.isnan(powers)):
            if place < self.stretches[0].first:
                continue
            if rate is not None and span is not None and abs(self.left[place] - math.log(span)) > 0.01:
                powers[place] = (self.logs[place] - math.log(rate)) / (self.left[place] - math.log(span))
            elif np.isnan(powers[place - 1 : place + 2]).any():
                powers[place] = _pair_powers(self.left, self.logs)[
                    place - 1 if np.isfinite(powers[place - 1]) else place
                ]
        path = [(1, powers[self.stretches[0].first])]
        for epoch, power in zip(self.epochs[self.stretches[0].first :], powers[self.stretches[0].first :], strict=True):
            if np.isfinite(power) and abs(power - path[-1][1]) > 0.02:
                path.append((int(epoch), power))
        return tuple((epoch, _round(float(power))) for epoch, power in path)


def _pair_powers(left: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """The power of each two neighbouring epochs, if they share one: (n - 1,)."""
    return np.diff(logs) / np.diff(left)


def _proven(left: np.ndarray, logs: np.ndarray) -> list[_Stretch]:
    """The stretches of at least `LONG` epochs in which all neighbours give one power."""
    powers, tolerance = _pair_powers(left, logs), 2 * PRECISION / np.abs(np.diff(left))
    alike = np.abs(np.diff(powers)) <= tolerance[1:] + tolerance[:-1]
    breaks = [0, *(np.flatnonzero(~alike) + 1), len(powers)]
    found = []
    for start, stop in pairwise(breaks):  # pairs `start` to `stop - 1` agree: epochs `start` to `stop`
        if stop - start + 1 >= LONG:
            power = (logs[stop] - logs[start]) / (left[stop] - left[start])
            if power < 0.05:  # a plateau is no decay
                continue
            level = float(np.mean(logs[start : stop + 1] - power * left[start : stop + 1]))
            found.append(_Stretch(start, stop, float(power), level))
    return found


def _solved_ends(epochs: np.ndarray, logs: np.ndarray) -> list[float]:
    """Epochs at which the rate would be zero, from three neighbouring epochs of one power each."""
    found = []
    for place in np.unique(np.linspace(0, len(epochs) - 3, 20, dtype=int)):
        bend = partial(_bend, epochs=epochs[place : place + 3], logs=logs[place : place + 3])
        end = _root(bend, epochs[-1] + 1e-9, 10 * epochs[-1])
        if end is not None:
            found.append(round(end) if abs(end - round(end)) < 1e-3 else end)
    return sorted(set(found))


def _bend(end: float, epochs: np.ndarray, logs: np.ndarray) -> float:
    """0 where the rates of three `epochs`, as logarithms, are of one power and reach zero at `end`."""
    (a, b, c), (x, y, z) = epochs, logs
    return (y - x) * math.log((end - c) / (end - b)) - (z - y) * math.log((end - b) / (end - a))


def _first_step(end: float, logs: np.ndarray, logged_zero: bool) -> float:
    """Where on the axis of epochs the first step stands: 0 for rates logged at an epoch's end, 1 at its start."""
    if logged_zero:
        return 0.0
    if end % 1:
        return end % 1
    return 1.0 if _is_round(math.exp(logs[0])) else 0.0


def _root(function: Callable[[float], float], low: float, high: float) -> float | None:
    """A zero of a function between `low` and `high` by bisection, None where it has one sign at both."""
    sign = function(low) > 0
    if (function(high) > 0) == sign:
        return None
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (function(middle) > 0) == sign else (low, middle)
    return (low + high) / 2


# --- round numbers ---------------------------------------------------------------------------------------------------


def _round(value: float) -> float:
    """The number of three digits that a log means, the value itself where none is near."""
    short = float(f"{value:.2e}")
    return short if math.isclose(short, value, rel_tol=3 * PRECISION) else value


def _is_round(value: float) -> bool:
    """Whether a rate has two digits at most, as people choose them."""
    return math.isclose(float(f"{value:.1e}"), value, rel_tol=PRECISION)


def _roundest(low: float, high: float) -> float | None:
    """The only number with one digit in the range, or else with two; None where there is none or more than one."""
    for digits in (0, 1):
        step = 10.0 ** (math.floor(math.log10(high)) - digits)
        found = [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
        if found:
            return float(f"{found[0]:.{digits}e}") if len(found) == 1 else None
    return None
