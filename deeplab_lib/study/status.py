"""Where every run stands: `python -m deeplab_lib.study.status [folder ...]`, behind `make status`.

Without a folder it is that of `workflow/config.yaml`, with the runs planned there, and every other one in `runs/`.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd
import yaml

from deeplab_lib.common.files import project_root
from deeplab_lib.common.markup import as_plain
from deeplab_lib.common.text import duration
from deeplab_lib.common.types import PathLike
from deeplab_lib.recipes import RECIPES
from deeplab_lib.study import planning
from deeplab_lib.study.folders import csv_files, run_folders, sibling
from deeplab_lib.study.foreign import ResultsError
from deeplab_lib.study.results import read_run

NAN = float("nan")


def is_locked(path: PathLike) -> bool:
    """Whether a living process holds the lock of the run whose CSV is `path`."""
    if sibling(path, ".softlock"):  # of a file system without locks
        return True
    lock = sibling(path, ".lock")
    if lock is None:
        return False
    try:
        with filelock.FileLock(lock, timeout=0):
            return False
    except filelock.Timeout:
        return True
    except OSError:  # somebody else's folder, in which nothing may be locked
        return sibling(path, ".holder") is not None


def status(folder: PathLike, planned: Sequence[str] = ()) -> pd.DataFrame:
    """One row a run of `folder`, those `planned` (stems) that have none included.

    Columns: run, epoch, epochs, mIoU, seconds_left, state. State: finished, running, stopped after epoch k, not
    started, or not readable.
    """
    folder = Path(folder)
    rows = [_row(path) for path in (csv_files(folder) if folder.is_dir() else [])]
    started = [path.stem for path in sorted(folder.glob("*.lock")) if not sibling(path, ".csv") and is_locked(path)]
    rows += [_blank(stem) | {"state": "running"} for stem in started]
    known = {row["run"].lower() for row in rows}
    rows += [_blank(stem) for stem in planned if stem.lower() not in known]
    pace = pd.Series([row["seconds_an_epoch"] for row in rows]).median()
    epochs = max((row["epochs"] for row in rows if row["epochs"]), default=0)
    for row in rows:
        row["epochs"] = row["epochs"] or epochs
        if row["state"] not in ("finished", "not readable"):
            seconds = row["seconds_an_epoch"] if row["seconds_an_epoch"] > 0 else pace
            left = (row["epochs"] - row["epoch"]) * seconds - row["since"]
            row["seconds_left"] = left if np.isnan(left) else max(0.0, left)
    order = {stem: number for number, stem in enumerate((*planned, *(recipe.stem for recipe in RECIPES.values())))}
    rows.sort(key=lambda row: (order.get(row["run"], len(order)), row["run"]))
    return pd.DataFrame(rows, columns=["run", "epoch", "epochs", "mIoU", "seconds_left", "state"])


def _blank(stem: str) -> dict[str, Any]:
    blank = {"run": stem, "epoch": 0, "epochs": 0, "mIoU": NAN, "seconds_left": NAN, "state": "not started"}
    return blank | {"seconds_an_epoch": NAN, "since": 0.0}


def _row(path: Path) -> dict[str, Any]:
    try:
        run = read_run(path)
    except ResultsError:
        return _blank(path.stem) | {"state": "not readable"}
    row = _blank(run.stem) | {"epoch": run.epoch, "epochs": run.epochs or 0, "mIoU": run.final_val_mIoU}
    row["seconds_an_epoch"] = float(run.table["Runtime"].tail(3).mean())
    if run.finished:
        return row | {"state": "finished", "seconds_left": 0.0}
    if is_locked(path):
        return row | {"state": "running", "since": max(0.0, time.time() - path.stat().st_mtime)}
    return row | {"state": f"stopped after epoch {run.epoch}"}


def render(table: pd.DataFrame) -> Iterator[str]:
    """The status of one folder as lines of text."""
    if table.empty:
        yield "no runs"
        return
    width = max(table["run"].str.len())
    yield f"{'run':{width}}  {'epoch':>9}  {'mIoU':>6}  {'time left':>11}  state"
    for row in table.itertuples():
        epoch = f"{row.epoch}/{row.epochs or '?'}"
        miou = f"{row.mIoU:.2f}" if row.mIoU == row.mIoU else "–"
        left = "–" if row.state == "finished" else duration(row.seconds_left)
        yield f"{row.run:{width}}  {epoch:>9}  {miou:>6}  {left:>11}  {row.state}"


def plan() -> tuple[Path, list[str]]:
    """`(folder, stems)` of the runs that `workflow/config.yaml` plans; of the eight where there is no such file."""
    path = project_root() / "workflow" / "config.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    runs = planning.plan(planning.complete(settings or {}), here=False)
    return project_root() / planning.configured(next(iter(runs.values()))).out_dir, list(runs)


def _with_runs(folder: Path) -> list[Path]:
    """The folder, or those of the people collected in it that hold runs, where it holds none itself."""
    inside = run_folders(folder)[0][1:] if not csv_files(folder) else []
    return inside or [folder]


def main(folders: Sequence[PathLike]) -> None:
    """Print the status of each folder; without one, of the planned runs and of every other folder in `runs/`."""
    try:
        planned, stems = plan()
    except (OSError, ValueError, yaml.YAMLError) as error:
        planned, stems = project_root(), []
        if not folders:
            sys.exit(f"workflow/config.yaml: {' '.join(str(error).split())}")
    others = run_folders(project_root() / "runs")[0][1:]
    named = [Path(folder) for folder in folders]
    for folder in named:
        if not folder.is_dir():
            sys.exit(f"{folder} is no folder of runs")
    named = [place for folder in named for place in _with_runs(folder)]
    for folder in named or dict.fromkeys([planned, *others]):
        print(f"{folder}:")
        print(as_plain("\n".join(render(status(folder, stems if folder.resolve() == planned.resolve() else ())))))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m deeplab_lib.study.status", description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="*", help="folders of runs; none: those of the project")
    main(parser.parse_args().folder)
