#!/usr/bin/env bash
# PyTorch 2.14.1: does autocast on a CPU compute softmax, sums and norms in float32, as autocast on a GPU does?
#
# One would think so: the same with-block is written for both. Seen: of eleven operations that autocast raises to
# float32 on CUDA, one is raised on a CPU, prod. Softmax, log_softmax, sum, cumsum, norm, exp, log, pow, layer_norm and
# group_norm stay in bfloat16. A soft Dice loss written inside the block adds up its class areas in float32 on a GPU and
# rounds them to eight bits on a CPU: an area of 1001 pixels becomes 1000. Call .float() on the logits first.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import re

import torch
from torch.nn import functional as F

x = torch.rand(2, 4, 8, 8, dtype=torch.bfloat16) + 1
OPERATIONS = {  # name of the overload: a call of it
    "softmax.int": lambda: F.softmax(x, 1),
    "log_softmax.int": lambda: F.log_softmax(x, 1),
    "sum": lambda: x.sum(),
    "cumsum": lambda: x.cumsum(1),
    "prod": lambda: x.prod(),
    "norm.Scalar": lambda: x.norm(),
    "exp": lambda: x.exp(),
    "log": lambda: x.log(),
    "pow.Tensor_Scalar": lambda: x**2,
    "layer_norm": lambda: F.layer_norm(x, x.shape[1:]),
    "group_norm": lambda: F.group_norm(x, 2),
}


def raised_on_cuda(name):
    """Whether autocast has a kernel of its own for this operation on CUDA; PyTorch knows without a GPU."""
    return re.search(r"^AutocastCUDA: registered at", torch._C._dispatch_dump(f"aten::{name}"), re.MULTILINE)


print(f"torch {torch.__version__}; float32 on CUDA, and on a CPU:")
with torch.autocast("cpu", torch.bfloat16):
    seen = {name: call().dtype for name, call in OPERATIONS.items()}
    area = torch.ones(1001, dtype=torch.bfloat16).softmax(0).mul(1001).sum().item()
for name, dtype in seen.items():
    print(f"  {name.partition('.')[0]:12} {str(dtype).removeprefix('torch.')}")
    assert raised_on_cuda(name)
    assert dtype == (torch.float32 if name == "prod" else torch.bfloat16)
ones = torch.ones(1001, dtype=torch.bfloat16)
with torch.autocast("cpu", torch.bfloat16):
    print(f"the sum of 1001 ones: {ones.sum().item():.0f}, after float() {ones.float().sum().item():.0f}")
    assert ones.sum() == 1000 and ones.float().sum() == 1001
PYTHON
