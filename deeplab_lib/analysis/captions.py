"""Captions of the report's figures, and what each table prints: heads, formats, caption, note.

`{words}` in a caption are filled in by the `Gallery`. A table of our own results names data set and preset in its
caption; one about the study or about the network does not.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from deeplab_lib.common.text import signed
from deeplab_lib.labels import CLASS_NAMES

INTERVALS = "with simultaneous 95 % intervals"

FIGURES = {
    "network": "The network {network} for an image of {size} pixels, with channels × height × width of what each part "
    "gives. Grey: the backbone, darker where it is dilated. White: the head, whose four branches are summed.",
    "lr": "Base learning rate over the training. Equal schedules are drawn on top of each other, as thinner lines; "
    "diamonds mark changes. The legend gives the highest rate reached; after a warm-up it is below the initial rate.",
    "loss-grid": "Training and validation loss of each run, each on its own scale. Dotted lines mark "
    "changes during training, listed above the panel.",
    "losses": "Training and validation loss of all runs, each measured by its own training loss. The losses are "
    "different functions: compare shapes, not heights.",
    "val-ce": "Cross-entropy of all runs on the validation images: the same measure for all, whatever they minimised.",
    "miou-grid": "Training and validation mIoU of each run, all on one scale.",
    "mious": "Training and validation mIoU of all runs.",
    "classes": "Validation IoU of every class{seeds}{against_ce}.",
    "frequency": "Validation IoU by frequency of the class{seeds}, from the rarest to the most frequent. Grey bars "
    "span the runs; markers appear in the same order for every class.",
    "ranking": "The runs by final validation mIoU, {intervals}. Vertical bars on the right "
    "connect runs that do not differ significantly; the bar is thick beside each run that it connects.",
    "differences": "Difference in final validation mIoU from the CE run, {intervals}{hollow}.",
    "boundary": "Boundary F-score, mean over the validation images{against_ce}.",
    "reliability": "Reliability of the probabilities{seeds}: the share of correct pixels in each of 15 bins of "
    "confidence. Points below the diagonal are overconfident; the area of a point is the bin's share of the pixels.",
    "differing": "Images with the largest difference between {run} and CE: the one where {run} is ahead by most, and "
    "the one where CE is. Blue: only {run} is correct; red: only CE.",
    "confusion": "Confusion matrix of {run}{best}, on the validation images{seeds}. Rows sum to 100 %; void is left "
    "out.",
    "scene": "The {role} image, {name}. Top: the image, the ground truth, and the share of runs that are wrong at each "
    "pixel (void black). Below: each run's prediction, with its mean IoU over the classes labelled in the image.",
    "rate": "Final validation mIoU against the initial learning rate{outside}.",
    "durations": "Time of all epochs together, and mean time of an epoch with its standard deviation.",
    "time": "Validation mIoU against the time spent on training and validation.",
    "cost": "Validation mIoU against cost at the image size of the runs. Dotted: measured, not trained.",
}


# Figures that show the validation of every epoch.
CURVES = ("loss-grid", "losses", "val-ce", "miou-grid", "mious", "time")


def against_ce(figure: str, has_baseline: bool, has_intervals: bool) -> str:
    """What a caption says of the differences from CE: drawn if there is a CE run, perhaps with intervals."""
    if figure == "classes":
        bold = ". Bold: the simultaneous 95 % interval of the difference excludes zero" if has_intervals else ""
        return f" (top) and its difference from the CE run (bottom){bold}" if has_baseline else ""
    text = ", and its difference from the CE run" if has_baseline else ""
    hollow = ". Hollow: not significant" if has_baseline else ""
    return f"{text}, with simultaneous 95 % intervals{hollow}" if has_intervals else text


def as_label(name: str) -> str:
    """A figure's name as the label that text refers to: `scene-most-disputed` of "scene/most disputed"."""
    return re.sub(r"[^\w-]", "-", name)  # a run's name has points


def named(label: str) -> str:
    """What a figure shows, in a few words: the beginning of its caption; a label without caption as it is.

    A label that tells figures with one caption apart, `scene-best`, has that caption.
    """
    own = max((key for key in FIGURES if f"{label}-".startswith(f"{key}-")), key=len, default=label)
    role = label.removeprefix(own).replace("-", " ").strip()
    return re.split(r"[,.:;{]", FIGURES.get(own, label).replace("{role}", role))[0].strip()


