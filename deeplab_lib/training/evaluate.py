"""Evaluation of a network on a split: losses on its grid, IoU at the input size and at the labels' own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from deeplab_lib.common import devices
from deeplab_lib.labels import IGNORE_INDEX
from deeplab_lib.losses import WeightedLoss
from deeplab_lib.metrics import boundary_f, calibration_per_image, confusion_per_image
from deeplab_lib.models.views import Views
from deeplab_lib.training import distributed

if TYPE_CHECKING:
    from deeplab_lib.data.dataset import Data
    from deeplab_lib.training.trainer import Trainer

# Numbers of the images, images (N, 3, H, W) and labels (N, H, W); what the loss is computed on; what else is measured.
Batch = tuple[Sequence[int], torch.Tensor, torch.Tensor]
Targets = Callable[[Views, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
Measure = Callable[[Sequence[int], Views, torch.Tensor, torch.Tensor], dict[str, torch.Tensor]]

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
    losses: dict[str, float]
    first: Evaluation | None = None
    native: np.ndarray | None = None
    boundary: np.ndarray | None = None
    predictions: np.ndarray | None = None
    kept: list[int] = field(default_factory=list)
    calibration: dict[str, np.ndarray] = field(default_factory=dict)


@torch.inference_mode()
def evaluate(
    see: Callable[[torch.Tensor], Views],
    batches: Iterable[Batch],
    loss: WeightedLoss | None = None,
    targets: Targets | None = None,
    together: int | None = None,
    measures: Iterable[Measure] = (),
    done: Callable[[], object] = lambda: None,
) -> list[dict[str, torch.Tensor]]:
    """What `see` makes of `batches` of `(numbers, images (N, 3, H, W), labels (N, H, W))`, a dict of tensors each.

    see: a `Predictor`, or what answers as it does.

    `confusion` (N, C, C) of its predictions at the labels' size: logits are upsampled to the labels, never the labels
    resized. With a `loss` its raw terms, times N, as `losses`. Each of `measures(numbers, views, labels, predictions)`
    adds a dict of its own. targets: logits and labels that the loss is computed on, from the same; None: those of the
    grid. together: how many images the loss sees as one batch, which Dice, Tversky and Lovász depend on; None: all of a
    batch. done: called after every batch.
    """
    targets, results = targets or grid_targets, []
    for numbers, images, labels in batches:
        views = see(images)
        predictions = views.predict(labels.shape[-2:])
        result = {"confusion": confusion_per_image(labels, predictions)}
        if loss is not None:
            parts = zip(*(part.split(together or len(part)) for part in targets(views, labels)), strict=True)
            result["losses"] = total(loss_sums(loss, *part) for part in parts)
        for measure in measures:
            result |= measure(numbers, views, labels, predictions)
        results.append(result)
        done()
    return [{name: value.cpu() for name, value in result.items()} for result in results]


def total(parts: Iterable[torch.Tensor]) -> torch.Tensor:
    """The sum of tensors, in their order."""
    return reduce(torch.add, parts)


def loss_sums(loss: WeightedLoss, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The raw terms of one batch, times its images."""
    return torch.stack(list(loss.terms(logits, labels).values())).to(devices.precise(labels.device)) * len(labels)


