"""Weights of two mobile networks under other names than timm's: MobileNetV2 and EfficientNet-Lite0.

Both ship in packages under the names of their first PyTorch versions; the layers are timm's, in timm's order. Sources:
Sandler et al., "MobileNetV2", CVPR 2018; Tan and Le, "EfficientNet", ICML 2019; timm's `mobilenetv2_100` and
`tf_efficientnet_lite0`.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from torch import Tensor


class MobileNetwork(NamedTuple):
    """A network: its name, timm's name of it, and how many blocks each of its stages has."""

    name: str
    timm: str
    stages: tuple[int, ...]


MOBILENET_V2 = MobileNetwork("MobileNetV2", "mobilenetv2_100", (1, 2, 3, 4, 3, 3, 1))
EFFICIENTNET_LITE0 = MobileNetwork("EfficientNet-Lite0", "tf_efficientnet_lite0", (1, 2, 2, 3, 3, 4, 1))
# The layers of a block in order: without expansion, and with it.
PLAIN = ("conv_dw", "bn1", "conv_pw", "bn2")
INVERTED = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
# Layers outside the blocks, by the beginnings of their keys.
V2_OUTSIDE = {"features.0.0": "conv_stem", "features.0.1": "bn1", "features.18.0": "conv_head", "features.18.1": "bn2"}
LITE_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}


def recognize(keys: Iterable[str]) -> MobileNetwork | None:
    """The network whose names `keys` are, None for any other."""
    keys = set(keys)
    if any(key.startswith("features.17.conv.") for key in keys) and "features.18.0.weight" in keys:
        return MOBILENET_V2
    if "_conv_stem.weight" in keys and not any("._se_" in key for key in keys):
        return EFFICIENTNET_LITE0
    return None


def timm_names(tensors: Mapping[str, Tensor], network: MobileNetwork) -> dict[str, Tensor]:
    """The tensors of a file of `network` under timm's names; what timm's backbone lacks (`_fc`) keeps its own."""
    v2 = network is MOBILENET_V2
    outside, block = (V2_OUTSIDE, r"features\.(\d+)\.conv\.") if v2 else (LITE_OUTSIDE, r"_blocks\.(\d+)\.")
    layers: dict = {}  # of each block, in the file's order: the parts of its keys before "weight", "bias", ...
    for key in tensors:
        if match := re.match(block, key):
            layer = key.rpartition(".")[0]
            layers.setdefault(int(match[1]) - v2, {}).setdefault(layer, None)
    places = [f"blocks.{stage}.{place}" for stage, count in enumerate(network.stages) for place in range(count)]
    renamed = {
        layer: f"{place}.{name}"
        for place, number in zip(places, sorted(layers), strict=False)
        for layer, name in zip(layers[number], PLAIN if len(layers[number]) == len(PLAIN) else INVERTED, strict=False)
    } | outside
    named = {}
    for key, value in tensors.items():
        layer, _, part = key.rpartition(".")
        named[f"{renamed[layer]}.{part}" if layer in renamed else key] = value
    return named
