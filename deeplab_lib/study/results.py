"""What the runs left behind, as data: per-epoch tables, final values, and which runs may stand in one table.

A run is `<stem>.csv`, with `<stem>.json` and `<stem>.npz` once it is finished. CSVs that predate this kit (the same
columns, no JSON, no NPZ) are read too: everything that a CSV alone can show is read, and `Run.missing` lists the rest.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deeplab_lib.common.errors import short_traceback
from deeplab_lib.common.markup import as_plain, as_text
from deeplab_lib.common.search import nearest, works
from deeplab_lib.common.text import listing, slug
from deeplab_lib.common.types import PathLike
from deeplab_lib.labels import NUM_CLASSES
from deeplab_lib.recipes import RECIPES, Follows, Recipe, recipe_for
from deeplab_lib.study.folders import csv_files, run_folders, sibling
from deeplab_lib.study.foreign import CLASS_VAL, ResultsError, read_table
from deeplab_lib.study.hand_in import check_agreement, read_arrays, read_costs, read_record
from deeplab_lib.study.log_schedule import LogSchedule, infer_schedule, loss_changes
from deeplab_lib.study.names import loss_by_name, parse_name, title_by_name
from deeplab_lib.study.people import plain_stem, run_name, sort_out, table_name
from deeplab_lib.training.earlier import UNSAID, stored_identity

# A column that this kit writes and older files lack: a CSV with it and without a JSON is a run that is not finished.
KIT_COLUMN = "trainable_parameters"
SEED = re.compile(r"_seed(\d+)(?=_|$)", re.IGNORECASE)
COARSE = re.compile(r"_split_train_extra(?=_|$)", re.IGNORECASE)


@dataclass
class Run:
    """One run: `table` has a row an epoch, `record` is its JSON or None, `notes` go into the report.

    started: what was written down when it began, or None.
    weights: what it started from, in words, where that is not what most runs of its kind did; part of the variant.
    absent: columns of `foreign.REQUIRED` that the CSV lacks; they are NaN in `table`. dataset_name: what whoever makes
    the report calls the data set of a run without a record. person: whose it is, by its folder below the one that was
    read, "" in that folder itself; named: whether its stem and labels say so, since somebody else holds the same run.
    """

    path: Path
    stem: str
    recipe: str | None
    title: str
    seed: int
    variant: str
    table: pd.DataFrame = field(repr=False)
    record: dict | None = field(default=None, repr=False)
    started: dict | None = field(default=None, repr=False)
    planned_epochs: int | None = None
    notes: list[str] = field(default_factory=list)
    weights: str = ""
    absent: list[str] = field(default_factory=list)
    dataset_name: str | None = None
    person: str = ""
    named: bool = False

    @property
    def recorded(self) -> dict[str, Any]:
        """Its record, `{}` when there is none."""
        return self.record or {}

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration, `{}` when it was not recorded."""
        return (self.record or self.started or {}).get("config", {})

    @property
    def follows(self) -> Follows:
        """The version of the study that was followed; the logs' for a CSV alone, which is a log."""
        return (UNSAID | self.config)["follows"] if self.config else "logs"

    @property
    def legacy(self) -> bool:
        """True for a CSV that predates this kit."""
        return self.record is None and KIT_COLUMN not in self.table

    @property
    def finished(self) -> bool:
        """True when the run reached its last epoch; a CSV that predates the kit is taken as finished."""
        return self.legacy or bool(self.record and self.record.get("finished"))

    @property
    def epoch(self) -> int:
        """The last epoch in the CSV, 0 when there is none."""
        return int(self.table["epoch"].iloc[-1]) if len(self.table) else 0

    @property
    def epochs(self) -> int | None:
        """The epochs planned; for an old CSV those it holds; None when nothing says."""
        return self.config.get("epochs") or (self.epoch if self.legacy else self.planned_epochs)

    @property
    def dataset(self) -> dict[str, Any]:
        """`{"name", "synthetic", "fingerprint", ...}`; where it was not recorded the name it was given, or `{}`."""
        given = {"name": self.dataset_name} if self.dataset_name else {}
        return (self.record or self.started or {}).get("dataset", given)

    @property
    def loss(self) -> str | None:
        """The expression of its loss: as recorded, else by its name; None when neither says."""
        recorded = (self.record or self.started or {}).get("loss")
        return recorded or (RECIPES[self.recipe].loss if self.recipe else loss_by_name(self.stem))

    @cached_property
    def log(self) -> LogSchedule:
        """The schedule that its column of rates shows."""
        return infer_schedule(self.table)

    @property
    def initial_lr(self) -> float | None:
        """The rate it began with: as recorded, for a CSV alone as its rates show; None when they do not."""
        return self.config.get("lr", self.log.initial_lr if self.legacy else None)

    @cached_property
    def loss_starts(self) -> list[int]:
        """The epochs from which on it was trained with another loss: by its weights, for a CSV alone by its curves."""
        weights = self.table[[column for column in self.table if column.startswith("weight_")]]
        if len(weights.columns):
            return [int(epoch) for epoch in self.table["epoch"][(weights.diff().abs() > 0).any(axis=1)]]
        return [change.epoch for change in loss_changes(self.table)] if self.legacy else []

    def last_logged(self, *columns: str) -> float:
        """The last finite value of the first of `columns` that has one, NaN when none has."""
        finite = [self.table[column].dropna() for column in columns if column in self.table]
        return next((float(values.iloc[-1]) for values in finite if len(values)), float("nan"))

    @property
    def stage(self) -> bool:
        """Whether it was trained on coarse labels: the first stage of another run, with which nothing is compared."""
        return bool(COARSE.search(self.stem))

    @property
    def method(self) -> str:
        """What is compared: the stem without its seed, and other weights. Runs of one method are replicates."""
        return " ".join(filter(None, [SEED.sub("", self.stem), self.weights]))

    @property
    def found_weights(self) -> str | None:
        """SHA-256 of what it started from, or "from scratch"; None for its own first stage's, or not recorded."""
        return self.recorded.get("identity", {}).get("weights") if "first_stage" not in self.recorded else None

    @property
    def label(self) -> str:
        """The name under which figures show the run: its method's, and its seed when that is not 0."""
        return f"{self.method_label}, seed {self.seed}" if self.seed else self.method_label

    @property
    def method_label(self) -> str:
        """The name under which figures show the run's method: title, and what makes it differ from its recipe."""
        variant = COARSE.sub("", f"_{self.variant}").strip("_")
        if variant.removeprefix("schedule_") in RECIPES:
            variant = f"schedule of {RECIPES[variant.removeprefix('schedule_')].title}"
        label = ", ".join(filter(None, [self.title, variant, "coarse labels" * self.stage]))
        return f"{label} ({self.person})" if self.named else label

    @cached_property
    def final_train_mIoU(self) -> float:
        return self.final("train_mIoU")

    @cached_property
    def final_val_mIoU(self) -> float:
        """The headline, in percent: the last epoch's validation mIoU."""
        return self.final("val_mIoU")

    def final(self, column: str) -> float:
        """The last finite value, NaN without one; a `<column>_final` column, when present and finite anywhere, wins."""
        for name in (f"{column}_final", column):
            finite = self.table[name].dropna() if name in self.table else None
            if finite is not None and len(finite):
                return float(finite.iloc[-1])
        return float("nan")

    @cached_property
    def final_class_val(self) -> np.ndarray:
        """Validation IoU of the 19 classes in percent `(19,)`, from the last epoch that has any; NaN where absent."""
        rows = self.table[CLASS_VAL].dropna(how="all")
        return rows.iloc[-1].to_numpy(float) if len(rows) else np.full(NUM_CLASSES, np.nan)

    @property
    def best(self) -> tuple[int | None, float]:
        """`(epoch, val_mIoU)` of the epoch with the highest validation mIoU, on the images of every epoch.

        `(None, nan)` when there is none, or when the headline is measured otherwise than the epochs' values and nothing
        says how.
        """
        values = self.table["val_mIoU"].dropna()
        if values.empty or not (self.curve_images or np.isclose(values.iloc[-1], self.final_val_mIoU)):
            return None, float("nan")
        return int(self.table["epoch"].loc[values.idxmax()]), float(values.max())

    @property
    def curve_images(self) -> tuple[int, int] | None:
        """`(120, 400)`: curves are of the first 120 of 400 validation images; None where every epoch evaluates all."""
        part, whole = self.dataset.get("val_each_epoch"), self.dataset.get("val")
        return (part, whole) if part and whole and part != whole else None

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays of `<stem>.npz` (names, confusion, boundary_f, predictions, ...), `{}` when there is none."""
        path = sibling(self.path, ".npz")
        return read_arrays(path) if path else {}

    @property
    def missing(self) -> list[str]:
        """What this run's files cannot tell, as a list of phrases."""
        lacks = []
        if self.record is None:
            lacks.append("configuration, dataset, versions, device and parameters (no JSON)")
        if not self.arrays:
            lacks.append("intervals, confusion matrices, boundary F-score and predictions (no NPZ)")
        if "val_ce" not in self.table:
            lacks.append("validation cross-entropy, which compares across losses (no val_ce column)")
        classes = [
            f"class_0_{split} to class_18_{split}" for split in ("train", "val") if f"class_0_{split}" in self.absent
        ]
        if absent := [column for column in self.absent if not column.startswith("class_")] + classes:
            lacks.append(f"the column{'s' * (len(absent) > 1)} {listing(absent)}")
        return lacks


