#!/usr/bin/env bash
# Matplotlib 3.11.2: which colours has a label map that imshow draws at exactly three times its size?
#
# One would think those of its classes: the documentation says that "auto" takes the nearest pixel where the picture is
# drawn at least three times as large. Seen: at exactly three times the class numbers are interpolated before they are
# coloured, so that a line of classes 2 and 7 runs along every border of classes 0 and 10. At 2.99 times the colours
# are interpolated, at 3.01 times nothing is, and no other class appears. interpolation="none" is right at all sizes.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check matplotlib==3.11.2 numpy==2.4.6
MPLBACKEND=agg "$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.colors import ListedColormap

labels = np.zeros((100, 100), np.uint8)
labels[:, 50:] = 10
colours = np.array([[13 * label, 255 - 13 * label, 50 * label % 256] for label in range(19)])


def drawn(pixels, **options):
    """Classes whose colours occur in the figure."""
    figure = plt.figure(figsize=(pixels / 100, pixels / 100), dpi=100)
    axes = figure.add_axes([0, 0, 1, 1])
    axes.axis("off")
    axes.imshow(labels, cmap=ListedColormap(colours / 255), vmin=0, vmax=18, aspect="auto", **options)
    figure.canvas.draw()
    picture = np.asarray(figure.canvas.buffer_rgba())[..., :3].reshape(-1, 1, 3).astype(int)
    plt.close(figure)
    return sorted(set(np.nonzero(np.abs(picture - colours).max(2) <= 1)[1].tolist()))


seen = {f"{pixels / 100} times": drawn(pixels) for pixels in (200, 299, 300, 301, 400)}
seen['3.0 times, "none"'] = drawn(300, interpolation="none")
for size, classes in seen.items():
    print(f"{size:17} classes {classes}")
assert seen.pop("3.0 times") == [0, 2, 7, 10]
assert all(classes == [0, 10] for classes in seen.values())
PYTHON
