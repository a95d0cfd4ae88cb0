"""The data of a run: the toy city or a Cityscapes folder, checked, cached at the input size, both splits opened."""

from dataclasses import dataclass

import numpy as np
from torch.utils.data import Dataset

from deeplab_lib import cache, cityscapes, toycity
from deeplab_lib.augment import count_classes


@dataclass(frozen=True)
class Data:
    """The two splits at the input size; `native` says whether the labels' own size is another one.

    class_counts: pixels of each class in each training image `(N, 19)`; None where nothing asks for them.
    """

    train: Dataset
    val: Dataset
    about: dict
    native: bool
    class_counts: np.ndarray | None = None


def check_data(config):
    """Make the toy city if it is wanted, and refuse data that a run would stumble over."""
    if config.toycity:
        train, val = config.scale.toycity
        toycity.write(config.data, train, val, size=config.scale.toycity_size, workers=None)
        if config.split == toycity.COARSE:
            toycity.write_coarse(config.data, train, workers=None)
    cityscapes.check(config.data, (config.split, "val"))


def prepare_data(config, normalization, say=print):
    """Check the data, see `check_data`, fill the cache of resized images, and open both splits."""
    check_data(config)
    info = cityscapes.describe(config.data, train=config.split)
    if info.counts["train"] < config.batch_size:
        raise ValueError(f"batch_size {config.batch_size} exceeds the {info.counts['train']} training images")
    about = {"name": config.dataset_name, "root": info.root, "synthetic": info.synthetic, "subset": info.subset}
    about |= {"fingerprint": info.fingerprint, "train": info.counts["train"], "val": info.counts["val"]}
    about |= {"split": config.split, "label_height": info.height, "label_width": info.width, "labels": info.labels}
    splits = (config.split, "val")
    train, val = (cache.cached(config.data, split, config.size, normalization, say=say) for split in splits)
    counts = count_classes(train) if config.needs_class_counts else None
    return Data(train, val, about, (info.height, info.width) != config.size, counts)
