#!/usr/bin/env bash
# PyTorch 2.14.1, torch-ema 0.3, ema-pytorch 0.8.3: what is a moving average of weights with a decay of 0.9998?
#
# One would think 0.9998 * average + 0.0002 * weight at every step, in all. Seen: for a weight that grows from 0 to 1 in
# 5,000 steps the average ends at 0.37, 0.90 and 0.61. The swa_utils of PyTorch do what is written. In torch-ema the
# decay is the smaller of 0.9998 and (1 + step) / (10 + step), which in 5,000 steps is never 0.9998. In ema-pytorch
# there are 100 steps of copying, then only every tenth step counts, with a decay that grows with a power of the step.
# So "EMA, decay 0.9998" in a paper is three settings. With use_num_updates=False torch-ema gives the first one.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  torch==2.14.1 torch-ema==0.3 ema-pytorch==0.8.3 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from ema_pytorch import EMA
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch_ema import ExponentialMovingAverage

model = torch.nn.Linear(1, 1, bias=False)
model.weight.data.zero_()
swa = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9998))
ema = ExponentialMovingAverage(model.parameters(), decay=0.9998)
plain = ExponentialMovingAverage(model.parameters(), decay=0.9998, use_num_updates=False)
power = EMA(model, beta=0.9998)
for step in range(1, 5001):
    model.weight.data.fill_(step / 5000)
    swa.update_parameters(model)
    ema.update()
    plain.update()
    power.update()
seen = {
    "swa_utils": swa.module.weight.item(),
    "torch-ema": ema.shadow_params[0].item(),
    "torch-ema, use_num_updates=False": plain.shadow_params[0].item(),
    "ema-pytorch": power.ema_model.weight.item(),
}
for name, average in seen.items():
    print(f"{name:33} {average:.3f}")
expected = [0.368, 0.900, 0.368, 0.605]
assert all(abs(average - value) < 0.005 for average, value in zip(seen.values(), expected, strict=True))
PYTHON
