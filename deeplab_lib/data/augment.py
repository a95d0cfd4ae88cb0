"""Augmentation: every training image seen anew each epoch, at another scale, place, side and light.

The random choices are those of (seed, epoch, image) and of nothing else, so that they do not depend on the number of
workers or processes, nor on where a run was interrupted. What is done to an image stands in `transforms`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from deeplab_lib.common.seeds import key
from deeplab_lib.data.normalization import Normalization
from deeplab_lib.labels import NUM_CLASSES

if TYPE_CHECKING:
    from deeplab_lib.config import Config
    from deeplab_lib.data.cityscapes import Cityscapes
    from deeplab_lib.data.dataset import Data

LEVELS = ("none", "flip", "standard", "strong")


def augmented(data: Data, config: Config, epoch: int) -> Cityscapes | Augmented:
    """The training images of `data` as `epoch` sees them; `augment=none` gives them as they are."""
    if config.augment == "none":
        return data.train
    from deeplab_lib.data.transforms import (
        make_transform,  # not at the top: torchvision takes as long to import as torch
    )

    fill = padding_colour(data.train.normalization)
    rarity = class_rarity(data.class_counts) if config.crops > 1 and data.class_counts is not None else None
    transform = make_transform(config.augment, config.size, fill, config.crops, rarity)
    return Augmented(data.train, transform, (config.seed, "augment", epoch))


class Augmented(Dataset):
    """A data set whose images and labels pass through `transform`, seeded by `prefix` and the image's number."""

    def __init__(self, source: Cityscapes, transform: Callable, prefix: tuple) -> None:
        self.source, self.transform, self.prefix, self.pairs = source, transform, prefix, source.pairs

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Image float `(3, H, W)` and labels int64 `(H, W)`."""
        image, labels = self.raw(index)
        return self.source.normalization(image), torch.from_numpy(labels.astype(np.int64))

    def raw(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image uint8 `(H, W, 3)` and train ids uint8 `(H, W)`."""
        # The transforms draw from torch's CPU generator; a GPU's is left alone.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(key(*self.prefix, index))
            return self.transform(*self.source.raw(index))


def padding_colour(normalization: Normalization) -> list[int]:
    """RGB, 0 to 255, of the colour that `normalization` turns into about 0."""
    colour = [round(value / normalization.scale) for value in normalization.mean]
    return colour[::-1] if normalization.channels == "bgr" else colour


def class_rarity(counts: np.ndarray) -> np.ndarray:
    """Rarity of every label value `(256,)`: -log of the class's share of the training pixels, 0 for void.

    counts: pixels of each class in each image `(N, 19)`.
    """
    pixels = counts.sum(0)
    rarity = np.zeros(256)
    rarity[:NUM_CLASSES] = -np.log(pixels.clip(min=1) / max(pixels.sum(), 1))
    return rarity


def count_classes(dataset: Cityscapes) -> np.ndarray:
    """Pixels of each class in each image of a data set, int64 `(N, 19)`."""
    labels = (dataset.raw(index)[1] for index in range(len(dataset)))
    return np.stack([np.bincount(np.ravel(image), minlength=256)[:NUM_CLASSES] for image in labels])
