"""Images at several scales and mirrored, as the DeepLab papers train and test on them.

Chen et al., TPAMI 2018, section 4.1: scales in training and testing; 2017 and 2018: scales and flips in testing.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

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
        """Train ids `(n, H, W)` at `size` (H, W) of the images `chosen`, by the mean probability over the views.

        (`max(1).indices` is `argmax(1)`, four times faster on a CPU.)
        """
        if len(self.views) == 1:
            return self.model.upsample(self.plain[chosen], size).max(1).indices
        total: Any = 0
        for logits, (_, mirrored) in zip(self.logits, self.views, strict=True):
            p = self.model.upsample(logits[chosen], size).softmax(1)
            total = total + (p.flip(-1) if mirrored else p)
        return total.max(1).indices

    def log_probabilities(self, size: Sequence[int]) -> Tensor:
        """Logarithms of the class probabilities `(N, C, H, W)` at `size` (H, W), of their mean over the views."""
        if len(self.views) == 1:
            # Classes last, as they lie in memory: as fast again on a CPU.
            return self.model.upsample(self.plain, size).movedim(1, -1).log_softmax(-1).movedim(-1, 1)
        parts = [self.model.upsample(logits, size).softmax(1) for logits in self.logits]
        parts = [p.flip(-1) if mirrored else p for p, (_, mirrored) in zip(parts, self.views, strict=True)]
        total: Any = sum(parts)
        return (total / len(parts)).log()


def view(images: Tensor, scale: float, mirrored: bool = False, stride: int = 8) -> Tensor:
    """`images (N, 3, H, W)` at about `scale`, mirrored or not.

    Sides keep their remainder by `stride`: where cells of the network's grid lie in the image's corners, they do here.
    """
    if scale != 1:
        # By its size, not its factor, which would cut off a border at the right and below.
        size = [stride * round(scale * (side // stride)) + side % stride for side in images.shape[-2:]]
        images = F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=scale < 1)
    return images.flip(-1) if mirrored else images
