"""What the runs say, computed once: text, captions, tables and figures about results are all made from `Findings`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd

from deeplab_lib.analysis.calibration import calibration
from deeplab_lib.analysis.claims import Verdict, judge
from deeplab_lib.analysis.evidence import Evidence
from deeplab_lib.analysis.statistics import MIOU, TIE, rank_correlation
from deeplab_lib.analysis.verdicts import VERDICTS
from deeplab_lib.study.grouping import Study, methods
from deeplab_lib.study.people import people
from deeplab_lib.study.run import Run

FEW = 4  # runs below which no order of them is spoken of


class RateOrder(NamedTuple):
    """Rank correlation of the initial rate with validation mIoU and with training mIoU, over the configurations."""

    val: float
    train: float


@dataclass(frozen=True)
class Findings:
    """The results of one study, as numbers and names; `sentences` puts them into words.

    scope: data, scale, device and length in a few words; synthetic, preset and devices are what that rests on.
    brief: data and scale alone, for every table and figure. people: how many people's runs are kept apart.
    finished, unfinished, scratch, pretrained: labels of runs, the latter by where they started. configurations: how
    many of the eight were trained; losses: the terms that they combine. terms: `{method: its terms}`. seeds:
    `{title: number}` of the methods; seed_sd: `{title: points}` of those with several. seed_share: share of the
    seeds in the variance of a difference from CE (median), NaN for one seed. titles: `{run or method: display
    name}`. baseline: the CE method, "" without one. ranks, versus: the frames of `Evidence.ranking` and
    `from_baseline`, controls included. trust: that of `calibration`, or None. equal: the methods on the schedule of
    CE. controls: `{control: the same loss on its own schedule}`. schedules: of the configurations. judged: how many
    recipes claims are judged on. models: how many networks were trained. rate: None where the order of the runs is
    not that of their rates. images, resamples: of the bootstrap, 0 without one. no_intervals: why there are none,
    "" where there are some.
    """

    scope: str
    brief: str
    people: int
    synthetic: bool
    preset: str | None
    devices: tuple[str, ...]
    finished: tuple[str, ...]
    unfinished: tuple[str, ...]
    configurations: int
    losses: frozenset[str]
    terms: Mapping[str, frozenset[str]]
    seeds: Mapping[str, int]
    seed_sd: Mapping[str, float]
    seed_share: float
    titles: Mapping[str, str]
    baseline: str
    ranks: pd.DataFrame
    versus: pd.DataFrame
    trust: pd.DataFrame | None
    equal: tuple[str, ...]
    controls: Mapping[str, str]
    controlled: bool
    schedules: int
    judged: int
    models: int
    scratch: tuple[str, ...]
    pretrained: tuple[str, ...]
    rate: RateOrder | None
    verdicts: tuple[Verdict, ...]
    margins: Mapping[str, float]
    images: int
    resamples: int
    no_intervals: str

    @classmethod
    def of(cls, study: Study, evidence: Evidence) -> Self:
        """From one study and the evidence of its finished runs."""
        recipes, bootstrap = evidence.recipes, evidence.bootstrap
        scratch, pretrained = starts(study.finished or study.runs)
        versus = evidence.from_baseline(controls=True)
        return cls(
            scope=scope(study),
            brief=study.scope.brief,
            people=len(people(study.runs)) if any(run.named for run in study.runs) else 1,
            synthetic=study.scope.synthetic,
            preset=study.scope.preset,
            devices=tuple(sorted({str(s.get("device")) for run in study.runs for s in sessions(run)})),
            finished=tuple(run.label for run in study.finished),
            unfinished=tuple(run.label for run in study.unfinished),
            configurations=len({method.recipe for method in recipes}),
            losses=frozenset().union(*(method.losses for method in recipes)),
            terms={method.name: method.losses for method in evidence.methods},
            seeds={evidence.title(name): number for name, number in evidence.seeds.items()},
            seed_sd=seed_deviations(study.recipes),
            seed_share=seed_share(versus) if evidence.replicated else float("nan"),
            titles={run.stem: run.label for run in study.runs} | evidence.titles,
            baseline=evidence.baseline.name if evidence.baseline else "",
            ranks=evidence.ranking() if recipes else pd.DataFrame(),
            versus=versus,
            trust=calibration(evidence, bootstrap.resamples) if bootstrap else None,
            equal=tuple(method.name for method in evidence.same_schedule),
            controls=own_schedules(evidence),
            controlled=evidence.controlled,
            schedules=len({method.schedule for method in recipes}),
            judged=len(evidence.judged),
            models=len({method.model for method in evidence.methods}),
            scratch=scratch,
            pretrained=pretrained,
            rate=follows_rate(evidence),
            verdicts=tuple(judge(evidence)),
            margins={name: evidence.margins.of(name) for name in (MIOU, "ece")},
            images=evidence.images,
            resamples=bootstrap.resamples if bootstrap else 0,
            no_intervals=evidence.no_intervals,
        )

    @property
    def decidable(self) -> pd.DataFrame:
        """The rows of `versus` that have an interval."""
        return self.versus.dropna(subset=["low", "high"])

    @property
    def same(self) -> pd.DataFrame:
        """The rows of `decidable` at equal schedule: there only the loss differs from CE."""
        return self.decidable[self.decidable.index.isin(self.equal)]

    @property
    def calibrated(self) -> pd.DataFrame:
        """The rows of `trust` at equal schedule that are compared with CE; none without calibration."""
        if self.trust is None:
            return pd.DataFrame({"verdict": []})
        return self.trust[self.trust.index.isin(self.equal) & (self.trust["verdict"] != "")]

    @property
    def other(self) -> pd.DataFrame:
        """The rows of `versus` on another schedule than CE's."""
        return self.versus[~self.versus.index.isin(self.equal)]

    @property
    def several_seeds(self) -> bool:
        return max(self.seeds.values(), default=1) > 1

    @property
    def single_seeds(self) -> tuple[str, ...]:
        """The configurations that were trained once."""
        return tuple(title for title, number in self.seeds.items() if number == 1)

    @property
    def leaders(self) -> list[str]:
        """The methods with the highest mIoU, several where they end alike."""
        value = self.ranks["value"]
        return list(value.index[(value - value.iloc[0]).abs() < TIE])

    @property
    def tied(self) -> list[str]:
        """The methods that share a group of ties with the first of the ranking."""
        leader, *others = self.ranks.index
        return [method for method in others if set(self.ranks["ties"][method]) & set(self.ranks["ties"][leader])]

    def title(self, name: str) -> str:
        """A method's display name."""
        return self.titles[name]

    def named(self, names: Sequence[str]) -> list[str]:
        """Display names of methods."""
        return [self.titles[name] for name in names]