def grid_targets(views: Views, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels on the network's grid."""
    return views.plain, views.model.subsample(labels, views.plain.shape[-2:])


def full_size_targets(views: Views, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels at the labels' size."""
    return views.model.upsample(views.plain, labels.shape[-2:]), labels


def evaluate_run(trainer: Trainer, full: bool = False) -> Evaluation:
    """Evaluate a run's network on the images of an epoch's evaluation, if `full` on all; see `Evaluation`.

    The loss terms are computed on the grid (at the input size where the study's code is followed), whatever finer
    labels or further scales the training sees, on batches of the training's size, and averaged over the images. Several
    processes share the batches; all get the whole result.
    """
    data, batches, count = trainer.data, trainer.validation_batches(full), len(trainer.data.val)
    kept = np.linspace(0, count - 1, min(count, KEPT_PREDICTIONS)).astype(int).tolist() if full else []

    def details(
        numbers: Sequence[int], views: Views, labels: torch.Tensor, predictions: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        chosen = [place for place, number in enumerate(numbers) if number in kept]
        return {
            "boundary": boundary_f(labels, predictions).float(),
            "predictions": predictions[chosen].byte().cpu(),
            "native": native_confusion(data, views, numbers),
        } | believed(views, labels, predictions)

    def done() -> None:
        trainer.callback("validate")
        distributed.sync_stop(trainer.stop).check()

    results = evaluate(
        trainer.predictor(),
        trainer.load(data.val, distributed.scatter(batches)),
        trainer.validation_loss,
        targets=full_size_targets if trainer.config.full_size_loss else grid_targets,
        together=trainer.config.micro_batch,
        measures=[details] if full else [],
        done=done,
    )
    results, names = distributed.gather_results(results, len(batches)), list(trainer.validation_loss.losses)
    first = summed_up(results[: len(trainer.validation_batches(full=False))], names, [], False)
    return replace(summed_up(results, names, kept, data.native), first=first) if full else first


def summed_up(
    results: Sequence[Mapping[str, torch.Tensor]], names: Sequence[str], kept: list[int], native: bool
) -> Evaluation:
    """The `Evaluation` of the images of `results`, those of their batches, in order."""
    losses = total(result["losses"] for result in results) / sum(len(result["confusion"]) for result in results)
    whole: dict[str, Any] = {
        name: torch.cat([result[name] for result in results]).numpy()
        for name in ("confusion", "boundary", "predictions")
        if name in results[0]
    }
    for name in CALIBRATION:
        if name in results[0]:
            whole.setdefault("calibration", {})[name] = torch.cat([result[name] for result in results]).numpy()
    if native and "native" in results[0]:
        whole["native"] = total(result["native"] for result in results).numpy()
    return Evaluation(losses=dict(zip(names, losses.tolist(), strict=True)), kept=kept, **whole)


def believed(views: Views, labels: torch.Tensor, predictions: torch.Tensor) -> dict[str, torch.Tensor]:
    """How far the probabilities of a batch can be believed, image by image, at the input size, void left out.

    `calibration_count`, `calibration_confidence`, `calibration_hits` (N, 15), see `metrics.calibration_per_image`, and
    `log_loss` (N,): the mean of -log p of the labelled class in nats, which is cross-entropy at full size.
    """
    found = [believed_of_one(views, image, labels, predictions) for image in range(len(labels))]
    return {name: torch.cat([values[name] for values in found]) for name in found[0]}


def believed_of_one(
    views: Views, image: int, labels: torch.Tensor, predictions: torch.Tensor
) -> dict[str, torch.Tensor]:
    """What `believed` says of one image of the batch."""
    labels, predictions = labels[image, None], predictions[image, None]
    log_p, valid = views.log_probabilities(image, labels.shape[-2:]), labels != IGNORE_INDEX
    confidence = log_p.gather(1, predictions[:, None])[:, 0].exp()
    counted = dict(zip(CALIBRATION, calibration_per_image(labels, predictions, confidence), strict=False))
    lost = -log_p.gather(1, labels.where(valid, 0)[:, None])[:, 0].where(valid, 0)
    return counted | {"log_loss": lost.sum((1, 2)) / valid.sum((1, 2))}


def native_confusion(data: Data, views: Views, numbers: Sequence[int]) -> torch.Tensor:
    """Confusion `(C, C)` of the batch at the labels' own size; 0 where that is the input size."""
    total = torch.zeros((), dtype=torch.int64)
    if not data.native:
        return total
    for place, number in enumerate(numbers):
        labels = torch.from_numpy(data.val.full_labels(number)).to(views.plain.device)[None]
        prediction = views.predict(labels.shape[-2:], slice(place, place + 1))
        total = total + confusion_per_image(labels, prediction)[0]
    return total


def predict_validation(trainer: Trainer, numbers: Sequence[int]) -> np.ndarray:
    """Train ids `(K, H, W)` uint8 that a run's network, as it is now, predicts of validation images."""
    stored = devices.memory_format(trainer.fast_paths)
    images = torch.stack([trainer.data.val[number][0] for number in numbers])
    views = trainer.predictor()(images.to(trainer.device, memory_format=stored))
    return views.predict(trainer.config.size).to(torch.uint8).cpu().numpy()
