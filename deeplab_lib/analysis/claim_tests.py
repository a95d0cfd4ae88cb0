"""Tests of which claims consist: two groups of methods compared, by intervals that each test asks for and reads."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from deeplab_lib.analysis.evidence import RARE, Evidence, Method
from deeplab_lib.analysis.numbers import Numbers
from deeplab_lib.analysis.statistics import BOUNDARY, CLASS_MEASURES, LOG_LOSS, MIOU, Contrast, difference
from deeplab_lib.analysis.verdicts import (
    CONTRADICTED,
    EQUIVALENT,
    INCONCLUSIVE,
    SUPPORTED,
    Settled,
    settles_any,
    settles_seen,
)
from deeplab_lib.common.text import listing, signed
from deeplab_lib.labels import CLASS_NAMES

LONG_ENOUGH = 9  # epochs from which on a curve's irregularity is spoken of
CONVERGED = 0.9  # share of its own final mIoU at which a run counts as converged

NAMES = {MIOU: "mIoU", RARE: "mean IoU of the rare classes", BOUNDARY: "boundary F-score"}
NAMES |= {LOG_LOSS: "cross-entropy on the validation images"}
UNITS = {LOG_LOSS: "nats"}
Row = Mapping[str, Any]  # of a table of intervals


@dataclass(frozen=True)
class Finding:
    """What one part came to in one scope.

    direction: +1 when the point estimate agrees with the claim, -1 when it speaks against it, 0 without an estimate.
    figures: the numbers used, by name; `sentence(numbers, key)` prints them. open_reason: of an inconclusive one, what
    would settle it, or why nothing can, in a few words. seeds: how many of each method it takes at least, else 0.
    short: the curves have too few epochs. whole: it speaks of the best of all recipes. speaks_of: these networks, the
    losses, or the configurations.
    """

    part: str
    verdict: str
    direction: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    text: str = ""
    scope: str = ""
    confounded: bool = False
    seeds: int = 0
    short: bool = False
    whole: bool = False
    speaks_of: str = ""
    open_reason: str = ""

    def sentence(self, numbers: Numbers, prefix: str) -> str:
        """The finding in words; every figure in it is registered in `numbers` under `prefix.<name>`."""
        printed = {name: numbers.put(f"{prefix}.{name}", value, _format(name)) for name, value in self.figures.items()}
        return self.text.format(**printed)


@dataclass(frozen=True)
class Scope:
    """The methods that a part is judged on. `baseline` is CE as a group of one (or none)."""

    name: str
    members: tuple[Method, ...]
    evidence: Evidence

    @property
    def baseline(self) -> tuple[str, ...]:
        return self._names(lambda method: method.recipe == "ce")

    @property
    def others(self) -> tuple[str, ...]:
        """Every method but the baseline: in this study, the combinations."""
        return self._names(lambda method: method.recipe != "ce")

    def having(self, *losses: str) -> tuple[str, ...]:
        """Methods whose loss contains one of `losses`."""
        return self._names(lambda method: method.losses & set(losses))

    def lacking(self, *losses: str) -> tuple[str, ...]:
        """Methods whose loss contains none of `losses`."""
        return self._names(lambda method: not method.losses & set(losses))

    def curve(self, names: Collection[str], statistic: Callable[[pd.DataFrame], float]) -> list[float]:
        """`statistic(table)` of every run of the named methods."""
        runs = [run for method in self.members if method.name in names for run in method.runs]
        return [statistic(run.table) for run in runs]

    def _names(self, wanted: Callable[[Method], object]) -> tuple[str, ...]:
        return tuple(method.name for method in self.members if wanted(method))


@dataclass(frozen=True)
class ClaimTest:
    """A part of a claim: the methods `a` against the methods `b`.

    `contrasts()` are the differences whose intervals it needs, `judge(intervals, scope)` reads them. family: names the
    set of intervals that hold at once, "main", "classes" or one of the test's own; None when it needs none. whole: it
    speaks of all recipes.
    """

    part: str
    a: tuple[str, ...]
    b: tuple[str, ...]
    whole = False

    @property
    def family(self) -> str | tuple | None:
        return "main"

    @property
    def possible(self) -> bool:
        """Whether there is something on both sides."""
        return bool(self.a and self.b)

    def contrasts(self) -> dict[tuple, Contrast]:
        return {}

    def judge(self, intervals: Mapping[tuple, Mapping[str, Any]], scope: Scope) -> Finding:
        raise NotImplementedError

    def groups(self) -> list[list[tuple]] | None:
        """The `groups` of `Bootstrap.interval`, for a family of the test's own."""
        return None

    def valueless(self, scope: Scope, measures: Iterable[str]) -> Finding | None:
        """A Finding that names the methods without a value, None when all have one."""
        values = [scope.evidence.values.get(measure, {}) for measure in measures]
        known = {name for of_method in values for name, value in of_method.items() if not math.isnan(value)}
        lacking = [scope.evidence.title(name) for name in (*self.a, *self.b) if name not in known]
        text = f"no value for {listing(lacking)}"
        return Finding(self.part, INCONCLUSIVE, text=text, open_reason=text) if lacking else None


