#!/usr/bin/env bash
# PyTorch 2.14.1: what does a perfect model predict on a road pixel, trained by cross_entropy with weight (inverse
# class frequency) and label_smoothing=0.1 together?
#
# One would think the road, with less confidence: smoothing lowers it, and weights say which pixels count.
# Seen: the rarest class. The weights multiply the smoothed target class by class, so 0.1/19 of a class that is 400
# times as rare outweighs the label itself. With 19 classes that happens once weights differ by more than 172 times,
# as they do on street scenes. Both together are safe where the weight is applied to the pixel: the mean of
# weight[labels] * cross_entropy(..., reduction="none", label_smoothing=0.1).
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch.nn.functional import cross_entropy

shares = torch.full((19,), (1 - 0.4 - 0.001) / 17)
shares[0], shares[18] = 0.4, 0.001  # road, motorcycle
weight = 1 / shares
labels = torch.zeros(1, dtype=torch.long)  # road, and nothing else


def optimum(loss):
    """Class and probability that a model free to predict anything ends at."""
    logits = torch.zeros(1, 19, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(2000):
        optimizer.zero_grad()
        loss(logits).backward()
        optimizer.step()
    probability, predicted = logits.softmax(1).max(1)
    return predicted.item(), round(probability.item(), 3)


seen = {
    "weight": optimum(lambda logits: cross_entropy(logits, labels, weight=weight)),
    "label_smoothing": optimum(lambda logits: cross_entropy(logits, labels, label_smoothing=0.1)),
    "both": optimum(lambda logits: cross_entropy(logits, labels, weight=weight, label_smoothing=0.1)),
    "both, weight by pixel": optimum(
        lambda logits: weight[labels] * cross_entropy(logits, labels, reduction="none", label_smoothing=0.1)
    ),
}
for name, (predicted, probability) in seen.items():
    print(f"{name:22} road pixels are predicted as class {predicted:2}, probability {probability}")
assert [predicted for predicted, _ in seen.values()] == [0, 0, 18, 0]
assert abs(seen["both"][1] - 0.523) < 0.01 and abs(seen["label_smoothing"][1] - (0.9 + 0.1 / 19)) < 0.01
PYTHON