def by_verdict(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """`{verdict: rows}` of a table with a column `verdict`; verdicts without a row left out."""
    found = {verdict: table[table["verdict"] == verdict] for verdict in VERDICTS}
    return {verdict: rows for verdict, rows in found.items() if len(rows)}


def scope(study: Study) -> str:
    """What the results are about, in a few words, for the top of every page and the corner of every figure."""
    devices = {str(session.get("device", "")).split(":")[0].upper() for run in study.runs for session in sessions(run)}
    epochs = study.scope.epochs
    length = [f"{epochs} epoch{'s' if epochs > 1 else ''}"] if epochs else []
    length += [study.departure] if study.departure else []
    return ", ".join([study.scope.brief, *filter(None, [" and ".join(sorted(devices))]), *length])


def sessions(run: Run) -> list[dict[str, Any]]:
    """The sessions of a run's record, [] when there is none."""
    return (run.record or {}).get("sessions", [])


def starts(runs: Sequence[Run]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Labels of the runs that started from random weights, and of all others."""
    sources = {run.label: str((run.record or {}).get("weights", {}).get("source") or "not recorded") for run in runs}
    scratch = tuple(label for label, source in sources.items() if source.startswith("none"))
    return scratch, tuple(label for label in sources if label not in scratch)


def seed_deviations(runs: Sequence[Run]) -> dict[str, float]:
    """`{title: points}`: the standard deviation (n - 1) of final mIoU between the seeds of methods with several."""
    values = {members[0].title: [run.final_val_mIoU for run in members] for members in methods(runs).values()}
    deviations = {title: float(np.std(found, ddof=1)) for title, found in values.items() if len(found) > 1}
    return {title: deviation for title, deviation in deviations.items() if np.isfinite(deviation)}


def seed_share(differences: pd.DataFrame) -> float:
    """Median share of the seeds in the variance of differences (rows of `Bootstrap.interval`); NaN without any."""
    if not {"image_variance", "seed_variance"} <= set(differences):
        return float("nan")
    whole = differences["image_variance"] + differences["seed_variance"]
    return float((differences["seed_variance"] / whole).median())


def own_schedules(evidence: Evidence) -> dict[str, str]:
    """`{control: method}`: which recipe, on its own schedule, trains the loss of each control."""
    own = {(method.recipe, method.runs[0].person): method.name for method in evidence.recipes if method.runs}
    pairs = {control.name: own.get((control.recipe, control.runs[0].person)) for control in evidence.controls}
    return {control: method for control, method in pairs.items() if method}


def follows_rate(evidence: Evidence) -> RateOrder | None:
    """How closely the order of the recipes is that of their initial rates; None where it is not or cannot be seen."""
    rows = [(method.runs[0].initial_lr, evidence.values[MIOU].get(method.name), method.runs[0].final_train_mIoU)
            for method in evidence.recipes if method.runs]  # fmt: skip
    table = pd.DataFrame(rows, columns=["rate", "val", "train"], dtype=float).dropna()
    order = RateOrder(*(rank_correlation(table["rate"], table[name]) for name in ("val", "train")))
    seen = len(table) >= FEW and table["rate"].nunique() > 2 and order.val > 0.7
    return order if seen else None
