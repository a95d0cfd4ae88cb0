"""What the lessons compute beside the library itself: their street scenes, fields of view, a small trained network."""

import numpy as np

from . import cityscapes, toycity
from .config import data_folder
from .labels import ID_OF_TRAIN_ID

LESSON_SCENES = {"train": 96, "val": 24}


def streets(split="train", count=96):
    """Scenes for a lesson, a `cityscapes.Cityscapes` of at most `count` images evenly spaced over the split.

    They come from `$CITYSCAPES_DATASET`, at 256x512, where that is set; else from a small toy city of 128x256, which is
    drawn the first time. `title` says which, to stand on every figure.
    """
    root = cityscapes.data_root()
    if root is None:
        root = toycity.write(data_folder() / "toycity" / "lessons", **LESSON_SCENES, workers=None)
    synthetic = (root / toycity.PARAMETERS_FILE).is_file()
    dataset = cityscapes.Cityscapes(root, split, size=None if synthetic else (256, 512))
    chosen = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int)
    dataset.pairs = [dataset.pairs[i] for i in chosen]
    dataset.title = "toy city (synthetic)" if synthetic else root.name
    return dataset


def label_ids(dataset, index):
    """Label ids `(H, W)` of one scene as its annotation file holds them, at the data set's size."""
    file = dataset.pairs[index].label
    ids = np.asarray(cityscapes.read_png(file))
    ids = ID_OF_TRAIN_ID[ids] if file.name.endswith("_labelTrainIds.png") else ids
    return cityscapes.resize_labels(ids, dataset.size) if dataset.size else ids
