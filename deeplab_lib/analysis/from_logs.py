"""What learning curves alone can say: how final mIoU goes with the initial rate, and how much a run moves by itself.

Both are read off the runs' tables, so that they hold for runs of which nothing else is left. Sentences register their
numbers under `logs.`.
"""

from collections.abc import Sequence
from datetime import date
from itertools import pairwise

import numpy as np
import pandas as pd

from deeplab_lib.analysis.findings import FEW
from deeplab_lib.analysis.numbers import Numbers
from deeplab_lib.common.text import count, listing, plural
from deeplab_lib.study.grouping import Study, schedule
from deeplab_lib.study.run import Run

LATE = 10  # epochs at the end over which a run's own movement is measured
LONG_RUN = 2 * LATE  # epochs from which on that says something: before, every curve is still rising


def unreported(study: Study) -> list[Run]:
    """The runs of a folder of logs that are none of the eight: drawn beside them, and in none of their claims."""
    return [run for run in study.ablations if run.legacy] if study.logs_only else []


def logged_on(runs: Sequence[Run]) -> str | None:
    """The day, YYYY-MM-DD, of the last epoch that says when it was logged; None when none does."""
    days = [run.table["Created"].max() for run in runs if "Created" in run.table]
    days = [day.date() for day in days if not pd.isna(day)]
    return max(days, default=date.min).isoformat() if days else None


# --- by initial rate -------------------------------------------------------------------------------------------------


def rates(runs: Sequence[Run]) -> pd.DataFrame:
    """Runs by initial rate, the lowest first: initial_lr, train_mIoU, val_mIoU; those without a known rate left out."""
    rows = {
        run.stem: {"initial_lr": run.initial_lr, "train_mIoU": run.final_train_mIoU, "val_mIoU": run.final_val_mIoU}
        for run in runs
        if run.initial_lr is not None and np.isfinite(run.final_val_mIoU)
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["initial_lr", "train_mIoU", "val_mIoU"])
    return table.sort_values(["initial_lr", "val_mIoU"], kind="stable")


def by_rate(runs: Sequence[Run], outside: Sequence[Run], numbers: Numbers) -> str:
    """How final mIoU goes with the initial rate, over the runs and those outside the eight; "" for too few rates."""
    table = rates([*runs, *outside])
    groups = [group["val_mIoU"] for _, group in table.groupby("initial_lr")]
    if len(table) < FEW or len(groups) < 3:
        return ""
    parts = []
    for (rate, group), members in zip(table.groupby("initial_lr"), groups, strict=True):
        ends = [numbers.put(f"logs.rate.{rate:g}.{name}", value, ".2f")
                for name, value in (("low", members.min()), ("high", members.max()))]  # fmt: skip
        beyond = [run for run in outside if run.stem in group.index]
        whom = f"{plural(len(group), 'run')}" + (f", {count(len(beyond))} outside the eight" if beyond else "")
        parts.append(f"{rate:g}: {' to '.join(dict.fromkeys(ends))} % ({whom})")
    ordered = all(low.max() < high.min() for low, high in pairwise(groups))
    text = f"By initial rate (@fig-rate), final validation mIoU is, at {'; '.join(parts)}. "
    if not ordered:
        return text + "Runs at a lower rate are not all below those at a higher one."
    largest = max(float(members.max() - members.min()) for members in groups)
    whole = float(groups[-1].min() - groups[0].max())
    return text + (
        "Every run at a higher rate ends above every run at a lower one. From the lowest rate to the highest it is at "
        f"least {numbers.put('logs.rate.gain', whole, '.2f')} points, among runs at one rate at most "
        f"{numbers.put('logs.rate.within', largest, '.2f')}. The rate varies together with loss, warm-up, power and "
        "freezing, and each configuration was trained once: this shows what goes together, not what causes it."
    )