# --- names -----------------------------------------------------------------------------------------------------------


def parse_stem(stem: str) -> tuple[str | None, str, int]:
    """Split a stem into `(recipe key or None, variant, seed)`.

    The variant is what follows the recipe's own stem, e.g. `lr0.0001`; for a custom loss, the slug of its expression.
    """
    match = SEED.search(stem)
    body, seed = SEED.sub("", stem), int(match[1]) if match else 0
    for recipe in sorted(RECIPES.values(), key=lambda recipe: -len(recipe.stem)):
        if (plain_stem(body) + "_").startswith(plain_stem(recipe.stem) + "_"):
            return recipe.key, body[len(recipe.stem) + 1 :], seed
    return None, re.sub(r"^deeplabv2_", "", body, flags=re.IGNORECASE), seed


# --- reading ---------------------------------------------------------------------------------------------------------


def _record_beside(path: Path, ending: str) -> dict[str, Any] | None:
    found = sibling(path, ending)
    return read_record(found) if found else None


def read_run(path: PathLike) -> Run:
    """The Run whose CSV is `path`; every string of it is `common.markup.as_text`."""
    path = Path(path)
    record, started = _record_beside(path, ".json"), _record_beside(path, ".config.json")
    about = record or started
    name, _ = run_name(path.stem, (about or {}).get("stem"))
    recipe, rest, seed = parse_stem(name)
    stem, rest = as_text(name), as_text(rest)
    title, variant = (RECIPES[recipe].title, rest) if recipe else (rest, "")
    if not recipe and not about and (words := title_by_name(name)):
        title, lr = words, parse_name(name)[1]
        variant = f"lr {lr:g}" if lr else ""
    if about:
        recipe = about.get("recipe", recipe)
        title = about.get("title") or title
        seed = seed if about["config"].get("seed") is None else about["config"]["seed"]
        own = slug(str(about["config"].get("loss")))
        if not recipe and rest.startswith(own):
            variant = rest.removeprefix(own).strip("_")
    if recipe and parse_stem(name)[0] == recipe:
        stem = RECIPES[recipe].stem + stem[len(RECIPES[recipe].stem) :]
    table = read_table(path)
    run = Run(path, stem, recipe, title, seed, variant, table.frame, record, started, absent=table.absent)
    if not run.finished and not started:
        run.planned_epochs = stored_identity(path.with_suffix("")).get("epochs")
    if plain_stem(name) != plain_stem(path.stem):
        run.notes.append(as_text(f"its files are called {path.stem}"))
    run.notes += [*([as_text("; ".join(table.notes))] if table.notes else []), *_notes(run)]
    return run


