"""Evaluation of a network on a split: losses on its grid, IoU at the input size and at the labels' own."""

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from deeplab_lib.common import devices
from deeplab_lib.labels import IGNORE_INDEX
from deeplab_lib.metrics import boundary_f, calibration_per_image, confusion_per_image
from deeplab_lib.training import distributed

KEPT_PREDICTIONS = 64
CALIBRATION = ("calibration_count", "calibration_confidence", "calibration_hits", "log_loss")


@dataclass
class Evaluation:
    """What was measured, image by image: `confusion` (N, C, C) int64; `losses` {term: mean}, raw.

    Only for a full evaluation: `native` (C, C) at the labels' own size, `boundary` (N,) percent, and the train ids
    `predictions` (K, H, W) uint8 of up to 64 evenly spaced images, `kept` (K,) their numbers; `calibration` {name:
    array}, see `believed`; `first`, the part of it that is evaluated after every epoch.
    """

    confusion: np.ndarray
    losses: dict
    first: "Evaluation | None" = None
    native: np.ndarray | None = None
    boundary: np.ndarray | None = None
    predictions: np.ndarray | None = None
    kept: list = field(default_factory=list)
    calibration: dict = field(default_factory=dict)


@torch.inference_mode()
def evaluate(run, full=False):
    """Evaluate `run.eval_model` on the images of an epoch's evaluation, if `full` on all; see `Evaluation`.

    Logits are upsampled to the labels, never the labels resized. The loss terms are computed on the grid (at the input
    size where the study's code is followed), whatever finer labels or further scales the training sees, batch by batch,
    and averaged over the images. Several
    processes share the batches; all get the whole result.
    """
    model, batches, count = run.eval_model.eval(), run.validation_batches(full), len(run.data.val)
    kept = np.linspace(0, count - 1, min(count, KEPT_PREDICTIONS)).astype(int).tolist() if full else []
    results = []
    for indices, images, labels in run.loader(run.data.val, distributed.scatter(batches)):
        views = run.views(images)
        if run.config.full_size_loss:
            terms = run.validation_loss.terms(model.upsample(views.plain, labels.shape[-2:]), labels)
        else:
            terms = run.validation_loss.terms(views.plain, model.subsample(labels, views.plain.shape[-2:]))
        prediction = views.predict(run.config.size)
        result = {"losses": torch.stack(list(terms.values())).to(devices.precise(run.device)) * len(indices)}
        result["confusion"] = confusion_per_image(labels, prediction)
        if full:
            result["boundary"] = boundary_f(labels, prediction).float()
            result["predictions"] = prediction[[i for i, index in enumerate(indices) if index in kept]].byte().cpu()
            result["native"] = native_confusion(run, views, indices)
            result |= believed(views, labels, prediction)
        results.append(result)
        run.callback("validate", run)
        distributed.sync_stop(run.stop).check()
    results = [{name: value.cpu() for name, value in result.items()} for result in results]
    results, names = distributed.gather_results(results, len(batches)), list(terms)
    first = summed_up(results[: len(run.validation_batches(full=False))], names, [], False)
    return replace(summed_up(results, names, kept, run.data.native), first=first) if full else first


def summed_up(results, names, kept, native):
    """The `Evaluation` of the images of `results`, those of their batches, in order."""
    losses = sum(result["losses"] for result in results) / sum(len(result["confusion"]) for result in results)
    whole = {
        name: torch.cat([result[name] for result in results]).numpy()
        for name in ("confusion", "boundary", "predictions")
        if name in results[0]
    }
    for name in CALIBRATION:
        if name in results[0]:
            whole.setdefault("calibration", {})[name] = torch.cat([result[name] for result in results]).numpy()
    if native and "native" in results[0]:
        whole["native"] = sum(result["native"] for result in results).numpy()
    return Evaluation(losses=dict(zip(names, losses.tolist(), strict=True)), kept=kept, **whole)


def believed(views, labels, predictions):
    """How far the probabilities of a batch can be believed, image by image, at the input size, void left out.

    `calibration_count`, `calibration_confidence`, `calibration_hits` (N, 15), see `metrics.calibration_per_image`, and
    `log_loss` (N,): the mean of -log p of the labelled class in nats, which is cross-entropy at full size.
    """
    log_p, valid = views.log_probabilities(labels.shape[-2:]), labels != IGNORE_INDEX
    confidence = log_p.gather(1, predictions[:, None])[:, 0].exp()
    counted = dict(zip(CALIBRATION, calibration_per_image(labels, predictions, confidence), strict=False))
    lost = -log_p.gather(1, labels.where(valid, 0)[:, None])[:, 0].where(valid, 0)
    return counted | {"log_loss": lost.sum((1, 2)) / valid.sum((1, 2))}


def native_confusion(run, views, indices):
    """Confusion `(C, C)` of the batch at the labels' own size; 0 where that is the input size."""
    total = torch.zeros((), dtype=torch.int64)
    if not run.data.native:
        return total
    for place, index in enumerate(indices):
        labels = torch.from_numpy(run.data.val.full_labels(index)).to(views.plain.device)[None]
        prediction = views.predict(labels.shape[-2:], slice(place, place + 1))
        total = total + confusion_per_image(labels, prediction)[0]
    return total
