"""The published study held against itself and against what can be computed: `audit()` lists what does not agree.

Nothing is asserted from memory: parameters and multiply-adds are counted on the network here (the latter with the costs
of the runs, where these were measured), means are taken of the printed values, and the shifted rows of the table of
initial configurations are matched to the runs' names by a rule.
"""

import re
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch

from deeplab_lib.analysis import published
from deeplab_lib.analysis.claims import judge
from deeplab_lib.analysis.evidence import Evidence
from deeplab_lib.analysis.tables import measured_rows
from deeplab_lib.common.text import listing, signed
from deeplab_lib.models.deeplabv2 import DeepLabV2, count_parameters
from deeplab_lib.models.efficiency import count_macs
from deeplab_lib.recipes import RECIPES

SIZE = (published.IMAGE_HEIGHT, published.IMAGE_WIDTH)
ABBREVIATIONS = {"ce": "ce", "cv": "ce", "tv": "tversky", "lv": "lovasz", "l": "lovasz", "di": "dice", "f": "focal",
                 "fo": "focal"}  # fmt: skip


@dataclass(frozen=True)
class AuditFinding:
    """One point: what is printed, what comes out when it is computed, and what this kit does about it.

    `printed` and `computed` hold `{name}` where `figures[name]`, a `(value, format)` pair, is to be printed.
    """

    key: str
    topic: str
    printed: str
    computed: str
    remedy: str
    figures: dict = field(default_factory=dict)

    def filled(self, numbers):
        """`(printed, computed)` with their figures, which are registered under `audit.<key>.<name>`."""
        texts = {name: numbers.put(f"audit.{self.key}.{name}", *figure) for name, figure in self.figures.items()}
        return self.printed.format(**texts), self.computed.format(**texts)


def audit(efficiency=None):
    """All findings, in the order in which the report tells them; `efficiency`: the costs measured beside the runs."""
    return [
        trainable_parameters(),
        computational_cost(efficiency),
        two_columns_of_miou(),
        shifted_rows(),
        learning_rates(),
        best_loss(),
        latencies(),
        other_architectures(),
    ]


# --- parameters and cost ---------------------------------------------------------------------------------------------


def full_network():
    """The study's network without data in its tensors: for counting."""
    with torch.device("meta"):
        return DeepLabV2().eval()


def freezing_table():
    """Trainable parameters for each choice of frozen layers: frozen, trainable, total, matches (the printed count)."""
    model, rows = full_network(), {}
    printed = published.RUNS["ce_focal"].parameters
    choices = {
        "none": (),
        "as the text says": published.FROZEN_IN_TEXT,
        "as the column fits": published.FROZEN_IN_COLUMN,
    }
    for name, parts in choices.items():
        model.freeze(parts)
        total, trainable = count_parameters(model)
        frozen = ", ".join(parts) or "batch-norm scales and shifts only"
        rows[name] = {"frozen": frozen, "trainable": trainable, "total": total, "matches": _yes(trainable == printed)}
    return pd.DataFrame.from_dict(rows, orient="index")


def _yes(condition):
    return "yes" if condition else "no"


def trainable_parameters():
    """Frozen layers of runs 5 and 6: the text against the parameter column."""
    counts = freezing_table().trainable
    printed = published.RUNS["ce_focal"].parameters
    whole = published.RUNS["ce"].parameters
    figures = {
        "printed": (printed, ",d"),
        "whole": (whole, ",d"),
        "unfrozen": (counts["none"], ",d"),
        "text": (counts["as the text says"], ",d"),
        "column": (counts["as the column fits"], ",d"),
    }
    return AuditFinding(
        "parameters",
        "Frozen layers and the parameter column",
        "{whole} parameters for six runs, {printed} for runs 5 and 6, whose text freezes "
        + listing(published.FROZEN_IN_TEXT),
        "trainable without freezing {unfrozen}; with the layers of the text frozen {text}; with "
        + listing(published.FROZEN_IN_COLUMN)
        + " alone {column}",
        "freezes what the text says; the report prints total and trainable parameters apart",
        figures,
    )


