"""The study's network, counted: parameters under each choice of frozen layers, and multiply-adds."""

from functools import cache

import pandas as pd
import torch

from deeplab_lib.analysis import published
from deeplab_lib.analysis.audit.finding import NETWORK, AuditFinding
from deeplab_lib.analysis.tables import measured_rows
from deeplab_lib.models.deeplabv2 import DeepLabV2, count_parameters
from deeplab_lib.models.efficiency import count_macs

SIZE = (published.IMAGE_HEIGHT, published.IMAGE_WIDTH)


def full_network() -> DeepLabV2:
    """The study's network without data in its tensors: for counting."""
    with torch.device("meta"):
        return DeepLabV2().eval()


def freezing_table() -> pd.DataFrame:
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
        matches = "yes" if trainable == printed else "no"
        rows[name] = {"frozen": frozen, "trainable": trainable, "total": total, "matches": matches}
    return pd.DataFrame.from_dict(rows, orient="index")


def computational_cost(efficiency: pd.DataFrame | None = None) -> AuditFinding:
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
        NETWORK,
        figures,
    )


def study_macs(efficiency: pd.DataFrame | None = None) -> int:
    """Multiply-adds of the study's network at its size: from the measured costs, or counted now."""
    rows = [] if efficiency is None else measured_rows(efficiency, "deeplabv2_resnet101", SIZE)
    counted = [int(row["macs"]) for row in rows if row.get("stride_in") == "1x1"]
    return counted[0] if counted else _counted_macs()


@cache
def _counted_macs() -> int:
    """Counting takes two seconds."""
    return count_macs(full_network(), SIZE)
