#!/usr/bin/env bash
# torchmetrics 1.9.0: is the mean of JaccardIndex(average="none") its average="macro"?
#
# One would think so: "macro" is the mean over classes. Seen: classes that occur in neither map get IoU 0 from "none",
# but are left out of "macro". Two of four classes present, IoU 0.5 and 0.667: macro 0.5833, mean of "none" 0.2917.
# Whoever prints a table of classes with "none" and averages it reports a lower mIoU than the same library's own.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torchmetrics==1.9.0 torch==2.13.0
"$folder/venv/bin/python" - <<'PYTHON'
import torch
import torchmetrics

labels, predictions = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1])
iou = lambda average: torchmetrics.JaccardIndex(task="multiclass", num_classes=4, average=average)(predictions, labels)
each, macro = iou("none"), iou("macro").item()
print(f"torchmetrics {torchmetrics.__version__}: classes {each.tolist()}, their mean {each.mean():.4f}, macro {macro:.4f}")
assert each[2:].tolist() == [0.0, 0.0]
assert abs(macro - (1 / 2 + 2 / 3) / 2) < 1e-6 and abs(each.mean().item() - macro / 2) < 1e-6
PYTHON
