"""The study's claims as explicit rules: what is measured, what must hold, and what the runs say.

A claim consists of parts; each part is a `ClaimTest` of two groups of methods, judged twice: among the methods that
share the baseline's schedule (runs 1, 2, 3, 4 and 8, or all eight once the control was trained), where only the loss
differs, and among all recipes as they were trained, where learning rate, warm-up, decay and freezing differ too and
every difference is confounded with them. The verdict of a part comes from the first where it can be tested there, else
from the second; a part about the best of all (`whole`) is judged only where all recipes take part. Parts and claims end
as supported, contradicted, no difference that matters, or inconclusive (`verdicts`), and what is inconclusive says what
would settle it. With one seed a run all of this speaks of the trained networks; with several, of the losses.

The intervals that verdicts rest on hold at once within a family: one at 95 % for mIoU, rare classes and boundaries,
together with the differences that figures and tables show; one at 99.5 % for single classes. Those of who is best need
not hold at once for a false answer to stay below 5 %. That some candidate is above every opponent is an
intersection-union test (Berger, "Multiparameter Hypothesis Testing and Acceptance Sampling", Technometrics 24, 1982):
where it is false, one opponent refutes it alone. Nothing is paid for the number of opponents, only for that of the
candidates: the width is that of the best candidate against the least favourable single opponent. A pair can thus be
distinguished there that the ranking, which compares all with all, leaves tied. What is read from
learning curves has no images to resample: whole trainings vary between seeds, and their pooled variance gives intervals
that hold at once with 99 %; with one seed there are none.

A new claim is a function and a decorator:

    @claim("j", "Dice helps the rare classes.", "rare-class IoU of runs with Dice, minus the baseline's, above 0")
    def dice_helps(scope):
        return [Higher("Dice on rare classes", scope.having("dice"), scope.baseline, RARE)]
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from deeplab_lib.analysis.evidence import RARE, RARE_SHARE, Evidence, Method
from deeplab_lib.analysis.numbers import Numbers
from deeplab_lib.analysis.statistics import (
    BOUNDARY,
    CLASS_MEASURES,
    CONFIDENCE,
    LOG_LOSS,
    MIOU,
    Contrast,
    difference,
    seed_intervals,
)
from deeplab_lib.analysis.verdicts import (
    CONTRADICTED,
    EQUIVALENT,
    INCONCLUSIVE,
    SUPPORTED,
    Settled,
    settles_any,
    settles_seen,
    together,
)
from deeplab_lib.common.text import listing, signed
from deeplab_lib.labels import CLASS_NAMES
from deeplab_lib.recipes import RECIPES

CLASS_CONFIDENCE = 0.995
CURVE_CONFIDENCE = 0.99
LONG_ENOUGH = 9  # epochs from which on a curve's irregularity is spoken of
CONVERGED = 0.9  # share of its own final mIoU at which a run counts as converged

NAMES = {MIOU: "mIoU", RARE: "mean IoU of the rare classes", BOUNDARY: "boundary F-score"}
NAMES |= {LOG_LOSS: "cross-entropy on the validation images"}
UNITS = {LOG_LOSS: "nats"}
SAME, ALL = "same schedule", "all configurations"
Parts = Callable[["Scope"], "list[ClaimTest]"]  # gives the tests of a claim


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
class Verdict:
    """A claim judged: `findings` hold the parts' results in both scopes, `deciding` those that the verdict rests on."""

    claim: "Claim"
    verdict: str
    findings: tuple[Finding, ...]
    deciding: tuple[Finding, ...]

    @property
    def confounded(self) -> bool:
        """Whether the verdict rests on a comparison across schedules."""
        return any(finding.confounded for finding in self.deciding)

    @property
    def speaks_of(self) -> str:
        """What the verdict speaks of: these networks, the losses, or the configurations."""
        of = [finding.speaks_of for finding in self.deciding if finding.speaks_of]
        return next((words for words in ("these networks", "the configurations") if words in of), of[0] if of else "")

    @property
    def decisive(self) -> tuple[Finding, ...]:
        """The findings that give the verdict: all of a supported one, else those that ended as it did."""
        return tuple(finding for finding in self.deciding if finding.verdict == self.verdict)

    @property
    def direction(self) -> int:
        """+1 when all point estimates agree with the claim, -1 when all speak against it, 0 when they are divided."""
        signs = {finding.direction for finding in self.deciding if finding.direction}
        return signs.pop() if len(signs) == 1 else 0


