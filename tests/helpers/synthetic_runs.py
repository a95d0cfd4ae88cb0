"""Plausible run files without training: per-image confusion matrices of a street-like town, with planted effects.

`write_runs(folder)` writes what eight finished runs leave behind (CSV, JSON, NPZ), all three consistent: the CSV's last
row is the mIoU of the NPZ's confusion matrices. `confusions` alone serves the trials of the statistics.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from deeplab_lib.labels import CATEGORIES, CLASSES, NUM_CLASSES
from deeplab_lib.recipes import PRESETS, RECIPES
from deeplab_lib.study.grouping import Scope, Study
from deeplab_lib.study.run import Run
from deeplab_lib.training.schedule import PolyLR

# Share of pixels, and of images in which the class occurs at all: as uneven as a street.
PIXELS = np.array([33, 5.4, 20, 0.9, 1, 1.4, 0.4, 0.8, 14, 1.2, 4, 1.6, 0.4, 7, 0.6, 0.6, 0.5, 0.3, 0.9])
OCCURS = np.array([1, 0.95, 1, 0.3, 0.35, 1, 0.6, 0.95, 1, 0.6, 0.95, 0.8, 0.4, 1, 0.2, 0.2, 0.15, 0.25, 0.6])
STEPS = 100  # of an epoch
RECALL = np.array([95, 70, 88, 25, 28, 40, 30, 45, 88, 45, 92, 55, 22, 86, 25, 40, 35, 15, 50]) / 100


def iou(confusion):
    """IoU per class in percent from one matrix `(C, C)`; absent = NaN."""
    correct = np.diag(confusion).astype(float)
    union = confusion.sum(0) + confusion.sum(1) - correct
    return 100 * np.divide(correct, union, out=np.full(len(correct), np.nan), where=union > 0)


def miou(confusion):
    return float(np.nanmean(iou(confusion)))


def scenes(rng, images, pixels=128 * 256):
    """What the images hold and how hard they are, shared by all runs: pixels `(N, C)`, recall `(N, C)`."""
    present = rng.random((images, NUM_CLASSES)) < OCCURS
    shares = PIXELS / OCCURS * present * rng.gamma(2.0, 0.5, (images, NUM_CLASSES))
    labels = np.floor(0.95 * pixels * shares / shares.sum(1, keepdims=True))
    difficulty = rng.normal(0, 0.6, (images, NUM_CLASSES)) + rng.normal(0, 0.3, (images, 1))
    return labels, 1 / (1 + np.exp(-(np.log(RECALL / (1 - RECALL)) + difficulty)))


def confusions(rng, labels, recall, effect=0.0, noise=0.4):
    """Confusion matrices `(N, C, C)` int64 of one run on shared scenes.

    effect: points of mIoU that the run is better than the scenes' own quality, in expectation. noise: standard
    deviation, in logits, of what this run does differently on each image and class.
    """
    recall = mend(labels, recall, effect)
    odds = np.log(recall / (1 - recall)) + noise * rng.standard_normal(recall.shape)
    return spread(labels, 1 / (1 + np.exp(-odds)))


def spread(labels, recall):
    """Errors go to the other classes by their frequency; rows keep their pixel counts."""
    correct = np.round(labels * recall)
    others = np.broadcast_to(PIXELS, (NUM_CLASSES, NUM_CLASSES)) * (1 - np.eye(NUM_CLASSES))
    matrix = np.floor((labels - correct)[:, :, None] * others / others.sum(1, keepdims=True))
    index = np.arange(NUM_CLASSES)
    matrix[:, index, index] = labels - matrix.sum(2)
    return matrix.astype(np.int64)


def mend(labels, recall, effect):
    """Turn one share of all errors right (or of all hits wrong), so that the expected mIoU moves by `effect` points."""
    if not effect:
        return recall
    start, low, high = expected_miou(labels, recall), 0.0, 1.0
    for _ in range(30):
        share = (low + high) / 2
        moved = recall + share * (1 - recall) if effect > 0 else recall * (1 - share)
        low, high = (share, high) if abs(expected_miou(labels, moved) - start) < abs(effect) else (low, share)
    return moved


def expected_miou(labels, recall):
    """mIoU of `spread(labels, recall)` up to its rounding, from the classes' totals."""
    correct = (labels * recall).sum(0)
    wrong = labels.sum(0) - correct
    others = PIXELS * (1 - np.eye(NUM_CLASSES))
    false = wrong @ (others / others.sum(1, keepdims=True))
    return float(np.mean(100 * correct / (labels.sum(0) + false)))


