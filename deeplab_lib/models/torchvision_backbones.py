"""DeepLabV2 on further backbones from torchvision: ResNeXt and Wide ResNet.

Sources: Xie et al., "Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017; Zagoruyko and Komodakis,
"Wide Residual Networks", BMVC 2016.
"""

from deeplab_lib.models.deeplabv2 import ASPP, STAGES, DeepLabV2
from deeplab_lib.models.network import BatchNormMode

# name: (blocks a stage, groups of the 3x3 convolutions, channels a group in stage 1); the last is for small images
RESNETS = {
    "deeplabv2_resnext50_32x4d": ((3, 4, 6, 3), 32, 4),
    "deeplabv2_resnext101_32x8d": ((3, 4, 23, 3), 32, 8),
    "deeplabv2_wide_resnet50_2": ((3, 4, 6, 3), 1, 128),
    "deeplabv2_wide_resnet101_2": ((3, 4, 23, 3), 1, 128),
    "deeplabv2_resnext_mini": ((1, 1, 1, 1), 8, 4),
}


class DeepLabV2OnResNet(DeepLabV2):
    """DeepLabV2 on the backbone `name` of `RESNETS`, in torchvision's own blocks: features at 1/8 or 1/16 resolution.

    The stride sits in the 3x3 convolutions, as torchvision's pretrained weights want it, and the first block of a
    dilated stage has the dilation of the stage before. The pool rounds up, so that the grid reaches from corner to
    corner as DeepLabV2's does. Raises ValueError for an unknown `bn` or `output_stride`.
    """

    def __init__(self, name: str, num_classes: int = 19, bn: BatchNormMode = "train", output_stride: int = 8) -> None:
        from torchvision.models import resnet  # not at the top: torchvision takes as long to import as torch

        self._begin(num_classes, "3x3", bn, output_stride)
        blocks, groups, width = RESNETS[name]
        dilated = {"replace_stride_with_dilation": [False, output_stride == 8, True]}
        network = resnet.ResNet(resnet.Bottleneck, blocks, groups=groups, width_per_group=width, **dilated)
        network.maxpool.ceil_mode = True
        for part in ("conv1", "bn1", "relu", "maxpool", *STAGES):
            self.add_module(part, getattr(network, part))
        self.aspp = ASPP(network.fc.in_features, num_classes, output_stride)
        self._initialize()
