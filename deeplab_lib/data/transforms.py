"""Random transforms of an image and its labels, which move together; what lies outside the image is void.

`flip` mirrors half of the images, and nothing else. `standard` is the practice of DeepLab: random scale from 0.5 to
2, a crop of the input's size, a horizontal flip (Chen et al., "Rethinking Atrous Convolution", 2017, section 4.1; in
TPAMI 2018, section 4.1, scales go from 0.5 to 1.5); and a jitter of the colours as in Liu et al., "SSD", ECCV 2016.
`strong` adds rotation, blur, lost colour and a wider jitter.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from deeplab_lib.common.types import Size
from deeplab_lib.labels import IGNORE_INDEX

SCALES = (0.5, 2.0)
Box = tuple[int, int, int, int]  # top, left, height and width in pixels


def make_transform(
    level: str, size: Size, fill: Sequence[int], tries: int = 1, rarity: np.ndarray | None = None
) -> "OnArrays":
    """The transform `level` to `size` (H, W), see `OnArrays`; for the other arguments see `RandomScaleCrop`."""
    if level == "flip":
        return OnArrays(v2.RandomHorizontalFlip())
    steps = [RandomScaleCrop(size, fill, tries, rarity), v2.RandomHorizontalFlip()]
    if level == "standard":
        steps += [v2.ColorJitter(brightness=0.125, contrast=0.5, saturation=0.5, hue=0.05)]
    elif level == "strong":
        outside = {tv_tensors.Image: fill, tv_tensors.Mask: IGNORE_INDEX}
        rotation = v2.RandomRotation(10, InterpolationMode.BILINEAR, fill=outside)
        steps += [v2.RandomApply([rotation], 0.5), v2.ColorJitter(0.4, 0.6, 0.6, 0.1), v2.RandomGrayscale(0.1)]
        steps += [v2.RandomApply([v2.GaussianBlur(5, (0.1, 1.5))], 0.3)]
    else:
        raise ValueError(f"augment is {level!r}; there are flip, standard and strong")
    return OnArrays(v2.Compose(steps))


class OnArrays:
    """`transform` of image uint8 `(H, W, 3)` and train ids uint8 `(H, W)`, to arrays of the same kind."""

    def __init__(self, transform: Callable) -> None:
        self.transform = transform

    def __call__(self, image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        picture = tv_tensors.Image(torch.from_numpy(image.transpose(2, 0, 1).copy()))
        mask = tv_tensors.Mask(torch.from_numpy(np.array(labels)))
        picture, mask = self.transform(picture, mask)
        return picture.permute(1, 2, 0).numpy(), mask.numpy()


class RandomScaleCrop:
    """A random part of image and labels, shown at a random scale and `size` (H, W) large.

    Of `tries` such parts the one is taken whose pixels are rarest, by the mean of `rarity (256,)` over them. fill: RGB
    of what lies outside the image.
    """

    def __init__(self, size: Size, fill: Sequence[int], tries: int = 1, rarity: np.ndarray | None = None) -> None:
        self.size, self.fill, self.tries = tuple(size), list(fill), tries
        self.rarity = np.ones(256) if rarity is None else rarity

    def __call__(self, image: tv_tensors.Image, labels: tv_tensors.Mask) -> tuple[Tensor, Tensor]:
        boxes = [self.draw(labels.shape[-2:]) for _ in range(self.tries)]
        box = boxes[0] if self.tries == 1 else max(boxes, key=lambda box: self.worth(labels, box))
        return self.cut(image, box), self.cut(labels, box)

    def draw(self, extent: Sequence[int]) -> Box:
        """Top, left, height and width of a part of an image of `extent` (H, W), in its pixels; it may reach outside."""
        scale, *place = torch.rand(3).tolist()
        scale = SCALES[0] + (SCALES[1] - SCALES[0]) * scale
        sides = [round(pixels / scale) for pixels in self.size]
        corner = [round(share * (full - side)) for share, full, side in zip(place, extent, sides, strict=True)]
        return corner[0], corner[1], sides[0], sides[1]

    def worth(self, labels: Tensor, box: Box) -> float:
        """Mean rarity of a part's pixels; those outside the image and void count 0."""
        top, left, height, width = box
        inside = labels[max(top, 0) : top + height, max(left, 0) : left + width].numpy()
        return float(self.rarity[inside].sum()) / (height * width)

    def cut(self, pixels: Tensor, box: Box) -> Tensor:
        """The part `box` of an image or of labels, at `size`."""
        labels, (height, width) = isinstance(pixels, tv_tensors.Mask), pixels.shape[-2:]
        top, left, tall, wide = box
        before, after = (max(-left, 0), max(-top, 0)), (max(left + wide - width, 0), max(top + tall - height, 0))
        padded = F.pad(pixels, [*before, *after], fill=IGNORE_INDEX if labels else self.fill)
        part = F.crop(padded, top + before[1], left + before[0], tall, wide)
        # torchvision's own way with masks depends on its version, and the older one shifts them by half a pixel.
        mode = InterpolationMode.NEAREST_EXACT if labels else InterpolationMode.BILINEAR
        plain = part.as_subclass(torch.Tensor)
        resized = F.resize(plain[None] if labels else plain, list(self.size), mode, antialias=True)
        return tv_tensors.wrap(resized[0] if labels else resized, like=pixels)
