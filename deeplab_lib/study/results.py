"""What the runs of a folder left behind, read and checked; what cannot be used is named with the reason."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deeplab_lib.common.errors import short_traceback
from deeplab_lib.common.markup import as_plain, as_text
from deeplab_lib.common.search import nearest, works
from deeplab_lib.common.text import slug
from deeplab_lib.common.types import PathLike
from deeplab_lib.recipes import RECIPES
from deeplab_lib.study.folders import csv_files, run_folders, sibling
from deeplab_lib.study.foreign import CLASS_VAL, ResultsError, read_table
from deeplab_lib.study.grouping import Scope
from deeplab_lib.study.hand_in import check_agreement, read_costs, read_record
from deeplab_lib.study.names import parse_name, title_by_name
from deeplab_lib.study.people import plain_stem, run_name, sort_out, table_name
from deeplab_lib.study.run import SEED, Run
from deeplab_lib.training.earlier import stored_identity


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
            if run.finished and run.record:
                check_agreement(run.path, run.final_val_mIoU, run.epoch, run.record, sibling(run.path, ".npz"))
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
    not_read = run_folders(folder)[1]
    inside = next((place for place in not_read if any(works(read_run, path) for path in csv_files(place))), None)
    advice = "train one, or name the folder that holds them"
    if inside:
        advice = f"there are some in {inside}: name that folder"
    return f"{folder}: no run's CSV here; {advice}{reasons}"


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
