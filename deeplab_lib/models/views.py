"""Images at several scales and mirrored, as the DeepLab papers train and test on them.

Chen et al., TPAMI 2018, section 4.1: scales in training and testing; 2017 and 2018: scales and flips in testing.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from deeplab_lib.models.network import SegmentationNetwork

TRAINING_SCALES = 0.75, 0.5  # at which a multi-scale loss sees the images once more
# name: (scale of the image, whether it is mirrored) of every view; the first is the image itself
VIEWS = {
    "none": ((1.0, False),),
    "flip": ((1.0, False), (1.0, True)),
    "multiscale": tuple(product((1.0, 0.75, 1.25), (False, True))),
}


def training_views(images: Tensor, multiscale: bool, stride: int) -> list[Tensor]:
    """`images (N, 3, H, W)` at every scale at which a network of `stride` is trained on them, a list."""
    return [images, *(view(images, scale, stride=stride) for scale in (TRAINING_SCALES if multiscale else ()))]


class Views:
    """What `model` says of a batch `images (N, 3, H, W)` seen as `VIEWS[tta]` says; `score(images)` gives grid logits.

    `plain` is the grid logits `(N, C, h, w)`, float32, of the images as they are.
    """

    def __init__(
        self, model: SegmentationNetwork, score: Callable[[Tensor], Tensor], images: Tensor, tta: str = "none"
    ) -> None:
        self.model, self.views = model, VIEWS[tta]
        self.logits = [score(view(images, *how, model.stride)).float() for how in self.views]
        self.plain = self.logits[0]

    def predict(self, size: Sequence[int], chosen: slice = slice(None)) -> Tensor:
        """Train ids `(n, H, W)` at `size` (H, W) of the images `chosen`, by the mean probability over the views."""
        images = range(len(self.plain))[chosen]
        return torch.cat([self.full_size(image, size).max(1).indices for image in images])

    def full_size(self, image: int, size: Sequence[int]) -> Tensor:
        """What `predict` takes the greatest of, `(1, C, H, W)` of one image: logits, of several views probabilities.

        One image at a time, because nothing else in an evaluation is as large; and `max(1)` because it is `argmax(1)`,
        four times faster on a CPU.
        """
        logits = [self.model.upsample(logits[image : image + 1], size) for logits in self.logits]
        if len(logits) == 1:
            return logits[0]
        p = [part.softmax(1) for part in logits]
        total: Any = sum(q.flip(-1) if mirrored else q for q, (_, mirrored) in zip(p, self.views, strict=True))
        return total / len(p)

    def log_probabilities(self, image: int, size: Sequence[int]) -> Tensor:
        """Logarithms of one image's class probabilities `(1, C, H, W)` at `size`, of their mean over the views."""
        found = self.full_size(image, size)
        if len(self.views) > 1:
            return found.log()
        # Classes last, as they lie in memory: as fast again on a CPU.
        return found.movedim(1, -1).log_softmax(-1).movedim(-1, 1)


def view(images: Tensor, scale: float, mirrored: bool = False, stride: int = 8) -> Tensor:
    """`images (N, 3, H, W)` at about `scale`, mirrored or not.

    Sides keep their remainder by `stride`: where cells of the network's grid lie in the image's corners, they do here.
    """
    if scale != 1:
        # By its size, not its factor, which would cut off a border at the right and below.
        size = [stride * round(scale * (side // stride)) + side % stride for side in images.shape[-2:]]
        images = F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=scale < 1)
    return images.flip(-1) if mirrored else images
