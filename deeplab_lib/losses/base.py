"""What every loss works on: the pixels of a batch, and the checks that all losses share."""

import math
from functools import cached_property
from typing import TYPE_CHECKING

from torch import Tensor, nn

from deeplab_lib.labels import IGNORE_INDEX


class Pixels:
    """One batch flattened to `(C, P)`, with the softmax and the one-hot labels that all terms share, made once."""

    def __init__(self, logits: Tensor, labels: Tensor, ignore_index: int = IGNORE_INDEX) -> None:
        if logits.dim() != 4 or labels.shape != (logits.shape[0], *logits.shape[2:]):
            raise ValueError(
                f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)}: want (N, C, h, w), (N, h, w)"
            )
        self.label_map, self.num_classes = labels, logits.shape[1]
        flat = labels.reshape(-1)
        self.valid = flat != ignore_index
        self.labels = flat.where(self.valid, 0)
        # Void logits become constants first: whatever stands there, even NaN, reaches neither value nor gradient.
        flat = logits.float().transpose(0, 1).reshape(self.num_classes, -1)
        self.log_p = flat.where(self.valid, 0).log_softmax(dim=0)

    @cached_property
    def p(self) -> Tensor:
        """Softmax `(C, P)`, zero at void."""
        return self.log_p.exp().where(self.valid, 0)

    @cached_property
    def onehot(self) -> Tensor:
        """Labels as bool `(C, P)`, False at void."""
        empty = self.valid.new_zeros(self.num_classes, len(self.labels))
        return empty.scatter_(0, self.labels[None], self.valid[None])

    @cached_property
    def present(self) -> Tensor:
        """Which classes occur in the labels, bool `(C,)`."""
        return self.onehot.any(dim=1)

    @cached_property
    def log_p_true(self) -> Tensor:
        """log p[i, y_i], `(P,)`."""
        return self.log_p.gather(0, self.labels[None])[0]

    def pixel_mean(self, values: Tensor) -> Tensor:
        """Mean over the valid pixels of `values (P,)`; 0 when there is none."""
        return (values * self.valid).sum() / self.valid.sum().clamp(min=1)

    def class_mean(self, values: Tensor) -> Tensor:
        """Mean over the present classes of `values (C,)`; 0 when there is none."""
        return values.where(self.present, 0).sum() / self.present.sum().clamp(min=1)


class Loss(nn.Module):
    """Base of the losses: `loss(logits (N, C, h, w), labels (N, h, w)) -> scalar`."""

    if TYPE_CHECKING:

        def __call__(self, logits: Tensor, labels: Tensor) -> Tensor: ...  # a module's own takes anything

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        check_labels(labels, logits.shape[1])
        return self.compute(Pixels(logits, labels))

    def compute(self, pixels: Pixels) -> Tensor:
        """The loss of a prepared batch, a scalar."""
        raise NotImplementedError


def check_option(name: str, value: float) -> float:
    if not 0 <= value < math.inf:
        raise ValueError(f"loss option {name} is {value!r}; it must be a finite number of at least 0")
    return float(value)


def check_labels(labels: Tensor, num_classes: int, ignore_index: int = IGNORE_INDEX) -> None:
    """Raise ValueError naming the first label that is neither a class nor void."""
    illegal = ((labels < 0) | (labels >= num_classes)) & (labels != ignore_index)
    if illegal.any():
        value = int(labels[illegal][0])
        raise ValueError(f"label {value} is neither a class (0 to {num_classes - 1}) nor void ({ignore_index})")
