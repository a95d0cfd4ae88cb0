#!/usr/bin/env bash
# Pillow 13.0.0, OpenCV 5.0.0.93, PyTorch 2.13.0: which pixels does "nearest" keep when a label map is halved?
#
# One would think that nearest is nearest. Seen: Pillow keeps the odd pixels (1, 3, 5, 7), OpenCV's INTER_NEAREST and
# PyTorch's "nearest" the even ones (0, 2, 4, 6); INTER_NEAREST_EXACT and "nearest-exact" agree with Pillow. Labels
# halved by one and predictions scored against those of another are a pixel apart everywhere.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  pillow==13.0.0 opencv-python-headless==5.0.0.93 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import cv2
import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate

labels = np.tile(np.arange(8, dtype=np.uint8), (8, 1))
tensor = torch.from_numpy(labels).float()[None, None]
kept = {"Pillow NEAREST": np.asarray(Image.fromarray(labels).resize((4, 4), Image.Resampling.NEAREST))[0].tolist()}
for name in ("INTER_NEAREST", "INTER_NEAREST_EXACT"):
    kept[f"OpenCV {name}"] = cv2.resize(labels, (4, 4), interpolation=getattr(cv2, name))[0].tolist()
for mode in ("nearest", "nearest-exact"):
    kept[f"PyTorch {mode}"] = [int(value) for value in interpolate(tensor, size=(4, 4), mode=mode)[0, 0, 0]]
for name, pixels in kept.items():
    print(f"{name:28} {pixels}")
even, odd = [0, 2, 4, 6], [1, 3, 5, 7]
assert list(kept.values()) == [odd, even, odd, even, odd]
PYTHON
