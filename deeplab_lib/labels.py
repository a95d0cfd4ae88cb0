"""The Cityscapes label table and its colours.

Source: Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016, and the
data set's own label definition. A *label id* is what the annotation files hold; a *train id* is the index of one
of the 19 evaluated classes; everything else is void and carries `IGNORE_INDEX`.
"""

from typing import NamedTuple

import numpy as np

NUM_CLASSES = 19
IGNORE_INDEX = 255


class Label(NamedTuple):
    """One row of the label table; `train_id` is 255 for void."""

    name: str
    id: int
    train_id: int
    category: str
    color: tuple[int, int, int]


LABELS = (
    Label("unlabeled", 0, 255, "void", (0, 0, 0)),
    Label("ego vehicle", 1, 255, "void", (0, 0, 0)),
    Label("rectification border", 2, 255, "void", (0, 0, 0)),
    Label("out of roi", 3, 255, "void", (0, 0, 0)),
    Label("static", 4, 255, "void", (0, 0, 0)),
    Label("dynamic", 5, 255, "void", (111, 74, 0)),
    Label("ground", 6, 255, "void", (81, 0, 81)),
    Label("road", 7, 0, "flat", (128, 64, 128)),
    Label("sidewalk", 8, 1, "flat", (244, 35, 232)),
    Label("parking", 9, 255, "flat", (250, 170, 160)),
    Label("rail track", 10, 255, "flat", (230, 150, 140)),
    Label("building", 11, 2, "construction", (70, 70, 70)),
    Label("wall", 12, 3, "construction", (102, 102, 156)),
    Label("fence", 13, 4, "construction", (190, 153, 153)),
    Label("guard rail", 14, 255, "construction", (180, 165, 180)),
    Label("bridge", 15, 255, "construction", (150, 100, 100)),
    Label("tunnel", 16, 255, "construction", (150, 120, 90)),
    Label("pole", 17, 5, "object", (153, 153, 153)),
    Label("polegroup", 18, 255, "object", (153, 153, 153)),
    Label("traffic light", 19, 6, "object", (250, 170, 30)),
    Label("traffic sign", 20, 7, "object", (220, 220, 0)),
    Label("vegetation", 21, 8, "nature", (107, 142, 35)),
    Label("terrain", 22, 9, "nature", (152, 251, 152)),
    Label("sky", 23, 10, "sky", (70, 130, 180)),
    Label("person", 24, 11, "human", (220, 20, 60)),
    Label("rider", 25, 12, "human", (255, 0, 0)),
    Label("car", 26, 13, "vehicle", (0, 0, 142)),
    Label("truck", 27, 14, "vehicle", (0, 0, 70)),
    Label("bus", 28, 15, "vehicle", (0, 60, 100)),
    Label("caravan", 29, 255, "vehicle", (0, 0, 90)),
    Label("trailer", 30, 255, "vehicle", (0, 0, 110)),
    Label("train", 31, 16, "vehicle", (0, 80, 100)),
    Label("motorcycle", 32, 17, "vehicle", (0, 0, 230)),
    Label("bicycle", 33, 18, "vehicle", (119, 11, 32)),
    Label("license plate", -1, 255, "vehicle", (0, 0, 142)),
)

CLASSES = tuple(sorted((label for label in LABELS if label.train_id != IGNORE_INDEX), key=lambda label: label.train_id))
CLASS_NAMES = tuple(label.name for label in CLASSES)
CATEGORIES = ("flat", "construction", "object", "nature", "sky", "human", "vehicle")
PALETTE = np.array([label.color for label in CLASSES], dtype=np.uint8)

# The official json2labelImg.py draws no label of negative id, so files have what lies beneath a licence plate. A file
# that does hold its -1 holds 255 (8 bit) or 65535; both are void. Here, -1 marks a value no label has.
TRAIN_ID_OF_ID = np.full(256, -1, dtype=np.int16)
for _label in LABELS:
    TRAIN_ID_OF_ID[_label.id % 256] = _label.train_id
ID_OF_TRAIN_ID = np.zeros(256, dtype=np.uint8)
for _label in CLASSES:
    ID_OF_TRAIN_ID[_label.train_id] = _label.id


def colorize(train_ids: np.ndarray) -> np.ndarray:
    """Colour a map of train ids `(H, W)` as RGB uint8 `(H, W, 3)`; void is black."""
    lookup = np.zeros((256, 3), dtype=np.uint8)
    lookup[:NUM_CLASSES] = PALETTE
    return lookup[np.asarray(train_ids, dtype=np.uint8)]
