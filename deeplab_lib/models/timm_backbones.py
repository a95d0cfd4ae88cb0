"""DeepLabV2 on the backbones of timm (an extra): every network there that gives features at an output stride of 8.

Source: Wightman, "PyTorch Image Models", 2019, https://github.com/huggingface/pytorch-image-models.
"""

import contextlib
import os
import socket
import threading
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deeplab_lib.common.files import read_json
from deeplab_lib.common.text import did_you_mean
from deeplab_lib.common.types import PathLike
from deeplab_lib.models.deeplabv2 import ASPP, STAGES, DeepLabV2
from deeplab_lib.models.network import BatchNormMode, freeze_batch_norm_affine

TIMM = "deeplabv2_timm_"  # a model's name is this, then timm's for the backbone
NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


class DeepLabV2OnTimm(DeepLabV2):
    """DeepLabV2 on timm's backbone `name`, randomly initialised as timm does it.

    The image's border is repeated until cells lie from corner to corner, so that labels and upsampling are DeepLabV2's
    own; a side that is neither a multiple of the stride nor one more is stretched by less than a cell. Raises
    ValueError for a backbone that `backbone` refuses, an unknown `bn` or `output_stride`.
    """

    def __init__(self, name: str, num_classes: int = 19, bn: BatchNormMode = "train", output_stride: int = 8) -> None:
        self._begin(num_classes, "3x3", bn, output_stride)
        self.name, about = TIMM + name, backbone(name, output_stride)
        self.patches = about.patches
        self.parts = {part: tuple(f"backbone.{module}" for module in modules) for part, modules in about.parts.items()}
        self.backbone = extractor(name, output_stride)
        self.aspp = ASPP(about.channels, num_classes, output_stride)
        self.aspp.initialize()
        freeze_batch_norm_affine(self)

    def synchronized(self) -> nn.Module:
        from timm.layers import convert_sync_batchnorm  # PyTorch's own would lose activations that are in batch norms

        return convert_sync_batchnorm(self)

    def features(self, images: Tensor) -> Tensor:
        """Backbone features `(N, C', h, w)` of `images (N, 3, H, W)`, h about H/8, or H/16."""
        (top, bottom), (left, right) = (border(side, self.stride, self.patches) for side in images.shape[-2:])
        return self.backbone(F.pad(images, (left, right, top, bottom), mode="replicate"))[-1]


