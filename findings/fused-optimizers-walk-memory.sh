#!/usr/bin/env bash
# PyTorch 2.14.1 (CPU): does SGD(fused=True) take the same step as SGD(fused=False)?
#
# One would think so, or that it refuses what it cannot do, as the fused step on a GPU has done. Seen: on a CPU it
# walks weight, gradient and momentum element by element as they lie in memory, whatever their strides. Where one
# of them is channels_last and another is not, each weight gets another weight's gradient, without a word. It happens to
# whoever goes on with a checkpoint in another memory format: load_state_dict keeps the momentum's old layout. Adam,
# AdamW and Adagrad do the same. With a learning rate of 1 and gradients within 2.3, one SGD step is up to 4.2 off.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch import nn

PLAIN, LAST = torch.contiguous_format, torch.channels_last
RAMP = torch.arange(24.0).view(2, 3, 2, 2)  # a 2x2 kernel of 3 input and 2 output channels
PULL = RAMP / 10 * torch.tensor([1.0, -1.0, -1.0, 1.0]).view(2, 2)


def stepped(optimizer, fused, gradient_lies):
    """The weights, contiguous, after one step with a gradient of the same numbers stored as `gradient_lies` says."""
    weight = nn.Parameter(RAMP.clone())
    weight.grad = PULL.contiguous(memory_format=gradient_lies)
    optimizer([weight], lr=1.0, fused=fused).step()
    return weight.detach()


def resumed(fused):
    """The weights of a channels_last layer that goes on with the momentum of a contiguous one."""
    before, after = nn.Conv2d(3, 2, 2, bias=False), nn.Conv2d(3, 2, 2, bias=False).to(memory_format=LAST)
    options = {"lr": 1.0, "momentum": 0.9, "fused": fused}
    first, second = (torch.optim.SGD(layer.parameters(), **options) for layer in (before, after))
    before.weight.grad = PULL.clone()
    first.step()
    second.load_state_dict(first.state_dict())
    with torch.no_grad():
        after.weight.zero_()
    after.weight.grad = torch.zeros_like(after.weight)
    second.step()
    return after.weight.detach().contiguous()


print(f"torch {torch.__version__}")
for optimizer in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad):
    alike, unlike = (
        (stepped(optimizer, True, lies) - stepped(optimizer, False, lies)).abs().max().item() for lies in (PLAIN, LAST)
    )
    print(f"{optimizer.__name__:8} fused against not: same layout {alike:.2g}, another layout {unlike:.2g}")
    assert alike < 1e-5 and unlike > 0.5
wrong = (resumed(True) - resumed(False)).abs().max().item()
print(f"resumed in channels_last: weights differ by up to {wrong:.2f}, the largest momentum being 2.3")
assert wrong > 0.5
PYTHON