@dataclass(frozen=True)
class Higher(ClaimTest):
    """The mean of the methods `a` lies above (`sign` 1) or below (-1) the mean of the methods `b`; see `decide`."""

    measure: str = MIOU
    sign: int = 1

    def contrasts(self) -> dict[tuple, Contrast]:
        return {("higher", self.a, self.b, self.measure): difference(self.a, self.b, self.measure)}

    def judge(self, intervals: Mapping[tuple, Mapping[str, Any]], scope: Scope) -> Finding:
        if lacking := self.valueless(scope, [self.measure]):
            return lacking
        row = intervals[next(iter(self.contrasts()))]
        verdict = scope.evidence.decided(row, self.measure, self.sign)
        text = f"{NAMES[self.measure]}: {{estimate}} {UNITS.get(self.measure, 'points')}, " + _bounds(row)
        found = Finding(self.part, verdict, _sign(self.sign * row["estimate"]), _figures(row), text)
        return _with_power(found, row, scope.evidence.margins.of(self.measure))


@dataclass(frozen=True)
class Best(ClaimTest):
    """Whether one of `a` is significantly above every one of `b` (supported), or the reverse (contradicted).

    There is no difference that matters where either side has one that is significantly less than the margin below all
    of the other side.
    """

    measure: str = MIOU
    whole = True

    @property
    def family(self) -> tuple:
        return "best", self.a, self.b, self.measure

    def contrasts(self) -> dict[tuple, Contrast]:
        return {(a, b): difference(a, b, self.measure) for group in self.groups() for a, b in group}

    def groups(self) -> list[list[tuple]]:
        """Every candidate against one opponent, for each opponent of either side."""
        sides = ((self.a, self.b), (self.b, self.a))
        return [[(candidate, rival) for candidate in side] for side, rivals in sides for rival in rivals]

    def judge(self, intervals: Mapping[tuple, Mapping[str, Any]], scope: Scope) -> Finding:
        if lacking := self.valueless(scope, [self.measure]):
            return lacking
        values = scope.evidence.values[self.measure]
        best_a, best_b = (max(group, key=values.__getitem__) for group in (self.a, self.b))
        margin = scope.evidence.margins.of(self.measure)
        leads, holds = (
            [
                any(all(intervals[candidate, rival]["low"] > least for rival in rivals) for candidate in side)
                for side, rivals in ((self.a, self.b), (self.b, self.a))
            ]
            for least in (0, -margin)
        )
        verdict = SUPPORTED if leads[0] else CONTRADICTED if leads[1] else INCONCLUSIVE
        verdict = EQUIVALENT if all(holds) else verdict
        row = intervals[best_a, best_b]
        figures = {"with": values[best_a], "without": values[best_b]} | _figures(row)
        title = scope.evidence.title
        text = (
            f"best run with it: {title(best_a)} ({{with}} %), best run without: {title(best_b)} ({{without}} %). "
            "Difference {estimate} points, " + _bounds(row)
        )
        found = Finding(self.part, verdict, _sign(row["estimate"]), figures, text)
        widest = max((intervals[pair] for pair in self.contrasts()), key=_width)
        return _with_power(found, row, margin, widest)


