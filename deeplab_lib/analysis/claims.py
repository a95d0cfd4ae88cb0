"""The study's claims as explicit rules: what is measured, what must hold, and what the runs say.

A claim consists of parts; each part is a `ClaimTest` of two groups of methods, judged twice: among the methods that
share the baseline's schedule (runs 1 to 4, or all eight once the control was trained), where only the loss differs, and
among all recipes as they were trained, where learning rate, warm-up, decay and freezing differ too and every difference
is confounded with them. The verdict of a part comes from the first where it can be tested there, else from the second;
a part about the best of all (`whole`) is judged only where all recipes take part. A claim is supported when all its
parts are, contradicted when one is, and inconclusive otherwise.

The intervals that verdicts rest on hold at once within a family: one at 95 % for mIoU, rare classes and boundaries,
together with the differences that figures and tables show; one at 99.5 % for single classes. Those of who is best need
not hold at once for a false answer to stay below 5 %. That some candidate is above every opponent is an
intersection-union test (Berger, "Multiparameter Hypothesis Testing and Acceptance Sampling", Technometrics 24, 1982):
where it is false, one opponent refutes it alone. Nothing is paid for the number of opponents, only for that of the
candidates: the width is that of the best candidate against the least favourable single opponent. A pair can thus be
distinguished there that the ranking, which compares all with all, leaves tied. What is read from learning curves has no
images to resample: runs are permuted between the groups, at a level that keeps all such tests together under one
percent.

A new claim is a function and a decorator:

    @claim("j", "Dice helps the rare classes.", "rare-class IoU of runs with Dice, minus the baseline's, above 0")
    def dice_helps(scope):
        return [Higher("Dice on rare classes", scope.having("dice"), scope.baseline, RARE)]
"""

import math
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np

from deeplab_lib.analysis.evidence import RARE, RARE_SHARE, Evidence
from deeplab_lib.analysis.statistics import (
    BOUNDARY,
    CLASS_MEASURES,
    CONFIDENCE,
    MIOU,
    difference,
    least_p,
    permutation_p,
)
from deeplab_lib.common.text import listing, signed
from deeplab_lib.labels import CLASS_NAMES
from deeplab_lib.recipes import RECIPES

SUPPORTED, CONTRADICTED, INCONCLUSIVE = "supported", "contradicted", "inconclusive"
CLASS_CONFIDENCE = 0.995
CURVE_LEVEL = 0.0005  # of each of the twelve tests on curves: six parts, in two scopes
MARGIN = 2.0  # points of IoU by which a class may lag and still count as not given up
LONG_ENOUGH = 9  # epochs from which on a curve's irregularity is spoken of
CONVERGED = 0.9  # share of its own final mIoU at which a run counts as converged

NAMES = {MIOU: "mIoU", RARE: "mean IoU of the rare classes", BOUNDARY: "boundary F-score"}
SAME, ALL = "same schedule", "all recipes"


@dataclass(frozen=True)
class Finding:
    """What one part came to in one scope.

    direction: +1 when the point estimate agrees with the claim, -1 when it speaks against it, 0 without an estimate.
    figures: the numbers used, by name; `sentence(numbers, key)` prints them. seeds: where the runs are so few that no
    outcome could have been distinguished from chance, how many of each method it takes, else 0. short: the curves
    have too few epochs. whole: it speaks of the best of all recipes.
    """

    part: str
    verdict: str
    direction: int = 0
    figures: dict = field(default_factory=dict)
    text: str = ""
    scope: str = ""
    confounded: bool = False
    seeds: int = 0
    short: bool = False
    whole: bool = False

    def sentence(self, numbers, prefix):
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
    def confounded(self):
        """Whether the verdict rests on a comparison across schedules."""
        return any(finding.confounded for finding in self.deciding)

    @property
    def direction(self):
        """+1 when all point estimates agree with the claim, -1 when all speak against it, 0 when they are divided."""
        signs = {finding.direction for finding in self.deciding if finding.direction}
        return signs.pop() if len(signs) == 1 else 0


