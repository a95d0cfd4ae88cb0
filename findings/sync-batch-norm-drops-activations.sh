#!/usr/bin/env bash
# PyTorch 2.14.1 and timm 1.0.31: does SyncBatchNorm.convert_sync_batchnorm change what a network computes?
#
# One would think not: it is the documented first step to several GPUs, and in eval mode a batch norm is a batch norm.
# Seen: many of timm's batch norms are followed by an activation that is part of the same module. The conversion takes
# the batch norm and leaves the activation behind. Logits of a MobileNetV2 that lie within 18 become millions. A ResNet
# stays what it is, because its activations are modules of their own. timm's own convert_sync_batchnorm changes nothing.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 timm==1.0.31 \
  numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import copy

import timm
import torch
from timm.layers import convert_sync_batchnorm
from torch import nn

print(f"torch {torch.__version__}, timm {timm.__version__}: largest difference of the logits after the conversion")
torch.manual_seed(0)
image = torch.randn(1, 3, 64, 64)
with torch.no_grad():
    networks = {"resnet18": False, "mobilenetv2_100": True, "regnetx_002": True, "efficientnet_b0": True}
    for name, drops in networks.items():
        network = timm.create_model(name, num_classes=10).eval()
        logits = network(image)
        found = {}
        for whose, convert in (("torch", nn.SyncBatchNorm.convert_sync_batchnorm), ("timm", convert_sync_batchnorm)):
            found[whose] = (convert(copy.deepcopy(network)).eval()(image) - logits).abs().max().item()
        within = f"logits within {logits.abs().max():.3g}"
        print(f"{name:16} torch's {found['torch']:.3g}, timm's {found['timm']:.3g}; {within}")
        assert found["timm"] == 0 and (found["torch"] > 0) == drops
PYTHON
