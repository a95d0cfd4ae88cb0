"""Paragraphs of the report that say what was run: data, model, training, recipes, costs, what is missing.

Like `prose`, all of it is computed from the runs' records; numbers are registered under `data.`, `model.`, `training.`.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from deeplab_lib.analysis.captions import named
from deeplab_lib.analysis.gallery import Gallery
from deeplab_lib.analysis.numbers import Numbers
from deeplab_lib.analysis.tables import measured_rows
from deeplab_lib.common.text import listing, plural
from deeplab_lib.models.efficiency import BUSY, PAPER_SIZE
from deeplab_lib.recipes import RECIPES
from deeplab_lib.study.grouping import Study
from deeplab_lib.study.people import people
from deeplab_lib.study.run import Run

COUNTED = {"parameters": "parameters", "macs": "multiply-adds"}


def whose(study: Study) -> str:
    """Whose the runs are and what that means for comparisons, where they are of several people; else ""."""
    groups = people(study.runs)
    if len(groups) == 1:
        return ""
    if not any(run.named for run in study.runs):
        parts = [f"{person or 'this folder'}: {listing(run.label for run in runs)}" for person, runs in groups.items()]
        return (
            f"The runs were collected from several folders ({'; '.join(parts)}). No two of them hold the same run, so "
            "all are taken as one study."
        )
    counted = listing(f"{person or 'this folder'} ({len(runs)})" for person, runs in groups.items())
    first = next((run.label for run in study.recipes if run.recipe == "ce"), None)
    reference = f" Differences from CE are taken from that of {first}." if first else ""
    return (
        f"The runs were collected from several folders: {counted}. Some hold the same configuration with the same "
        "seed, so each run says whose it is. Runs of two people are never taken as seeds of one configuration: equal "
        f"seeds repeat a training and do not vary it, and what differs is the machine or the code.{reference}"
    )


def _agreed(runs: Sequence[Run], *path: str) -> Any:
    """The value at `path` in the runs' records when all that have one agree, else None."""
    values = []
    for run in runs:
        value: Any = run.recorded
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        values += [value] * (value is not None)
    return values[0] if values and all(value == values[0] for value in values) else None


def purpose(study: Study) -> str:
    """What the report does with the study's question, and the principles that it follows, as Markdown."""
    if study.logs_only:
        return (
            "This report reads logs of runs that this kit did not train: one table of epochs for each run. Each "
            "conclusion of the study is restated as a decision rule. Nothing was trained for this report. It follows "
            "two principles.\n\n"
            "- *No verdict without its uncertainty.* Intervals need results on single images, which logs do not "
            "contain. So differences between final values are shown, and none of them is called significant.\n"
            "- *Conclusions are computed.* Every sentence about results is written by code that reads the logs. "
            "Schedules, costs and changes are those that the logs show, not those that a run's name or the study's "
            "text suggests. What comes from elsewhere is marked with its source."
        )
    return (
        "Here configurations of the study are trained again from one code base, and each of its conclusions is "
        "restated as a decision rule. This report follows three principles.\n\n"
        "- *No comparison without its uncertainty.* Differences between runs carry intervals from a paired bootstrap "
        "over the validation images. Runs that do not differ significantly are shown as tied.\n"
        "- *Published results are shown for comparison only.* They are labelled as published and enter no computation "
        "on our runs; @sec-audit examines them separately.\n"
        "- *Conclusions are computed.* Every sentence about results, from the abstract to the conclusions, is written "
        "by code that reads the runs. With other runs the text changes accordingly."
    )


def by_the_text(study: Study) -> str:
    """What the description of the training is worth for runs that this kit did not train; "" for its own."""
    if not study.logs_only:
        return ""
    return (
        "This section describes the training as in the study's text and in this kit. The logs of these runs show the "
        "rates and powers that were used (@fig-lr, @tbl-configuration), but nothing else. @sec-audit says where the "
        "study's logs and code differ from its text."
    )


def decisions(study: Study) -> str:
    """For whose runs the decisions that follow were taken; "" for this kit's own, for which that is clear."""
    return (
        "The decisions below are those of this kit for its own runs; no run of this report depends on them."
        * study.logs_only
    )


def reproduction(study: Study) -> str:
    """How the numbers of the report are made again."""
    stored = "Every result printed in this report, in text or table, is in `numbers.json` under its own key."
    if study.logs_only:
        return (
            "The same files give the same report: `make published LOGS=folder` makes it. How to train such runs again "
            f"is not in the logs; `make report` trains this kit's version of them. {stored}"
        )
    return (
        "The same code, data and seed give the same numbers on the same kind of machine. Initial weights, order of the "
        "images and every random choice follow from the seed, the epoch and the image. They do not depend on the "
        f"number of workers. {stored}"
    )


