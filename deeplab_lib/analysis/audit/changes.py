"""What changes during the runs: layers that are frozen, losses that are changed."""

from deeplab_lib.analysis import published
from deeplab_lib.analysis.audit.finding import NETWORK, AuditFinding, Figures, Said
from deeplab_lib.analysis.audit.network import freezing_table
from deeplab_lib.analysis.audit.study_logs import Jump, StudyLogs
from deeplab_lib.common.text import listing
from deeplab_lib.recipes import RECIPES


def trainable_parameters(logs: StudyLogs) -> AuditFinding:
    """Frozen layers of runs 5 and 6: the text against the parameter column and the logs."""
    counts = freezing_table().trainable
    logged = logs.values("parameters", (5, 6))
    figures = {
        "printed": (published.RUNS["ce_focal"].parameters, ",d"),
        "whole": (published.RUNS["ce"].parameters, ",d"),
        "unfrozen": (counts["none"], ",d"),
        "text": (counts["as the text says"], ",d"),
        "column": (counts["as the column fits"], ",d"),
        "log5": (logged[5], ",d"),
        "log6": (logged[6], ",d"),
    }
    column = listing(published.FROZEN_IN_COLUMN)
    return AuditFinding(
        "parameters",
        "Frozen layers and the parameter column",
        "{whole} parameters for six runs, {printed} for runs 5 and 6, whose text freezes "
        + listing(published.FROZEN_IN_TEXT),
        "trainable without freezing {unfrozen}; with the layers of the text frozen {text}; with "
        + column
        + " alone {column}. The logs hold {log5} for run 5 and {log6} for run 6, at the last epoch only: they do not "
        "say when the layers were frozen. Two common counters, ptflops and calflops, print the trainable parameters: "
        f"{{unfrozen}}, and {{column}} once {column} are frozen. The study's column is what such a counter prints",
        f"freezes {column}, and with `-p follows text` the layers of the text. It prints total and trainable "
        "parameters in columns of their own",
        f"{NETWORK}; counts of the last epoch {logs.source((5, 6), 'parameters')}",
        figures,
    )


def loss_change(logs: StudyLogs) -> AuditFinding:
    """Run 8, which by all texts changes nothing during training."""
    changes = logs.value(8, "jumps")
    figures: Figures = {}
    found = "no epoch in which the losses jump and mIoU does not"
    if changes:
        found, figures = _jump(changes[0])
        found += ". The loss itself was changed there; to what is not recorded"
    return AuditFinding(
        "run8",
        "Run 8 changes its loss",
        "no change during training",
        found,
        "keeps the weights of run 8 to the end, as the change is unknown, and does not take a jump of a loss alone for "
        "overfitting",
        logs.source([8], "jumps"),
        figures,
    )


def loss_weights(logs: StudyLogs) -> AuditFinding:
    """Run 5's change of weights."""
    change = next(change for change in RECIPES["ce_lovasz_warmup"].changes if change.weights)
    weights = "/".join(f"{weight:g}" for weight in change.weights.values())
    jump = next((jump for jump in logs.value(5, "jumps") if jump.epoch == change.epoch), None)
    figures: Figures = {}
    found = "the losses do not jump at this epoch: not confirmed"
    if jump:
        found, figures = _jump(jump)
        found += ". This confirms that the loss was changed at this epoch"
    return AuditFinding(
        "run5",
        "Run 5 changes its weights",
        f"weights {weights} from epoch {{printed}} on",
        found,
        "makes the same change at the same share of the training",
        logs.source([5], "jumps"),
        {"printed": (change.epoch, "d")} | figures,
    )


def _jump(change: Jump) -> Said:
    """A jump of the losses in words, as a template and its figures."""
    figures: Figures = {"before": (change.epoch - 1, "d"), "epoch": (change.epoch, "d")}
    for name in ("train_loss", "val_loss", "val_mIoU"):
        for moment, value in zip(("before", "after"), getattr(change, name), strict=True):
            figures[f"{name}_{moment}"] = (value, ".2f" if name == "val_mIoU" else ".4f")
    text = (
        "from epoch {before} to {epoch} the training loss goes from {train_loss_before} to {train_loss_after} and the "
        "validation loss from {val_loss_before} to {val_loss_after}. The validation mIoU hardly moves, from "
        "{val_mIoU_before} to {val_mIoU_after} %"
    )
    return text, figures