@dataclass(frozen=True)
class Everywhere(ClaimTest):
    """No class is given up: in every class the interval of mean(a) - mean(b) stays above minus the margin.

    Contradicted when in some class it lies below 0 and does not stay above.
    """

    family = "classes"

    def contrasts(self) -> dict[tuple, Contrast]:
        return {("class", self.a, self.b, name): difference(self.a, self.b, name) for name in CLASS_MEASURES}

    def judge(self, intervals: Mapping[tuple, Mapping[str, Any]], scope: Scope) -> Finding:
        if lacking := self.valueless(scope, CLASS_MEASURES):
            return lacking
        margin = scope.evidence.margins.of("class_0")
        rows = {name: intervals["class", self.a, self.b, name] for name in CLASS_MEASURES}
        known = {name: row for name, row in rows.items() if not math.isnan(row["estimate"])}
        safe = [name for name, row in known.items() if row["low"] > -margin]
        lost = [name for name, row in known.items() if row["high"] < 0 and name not in safe]
        worst = min(lost or known, key=lambda name: known[name]["estimate"])
        verdict = CONTRADICTED if lost else SUPPORTED if len(safe) == len(known) else INCONCLUSIVE
        direction = 1 if all(row["estimate"] > -margin for row in known.values()) else -1
        text = (
            "below the others in {behind} of {classes} classes, significantly and by more than the margin in {lost}. "
            f"The largest difference{' of these' if lost else ''} is that in {_class_name(worst)}, "
            + "{estimate} points, "
        ) + _bounds(known[worst])
        behind = sum(row["estimate"] < 0 for row in known.values())
        figures = {"behind": behind, "classes": len(known), "lost": len(lost)} | _figures(known[worst])
        found = Finding(self.part, verdict, direction, figures, text)
        left = {name: row for name, row in known.items() if name not in (*safe, *lost)}
        bare = [_class_name(name) for name, row in left.items() if math.isnan(row["low"])]
        if verdict == INCONCLUSIVE and scope.evidence.no_intervals:
            return replace(found, open_reason=scope.evidence.no_intervals)
        if verdict == INCONCLUSIVE and bare:
            reason = f"no interval for {listing(bare)}, which too few images show"
            return replace(found, text=f"{text}; {reason}", open_reason=reason)
        return _with_power(found, None, margin, max(left.values(), key=_width, default=None))


def _class_name(measure: str) -> str:
    return CLASS_NAMES[int(measure.split("_")[1])]


@dataclass(frozen=True)
class Curves(ClaimTest):
    """A statistic of the learning curves is higher (`sign` 1) or lower (-1) in the runs `a` than in the runs `b`."""

    statistic: str = ""
    sign: int = 1
    family = "curves"

    def contrasts(self) -> dict[tuple, Contrast]:
        return {("curves", self.a, self.b, self.statistic): difference(self.a, self.b, self.statistic)}

    def judge(self, intervals: Mapping[tuple, Mapping[str, Any]], scope: Scope) -> Finding:
        words, measured = CURVES[self.statistic]
        a, b = (np.array(scope.curve(names, measured)) for names in (self.a, self.b))
        if not (len(a) and len(b) and np.isfinite(a).all() and np.isfinite(b).all()):
            reason = f"the learning curves are too short: {LONG_ENOUGH} epochs are needed"
            seeds = 0 if len({*self.a, *self.b}) < len(a) + len(b) else 2
            return Finding(self.part, INCONCLUSIVE, text=reason, short=True, open_reason=reason, seeds=seeds)
        row = intervals[next(iter(self.contrasts()))]
        verdict = scope.evidence.decided(row, self.statistic, self.sign)
        direction = _sign(self.sign * row["estimate"])
        figures = {"a": float(a.mean()), "b": float(b.mean()), "n_a": len(a), "n_b": len(b)} | _figures(row)
        text = f"{words}: {{a}} (n = {{n_a}}) compared with {{b}} (n = {{n_b}}). "
        text += "Difference {estimate}, " + _bounds(row)
        found = Finding(self.part, verdict, direction, figures, text)
        return _with_power(found, row, scope.evidence.margins.of(self.statistic))