def _notes(run: Run) -> list[str]:
    """What a reader must know about how the final values were found."""
    notes = []
    if not len(run.table):
        return ["the CSV holds no epoch yet"]
    for column in ("train_mIoU", "val_mIoU"):
        final = f"{column}_final"
        source = final if final in run.table and run.table[final].notna().any() else column
        finite = run.table[source].dropna()
        agree = np.isclose(run.table[column].dropna().tail(1), finite.tail(1)).any()
        if source == final and not agree and not run.curve_images:
            notes.append(f"{column}: the last finite value of {final} is used")
        if finite.empty:
            notes.append(f"{column}: no finite value")
        elif finite.index[-1] != run.table.index[-1]:
            epoch = int(run.table["epoch"].loc[finite.index[-1]])
            notes.append(f"{source}: the last row is empty, epoch {epoch} is used")
    classes = run.table[CLASS_VAL].dropna(how="all")
    if classes.empty:
        notes.append("per-class validation IoU: no finite value")
    elif classes.index[-1] != run.table.index[-1]:
        epoch = int(run.table["epoch"].loc[classes.index[-1]])
        notes.append(f"per-class validation IoU: the last row is empty, epoch {epoch} is used")
    if not run.finished:
        notes.append(f"not finished: stopped at, or still training after, epoch {run.epoch}")
    return notes


