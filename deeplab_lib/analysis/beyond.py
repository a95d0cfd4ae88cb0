"""What the changes beyond the study are worth: the gain of each over the study's CE run, and what it costs."""

import re
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pandas as pd

from deeplab_lib.analysis.statistics import MEASURES, MIOU, RESAMPLES, Bootstrap, difference, ratios_of
from deeplab_lib.analysis.verdicts import CONTRADICTED, MARGIN, SUPPORTED, VERDICTS, decide
from deeplab_lib.config import Config
from deeplab_lib.losses import parse_expression
from deeplab_lib.models.views import VIEWS
from deeplab_lib.recipes import RECIPES
from deeplab_lib.study.grouping import Scope, methods, schedule
from deeplab_lib.study.run import Run

STUDIED_TERMS = {term for recipe in RECIPES.values() for _, term, _ in parse_expression(recipe.loss)}
PLAIN = {item.name: item.metadata["plain"] for item in fields(Config)}  # values of parameters that older runs lack
COMPARED = [item.name for item in fields(Config) if item.metadata["result"] and item.name not in ("loss", "seed")]
LENGTH_ONLY = re.compile(r"(_?(epochs|h|w)\d+)*")  # departures that leave a recipe what it is


def goes_beyond(run: Run) -> bool:
    """Whether a run with a JSON uses something that the study did not: a parameter, a loss term, a recipe of ours."""
    parameters = any(run.config.get(name, plain) != plain for name, plain in PLAIN.items() if plain is not None)
    terms = {term for _, term, _ in parse_expression(run.recorded["loss"])}
    return parameters or bool(terms - STUDIED_TERMS) or run.config["loss"].startswith("ours_")


def ablation(runs: Sequence[Run], resamples: int = RESAMPLES, margin: float = MARGIN) -> pd.DataFrame | None:
    """Every change against the study's CE run on the same images, best first; None when there is nothing beyond it.

    Runs need not share the number of epochs, for changes are best compared at equal time, but data, preset and image
    size. Index: method. Columns: change (from CE, in words), seeds, epochs, mIoU; its difference from CE in points with
    bounds that hold for all rows at once and adjusted p (difference, low, high, p) and the verdict on "it lies above
    CE", with differences up to `margin` points that do not matter; seconds (of training and validation a run) and
    tested_GMACs (an image, all its views). CE is the row whose difference is NaN; of several, the one trained about as
    long as the others. `attrs["scope"]` says in words what the rows share.
    """
    groups: dict[Scope, list[Run]] = {}
    for run in runs:
        if run.finished and run.record and run.arrays:
            groups.setdefault(replace(Scope.of(run), epochs=None), []).append(run)
    tables = {
        scope: compare(group, resamples, margin) for scope, group in groups.items() if any(map(goes_beyond, group))
    }
    for scope, table in tables.items():
        if table is not None:
            table.attrs["scope"] = str(scope)
    return max((table for table in tables.values() if table is not None), key=len, default=None)


def compare(runs: Sequence[Run], resamples: int, margin: float = MARGIN) -> pd.DataFrame | None:
    """The table of `ablation` for runs of one setting; None without a CE run. The control is part of the study."""
    unchanged = [run for run in runs if run.recipe and LENGTH_ONLY.fullmatch(run.variant)]
    control = [run for run in runs if run.recipe and run.variant.startswith("schedule_") and not goes_beyond(run)]
    changed = methods([run for run in runs if run not in unchanged + control])
    plain = methods([run for run in unchanged if run.recipe == "ce"])
    if not plain:
        return None
    usual = np.median([seconds(members) for members in changed.values()])
    base = min(plain, key=lambda name: abs(seconds(plain[name]) - usual))
    chosen = {base: plain[base]} | changed
    ratios = ratios_of([run for members in chosen.values() for run in members])
    bootstrap = Bootstrap(ratios, {MIOU: MEASURES[MIOU]}, resamples)
    gains = bootstrap.interval({name: difference(name, base) for name in changed})
    levels, first = bootstrap.levels(), plain[base][0]
    table = pd.DataFrame({name: row(members, first, levels[name]) for name, members in chosen.items()}).T
    intervals = gains.rename(columns={"estimate": "difference"})[["difference", "low", "high", "p"]]
    intervals["verdict"] = [decide(row.low, row.high, margin) for row in intervals.itertuples()]
    table = table.join(intervals).infer_objects().fillna({"verdict": "–"})
    order = ["change", "seeds", "epochs", "mIoU", *intervals.columns, "seconds", "tested_GMACs"]
    return table[order].sort_values("mIoU", ascending=False)


def row(members: Sequence[Run], base: Run, level: float) -> dict[str, Any]:
    """What the table says of one method apart from its difference."""
    views = VIEWS[members[0].config.get("tta", "none")]
    gigamacs = members[0].recorded["macs"] / 1e9 * sum(scale**2 for scale, _ in views)
    about = {"change": change(members[0], base), "seeds": len(members), "epochs": members[0].epochs, "mIoU": level}
    return about | {"seconds": seconds(members), "tested_GMACs": gigamacs}


def change(run: Run, base: Run) -> str:
    """What distinguishes a run from `base`, in words."""
    given, usual = ({name: r.config.get(name, PLAIN[name]) for name in COMPARED} for r in (run, base))
    loss, usual_loss = run.recorded["loss"], base.recorded["loss"]
    parts = [f"loss {loss}"] if loss != usual_loss else []
    parts += [f"{name} {_short(given[name])}" for name in COMPARED if given[name] != usual[name] and name != "epochs"]
    parts += [run.weights] if run.weights != base.weights else []
    if run.recipe not in (None, base.recipe) and given["schedule"] is None and schedule(run) != schedule(base):
        parts.append(f"schedule of {RECIPES[run.recipe].title}")
    return "; ".join(parts) or "none: the study's CE"


def _short(value: object) -> object:
    return f"{value:g}" if isinstance(value, float) else value


def seconds(members: Sequence[Run]) -> float:
    """Mean time of a run, training and validation, with its first stage if it has one."""
    stages = [(run.recorded, run.recorded.get("first_stage", {})) for run in members]
    return float(np.mean([sum(stage.get("wall_time_s", 0) for stage in run) for run in stages]))


def introduction(table: pd.DataFrame) -> str:
    """The section's heading and how to read its table, from the table itself."""
    changed = table[table.difference.notna()]
    words = {SUPPORTED: "significantly above CE", CONTRADICTED: "significantly below CE"}
    found = {verdict: ", ".join(changed.change[changed.verdict == verdict]) for verdict in VERDICTS}
    reading = "; ".join(f"{words.get(verdict, verdict)}: {names}" for verdict, names in found.items() if names)
    return (
        "# Beyond the study {#sec-beyond}\n\nSome runs use what the study did not: augmentation, averaged weights, "
        "other losses or ways of testing. @tbl-beyond compares each with the study's cross-entropy run on the same "
        f"images. Of these changes, {reading}."
    )