@dataclass(frozen=True)
class Architectures(ClaimTest):
    """The baseline (`a`) against the same recipe on other networks (`b`), by mIoU and by what `cost` counts.

    kind "efficient": supported when some networks are no dearer and all of them worse, contradicted when one is as
    good. kind "outdone": supported when a network that is no dearer is better, contradicted when all networks are
    worse; where those that are no dearer are at best as good, there is no difference that matters.
    """

    kind: Literal["efficient", "outdone"]
    cost: Literal["parameters", "macs"]

    def contrasts(self) -> dict[tuple, Contrast]:
        return {("model", other, self.a): difference(other, self.a) for other in self.b}

    def judge(self, intervals: Mapping[tuple, Mapping[str, Any]], scope: Scope) -> Finding:
        cost = {method.name: getattr(method, self.cost) for method in scope.evidence.methods}
        rows = {other: intervals["model", other, self.a] for other in self.b}
        cheaper = [other for other in self.b if cost[other] <= cost[self.a[0]]]
        sides = {other: scope.evidence.decided(row, MIOU) for other, row in rows.items()}
        better = [other for other in cheaper if sides[other] == SUPPORTED]
        equal = [other for other in cheaper if sides[other] == EQUIVALENT]
        worse = [other for other in self.b if sides[other] == CONTRADICTED]
        settled = cheaper and set(cheaper) <= {*better, *equal, *worse}
        if self.kind == "efficient":
            as_good = better or equal
            verdict = CONTRADICTED if as_good else SUPPORTED if settled else INCONCLUSIVE
        else:
            verdict = SUPPORTED if better else CONTRADICTED if set(worse) == set(self.b) else INCONCLUSIVE
            verdict = EQUIVALENT if verdict == INCONCLUSIVE and settled else verdict
        figures: dict[str, float] = {"others": len(self.b), "cheaper": len(cheaper), "better": len(better)}
        figures |= {"equal": len(equal), "worse": len(worse)}
        counted = "multiply-adds" if self.cost == "macs" else self.cost
        text = (
            f"other networks: {{others}}; with no more {counted}: {{cheaper}}. "
            "Of these, significantly better in mIoU: {better}, without a difference that matters: {equal}. "
            "Significantly worse, whatever their cost: {worse}"
        )
        found = Finding(self.part, verdict, 0, figures, text)
        if not cheaper and verdict == INCONCLUSIVE:
            return replace(found, open_reason=f"no network with as few {counted} was trained")
        margin = scope.evidence.margins.of(MIOU)
        return _with_power(found, None, margin, max((rows[other] for other in cheaper), key=_width, default=None))


def _width(row: Row) -> float:
    """How far the interval of a row reaches from its estimate; without an interval farther than any."""
    return math.inf if math.isnan(row["high"]) else row["high"] - row["estimate"]


