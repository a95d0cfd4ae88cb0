"""Evaluation of a network on a split: losses on its grid, IoU at the input size and at the labels' own."""

from dataclasses import dataclass, field

import numpy as np
import torch

from .metrics import boundary_f, confusion_per_image

KEPT_PREDICTIONS = 64


@dataclass
class Evaluation:
    """What was measured, image by image: `confusion` (N, C, C) int64; `losses` {term: mean}, raw.

    Only for a full evaluation: `native` (C, C) at the labels' own size, `boundary` (N,) percent, and the train ids
    `predictions` (K, H, W) uint8 of up to 64 evenly spaced images, `kept` (K,) their numbers.
    """

    confusion: np.ndarray
    losses: dict
    native: np.ndarray | None = None
    boundary: np.ndarray | None = None
    predictions: np.ndarray | None = None
    kept: list = field(default_factory=list)


@torch.inference_mode()
def evaluate(run, full=False):
    """Evaluate `run.model` on `run.data.val` in batches of the training's size; see `Evaluation`.

    Logits are upsampled to the labels, never the labels resized. The loss terms are computed as in training, on the
    grid, batch by batch, and averaged over the images.
    """
    model, size = run.model.eval(), run.config.size
    count = len(run.data.val)
    kept = sorted(set(np.linspace(0, count - 1, min(count, KEPT_PREDICTIONS)).astype(int).tolist())) if full else []
    confusion, boundary, native, predictions, losses = [], [], 0, [], 0.0
    for indices, images, labels in run.loader(run.data.val, run.validation_batches()):
        scores = run.scores(images)
        terms = run.validation_loss.terms(scores, model.subsample(labels, scores.shape[-2:]))
        losses = losses + torch.stack(list(terms.values())).double() * len(indices)
        guess = model.upsample(scores, size).argmax(1)
        confusion.append(confusion_per_image(labels, guess))
        if full:
            boundary.append(boundary_f(labels, guess))
            predictions += [guess[i].to(torch.uint8).cpu().numpy() for i, index in enumerate(indices) if index in kept]
            native = native + native_confusion(run, scores, indices)
        run.watch("validate", run)
        run.stop.check()
    result = Evaluation(torch.cat(confusion).cpu().numpy(), dict(zip(terms, (losses / count).tolist(), strict=True)))
    if full:
        result.native = native.cpu().numpy() if run.data.native else None
        result.boundary = torch.cat(boundary).float().cpu().numpy()
        result.predictions, result.kept = np.stack(predictions), kept
    return result


def native_confusion(run, scores, indices):
    """Confusion `(C, C)` of the batch at the labels' own size; 0 where that is the input size."""
    if not run.data.native:
        return 0
    total = 0
    for score, index in zip(scores, indices, strict=True):
        labels = torch.from_numpy(run.data.val.full_labels(index)).to(score.device)[None]
        guess = run.model.upsample(score[None], labels.shape[-2:]).argmax(1)
        total = total + confusion_per_image(labels, guess)[0]
    return total
