#!/usr/bin/env bash
# pycocotools 2.0.11: which pixels has the RLE of a uint8 mask whose values are not only 0 and 1?
#
# One would think those that are not 0, or an error. Seen: a new run begins wherever the value changes, and runs are in
# turn outside and inside. A mask of 0 and 255 is right. A mask that was resized with soft edges loses rows of them, and
# a map of two touching objects (0, 1, 2) becomes a pattern of both objects and of background. Nothing that uses the
# result says a word. Give encode the mask > 0 (or > 127), never the map.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pycocotools==2.0.11 pillow==13.0.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
from PIL import Image
from pycocotools import mask as coco

hard = np.zeros((8, 8), np.uint8)
hard[2:6, 2:6] = 255
soft = np.asarray(Image.fromarray(hard).resize((16, 16), Image.Resampling.BILINEAR))
touching = np.zeros((8, 8), np.uint8)
touching[1:4, 2:6], touching[4:7, 2:6] = 1, 2
seen = {}
for name, mask in {"0 and 255": hard, "soft edges": soft, "soft > 127": soft > 127, "objects 1, 2": touching}.items():
    decoded = coco.decode(coco.encode(np.asfortranarray(mask)))
    seen[name] = int((mask > 0).sum()), int(decoded.sum())
    print(f"{name:13} values {np.unique(mask).tolist()}: {seen[name][0]} pixels, in its RLE {seen[name][1]}")
print(touching, decoded, sep="\n\n")
assert seen["0 and 255"] == (16, 16) and seen["soft > 127"] == (64, 64)
assert seen["objects 1, 2"] == (24, 16) and decoded[7, 2] == 1 and decoded[2, 3] == 0
assert seen["soft edges"] == (100, 80)
PYTHON