def data(runs: Sequence[Run], numbers: Numbers) -> str:
    """What the runs saw instead of, or of, Cityscapes."""
    about = {key: _agreed(runs, "dataset", key) for key in ("name", "synthetic", "train", "val", "subset")}
    if about["name"] is None:
        names = {run.dataset_name for run in runs if run.dataset_name}
        said = f" Whoever made this report names them: {listing(sorted(names))}." if names else ""
        return f"The files of these runs do not say which images they were trained on.{said}"
    train, val = (numbers.put(f"data.{split}", about[split], ",d") for split in ("train", "val"))
    height, width = (_agreed(runs, "config", f"image_{side}") for side in ("height", "width"))
    size = f"{numbers.put('data.width', width, 'd')} × {numbers.put('data.height', height, 'd')} pixels"
    if about["synthetic"]:
        return (
            "**The runs of this report did not use those images.** They were trained and validated on the *toy city*: "
            "street scenes drawn by a program, in Cityscapes' layout and with its 19 classes. The frequent classes are "
            "about as frequent as in Cityscapes. The rarest are several times as common, so the imbalance is milder. "
            f"There are {train} scenes for training and {val} for validation, used at {size}. They show the whole "
            "method within minutes, and how losses behave under imbalance at a small scale. They say nothing about "
            "real streets, and numbers obtained on them must not be compared with published results."
            + epochs(runs, numbers)
        )
    note = f" This is not the whole of Cityscapes: {about['subset']}." if about["subset"] else ""
    return (
        f"The runs of this report were trained on {train} images of *{about['name']}* and validated on {val}, "
        f"at {size}." + note
    )