@dataclass(frozen=True)
class Claim:
    """`parts(scope)` returns the tests; `rule` says in words what they measure and what must hold."""

    key: str
    text: str
    rule: str
    parts: object


CLAIMS = {}


def claim(key, text, rule):
    """Register the decorated `parts(scope) -> [test, ...]` as claim `key`; a key twice is a ValueError."""

    def register(parts):
        if key in CLAIMS:
            raise ValueError(f"claim {key!r} is already registered; choose another key")
        CLAIMS[key] = Claim(key, text, rule, parts)
        return parts

    return register


@dataclass(frozen=True)
class Scope:
    """The methods that a part is judged on. `baseline` is CE as a group of one (or none)."""

    name: str
    members: tuple
    evidence: Evidence

    @property
    def baseline(self):
        return self._names(lambda method: method.recipe == "ce")

    @property
    def others(self):
        """Every method but the baseline: in this study, the combinations."""
        return self._names(lambda method: method.recipe != "ce")

    def having(self, *losses):
        """Methods whose loss contains one of `losses`."""
        return self._names(lambda method: method.losses & set(losses))

    def lacking(self, *losses):
        """Methods whose loss contains none of `losses`."""
        return self._names(lambda method: not method.losses & set(losses))

    def curve(self, names, statistic):
        """`statistic(table)` of every run of the named methods."""
        runs = [run for method in self.members if method.name in names for run in method.runs]
        return [statistic(run.table) for run in runs]

    def _names(self, wanted):
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
    a: tuple
    b: tuple
    family = "main"
    whole = False

    @property
    def possible(self):
        """Whether there is something on both sides."""
        return bool(self.a and self.b)

    def contrasts(self):
        return {}

    def groups(self):
        """The `groups` of `Bootstrap.interval`, for a family of the test's own."""
        return None

    def valueless(self, scope, measures):
        """A Finding that names the methods without a value, None when all have one."""
        values = [scope.evidence.values.get(measure, {}) for measure in measures]
        known = {name for of_method in values for name, value in of_method.items() if not math.isnan(value)}
        lacking = [scope.evidence.title(name) for name in (*self.a, *self.b) if name not in known]
        return Finding(self.part, INCONCLUSIVE, text=f"no value for {listing(lacking)}") if lacking else None


@dataclass(frozen=True)
class Higher(ClaimTest):
    """The mean of the methods `a` lies above the mean of the methods `b`: the interval of a - b leaves out 0."""

    measure: str = MIOU
    sign: int = 1

    def contrasts(self):
        return {("higher", self.a, self.b, self.measure): difference(self.a, self.b, self.measure)}

    def judge(self, intervals, scope):
        if lacking := self.valueless(scope, [self.measure]):
            return lacking
        row = intervals[next(iter(self.contrasts()))]
        verdict = _side(self.sign * row["low"], self.sign * row["high"])
        title = NAMES[self.measure]
        text = f"{title}: {{estimate}} points, " + _bounds(row)
        return Finding(self.part, verdict, _sign(self.sign * row["estimate"]), _figures(row), text)


@dataclass(frozen=True)
class Best(ClaimTest):
    """Whether one of `a` is significantly above every one of `b` (supported), or the reverse (contradicted)."""

    measure: str = MIOU
    whole = True

    @property
    def family(self):
        return "best", self.a, self.b, self.measure

    def contrasts(self):
        return {pair: difference(*pair, self.measure) for group in self.groups() for pair in group}

    def groups(self):
        """Every candidate against one opponent, for each opponent of either side."""
        sides = ((self.a, self.b), (self.b, self.a))
        return [[(candidate, rival) for candidate in side] for side, rivals in sides for rival in rivals]

    def judge(self, intervals, scope):
        if lacking := self.valueless(scope, [self.measure]):
            return lacking
        values = scope.evidence.values[self.measure]
        best_a, best_b = (max(group, key=values.get) for group in (self.a, self.b))
        leads = [
            any(all(intervals[candidate, rival]["low"] > 0 for rival in rivals) for candidate in side)
            for side, rivals in ((self.a, self.b), (self.b, self.a))
        ]
        verdict = SUPPORTED if leads[0] else CONTRADICTED if leads[1] else INCONCLUSIVE
        row = intervals[best_a, best_b]
        figures = {"with": values[best_a], "without": values[best_b]} | _figures(row)
        title = scope.evidence.title
        text = (
            f"best with it {title(best_a)} at {{with}} %, best without {title(best_b)} at {{without}} %: "
            "difference {estimate} points, " + _bounds(row)
        )
        return Finding(self.part, verdict, _sign(row["estimate"]), figures, text)


