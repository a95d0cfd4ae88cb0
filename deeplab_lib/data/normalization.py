"""How a decoded image becomes a network's input; which way is right is decided by the pretrained weights."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Normalization:
    """Turns a decoded RGB image into a network's input: `(image * scale - mean) / std`, channel by channel.

    `mean` and `std` are in the order of `channels` and in the units left by `scale`.
    """

    name: str
    channels: str  # "rgb" or "bgr"
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, image: np.ndarray) -> Tensor:
        """uint8 RGB `(H, W, 3)` to a contiguous float32 tensor `(3, H, W)`."""
        order = [2, 1, 0] if self.channels == "bgr" else [0, 1, 2]
        images = torch.from_numpy(np.asarray(image).transpose(2, 0, 1)[order].astype(np.float32))
        mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (self.mean, self.std))
        return images.mul_((self.scale / std).float()).sub_((mean / std).float())


RGB_IMAGENET = Normalization("rgb_imagenet", "rgb", 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
BGR_CAFFE = Normalization("bgr_caffe", "bgr", 1.0, (104.00698793, 116.66876762, 122.67891434), (1.0, 1.0, 1.0))
# What timm's weights want besides: to -1 ... 1, CLIP's, and nothing.
RGB_HALF = Normalization("rgb_half", "rgb", 1 / 255, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
RGB_CLIP = Normalization("rgb_clip", "rgb", 1 / 255, CLIP_MEAN, CLIP_STD)
RGB_UNIT = Normalization("rgb_unit", "rgb", 1 / 255, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
KNOWN = (RGB_IMAGENET, BGR_CAFFE, RGB_HALF, RGB_CLIP, RGB_UNIT)
NORMALIZATIONS = {normalization.name: normalization for normalization in KNOWN}