@dataclass(frozen=True)
class Claim:
    """`parts(scope)` returns the tests; `rule` says in words what they measure and what must hold."""

    key: str
    text: str
    rule: str
    parts: Parts


CLAIMS: dict[str, Claim] = {}


def claim(key: str, text: str, rule: str) -> Callable[[Parts], Parts]:
    """Register the decorated `parts(scope) -> [test, ...]` as claim `key`; a key twice is a ValueError."""

    def register(parts: Parts) -> Parts:
        if key in CLAIMS:
            raise ValueError(f"claim {key!r} is already registered; choose another key")
        CLAIMS[key] = Claim(key, text, rule, parts)
        return parts

    return register


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


# --- tests: each knows its contrasts, and how to read their intervals ------------------------------------------------


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


# --- statistics of a learning curve ----------------------------------------------------------------------------------


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


# --- the study's claims ----------------------------------------------------------------------------------------------


@claim(
    "a",
    "Lovász gets the best final mIoU.",
    "some run with Lovász is significantly above every run without it in mIoU; contradicted if some run without it is "
    "significantly above every run with it",
)
def lovasz_is_best(scope: Scope) -> list[ClaimTest]:
    return [Best("Lovász is best", scope.having("lovasz"), scope.lacking("lovasz"))]


@claim(
    "b",
    "CE converges quickly, but to lower values, and handles imbalance poorly.",
    "CE reaches 90 % of its own final mIoU in fewer epochs, and is significantly below the mean of the others in mIoU "
    "and in mean IoU of the rare classes",
)
def ce_is_quick_and_low(scope: Scope) -> list[ClaimTest]:
    return [
        Curves("CE converges quickly", scope.baseline, scope.others, "speed", sign=-1),
        Higher("CE ends lower", scope.baseline, scope.others, MIOU, sign=-1),
        Higher("CE neglects rare classes", scope.baseline, scope.others, RARE, sign=-1),
    ]


@claim(
    "c",
    "Combined losses improve stability and performance.",
    "the mean of the combinations is significantly above CE in mIoU, and their validation mIoU is less irregular",
)
def combinations_help(scope: Scope) -> list[ClaimTest]:
    return [
        Higher("combinations perform better", scope.others, scope.baseline),
        Curves("combinations are steadier", scope.others, scope.baseline, "roughness", sign=-1),
    ]


@claim(
    "d",
    "Curves with Tversky and Focal are more irregular.",
    "validation mIoU is more irregular in runs with Tversky or Focal than in runs without either",
)
def tversky_and_focal_are_irregular(scope: Scope) -> list[ClaimTest]:
    plain = scope.lacking("tversky", "focal")
    return [
        Curves(f"{title} is more irregular", scope.having(loss), plain, "roughness")
        for loss, title in (("tversky", "Tversky"), ("focal", "Focal"))
    ]


@claim(
    "e",
    "Lovász converges more steadily, with a lower validation loss.",
    "validation mIoU is less irregular in runs with Lovász than in those without, and validation cross-entropy is "
    "lower (own losses are not comparable)",
)
def lovasz_is_steady(scope: Scope) -> list[ClaimTest]:
    having, lacking = scope.having("lovasz"), scope.lacking("lovasz")
    return [
        Curves("Lovász is steadier", having, lacking, "roughness", sign=-1),
        Higher("Lovász has the lower validation loss", having, lacking, LOG_LOSS, sign=-1),
    ]


