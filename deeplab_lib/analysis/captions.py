"""Captions of the report's figures, and what each table prints: heads, formats, caption, note.

`{words}` in a caption are filled in by the `Gallery`. A table of our own results names data set and preset in its
caption; one about the study or about the network does not.
"""

import re
from typing import NamedTuple

from deeplab_lib.common.text import signed
from deeplab_lib.labels import CLASS_NAMES

INTERVALS = "with simultaneous 95 % intervals"

FIGURES = {
    "lr": "Base learning rate over the training. Equal schedules lie on each other, thinner on top; diamonds mark "
    "changes.",
    "loss-grid": "Training and validation loss of each run, each on its own scale. Dotted lines mark "
    "changes during training, which are listed above the panel.",
    "train-loss": "Training loss of all runs. The losses are different functions: compare shapes, not heights.",
    "val-loss": "Validation loss of all runs, each of the loss that it was trained with.",
    "val-ce": "Cross-entropy of all runs on the validation images: one function for all, whatever they minimised.",
    "miou-grid": "Training and validation mIoU of each run, all on one scale.",
    "train-miou": "Training mIoU of all runs.",
    "val-miou": "Validation mIoU of all runs.",
    "classes": "Validation IoU of every class{seeds}{against_ce}.",
    "frequency": "Validation IoU by frequency of the class{seeds}, from the rarest to the most frequent. Grey bars "
    "span the runs, whose marks keep one order in all of them.",
    "ranking": "The runs by final validation mIoU, {intervals}. Runs joined by a bar on the right, thick beside each, "
    "are tied: the images do not tell them apart.",
    "differences": "Difference in final validation mIoU from the CE run, {intervals}{hollow}.",
    "boundary": "Boundary F-score, mean over the validation images{against_ce}.",
    "reliability": "Reliability of the probabilities{seeds}: of the pixels in each of 15 bins of confidence, how many "
    "are right. Points below the diagonal are believed too much; their area is the share of the pixels.",
    "differing": "Images of the largest difference between two runs: the one that speaks most for {run}, and the one "
    "that speaks most for CE. Blue: only {run} is right there; red: only CE.",
    "confusion": "Confusion matrix of {run}{best}, on the validation images{seeds}. Rows sum to 100 %; void is left "
    "out.",
    "scene": "The {role} image, {name}: image over ground truth, share of the runs that are wrong, and each run's "
    "prediction, with its mean IoU over the classes labelled in the image, over its errors (red; void black).",
    "rate": "Final validation mIoU against the initial learning rate. Grey: none of the study's eight.",
    "durations": "Time of all epochs together, and mean time of an epoch with its standard deviation.",
    "time": "Validation mIoU against the time spent on training and validation.",
    "cost": "Validation mIoU against cost at the image size of the runs. Dotted: measured, not trained.",
}


# Figures that show the validation of every epoch.
CURVES = ("loss-grid", "val-loss", "val-ce", "miou-grid", "val-miou", "time")


def against_ce(figure, has_baseline, has_intervals):
    """What a caption says of the differences from CE: drawn if there is a CE run, perhaps with intervals."""
    if figure == "classes":
        bold = ". Bold: the simultaneous 95 % interval of the difference leaves out zero" if has_intervals else ""
        return f" (top) and its difference from the CE run (bottom){bold}" if has_baseline else ""
    text = ", and its difference from the CE run" if has_baseline else ""
    hollow = ". Hollow: not distinguishable from it" if has_baseline else ""
    return f"{text}, with simultaneous 95 % intervals{hollow}" if has_intervals else text


def named(label):
    """What a figure shows, in a few words: the beginning of its caption; a label without caption as it is.

    A label that tells figures with one caption apart, `scene-best`, has that caption.
    """
    own = max((key for key in FIGURES if f"{label}-".startswith(f"{key}-")), key=len, default=label)
    role = label.removeprefix(own).replace("-", " ").strip()
    return re.split(r"[,.:;{]", FIGURES.get(own, label).replace("{role}", role))[0].strip()


class Table(NamedTuple):
    """`columns` maps a frame's columns to (head, format), None for a frame that is text already."""

    caption: str
    columns: dict | None = None
    note: str = ""
    ours: bool = True


