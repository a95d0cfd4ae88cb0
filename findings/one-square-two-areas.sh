#!/usr/bin/env bash
# Pillow 13.0.0, OpenCV 5.0.0.93, scikit-image 0.26.0, pycocotools 2.0.11, rasterio 1.4.4: how many pixels has the
# polygon (2,2) (6,2) (6,6) (2,6)?
#
# One would think 16, its area, everywhere, or at least the same number. Seen: 16 in pycocotools and rasterio (even with
# all_touched=True), 25 in Pillow, OpenCV and scikit-image, which fill the right and lower edge as well. Cityscapes'
# label maps are drawn by Pillow, COCO's by pycocotools: the same polygons give thicker poles in one than in the other,
# and two neighbours that share an edge claim its pixels both, or each once.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 opencv-python-headless==5.0.0.93 \
  scikit-image==0.26.0 pycocotools==2.0.11 rasterio==1.4.4 shapely==2.2.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import cv2
import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as coco
from rasterio.features import rasterize
from shapely import Polygon
from skimage.draw import polygon2mask

square = [(2, 2), (6, 2), (6, 6), (2, 6)]
drawn = Image.new("L", (10, 10))
ImageDraw.Draw(drawn).polygon(square, fill=1)
filled = cv2.fillPoly(np.zeros((10, 10), np.uint8), [np.array(square, np.int32)], 1)
runs = coco.frPyObjects([[float(value) for point in square for value in point]], 10, 10)
pixels = {
    "Pillow": np.asarray(drawn),
    "OpenCV": filled,
    "scikit-image": polygon2mask((10, 10), [(y, x) for x, y in square]),
    "pycocotools": coco.decode(runs)[..., 0],
    "rasterio": rasterize([Polygon(square)], out_shape=(10, 10)),
    "rasterio, all_touched": rasterize([Polygon(square)], out_shape=(10, 10), all_touched=True),
}
counts = {name: int(mask.sum()) for name, mask in pixels.items()}
for name, count in counts.items():
    print(f"{name:22} {count} pixels, columns {sorted(set(np.nonzero(pixels[name])[1].tolist()))}")
assert list(counts.values()) == [25, 25, 25, 16, 16, 16]
PYTHON