@dataclass(frozen=True)
class Everywhere(ClaimTest):
    """No class is given up: in every class the interval of mean(a) - mean(b) stays above -`MARGIN` points.

    Contradicted when in some class it lies below 0.
    """

    family = "classes"

    def contrasts(self):
        return {("class", self.a, self.b, name): difference(self.a, self.b, name) for name in CLASS_MEASURES}

    def judge(self, intervals, scope):
        if lacking := self.valueless(scope, CLASS_MEASURES):
            return lacking
        rows = {name: intervals["class", self.a, self.b, name] for name in CLASS_MEASURES}
        known = {name: row for name, row in rows.items() if not math.isnan(row["estimate"])}
        sure = [name for name, row in known.items() if row["high"] < 0]
        worst = min(sure or known, key=lambda name: known[name]["estimate"])
        behind, significant = sum(row["estimate"] < 0 for row in known.values()), len(sure)
        safe = sum(row["low"] > -MARGIN for row in known.values())
        verdict = CONTRADICTED if significant else SUPPORTED if safe == len(known) else INCONCLUSIVE
        direction = 1 if all(row["estimate"] > -MARGIN for row in known.values()) else -1
        text = (
            "below the others in {behind} of {classes} classes, significantly in {surely}; "
            f"farthest{' of these' if sure else ''} in {CLASS_NAMES[int(worst.split('_')[1])]}, "
            "by {estimate} points, " + _bounds(known[worst])
        )
        figures = {"behind": behind, "classes": len(known), "surely": significant} | _figures(known[worst])
        return Finding(self.part, verdict, direction, figures, text)


@dataclass(frozen=True)
class Curves(ClaimTest):
    """A statistic of the learning curves is higher (`sign` 1) or lower (-1) in the runs `a` than in the runs `b`."""

    statistic: object
    words: str
    sign: int = 1
    column: str = "val_mIoU"
    family = None

    def judge(self, intervals, scope):
        a, b = (np.array(scope.curve(names, self.statistic)) for names in (self.a, self.b))
        least = least_p(len(a), len(b))
        seeds = enough_seeds(len(self.a), len(self.b)) if least > CURVE_LEVEL else 0
        if not (len(a) and len(b) and np.isfinite(a).all() and np.isfinite(b).all()):
            recorded = all(scope.curve((*self.a, *self.b), lambda table: self.column in table))
            reason = "the learning curves are too short to compare"
            text = reason if recorded else f"not every file holds the {self.words}"
            return Finding(self.part, INCONCLUSIVE, text=text, seeds=seeds, short=recorded)
        p, gap = permutation_p(a, b), float(a.mean() - b.mean())
        verdict = INCONCLUSIVE if p > CURVE_LEVEL else SUPPORTED if self.sign * gap > 0 else CONTRADICTED
        figures = {"a": float(a.mean()), "b": float(b.mean()), "n_a": len(a), "n_b": len(b), "p": p}
        text = f"{self.words}: {{a}} (n = {{n_a}}) against {{b}} (n = {{n_b}}), p = {{p}}"
        if seeds:
            figures["least"] = least
            text += ", where so few runs can give no less than {least}"
        return Finding(self.part, verdict, _sign(self.sign * gap), figures, text, seeds=seeds)


