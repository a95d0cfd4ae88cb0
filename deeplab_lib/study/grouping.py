"""Which runs may stand in one table, and which were trained alike."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from deeplab_lib.recipes import Recipe, recipe_for
from deeplab_lib.study.foreign import ResultsError
from deeplab_lib.study.run import Run


@dataclass(frozen=True)
class Scope:
    """What two runs must share to stand in one table. Runs that predate the kit record the epochs alone."""

    dataset: str | None
    fingerprint: str | None
    preset: str | None
    epochs: int | None
    size: tuple | None
    synthetic: bool = False

    @classmethod
    def of(cls, run: Run) -> Self:
        config, dataset = run.config, run.dataset
        sides = config.get("image_height"), config.get("image_width")
        size = sides if all(sides) else None
        synthetic = bool(dataset.get("synthetic"))
        return cls(dataset.get("name"), dataset.get("fingerprint"), config.get("preset"), run.epochs, size, synthetic)

    @property
    def data(self) -> str:
        """The data set as a reader says it."""
        name = "toy city" if self.dataset == "toycity" else self.dataset or "data set not recorded"
        return "synthetic " * self.synthetic + name

    @property
    def brief(self) -> str:
        """Data and scale alone, for every table and figure."""
        return ", ".join([self.data, *([f"{self.preset} scale"] if self.preset else [])])

    def __str__(self) -> str:
        parts = [f"{self.epochs} epochs" if self.epochs else "", "{1} × {0}".format(*self.size) if self.size else ""]
        return ", ".join([self.brief, *filter(None, parts)])


@dataclass
class Study:
    """Runs that may stand in one table: same data, preset, image size and epochs, with the unfinished beside them.

    common: what every run departs in from recipe and preset, as stems name it (`("lr0.0005",)`); it is left out of the
    runs' variants, so that recipes that depart in nothing else are recipes as they are.
    """

    scope: Scope
    runs: list[Run]
    common: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ", ".join([str(self.scope), *([self.departure] if self.departure else [])])

    @property
    def departure(self) -> str:
        """What all runs depart in, in words, "" when in nothing but their length, which the scope tells."""
        parts = [part for part in self.common if not part.startswith("epochs")]
        return f"all with {' '.join(parts)}" if parts else ""

    @property
    def logs_only(self) -> bool:
        """Whether its runs are CSVs alone, made by another program than this kit."""
        return bool(self.runs) and all(run.legacy for run in self.runs)

    @property
    def finished(self) -> list[Run]:
        return [run for run in self.runs if run.finished]

    @property
    def unfinished(self) -> list[Run]:
        return [run for run in self.runs if not run.finished]

    @property
    def recipes(self) -> list[Run]:
        """The finished runs of the eight recipes as they are, all seeds."""
        return [run for run in self.finished if run.recipe and not run.variant]

    @property
    def ablations(self) -> list[Run]:
        """The finished runs that depart from a recipe, or have a loss of their own."""
        return [run for run in self.finished if not run.recipe or run.variant]


def studies(runs: Sequence[Run]) -> list[Study]:
    """The runs grouped by what they share, the group with most recipes first.

    A run without JSON that is not finished joins the first group: it was trained into the same folder. First stages
    stand apart, last. What all runs of a group depart in is said once, of the group.
    """
    groups: dict[Scope, list[Run]] = {}
    for run in runs:
        if run.finished:
            groups.setdefault(Scope.of(run), []).append(run)
    found = [_study(scope, members) for scope, members in groups.items()]
    staged = lambda study: all(run.stage for run in study.runs)  # noqa: E731
    found.sort(key=lambda s: (staged(s), -len(s.recipes), len(s.common), -len(s.runs), str(s.scope)))
    waiting = [run for run in runs if not run.finished and not run.stage]
    stages = [run for run in runs if not run.finished and run.stage]
    if found and not staged(found[0]):
        found[0].runs += [_without(found[0].common, run) for run in waiting]
    elif waiting:
        found.insert(0, _study(Scope.of(waiting[0]), waiting))
    return [*found, *([Study(Scope.of(stages[0]), stages)] if stages else [])]


def _study(scope: Scope, runs: Sequence[Run]) -> Study:
    """A Study of the runs, with what all of its recipes depart in; () when one departs in nothing."""
    parts = [run.variant.split("_") for run in runs if run.recipe and not run.stage]
    least = min(parts, key=len, default=[])
    common = tuple(least) if least != [""] and all(set(least) <= set(others) for others in parts) else ()
    return Study(scope, [_without(common, run) for run in runs], common)


def _without(common: tuple[str, ...], run: Run) -> Run:
    """The run with `common` left out of its variant."""
    rest = "_".join(part for part in run.variant.split("_") if part not in common)
    return replace(run, variant=rest) if common else run


def require_comparable(runs: Sequence[Run]) -> None:
    """Raise ResultsError naming the first run that may not stand in one table with the first."""
    for run in runs:
        if run.finished and Scope.of(run) != Scope.of(runs[0]):
            raise ResultsError(
                f"{run.stem} ({Scope.of(run)}) and {runs[0].stem} ({Scope.of(runs[0])}) may not stand in one table; "
                "compare runs of one data set, preset, size and number of epochs"
            )


def methods(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """`{method: [its seeds' runs]}`, in the order of `runs`."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.method, []).append(run)
    return groups


def schedule(run: Run) -> str:
    """How a run was trained, apart from its loss, as text: runs with equal texts share a schedule.

    Of a CSV alone it is what the log shows: the rates, and how many parameters are trained at the end.
    """
    if run.legacy:
        trained = run.last_logged("val_params", "train_params")
        return f"{run.log}" + (f"; {trained:,.0f} parameters" if np.isfinite(trained) else "")
    plan = recipe_for(run.config.get("schedule") or run.recipe or "ce", run.follows)
    factor = run.config.get("lr_factor") or 1
    version = "" if run.follows == "logs" else f"; by the study's {run.follows}"
    return describe_schedule(plan, run.config.get("lr", plan.lr * factor) / factor) + version


def describe_schedule(plan: Recipe, lr: float) -> str:
    """Initial rate (before a preset's factor), power, warm-up and changes of a recipe as text."""
    changes = [f"epoch {c.epoch}: {c.power} {c.weights} {c.freeze}" for c in plan.changes]
    return "; ".join([f"lr {lr:g}", f"power {plan.power:g}", f"warm-up {plan.warmup_steps}", *changes])
