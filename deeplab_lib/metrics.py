"""Confusion matrices, IoU as cityscapesScripts counts it, the boundary F-score, and calibration."""

from collections.abc import Callable
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from deeplab_lib.labels import CATEGORIES, CLASSES, IGNORE_INDEX, NUM_CLASSES
from deeplab_lib.losses.base import check_labels

CALIBRATION_BINS = 15  # of confidence, equally wide, as in Guo et al. 2017
_UNIT = 2**24  # confidences are added up as whole numbers of this part: every order gives the same sum
TURNS = 4  # sets of bins among which a CPU shares what it counts


def confusion_per_image(labels: Tensor, predictions: Tensor, num_classes: int = NUM_CLASSES) -> Tensor:
    """Confusion matrices `(N, C, C)` int64 of `labels` and `predictions` `(N, H, W)`: row = label, column = prediction.

    Pixels of no class, which are void, count nowhere. Computed where the tensors are, without reading anything back.
    """
    # Void has a row of its own, which is cut off: no mask, no data-dependent shape, so no waiting for the device.
    rows = num_classes + 1
    labels = labels.clamp(max=num_classes)
    narrow = torch.int16 if TURNS * rows * num_classes < 2**15 else torch.int32
    cells = torch.add(labels.to(narrow), predictions.to(narrow), alpha=rows)
    counts = torch.stack([count(image, rows * num_classes) for image in cells])
    return counts.view(-1, num_classes, rows)[..., :num_classes].transpose(1, 2)


