"""The study's claims as explicit rules: what is measured, what must hold, and what the runs say.

A claim consists of parts; each part is a test of two groups of methods (`claim_tests`), judged twice: among the methods
that share the baseline's schedule (runs 1, 2, 3, 4 and 8, or all eight once the control was trained), where only the
loss differs, and among all recipes as they were trained, where learning rate, warm-up, decay and freezing differ too
and every difference is confounded with them. The verdict of a part comes from the first where it can be tested there,
else from the second; a part about the best of all (`whole`) is judged only where all recipes take part. Parts and
claims end as supported, contradicted, no difference that matters, or inconclusive (`verdicts`), and what is
inconclusive says what would settle it. With one seed a run all of this speaks of the trained networks; with several, of
the losses.

The intervals that verdicts rest on hold at once within a family: one at 95 % for mIoU, rare classes and boundaries,
together with the differences that figures and tables show; one at 99.5 % for single classes. Those of who is best need
not hold at once for a false answer to stay below 5 %. That some candidate is above every opponent is an intersection-
union test (Berger, "Multiparameter Hypothesis Testing and Acceptance Sampling", Technometrics 24, 1982): where it is
false, one opponent refutes it alone. Nothing is paid for the number of opponents, only for that of the candidates: the
width is that of the best candidate against the least favourable single opponent. A pair can thus be distinguished there
that the ranking, which compares all with all, leaves tied. What is read from learning curves has no images to resample:
whole trainings vary between seeds, and their pooled variance gives intervals that hold at once with 99 %; with one seed
there are none.

A new claim is a function and a decorator:

    @claim("j", "Dice helps the rare classes.", "rare-class IoU of runs with Dice, minus the baseline's, above 0")
    def dice_helps(scope):
        return [Higher("Dice on rare classes", scope.having("dice"), scope.baseline, RARE)]
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from deeplab_lib.analysis.claim_tests import (
    CURVES,
    Architectures,
    Best,
    ClaimTest,
    Curves,
    Everywhere,
    Finding,
    Higher,
    Scope,
    speed_step,
)
from deeplab_lib.analysis.evidence import RARE, RARE_SHARE, Evidence, Method
from deeplab_lib.analysis.statistics import BOUNDARY, CONFIDENCE, LOG_LOSS, MIOU, Contrast, seed_intervals
from deeplab_lib.analysis.verdicts import INCONCLUSIVE, together
from deeplab_lib.recipes import RECIPES

CLASS_CONFIDENCE = 0.995
CURVE_CONFIDENCE = 0.99
SAME, ALL = "same schedule", "all configurations"
Parts = Callable[[Scope], list[ClaimTest]]  # gives the tests of a claim


@dataclass(frozen=True)
class Claim:
    """`parts(scope)` returns the tests; `rule` says in words what they measure and what must hold."""

    key: str
    text: str
    rule: str
    parts: Parts


@dataclass(frozen=True)
class Verdict:
    """A claim judged: `findings` hold the parts' results in both scopes, `deciding` those that the verdict rests on."""

    claim: Claim
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


CLAIMS: dict[str, Claim] = {}


def claim(key: str, text: str, rule: str) -> Callable[[Parts], Parts]:
    """Register the decorated `parts(scope) -> [test, ...]` as claim `key`; a key twice is a ValueError."""

    def register(parts: Parts) -> Parts:
        if key in CLAIMS:
            raise ValueError(f"claim {key!r} is already registered; choose another key")
        CLAIMS[key] = Claim(key, text, rule, parts)
        return parts

    return register


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
    return seed_intervals(contrasts, values, CURVE_CONFIDENCE, steps)