@claim(
    "f",
    "Focal and Tversky improve the less represented classes.",
    f"runs with the loss are significantly above CE in mean IoU of the classes under {RARE_SHARE:g} % of the pixels",
)
def focal_and_tversky_help_rare_classes(scope: Scope) -> list[ClaimTest]:
    return [
        Higher("Focal helps rare classes", scope.having("focal"), scope.baseline, RARE),
        Higher("Tversky helps rare classes", scope.having("tversky"), scope.baseline, RARE),
    ]


@claim(
    "g",
    "DeepLabV2 is parameter-efficient; newer architectures may trade better.",
    "the CE configuration is compared on other networks, where it was run. None with as few parameters is as good, and "
    "one with no more multiply-adds is significantly better; contradicted if all are significantly worse",
)
def deeplab_is_efficient(scope: Scope) -> list[ClaimTest]:
    others = [m for m in scope.evidence.methods if m.recipe == "ce" and scope.baseline and _other_network(m, scope)]
    names = tuple(method.name for method in others)
    return [
        Architectures("DeepLabV2 is parameter-efficient", scope.baseline, names, "efficient", "parameters"),
        Architectures("another architecture trades better", scope.baseline, names, "outdone", "macs"),
    ]


def _other_network(method: Method, scope: Scope) -> bool:
    own = scope.evidence.baseline
    if not method.model or own is None:
        return False
    return method.model.split("_")[0] != (own.model or "").split("_")[0] and method.model in method.variant


@claim(
    "h",
    "Lovász does well in all classes.",
    "in every class, runs with Lovász are below the others by significantly less than the margin of a class; "
    "contradicted if in one class they are significantly below, and not by less than that",
)
def lovasz_does_well_everywhere(scope: Scope) -> list[ClaimTest]:
    return [Everywhere("Lovász gives up no class", scope.having("lovasz"), scope.lacking("lovasz"))]


@claim(
    "i",
    "Tversky and Focal trade imbalance against boundary precision.",
    "compared with CE, runs with the loss have a significantly higher mean IoU of the rare classes and a significantly "
    "lower boundary F-score",
)
def tversky_and_focal_trade(scope: Scope) -> list[ClaimTest]:
    return [
        Higher(f"{part} with {title}", scope.having(loss), scope.baseline, measure, sign)
        for loss, title in (("tversky", "Tversky"), ("focal", "Focal"))
        for part, measure, sign in (("gain on rare classes", RARE, 1), ("loss on boundaries", BOUNDARY, -1))
    ]


# --- judging ---------------------------------------------------------------------------------------------------------


def judge(evidence: Evidence, claims: Mapping[str, Claim] = CLAIMS) -> list[Verdict]:
    """`[Verdict, ...]` of all claims on `evidence`."""
    scopes, tests = _tests(evidence, claims)
    intervals = _intervals(evidence, _possible(tests))
    verdicts = []
    for c in claims.values():
        findings, deciding = [], []
        for same, across in zip(tests[c.key, SAME], tests[c.key, ALL], strict=True):
            pair = [_finding(test, scope, intervals) for test, scope in zip((same, across), scopes, strict=True)]
            alike = {*same.a, *same.b} == {*across.a, *across.b}
            enough = same.possible and not (same.whole and len(same.a + same.b) < len(across.a + across.b))
            deciding.append(pair[0] if enough else pair[1])
            findings += [finding for finding in pair[: 1 if alike else 2] if finding.scope]
        verdicts.append(Verdict(c, together(finding.verdict for finding in deciding), tuple(findings), tuple(deciding)))
    return verdicts


def contrasts(evidence: Evidence, claims: Mapping[str, Claim] = CLAIMS) -> dict[tuple, Contrast]:
    """What the claims compare in mIoU, rare classes, boundaries: `{key: Contrast}`, for `Evidence.claim_contrasts`."""
    tests = _possible(_tests(evidence, claims)[1])
    return {key: contrast for test in tests if test.family == "main" for key, contrast in test.contrasts().items()}


