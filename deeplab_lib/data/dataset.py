"""The data of a run: the toy city or a Cityscapes folder, checked, cached at the input size, both splits opened."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deeplab_lib import toycity
from deeplab_lib.common.errors import interruptible, short_traceback
from deeplab_lib.common.files import absolute
from deeplab_lib.common.types import PathLike, Say
from deeplab_lib.data import cache, cityscapes, label_files, pairs
from deeplab_lib.data.augment import count_classes
from deeplab_lib.data.normalization import Normalization
from deeplab_lib.labels import IGNORE_INDEX

if TYPE_CHECKING:
    from deeplab_lib.config import Config
    from deeplab_lib.data.cityscapes import Cityscapes


@dataclass(frozen=True)
class Data:
    """The two splits at the input size; `native` says whether a validation label's own size is another one.

    class_counts: pixels of each class in each training image `(N, 19)`; None where nothing asks for them.
    """

    train: Cityscapes
    val: Cityscapes
    about: dict
    native: bool
    class_counts: np.ndarray | None = None

    @property
    def train_each_epoch(self) -> int:
        """How many images an epoch trains on: all, or an equal part of every pass over them."""
        return self.about["train_each_epoch"]

    @property
    def val_each_epoch(self) -> int:
        """How many images are evaluated after every epoch: the first of `val`, all of which follow after the last."""
        return self.about["val_each_epoch"]


def check_data(config: Config) -> None:
    """Make the toy city if it is wanted, and refuse data that a run would stumble over."""
    draw_toycity(config)
    cityscapes.check(config.data, (config.split, "val"), config.scenes)


def draw_toycity(config: Config) -> None:
    """Make the toy city if it is wanted and not there."""
    if not config.toycity:
        return
    counts = config.scale.toycity
    try:
        toycity.write(config.data, counts["train"], counts["val"], size=config.scale.toycity_size, workers=None)
        if config.split == toycity.COARSE:
            toycity.write_coarse(config.data, counts[toycity.COARSE], workers=None)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        home = f"cannot write the toy city to {config.data} ({error.strerror})"
        raise ValueError(f"{home}: set DEEPLAB_DATA to a folder that can be written") from None


@short_traceback
@interruptible("the data were prepared: run it again, and what is there already is kept")
def prepare_data(config: Config, normalization: Normalization, say: Say = print) -> Data:
    """Check the data as `check_data` does, fill the cache of resized images, and open both splits."""
    draw_toycity(config)
    info = cityscapes.describe(config.data, config.split, config.scenes)
    if info.counts["train"] < config.batch_size:
        raise ValueError(f"batch_size {config.batch_size} exceeds the {info.counts['train']} training images")
    about = {"name": config.dataset_name, "root": info.root, "synthetic": info.synthetic, "subset": info.subset}
    train, val = info.counts["train"], info.counts["val"]
    about |= {"fingerprint": info.fingerprint, "train": train, "val": val}
    about["train_each_epoch"] = train // config.epochs_per_pass
    about["val_each_epoch"] = config.val_each_epoch or val
    height, width = info.label_size
    about |= {"split": config.split, "label_height": height, "label_width": width, "labels": info.labels}
    splits = {
        split: cache.cached(config.data, split, config.size, normalization, None, say, digest, info.pairs[split])
        for split, digest in info.digests.items()
    }
    verdict = judge_labels(splits, info)
    if verdict.warning:
        say(f"note: {verdict.warning}")
    about["label_files"] = verdict.about
    for split, data in splits.items():
        check_valid(data, split, info.root)
    counts = count_classes(splits[config.split]) if config.needs_class_counts else None
    return Data(splits[config.split], splits["val"], about, info.label_sizes != {config.size}, counts)


@short_traceback
def check_belongs(data: Data, config: Config, normalization: Normalization) -> None:
    """Refuse data that were prepared for another run than that of `config`."""
    height, width = data.train.size or (0, 0)
    given = {"from": data.about["root"], "of the split": data.about["split"], "at": f"{width}x{height}"}
    wanted = {"from": str(absolute(config.data)), "of the split": config.split}
    wanted |= {"at": f"{config.image_width}x{config.image_height}", "normalised by": normalization.name}
    given["normalised by"] = data.train.normalization.name
    for what, value in wanted.items():
        if given[what] != value:
            raise ValueError(f"data are {what} {given[what]}, but the run wants {value}; prepare them with its config")


@short_traceback
def judge_labels(splits: Mapping[str, cache.CachedCityscapes], info: cityscapes.DatasetInfo) -> label_files.Verdict:
    """The `Verdict` on the labels of all `splits`, from what was seen when they were cached."""
    read = {split: data.label_values() for split, data in splits.items()}
    forms = sum((forms for _, forms in read.values()), Counter())
    root = Path(info.root)
    return label_files.judge(
        {split: values for split, (values, _) in read.items()},
        forms,
        info.labels,
        root,
        lambda: pairs.conversion(root) or "convert them with a table (kind `table`)",
    )


@short_traceback
def check_valid(data: Cityscapes, split: str, root: PathLike) -> None:
    """Refuse a split without a single pixel of a class: no loss and no IoU is defined on it."""
    # The first image ends the search, unless it is all void.
    if all((data.raw(index)[1] == IGNORE_INDEX).all() for index in range(len(data))):
        raise ValueError(f"all labels of the split {split} of {root} are void; they need pixels of the 19 classes")
