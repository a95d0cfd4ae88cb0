"""The one way from images to predictions: that of training's evaluations, of lessons, live pictures and photographs."""

import torch
from torch import Tensor

from deeplab_lib.common import devices
from deeplab_lib.models.folding import folded
from deeplab_lib.models.network import SegmentationNetwork
from deeplab_lib.models.views import Views


class Predictor:
    """What `model` says of images in eval mode, in mixed precision `amp`, seen in the views of `tta`.

    It is of the network as it is when this is made, batch norms folded. The network itself, its mode too, stays as it
    is.
    """

    def __init__(self, model: SegmentationNetwork, amp: str = "off", tta: str = "none") -> None:
        self.model, self.amp, self.tta = folded(model), amp, tta

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Views:
        """The `Views` of `images (N, 3, H, W)`, which lie where the network does; no gradients are recorded."""
        with devices.autocast(images.device, self.amp):
            return Views(self.model, self.model.grid_logits, images, self.tta)