def curve(rng, final, epochs, start=0.15, noise=0.02):
    """A learning curve that ends in `final`: fast at first, with noise that fades."""
    progress = np.arange(1, epochs + 1) / epochs
    rise = start + (1 - start) * (1 - np.exp(-4 * progress)) / (1 - np.exp(-4))
    noisy = final * rise * (1 + noise * (1 - progress) * rng.standard_normal(epochs))
    noisy[-1] = final
    return noisy


def write_runs(
    folder, recipes=tuple(RECIPES), seeds=(0,), effects=None, images=40, epochs=10, preset="demo", suffix="",
    legacy=False, unfinished_at=None, random_state=0, schedule=None, boundary_effects=None, dataset="toycity",
    noise=0.4,
):  # fmt: skip
    """Write `recipes` x `seeds` into `folder`; returns their stems.

    effects: {recipe: points of mIoU}; boundary_effects: {recipe: points of boundary F}. suffix: appended to the stems
    (`"lr0.001"`). legacy: a CSV of the original columns alone. unfinished_at: an epoch; no JSON, no NPZ.
    schedule: the recipe whose schedule all are trained with (`"ce"`: the control); it enters the stems.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(random_state)
    scale = PRESETS[preset]
    labels, recall = scenes(rng, images, scale.image_height * scale.image_width)
    names = np.array([f"toy_{i:06d}_000019" for i in range(images)])
    stems = []
    for key in recipes:
        for seed in seeds:
            recipe = RECIPES[key]
            plan = RECIPES[schedule or key]
            parts = [f"seed{seed}" if seed else "", suffix, f"schedule_{schedule}" if schedule else ""]
            stem = "_".join([recipe.stem, *filter(None, parts)])
            confusion = confusions(rng, labels, recall, (effects or {}).get(key, 0.0), noise)
            table = epoch_table(rng, confusion.sum(0), recipe, plan, epochs, preset)
            # No two runs take equal times, or they would be copies.
            table["Runtime"] += zlib.crc32(f"{stem} {dataset} {preset}".encode()) * 1e-15
            if legacy:
                table = table.loc[:, :"Runtime"]
            table.iloc[:unfinished_at].to_csv(folder / f"{stem}.csv", index=False)
            if not (legacy or unfinished_at):
                boundary = 55 + (boundary_effects or {}).get(key, 0.0) + rng.normal(0, 5, images)
                record = run_record(stem, recipe, plan, seed, confusion, table, preset, dataset, boundary)
                (folder / f"{stem}.json").write_text(json.dumps(record, indent=1))
                arrays = {"names": names, "confusion": confusion, "boundary_f": boundary.astype(np.float32)}
                arrays |= believed(np.random.default_rng([random_state, len(stems)]), confusion)
                save_arrays(rng, folder / f"{stem}.npz", arrays, scale)
            stems.append(stem)
    return stems


def study_in_memory(rng, effects=None, images=100, epochs=12, recipes=tuple(RECIPES), noise=0.4, boundary_effects=None):
    """A `Study` of finished runs as `read_runs` would give it, without files: fast enough for a thousand trials."""
    labels, recall = scenes(rng, images)
    names, runs = np.arange(images), []
    for key in recipes:
        recipe = RECIPES[key]
        confusion = confusions(rng, labels, recall, (effects or {}).get(key, 0.0), noise)
        columns = {"epoch": np.arange(1, epochs + 1), "Runtime": np.ones(epochs), "val_ce": curve(rng, 1.0, epochs)}
        columns["val_mIoU"] = curve(rng, miou(confusion.sum(0)), epochs)
        table = pd.DataFrame(columns)
        record = {"finished": True, "loss": recipe.loss, "config": {"lr": recipe.lr}}
        run = Run(Path(f"{recipe.stem}.csv"), recipe.stem, key, recipe.title, 0, "", table, record)
        boundary = rng.normal(55 + (boundary_effects or {}).get(key, 0.0), 5, images)
        run.final_class_val = iou(confusion.sum(0))
        run.arrays = {"names": names, "confusion": confusion, "boundary_f": boundary}
        run.arrays |= believed(np.random.default_rng(len(runs)), confusion)
        runs.append(run)
    return Study(Scope.of(runs[0]), runs)


def warmup_steps(plan, epochs, preset):
    """The recipe's own warm-up, not longer than a tenth of the training, after the preset's."""
    return round(PRESETS[preset].warmup * STEPS * epochs) + min(plan.warmup_steps, STEPS * epochs // 10)


def epoch_table(rng, confusion, recipe, plan, epochs, preset):
    """The CSV of one run: its last row holds the final confusion's values."""
    scale, steps = PRESETS[preset], STEPS * epochs
    terms = {term.split("(")[0].split("*")[-1].strip(): None for term in recipe.loss.split(" + ")}
    weights = {name: 1.0 for name in terms} if len(terms) == 1 else dict.fromkeys(terms, 1 / len(terms))
    changes = plan.changes if plan is recipe else ()
    plan = PolyLR(plan.lr * scale.lr_factor, steps, plan.power, warmup_steps(plan, epochs, preset), weights, changes)
    last = [STEPS * (epoch + 1) - 1 for epoch in range(epochs)]
    columns = {"epoch": np.arange(1, epochs + 1), "lr": [plan.lr(step) for step in last]}
    columns["train_loss"] = 2.6 - curve(rng, 2.0, epochs)
    columns["val_loss"] = 2.8 - curve(rng, 2.0, epochs)
    final = iou(confusion)
    val = np.array([curve(rng, value, epochs) for value in final]).T
    train = np.array([curve(rng, min(value + 3, 99), epochs) for value in final]).T
    columns["train_mIoU"], columns["val_mIoU"] = np.nanmean(train, axis=1), np.nanmean(val, axis=1)
    columns |= {f"class_{c}_train": train[:, c] for c in range(NUM_CLASSES)}
    columns |= {f"class_{c}_val": val[:, c] for c in range(NUM_CLASSES)}
    columns["Runtime"] = rng.normal(12, 0.3, epochs)
    columns["val_ce"] = 2.5 - curve(rng, 2.0, epochs)
    columns["val_pixel_accuracy"] = curve(rng, 100 * np.trace(confusion) / confusion.sum(), epochs, start=0.6)
    for name in terms:
        columns[f"loss_{name}"] = 2.5 - curve(rng, 1.8, epochs)
        in_force = [plan.weights(step)[name] for step in last]
        columns[f"weighted_{name}"] = np.multiply(in_force, columns[f"loss_{name}"])
        columns[f"weight_{name}"] = in_force
    columns["power"] = [plan.power(step) for step in last]
    frozen = [bool(plan.frozen(step)) for step in last]
    columns["trainable_parameters"] = np.where(frozen, 60_000, 200_000)
    columns["images_per_s"] = rng.normal(60, 1, epochs)
    columns["peak_memory_MB"] = 700.0
    return pd.DataFrame(columns)