def summary(runs: Sequence[Run], outside: Sequence[Run], numbers: Numbers) -> str:
    """The findings in a sentence each, for the abstract; "" where they are not there."""
    said = []
    groups = [group["val_mIoU"] for _, group in rates([*runs, *outside]).groupby("initial_lr")]
    if len(groups) > 2 and all(low.max() < high.min() for low, high in pairwise(groups)):
        said.append("Every run at a higher initial rate ends above every run at a lower one.")
    for run in outside:
        value = numbers.put(f"logs.outside.{run.stem}", run.final_val_mIoU, ".2f")
        said.append(f"A run that is in no table of the study, {run.label}, reaches {value} %.")
    table = late_movement(one_schedule(runs))
    if len(table) > 1:
        apart = numbers.put("logs.late.apart", float(table["last"].max() - table["last"].min()), ".2f")
        moved = numbers.put("logs.late.range.high", table["range"].max(), ".2f")
        said.append(
            f"The {plural(len(table), 'run')} that share a schedule end within {apart} points of each other; a single "
            f"one of them moves by up to {moved} points within its last {count(LATE)} epochs."
        )
    return " ".join(said)


# --- movement of a run by itself -------------------------------------------------------------------------------------


def late_movement(runs: Sequence[Run]) -> pd.DataFrame:
    """Validation mIoU over the last `LATE` epochs: last, lowest, highest, range, deviation (n - 1), in run order.

    Empty where the runs are too short, or where it was not recorded for all these epochs.
    """
    rows = {}
    for run in runs:
        values = run.table["val_mIoU"].tail(LATE).dropna()
        if run.epoch >= LONG_RUN and len(values) == LATE:
            ends = {"last": run.final_val_mIoU, "lowest": values.min(), "highest": values.max()}
            rows[run.stem] = ends | {"range": values.max() - values.min(), "deviation": values.std()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["last", "lowest", "highest", "range", "deviation"])


def one_schedule(runs: Sequence[Run]) -> list[Run]:
    """The largest group of runs that share a schedule, by what was recorded or logged; [] for groups of one."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(schedule(run), []).append(run)
    largest = max(groups.values(), key=len, default=[])
    return largest if len(largest) > 1 else []


def movement(runs: Sequence[Run], numbers: Numbers) -> str:
    """The differences between the losses on one schedule beside the movement of each run; "" where it is not known."""
    alike = one_schedule(runs)
    table = late_movement(alike)
    if len(table) < 2 or len(table) < len(alike):
        return ""
    apart = float(table["last"].max() - table["last"].min())
    low, high = table["range"].min(), table["range"].max()
    put = numbers.put
    text = (
        f"{listing(run.label for run in alike)} share one schedule and differ in their losses (@tbl-late). Their final "
        "mIoUs lie "
        f"at most {put('logs.late.apart', apart, '.2f')} points apart. Each of them moves by "
        f"{put('logs.late.range.low', low, '.2f')} to {put('logs.late.range.high', high, '.2f')} points within its own "
        f"last {count(LATE)} epochs (standard deviation {put('logs.late.sd.low', table['deviation'].min(), '.2f')} to "
        f"{put('logs.late.sd.high', table['deviation'].max(), '.2f')}). "
    )
    if apart <= high:
        return text + (
            "No difference between the losses is larger than the largest movement of a single run, and how much a "
            "second seed would differ is not known: these curves show no difference between the losses."
        )
    return text + (
        "The largest difference between the losses is larger than any of these movements; how much a second seed would "
        "differ is not known."
    )


def outside_the_eight(runs: Sequence[Run]) -> str:
    """What is known of logs of runs that the study does not report, in a paragraph; "" without such logs."""
    if not runs:
        return ""
    known = listing(f"{run.label} (`{run.stem}`)" for run in runs)
    if len(runs) == 1:
        has, rest = (
            "is",
            "Its loss is that in its name. It takes no part in ranking and claims; figures show it in grey.",
        )
    else:
        has, rest = "are", "Their losses are those in their names. They take no part in ranking and claims."
    return f"In the folder of logs, but in no table of the study, {has} {known} (@tbl-ablations). {rest}"
