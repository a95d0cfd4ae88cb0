"""What the study's logs say of its runs: computed from its CSV exports where these are given, else stated here.

The exports are not part of the kit. The tables below hold what was read from them: of the eight runs of the study, and
of a ninth that none of its tables shows.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deeplab_lib.analysis import published
from deeplab_lib.common.errors import short_traceback
from deeplab_lib.common.files import in_project
from deeplab_lib.common.text import listing
from deeplab_lib.study.foreign import CLASS_TRAIN, CLASS_VAL, ResultsError, read_table
from deeplab_lib.study.log_schedule import infer_schedule, loss_changes

UNREPORTED = 9
NAMES = {run.number: run.name for run in published.RUNS.values()} | {
    UNREPORTED: "DeepLabV2_ce05_f05_warmup1500_lr_0.0005"
}
UNREPORTED_LOSS = "CE + Focal"
UNREPORTED_TITLE = {NAMES[UNREPORTED]: f"in no table of the study: {UNREPORTED_LOSS}"}
# Steps of warm-up: of runs 5 and 6 as the study's text gives them, of run 9 as its name does.
WARMUP_STEPS = {5: 500, 6: 500, UNREPORTED: 1500}
WARMUP_START = 1e-6
EPOCHS = 50
LATE = 10  # epochs at the end whose movement is measured

Powers = tuple[tuple[int, float], ...]  # (first epoch, power)


@dataclass(frozen=True)
class Jump:
    """An epoch in which the losses jump: values of the epoch before and of this one, mIoU in percent."""

    epoch: int
    train_loss: tuple[float, float]
    val_loss: tuple[float, float]
    val_mIoU: tuple[float, float]


@dataclass(frozen=True)
class LoggedRun:
    """What one log says; None: it does not say. Pairs are (training, validation); mIoU in percent, latency in ms.

    first_lr: after epoch 1. powers: (first epoch, power) of the poly schedule. first, last: mIoU of the first and the
    last epoch. late_range, late_deviation: highest minus lowest, and standard deviation, of the last ten validation
    mIoUs. epoch_1_gap: largest difference between epoch 1 and the printed last row, over `epoch_1_values` values.
    zeros: class values of exactly 0. epochs: in all.
    """

    initial_lr: float | None = None
    first_lr: float | None = None
    powers: Powers | None = None
    first: tuple[float, float] | None = None
    last: tuple[float, float] | None = None
    late_range: float | None = None
    late_deviation: float | None = None
    latency: tuple[float, float] | None = None
    parameters: int | None = None
    jumps: tuple[Jump, ...] | None = None
    epoch_1_gap: float | None = None
    epoch_1_values: int | None = None
    zeros: int | None = None
    epochs: int = EPOCHS


class StudyLogs:
    """The nine logs, by number of the run.

    read: what the given files say, {number: `LoggedRun`}; what they do not say is as stated. notes: what became of
    files that are of no use here, a sentence each.
    """

    def __init__(self, read: dict[int, LoggedRun] | None = None, notes: Iterable[str] = ()) -> None:
        self.read, self.notes = dict(read or {}), list(notes)

    def value(self, number: int, name: str) -> Any:
        """Field `name` of a run."""
        read = getattr(self.read.get(number), name, None)
        return getattr(STATED[number], name) if read is None else read

    def values(self, name: str, numbers: Iterable[int]) -> dict[int, Any]:
        """Field `name` of several runs, {number: value}."""
        return {number: self.value(number, name) for number in numbers}

    def source(self, numbers: Iterable[int], *names: str) -> str:
        """Where the fields `names` of the runs come from, in words."""
        numbers = list(numbers)
        computed = [n for n in numbers if all(getattr(self.read.get(n), name, None) is not None for name in names)]
        if not computed:
            return "stated from the study's logs"
        if len(computed) == len(numbers):
            return "computed from the study's logs"
        return f"computed from the logs of {runs(computed)}, for the others stated from the study's logs"


def log_table(logs: StudyLogs) -> pd.DataFrame:
    """What decides, a row a run, by name: initial_lr, first_val_mIoU, val_mIoU, late_range, late_deviation."""
    rows = {
        name: {
            "initial_lr": logs.value(number, "initial_lr"),
            "first_val_mIoU": logs.value(number, "first")[1],
            "val_mIoU": logs.value(number, "last")[1],
            "late_range": logs.value(number, "late_range"),
            "late_deviation": logs.value(number, "late_deviation"),
        }
        for number, name in NAMES.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def left_out(logs: StudyLogs) -> str:
    """The files of the given folder that are of no use to the audit, in a paragraph."""
    return f"Of the folder of logs was left out: {' '.join(logs.notes)}" if logs.notes else ""


def runs(numbers: Iterable[int]) -> str:
    """`run 5`, `runs 5 and 6`."""
    numbers = sorted(numbers)
    return f"run{'s' * (len(numbers) != 1)} {listing(map(str, numbers))}"


# --- as given --------------------------------------------------------------------------------------------------------


@short_traceback
def read_logs(folder: str | Path | None) -> StudyLogs:
    """The logs in `folder`, known by their names without regard to case; None: nothing but what is stated.

    Raises ValueError when the folder holds none of them.
    """
    if folder is None:
        return StudyLogs()
    read: dict = {}
    notes: list[str] = []
    known = {name.casefold(): number for number, name in NAMES.items()}
    for path in sorted(in_project(folder).glob("*.csv")):
        number = known.get(path.stem.casefold())
        if number is None or number in read:
            notes.append(f"{path.name} is {'no run of the study' if number is None else 'a second file of one run'}.")
            continue
        try:
            read[number] = summed_up(number, read_table(path).frame)
        except ResultsError as error:
            notes.append(f"{error}.".replace(str(path), path.name))
    if not read:
        found = "; ".join(notes) or "no CSV file"
        raise ValueError(
            f"audit_logs: no log of the study in {folder} ({found}); the files have the names of the runs: "
            f"{NAMES[1]}.csv, ..."
        )
    return StudyLogs(read, notes)


def summed_up(number: int, frame: pd.DataFrame) -> LoggedRun:
    """The log of run `number`; `frame` is that of a `Table`: a row an epoch, in order."""
    frame = frame.set_index("epoch", drop=False)
    schedule = infer_schedule(frame)
    late = frame["val_mIoU"].iloc[-LATE:] if len(frame) >= LATE else frame["val_mIoU"].iloc[:0]
    first = frame.loc[1] if 1 in frame.index else pd.Series(dtype=float)
    gaps = np.abs(_printed(number) - np.array([first.get(name, np.nan) for name in _LAST_ROW], dtype=float))
    classes = frame[[*CLASS_TRAIN, *CLASS_VAL]]
    return LoggedRun(
        initial_lr=schedule.initial_lr,
        first_lr=_known(first.get("lr")),
        powers=schedule.powers or None,
        first=_pair(first, "mIoU"),
        last=_pair(frame.iloc[-1], "mIoU"),
        late_range=_known(late.max() - late.min()),
        late_deviation=_known(late.std()),
        latency=_pair(frame.iloc[-1], "latency"),
        parameters=_parameters(frame.iloc[-1]),
        jumps=_jumps(frame),
        epoch_1_gap=_known(np.nanmax(gaps)) if np.isfinite(gaps).any() else None,
        epoch_1_values=int(np.isfinite(gaps).sum()) or None,
        zeros=int((classes == 0).sum().sum()) if classes.notna().any(axis=None) else None,
        epochs=len(frame),
    )


_LAST_ROW = ["train_mIoU", "val_mIoU", *CLASS_VAL]


def _printed(number: int) -> np.ndarray:
    """The printed last row of a run, as `_LAST_ROW`; NaN for the run that no table shows."""
    run = next((run for run in published.RUNS.values() if run.number == number), None)
    return np.array([run.last_train_mIoU, run.last_val_mIoU, *run.class_val] if run else [np.nan] * len(_LAST_ROW))


def _known(value: float | None) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None


def _pair(row: pd.Series, name: str) -> tuple[float, float] | None:
    """`(training, validation)` of a measure in a row of the frame, None unless both are there."""
    train, val = (_known(row.get(f"{split}_{name}")) for split in ("train", "val"))
    return None if train is None or val is None else (train, val)


def _parameters(row: pd.Series) -> int | None:
    count = _known(row.get("val_params", row.get("train_params")))
    return None if count is None else int(count)


def _jumps(frame: pd.DataFrame) -> tuple[Jump, ...] | None:
    """The epochs in which the losses jump and mIoU does not, with what the log holds before and after."""
    columns = ["train_loss", "val_loss", "val_mIoU"]
    if frame[columns].isna().all().any():
        return None
    before = frame[columns].shift()
    return tuple(
        Jump(change.epoch, *((float(before[name][change.epoch]), float(frame[name][change.epoch])) for name in columns))
        for change in loss_changes(frame)
    )


# --- as stated -------------------------------------------------------------------------------------------------------

# number, initial rate, rate after epoch 1, powers as first epoch:power, parameters at the last epoch
_SCHEDULES = """
1 1e-4 9.819818666e-5  1:0.9                      43795724
2 1e-4 9.819818666e-5  1:0.9                      43795724
3 1e-4 9.819818666e-5  1:0.9                      43795724
4 1e-4 9.819818666e-5  1:0.9                      43795724
5 2e-4 1.9983189876e-4 1:0.9,31:1.0,46:2.0,48:1.2 2835724
6 3e-4 2.9974784815e-4 1:0.9,29:1.2,44:1.0        2835724
7 2e-4 1.9639637332e-4 1:0.9,31:1.1               43795724
8 1e-4 9.819818666e-5  1:0.9                      43795724
9 5e-4 1.7531733333e-4 1:0.9                      43795724
"""

# number, mIoU of epoch 1 (train, val) and of the last epoch (train, val), range and standard deviation of the last ten
# val mIoUs, latency (train, val), how many values of epoch 1 are those of the printed last row
_MEASURED = """
1 21.2579 27.3214 60.4216 50.5006 1.0586 0.3079 142.62 141.06 0
2 19.7200 24.8598 59.0607 50.1048 0.3513 0.1265 244.73 242.35 21
3 18.6428 23.9463 60.5320 50.8225 0.4432 0.1503 227.78 225.46 19
4 19.6132 25.0474 59.3659 50.1686 0.8007 0.2439 245.004 248.606 21
5 16.3195 25.6934 66.1738 53.7920 0.6503 0.1864 240.90 238.74 21
6 18.8582 29.4252 66.4565 53.9948 0.8216 0.2386 263.723 249.030 21
7 22.0509 28.5452 64.8529 53.3067 0.6958 0.1886 306.93 304.54 21
8 20.1109 25.7124 60.5185 50.3708 0.7139 0.2176 247.42 245.34 21
9 16.4203 25.5983 70.0928 56.0043 0.6041 0.1917 287.21 285.80 0
"""

_JUMPS: dict[int, tuple[Jump, ...]] = {
    5: (Jump(46, (0.2368, 0.2792), (0.3344, 0.3765), (53.98467, 53.90485)),),
    8: (Jump(46, (0.2415, 0.4566), (0.3214, 0.6329), (50.58932, 50.62095)),),
}
PRINTED_TO = 0.00005  # half of the last decimal of the printed last rows


def _stated() -> dict[int, LoggedRun]:
    measured = {int(line.split()[0]): line.split()[1:] for line in _MEASURED.strip().splitlines()}
    logs = {}
    for line in _SCHEDULES.strip().splitlines():
        name, initial_lr, first_lr, path, parameters = line.split()
        number = int(name)
        *values, same = measured[number]
        first, first_val, last, last_val, spread, deviation, latency, val_latency = map(float, values)
        powers = tuple((int(epoch), float(power)) for epoch, power in (part.split(":") for part in path.split(",")))
        logs[number] = LoggedRun(
            initial_lr=float(initial_lr),
            first_lr=float(first_lr),
            powers=powers,
            first=(first, first_val),
            last=(last, last_val),
            late_range=spread,
            late_deviation=deviation,
            latency=(latency, val_latency),
            parameters=int(parameters),
            jumps=_JUMPS.get(number, ()),
            epoch_1_gap=PRINTED_TO if int(same) else None,
            epoch_1_values=int(same) or None,
            zeros=0,
        )
    return logs


STATED = _stated()