def run_record(stem, recipe, plan, seed, confusion, table, preset, dataset, boundary):
    """The JSON of one finished run."""
    scale, total, last = PRESETS[preset], confusion.sum(0), table.iloc[-1]
    height, width = scale.image_height, scale.image_width
    best = table["val_mIoU"].idxmax()
    category = {}
    for name in CATEGORIES:
        ids = [label.train_id for label in CLASSES if label.category == name]
        hit = total[np.ix_(ids, ids)].sum()
        category[name] = 100 * float(hit / (total[ids].sum() + total[:, ids].sum() - hit))
    session = {
        "started": "2026-01-01T10:00:00", "ended": "2026-01-01T10:02:00", "from_epoch": 1, "device": "cpu",
        "device_name": "test processor", "amp": False, "gpus": 0, "workers": 0, "threads": 1, "commit": "0" * 40,
        "versions": {"python": "3.11.0", "torch": "2.8.0", "numpy": "2.0.0"}, "reason": "finished",
    }  # fmt: skip
    return {
        "stem": stem, "recipe": recipe.key, "title": recipe.title, "loss": recipe.loss, "finished": True,
        "config": {
            "loss": recipe.key, "data": "data/toycity", "preset": preset, "seed": seed, "epochs": len(table),
            "batch_size": scale.batch_size, "accumulate": 1, "lr": plan.lr * scale.lr_factor, "image_height": height,
            "image_width": width, "model": scale.model, "pretrained": "none",
            "follows": "logs", "bn": "train", "schedule": None if plan is recipe else plan.key, "power": plan.power,
            "warmup_steps": warmup_steps(plan, len(table), preset), "steps_per_epoch": STEPS,
            "lr_factor": scale.lr_factor, "device": "cpu", "amp": "off", "gpus": 1,
            "workers": 0,
        },
        "changes": [
            {"at": change.progress, "epoch": int(change.progress * len(table)) + 1, "power": change.power,
             "weights": change.weights, "freeze": list(change.freeze)} for change in plan.changes
        ],
        "dataset": {
            "name": dataset, "synthetic": dataset == "toycity", "fingerprint": "ab" * 32, "train": 400,
            "val": len(confusion), "label_height": height, "label_width": width, "subset": None,
        },
        "parameters": {"total": 210_000, "trainable": 200_000, "trainable_at_end": int(last["trainable_parameters"])},
        "macs": 512_000_000,
        "final": {
            "epoch": len(table), "train_mIoU": float(last["train_mIoU"]), "val_mIoU": miou(total),
            "val_pixel_accuracy": float(last["val_pixel_accuracy"]), "val_ce": float(last["val_ce"]),
            "class_val": [None if np.isnan(v) else float(v) for v in iou(total)], "category_val": category,
            "boundary_f": float(np.nanmean(boundary)),
            "native": {"height": height, "width": width, "mIoU": miou(total), "class_val": list(iou(total)),
                       "pixel_accuracy": float(last["val_pixel_accuracy"])},
        },
        "best": {"epoch": int(table["epoch"][best]), "val_mIoU": float(table["val_mIoU"][best])},
        "wall_time_s": float(table["Runtime"].sum() + 20), "started": session["started"], "ended": session["ended"],
        "sessions": [session], "weights": {"source": "none (from scratch)", "sha256": None, "matched": 0, "total": 0},
        "warnings": [],
    }  # fmt: skip


