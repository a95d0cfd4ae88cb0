"""What a run says of itself: the row of an epoch, its per-image results, its best weights, its summary."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from deeplab_lib.common import devices, files
from deeplab_lib.losses import WeightedLoss
from deeplab_lib.metrics import ConfusionMatrix
from deeplab_lib.models.deeplabv2 import count_parameters
from deeplab_lib.models.efficiency import count_macs
from deeplab_lib.models.network import SegmentationNetwork
from deeplab_lib.recipes import RECIPES
from deeplab_lib.training import record
from deeplab_lib.training.evaluate import Evaluation

if TYPE_CHECKING:
    from deeplab_lib.config import Config
    from deeplab_lib.training.trainer import Trainer


def epoch_row(trainer: Trainer, evaluation: Evaluation) -> dict[str, Any]:
    """The epoch as a row of the CSV, columns in their fixed order.

    Losses and means are of the images that are evaluated after every epoch. What ends in `_final`, and the classes
    in the last row, are of all.
    """
    config, state, seconds = trainer.config, trainer.state, trainer.state.clock.elapsed()
    now, weights = trainer.schedule.at(state.step - 1), trainer.loss.weights
    names, mean = list(trainer.loss.losses), (state.loss_sums / trainer.steps_per_epoch).tolist()
    trained = {"train_loss": mean[-1], "train_mIoU": state.confusion.miou()}
    seen, finals = (trained | means_of(result, trainer.loss) for result in (evaluation.first or evaluation, evaluation))
    row = {"epoch": state.epoch, "lr": now.lr}
    row |= {name: seen[name] for name in ("train_loss", "val_loss", "train_mIoU", "val_mIoU")}
    row |= record.percent_columns("train", state.confusion.iou())
    row |= record.percent_columns("val", counts_of(evaluation).iou())
    row |= {"Runtime": round(seconds, 3)} | {name: seen[name] for name in ("val_ce", "val_pixel_accuracy")}
    row |= {f"loss_{name}": value for name, value in zip(names, mean, strict=False)}
    row |= {f"weighted_{name}": value for name, value in zip(names, mean[len(names) :], strict=False)}
    row |= {f"weight_{name}": weights[name] for name in names}
    row |= {"power": now.power, "trainable_parameters": count_parameters(trainer.model)[1]}
    row["images_per_s"] = round(trainer.steps_per_epoch * config.batch_size / (state.training_seconds or seconds), 3)
    row["peak_memory_MB"] = round(devices.peak_memory_mb(config.device), 1)
    done = state.epoch == config.epochs
    return row | {f"{name}_final": value if done else math.nan for name, value in finals.items()}


def means_of(evaluation: Evaluation, loss: WeightedLoss) -> dict[str, Any]:
    """The weighted loss and means of an evaluation."""
    counts, losses = counts_of(evaluation), evaluation.losses
    means = {"val_mIoU": counts.miou(), "val_pixel_accuracy": counts.pixel_accuracy()}
    return {"val_loss": sum(loss.weights[name] * losses[name] for name in loss.losses), "val_ce": losses["ce"]} | means


def counts_of(evaluation: Evaluation) -> ConfusionMatrix:
    """The confusion matrix of all images of an evaluation."""
    return ConfusionMatrix(matrix=torch.from_numpy(evaluation.confusion.sum(0)))


def best_state(trainer: Trainer) -> dict[str, Any]:
    """What `.best.pt` holds: the weights, and what is needed to use them."""
    about = {"config": trainer.config.as_dict(), "best": trainer.state.best, "weights": trainer.pretrained.as_dict()}
    return {"model": trainer.eval_model.state_dict(), **about}


def image_results(trainer: Trainer, evaluation: Evaluation) -> dict[str, Any]:
    """What the NPZ holds: the per-image results of the last epoch."""
    names = np.array([pair.name for pair in trainer.data.val.pairs])
    content = {"names": names, "confusion": evaluation.confusion, "boundary_f": evaluation.boundary}
    content |= {"prediction_names": names[evaluation.kept], "predictions": evaluation.predictions}
    content |= evaluation.calibration
    return content if evaluation.native is None else content | {"confusion_native": evaluation.native}


def describe(trainer: Trainer) -> dict[str, Any]:
    """What is known of a run when it starts; `runs/README.md` explains the keys."""
    config, recipe = trainer.config, trainer.config.schedule_recipe
    resolved = {
        "power": recipe.power,
        "warmup_steps": trainer.schedule.warmup_steps,
        "recipe_warmup_steps": recipe.warmup_steps,
        "lr_factor": config.lr_factor,
        "steps_per_epoch": trainer.steps_per_epoch,
    }
    return {
        "stem": trainer.folder.stem,
        "recipe": config.loss if config.loss in RECIPES else None,
        "title": config.title,
        "loss": config.expression,
        "finished": False,
        "config": config.as_dict() | resolved,
        "changes": list(changes(trainer)),
        "dataset": trainer.data.about,
        "identity": trainer.identity,
    }


def summarize(trainer: Trainer) -> dict[str, Any]:
    """The run's summary, for its JSON; `runs/README.md` explains the keys."""
    config, state = trainer.config, trainer.state
    scratch = {"source": "none (from scratch)", "matched": 0}
    results = {
        "finished": True,
        "parameters": parameters(trainer.model),
        "macs": count_macs(trainer.model, config.size),
        "final": final(trainer),
        "best": state.best,
        "wall_time_s": round(sum(row["Runtime"] for row in state.history), 3),
        "started": state.sessions[0]["started"],
        "ended": record.now(),
        "sessions": state.sessions,
        "weights": trainer.pretrained.as_dict() | (asdict(trainer.weights) if trainer.weights else scratch),
        "warnings": state.warnings,
    }
    return describe(trainer) | results | first_stage(config)


