#!/usr/bin/env bash
# torchmetrics 1.9.0: how large is the uncertainty of mIoU that BootStrapper(sampling_strategy="multinomial") reports?
#
# One would think that of a bootstrap over the images of the validation set. Seen: it draws within each update alone.
# Updated image by image, as full-size street scenes are, an image can only be drawn for itself, and the standard
# deviation is 0; with batches of two it is 0.7 times what it should be. The default, "poisson", gives the same at
# every batch size.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torchmetrics==1.9.0 torch==2.14.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torchmetrics import JaccardIndex
from torchmetrics.wrappers import BootStrapper

torch.manual_seed(0)
labels = torch.randint(0, 3, (64, 8, 8))
right = torch.rand(64, 8, 8) < torch.rand(64, 1, 1)  # the images differ in difficulty
predicted = torch.where(right, labels, (labels + 1) % 3)
deviation = {}
for strategy in ("multinomial", "poisson"):
    for batch in (1, 2, 64):
        metric = JaccardIndex(task="multiclass", num_classes=3)
        bootstrap = BootStrapper(metric, num_bootstraps=200, sampling_strategy=strategy)
        for start in range(0, 64, batch):
            bootstrap.update(predicted[start : start + batch], labels[start : start + batch])
        deviation[strategy, batch] = bootstrap.compute()["std"].item()
        print(f"{strategy:11} {batch:2} images an update: standard deviation {deviation[strategy, batch]:.4f}")
assert deviation["multinomial", 1] < 1e-6
assert deviation["multinomial", 2] < 0.85 * deviation["multinomial", 64]
assert all(0.025 < deviation[setting] < 0.045 for setting in deviation if setting[0] == "poisson" or setting[1] == 64)
PYTHON
