"""Final mIoU and latency: the study's tables against its logs."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from deeplab_lib.analysis import published
from deeplab_lib.analysis.audit.finding import TABLES, AuditFinding, Figures, Said
from deeplab_lib.analysis.audit.printed import means_table
from deeplab_lib.analysis.audit.schedules import same_path
from deeplab_lib.analysis.audit.study_logs import UNREPORTED, UNREPORTED_LOSS, WARMUP_STEPS, StudyLogs, runs
from deeplab_lib.common.text import listing

NUMBERS = [run.number for run in published.RUNS.values()]


def two_columns_of_miou(logs: StudyLogs) -> AuditFinding:
    """The mean of the per-class values against both printed columns of mIoU, and the last rows against epoch 1."""
    table = means_table()
    last, results = table.last_row_difference.abs().dropna(), table.results_difference.abs().dropna()
    empty = [run.number for run in published.RUNS.values() if np.isnan(run.last_val_mIoU)]
    figures = {
        "low": (table.results_mIoU.min(), ".2f"),
        "high": (table.results_mIoU.max(), ".2f"),
        "last_low": (table.last_row_mIoU.min(), ".2f"),
        "last_high": (table.last_row_mIoU.max(), ".2f"),
        "runs": (len(last), "d"),
        "last_gap": (last.max(), ".5f"),
        "gap_low": (results.min(), ".2f"),
        "gap_high": (results.max(), ".2f"),
        "empty": (len(empty), "d"),
    }
    epoch_1, more = _epoch_1(logs, empty)
    return AuditFinding(
        "miou",
        "Two columns of mIoU",
        "{low} to {high} % in the results table, {last_low} to {last_high} % in the last rows ({empty} of them empty)",
        "the mean of the 19 classes is the last row's mIoU to within {last_gap} points ({runs} runs). It lies "
        "{gap_low} to {gap_high} points below the results table's. " + epoch_1,
        "sorts the rows of every file by epoch before it takes the last. It prints one mIoU, the mean of the class "
        "values beside it, from one confusion matrix",
        f"{TABLES}; epoch 1 {logs.source(NUMBERS, 'first')}",
        figures | more,
    )


def _epoch_1(logs: StudyLogs, empty: Sequence[int]) -> Said:
    """Whether the last rows are those of epoch 1 in the logs."""
    gaps = [logs.value(number, "epoch_1_gap") for number in NUMBERS]
    counts = [logs.value(number, "epoch_1_values") for number in NUMBERS]
    gap, count = max(gap for gap in gaps if gap is not None), sum(count for count in counts if count is not None)
    figures: Figures = {"epoch_1_gap": (gap, ".5f"), "epoch_1_values": (count, "d")}
    if gap > 0.001:
        return "The last rows are not epoch 1 of the logs: they differ by up to {epoch_1_gap} points", figures
    text = (
        "The last rows are those of epoch 1: there the logs hold the printed values to within {epoch_1_gap} points "
        "({epoch_1_values} values). The exports list the newest epoch first, so the last line of a file is its first "
        "epoch"
    )
    if empty:
        firsts = listing(f"{{first{number}}} % in run {number}" for number in empty)
        text += f". The means that the study leaves empty exist there: {firsts}"
        figures |= {f"first{number}": (logs.value(number, "first")[1], ".2f") for number in empty}
    return text, figures


def order_by_rate(logs: StudyLogs) -> AuditFinding:
    """Final mIoU by initial rate, and the runs of one schedule beside how far each moves near its end."""
    numbers = [*NUMBERS, UNREPORTED]
    rates, finals = logs.values("initial_lr", numbers), {n: logs.value(n, "last")[1] for n in numbers}
    groups = {rate: [n for n in numbers if np.isclose(rates[n], rate, rtol=1e-3)] for rate in _distinct(rates.values())}
    figures: dict[str, tuple] = {}
    parts = []
    for place, (rate, members) in enumerate(groups.items(), 1):
        values = [finals[n] for n in members]
        figures |= {f"rate{place}": (rate, "g"), f"low{place}": (min(values), ".2f")}
        span = f"{{low{place}}}"
        if len(members) > 1:
            figures[f"high{place}"] = (max(values), ".2f")
            span += f" to {{high{place}}}"
        parts.append(f"{{rate{place}}}: {span} % ({_named(members)})")
    ends = [(min(finals[n] for n in members), max(finals[n] for n in members)) for members in groups.values()]
    ordered = all(low > high for (_, high), (low, _) in pairwise(ends))
    order = "Every run lies above all runs of lower rates" if ordered else "The order does not follow the rate"
    alike, more = _same_schedule(logs, finals)
    return AuditFinding(
        "order",
        "What the order of the runs follows",
        "differences between the runs are credited to their losses",
        f"by initial rate, the final validation mIoUs are {'; '.join(parts)}. {order}. {alike}",
        "compares losses among runs of one schedule, and marks every other comparison as confounded",
        logs.source(numbers, "initial_lr", "last", "powers", "late_range"),
        figures | more,
    )


def _distinct(rates: Iterable[float]) -> list[float]:
    """The rates that differ by more than a thousandth, from low to high."""
    distinct: list[float] = []
    for rate in sorted(rates):
        if not distinct or not np.isclose(rate, distinct[-1], rtol=1e-3):
            distinct.append(rate)
    return distinct


def _named(members: Sequence[int]) -> str:
    """`runs 5 and 7`; with the name of the run that no table shows."""
    unreported = f", by its name {UNREPORTED_LOSS}, which is in no table of the study" if UNREPORTED in members else ""
    return runs(members) + unreported


def _same_schedule(logs: StudyLogs, finals: Mapping[int, float]) -> Said:
    """The runs that share run 1's schedule: the spread of their final mIoU beside the movement of each near its end."""
    schedules = logs.values("powers", NUMBERS)
    rates = logs.values("initial_lr", NUMBERS)
    alike = [
        n for n in NUMBERS
        if np.isclose(rates[n], rates[1], rtol=1e-3) and same_path(schedules[n], schedules[1]) and n not in WARMUP_STEPS
    ]  # fmt: skip
    values = [finals[n] for n in alike]
    ranges = [logs.value(n, "late_range") for n in alike]
    deviations = [logs.value(n, "late_deviation") for n in alike]
    figures: Figures = {
        "spread": (max(values) - min(values), ".2f"),
        "moved_low": (min(ranges), ".2f"),
        "moved_high": (max(ranges), ".2f"),
        "sd_low": (min(deviations), ".2f"),
        "sd_high": (max(deviations), ".2f"),
    }
    text = (
        f"{runs(alike).capitalize()} share one schedule: their final mIoUs differ by at most {{spread}} points. Each "
        "moves by {moved_low} to {moved_high} points within its last ten epochs (standard deviation {sd_low} to "
        "{sd_high})"
    )
    if figures["spread"][0] <= figures["moved_high"][0]:
        text += ", so no difference between these losses is visible"
    return text, figures


def latencies(logs: StudyLogs) -> AuditFinding:
    """One architecture, eight latencies."""
    printed = [run.latency for run in published.RUNS.values()]
    logged = logs.values("latency", NUMBERS)
    within = {number: 100 * (max(pair) / min(pair) - 1) for number, pair in logged.items()}
    worst, others = max(within, key=lambda number: within[number]), sorted(within.values())[:-1]
    figures = {
        "low": (min(printed), ".2f"),
        "high": (max(printed), ".2f"),
        "ratio": (max(printed) / min(printed), ".2f"),
        "within": (max(others), ".1f"),
        "worst": (within[worst], ".1f"),
    }
    return AuditFinding(
        "latency",
        "Latency of one architecture",
        "{low} to {high}, the unit not given",
        "runs of one network, with one cost, differ by a factor of {ratio}. The loss is no part of the network that is "
        "timed. The two latencies of one run, with training and with validation images, agree to {within} % "
        f"({{worst}} % in run {worst}). The difference therefore arose between the runs: another GPU, or other jobs on "
        "it (inferred)",
        "measures latency once per network, size and device, warmed up and synchronised, with median and spread",
        f"{TABLES}; the two latencies of a run {logs.source(NUMBERS, 'latency')}",
        figures,
    )
