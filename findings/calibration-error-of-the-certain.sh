#!/usr/bin/env bash
# torchmetrics 1.9.0, scikit-learn 1.9.1: in which bin is a confidence of exactly 1?
#
# One would think in the last of n_bins, with its neighbours (Guo et al. 2017: (14/15, 1] of 15). Seen: so it is in
# scikit-learn, but in torchmetrics it has a bin of its own, the sixteenth. 100 pixels at confidence 1, of which 90 are
# right, and 100 at 0.95, all right: the calibration error is 0.025 by the paper and 0.075 in torchmetrics. A float32
# softmax is exactly 1 once a logit leads by 17, which is usual for road and sky; with float16 or bfloat16 earlier.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  torchmetrics==1.9.0 torch==2.14.1 scikit-learn==1.9.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from sklearn.calibration import calibration_curve
from torchmetrics.functional.classification import multiclass_calibration_error


def errors(sure):
    """Calibration errors with 15 bins if the first 100 of 200 pixels have confidence `sure`."""
    confidence = torch.tensor([sure] * 100 + [0.95] * 100, dtype=torch.float64)
    labels = torch.tensor([0] * 90 + [1] * 10 + [0] * 100)
    probabilities = torch.stack([confidence, 1 - confidence], 1)
    ours = multiclass_calibration_error(probabilities, labels, num_classes=2, n_bins=15, norm="l1").item()
    accuracy, mean = calibration_curve((labels == 0).numpy(), confidence.numpy(), n_bins=15)
    assert len(accuracy) == 1  # all 200 pixels are in one bin
    return ours, abs(accuracy[0] - mean[0])


seen = {sure: errors(sure) for sure in (1.0, 0.999999)}
for sure, (ours, theirs) in seen.items():
    print(f"confidence {sure}: calibration error {ours:.4f} in torchmetrics, {theirs:.4f} with scikit-learn's bins")
print("softmax of [18, 0] in float32:", torch.tensor([18.0, 0.0]).softmax(0).tolist()[0])
assert abs(seen[1.0][0] - 0.075) < 1e-4 and abs(seen[1.0][1] - 0.025) < 1e-4
assert abs(seen[0.999999][0] - 0.025) < 1e-4 and torch.tensor([18.0, 0.0]).softmax(0)[0] == 1
PYTHON
