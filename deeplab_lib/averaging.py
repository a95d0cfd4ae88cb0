"""The network that is tested: an average of the trained one's weights over time, and of its answers over views.

Averaging weights after Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992, in the
exponential form of Tarvainen and Valpola, "Mean teachers", NeurIPS 2017. Averaging over mirrored and resized images is
the testing of the DeepLab papers (Chen et al., TPAMI 2018, section 4.1: scales; 2017 and 2018: scales and flips).
"""

import copy
from itertools import product

import torch
from torch.nn import functional as F

# name: (scale of the image, whether it is mirrored) of every view; the first is the image itself
VIEWS = {
    "none": ((1.0, False),),
    "flip": ((1.0, False), (1.0, True)),
    "multiscale": tuple(product((1.0, 0.75, 1.25), (False, True))),
}


class Average:
    """Exponential moving average of a network, `model`, batch-norm statistics averaged like the weights.

    decay: share of the average kept at a step. The first steps keep (1 + t) / (10 + t), or the average would long be
    that of the random start.
    """

    def __init__(self, model, decay):
        self.model, self.decay = copy.deepcopy(model).eval(), decay

    @torch.no_grad()
    def update(self, model, step):
        """Take in `model` as it is after optimiser step `step` (0-based)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for mean, new in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(new, 1 - decay)
            else:
                mean.copy_(new)


class Views:
    """What `model` says of a batch `images (N, 3, H, W)` seen as `VIEWS[tta]` says; `score(images)` gives grid logits.

    `plain` is the grid logits `(N, C, h, w)` of the images as they are.
    """

    def __init__(self, model, score, images, tta="none"):
        self.model, self.views = model, VIEWS[tta]
        self.scores = [score(view(images, *how, model.stride)) for how in self.views]
        self.plain = self.scores[0]

    def guess(self, size, chosen=slice(None)):
        """Train ids `(n, H, W)` at `size` (H, W) of the images `chosen`, by the mean probability over the views.

        (`max(1).indices` is `argmax(1)`, four times faster on a CPU.)
        """
        if len(self.views) == 1:
            return self.model.upsample(self.plain[chosen], size).max(1).indices
        total = 0
        for scores, (_, mirrored) in zip(self.scores, self.views, strict=True):
            p = self.model.upsample(scores[chosen].float(), size).softmax(1)
            total = total + (p.flip(-1) if mirrored else p)
        return total.max(1).indices


def view(images, scale, mirrored=False, stride=8):
    """`images (N, 3, H, W)` at about `scale`, mirrored or not.

    Sides keep their remainder by `stride`: where cells of the network's grid lie in the image's corners, they do here.
    """
    if scale != 1:
        # By its size, not its factor, which would cut off a border at the right and below.
        size = [stride * round(scale * (side // stride)) + side % stride for side in images.shape[-2:]]
        images = F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=scale < 1)
    return images.flip(-1) if mirrored else images