def enough_seeds(a, b):
    """How many seeds of each method let a test of `a` methods against `b` reach `CURVE_LEVEL`."""
    return next(seeds for seeds in count(1) if least_p(seeds * a, seeds * b) <= CURVE_LEVEL)


@dataclass(frozen=True)
class Architectures(ClaimTest):
    """The baseline (`a`) against the same recipe on other networks (`b`), by mIoU and by what `cost` counts.

    kind "efficient": supported when some networks are no dearer and all of them significantly worse, contradicted when
    one is significantly better. kind "outdone": supported when a network that is no dearer is significantly better,
    contradicted when all networks are significantly worse.
    """

    kind: str
    cost: str

    def contrasts(self):
        return {("model", other, self.a): difference(other, self.a) for other in self.b}

    def judge(self, intervals, scope):
        cost = {method.name: getattr(method, self.cost) for method in scope.evidence.methods}
        rows = {other: intervals["model", other, self.a] for other in self.b}
        cheaper = [other for other in self.b if cost[other] <= cost[self.a[0]]]
        better = [other for other in cheaper if rows[other]["low"] > 0]
        worse = [other for other in self.b if rows[other]["high"] < 0]
        if self.kind == "efficient":
            verdict = CONTRADICTED if better else SUPPORTED if cheaper and set(cheaper) <= set(worse) else INCONCLUSIVE
        else:
            verdict = SUPPORTED if better else CONTRADICTED if set(worse) == set(self.b) else INCONCLUSIVE
        figures = {"others": len(self.b), "cheaper": len(cheaper), "better": len(better), "worse": len(worse)}
        cost = "multiply-adds" if self.cost == "macs" else self.cost
        text = (
            f"other networks: {{others}}; with no more {cost}: {{cheaper}}; "
            "of these significantly above in mIoU: {better}; "
            "significantly below, whatever their cost: {worse}"
        )
        return Finding(self.part, verdict, 0, figures, text)


def _side(low, high):
    return SUPPORTED if min(low, high) > 0 else CONTRADICTED if max(low, high) < 0 else INCONCLUSIVE


def _sign(value):
    return int(value > 0) - int(value < 0)


def _figures(row):
    figures = {"estimate": row["estimate"]}
    return figures | ({} if math.isnan(row["low"]) else {"low": row["low"], "high": row["high"]})


def _bounds(row):
    return "without an interval" if math.isnan(row["low"]) else "interval [{low}, {high}]"


def _format(name):
    formats = {"with": ".2f", "without": ".2f", "p": ".3g", "least": ".3g", "a": ".3g", "b": ".3g"}
    return signed if name in ("estimate", "low", "high") else formats.get(name, "d")


# --- statistics of a learning curve ----------------------------------------------------------------------------------