_CLASSES = {"train_mIoU": ("train mIoU", ".1f"), "val_mIoU": ("val mIoU", ".1f")}
_CLASSES |= {name: (name, ".1f") for name in CLASS_NAMES}
_DIFFERENCE: dict[str, tuple] = {"estimate": ("difference", signed), "low": ("from", signed), "high": ("to", signed)}
_DIFFERENCE |= {"verdict": ("verdict", ""), "speaks_of": ("speaks of", "")}
_VERDICTS = (
    "Supported: the interval lies above zero; contradicted: below; no difference that matters: within the margin."
)
_INTERVAL = {"low": ("from", ".2f"), "high": ("to", ".2f")}

TABLES = {
    "recipes": Table(
        "The eight configurations at the scale of the study",
        note="Weights in the order of the run's name; Tversky has α = 0.3 and β = 0.7, Focal γ = 2. Epochs are of 50.",
        ours=False,
    ),
    "results": Table(
        "Results of this report's runs",
        {
            "val_mIoU": ("mIoU", ".2f"),
            "sd": ("± sd", ".2f"),
            "best_val_mIoU": ("best", ".2f"),
            "best_epoch": ("epoch", ".0f"),
            "seeds": ("seeds", ".0f"),
            "latency_ms": ("latency", ".1f"),
            "GMACs": ("GMACs", ".4g"),
            "parameters": ("parameters", ",.0f"),
            "trainable_at_end": ("trained", ",.0f"),
        },
        "mIoU in percent on the validation images: of the last epoch, and of the best with its number. Latency in ms; "
        "GMACs: billion multiply-adds for one image; trained: parameters that are still trained at the end.",
    ),
    "published": Table(
        "For comparison, as **published by the study** for the same configurations: Cityscapes, ResNet-101, 50 epochs",
        {
            "published_val_mIoU": ("mIoU (%)", ".2f"),
            "published_latency": ("latency", ".2f"),
            "published_FLOPs_G": ("FLOPs (G)", ".2f"),
            "published_parameters": ("parameters", ",.0f"),
        },
        "Not results of this report. The unit of the latencies is not given; @sec-audit examines the figures.",
        ours=False,
    ),
    "classes": Table("Final training and validation mIoU and validation IoU of every class, in percent", _CLASSES),
    "late": Table(
        "Validation mIoU (%) of the runs on one schedule over their last ten epochs",
        {
            "last": ("last epoch", ".2f"),
            "lowest": ("lowest", ".2f"),
            "highest": ("highest", ".2f"),
            "range": ("range", ".2f"),
            "deviation": ("sd", ".2f"),
        },
        "Range and standard deviation in points: how much a run moves by itself.",
    ),
    "ranking": Table(
        "Final validation mIoU, {intervals}, and the ranks that are possible",
        {"value": ("mIoU (%)", ".2f")}
        | _INTERVAL
        | {"best": ("best rank", ".0f"), "worst": ("worst rank", ".0f"), "ties": ("ties", "")},
        "Runs that share a letter are tied.",
    ),
    "calibration": Table(
        "Expected calibration error (points of percent), {intervals}, and its difference from the CE run",
        {
            "ece": ("error", ".2f"),
            "low": ("from", ".2f"),
            "high": ("to", ".2f"),
            "overconfidence": ("excess", signed),
            "difference": ("difference", signed),
            "difference_low": ("from", signed),
            "difference_high": ("to", signed),
            "verdict": ("verdict", ""),
        },
        "Of 15 bins of confidence, void left out. Excess: mean confidence minus accuracy. Verdict on “larger than "
        "CE's”.",
    ),
    "wins": Table(
        "On how many of the validation images a run beats the CE run (%), with intervals that hold at once with 95 %",
        {
            "estimate": ("images won", ".1f"),
            "low": ("from", ".1f"),
            "high": ("to", ".1f"),
            "verdict": ("more than half", ""),
        },
        "By mean IoU over the classes labelled in the image; a tie is half a win. The margin is ten points.",
    ),
    "neighbours": Table(
        "Neighbours in the ranking: difference in mIoU (points), {intervals}",
        _DIFFERENCE,
        _VERDICTS,
    ),
    "differences": Table(
        "Difference in mIoU from the CE run (points), {intervals}, and the verdict on “it lies above CE”",
        _DIFFERENCE,
        _VERDICTS,
    ),
    "efficiency": Table(
        "Cost of one image, by architecture and size (width × height)",
        {
            "parameters": ("parameters", ",.0f"),
            "GMACs": ("GMACs", ".2f"),
            "GFLOPs": ("GFLOPs", ".2f"),
            "latency": ("latency (ms)", ".1f"),
            "q1": ("lower quartile", ".1f"),
            "q3": ("upper quartile", ".1f"),
            "memory": ("memory (MB)", ".0f"),
        },
        ours=False,
    ),
    "ablations": Table(
        "Runs that depart from the eight recipes",
        {
            "val_mIoU": ("mIoU (%)", ".2f"),
            "best_val_mIoU": ("best (%)", ".2f"),
            "GMACs": ("GMACs", ".4g"),
            "parameters": ("parameters", ",.0f"),
        },
        "They take no part in the ranking.",
    ),
    "beyond": Table(
        "Changes beyond the study against its CE run: difference in mIoU (points) with its simultaneous 95 % interval, "
        "mean time of a run, and multiply-adds to test one image with all its views",
        {
            "change": ("change", ""),
            "seeds": ("seeds", ".0f"),
            "epochs": ("epochs", ".0f"),
            "mIoU": ("mIoU (%)", ".2f"),
            "difference": ("difference", signed),
            "low": ("from", signed),
            "high": ("to", signed),
            "verdict": ("above CE", ""),
            "seconds": ("seconds", ".0f"),
            "tested_GMACs": ("GMACs", ".4g"),
        },
    ),
    "claims": Table(
        "The study's claims and what these runs say",
        note="†: rests on a comparison across schedules, so it speaks of configurations, not of losses. The published "
        "figures have no intervals; they “lie with” a claim whose every estimate points its way. In brackets: these "
        "estimates, differences in points of mIoU.",
    ),
    "freezing": Table(
        "Parameters of the study's network, counted, for each choice of frozen layers",
        {
            "frozen": ("frozen", ""),
            "trainable": ("trainable", ",d"),
            "total": ("total", ",d"),
            "matches": ("as printed", ""),
        },
        ours=False,
    ),
    "rows": Table(
        "The study's table of initial configurations, each row matched to the run whose name it fits best", ours=False
    ),
    "means": Table(
        "Validation mIoU (%) that the study prints in two places, and the mean of the 19 class values it prints",
        {
            "results_mIoU": ("results table", ".2f"),
            "last_row_mIoU": ("last row", ".2f"),
            "mean_of_classes": ("mean of classes", ".2f"),
        },
        ours=False,
    ),
    "study-logs": Table(
        "The logs of the study: initial rate, validation mIoU (%) of the first and the last epoch, and movement of the "
        "last ten epochs (points)",
        {
            "initial_lr": ("initial rate", "g"),
            "first_val_mIoU": ("epoch 1", ".2f"),
            "val_mIoU": ("last epoch", ".2f"),
            "late_range": ("range", ".2f"),
            "late_deviation": ("deviation", ".2f"),
        },
        "Range: highest minus lowest; deviation: standard deviation.",
        ours=False,
    ),
    "published-classes": Table(
        "**Published**: last-row values of the study (%), those of epoch 1, rounded here",
        _CLASSES,
        "A dash is empty in print, too.",
        ours=False,
    ),
    "configuration": Table(
        "The schedules of the runs as trained",
        {
            "weights": ("weights", ""),
            "lr": ("rate", "g"),
            "power": ("power", "g"),
            "warmup_steps": ("warm-up", ".0f"),
            "changes": ("changes", ""),
        },
        "Rates as used, after the preset's factor; warm-up in steps where no unit stands. Changes come after the given "
        "number of this "
        "training's epochs.",
    ),
    "shared": Table("What the records of all finished runs agree on"),
    "different": Table("What they differ in"),
}