def _with_power(finding: Finding, row: Row | None, margin: float, widest: Row | None = None) -> Finding:
    """An inconclusive finding with what would settle it; any other as it is.

    row: the difference that was seen, None where there is not one alone. widest: the row with the widest interval, on
    which it depends whether everything is settled; None: `row`.
    """
    widest = row if widest is None else widest
    if finding.verdict != INCONCLUSIVE or widest is None:
        return finding
    if math.isnan(widest["low"]):
        reason = widest["reason"]
        one_seed = reason == "every run has one seed"
        more = ". How much trainings differ can be estimated from two seeds or more" if one_seed else ""
        return replace(finding, text=f"{finding.text}{more}", open_reason=reason, seeds=2 if one_seed else 0)
    figures, parts = {"margin": margin}, []
    whatever = settles_any(widest, margin)
    if row is not None:
        parts.append(f"{_take(settles_seen(row, margin), 'seen', figures)} for a difference of this size")
    parts.append(f"{_take(whatever, 'any', figures)} for any difference (margin {{margin}})")
    text = f"{finding.text}. To decide, it takes {', '.join(parts)}"
    only_seeds = math.isinf(whatever.images) and not math.isinf(whatever.seeds)
    used = {name: format(value, _format(name)) for name, value in figures.items()}
    reason = _take(whatever, "any", {}).format(**used)
    seeds = int(whatever.seeds) if only_seeds else 0
    return replace(finding, text=text, figures=finding.figures | figures, open_reason=reason, seeds=seeds)


def _take(settled: Settled, key: str, figures: dict[str, float]) -> str:
    """What it takes, in words with the names of the numbers, which go into `figures`."""
    if settled.both > 1:
        figures[f"times_{key}"] = settled.both
        return f"{{times_{key}}} times as many validation images and seeds"
    parts = []
    for of, number, words in (
        ("images", settled.images, "validation images"),
        ("seeds", settled.seeds, "seeds per configuration"),
    ):
        if not math.isinf(number):
            figures[f"{of}_{key}"] = int(number)
            parts.append(f"{{{of}_{key}}} {words}")
    return " or ".join(parts)


def _sign(value: float) -> int:
    return int(value > 0) - int(value < 0)


def _figures(row: Row) -> dict[str, float]:
    figures = {"estimate": row["estimate"]}
    return figures | ({} if math.isnan(row["low"]) else {"low": row["low"], "high": row["high"]})


def _bounds(row: Row) -> str:
    if math.isnan(row["low"]):
        return f"without an interval ({row['reason']})"
    return "interval [{low}, {high}]"


def _format(name: str) -> Any:
    kind = name.split("_")[0]
    formats = {"with": ".2f", "without": ".2f", "a": ".3g", "b": ".3g", "margin": ".3g", "times": ".1f"}
    return signed if name in ("estimate", "low", "high") else formats.get(kind, ",d")


# --- statistics of a learning curve ---------------------------------------------------------------------------------


def roughness(table: pd.DataFrame) -> float:
    """Irregularity of the validation mIoU in points: root mean square of its second differences, later half.

    NaN for fewer than `LONG_ENOUGH` epochs: one or two differences show how a curve bends as it comes to rest, not how
    it jumps.
    """
    values = _finite(table, "val_mIoU")
    late = values[len(values) // 2 :]
    return float(np.sqrt(np.mean(np.diff(late, 2) ** 2))) if len(values) >= LONG_ENOUGH else math.nan


def convergence(table: pd.DataFrame) -> float:
    """Share of the epochs after which the validation mIoU first reaches `CONVERGED` of its last value."""
    values = _finite(table, "val_mIoU")
    return float((np.argmax(values >= CONVERGED * values[-1]) + 1) / len(values)) if len(values) else math.nan


def _finite(table: pd.DataFrame, column: str) -> np.ndarray:
    values = table[column].to_numpy(float) if column in table else np.empty(0)
    return values[np.isfinite(values)]


def speed_step(table: pd.DataFrame) -> float:
    """The step in which `convergence` is known: an epoch."""
    return 1 / max(1, len(_finite(table, "val_mIoU")))


CURVES = {
    "roughness": ("irregularity of the validation mIoU in the second half (points)", roughness),
    "speed": ("share of the training until 90 % of the final mIoU", convergence),
}