def roughness(table):
    """Irregularity of the validation mIoU in points: root mean square of its second differences, later half.

    NaN for fewer than `LONG_ENOUGH` epochs: one or two differences show how a curve bends as it comes to rest, not how
    it jumps.
    """
    values = _finite(table, "val_mIoU")
    late = values[len(values) // 2 :]
    return float(np.sqrt(np.mean(np.diff(late, 2) ** 2))) if len(values) >= LONG_ENOUGH else math.nan


def convergence(table):
    """Share of the epochs after which the validation mIoU first reaches `CONVERGED` of its last value."""
    values = _finite(table, "val_mIoU")
    return float((np.argmax(values >= CONVERGED * values[-1]) + 1) / len(values)) if len(values) else math.nan


def final_ce(table):
    """Plain cross-entropy on the validation images after the last epoch, which compares across losses."""
    values = _finite(table, "val_ce")
    return float(values[-1]) if len(values) else math.nan


def _finite(table, column):
    values = table[column].to_numpy(float) if column in table else np.empty(0)
    return values[np.isfinite(values)]


IRREGULAR = "irregularity of the validation mIoU over the later half (points)"
SPEED = "share of the training until 90 % of the final mIoU"
FINAL_CE = "validation cross-entropy after the last epoch"


# --- the study's claims ----------------------------------------------------------------------------------------------


@claim(
    "a",
    "Lovász gets the best final mIoU.",
    "mIoU: some run with Lovász is significantly above every run without (contradicted: some run without is "
    "significantly above every run with it); intervals corrected for the number of runs that may be the best, not for "
    "that of their opponents, all of which have to be beaten",
)
def lovasz_is_best(scope):
    return [Best("Lovász is best", scope.having("lovasz"), scope.lacking("lovasz"))]


@claim(
    "b",
    "CE converges quickly, but to lower values, and handles imbalance poorly.",
    "epochs until 90 % of the own final mIoU: fewer for CE; mIoU and mean IoU of the rare classes: CE significantly "
    "below the mean of the others",
)
def ce_is_quick_and_low(scope):
    return [
        Curves("CE converges quickly", scope.baseline, scope.others, convergence, SPEED, sign=-1),
        Higher("CE ends lower", scope.baseline, scope.others, MIOU, sign=-1),
        Higher("CE neglects rare classes", scope.baseline, scope.others, RARE, sign=-1),
    ]


@claim(
    "c",
    "Combined losses improve stability and performance.",
    "mIoU: the mean of the combinations significantly above CE; irregularity of the validation mIoU: lower than CE's",
)
def combinations_help(scope):
    return [
        Higher("combinations perform better", scope.others, scope.baseline),
        Curves("combinations are steadier", scope.others, scope.baseline, roughness, IRREGULAR, sign=-1),
    ]


@claim(
    "d",
    "Curves with Tversky and Focal are more irregular.",
    "irregularity of the validation mIoU: higher in runs with Tversky or Focal than in those without either",
)
def tversky_and_focal_are_irregular(scope):
    plain = scope.lacking("tversky", "focal")
    return [
        Curves(f"{title} is more irregular", scope.having(loss), plain, roughness, IRREGULAR)
        for loss, title in (("tversky", "Tversky"), ("focal", "Focal"))
    ]


@claim(
    "e",
    "Lovász converges more steadily, with a lower validation loss.",
    "irregularity of the validation mIoU, and plain cross-entropy on validation (own losses do not compare): both "
    "lower in runs with Lovász than in those without",
)
def lovasz_is_steady(scope):
    having, lacking = scope.having("lovasz"), scope.lacking("lovasz")
    return [
        Curves("Lovász is steadier", having, lacking, roughness, IRREGULAR, sign=-1),
        Curves("Lovász has the lower validation loss", having, lacking, final_ce, FINAL_CE, -1, "val_ce"),
    ]


@claim(
    "f",
    "Focal and Tversky improve the less represented classes.",
    f"mean IoU of the classes under {RARE_SHARE:g} % of the labelled pixels: runs with the loss significantly above CE",
)
def focal_and_tversky_help_rare_classes(scope):
    return [
        Higher("Focal helps rare classes", scope.having("focal"), scope.baseline, RARE),
        Higher("Tversky helps rare classes", scope.having("tversky"), scope.baseline, RARE),
    ]


@claim(
    "g",
    "DeepLabV2 is parameter-efficient; newer architectures may trade better.",
    "the CE recipe on other networks, where it was run: none with as few parameters is as good; one with no more "
    "multiply-adds is significantly better (contradicted where all are significantly worse, whatever their cost)",
)
def deeplab_is_efficient(scope):
    others = [m for m in scope.evidence.methods if m.recipe == "ce" and scope.baseline and _other_network(m, scope)]
    names = tuple(method.name for method in others)
    return [
        Architectures("DeepLabV2 is parameter-efficient", scope.baseline, names, "efficient", "parameters"),
        Architectures("another architecture trades better", scope.baseline, names, "outdone", "macs"),
    ]


def _other_network(method, scope):
    own = scope.evidence.baseline
    return (
        method.model
        and method.model.split("_")[0] != (own.model or "").split("_")[0]
        and method.model in method.variant
    )


@claim(
    "h",
    "Lovász does well in all classes.",
    f"IoU of every class: runs with Lovász lag the others by significantly less than {MARGIN:g} points, and in none "
    "they are significantly behind (contradicted: in one they are)",
)
def lovasz_does_well_everywhere(scope):
    return [Everywhere("Lovász gives up no class", scope.having("lovasz"), scope.lacking("lovasz"))]


@claim(
    "i",
    "Tversky and Focal trade imbalance against boundary precision.",
    "runs with the loss against CE: mean IoU of the rare classes significantly higher and boundary F-score "
    "significantly lower",
)
def tversky_and_focal_trade(scope):
    return [
        Higher(f"{part} with {title}", scope.having(loss), scope.baseline, measure, sign)
        for loss, title in (("tversky", "Tversky"), ("focal", "Focal"))
        for part, measure, sign in (("gain on rare classes", RARE, 1), ("loss on boundaries", BOUNDARY, -1))
    ]


# --- judging ---------------------------------------------------------------------------------------------------------


def judge(evidence, claims=CLAIMS):
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
        verdicts.append(Verdict(c, _together(deciding), tuple(findings), tuple(deciding)))
    return verdicts


def contrasts(evidence, claims=CLAIMS):
    """What the claims compare in mIoU, rare classes, boundaries: `{key: Contrast}`, for `Evidence.claim_contrasts`."""
    tests = _possible(_tests(evidence, claims)[1])
    return {key: contrast for test in tests if test.family == "main" for key, contrast in test.contrasts().items()}


def _tests(evidence, claims):
    """The two scopes, and the tests of each claim in each: `{(key of the claim, name of the scope): tests}`."""
    scopes = (Scope(SAME, tuple(evidence.same_schedule), evidence), Scope(ALL, tuple(evidence.recipes), evidence))
    return scopes, {(c.key, scope.name): c.parts(scope) for c in claims.values() for scope in scopes}


def _possible(tests):
    return [test for parts in tests.values() for test in parts if test.possible]


def _intervals(evidence, tests):
    """`{family: {contrast: {"estimate", "low", "high", ...}}}`; in the main one, with what figures and tables show."""
    families = {"main": ({}, None)}
    for test in tests:
        if test.family:
            contrasts, _ = families.setdefault(test.family, ({}, test.groups()))
            contrasts.update(test.contrasts())
    main, _ = families.pop("main")
    shared = main == evidence.claim_contrasts(evidence)
    found = {"main": evidence.claim_intervals if shared else evidence.simultaneous_intervals(main)}
    for family, (contrasts, groups) in families.items():
        confidence = CLASS_CONFIDENCE if family == "classes" else CONFIDENCE
        found[family] = evidence.rows(contrasts, confidence, groups)
    return found


def _finding(test, scope, intervals):
    """The test's finding in the scope; one without a scope when a group is empty there."""
    if not test.possible:
        return Finding(test.part, INCONCLUSIVE, text="no run to compare")
    finding = test.judge(intervals.get(test.family), scope)
    if test.whole and len(scope.members) < len(RECIPES):
        figures = finding.figures | {"have": len(scope.members), "all": len(RECIPES)}
        state = "finished" if scope.name == ALL else "trained on this schedule"
        text = f"only {{have}} of {{all}} recipes are {state}; " + finding.text
        finding = replace(finding, verdict=INCONCLUSIVE, figures=figures, text=text)
    used = {method.schedule for method in scope.evidence.methods if method.name in (*test.a, *test.b)}
    return replace(finding, scope=scope.name, confounded=len(used) > 1, whole=test.whole)


def _together(findings):
    verdicts = {finding.verdict for finding in findings}
    if CONTRADICTED in verdicts:
        return CONTRADICTED
    return SUPPORTED if verdicts == {SUPPORTED} else INCONCLUSIVE
