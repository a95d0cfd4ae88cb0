"""What a run says of itself when it is done: its summary, its per-image results, its best weights."""

import copy
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from deeplab_lib.common import files
from deeplab_lib.metrics import ConfusionMatrix
from deeplab_lib.models.deeplabv2 import count_parameters
from deeplab_lib.models.efficiency import count_macs
from deeplab_lib.recipes import RECIPES
from deeplab_lib.training import record


def best_state(run):
    """What `.best.pt` holds: the weights, and what is needed to use them."""
    about = {"config": run.config.as_dict(), "best": run.best, "weights": run.pretrained.as_dict()}
    return {"model": run.eval_model.state_dict(), **about}


def write_npz(run):
    """Write the per-image results of the last epoch, for the analysis."""
    result, names = run.evaluation, np.array([pair.name for pair in run.data.val.pairs])
    content = {"names": names, "confusion": result.confusion, "boundary_f": result.boundary}
    content |= {"prediction_names": names[result.kept], "predictions": result.predictions}
    content |= result.calibration
    if result.native is not None:
        content["confusion_native"] = result.native
    files.write_npz(run.files.path(".npz"), **content)


def readable_npz(run):
    """Whether the per-image results are on disk, whole."""
    try:
        with np.load(run.files.path(".npz")) as stored:
            return all(len(stored[name]) for name in stored.files)
    except Exception:  # a damaged archive fails in many ways
        return False


def summarize(run):
    """The run's summary, for its JSON; `runs/README.md` explains the keys."""
    config, plan = run.config, run.config.schedule_recipe
    resolved = {
        "power": plan.power,
        "warmup_steps": run.schedule.warmup_steps,
        "recipe_warmup_steps": plan.warmup_steps,
    }
    resolved |= {"lr_factor": config.lr_factor, "steps_per_epoch": run.steps_per_epoch}
    scratch = {"source": "none (from scratch)", "matched": 0}
    return {
        "stem": run.files.stem,
        "recipe": config.loss if config.loss in RECIPES else None,
        "title": config.title,
        "loss": config.expression,
        "finished": True,
        "config": config.as_dict() | resolved,
        "changes": list(changes(run)),
        "dataset": run.data.about,
        "parameters": parameters(run.model),
        "macs": count_macs(run.model, config.size),
        "final": final(run),
        "best": run.best,
        "wall_time_s": round(sum(row["Runtime"] for row in run.history), 3),
        "started": run.sessions[0]["started"],
        "ended": record.now(),
        "sessions": run.sessions,
        "weights": run.pretrained.as_dict() | (asdict(run.weights) if run.weights else scratch),
        "identity": run.identity,
        "warnings": run.warnings,
    } | first_stage(config)


def first_stage(config):
    """What the summary says of the run on coarse labels that came first; nothing where there was none."""
    first = config.first_stage
    if first is None:
        return {}
    summary = files.read_json(Path(first.out_dir) / f"{first.stem}.json")
    return {"first_stage": {name: summary[name] for name in ("stem", "best", "wall_time_s", "dataset")}}


def changes(run):
    """The plan's changes with the step, and the epoch of this run, at which each acts."""
    for change in run.config.schedule_recipe.changes:
        step = change.first_step(run.schedule.total_steps)
        place = {"at": change.progress, "step": step, "epoch": 1 + step / run.steps_per_epoch}
        yield place | {"power": change.power, "weights": change.weights, "freeze": list(change.freeze)}


def parameters(model):
    """Numbers of parameters: all, those trained with nothing frozen, those trained at the end."""
    total, at_end = count_parameters(model)
    whole = copy.deepcopy(model)
    whole.freeze(())
    return {"total": total, "trainable": count_parameters(whole)[1], "trainable_at_end": at_end}


def final(run):
    """Metrics of all images after the last epoch, at the input size and at the labels' own."""
    row = run.history[-1]
    with np.load(run.files.path(".npz")) as stored:
        counts = ConfusionMatrix(matrix=torch.from_numpy(stored["confusion"].sum(0)))
        native = stored.get("confusion_native")
        boundary = float(np.nanmean(stored["boundary_f"]))
    own = counts if native is None else ConfusionMatrix(matrix=torch.from_numpy(native))
    names = ("epoch", "train_mIoU", "val_mIoU", "val_pixel_accuracy", "val_ce", "val_loss")
    metrics = {name: row.get(f"{name}_final", row[name]) for name in names}
    metrics |= {"class_val": counts.iou(), "category_val": counts.category_iou()}
    size = {"height": run.data.about["label_height"], "width": run.data.about["label_width"]}
    exact = {"mIoU": own.miou(), "class_val": own.iou(), "pixel_accuracy": own.pixel_accuracy()}
    return metrics | {"boundary_f": boundary, "native": size | exact | {"category_val": own.category_iou()}}
