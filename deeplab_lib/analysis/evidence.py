"""What comparisons between methods rest on: their values, their intervals, and which of them share a schedule.

A method is a recipe (or a departure from one) with all its seeds. `Evidence.of(study)` is made from runs,
`Evidence.published()` from the study's printed tables, which hold values and no intervals; claims are judged on either
by the same rules.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, Self

import numpy as np
import pandas as pd

from deeplab_lib.analysis import published
from deeplab_lib.analysis.statistics import (
    BLANK,
    BOUNDARY,
    CLASS_MEASURES,
    CONFIDENCE,
    LOG_LOSS,
    MEASURES,
    MIN_IMAGES,
    MIOU,
    RESAMPLES,
    Bootstrap,
    Contrast,
    Rows,
    all_pairs,
    as_frame,
    difference,
    measure,
    ranking,
    ratios_of,
    snap,
)
from deeplab_lib.analysis.verdicts import MARGIN, Margins, decide
from deeplab_lib.common.errors import short_traceback
from deeplab_lib.labels import CLASS_NAMES
from deeplab_lib.losses import parse_expression
from deeplab_lib.recipes import RECIPES
from deeplab_lib.study.foreign import ResultsError
from deeplab_lib.study.grouping import Study, describe_schedule, methods, schedule
from deeplab_lib.study.people import people
from deeplab_lib.study.run import Run

NAN = float("nan")
MOST_COMPARED = 40  # runs of several people: memory grows with their square, to about 3 GB
RARE = "rare"
RARE_SHARE = 1.0  # percent of the labelled validation pixels
# Train ids of the classes of Cityscapes under 1 % of its labelled pixels (Cordts et al. 2016, figure 4), for tables
# without counts.
CITYSCAPES_RARE = tuple(map(CLASS_NAMES.index, ("wall", "fence", "traffic light", "traffic sign", "rider", "truck",
                                                "bus", "train", "motorcycle", "bicycle")))  # fmt: skip


@dataclass(frozen=True)
class Method:
    """One thing compared: `losses` are the names of its terms, `schedule` tells which methods were trained alike."""

    name: str
    title: str
    recipe: str | None
    losses: frozenset[str]
    schedule: str
    variant: str = ""
    model: str | None = None
    parameters: float = NAN
    macs: float = NAN
    runs: tuple[Run, ...] = field(default=(), repr=False)


def _method(name: str, runs: Sequence[Run]) -> Method:
    run = runs[0]
    record = run.record or {}
    losses = frozenset(term for _, term, _ in parse_expression(run.loss)) if run.loss else frozenset()
    parameters = record.get("parameters", {}).get("total", NAN)
    model, macs = run.config.get("model"), record.get("macs") or NAN
    plan, runs = schedule(run), tuple(runs)
    return Method(name, run.method_label, run.recipe, losses, plan, run.variant, model, parameters, macs, runs)


def _refuse_a_crowd(study: Study, found: Sequence[Method]) -> None:
    """Raise ResultsError where people's runs are so many that comparing all with all would take too much memory."""
    if len(found) > MOST_COMPARED and any(run.named for run in study.runs):
        raise ResultsError(
            f"{len(found)} runs of {len(people(study.runs))} people are too many to compare all with all; up to "
            f"{MOST_COMPARED} are: name a folder with fewer of them, such as that of one person, or look at them with "
            "load_runs"
        )


def no_contrasts(evidence: "Evidence") -> dict[Any, Contrast]:
    """What holds beside the shown contrasts where no claims are judged: none."""
    return {}


