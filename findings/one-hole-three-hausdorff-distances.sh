#!/usr/bin/env bash
# SimpleITK 2.5.7, scikit-image 0.26.0, MedPy 0.5.2, surface-distance 0.1: what is the Hausdorff distance between a
# filled square of 50 pixels and the same square with a hole of 20 pixels in its middle?
#
# One would think one number, since the distance has one definition. Seen: 10, 14 and 15. SimpleITK and scikit-image
# take all pixels of the objects (from the middle of the hole to its border). MedPy takes the border pixels alone (from
# the border of the hole to the outer one), surface-distance the lines between pixels. For filled objects all agree, so
# a comparison on simple shapes does not show it. On street scenes, with windows and gaps, papers are not comparable.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  simpleitk==2.5.7 scikit-image==0.26.0 medpy==0.5.2 surface-distance==0.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import SimpleITK
from medpy.metric import hd
from skimage.metrics import hausdorff_distance
from surface_distance import compute_robust_hausdorff, compute_surface_distances


def itk(first, second):
    hausdorff = SimpleITK.HausdorffDistanceImageFilter()
    hausdorff.Execute(*(SimpleITK.GetImageFromArray(mask.astype(np.uint8)) for mask in (first, second)))
    return hausdorff.GetHausdorffDistance()


def surface(first, second):
    return float(compute_robust_hausdorff(compute_surface_distances(first, second, (1, 1)), 100))


square = np.zeros((60, 60), bool)
square[5:55, 5:55] = True
hollow = square.copy()
hollow[20:40, 20:40] = False
moved = np.roll(square, 3, axis=1)
distances = {"SimpleITK": itk, "scikit-image": hausdorff_distance, "MedPy": hd, "surface-distance": surface}
seen = {name: (float(distance(square, hollow)), float(distance(square, moved))) for name, distance in distances.items()}
for name, (hole, shift) in seen.items():
    print(f"{name:17} with a hole {hole:4}, moved by three pixels {shift}")
assert [hole for hole, _ in seen.values()] == [10, 10, 14, 15]
assert all(shift == 3 for _, shift in seen.values())
PYTHON
