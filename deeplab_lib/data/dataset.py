"""The data of a run: the toy city or a Cityscapes folder, checked, cached at the input size, both splits opened."""

import errno
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from deeplab_lib import toycity
from deeplab_lib.common.errors import short_traceback
from deeplab_lib.data import cache, cityscapes, label_files
from deeplab_lib.data.augment import count_classes
from deeplab_lib.labels import IGNORE_INDEX


@dataclass(frozen=True)
class Data:
    """The two splits at the input size; `native` says whether a validation label's own size is another one.

    class_counts: pixels of each class in each training image `(N, 19)`; None where nothing asks for them.
    """

    train: Dataset
    val: Dataset
    about: dict
    native: bool
    class_counts: np.ndarray | None = None


def check_data(config):
    """Make the toy city if it is wanted, and refuse data that a run would stumble over."""
    draw_toycity(config)
    cityscapes.check(config.data, (config.split, "val"))


def draw_toycity(config):
    """Make the toy city if it is wanted and not there."""
    if not config.toycity:
        return
    train, val = config.scale.toycity
    try:
        toycity.write(config.data, train, val, size=config.scale.toycity_size, workers=None)
        if config.split == toycity.COARSE:
            toycity.write_coarse(config.data, train, workers=None)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        home = f"cannot write the toy city to {config.data} ({error.strerror})"
        raise ValueError(f"{home}: set DEEPLAB_DATA to a folder that can be written") from None


def prepare_data(config, normalization, say=print):
    """Check the data as `check_data` does, fill the cache of resized images, and open both splits."""
    draw_toycity(config)
    info = cityscapes.describe(config.data, train=config.split)
    if info.counts["train"] < config.batch_size:
        raise ValueError(f"batch_size {config.batch_size} exceeds the {info.counts['train']} training images")
    about = {"name": config.dataset_name, "root": info.root, "synthetic": info.synthetic, "subset": info.subset}
    about |= {"fingerprint": info.fingerprint, "train": info.counts["train"], "val": info.counts["val"]}
    height, width = info.label_size
    about |= {"split": config.split, "label_height": height, "label_width": width, "labels": info.labels}
    train, val = (
        cache.cached(config.data, split, config.size, normalization, say=say, digest=digest)
        for split, digest in info.digests.items()
    )
    verdict = judge_labels(dict(zip(info.digests, (train, val), strict=True)), info)
    if verdict.warning:
        say(f"note: {verdict.warning}")
    about["label_files"] = verdict.about
    for split, data in zip(info.digests, (train, val), strict=True):
        check_valid(data, split, info.root)
    counts = count_classes(train) if config.needs_class_counts else None
    return Data(train, val, about, info.label_sizes != {config.size}, counts)


@short_traceback
def judge_labels(splits, info):
    """The `Verdict` on the labels of all `splits`, from what was seen when they were cached."""
    read = {split: data.label_values() for split, data in splits.items()}
    forms = sum((forms for _, forms in read.values()), Counter())
    root = Path(info.root)
    return label_files.judge(
        {split: values for split, (values, _) in read.items()},
        forms,
        info.labels,
        root,
        lambda: cityscapes.conversion(root) or "convert them with a table (kind `table`)",
    )


@short_traceback
def check_valid(data, split, root):
    """Refuse a split without a single pixel of a class: no loss and no IoU is defined on it."""
    # The first image ends the search, unless it is all void.
    if all((data.raw(index)[1] == IGNORE_INDEX).all() for index in range(len(data))):
        raise ValueError(f"all labels of the split {split} of {root} are void; they need pixels of the 19 classes")