@dataclass
class Evidence:
    """Methods with their values per measure, `{measure: {method: percent}}`, and a bootstrap when there are images.

    Measures: mIoU, rare (mean IoU of the rare classes), boundary_f, log_loss (nats), class_0 ... class_18.
    `claim_contrasts(evidence)` gives the contrasts `{key: Contrast}` that are to hold at once with those that figures
    and tables show. margins: the largest differences that do not matter.
    """

    methods: list[Method]
    values: dict[str, dict[str, float]]
    rare: tuple[int, ...]
    bootstrap: Bootstrap | None = None
    claim_contrasts: Callable[["Evidence"], Mapping[Any, Contrast]] = field(default=no_contrasts, repr=False)
    margins: Margins = field(default_factory=Margins)

    @classmethod
    @short_traceback
    def of(
        cls,
        study: Study,
        resamples: int = RESAMPLES,
        claim_contrasts: Callable[["Evidence"], Mapping[Any, Contrast]] = no_contrasts,
        margin: float = MARGIN,
    ) -> Self:
        """From the finished runs of one study; methods without an NPZ have values and no intervals.

        claim_contrasts: `claims.contrasts` where claims are judged, so that ranking, differences and verdicts hold at
        once. margin: the largest difference in mIoU that does not matter, in points.
        """
        found = [_method(name, members) for name, members in methods(study.finished).items()]
        _refuse_a_crowd(study, found)
        with_images = [run for method in found for run in method.runs if all(r.arrays for r in method.runs)]
        if not with_images:
            margins = Margins(margin, len(CITYSCAPES_RARE))
            return cls(found, _values(found, CITYSCAPES_RARE), CITYSCAPES_RARE, None, claim_contrasts, margins)
        ratios = ratios_of(with_images)
        pixels = with_images[0].arrays["confusion"].sum((0, 2))
        rare = tuple(int(c) for c in np.flatnonzero((pixels > 0) & (100 * pixels < RARE_SHARE * pixels.sum())))
        measures = MEASURES | {RARE: measure(rare)} if rare else MEASURES
        bootstrap = Bootstrap(ratios, measures, resamples)
        values = _values(found, rare)
        for name in measures:
            values[name] |= {method: value for method, value in bootstrap.levels(name).items() if np.isfinite(value)}
        return cls(found, values, rare, bootstrap, claim_contrasts, Margins(margin, max(1, len(rare))))

    @classmethod
    def published(cls) -> Self:
        """From the printed tables: mIoU of the results table, classes of the last-row table."""
        found: list[Method] = []
        values: dict[str, dict[str, float]] = {name: {} for name in (MIOU, RARE, *CLASS_MEASURES)}
        for run in published.RUNS.values():
            recipe = RECIPES[run.recipe]
            losses = frozenset(term for _, term, _ in parse_expression(recipe.loss))
            plan = describe_schedule(recipe, recipe.lr)
            found.append(Method(run.name, recipe.title, run.recipe, losses, plan, parameters=run.parameters))
            values[MIOU][run.name] = run.val_mIoU
            _add_classes(values, run.name, np.array(run.class_val), CITYSCAPES_RARE)
        return cls(found, values, CITYSCAPES_RARE)

    @cached_property
    def class_bootstrap(self) -> Bootstrap | None:
        """The bootstrap of the single classes, made when first asked for: it takes longer than all the rest."""
        return self.bootstrap and Bootstrap(self.bootstrap.ratios, CLASS_MEASURES, self.bootstrap.resamples)

    @property
    def recipes(self) -> list[Method]:
        """The methods that are recipes as they are."""
        return [method for method in self.methods if method.recipe and not method.variant]

    @property
    def baseline(self) -> Method | None:
        """The CE method, None when it was not run."""
        return next((method for method in self.recipes if method.recipe == "ce"), None)

    @property
    def same_schedule(self) -> list[Method]:
        """The methods trained on the baseline's schedule: runs 1, 2, 3, 4 and 8, and the control when it was run."""
        if self.baseline is None:
            return []
        plain = [method for method in self.methods if method.recipe and method.variant in ("", "schedule_ce")]
        return [method for method in plain if method.schedule == self.baseline.schedule]

    @property
    def controls(self) -> list[Method]:
        """The methods trained on the baseline's schedule that have another one by their recipe."""
        return [method for method in self.same_schedule if method.variant]

    @property
    def seeds(self) -> dict[str, int]:
        """`{method name: number of seeds}` of the recipes."""
        return {method.name: max(1, len(method.runs)) for method in self.recipes}

    @property
    def several_seeds(self) -> bool:
        """Whether a recipe has more than one seed."""
        return any(number > 1 for number in self.seeds.values())

    @property
    def controlled(self) -> bool:
        """Whether every recipe was trained on the baseline's schedule, too."""
        alike = {method.recipe for method in self.same_schedule}
        return bool(self.controls) and all(method.recipe in alike for method in self.recipes)

    @property
    def judged(self) -> set[str]:
        """The keys of the recipes that claims are judged on, be it by their controls."""
        return {method.recipe for method in (*self.recipes, *self.same_schedule) if method.recipe}

    @property
    def titles(self) -> dict[str, str]:
        """`{method name: display name}`."""
        return {method.name: method.title for method in self.methods}

    def title(self, name: str) -> str:
        """A method's display name."""
        return self.titles[name]

    @property
    def images(self) -> int:
        """Number of validation images that intervals rest on; 0 without per-image results."""
        return self.bootstrap.ratios.numerator.shape[1] if self.bootstrap else 0

    @property
    def no_intervals(self) -> str:
        """Why no difference has an interval, "" where some have."""
        if not self.bootstrap:
            return "the files hold no results for single images"
        few = f"there {'is one validation image' if self.images == 1 else f'are {self.images} validation images'}"
        return "" if self.images >= MIN_IMAGES else f"{few}, and intervals take {MIN_IMAGES} at least"

    @property
    def replicated(self) -> bool:
        """Whether the variation between seeds is in every interval."""
        return bool(self.bootstrap and self.bootstrap.degrees_of_freedom)

    def decided(self, row: Mapping[str, Any] | pd.Series, measure: str, sign: int = 1) -> str:
        """The verdict on "the difference of `row` is above zero" (`sign` -1: below) by the measure's margin."""
        low, high = sorted((sign * row["low"], sign * row["high"]))
        return decide(low, high, self.margins.of(measure))

    def speaks_of(self, *names: str) -> str:
        """What a comparison of the named methods speaks of, in two words.

        One training each shows what these networks do. Several show what the loss does, where nothing but the loss
        differs; across schedules they speak of the configurations.
        """
        if not self.replicated:
            return "these networks"
        schedules = {method.schedule for method in self.methods if method.name in names}
        return "the losses" if len(schedules) == 1 else "the configurations"

    def estimate(self, contrast: Contrast) -> float:
        """Value of a contrast on all images; NaN where a method has no value."""
        known = self.values.get(contrast.measure, {})
        value = float(sum(weight * known.get(name, NAN) for name, weight in contrast.weights.items()))
        return snap(value)

    def rows(
        self,
        contrasts: Mapping[Any, Contrast],
        confidence: float = CONFIDENCE,
        groups: Sequence[Sequence[Any]] | None = None,
    ) -> Rows:
        """`Bootstrap.rows` of a family, either of single classes or of none.

        Bounds are NaN where a method, or the whole evidence, has no images; `reason` says which.
        """
        single = any(contrast.measure in CLASS_MEASURES for contrast in contrasts.values())
        covered = set(self.bootstrap.ratios.names) if self.bootstrap else set()
        known = {name: c for name, c in contrasts.items() if set(c.weights) <= covered and self._measured(c)}
        bootstrap = self.class_bootstrap if single and known else self.bootstrap
        found = bootstrap.rows(known, confidence, groups) if known and bootstrap else {}
        absent = "not every run's files hold results for single images" if self.bootstrap else self.no_intervals
        rows = {name: found.get(name) or BLANK | {"reason": absent} for name in contrasts}
        for name, row in rows.items():
            if not np.isfinite(row["estimate"]):
                row["estimate"] = self.estimate(contrasts[name])
        return rows

    def _measured(self, contrast: Contrast) -> bool:
        known = self.bootstrap.measures if self.bootstrap else {}
        return contrast.measure in CLASS_MEASURES or contrast.measure in known

    # --- the tables of the report: every family of intervals holds at once ------------------------------------------

    def levels(self, measure: str = MIOU) -> pd.DataFrame:
        """Every recipe's value with its interval, best first."""
        names = [method.name for method in self.recipes]
        table = as_frame(self.rows({name: Contrast(measure, {name: 1.0}) for name in names}))
        return table.sort_values("estimate", ascending=False, kind="stable")

    def simultaneous_intervals(self, contrasts: Mapping[Any, Contrast]) -> Rows:
        """`{key: row}` of what is shown, and of `contrasts`.

        Shown are all pairs of recipes and the controls against CE in mIoU, and boundaries against CE.

        All these intervals hold at once; the keys of the former are `(measure, method, other)`.
        """
        names = [method.name for method in self.recipes]
        family: dict[Any, Contrast] = {(MIOU, *pair): contrast for pair, contrast in all_pairs(names).items()}
        if self.baseline:
            base = self.baseline.name
            family |= {(MIOU, method.name, base): difference(method.name, base) for method in self.controls}
            family |= {(BOUNDARY, name, base): difference(name, base, BOUNDARY) for name in names if name != base}
        return self.rows({**family, **contrasts})

    @cached_property
    def claim_intervals(self) -> Rows:
        """`simultaneous_intervals` of what the claims compare: figures and tables show them, verdicts rest on them."""
        return self.simultaneous_intervals(self.claim_contrasts(self))

    def pairs(self) -> pd.DataFrame:
        """Differences in mIoU between all pairs of recipes, and of the controls from CE. Index: (method, other)."""
        return as_frame({tuple(pair): row for (of, *pair), row in self.claim_intervals.items() if of == MIOU})

    def _pair(self, a: str, b: str, measure: str) -> dict[str, Any]:
        """The row of a - b, whichever way round the pair is listed."""
        if (measure, a, b) in self.claim_intervals:
            return self.claim_intervals[measure, a, b]
        row = self.claim_intervals[measure, b, a]
        return row | {"estimate": -row["estimate"], "low": -row["high"], "high": -row["low"]}

    def ranking(self) -> pd.DataFrame:
        """The recipes by mIoU, ties shown as ties: value, low, high, best, worst, ties.

        One without an interval, where others have some, is no tie of all: it is not ranked; `attrs["unranked"]` holds
        the values of these, `{method: percent}`.
        """
        levels = self.levels()
        values = levels.estimate.dropna()
        judged = levels.low.notna() if levels.low.notna().any() else values.notna()
        table = ranking(values[judged].to_dict(), self.pairs())
        table.attrs["unranked"] = values[~judged].to_dict()
        table["low"], table["high"] = levels.low, levels.high
        table.attrs["no_intervals"] = self.no_intervals
        return table

    def neighbours(self) -> pd.DataFrame:
        """Differences between neighbours in the ranking, from the family of all pairs: the data chose the order."""
        return self._judged(pairwise(self.ranking().index), MIOU)

    def from_baseline(self, measure: str = MIOU, controls: bool = False) -> pd.DataFrame:
        """Every recipe's difference from CE, by intervals that agree with the ranking and the claims.

        controls: with those of the controls, in mIoU.
        """
        if self.baseline is None:
            return as_frame({})
        base = self.baseline.name
        others = [m.name for m in [*self.recipes, *(self.controls if controls else [])] if m.name != base]
        return self._judged([(name, base) for name in others], measure).set_axis(others)

    def _judged(self, pairs: Iterable[tuple[str, str]], measure: str) -> pd.DataFrame:
        """The rows of a - b of the `pairs` (a, b), with the verdict on "a lies above b", and what it speaks of."""
        rows = {pair: self._pair(*pair, measure) for pair in pairs}
        frame = as_frame(rows)
        frame["verdict"] = [self.decided(row, measure) for row in rows.values()]
        frame["speaks_of"] = [self.speaks_of(*pair) for pair in rows]
        return frame

    def class_values(self, names: Sequence[str]) -> pd.DataFrame:
        """IoU of the named methods and every class in percent, averaged over seeds: a frame method x class name."""
        values = {name: [self.values[measure].get(method, NAN) for method in names]
                  for measure, name in zip(CLASS_MEASURES, CLASS_NAMES, strict=True)}  # fmt: skip
        return pd.DataFrame(values, index=list(names))

    def class_differences(self) -> pd.DataFrame:
        """Differences from CE of every recipe and class, all intervals at once. Index: (method, class name)."""
        if self.baseline is None:
            return as_frame({})
        base = self.baseline.name
        others = [method.name for method in self.recipes if method.name != base]
        family = {
            (other, name): difference(other, base, measure)
            for measure, name in zip(CLASS_MEASURES, CLASS_NAMES, strict=True)
            for other in others
        }
        return as_frame(self.rows(family))


def _values(found: Iterable[Method], rare: Sequence[int]) -> dict[str, dict[str, float]]:
    """Values of all measures from the runs' final rows, averaged over seeds."""
    values: dict[str, dict[str, float]] = {name: {} for name in (MIOU, RARE, BOUNDARY, LOG_LOSS, *CLASS_MEASURES)}
    for method in found:
        values[LOG_LOSS][method.name] = float(np.mean([run.final("val_ce") for run in method.runs]))
        values[MIOU][method.name] = float(np.mean([run.final_val_mIoU for run in method.runs]))
        classes = np.mean([run.final_class_val for run in method.runs], axis=0)
        _add_classes(values, method.name, classes, rare)
    return values


def _add_classes(values: dict[str, dict[str, float]], name: str, classes: np.ndarray, rare: Sequence[int]) -> None:
    for c, value in enumerate(classes):
        values[f"class_{c}"][name] = float(value)
    chosen = classes[list(rare)]
    values[RARE][name] = float(np.mean(chosen[np.isfinite(chosen)])) if np.isfinite(chosen).any() else NAN
