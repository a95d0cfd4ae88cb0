"""The network that is tested: an average of the trained one's weights over time.

After Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992, in the exponential form of
Tarvainen and Valpola, "Mean teachers", NeurIPS 2017.
"""

import copy

import torch

from deeplab_lib.models.network import SegmentationNetwork


class Average:
    """Exponential moving average of a network, `model`, batch-norm statistics averaged like the weights.

    decay: share of the average kept at a step. The first steps keep (1 + t) / (10 + t), or the average would long be
    that of the random start.
    """

    def __init__(self, model: SegmentationNetwork, decay: float) -> None:
        self.model, self.decay = copy.deepcopy(model).eval(), decay

    @torch.no_grad()
    def update(self, model: SegmentationNetwork, step: int) -> None:
        """Take in `model` as it is after optimiser step `step` (0-based)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for mean, new in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(new, 1 - decay)
            else:
                mean.copy_(new)


class NoAverage:
    """Stands for an average where there is none: what is evaluated is the network in training."""

    def __init__(self, model: SegmentationNetwork) -> None:
        self.model = model

    def update(self, model: SegmentationNetwork, step: int) -> None:
        """There is nothing to take in."""