def computational_cost(efficiency=None):
    """The "FLOPs" against multiply-adds and against floating-point operations."""
    macs = study_macs(efficiency)
    flops = 2 * macs
    counts = {"the number of multiply-adds": macs, "the number of floating-point operations": flops}
    fits = [words for words, count in counts.items() if abs(count / 1e9 - published.FLOPS_G) < 0.005]
    figures = {"printed": (published.FLOPS_G, ".2f"), "macs": (macs / 1e9, ".2f"), "flops": (flops / 1e9, ".2f")}
    height, width = SIZE
    return AuditFinding(
        "cost",
        "What the column FLOPs counts",
        "{printed} G FLOPs for every run",
        f"at {width} × {height}: {{macs}} G multiply-adds, {{flops}} G floating-point operations; "
        "the printed figure is " + (*fits, "neither")[0],
        "prints GMACs and GFLOPs in columns of their own",
        figures,
    )


def study_macs(efficiency=None):
    """Multiply-adds of the study's network at its size: from the measured costs, or counted now."""
    rows = [] if efficiency is None else measured_rows(efficiency, "deeplabv2_resnet101", SIZE)
    counted = [int(row["macs"]) for row in rows if row.get("stride_in") == "1x1"]
    return counted[0] if counted else count_macs(full_network(), SIZE)


# --- the tables of mIoU ----------------------------------------------------------------------------------------------


def means_table():
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


def two_columns_of_miou():
    """The mean of the per-class values against both printed columns of mIoU."""
    table = means_table()
    last, results = table.last_row_difference.abs().dropna(), table.results_difference.abs().dropna()
    figures = {
        "low": (table.results_mIoU.min(), ".2f"),
        "high": (table.results_mIoU.max(), ".2f"),
        "last_low": (table.last_row_mIoU.min(), ".2f"),
        "last_high": (table.last_row_mIoU.max(), ".2f"),
        "runs": (len(last), "d"),
        "last_gap": (last.max(), ".5f"),
        "gap_low": (results.min(), ".2f"),
        "gap_high": (results.max(), ".2f"),
        "empty": (int(table.last_row_mIoU.isna().sum()), "d"),
    }
    return AuditFinding(
        "miou",
        "Two columns of mIoU",
        "{low} to {high} % in the results table, {last_low} to {last_high} % in the last rows ({empty} of them empty)",
        "the mean of the 19 classes is the last row's mIoU to within {last_gap} points ({runs} runs), and lies "
        "{gap_low} to {gap_high} points below the results table's",
        "prints one mIoU, the mean of the class values beside it, from one confusion matrix",
        figures,
    )


def best_loss():
    """ "Lovász is best" against the study's own results table, by the same rule that judges our runs."""
    finding = next(verdict.deciding[0] for verdict in judge(Evidence.published()) if verdict.claim.key == "a")
    names = {"with": (finding.figures["with"], ".4g"), "without": (finding.figures["without"], ".4g")}
    best = max(published.RUNS.values(), key=lambda run: run.val_mIoU)
    order = "contradicts" if finding.direction < 0 else "agrees with"
    return AuditFinding(
        "best",
        "Which loss is best",
        "Lovász reaches the best final mIoU",
        f"best run with Lovász {{with}} %, without {{without}} % ({best.name}): the order of the values {order} the "
        "statement ({gap} points); whether the difference is more than chance is not known without intervals",
        "writes its conclusions from the runs, with intervals, and shows ties as ties",
        names | {"gap": (finding.figures["estimate"], signed)},
    )


# --- the table of initial configurations -----------------------------------------------------------------------------


def parse_name(name):
    """What a run's name says: `({loss: weight}, initial lr or None, warm-up True, False or None)`.

    `ce07` and `l0.25` are weights 0.7 and 0.25 (a leading zero without a point stands before one); a bare loss has
    weight 1.
    """
    body, _, lr = name.removeprefix("DeepLabV2_").partition("_lr_")
    warmup = False if "no_warnup" in body else True if "warnup" in body else None
    losses = {}
    for token in body.split("_"):
        match = re.fullmatch(r"([a-z]+)(\d[\d.]*)?", token)
        if match and match[1] in ABBREVIATIONS:
            digits = match[2] or "1"
            weight = float(digits if "." in digits or digits[0] != "0" else f"0.{digits[1:]}")
            losses[ABBREVIATIONS[match[1]]] = weight
    return losses, float(lr) if lr else None, warmup


def fit(row, name):
    """How well a printed row fits a name: -1 when the losses differ, else how many of weights, lr, warm-up agree."""
    losses, lr, warmup = parse_name(name)
    if set(row.losses) != set(losses):
        return -1
    printed = dict(zip(row.losses, row.weights or (1.0,), strict=False))
    return (printed == losses) + (lr == row.lr) + (warmup is not None and warmup == (row.warmup_steps > 0))


