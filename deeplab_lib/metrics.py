"""Confusion matrices, IoU as cityscapesScripts counts it, and the boundary F-score."""

import numpy as np
import torch
from torch.nn import functional as F

from .labels import CATEGORIES, CLASSES, IGNORE_INDEX, NUM_CLASSES


def confusion_per_image(labels, predictions, num_classes=NUM_CLASSES, ignore_index=IGNORE_INDEX):
    """Confusion matrices `(N, C, C)` int64 of `labels` and `predictions` `(N, H, W)`: row = label, column = prediction.

    Void pixels count nowhere. Computed where the tensors are, without reading anything back.
    """
    n = len(labels)
    valid = labels != ignore_index
    image = torch.arange(n, device=labels.device).view(n, 1, 1)
    cells = (image * num_classes + labels.where(valid, 0).long()) * num_classes + predictions.long()
    # Void goes to one extra cell at the end, which is cut off: no data-dependent shape, so no waiting for the device.
    cells = cells.where(valid, n * num_classes**2)
    counts = torch.bincount(cells.flatten(), minlength=n * num_classes**2 + 1)[:-1]
    return counts.view(n, num_classes, num_classes)


def iou(matrix):
    """IoU of every class in percent, `(..., C)`, of confusion matrices `(..., C, C)`.

    TP / (TP + FP + FN); NaN for a class with neither a labelled nor a predicted pixel.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    true_positives = np.diagonal(matrix, axis1=-2, axis2=-1)
    union = matrix.sum(-1) + matrix.sum(-2) - true_positives
    return 100 * np.divide(true_positives, union, out=np.full(union.shape, np.nan), where=union > 0)


def mean_iou(values):
    """Mean over the classes that are not NaN, NaN if all are."""
    values = np.asarray(values, dtype=np.float64)
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


class ConfusionMatrix:
    """Running confusion matrix over any number of batches; independent of their size and order."""

    def __init__(self, num_classes=NUM_CLASSES, matrix=None):
        self.num_classes = num_classes
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64) if matrix is None else matrix

    def update(self, labels, predictions):
        """Add `labels` and `predictions`, integer `(N, H, W)` or `(H, W)`; raises ValueError if the shapes differ."""
        labels, predictions = (torch.as_tensor(t) for t in (labels, predictions))
        if labels.shape != predictions.shape:
            raise ValueError(f"labels {tuple(labels.shape)} and predictions {tuple(predictions.shape)} differ in shape")
        shape = (-1, *labels.shape[-2:])
        added = confusion_per_image(labels.reshape(shape), predictions.reshape(shape), self.num_classes).sum(0)
        self.counts = self.counts.to(added.device) + added
        return self

    @property
    def matrix(self):
        """The counts as numpy int64 `(C, C)`, row = label, column = prediction."""
        return self.counts.cpu().numpy()

    def iou(self):
        """IoU of every class in percent, `(C,)`; NaN where a class is absent from labels and predictions."""
        return iou(self.matrix)

    def miou(self):
        """Mean of `iou()` over the classes that are not NaN, percent."""
        return mean_iou(self.iou())

    def pixel_accuracy(self):
        """Share of the valid pixels predicted right, percent; NaN without any."""
        total = self.matrix.sum()
        return float(100 * np.trace(self.matrix) / total) if total else float("nan")

    def category_iou(self):
        """IoU of the seven categories in percent, `{name: value}`, NaN where absent."""
        member = np.array([[label.category == name for label in CLASSES] for name in CATEGORIES], dtype=np.int64)
        return dict(zip(CATEGORIES, iou(member @ self.matrix @ member.T).tolist(), strict=True))


def boundary_f(labels, predictions, num_classes=NUM_CLASSES, tolerance=0.0075):
    """Boundary F-score in percent of each image, `(N,)`: `labels`, `predictions` `(N, H, W)`.

    For each class, precision and recall of its outline within `tolerance` of the image diagonal (at least one pixel);
    F averaged over the classes with an outline in label or prediction; NaN where there is none. Void is left out.
    After Csurka et al., "What is a good evaluation measure for semantic segmentation?", BMVC 2013.
    """
    height, width = labels.shape[-2:]
    radius = max(1, round(tolerance * (height**2 + width**2) ** 0.5))
    return torch.stack([_boundary_f(y, p, num_classes, radius) for y, p in zip(labels, predictions, strict=True)])


def _boundary_f(labels, predictions, num_classes, radius):
    valid = labels != IGNORE_INDEX
    classes = torch.arange(num_classes, device=labels.device).view(-1, 1, 1)
    # Void joins every class here, so that an edge towards void is nobody's outline.
    truth, guess = (_outline((maps == classes) | ~valid) & valid for maps in (labels, predictions))
    found = (guess & _grow(truth, radius)).sum((1, 2)) / guess.sum((1, 2)).clamp(min=1)
    recalled = (truth & _grow(guess, radius)).sum((1, 2)) / truth.sum((1, 2)).clamp(min=1)
    score = 2 * found * recalled / (found + recalled).clamp(min=1e-12)
    exists = truth.any(-1).any(-1) | guess.any(-1).any(-1)
    return 100 * score.where(exists, 0).sum() / exists.sum() if exists.any() else torch.tensor(float("nan"))


def _outline(masks):
    """Pixels of `masks (C, H, W)` with a neighbour outside; the image border is no outline."""
    return masks & ~(-F.max_pool2d(-masks.float(), 3, 1, 1)).bool()


def _grow(masks, radius):
    """`masks` grown by `radius` pixels to a square, one axis after the other."""
    grown = F.max_pool2d(masks.float(), (2 * radius + 1, 1), 1, (radius, 0))
    return F.max_pool2d(grown, (1, 2 * radius + 1), 1, (0, radius)).bool()