def read_runs(folder: Path | str) -> list[Run]:
    """Every run of `folder`, recipes first in their order, then by stem; `read_folder` also says what it left out."""
    return read_folder(folder)[0]


@short_traceback
def read_folder(folder: Path | str, dataset: str | None = None) -> tuple[list[Run], list[str]]:
    """`(runs, left_out)`: the runs of a folder and its sub-folders in order, and a line for each that cannot be used.

    That is a CSV that is no run's table, a run whose files hold a wrong value or contradict each other, and a copy of
    another run; `people` says whose runs are whose. dataset: the name of the data set of the runs that have no record
    of it. Raises ResultsError when there is no run, or when two files of `folder` itself claim one run.
    """
    folder, runs = Path(folder), []
    places, not_read = run_folders(folder)
    left_out = [f"{place.relative_to(folder).as_posix()}/ is not read: {why}" for place, why in not_read.items()]
    for path in (path for place in places for path in csv_files(place)):
        try:
            run = replace(read_run(path), dataset_name=dataset and as_text(dataset))
            _check(run)
            runs.append(run)
        except ResultsError as error:
            left_out.append(str(error).replace(f"{folder}{os.sep}", "").removesuffix("."))
    left_out += [str(error).replace(f"{folder}{os.sep}", "") for error in map(_wrong_costs, places[1:]) if error]
    left_out = [as_text(line) for line in left_out]
    if not runs:
        raise ResultsError(_no_runs(folder, left_out))
    try:
        runs, more = sort_out(runs, folder)
    except ValueError as error:
        raise ResultsError(f"{folder}: {as_plain(str(error))}") from None
    runs, others = _on_the_same_images(_tell_weights(runs), folder)
    order = {key: number for number, key in enumerate(RECIPES)}
    runs.sort(key=lambda run: (order.get(run.recipe or "", len(order)), run.variant, run.seed, run.person, run.stem))
    return runs, left_out + more + others


def _check(run: Run) -> None:
    """Raise ResultsError where the files of a finished run do not fit together."""
    if run.finished and run.record:
        check_agreement(run.path, run.final_val_mIoU, run.epoch, run.record, sibling(run.path, ".npz"))


def _wrong_costs(place: Path) -> ResultsError | None:
    """What is wrong with the costs in somebody's folder, None where nothing is."""
    try:
        if (path := place / "efficiency.json").exists():
            read_costs(path)
    except ResultsError as error:
        return error
    return None


