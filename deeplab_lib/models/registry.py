"""Every network of the kit behind one interface: DeepLabV2 in five sizes and on further backbones (`backbones`,
`timm_backbones`), and torchvision's networks to compare it with.

Sources of the latter: Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015; Chen et al.,
"Rethinking Atrous Convolution for Semantic Image Segmentation", 2017 (DeepLabV3); Howard et al., "Searching for
MobileNetV3", ICCV 2019 (LR-ASPP). Both ResNet-101 ones carry the stride in the 3x3 convolutions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from deeplab_lib.common.text import did_you_mean
from deeplab_lib.models.deeplabv2 import PARTS, DeepLabV2
from deeplab_lib.models.network import BatchNormMode, SegmentationNetwork, freeze_batch_norm_affine
from deeplab_lib.models.timm_backbones import TIMM, DeepLabV2OnTimm, backbone
from deeplab_lib.models.torchvision_backbones import RESNETS, DeepLabV2OnResNet

# What a ResNet calls its parts, as modules of each backbone. MobileNetV3's blocks are grouped by what ResNet's stages
# are: layer1 works at 1/4 of the input's resolution, layer2 at 1/8, layer3 at 1/16, layer4 is the dilated last stage.
MOBILENET_PARTS = {
    "conv1": ("0.0",),
    "bn1": ("0.1",),
    "layer1": ("1", "2", "3"),
    "layer2": ("4", "5", "6"),
    "layer3": ("7", "8", "9", "10", "11", "12"),
    "layer4": ("13", "14", "15", "16"),
}
DEEPLABV2_SIZES: dict[str, dict[str, Any]] = {
    "deeplabv2_resnet101": {"blocks": (3, 4, 23, 3), "width": 64},
    "deeplabv2_resnet50": {"blocks": (3, 4, 6, 3), "width": 64},
    "deeplabv2_resnet152": {"blocks": (3, 8, 36, 3), "width": 64},
    "deeplabv2_mini": {"blocks": (1, 1, 1, 1), "width": 16},
    "deeplabv2_micro": {"blocks": (1, 1, 1, 1), "width": 4},
}
# name: (parts of its backbone, pixels between two cells of its grid)
TORCHVISION_NETWORKS: dict[str, tuple[Mapping[str, tuple[str, ...]], int]] = {
    "fcn_resnet101": (PARTS, 8),
    "deeplabv3_resnet101": (PARTS, 8),
    "deeplabv3_mobilenet_v3_large": (MOBILENET_PARTS, 16),
    "lraspp_mobilenet_v3_large": (MOBILENET_PARTS, 8),
}
ARCHITECTURES = (*DEEPLABV2_SIZES, *RESNETS, *TORCHVISION_NETWORKS)


def make_model(name: str = "deeplabv2_resnet101", num_classes: int = 19, **options: Any) -> SegmentationNetwork:
    """The network `name` with random weights: of `ARCHITECTURES`, or `deeplabv2_timm_` and timm's name of a backbone.

    Options: `stride_in` ("1x1" or "3x3"; torchvision's and timm's have it in the 3x3), `bn` ("train" or
    "eval"), `output_stride` (8 or 16, of DeepLabV2), and for DeepLabV2's own sizes `blocks` and `width` instead of the
    named ones. Raises ValueError for an unknown name or option.
    """
    check_model(name, options.get("output_stride", 8))
    if name in DEEPLABV2_SIZES:
        return DeepLabV2(num_classes, **(DEEPLABV2_SIZES[name] | options))
    if set(options) - {"stride_in", "bn", "output_stride"} or options.get("stride_in", "3x3") != "3x3":
        owner = "timm's" if name.startswith(TIMM) else "torchvision's"
        known = "its options are bn and output_stride, its stride_in always '3x3'"
        raise ValueError(f"{name} is {owner}: {known}; got {options}")
    options.pop("stride_in", None)
    if name.startswith(TIMM):
        return DeepLabV2OnTimm(name.removeprefix(TIMM), num_classes, **options)
    if name in RESNETS:
        return DeepLabV2OnResNet(name, num_classes, **options)
    return TorchvisionNetwork(name, num_classes, options.get("bn", "train"))


def check_model(name: str, output_stride: int = 8) -> None:
    """Raise ValueError unless `name` is a network that works at `output_stride`; 8 stands for a network's own."""
    if name.startswith(TIMM):
        backbone(name.removeprefix(TIMM), output_stride)
    elif name not in ARCHITECTURES:
        raise ValueError(f"no model {name!r}{did_you_mean(name, ARCHITECTURES)}; models: {', '.join(ARCHITECTURES)}")
    if name in TORCHVISION_NETWORKS and output_stride != 8:
        raise ValueError(f"output_stride is {output_stride}, but {name} has a grid of its own; use a deeplabv2 network")


class TorchvisionNetwork(SegmentationNetwork):
    """A torchvision segmentation network with the interface of `model.DeepLabV2`, batch norm treated alike.

    Its grid is upsampled with `align_corners=False`, which puts cell i of h cells at pixel (i + 0.5) H/h - 0.5: between
    two pixels for even H/h. `subsample` takes the label of the later one.
    """

    head = "classifier"
    stride_in = "3x3"

    def __init__(self, name: str, num_classes: int = 19, bn: BatchNormMode = "train") -> None:
        super().__init__()
        if bn not in ("train", "eval"):
            raise ValueError(f"bn is {bn!r}; valid: train, eval")
        from torchvision.models import segmentation  # not at the top: it takes as long as torch

        network = getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=num_classes)
        parts, self.stride = TORCHVISION_NETWORKS[name]
        self.name, self.num_classes, self.bn, self.frozen = name, num_classes, bn, ()
        self.backbone, self.classifier = network.backbone, network.classifier
        self.parts = {part: tuple(f"backbone.{module}" for module in modules) for part, modules in parts.items()}
        freeze_batch_norm_affine(self)

    def grid_logits(self, images: Tensor) -> Tensor:
        """Logits `(N, C, h, w)` of `images (N, 3, H, W)` on the network's own grid: what the loss is computed on."""
        features = self.backbone(images)
        return self.classifier(features.get("out", features))

    def upsample(self, logits: Tensor, size: Sequence[int]) -> Tensor:
        """Bilinear upsampling of grid logits `(N, C, h, w)` to `size` (H, W), cell area on cell area."""
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)

    def finer(self, logits: Tensor, stride: int) -> Tensor:
        """Grid logits `(N, C, h, w)` interpolated to one cell every `stride` pixels."""
        return self.upsample(logits, [cells * self.stride // stride for cells in logits.shape[-2:]])

    def subsample(self, labels: Tensor, size: Sequence[int], stride: int | None = None) -> Tensor:
        """Labels `(N, H, W)` at the pixels that `upsample` gives to the cells of a grid of `size` (h, w)."""
        rows, columns = (
            ((torch.arange(cells, device=labels.device) + 0.5) * (pixels / cells)).long()
            for cells, pixels in zip(size, labels.shape[-2:], strict=True)
        )
        return labels.index_select(-2, rows).index_select(-1, columns)