def border(pixels: int, stride: int, patches: bool) -> tuple[int, int]:
    """Pixels to repeat before and after a side, so that its cells have their centres at 0, stride, 2 stride, ...

    Padded 3x3 convolutions look around a pixel: from 8k + 1 pixels they make k + 1 cells. Cells that are patches begin
    at a pixel and need half a cell more before the first; their centres lie half a pixel before the pixel named. (Where
    timm dilates convolutions of patches, they look beyond their cell to the right and below.)
    """
    steps = -(-(pixels - 1) // stride)
    if not patches:
        return 0, stride * steps + 1 - pixels
    return stride // 2, stride * (steps + 1) - pixels - stride // 2


class Backbone(NamedTuple):
    """What is known of a backbone: channels of its features, whether its cells are patches, modules of each part."""

    channels: int
    patches: bool
    parts: dict


@cache
def backbone(name, output_stride=8):
    """The `Backbone` of timm's network `name`, found on a copy without data.

    Raises ValueError in one line where timm is missing, has no such network, or the network no features at this stride.
    """
    side = 8 * output_stride + 1
    with torch.device("meta"), torch.no_grad():
        network = extractor(name, output_stride).eval()
        try:
            features = network(torch.empty(1, 3, side, side))[-1]
        except Exception as error:  # networks of hundreds of kinds fail in as many ways
            raise refusal(name, output_stride, error) from None
    levels = [level["module"] for level in network.feature_info.info]
    cells = features.shape[-1]
    if len(levels) < len(STAGES) or features.shape != (1, features.shape[1], cells, cells) or cells not in (8, 9):
        reason = f"{len(levels)} levels, {tuple(features.shape[2:])} cells for {side}x{side} pixels"
        raise refusal(name, output_stride, reason)
    return Backbone(features.shape[1], cells == 8, parts_of(network, levels))


def extractor(name, output_stride):
    """timm's network `name` without its classifier; called with images, a list whose last are the features."""
    timm = library()
    if not name.isidentifier() or not timm.is_model(name):
        hint = did_you_mean(name.partition(".")[0], timm.list_models())  # a tag belongs to weights, not to a network
        raise ValueError(f"no timm model {name!r}{hint}; timm.list_models() has all")
    try:
        return timm.create_model(name, features_only=True, out_indices=(-1,), output_stride=output_stride)
    except Exception as error:  # an assertion, a missing argument, a missing implementation ...
        raise refusal(name, output_stride, error) from None


def refusal(name: str, output_stride: int, reason: object) -> ValueError:
    """The ValueError for a backbone that cannot be used, in one line."""
    words = (str(reason).splitlines() or [type(reason).__name__])[0]
    return ValueError(f"timm's {name} gives no features at output stride {output_stride} ({words}); use another")


def library():
    """The module `timm`; ValueError where it is not installed."""
    try:
        import timm  # not at the top: an extra, and slow to import
    except ImportError:
        raise ValueError(f'models named {TIMM}... need timm: pip install timm (or -e ".[timm]")') from None
    return timm


def parts_of(network, levels):
    """What `freeze` calls conv1, bn1, layer1 ... layer4, as modules of `network`: {part: names}.

    levels: timm's names of the modules whose outputs are features, in order. The last four end the stages; what comes
    before the first stage is the stem, of which bn1 is the normalisation and conv1 the rest.
    """
    modules = list(network.named_modules())
    joined = [name.replace(".", "_") + "_" for name, _ in modules]  # timm's extractors join the first two names or not
    spans = [
        [place for place, name in enumerate(joined) if name.startswith(level.replace(".", "_") + "_")]
        for level in levels
    ]
    ends = [span[-1] for span in spans[-len(STAGES) :]]
    start = spans[-5][-1] + 1 if len(levels) > len(STAGES) else spans[0][0]
    parts = {part: [] for part in ("conv1", "bn1", *STAGES)}
    for place, (name, module) in enumerate(modules):
        if name and (module._parameters or module._buffers):
            stage = next((stage for stage, end in zip(STAGES, ends, strict=True) if place <= end), STAGES[-1])
            stem = "bn1" if isinstance(module, NORMS) else "conv1"
            parts[stem if place < start else stage].append(name)
    return parts


# -- pretrained weights --------------------------------------------------------------------------------------------


def preprocessing(name: str, path: PathLike) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """`(mean, std)` of the images, from 0 to 1, that the weights at `path` of timm's `name` were trained with.

    They stand in the hub's config.json beside the file, if that is of this network; else they are those that timm knows
    for the file's name (`<name>.<tag>.safetensors`), else for the network.
    """
    timm, path = library(), Path(path)
    about = read_json(path.with_name("config.json"))
    if about and about.get("architecture") == name and (given := about.get("pretrained_cfg")):
        return tuple(given["mean"]), tuple(given["std"])
    try:
        settings = timm.get_pretrained_cfg(path.name.removesuffix(path.suffix))
    except RuntimeError:  # a file of another name, or with a tag that timm does not know
        settings = None
    if settings is None or settings.architecture != name:
        settings = timm.get_pretrained_cfg(name)
    return tuple(settings.mean), tuple(settings.std)


def download(name):
    """Path of timm's weights for `name` in the hub's cache, downloaded with their settings unless they are there.

    Raises ConnectionError in one line.
    """
    from huggingface_hub import hf_hub_download  # comes with timm

    settings = library().get_pretrained_cfg(name)
    repository = getattr(settings, "hf_hub_id", None)
    if not repository:
        raise ConnectionError(f"timm names no weights for {name}")
    try:
        if not in_cache(repository) and not reachable():
            raise OSError("no connection to the hub")
        hf_hub_download(repository, "config.json")
        return Path(hf_hub_download(repository, "model.safetensors"))
    except (OSError, ValueError) as error:
        raise ConnectionError(
            f"timm's {name} weights could not be downloaded ({str(error).splitlines()[0]}); "
            f"name a file of https://huggingface.co/{repository} as pretrained"
        ) from None


def in_cache(repository: str) -> bool:
    """Whether the hub's cache has the weights already."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repository, "model.safetensors"), str)


def reachable(patience: float = 3) -> bool:
    """Whether the hub answers within `patience` seconds; its own library asks again for more than half a minute."""
    if getproxies():
        return True  # which reaches what this machine does not; its library finds out
    server = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    answered = threading.Event()

    def ask():
        with contextlib.suppress(OSError), socket.create_connection((server.hostname, server.port or 443), patience):
            answered.set()

    threading.Thread(target=ask, daemon=True).start()  # names are looked up without a limit of time
    return answered.wait(patience)