Tests = dict[tuple[str, str], list[ClaimTest]]


def _tests(evidence: Evidence, claims: Mapping[str, Claim]) -> tuple[tuple[Scope, Scope], Tests]:
    """The two scopes, and the tests of each claim in each: `{(key of the claim, name of the scope): tests}`."""
    scopes = (Scope(SAME, tuple(evidence.same_schedule), evidence), Scope(ALL, tuple(evidence.recipes), evidence))
    return scopes, {(c.key, scope.name): c.parts(scope) for c in claims.values() for scope in scopes}


def _possible(tests: Tests) -> list[ClaimTest]:
    return [test for parts in tests.values() for test in parts if test.possible]


def _intervals(evidence: Evidence, tests: Iterable[ClaimTest]) -> dict[Any, dict[tuple, dict[str, Any]]]:
    """`{family: {contrast: {"estimate", "low", "high", ...}}}`; in the main one, with what figures and tables show."""
    families: dict[Any, tuple[dict[tuple, Contrast], list[list[tuple]] | None]] = {"main": ({}, None)}
    for test in tests:
        if test.family:
            contrasts, _ = families.setdefault(test.family, ({}, test.groups()))
            contrasts.update(test.contrasts())
    main, _ = families.pop("main")
    shared = main == evidence.claim_contrasts(evidence)
    found = {"curves": _curve_intervals(evidence, families.pop("curves", ({}, None))[0])}
    found |= {"main": evidence.claim_intervals if shared else evidence.simultaneous_intervals(main)}
    for family, (contrasts, groups) in families.items():
        confidence = CLASS_CONFIDENCE if family == "classes" else CONFIDENCE
        found[family] = evidence.rows(contrasts, confidence, groups)
    return found


def _finding(test: ClaimTest, scope: Scope, intervals: Mapping[Any, dict[tuple, dict[str, Any]]]) -> Finding:
    """The test's finding in the scope; one without a scope when a group is empty there."""
    if not test.possible:
        return Finding(test.part, INCONCLUSIVE, text="no run to compare", open_reason="no run to compare")
    finding = test.judge(intervals.get(test.family, {}), scope)
    if test.whole and len(scope.members) < len(RECIPES):
        figures = finding.figures | {"have": len(scope.members), "all": len(RECIPES)}
        state = "finished" if scope.name == ALL else "trained on this schedule"
        text = f"only {{have}} of {{all}} configurations are {state}. {finding.text[0].upper()}{finding.text[1:]}"
        few = f"only {len(scope.members)} of {len(RECIPES)} configurations are {state}"
        finding = replace(finding, verdict=INCONCLUSIVE, figures=figures, text=text, open_reason=few)
    used = {method.schedule for method in scope.evidence.methods if method.name in (*test.a, *test.b)}
    speaks_of = scope.evidence.speaks_of(*test.a, *test.b)
    return replace(finding, scope=scope.name, confounded=len(used) > 1, whole=test.whole, speaks_of=speaks_of)


def _curve_intervals(evidence: Evidence, contrasts: Mapping[tuple, Contrast]) -> dict[tuple, dict[str, Any]]:
    """Intervals of the statistics of curves, from the variation between the seeds of all methods."""
    tables = {method.name: [run.table for run in method.runs] for method in evidence.methods}
    values = {
        name: {method: [measured(table) for table in runs] or [math.nan] for method, runs in tables.items()}
        for name, (_, measured) in CURVES.items()
    }
    steps = {"speed": max((speed_step(table) for runs in tables.values() for table in runs), default=0.0)}
    rows = seed_intervals(dict(enumerate(contrasts.values())), values, CURVE_CONFIDENCE, steps).to_dict("records")
    return dict(zip(contrasts, rows, strict=True))
