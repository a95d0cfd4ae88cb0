#!/usr/bin/env bash
# segmentation-models-pytorch 0.6.0: is SoftCrossEntropyLoss(ignore_index=255) the mean over the labelled pixels?
#
# One would think so, as in cross_entropy of PyTorch with the same label_smoothing. Seen: void pixels lose 0 but stay in
# the mean, so with half of the pixels void the loss is half as large. SoftBCEWithLogitsLoss does the same. The step
# that an image takes then depends on its share of void, and beside a Dice term, which leaves void out, the weight of
# the two terms changes from batch to batch. With reduction="sum" one can divide by the number of labelled pixels.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  segmentation-models-pytorch==0.6.0 torch==2.14.1 torchvision==0.29.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from segmentation_models_pytorch.losses import SoftBCEWithLogitsLoss, SoftCrossEntropyLoss
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

torch.manual_seed(0)
logits = torch.randn(2, 19, 16, 16)
labels = torch.randint(0, 19, (2, 16, 16))
binary = torch.randint(0, 2, (2, 1, 16, 16)).float()
labels[:, :8], binary[:, :, :8] = 255, 255
seen = {
    "cross entropy": (
        SoftCrossEntropyLoss(smooth_factor=0.1, ignore_index=255)(logits, labels).item(),
        cross_entropy(logits, labels, ignore_index=255, label_smoothing=0.1).item(),
    ),
    "binary": (
        SoftBCEWithLogitsLoss(ignore_index=255)(logits[:, :1], binary).item(),
        binary_cross_entropy_with_logits(logits[:, :1, 8:], binary[:, :, 8:]).item(),
    ),
}
for name, (library, labelled) in seen.items():
    print(f"{name:14} {library:.4f}, mean over the labelled pixels {labelled:.4f}: ratio {library / labelled:.3f}")
summed = SoftCrossEntropyLoss(reduction="sum", smooth_factor=0.1, ignore_index=255)(logits, labels).item()
assert all(abs(library / labelled - 0.5) < 1e-4 for library, labelled in seen.values())
assert abs(summed / (labels != 255).sum().item() / seen["cross entropy"][1] - 1) < 1e-4
PYTHON
