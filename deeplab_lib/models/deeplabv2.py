"""DeepLabV2: a dilated ResNet with an atrous spatial pyramid of four summed branches.

Sources: Chen et al., "DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and
Fully Connected CRFs", TPAMI 2018; He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.
The layout is the one of the original (Caffe) release: a stage's stride sits on the first 1x1 convolution and the
max-pool rounds up, so that a 512x1024 image gives a 65x129 grid whose cells lie every 8 pixels from corner to corner.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from deeplab_lib.models.network import BatchNormMode, SegmentationNetwork, StrideIn, freeze_batch_norm_affine

STAGES = ("layer1", "layer2", "layer3", "layer4")
FREEZABLE = ("conv1", "bn1", *STAGES)
PARTS: dict[str, tuple[str, ...]] = {name: (name,) for name in FREEZABLE}  # name for `freeze`: modules it stands for
LARGE = 2**20  # elements from which it pays to compute a tensor again instead of keeping it


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions with a residual connection: `(N, C, H, W)` to `(N, 4 * planes, H', W')`.

    `stride_in` says which convolution carries the stride: "1x1" (the first, Caffe) or "3x3" (torchvision).
    `recompute`: the backward pass computes large normalised activations again, to the bit, rather than find them kept:
    a sixth of what training keeps (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016).
    """

    expansion = 4
    recompute = False

    def __init__(
        self, in_channels: int, planes: int, stride: int = 1, dilation: int = 1, stride_in: StrideIn = "1x1"
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
        out_channels = planes * self.expansion
        self.conv1 = nn.Conv2d(in_channels, planes, 1, stride=first, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=second, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            shortcut = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        out = self.activated(self.bn1, self.conv2, self.conv1(x))
        out = self.bn3(self.activated(self.bn2, self.conv3, out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)

    def activated(self, norm: nn.Module, convolution: nn.Module, x: Tensor) -> Tensor:
        """`convolution(relu(norm(x)))`; of the three only `x` is kept for the backward pass, see `recompute`."""
        function = lambda x: convolution(self.relu(norm(x)))  # noqa: E731
        wanted = self.recompute and self.training and torch.is_grad_enabled() and x.numel() >= LARGE
        if not wanted or torch.compiler.is_compiling() or isinstance(norm, nn.SyncBatchNorm):
            return function(x)
        # What the convolution needs is there before it is computed: there the second pass ends by itself.
        contexts = lambda: (nullcontext(), statistics_held(norm))  # noqa: E731
        return checkpoint(function, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)


@contextmanager
def statistics_held(norm: Any) -> Iterator[None]:
    """Let `norm` take its batch's statistics without adding them to the running ones once more."""
    before = norm.momentum, norm.num_batches_tracked
    norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        norm.momentum, norm.num_batches_tracked = before


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: the **sum** of four 3x3 convolutions, dilation = padding = 6, 12, 18, 24.

    On a grid of stride 16 the dilations are halved: the same pixels apart (Chen et al., "Rethinking Atrous Convolution
    for Semantic Image Segmentation", 2017, section 3.3, which doubles the rates from stride 16 to 8).
    """

    def __init__(self, in_channels: int, num_classes: int, output_stride: int = 8) -> None:
        super().__init__()
        rates = [rate * 8 // output_stride for rate in (6, 12, 18, 24)]
        convolutions = (nn.Conv2d(in_channels, num_classes, 3, padding=rate, dilation=rate) for rate in rates)
        self.branches: Any = nn.ModuleList(convolutions)

    def initialize(self) -> None:
        """Draw small weights, so that the first scores are all alike."""
        for branch in self.branches:
            nn.init.normal_(branch.weight, std=0.01)
            nn.init.zeros_(branch.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(N, C, h, w)` of features `(N, C', h, w)`."""
        return sum(branch(x) for branch in self.branches)


class DeepLabV2(SegmentationNetwork):
    """DeepLabV2 with a bottleneck ResNet of `blocks` blocks a stage; blocks (3, 4, 23, 3) and width 64 are ResNet-101.

    Stage 3 has dilation 2 and stage 4 dilation 4, in every block, so the features stay at 1/8 resolution. With
    `output_stride` 16 stage 3 keeps its stride instead and stage 4 has dilation 2.
    Batch-norm scale and shift never train. `bn` says what the statistics do in training: "train" (they follow the
    batches) or "eval" (they stay as loaded); it is applied again at every call of `train()`.

    Args: num_classes: C. width: channels of the first convolution. stride_in: "1x1" or "3x3", see `Bottleneck`;
    it belongs to the pretrained weights. Raises ValueError for an unknown `bn`, `stride_in` or `output_stride`.
    """

    parts = PARTS

    def __init__(
        self,
        num_classes: int = 19,
        blocks: Sequence[int] = (3, 4, 23, 3),
        width: int = 64,
        stride_in: StrideIn = "1x1",
        bn: BatchNormMode = "train",
        output_stride: int = 8,
    ) -> None:
        self._begin(num_classes, stride_in, bn, output_stride)
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True)
        in_channels = width
        strides, dilations = ((1, 2, 1, 1), (1, 1, 2, 4)) if output_stride == 8 else ((1, 2, 2, 1), (1, 1, 1, 2))
        plan = zip(STAGES, blocks, (1, 2, 4, 8), strides, dilations, strict=True)
        for stage, count, factor, stride, dilation in plan:
            layers = []
            for block in range(count):
                layers.append(Bottleneck(in_channels, factor * width, stride if block == 0 else 1, dilation, stride_in))
                in_channels = factor * width * Bottleneck.expansion
            self.add_module(stage, nn.Sequential(*layers))
        self.aspp = ASPP(in_channels, num_classes, output_stride)
        self._initialize()

    def _begin(self, num_classes: int, stride_in: StrideIn, bn: BatchNormMode, output_stride: int) -> None:
        """What comes before the layers, whatever these are."""
        super().__init__()
        given = {"stride_in": stride_in, "bn": bn, "output_stride": output_stride}
        for name, valid in (("stride_in", ("1x1", "3x3")), ("bn", ("train", "eval")), ("output_stride", (8, 16))):
            if given[name] not in valid:
                raise ValueError(f"{name} is {given[name]!r}; valid: {', '.join(map(str, valid))}")
        self.num_classes, self.bn, self.stride_in, self.frozen = num_classes, bn, stride_in, ()
        self.stride = output_stride

    def _initialize(self) -> None:
        freeze_batch_norm_affine(self)
        if next(self.parameters()).is_meta:
            return  # nothing to draw, for which PyTorch would load its compiler: 2 s
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and not name.startswith("aspp"):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.aspp.initialize()

    def features(self, images: Tensor) -> Tensor:
        """Backbone features `(N, 32 * width, h, w)` of `images (N, 3, H, W)`, h about H/8, or H/16."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def grid_logits(self, images: Tensor) -> Tensor:
        """Logits `(N, C, h, w)` at 1/8 (1/16) resolution: what the loss is computed on."""
        return self.aspp(self.features(images))

    def upsample(self, logits: Tensor, size: Sequence[int]) -> Tensor:
        """Bilinear upsampling of grid logits `(N, C, h, w)` to `size` (H, W), corner on corner."""
        logits = logits.contiguous(memory_format=torch.channels_last)  # as fast again on a CPU
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=True)

    def finer(self, logits: Tensor, stride: int) -> Tensor:
        """Grid logits `(N, C, h, w)` interpolated to a cell every `stride` pixels."""
        return self.upsample(logits, [(cells - 1) * self.stride // stride + 1 for cells in logits.shape[-2:]])

    def subsample(self, labels: Tensor, size: Sequence[int], stride: int | None = None) -> Tensor:
        """Labels `(N, H, W)` at the pixels where the cells of a grid of `size` (h, w) sit: `(N, h, w)`.

        stride: pixels between the cells; None: those of the features.
        """
        return subsample_labels(labels, size, stride or self.stride)


def subsample_labels(labels: Tensor, size: Sequence[int], stride: int = 8) -> Tensor:
    """Labels `(..., H, W)` on the grid `size` (h, w): rows and columns 0, stride, 2 stride ..., clamped to the border.

    These are the pixels on which the network's features are centred. `interpolate(mode="nearest")` would sample
    elsewhere and drift by up to 8 pixels.
    """
    rows, columns = (
        (torch.arange(cells, device=labels.device) * stride).clamp(max=pixels - 1)
        for cells, pixels in zip(size, labels.shape[-2:], strict=True)
    )
    return labels.index_select(-2, rows).index_select(-1, columns)


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Numbers of parameters: `(total, trainable)`."""
    parameters = list(model.parameters())
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)