def matched_rows():
    """The printed rows matched to names, where the best fit wins: name (as titled), printed, fits_run, remarks."""
    titles = {run.number: RECIPES[run.recipe].title for run in published.RUNS.values()}
    names = {run.number: run.name for run in published.RUNS.values()}
    rows = {}
    for row in published.INITIAL_TABLE:
        number = max(names, key=lambda number, row=row: fit(row, names[number]))
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


def shifted_rows():
    """Rows of the table of initial configurations that stand against another run's name."""
    table = matched_rows()
    shifted = table[table.fits_run != table.index]
    pairs = listing(f"row {row} holds that of run {run}" for row, run in shifted.fits_run.items())
    figures = {
        "shifted": (len(shifted), "d"),
        "rows": (len(table), "d"),
        "odd": (int((table.remarks != "–").sum()), "d"),
    }
    return AuditFinding(
        "rows",
        "The table of initial configurations",
        "{rows} rows of name, loss, weights and learning rate",
        f"{{shifted}} rows fit another run's name better than their own: {pairs}; {{odd}} rows are impossible in "
        "themselves (" + listing(f"row {row}: {text}" for row, text in table.remarks.items() if text != "–") + ")",
        "follows the names and the per-run details",
        figures,
    )


def learning_rates():
    """Initial rates of the table, its rows put right, against the per-run details."""
    matched = matched_rows().fits_run
    details = {run.number: run for run in published.RUNS.values()}
    pairs = {matched[row.number]: (row.lr, details[matched[row.number]].lr) for row in published.INITIAL_TABLE}
    wrong = sorted(number for number, (table, detail) in pairs.items() if table != detail)
    computed, figures = "the rates agree", {}
    if wrong:
        runs = listing(map(str, wrong))
        computed = f"runs {runs} have another rate in the details ({{detail}}) than in the table ({{table}})"
        figures = {"table": (pairs[wrong[0]][0], "g"), "detail": (pairs[wrong[0]][1], "g")}
        sentence, more = _nearest_rate(details, wrong, pairs[wrong[0]][0])
        computed, figures = computed + sentence, figures | more
    return AuditFinding(
        "lr",
        "Learning rates",
        "one initial rate a run in the table, one in the per-run details",
        computed,
        "trains with the details' rate; `-p lr 1e-4` gives the table's",
        figures,
    )


def _nearest_rate(details, wrong, table_lr):
    """Whose mIoU that of the runs in doubt lies nearer to: the runs' whose rate is the table's, or the others'."""
    groups = {"wrong": wrong, "same": [n for n, run in details.items() if run.lr == table_lr and n not in wrong]}
    groups["other"] = [n for n in details if n not in groups["wrong"] + groups["same"]]
    if not (groups["same"] and groups["other"]):
        return "", {}
    mean = {name: float(np.mean([details[n].val_mIoU for n in group])) for name, group in groups.items()}
    near, far = sorted(("same", "other"), key=lambda name: abs(mean[name] - mean["wrong"]))
    words = {
        "same": f"of run {listing(map(str, groups['same']))}, trained at the table's rate",
        "other": "of the others",
    }
    sentence = (
        f"; their mean mIoU of {{miou_wrong}} % lies nearer to that {words[near]} ({{miou_{near}}} %), than to that "
        f"{words[far]} ({{miou_{far}}} %)"
    )
    return sentence, {f"miou_{name}": (value, ".2f") for name, value in mean.items()}


# --- latency and comparison ------------------------------------------------------------------------------------------


def latencies():
    """One architecture, eight latencies."""
    values = [run.latency for run in published.RUNS.values()]
    figures = {"low": (min(values), ".2f"), "high": (max(values), ".2f"), "ratio": (max(values) / min(values), ".2f")}
    return AuditFinding(
        "latency",
        "Latency of one architecture",
        "{low} to {high}, the unit not given",
        "eight runs of one network, with one cost, differ by a factor of {ratio}; a loss is not part of the network "
        "that is timed",
        "measures latency once per network, size and device, warmed up and synchronised, with median and spread",
        figures,
    )


def other_architectures():
    """The promised comparison with other architectures."""
    networks = {run.name.partition("_")[0] for run in published.RUNS.values()}
    return AuditFinding(
        "architectures",
        "Comparison with other architectures",
        "a full comparison with other architectures is announced",
        "architectures in the results table: {networks}, " + listing(sorted(networks)),
        "trains and measures other networks by one parameter, `-p model deeplabv3_resnet101`",
        {"networks": (len(networks), "d")},
    )
