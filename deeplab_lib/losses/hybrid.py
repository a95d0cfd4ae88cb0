"""Losses beyond the study's five: cross-entropy that looks at chosen pixels or classes, and focal forms of overlap.

They are further terms of the expression that `losses.make_loss` reads, under the same rules: means over the valid
pixels of the whole batch, classes absent from the labels left out, void without value or gradient.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from deeplab_lib.labels import IGNORE_INDEX
from deeplab_lib.losses.base import Loss, Pixels, check_option

SMALL = 1e-12  # floor under a power below 1, whose slope at 0 is infinite


class FocalTverskyLoss(Loss):
    """Mean over c of (1 - TI_c)^(1 / gamma), TI the Tversky index (Abraham and Khan, ISBI 2019, eq. 4).

    The slope at a class is its (1 - TI_c)^(1 / gamma - 1) / gamma: with gamma above 1, the paper's choice, classes that
    are nearly right keep pulling; below 1, classes that are segmented badly pull more. Options as in `tversky`: beta
    weighs what is missed, alpha what is claimed wrongly. In the paper it is the reverse: its alpha is our beta.
    """

    def __init__(self, alpha: float = 0.3, beta: float = 0.7, gamma: float = 4 / 3) -> None:
        super().__init__()
        self.alpha, self.beta = check_option("alpha", alpha), check_option("beta", beta)
        self.gamma = check_positive("gamma", gamma)
        if self.alpha + self.beta == 0:
            raise ValueError("focal_tversky: alpha and beta are both 0; one must be positive")

    def compute(self, pixels: Pixels) -> Tensor:
        return pixels.class_mean(tversky_miss(pixels, self.alpha, self.beta).clamp(min=SMALL) ** (1 / self.gamma))


class UnifiedFocalLoss(Loss):
    """lambda L_mF + (1 - lambda) L_mFT, the unified focal loss (Yeung et al., Comput. Med. Imaging Graph. 95, 2022).

    The symmetric form, for the paper's asymmetric one needs a background class: L_mF is the mean over pixels of
    -delta (1 - p[i, y_i])^(1 - gamma) log p[i, y_i]; L_mFT the mean over c of (1 - TI_c)^gamma with delta weighing what
    is missed and 1 - delta what is claimed wrongly. `mix` is lambda.
    """

    def __init__(self, mix: float = 0.5, delta: float = 0.6, gamma: float = 0.5) -> None:
        super().__init__()
        self.mix, self.delta, self.gamma = (
            check_share("mix", mix),
            check_share("delta", delta),
            check_share("gamma", gamma),
        )

    def compute(self, pixels: Pixels) -> Tensor:
        error = (-torch.expm1(pixels.log_p_true)).clamp(min=SMALL)
        focal = pixels.pixel_mean(-self.delta * error ** (1 - self.gamma) * pixels.log_p_true)
        miss = tversky_miss(pixels, 1 - self.delta, self.delta).clamp(min=SMALL)
        return self.mix * focal + (1 - self.mix) * pixels.class_mean(miss**self.gamma)


class BoundaryLoss(Loss):
    """Cross-entropy in which a pixel within `width` of a boundary between two classes counts 1 + `weight` times.

    After the border weights of U-Net (Ronneberger et al., MICCAI 2015, eq. 2), with a band in place of their decay. A
    border to void is no boundary: there the annotators left the class open. Distances are cells of the labels' grid.
    """

    def __init__(self, weight: float = 4.0, width: float = 1.0) -> None:
        super().__init__()
        self.weight, self.width = check_option("weight", weight), check_positive("width", width)
        if self.width != int(self.width):
            raise ValueError(f"loss option width is {width!r}; it must be a whole number of cells")

    def compute(self, pixels: Pixels) -> Tensor:
        near = near_boundary(pixels.label_map, int(self.width)).reshape(-1)
        return weighted_mean(pixels, 1 + self.weight * near)


class OhemLoss(Loss):
    """Cross-entropy over the share `keep` of the batch's pixels that are hardest: online hard example mining.

    Shrivastava et al., CVPR 2016; for pixels, Wu et al., "Bridging Category-level and Instance-level Semantic Image
    Segmentation", 2016. At least one pixel is kept.
    """

    def __init__(self, keep: float = 0.25) -> None:
        super().__init__()
        self.keep = check_share("keep", check_positive("keep", keep))

    def compute(self, pixels: Pixels) -> Tensor:
        losses = (-pixels.log_p_true).masked_fill(~pixels.valid, -1).sort(descending=True).values
        kept = (self.keep * pixels.valid.sum()).ceil()
        hardest = torch.arange(len(losses), device=losses.device) < kept
        return (losses * hardest).sum() / kept.clamp(min=1)


class ClassWeightedLoss(Loss):
    """Cross-entropy weighted by class: sum of w_y -log p over sum of w_y.

    The weights come from the training labels through `set_class_counts`; until then every class weighs 1.
    """

    weights: Tensor | None = None

    def compute(self, pixels: Pixels) -> Tensor:
        if self.weights is None:
            return pixels.pixel_mean(-pixels.log_p_true)
        self.weights = self.weights.to(pixels.log_p.device)
        return weighted_mean(pixels, self.weights[pixels.labels])

    def set_class_counts(self, counts: np.ndarray) -> None:
        """Make the weights `(C,)` from the pixels of each class in each training image `(N, C)`.

        A class that never occurs there weighs as much as the weightiest that does.
        """
        weights = np.full(counts.shape[1], np.nan)
        present = counts.any(axis=0)
        weights[present] = self.class_weights(counts[:, present])
        self.weights = torch.from_numpy(np.nan_to_num(weights, nan=np.nanmax(weights))).float()

    def class_weights(self, counts: np.ndarray) -> np.ndarray:
        """Weights `(C,)` of classes that all occur, from their pixels in each image `(N, C)`."""
        raise NotImplementedError


class MedianFrequencyLoss(ClassWeightedLoss):
    """Class weights median(f) / f_c, f_c the share of class c in the images that show it (Eigen and Fergus, ICCV 2015,
    section 6.3.2)."""

    def class_weights(self, counts: np.ndarray) -> np.ndarray:
        frequency = counts.sum(0) / ((counts > 0) * counts.sum(1, keepdims=True)).sum(0)
        return np.median(frequency) / frequency


class EffectiveNumberLoss(ClassWeightedLoss):
    """Class weights (1 - beta) / (1 - beta^n_c), their mean 1 (Cui et al., CVPR 2019, eq. 4).

    n_c counts the training images that show class c: pixels of one image are no independent samples, and there are so
    many that every beta^n would vanish.
    """

    def __init__(self, beta: float = 0.999) -> None:
        super().__init__()
        self.beta = check_share("beta", beta)
        if self.beta == 1:
            raise ValueError("loss option beta is 1; it must be below 1")

    def class_weights(self, counts: np.ndarray) -> np.ndarray:
        weights = (1 - self.beta) / (1 - self.beta ** (counts > 0).sum(0))
        return weights / weights.mean()


HYBRID_TERMS = {
    "focal_tversky": FocalTverskyLoss,
    "unified_focal": UnifiedFocalLoss,
    "boundary_ce": BoundaryLoss,
    "ohem": OhemLoss,
    "median_ce": MedianFrequencyLoss,
    "effective_ce": EffectiveNumberLoss,
}


def tversky_miss(pixels: Pixels, alpha: float, beta: float) -> Tensor:
    """1 - TI_c of every class `(C,)`, as (alpha FP + beta FN) / (TP + alpha FP + beta FN), exact down to 0."""
    true_positives = (pixels.p * pixels.onehot).sum(dim=1)
    false_positives = (pixels.p * ~pixels.onehot).sum(dim=1)
    false_negatives = (-torch.expm1(pixels.log_p) * pixels.onehot).sum(dim=1)
    wrong = alpha * false_positives + beta * false_negatives
    return wrong / (true_positives + wrong).clamp(min=SMALL)


def near_boundary(labels: Tensor, width: int) -> Tensor:
    """Which pixels of `labels (N, h, w)` lie within `width` cells (in rows and columns) of another class: bool."""
    edge = torch.zeros_like(labels, dtype=torch.bool)
    for axis in (1, 2):
        here, there = labels.narrow(axis, 0, labels.shape[axis] - 1), labels.narrow(axis, 1, labels.shape[axis] - 1)
        change = (here != there) & (here != IGNORE_INDEX) & (there != IGNORE_INDEX)
        edge.narrow(axis, 0, change.shape[axis]).logical_or_(change)
        edge.narrow(axis, 1, change.shape[axis]).logical_or_(change)
    return F.max_pool2d(edge[:, None].float(), 2 * width - 1, stride=1, padding=width - 1)[:, 0] > 0


def weighted_mean(pixels: Pixels, weights: Tensor) -> Tensor:
    """Mean over the valid pixels of -log p[i, y_i] with `weights (P,)`; 0 when there is none."""
    weights = weights * pixels.valid
    return (weights * -pixels.log_p_true).sum() / weights.sum().clamp(min=SMALL)


def check_positive(name: str, value: float) -> float:
    if check_option(name, value) == 0:
        raise ValueError(f"loss option {name} is 0; it must be positive")
    return float(value)


def check_share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"loss option {name} is {value:g}; it must lie between 0 and 1")
    return float(value)
