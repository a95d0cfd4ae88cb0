"""The study's five losses.

Each loss takes `logits (N, C, h, w)` (any float type; computed in float32) and `labels (N, h, w)` int64 with
`ignore_index` for void, and returns a scalar over the valid pixels i of the **whole batch**. Below, p = softmax of the
logits, y the labels, g their one-hot form, and c runs over the classes present in the labels (absent classes are left
out of the mean). Void pixels have exactly zero gradient; a batch of nothing but void gives 0.
"""

import numpy as np
import torch
from torch import Tensor

from deeplab_lib.losses.base import Loss, Pixels, check_option


class CrossEntropyLoss(Loss):
    """Mean over pixels of -log p[i, y_i] (Goodfellow et al., "Deep Learning", 2016, section 6.2)."""

    def compute(self, pixels: Pixels) -> Tensor:
        return pixels.pixel_mean(-pixels.log_p_true)


class FocalLoss(Loss):
    """Mean over pixels of -(1 - p[i, y_i])^gamma log p[i, y_i] (Lin et al., ICCV 2017, eq. 4; alpha_t = 1)."""

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = check_option("gamma", gamma)

    def compute(self, pixels: Pixels) -> Tensor:
        # The floor keeps the gradient finite where p rounds to 1 and gamma is below 1.
        miss = (-torch.expm1(pixels.log_p_true)).clamp(min=1e-12)
        return pixels.pixel_mean(-(miss**self.gamma) * pixels.log_p_true)


class TverskyLoss(Loss):
    """1 - mean over c of TP / (TP + alpha FP + beta FN) (Salehi et al., MLMI 2017, eq. 3).

    TP = sum p g, FP = sum p (1 - g), FN = sum (1 - p) g. beta weighs what is missed, alpha what is claimed wrongly.
    """

    def __init__(self, alpha: float = 0.3, beta: float = 0.7) -> None:
        super().__init__()
        self.alpha, self.beta = check_option("alpha", alpha), check_option("beta", beta)
        if self.alpha + self.beta == 0:
            raise ValueError("tversky: alpha and beta are both 0; one must be positive")

    def compute(self, pixels: Pixels) -> Tensor:
        return pixels.class_mean(1 - self.index(pixels))

    def index(self, pixels: Pixels) -> Tensor:
        """The Tversky index of every class, `(C,)`."""
        true_positives = (pixels.p * pixels.onehot).sum(dim=1)
        false_positives = pixels.p.sum(dim=1) - true_positives
        false_negatives = pixels.onehot.sum(dim=1) - true_positives
        total = true_positives + self.alpha * false_positives + self.beta * false_negatives
        return true_positives / total.clamp(min=1e-12)


class DiceLoss(TverskyLoss):
    """1 - mean over c of 2 |P G| / (|P| + |G|), denominators not squared (after Milletari et al., 3DV 2016).

    Exactly `TverskyLoss(0.5, 0.5)`.
    """

    def __init__(self) -> None:
        super().__init__(alpha=0.5, beta=0.5)


class LovaszLoss(Loss):
    """Lovasz-Softmax: mean over c of the Lovasz extension of the Jaccard loss (Berman et al., CVPR 2018, eqs. 8-12).

    The errors |g - p| of every class are sorted downwards at once; each is weighted by how much the Jaccard loss grows
    when its pixel joins the mistakes.
    """

    def compute(self, pixels: Pixels) -> Tensor:
        slopes = lovasz_slopes(pixels.p.detach(), pixels.onehot, pixels.valid)
        # An error weighs as much as its slope; it is p where the slope rises, and 1 - p where it falls.
        return pixels.class_mean((slopes * pixels.p).sum(dim=1) - slopes.clamp(max=0).sum(dim=1))


def lovasz_slopes(p: Tensor, onehot: Tensor, valid: Tensor) -> Tensor:
    """Gradient of the Lovasz extension of every class with respect to `p (C, P)`; 0 for classes without a pixel.

    onehot: g, bool `(C, P)`; valid: bool `(P,)`.
    """
    # Leaving absent classes out needs their number, for which a GPU would have to be waited for; a CPU knows it.
    rows = onehot.any(dim=1).nonzero()[:, 0] if p.is_cpu else slice(None)
    p_rows, foreground = p[rows], onehot[rows]
    # Void pixels sort behind everything else, so they take part in no other pixel's weight.
    order = ascending(torch.where(foreground, p_rows - 1, -p_rows).add_((~valid).float()))
    foreground = foreground.gather(1, order)
    growth = jaccard_growth(foreground)
    slopes = torch.zeros_like(p)
    slopes[rows] = torch.empty_like(growth).scatter_(1, order, torch.where(foreground, -growth, growth))
    return slopes


def ascending(values: Tensor) -> Tensor:
    """Indices that sort every row of `values (C, P)`. On a CPU, NumPy's vectorised sort is five times PyTorch's."""
    return torch.from_numpy(np.argsort(values.numpy(), axis=1)) if values.is_cpu else values.argsort(dim=1)


def jaccard_growth(foreground: Tensor) -> Tensor:
    """Growth of the Jaccard loss 1 - I/U as the pixels become mistakes one by one: `(C, P)` bool to float.

    A foreground pixel takes 1 from I: growth 1/U. A background pixel adds 1 to U: I/(U - 1) - I/U = I / (U (U - 1)).
    Written so, nothing cancels, as it does in the difference of neighbouring values.
    """
    hits = foreground.cumsum(dim=1, dtype=torch.int32)
    intersection = (hits[:, -1:] - hits).float()
    union = intersection + torch.arange(1, hits.shape[1] + 1, device=hits.device)
    return torch.where(foreground, 1.0, intersection.div_((union - 1).clamp_(min=1))).div_(union)
