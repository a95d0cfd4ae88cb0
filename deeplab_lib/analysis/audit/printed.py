"""The study's printed tables against each other, and its text against its code."""

import numpy as np
import pandas as pd

from deeplab_lib.analysis import published
from deeplab_lib.analysis.audit.finding import CODE, TABLES, AuditFinding
from deeplab_lib.analysis.audit.study_logs import NAMES, StudyLogs
from deeplab_lib.common.text import listing, signed
from deeplab_lib.recipes import RECIPES
from deeplab_lib.study.names import parse_name

# --- the tables of mIoU ----------------------------------------------------------------------------------------------


def means_table() -> pd.DataFrame:
    """Per run: mean of its 19 printed class IoUs beside both printed mIoUs, and how far each lies from the mean."""
    rows = {}
    for run in published.RUNS.values():
        values = np.array(run.class_val)
        mean = float(values.mean()) if np.isfinite(values).all() else float("nan")
        rows[run.name] = {
            "mean_of_classes": mean,
            "last_row_mIoU": run.last_val_mIoU,
            "results_mIoU": run.val_mIoU,
            "last_row_difference": run.last_val_mIoU - mean,
            "results_difference": run.val_mIoU - mean,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def best_loss() -> AuditFinding:
    """ "Lovász is best" against the study's own results table."""
    groups: dict[str, list[float]] = {"with": [], "without": []}
    for run in published.RUNS.values():
        groups["with" if "lovasz" in RECIPES[run.recipe].loss else "without"].append(run.val_mIoU)
    best = {name: max(values) for name, values in groups.items()}
    gap = best["with"] - best["without"]
    leader = max(published.RUNS.values(), key=lambda run: run.val_mIoU)
    return AuditFinding(
        "best",
        "Which loss is best",
        "Lovász reaches the best final mIoU",
        f"the best run with Lovász has {{with}} %, the best without {{without}} %; {leader.name} leads. The order of "
        f"the values {'contradicts' if gap < 0 else 'agrees with'} the statement ({{gap}} points). Whether the "
        "difference is more than chance cannot be decided without intervals",
        "writes its conclusions from the runs, with intervals, and shows ties as ties",
        TABLES,
        {name: (value, ".4g") for name, value in best.items()} | {"gap": (gap, signed)},
    )


# --- the table of initial configurations -----------------------------------------------------------------------------


def fit(row: published.InitialRow, name: str) -> int:
    """How well a printed row fits a name: -1 when the losses differ, else how many of weights, lr, warm-up agree."""
    losses, lr, warmup = parse_name(name)
    if set(row.losses) != set(losses):
        return -1
    printed = dict(zip(row.losses, row.weights or (1.0,), strict=False))
    return (printed == losses) + (lr == row.lr) + (warmup is not None and warmup == (row.warmup_steps > 0))


def matched_rows() -> pd.DataFrame:
    """The printed rows matched to names, where the best fit wins: name (as titled), printed, fits_run, remarks."""
    titles = {run.number: RECIPES[run.recipe].title for run in published.RUNS.values()}
    names = {run.number: run.name for run in published.RUNS.values()}
    rows = {}
    for row in published.INITIAL_TABLE:
        fits = {number: fit(row, name) for number, name in names.items()}
        number = max(fits, key=lambda number: fits[number])
        remarks = []
        if row.weights and len(row.weights) != len(row.losses):
            remarks.append(f"{len(row.losses)} terms, {len(row.weights)} weights")
        if row.gamma is not None and "focal" not in row.losses:
            remarks.append(f"gamma {row.gamma:g} without Focal")
        rows[row.number] = {
            "name": titles[row.number],
            "printed": " + ".join(row.losses)
            + (f" ({'/'.join(f'{w:g}' for w in row.weights)})" if row.weights else ""),
            "fits_run": number,
            "remarks": "; ".join(remarks) or "–",
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def shifted_rows() -> AuditFinding:
    """Rows of the table of initial configurations that stand against another run's name."""
    table = matched_rows()
    shifted = table[table.fits_run != table.index]
    odd = table.remarks[table.remarks != "–"]
    s, are = ("", "is that") if len(shifted) == 1 else ("s", "are those")
    pairs = f"row{s} {listing(map(str, shifted.index))} {are} of run{s} {listing(map(str, shifted.fits_run))}"
    figures = {
        "shifted": (len(shifted), "d"),
        "rows": (len(table), "d"),
        "odd": (len(odd), "d"),
    }
    return AuditFinding(
        "rows",
        "The table of initial configurations",
        "{rows} rows of name, loss, weights and learning rate",
        "{shifted} rows fit another run's name better than their own"
        + (f": {pairs}" if len(shifted) else "")
        + ". Impossible in themselves: {odd} rows"
        + (f", since {listing(f'row {row} has {text}' for row, text in odd.items())}" if len(odd) else ""),
        "follows the names, and what the text says of each run",
        TABLES,
        figures,
    )


# --- text and code ---------------------------------------------------------------------------------------------------


def other_architectures() -> AuditFinding:
    """The promised comparison with other architectures."""
    networks = {run.name.partition("_")[0] for run in published.RUNS.values()}
    return AuditFinding(
        "architectures",
        "Comparison with other architectures",
        "a full comparison with other architectures is announced",
        "architectures in the results table: {networks}, " + listing(sorted(networks)),
        "trains and measures other networks by one parameter, `-p model deeplabv3_resnet101`",
        TABLES,
        {"networks": (len(networks), "d")},
    )


def loss_grid_and_rates() -> AuditFinding:
    """Where the loss is computed and at which rates, in the text and in the code."""
    return AuditFinding(
        "grid",
        "Where the loss is computed, and at which rates",
        "the loss on labels subsampled by 8; the ASPP head at ten times the rate of the backbone",
        "the loss is computed on logits upsampled to the input size. One group of parameters holds all layers, at the "
        "base rate",
        "follows the text in both. `-p follows code` computes the loss at the input size and trains all layers at one "
        "rate",
        CODE,
    )


def conventions_of_code(logs: StudyLogs) -> AuditFinding:
    """How the code treats void pixels and classes without any hit."""
    zeros = sum(logs.values("zeros", NAMES).values())
    return AuditFinding(
        "conventions",
        "Void pixels, Dice and the mean of classes",
        "definitions of the losses and of mIoU, without their conventions",
        "Tversky and Dice are those of MONAI, on logits multiplied by the mask of void: a void pixel counts as a "
        "uniform prediction. Dice leaves out class 0. The mean of classes leaves out those whose IoU is exactly 0; the "
        "logs hold {zeros} such values",
        "follows none of these, not even with `-p follows code`. Void pixels count nowhere, every class present counts "
        "in Dice, and a class with an IoU of 0 counts in the mean",
        f"{CODE}; zeros {logs.source(NAMES, 'zeros')}",
        {"zeros": (zeros, "d")},
    )