def count(cells: Tensor, bins: int) -> Tensor:
    """How often each of 0 ... bins - 1 occurs in integer `cells`, which can hold `TURNS * bins`: int64 `(bins,)`."""
    if cells.is_cpu:
        # Neighbours mostly fall into one bin, and a CPU would wait for its last sum: sets of bins take turns.
        width = cells.shape[-1]
        turns = torch.arange(0, TURNS * bins, bins, dtype=cells.dtype).repeat(width // TURNS + 1)[:width]
        return torch.bincount((cells + turns).flatten(), minlength=TURNS * bins).view(TURNS, bins).sum(0)
    cells = cells.flatten()
    # A GPU's bincount waits for the largest value; adding up ones does not (but with deterministic kernels), and whole
    # numbers come out the same every time.
    ones = torch.ones_like(cells, dtype=torch.int64)
    return torch.zeros(bins, dtype=torch.int64, device=cells.device).scatter_add_(0, cells.long(), ones)


def iou(matrix: np.ndarray) -> np.ndarray:
    """IoU of every class in percent, `(..., C)`, of confusion matrices `(..., C, C)`.

    TP / (TP + FP + FN); NaN for a class with neither a labelled nor a predicted pixel.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    true_positives = np.diagonal(matrix, axis1=-2, axis2=-1)
    union = matrix.sum(-1) + matrix.sum(-2) - true_positives
    return 100 * np.divide(true_positives, union, out=np.full(union.shape, np.nan), where=union > 0)


def mean_iou(values: np.ndarray) -> float:
    """Mean over the classes that are not NaN, NaN if all are."""
    values = np.asarray(values, dtype=np.float64)
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


class ConfusionMatrix:
    """Running confusion matrix over any number of batches; independent of their size and order."""

    def __init__(self, num_classes: int = NUM_CLASSES, matrix: Tensor | None = None) -> None:
        self.num_classes = num_classes
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64) if matrix is None else matrix

    def update(self, labels: Tensor | np.ndarray, predictions: Tensor | np.ndarray) -> Self:
        """Add `labels` and `predictions`, integer `(N, H, W)` or `(H, W)`.

        Raises ValueError if the shapes differ, and, on a CPU, naming a label or prediction that is no class; a label
        may be void.
        """
        labels, predictions = (torch.as_tensor(t) for t in (labels, predictions))
        if labels.shape != predictions.shape:
            raise ValueError(f"labels {tuple(labels.shape)} and predictions {tuple(predictions.shape)} differ in shape")
        if labels.is_cpu and predictions.is_cpu:  # on a GPU, where only the training counts, a look would wait for it
            check_labels(labels, self.num_classes)
            _check_predictions(predictions, self.num_classes)
        shape = (-1, *labels.shape[-2:])
        added = confusion_per_image(labels.reshape(shape), predictions.reshape(shape), self.num_classes).sum(0)
        self.counts = self.counts.to(added.device) + added
        return self

    @property
    def matrix(self) -> np.ndarray:
        """The counts as numpy int64 `(C, C)`, row = label, column = prediction."""
        return self.counts.cpu().numpy()

    def iou(self) -> np.ndarray:
        """IoU of every class in percent, `(C,)`; NaN where a class is absent from labels and predictions."""
        return iou(self.matrix)

    def miou(self) -> float:
        """Mean of `iou()` over the classes that are not NaN, percent."""
        return mean_iou(self.iou())

    def pixel_accuracy(self) -> float:
        """Share of the valid pixels predicted right, percent; NaN without any."""
        total = self.matrix.sum()
        return float(100 * np.trace(self.matrix) / total) if total else float("nan")

    def category_iou(self) -> dict[str, float]:
        """IoU of the seven categories in percent, `{name: value}`, NaN where absent."""
        member = np.array([[label.category == name for label in CLASSES] for name in CATEGORIES], dtype=np.int64)
        return dict(zip(CATEGORIES, iou(member @ self.matrix @ member.T).tolist(), strict=True))


def _check_predictions(predictions: Tensor, num_classes: int) -> None:
    illegal = (predictions < 0) | (predictions >= num_classes)
    if illegal.any():
        raise ValueError(f"prediction {int(predictions[illegal][0])} is no class (0 to {num_classes - 1})")


def boundary_f(
    labels: Tensor, predictions: Tensor, num_classes: int = NUM_CLASSES, tolerance: float = 0.0075
) -> Tensor:
    """Boundary F-score in percent of each image, `(N,)`: `labels`, `predictions` `(N, H, W)`.

    For each class, precision and recall of its outline within `tolerance` of the image diagonal (at least one pixel);
    F averaged over the classes with an outline in label or prediction; NaN where there is none. Void is left out.
    After Csurka et al., "What is a good evaluation measure for semantic segmentation?", BMVC 2013.
    """
    height, width = labels.shape[-2:]
    radius = max(1, round(tolerance * (height**2 + width**2) ** 0.5))
    valid = labels != IGNORE_INDEX
    outline, predicted_outline = _outline(labels, valid), _outline(predictions, valid)
    correct, predicted = _matched(predictions, predicted_outline, _spread(labels, outline, radius), num_classes)
    recovered, labelled = _matched(labels, outline, _spread(predictions, predicted_outline, radius), num_classes)
    precision, recall = correct / predicted.clamp(min=1), recovered / labelled.clamp(min=1)
    score = 2 * precision * recall / (precision + recall).clamp(min=1e-12)
    return 100 * score.sum(1) / ((predicted > 0) | (labelled > 0)).sum(1)


def _outline(maps: Tensor, valid: Tensor) -> Tensor:
    """Where `maps (N, H, W)` have a neighbour of another class, bool; neither void nor the image border is one."""
    maps = maps.to(torch.uint8)  # a byte a pixel: a pool over floats takes ten times as long on a CPU
    highest = _among_neighbours(torch.maximum, (maps + 1).where(valid, 0), outside=0)
    lowest = _among_neighbours(torch.minimum, maps.where(valid, 255), outside=255)
    return valid & ((highest != maps + 1) | (lowest != maps))


def _among_neighbours(pick: Callable[[Tensor, Tensor], Tensor], maps: Tensor, outside: int) -> Tensor:
    """`pick` of each pixel of `maps (N, H, W)` and its eight neighbours; `outside`: what lies beyond the border."""
    for axis, around in ((1, (0, 0, 1, 1)), (2, (1, 1))):
        padded = F.pad(maps, around, value=outside)
        before, here, after = (padded.narrow(axis, start, maps.shape[axis]) for start in range(3))
        maps = pick(pick(before, here), after)
    return maps


def _spread(maps: Tensor, outline: Tensor, radius: int) -> Tensor:
    """Which classes' outlines pass within `radius` pixels, axis by axis: bit c of int32 `(N, H, W)` for class c.

    One plane of bits for all classes; windows double until they are wide enough.
    """
    bits = torch.ones_like(maps, dtype=torch.int32) << maps.where(outline, 0).int()
    near = F.pad(bits.where(outline, 0), (radius,) * 4)
    for axis in (1, 2):
        span = 1
        while span < 2 * radius + 1:
            step = min(span, 2 * radius + 1 - span)
            rest = near.shape[axis] - step
            near, span = near.narrow(axis, 0, rest) | near.narrow(axis, step, rest), span + step
    return near


def _matched(maps: Tensor, outline: Tensor, near: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Outline pixels of each class `(N, C)` where `near` has their class too, and all of them."""
    n = len(maps)
    image = torch.arange(n, device=maps.device).view(n, 1, 1)
    cells = (image * num_classes + maps.where(outline, 0).long()) * 2 + (near >> maps.where(outline, 0).int() & 1)
    cells = cells.where(outline, 2 * n * num_classes)
    counts = count(cells, 2 * n * num_classes + 1)[:-1].view(n, num_classes, 2)
    return counts[..., 1], counts.sum(-1)


def calibration_per_image(
    labels: Tensor, predictions: Tensor, confidence: Tensor, bins: int = CALIBRATION_BINS
) -> tuple[Tensor, Tensor, Tensor]:
    """How often predictions of which confidence are right: counts, summed confidence and hits, `(N, bins)` each.

    `labels`, `predictions` `(N, H, W)`, `confidence` `(N, H, W)`: the probability of the predicted class. Bin m of M
    holds confidences in (m/M, (m + 1)/M], as in Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    Void is left out. Counts and hits are int64, the sums float64.
    """
    n = len(labels)
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1
    place = place.where(labels != IGNORE_INDEX, bins)  # void has a bin of its own, which is cut off
    place = (place + (bins + 1) * torch.arange(n, device=labels.device).view(n, 1, 1)).flatten()
    parts = torch.stack([torch.ones_like(labels), (confidence * _UNIT).round().long(), (labels == predictions).long()])
    sums = torch.zeros(3, n * (bins + 1), dtype=torch.int64, device=labels.device)
    sums.scatter_add_(1, place.expand(3, -1), parts.view(3, -1))
    counts, confident, hits = sums.view(3, n, bins + 1)[..., :bins].cpu()
    return counts, confident.double() / _UNIT, hits


def calibration_error(counts: np.ndarray, confidence: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Expected calibration error in percent of `counts`, summed `confidence` and `hits` `(..., bins)`; NaN without any.

    The mean over all pixels of |accuracy - confidence| of their bin (Guo et al. 2017, equation 3). Equally wide bins
    hide errors of opposite sign within a bin, and almost every pixel of a segmentation falls into the last one: a
    lower bound of the true error, and the more so the fewer the bins (Nixon et al., "Measuring Calibration in Deep
    Learning", CVPR Workshops 2019).
    """
    counts, confidence, hits = (np.asarray(values, dtype=np.float64) for values in (counts, confidence, hits))
    total = counts.sum(-1)
    return 100 * np.divide(np.abs(hits - confidence).sum(-1), total, out=np.full(total.shape, np.nan), where=total > 0)