def _no_runs(folder: Path, left_out: Sequence[str]) -> str:
    """One line for a folder without a run: what it holds instead, and the sub-folder that has runs."""
    if not folder.is_dir():
        near = nearest(folder.name, [path.name for path in folder.parent.glob("*/")])
        return f"{folder}: there is no such folder" + (f"; the nearest there is {near}" if near else "")
    reasons = f" ({as_plain('; '.join(left_out))})" if left_out else ""
    inside = next((place for place in run_folders(folder)[1] if any(map(_is_run, csv_files(place)))), None)
    advice = "train one, or name the folder that holds them"
    if inside:
        advice = f"there are some in {inside}: name that folder"
    return f"{folder}: no run's CSV here; {advice}{reasons}"


def _is_run(path: Path) -> bool:
    return works(lambda: read_run(path))


def _on_the_same_images(runs: Sequence[Run], folder: Path) -> tuple[list[Run], list[str]]:
    """`(runs, lines)`: without those whose images are called otherwise than most others' on the same data.

    Runs are compared image by image.
    """
    groups: dict[Scope, dict[tuple | None, list[Run]]] = {}
    kept: list[Run] = []
    lines: list[str] = []
    for run in runs:
        images = tuple(run.arrays["names"]) if run.finished and run.arrays else None
        groups.setdefault(Scope.of(run), {}).setdefault(images, []).append(run)
    for found in groups.values():
        kept += found.pop(None, [])
        most = max(found.values(), key=len, default=[])
        kept += most
        lines += [
            f"{table_name(run, folder)}: validated on other images than {table_name(most[0], folder)}, on data of one "
            "name and content, so they cannot be compared; hand in the NPZ as the run wrote it"
            for others in found.values() if others is not most for run in others
        ]  # fmt: skip
    return kept, lines


def _tell_weights(runs: Sequence[Run]) -> list[Run]:
    """The runs, of which those say so that started from other weights than most of their kind, unknown to their stems.

    Where a file or the network is missing, `auto` trains from scratch or from another file: that is a difference like
    a learning rate's, and no recipe as it is.
    """

    def kind(run: Run) -> tuple[Scope, Any, str]:
        return Scope.of(run), run.config.get("model"), run.variant.partition("pretrained")[2]

    found: dict[tuple, Counter[str]] = {}
    for run in runs:
        found.setdefault(kind(run), Counter()).update(filter(None, [run.found_weights]))
    usual = {name: [weights for weights, _ in counts.most_common(1)] for name, counts in found.items()}
    return [_with_weights(run) if run.found_weights not in (None, *usual[kind(run)]) else run for run in runs]


def _with_weights(run: Run) -> Run:
    found = run.found_weights or ""
    words = f"weights {found if ' ' in found else found[:8]}"
    return replace(run, weights=words, variant="_".join(filter(None, [run.variant, words])))


@short_traceback
def load_runs(folder: Path | str) -> pd.DataFrame:
    """All runs of `folder` in one frame, a row per run and epoch.

    The CSV's columns, preceded by run (stem), recipe, title, variant, seed, finished, dataset, preset and person.
    """
    frames = []
    for run in read_runs(folder):
        about = {
            "run": run.stem.removeprefix(f"{run.person}/") if run.named else run.stem,
            "recipe": run.recipe,
            "title": run.title,
            "variant": run.variant,
            "seed": run.seed,
            "finished": run.finished,
            "dataset": run.dataset.get("name"),
            "preset": run.config.get("preset"),
            "person": run.person,
        }
        frame = run.table.copy()
        for position, (name, value) in enumerate(about.items()):
            frame.insert(position, name, as_plain(value) if isinstance(value, str) else value)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


# --- what may stand together -----------------------------------------------------------------------------------------


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
    def of(cls, run: Run) -> "Scope":
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

    def __str__(self) -> str:
        parts = [self.data, f"{self.preset} scale" if self.preset else ""]
        parts += [f"{self.epochs} epochs" if self.epochs else "", "{1} × {0}".format(*self.size) if self.size else ""]
        return ", ".join(part for part in parts if part)


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
