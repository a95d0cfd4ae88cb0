"""DeepLabV2 on the backbones of timm (an extra): every network there that gives features at an output stride of 8.

Source: Wightman, "PyTorch Image Models", 2019, https://github.com/huggingface/pytorch-image-models.
"""

import contextlib
import os
import socket
import threading
import traceback
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
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
    """DeepLabV2 on timm's backbone `name`, randomly initialised as timm does it, but for scales that would stay 0.

    The image's border is repeated until cells lie from corner to corner, where labels are sampled and logits upsampled;
    where the cells of a backbone look is measured, see `shift_of`. A side that is neither a multiple of the stride nor
    one more is stretched by less than a cell. Raises ValueError for a backbone that `backbone` or `shift_of` refuses,
    an unknown `bn` or `output_stride`.
    """

    def __init__(self, name: str, num_classes: int = 19, bn: BatchNormMode = "train", output_stride: int = 8) -> None:
        self._begin(num_classes, "3x3", bn, output_stride)
        self.name, self.about = TIMM + name, backbone(name, output_stride)
        self.shift = shift_of(name, output_stride)
        self.parts = {
            part: tuple(f"backbone.{module}" for module in modules) for part, modules in self.about.parts.items()
        }
        self.backbone = extractor(name, output_stride)
        wake_blocks(self.backbone)
        self.aspp = ASPP(self.about.channels, num_classes, output_stride)
        self.aspp.initialize()
        freeze_batch_norm_affine(self)

    def synchronized(self) -> "DeepLabV2OnTimm":
        from timm.layers import convert_sync_batchnorm  # PyTorch's own would lose activations that are in batch norms

        return convert_sync_batchnorm(self)

    def features(self, images: Tensor) -> Tensor:
        """Backbone features `(N, C', h, w)` of `images (N, 3, H, W)`, h about H/8, or H/16."""
        rows, columns = (border(side, self.stride, self.about.multiple, self.shift) for side in images.shape[-2:])
        around = (columns.before, columns.after, rows.before, rows.after)
        features = self.backbone(F.pad(images, around, mode="replicate"))[-1]
        return features[..., rows.first : rows.first + rows.cells, columns.first : columns.first + columns.cells]


class Border(NamedTuple):
    """Pixels to repeat before and after a side, and which cells then lie on it: from `first` on, `cells` of them."""

    before: int
    after: int
    first: int
    cells: int