def believed(rng, confusion, overconfidence=0.03, bins=15):
    """Calibration arrays and log loss of one run: pixels by confidence, hits fewer than believed by a share."""
    middle = (np.arange(bins) + 0.5) / bins
    shares = rng.dirichlet(np.arange(1, bins + 1) ** 2, len(confusion))
    counts = np.floor(shares * confusion.sum((1, 2))[:, None]).astype(np.int64)
    right = np.clip(middle - overconfidence + rng.normal(0, 0.02, counts.shape), 0, 1)
    return {
        "calibration_count": counts, "calibration_confidence": counts * middle,
        "calibration_hits": np.round(counts * right).astype(np.int64),
        "log_loss": rng.normal(0.6, 0.1, len(confusion)).astype(np.float32),
    }  # fmt: skip


def save_arrays(rng, path, arrays, scale, predictions=4):
    """The NPZ of one finished run; its pictures are bands of classes with the class names' own order."""
    height, width = scale.image_height, scale.image_width
    bands = np.repeat(np.arange(height) * NUM_CLASSES // height, width).reshape(height, width)
    maps = [
        (bands + rng.integers(0, 2, bands.shape)) % NUM_CLASSES for _ in range(min(predictions, len(arrays["names"])))
    ]
    kept = {"prediction_names": arrays["names"][: len(maps)], "predictions": np.array(maps, dtype=np.uint8)}
    np.savez_compressed(path, **arrays, **kept)