class Table(NamedTuple):
    """`columns` maps a frame's columns to (head, format), None for a frame that is text already."""

    caption: str
    columns: Mapping[str, tuple[str, str | Callable[[Any], str]]] | None = None
    note: str = ""
    ours: bool = True


_CLASSES = {"train_mIoU": ("train mIoU", ".1f"), "val_mIoU": ("val mIoU", ".1f")}
_CLASSES |= {name: (name, ".1f") for name in CLASS_NAMES}
_DIFFERENCE: dict[str, tuple] = {"estimate": ("difference", signed), "low": ("from", signed), "high": ("to", signed)}
_DIFFERENCE |= {"verdict": ("verdict", ""), "speaks_of": ("speaks of", "")}
_VERDICTS = (
    "“from” and “to” bound the interval, of the main family (@sec-uncertainty). Supported: it lies above zero; "
    "contradicted: below; no difference that matters: within the margin."
)
_INTERVAL = {"low": ("from", ".2f"), "high": ("to", ".2f")}

TABLES = {
    "recipes": Table(
        "The eight configurations at the scale of the study",
        note="Weights in the order of the run's name; Tversky has α = 0.3 and β = 0.7, Focal γ = 2. Epoch numbers "
        "refer to a training of 50 epochs.",
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
        "mIoU in percent on the validation images: after the last epoch, and (best) of the best epoch, with its "
        "number. Latency in ms; GMACs: billion multiply-adds for one image; trained: parameters trained at the end.",
    ),
    "published": Table(
        "For comparison, as **published by the study** for the same configurations: Cityscapes, ResNet-101, 50 epochs",
        {
            "published_val_mIoU": ("mIoU (%)", ".2f"),
            "published_latency": ("latency", ".2f"),
            "published_FLOPs_G": ("FLOPs (G)", ".2f"),
            "published_parameters": ("parameters", ",.0f"),
        },
        "Not results of this report. The study gives no unit for the latencies; @sec-audit examines the figures.",
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
        "Range and standard deviation in points: how much a run varies from epoch to epoch.",
    ),
    "ranking": Table(
        "Final validation mIoU, {intervals}, and the possible ranks",
        {"value": ("mIoU (%)", ".2f")}
        | _INTERVAL
        | {"best": ("best rank", ".0f"), "worst": ("worst rank", ".0f"), "ties": ("ties", "")},
        "“from” and “to” bound the interval of a single value. Best rank: one more than the number of runs that are "
        "significantly better; worst rank: the number of runs minus those that are significantly worse. Runs that "
        "share a letter are tied.",
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
        "15 bins of confidence, void left out. Error and excess in points; excess: mean confidence minus accuracy. The "
        "intervals of this table form one family. Verdict on “the error is larger than CE's”.",
    ),
    "wins": Table(
        "Share of the validation images on which a run beats the CE run (%), with simultaneous 95 % intervals",
        {
            "estimate": ("images won", ".1f"),
            "low": ("from", ".1f"),
            "high": ("to", ".1f"),
            "verdict": ("more than half", ""),
        },
        "By mean IoU over the classes labelled in the image; a tie counts as half a win. The verdict is that on “more "
        "than half”, with a margin of ten points. The intervals cover the choice of images, not of seeds.",
    ),
    "neighbours": Table(
        "Neighbours in the ranking: difference in mIoU (points), {intervals}",
        _DIFFERENCE,
        _VERDICTS,
    ),
    "differences": Table(
        "Difference in mIoU from the CE run (points), {intervals}, and the verdict on “better than CE”",
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
        "Changes beyond the study compared with its CE run: difference in mIoU (points) with its simultaneous 95 % "
        "interval, mean time of a run, and multiply-adds to test one image with all its views",
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
        note="†: decided only by a comparison across schedules, which speaks of configurations, not of losses. The "
        "published figures have no intervals; they point towards a claim when every estimate agrees with it. In "
        "brackets: the estimates, as differences in points of mIoU.",
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
    "rows": Table("The study's table of initial configurations, each row with the run that it fits best", ours=False),
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
        "“–”: not given in the publication.",
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
        "Rates as used, after the preset's factor. Warm-up in steps unless a unit is given: the preset's common "
        "warm-up plus the configuration's own. Changes: after the given number of epochs of this training.",
    ),
    "shared": Table("What is the same in the records of all finished runs"),
    "different": Table("Differences between the records of the runs"),
}