def border(pixels: int, stride: int, multiple: int = 1, shift: int = 0) -> Border:
    """The `Border` with which a side's cells have their centres at 0, stride, 2 stride, ...

    Padded 3x3 convolutions (multiple 1) look around a pixel: from 8k + 1 pixels they make k + 1 cells. Cells that are
    patches begin at a pixel and need half a cell more before the first; their centres lie half a pixel before the pixel
    named. `multiple`: what sides must be a multiple of. `shift`: pixels by which the cells look further on than that.
    """
    patches, cells = multiple > 1, (pixels + stride - 2) // stride + 1
    before = (stride // 2 if patches else 0) + shift
    first = int(before < 0)
    before += stride * first
    last = stride - 1 if patches else 0  # pixels of the last cell that lie behind its first
    needed = larger(stride * (first + cells - 1) + last + 1, before + pixels)
    unit, more = (multiple, 0) if patches else (stride, 1)
    whole = (needed - more + unit - 1) // unit * unit + more
    return Border(before, whole - before - pixels, first, cells)


def larger(a: int, b: int) -> int:
    """The larger of the two: `max`, which a traced network would decide once for all sizes."""
    return a + (b > a) * (b - a)


class Backbone(NamedTuple):
    """What is known of a backbone: channels of its features, what its sides are a multiple of, modules of each part.

    multiple: 1 where convolutions look around a pixel and 8k + 1 pixels make k + 1 cells; else at least the stride.
    """

    channels: int
    multiple: int
    parts: dict


@cache
def backbone(name: str, output_stride: int = 8) -> Backbone:
    """The `Backbone` of timm's network `name`, found on a copy without data.

    Raises ValueError in one line where timm is missing, has no such network, or the network no features at this stride.
    """
    with torch.device("meta"):
        network = extractor(name, output_stride).eval()
    reasons = []
    for multiple in (1, *(output_stride * windows for windows in (1, 2, 4, 8))):
        side = 8 * output_stride + 1 if multiple == 1 else multiple * max(3, 9 * output_stride // multiple | 1)
        cells = -(-side // output_stride)
        try:
            with torch.device("meta"), torch.no_grad():
                features = network(torch.empty(1, 3, side, side))[-1]
        except Exception as error:  # networks of hundreds of kinds fail in as many ways
            reasons.append(cause(error))
            continue
        if features.shape == (1, features.shape[1], cells, cells):
            parts = parts_of(network, [level["module"] for level in network.feature_info.info])
            if parts is None:
                raise refusal(name, output_stride, "fewer than four stages are recognised")
            return Backbone(features.shape[1], multiple, parts)
        reasons.append(f"{tuple(features.shape[2:])} cells for {side}x{side} pixels")
    raise refusal(name, output_stride, reasons[0])


@cache
def shift_of(name: str, output_stride: int = 8) -> int:
    """By how many pixels the cells of timm's network `name` look further right and down than `border` assumes.

    Measured along the columns, see `centre`. Raises ValueError in one line where that is more than a cell back or two
    on, or where channels differ as halves do that look more than two cells apart: then labels and features cannot
    meet. Three shortcuts that each pool 2x2 make a cell and a quarter.
    """
    multiple = backbone(name, output_stride).multiple
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shift, agreement = centre(extractor(name, output_stride), output_stride, multiple)
    if not (-output_stride <= shift <= 2 * output_stride and agreement >= 0.9):
        places = f"its cells look {shift:.0f} pixels beside their place, its channels agree to {agreement:.0%}"
        raise refusal(name, output_stride, places)
    return round(shift + 0.25)  # patches have their centre half a pixel before the pixel named


@torch.no_grad()
def centre(network: nn.Module, stride: int, multiple: int = 1) -> tuple[float, float]:
    """Pixels from where `border` assumes a cell of `network` to where it looks, and how far channels agree, 0 to 1.

    The network is shown a wave with a crest where a cell is assumed. The wave is even about that crest, the kernels are
    made even, and convolutions, norms, gates, maxima and attention make nothing but even of what is even. So every
    channel is a wave with a crest, or a lowest point, where the cells see the crest of the image; its phase says how
    far off that is, whatever became of its height. Squared, both have the same phase, and in the sum branches that look
    at different places count by the power that they carry. `network(images)[-1]` are the features; its
    parameters are changed.
    """
    margin, period = 8, 32  # in cells, of which a window has up to 8: of a period of two it would mirror the wave
    unit = stride if multiple == 1 else multiple
    height, width = (-(-cells * stride // unit) * unit + (multiple == 1) for cells in (2, period + 2 * margin))
    places = torch.arange(width) / stride - (0.5 if multiple > 1 else 0) - margin
    wave = torch.cos(2 * torch.pi / period * places).expand(1, 3, height, width)
    ground = torch.tensor([1.0, 0.5, -0.5]).view(1, 3, 1, 1)
    faint = 1e-4 * torch.cat([ground + wave, ground - wave])  # gates and attention stay as undecided as they begin
    up, down = even(network).eval()(faint)[-1].double()
    # The difference has nothing of what borders make of the ground.
    waves = torch.fft.fft((up - down)[..., margin : margin + period])[..., 1].square()
    agreement = waves.sum().abs() / waves.abs().sum()
    return float(waves.sum().angle() / (4 * torch.pi)) * period * stride, float(agreement)


def even(network: nn.Module) -> nn.Module:
    """`network` with filters that are even along the columns, and norms as they usually begin.

    As large as He's, the filters keep the power of what they see behind a ReLU, as batch norms do in training.
    """
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            shape = getattr(module, "weight_shape", parameter.shape)  # CondConv2d's filters lie flat
            if name == "weight" and len(shape) >= 4:
                filters = parameter.view(-1, *shape[1:])
                filters = F.normalize(filters.flatten(1)).view_as(filters)
                parameter.copy_(((filters + filters.flip(3)) / 2**0.5).view_as(parameter))
            elif parameter.ndim == 1 and name in ("weight", "bias"):
                parameter.fill_(name == "weight")
    return network


def wake_blocks(network: nn.Module) -> None:
    """Set to 1 the batch-norm scales that are all 0.

    timm starts a residual block's last scale at 0. Here such scales do not train: the block would add nothing for ever.
    """
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            scale = module.weight
            if scale is not None and not scale.is_meta and not scale.any():
                nn.init.ones_(scale)


def extractor(name: str, output_stride: int) -> Any:  # timm has no types
    """timm's network `name` without its classifier; called with images, a list whose last are the features."""
    timm = library()
    if not name.isidentifier() or not timm.is_model(name):
        hint = did_you_mean(name.partition(".")[0], timm.list_models())  # a tag belongs to weights, not to a network
        raise ValueError(f"no timm model {name!r}{hint}; timm.list_models() has all")
    try:
        return timm.create_model(name, features_only=True, out_indices=(-1,), output_stride=output_stride)
    except Exception as error:  # an assertion, a missing argument, a missing implementation ...
        raise refusal(name, output_stride, error) from None


def refusal(name: str, output_stride: int, reason: str | Exception) -> ValueError:
    """The ValueError for a backbone that cannot be used, in one line."""
    words = cause(reason) if isinstance(reason, Exception) else reason
    return ValueError(f"timm's {name} gives no features at output stride {output_stride} ({words}); use another")


def cause(error: Exception) -> str:
    """What an error says, in a line; of one that says nothing, the line of code that raised it."""
    if lines := str(error).splitlines():
        return lines[0]
    return f"{type(error).__name__}: {traceback.extract_tb(error.__traceback__)[-1].line}"


def library() -> ModuleType:
    """The module `timm`; ValueError where it is not installed."""
    try:
        import timm  # not at the top: an extra, and slow to import
    except ImportError:
        raise ValueError(f'models named {TIMM}... need timm: pip install timm (or -e ".[timm]")') from None
    return timm


def parts_of(network: nn.Module, levels: Sequence[str]) -> dict[str, list[str]] | None:
    """What `freeze` calls conv1, bn1, layer1 ... layer4, as modules of `network`: {part: names}.

    levels: timm's names of the modules whose outputs are features, in order. The last four end the stages; what comes
    before the first stage is the stem, of which bn1 is the normalisation and conv1 the rest. None for fewer than four.
    """
    modules = list(network.named_modules())
    # timm's extractors join the first two names or not, or wrap the network.
    joined = [name.removeprefix("model.").replace(".", "_") + "_" for name, _ in modules]
    spans = [
        [place for place, name in enumerate(joined) if name.startswith(level.replace(".", "_") + "_")]
        for level in levels
    ]
    spans = [span for span in spans if span]
    if len(spans) < len(STAGES):
        return None
    ends = [span[-1] for span in spans[-len(STAGES) :]]
    start = spans[-5][-1] + 1 if len(spans) > len(STAGES) else spans[0][0]
    parts: dict[str, list[str]] = {part: [] for part in ("conv1", "bn1", *STAGES)}
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


def download(name: str) -> Path:
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

    def ask() -> None:
        with contextlib.suppress(OSError), socket.create_connection((server.hostname, server.port or 443), patience):
            answered.set()

    threading.Thread(target=ask, daemon=True).start()  # names are looked up without a limit of time
    return answered.wait(patience)