def first_stage(config: Config) -> dict[str, Any]:
    """What the summary says of the run on coarse labels that came first; nothing where there was none."""
    first = config.first_stage
    if first is None:
        return {}
    summary = files.read_json(Path(first.out_dir) / f"{first.stem}.json")
    return {"first_stage": {name: summary[name] for name in ("stem", "best", "wall_time_s", "dataset")}}


def changes(trainer: Trainer) -> Iterator[dict[str, Any]]:
    """The recipe's changes with the step, and the epoch of this run, at which each acts."""
    for change in trainer.config.schedule_recipe.changes:
        step = change.first_step(trainer.schedule.total_steps)
        place = {"at": change.progress, "step": step, "epoch": 1 + step / trainer.steps_per_epoch}
        yield place | {"power": change.power, "weights": change.weights, "freeze": list(change.freeze)}


def parameters(model: SegmentationNetwork) -> dict[str, int]:
    """Numbers of parameters: all, those trained with nothing frozen, those trained at the end."""
    total, at_end = count_parameters(model)
    whole = copy.deepcopy(model)
    whole.freeze(())
    return {"total": total, "trainable": count_parameters(whole)[1], "trainable_at_end": at_end}


def final(trainer: Trainer) -> dict[str, Any]:
    """Metrics of all images after the last epoch, at the input size and at the labels' own."""
    row = trainer.state.history[-1]
    with np.load(trainer.folder.npz) as stored:
        counts = ConfusionMatrix(matrix=torch.from_numpy(stored["confusion"].sum(0)))
        native = stored.get("confusion_native")
        boundary = float(np.nanmean(stored["boundary_f"]))
    own = counts if native is None else ConfusionMatrix(matrix=torch.from_numpy(native))
    names = ("epoch", "train_mIoU", "val_mIoU", "val_pixel_accuracy", "val_ce", "val_loss")
    metrics = {name: row.get(f"{name}_final", row[name]) for name in names}
    metrics |= {"class_val": counts.iou(), "category_val": counts.category_iou()}
    size = {"height": trainer.data.about["label_height"], "width": trainer.data.about["label_width"]}
    exact = {"mIoU": own.miou(), "class_val": own.iou(), "pixel_accuracy": own.pixel_accuracy()}
    return metrics | {"boundary_f": boundary, "native": size | exact | {"category_val": own.category_iou()}}