def epochs(runs: Sequence[Run], numbers: Numbers) -> str:
    """What an epoch trains on and evaluates, where that is not all of the images, as sentences with a space before."""
    train, part = _agreed(runs, "dataset", "train"), _agreed(runs, "dataset", "train_each_epoch")
    text = ""
    if part and part != train:
        steps, part = numbers.put("data.epochs_per_pass", train // part, "d"), numbers.put("data.epoch", part, ",d")
        text += f" An epoch here covers {part} of the training scenes; {steps} epochs are one pass over all of them."
    if images := curves(runs):
        text += (
            f" After every epoch, {images} are evaluated; curves and best epochs refer to these. After the last epoch "
            "all are evaluated; final values refer to all."
        )
    return text


def curves(runs: Sequence[Run]) -> str:
    """On which images the epochs were validated, in words; "" where on all, or where the runs do not agree."""
    found = {run.curve_images for run in runs}
    part, whole = found.pop() or (0, 0) if len(found) == 1 else (0, 0)
    return f"the first {part:,d} of the {whole:,d} validation images" if part else ""


def model(runs: Sequence[Run], numbers: Numbers) -> str:
    """The network that was run, with its size and cost."""
    name, total = _agreed(runs, "config", "model"), _agreed(runs, "parameters", "total")
    if name is None or total is None:
        return ""
    macs = _agreed(runs, "macs")
    text = (
        f"The runs compared here use `{name}`: {numbers.put('model.parameters', total, ',d')} parameters, of which "
        f"{numbers.put('model.trainable', _agreed(runs, 'parameters', 'trainable'), ',d')} are trained while nothing "
        "is frozen"
    )
    if macs:
        text += f", and {numbers.put('model.gmacs', macs / 1e9, '.4g')} billion multiply-adds for one image"
    if name.endswith(("_mini", "_micro")):
        text += (
            ". It is the same network built shallow and narrow, with one block per stage, so that it can be trained "
            "on a CPU. Stem, dilations, output stride and head are those described above"
        )
    return text + "."


def training(runs: Sequence[Run], numbers: Numbers) -> str:
    """Length, batch and rates of the training that was done."""
    epochs, batch = _agreed(runs, "config", "epochs"), _agreed(runs, "config", "batch_size")
    if epochs is None or batch is None:
        return ""
    text = (
        f"The runs last {numbers.put('training.epochs', epochs, 'd')} epochs with batches of "
        f"{numbers.put('training.batch', batch, 'd')} images"
    )
    factor = _agreed(runs, "config", "lr_factor")
    train = _agreed(runs, "dataset", "train_each_epoch") or _agreed(runs, "dataset", "train")
    if train:
        text += f", so that each sees {numbers.put('training.seen', epochs * train, ',d')} images"
    if factor and factor != 1:
        text += (
            f". At this scale every recipe's rate is multiplied by {numbers.put('training.lr_factor', factor, 'g')}, "
            "and all training starts with a common warm-up: a small network that starts from scratch needs both"
        )
    return text + "."


def motivations() -> str:
    """The eight runs and what each is meant to show, as a list."""
    lines = [f"{i}. **{r.title}** (`{r.stem}`). {r.motivation}" for i, r in enumerate(RECIPES.values(), 1)]
    return "\n".join(lines)


def latency_note(results: pd.DataFrame) -> str:
    """Where the latencies of the results table come from, or why there are none."""
    timed = results[results["latency_ms"].notna()]
    if timed.empty:
        return "Latency was not measured."
    if (timed["device"] == "not recorded").all():
        return (
            "Costs as the runs logged them after their last epoch, latency on a device that is not recorded. What the "
            "study calls FLOPs are multiply-adds. The loss does not change the speed of a network: latencies differ "
            "because of the device or of its load."
        )
    devices = listing(sorted(set(timed["device"])))
    text = f"Latency is a property of the network, not of the loss: median for one image on {devices}, "
    busy = timed["other_cores"].max()
    if not np.isfinite(timed["other_cores"]).all():
        return text + "measured after the runs; whether other programs ran beside it is not recorded."
    if busy <= BUSY:
        return text + "measured alone."
    return text + (
        f"measured while other programs kept up to {busy:.1f} cores busy. It may be too long; measuring again on an "
        "idle machine replaces it."
    )


def efficiency_note(efficiency: pd.DataFrame) -> str:
    """How the costs were measured, and what was not; "" where none was."""
    if efficiency.empty:
        return ""
    devices = listing(sorted({f"{row.device_name}, {row.threads} threads" for row in efficiency.itertuples()}))
    timed = efficiency["latency_ms"].map(lambda latency: isinstance(latency, dict))
    notes = filter(None, efficiency["note"][~timed])
    reasons = sorted({re.sub(r"^not timed: |about [\d.]+ s here, ", "", note) for note in notes})
    text = f"Batch 1, on {devices}; latency as median and quartiles."
    others = efficiency["other_cores"].dropna() if "other_cores" in efficiency else ()
    if len(others) and max(others) > BUSY:
        text += " Some were measured while other programs ran, and may be too long."
    in_onnx = [row for row in efficiency.get("onnx_runtime", ()) if isinstance(row, dict)]
    if versions := sorted({row.get("version", "") for row in in_onnx}):
        text += f" ONNX Runtime {listing(versions)}: the same network as an ONNX file, on as many threads."
    return text + (f" “–”: not timed ({'; '.join(reasons)})." if reasons else "")


def architectures(study: Study, efficiency: pd.DataFrame, numbers: Numbers) -> str:
    """DeepLabV2 beside the other architectures: what was measured, and whether any of them was trained."""
    full = [row for row in efficiency.to_dict("records") if (row["height"], row["width"]) == PAPER_SIZE]
    own = next(iter(measured_rows(efficiency, "deeplabv2_resnet101", PAPER_SIZE)), None)
    others = [row for row in full if not row["model"].startswith("deeplabv2")]
    if not own or not others:
        return "Other architectures were not measured beside these runs."
    groups: dict[str, list[str]] = {}
    for row in others:
        less = [words for key, words in COUNTED.items() if row[key] < own[key]]
        groups.setdefault(" and ".join(f"fewer {words}" for words in less), []).append(row["model"])
    groups.pop("", None)
    macs = numbers.put("architectures.gmacs", own["macs"] / 1e9, ".2f")
    savings = [f"{listing(models)} {'has' if len(models) == 1 else 'have'} {less}" for less, models in groups.items()]
    text = (
        f"At 1024 × 512, DeepLabV2 with ResNet-101 takes {macs} billion multiply-adds (@tbl-efficiency). Of "
        f"{plural(len(others), 'network')} of other architectures, {listing(savings) or 'none takes less'}. "
    )
    trained = {run.config.get("model") for run in study.finished} - {None}
    if len(trained) > 1:
        return text + "Those that were trained on the same data are among the runs, with their mIoU (@fig-cost)."
    return text + "None of them was trained here, so this compares cost, not quality."


def printed(study: Study) -> str:
    """What the study's printed figures are, beside the results of the runs."""
    if study.logs_only:
        return "The figures that the study prints for these runs are examined in @sec-audit (@tbl-published)."
    return (
        "The study prints figures for the same configurations (@tbl-published). They belong to other images, another "
        "training and in part another network, so they are no standard for these runs."
        if study.scope.synthetic or study.scope.preset != "paper"
        else "The study prints figures for the same configurations (@tbl-published); they enter no comparison here."
    )


def ablations(study: Study) -> str:
    """What the runs are that depart from the recipes, "" without any."""
    if not study.ablations or study.logs_only:
        return ""
    control = any(run.variant == "schedule_ce" for run in study.ablations)
    with_control = ", the control among them," if control else ""
    return f"Runs that depart from the eight recipes{with_control} take no part in the ranking (@tbl-ablations)."


def origin(study: Study) -> str:
    """Where the schedules and the records of the runs are found."""
    if study.logs_only:
        return "The logs show the schedule of every run (@tbl-configuration)."
    return (
        "The first table gives the schedule of every run as it was trained; seeds of one configuration share a row "
        "(@tbl-configuration). The others give what the records of all finished runs have in common (@tbl-shared) and "
        "in what they differ (@tbl-different)."
    )


def draft(runs: Sequence[Run], planned: Iterable[str] | None = None) -> str:
    """What a draft lacks, in sentences; nothing for a report whose runs are all finished.

    runs: those that figures show, or all. planned: names of the runs that belong to the study, given for a draft alone.
    """
    unfinished = [run for run in runs if not run.finished]
    if planned is None and not unfinished:
        return ""
    titles = {recipe.stem: recipe.title for recipe in RECIPES.values()}
    known = {run.stem.lower() for run in runs}
    absent = [titles.get(name, name) for name in planned or () if name.lower() not in known]
    reached = [f"{run.label} (epoch {run.epoch} of {run.epochs or 'an unknown number'})" for run in unfinished]
    parts = [f"Not finished: {listing(reached)}."] if reached else []
    parts += [f"Not begun: {listing(absent)}."] if absent else []
    return " ".join(
        ["This is a draft.", *(parts or ["All planned runs are finished; `make report` makes the report."])]
    )


def missing(study: Study, others: Sequence[Study], gallery: Gallery, left_out: Iterable[str] = ()) -> str:
    """What this report lacks and why, as a list: figures left out, runs that stand apart, notes on the runs' files.

    left_out: a line for each file that is no run's table, as `results.read_folder` gives them.
    """
    lines = [f"The figure “{named(label)}”: {reason}." for label, reason in gallery.missing.items()]
    lacking: dict[str, list[str]] = {}
    for run in study.runs:
        lacking.setdefault("; ".join(run.missing), []).append(run.label)
    for what, labels in lacking.items():
        who = "All runs" if len(labels) == len(study.runs) > 1 else listing(labels)
        lines += [f"{who}: the files lack {what}."] if what else []
    notes: dict[str, list[str]] = {}
    for run in study.runs:
        for note in run.notes:
            notes.setdefault(note, []).append(run.label)
    lines += [f"{listing(labels)}: {note}." for note, labels in notes.items()]
    lines += [f"Left out: {line}." for line in left_out]
    lines += [
        f"Another study in the same folder, {other}: {listing(run.label for run in other.runs)}. Results of "
        "different data, scale or length do not stand in one table."
        for other in others if not all(run.stage for run in other.runs)
    ]  # fmt: skip
    stages = listing(run.label for other in others for run in other.runs if run.stage)
    lines += [f"Trained on coarse labels, to start other runs from, and not compared: {stages}."] if stages else []
    absent = [recipe.title for recipe in RECIPES.values() if recipe.key not in {run.recipe for run in study.runs}]
    lines += [f"Not among the runs that are compared: {listing(absent)}."] if absent else []
    return "\n".join(f"- {line}" for line in lines) or "Nothing: every figure and table could be made."


def configurations_note(runs: Sequence[Run]) -> str:
    """What the table of configurations shows of runs whose files do not say."""
    notes = []
    if any(run.legacy for run in runs):
        notes.append(
            "Runs without a record: weights by the run's name; rate, power and warm-up as the logged rates show them "
            "(*inferred*: the round rate among those that are possible). Another loss is assumed where both losses "
            "jump in one epoch while mIoU does not. †: the epoch, or the weights, by the study's text; the log holds "
            "the number of parameters that are trained at the end, or the jump."
        )
    if any(run.record is None and not run.legacy for run in runs):
        notes.append(
            "Of runs that are not finished it shows their recipe's schedule, with the study's rates and steps."
        )
    return " ".join(notes)
