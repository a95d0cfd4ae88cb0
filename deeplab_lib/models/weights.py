"""Pretrained weights, and the preprocessing and stride layout that belong to them."""

import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from deeplab_lib import bootstrap
from deeplab_lib.common.errors import short_traceback
from deeplab_lib.common.files import in_project, project_root
from deeplab_lib.common.search import nearest
from deeplab_lib.common.types import PathLike
from deeplab_lib.data.normalization import BGR_CAFFE, NORMALIZATIONS, RGB_IMAGENET, Normalization
from deeplab_lib.models import mobile_weights, timm_backbones
from deeplab_lib.models.deeplabv2 import Bottleneck
from deeplab_lib.models.network import SegmentationNetwork, StrideIn
from deeplab_lib.models.timm_backbones import TIMM
from deeplab_lib.models.torchvision_backbones import RESNETS, DeepLabV2OnResNet
from deeplab_lib.models.weight_files import named_tensors, read, sha256, some

if TYPE_CHECKING:
    from deeplab_lib.config import Config


@dataclass(frozen=True)
class Format:
    """A family of weight files, recognised by a key that only its members have; its preprocessing and stride layout."""

    name: str
    marker: str  # regular expression for one key, before any prefix but `module.` is removed
    normalization: Normalization
    stride_in: StrideIn


# Order matters: the first whose marker occurs wins.
FORMATS = (
    Format("this kit's DeepLabV2", r"aspp\.branches\.", RGB_IMAGENET, "1x1"),
    Format("Caffe DeepLab (Scale.*)", r"Scale\.", BGR_CAFFE, "1x1"),
    Format("public DeepLab (conv2d_list)", r"layer[56]\.conv2d_list\.", BGR_CAFFE, "1x1"),
    Format("torchvision segmentation", r"backbone\.", RGB_IMAGENET, "3x3"),
    Format("torchvision ResNet", r"fc\.weight", RGB_IMAGENET, "3x3"),
    Format("torchvision MobileNetV3", r"features\.\d+\.block\.", RGB_IMAGENET, "3x3"),
    Format("public DeepLab backbone", r"layer4\.", BGR_CAFFE, "1x1"),
)
HEADLESS = Format("torchvision ResNet without fc, by bn1's statistics", "", RGB_IMAGENET, "3x3")
COUNTER = "num_batches_tracked"
HEADS = ("aspp.", "classifier.")
COURSE_FILES = "DeepLab_resnet_pretrained*.pth"
# Classifiers of torchvision's with weights that fit a backbone here.
TORCHVISION = (
    *("resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d"),
    *("wide_resnet50_2", "wide_resnet101_2", "mobilenet_v3_large"),
)
# Initial rate at which a pretrained start is calm. Measured on 128 photographs, two epochs at 128x96: at 0.01 the
# training loss of EfficientNet-Lite0 rose from 15 to 22, at 0.001 it fell from 2.3 to 1.6; MobileNetV2's fell at both.
PRETRAINED_LR = 0.001


@dataclass(frozen=True)
class WeightsReport:
    """What a file gave to a network. `matched` and `total` count backbone tensors; `unexpected` found no place."""

    path: str
    sha256: str
    format: str
    matched: int
    total: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    head: bool
    normalization: Normalization
    stride_in: StrideIn

    def __str__(self) -> str:
        return (
            f"{self.path} ({self.format}, sha256 {self.sha256[:12]}): {self.matched} of {self.total} backbone tensors, "
            f"head {'loaded' if self.head else 'new'}; input {self.normalization.name}, stride in {self.stride_in}"
            + (f"; {len(self.unexpected)} without a place here: {some(self.unexpected)}" if self.unexpected else "")
        )


@dataclass(frozen=True)
class Pretrained:
    """Where a run's weights come from (`path`, None: from scratch), with their preprocessing and stride layout.

    `warning` is set when weights were wanted and are not there.
    """

    path: Path | None
    normalization: Normalization
    stride_in: StrideIn
    source: str
    warning: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON and for the checkpoints of the run, which `read_weights` then reads with the right settings."""
        return asdict(self) | {"path": self.path and str(self.path), "normalization": self.normalization.name}


def load_pretrained(model: SegmentationNetwork, path: PathLike, minimum: float = 0.99) -> WeightsReport:
    """Fill `model`'s backbone, and its head when every tensor of it fits, from the weights file at `path`.

    Reads the families of `FORMATS`, with or without `module.`; DeepLabV2's stride layout is set to the file's. A
    public checkpoint trained with two active branches fills all four: fine-tune it, or do not use its head.
    Returns a `WeightsReport`. The model is untouched if anything is wrong: FileNotFoundError, or ValueError when the
    file is no weights file, fills less than `minimum` of the backbone, or belongs to a deeper one.
    """
    path = Path(path)
    fits, report = fitting(model, path, minimum)
    model.load_state_dict(fits, strict=False)
    set_stride_in(model, report.stride_in)
    return report


def fitting(model: nn.Module, path: Path, minimum: float = 0.99) -> tuple[dict[str, torch.Tensor], WeightsReport]:
    """The tensors of the file at `path` that `model` takes, and the report; the model is only looked at.

    Raises what `load_pretrained` raises.
    """
    weights, kind = read_weights(path, getattr(model, "name", ""))
    own = {key: value for key, value in model.state_dict().items() if not key.endswith(COUNTER)}
    if hasattr(model, "backbone") or isinstance(model, DeepLabV2OnResNet):
        _check_layout(path, kind, type(model).__name__)
    if hasattr(model, "backbone"):
        # timm's extractors call stages_0 what its files call stages.0
        places = {key.replace(".", "_"): key for key in own}
        named = {key if key.startswith(HEADS) else f"backbone.{key}": value for key, value in weights.items()}
        weights = {places.get(key.replace(".", "_"), key): value for key, value in named.items()}
    fits = {key: value for key, value in weights.items() if key in own and value.shape == own[key].shape}
    backbone = [key for key in own if not key.startswith(HEADS)]
    missing = tuple(key for key in backbone if key not in fits)
    unexpected = tuple(key for key in weights if key not in own)
    head = all(key in fits for key in own if key.startswith(HEADS))
    if not head:
        fits = {key: value for key, value in fits.items() if not key.startswith(HEADS)}
    report = WeightsReport(
        str(path), sha256(path), kind.name, len(backbone) - len(missing), len(backbone), missing, unexpected, head,
        kind.normalization, kind.stride_in,
    )  # fmt: skip
    _check_match(report, minimum)
    return fits, report


def _check_layout(path: Path, kind: Format, network: str) -> None:
    if kind.stride_in != "3x3":
        raise ValueError(f"{path} ({kind.name}) has its stride in the 1x1 convolutions; {network} needs it in the 3x3")


def _check_match(found: WeightsReport, minimum: float) -> None:
    """Refuse a file that leaves too much of the backbone unfilled, or that comes from another one."""
    file = f"{found.path} ({found.format})"
    if found.matched < minimum * found.total:
        raise ValueError(
            f"{file} fills {found.matched} of the backbone's {found.total} tensors, fewer than {minimum:.0%}; missing "
            f"or of another shape: {some(found.missing)}; without a place here: {some(found.unexpected)}"
        )
    block = re.compile(r"(backbone\.)?(layer[1-4]|\d+|stages|blocks|s[1-4])\.")
    if foreign := [key for key in found.unexpected if block.match(key)]:
        raise ValueError(
            f"{file} is of a deeper backbone: {len(foreign)} of its tensors have no place here, first {foreign[0]}"
        )


def set_stride_in(model: SegmentationNetwork, stride_in: StrideIn) -> None:
    """Move the strides of a DeepLabV2's stages to the "1x1" or the "3x3" convolution; see `model.Bottleneck`."""
    for block in model.modules():
        if isinstance(block, Bottleneck):
            low, high = sorted((block.conv1.stride, block.conv2.stride))
            block.conv1.stride, block.conv2.stride = (high, low) if stride_in == "1x1" else (low, high)
    model.stride_in = stride_in


def read_weights(path: PathLike, model: str = "") -> tuple[dict[str, Tensor], Format]:
    """Tensors of a weights file under this kit's names (backbone bare, head `aspp.` or `classifier.`), its `Format`.

    model: architecture they are meant for; timm's files cannot be recognised by their keys. Nothing in the file is
    executed. Raises FileNotFoundError or ValueError in one line.
    """
    payload = read(Path(path))[0]
    tensors = named_tensors(payload)
    kind = next((kind for kind in FORMATS if any(re.match(kind.marker, key) for key in tensors)), None)
    if kind is None and (mobile := mobile_weights.recognize(tensors)):
        if model != TIMM + mobile.timm:
            belongs = f"holds weights of {mobile.name} ({some(list(tensors))})"
            raise ValueError(f"{path} {belongs}; they belong to model={TIMM}{mobile.timm}")
        tensors = mobile_weights.timm_names(tensors, mobile)
        kind = replace(_timm_format(path, mobile.timm), name=f"{mobile.name}, for timm's {mobile.timm}")
    elif tensors and model.startswith(TIMM) and kind != FORMATS[0]:
        kind = _timm_format(path, model.removeprefix(TIMM))
    if kind is None:
        found = f"keys such as {some(list(tensors))}" if tensors else "no tensors by name"
        known = ", ".join(kind.name for kind in FORMATS)
        raise ValueError(f"{path} holds no weights of a network known here ({found}); known: {known}")
    if kind == FORMATS[-1] and _saw_unit_inputs(tensors):
        kind = HEADLESS
    settings = payload.get("weights") if isinstance(payload, dict) else None
    if isinstance(settings, dict) and settings.get("normalization") in NORMALIZATIONS:
        normalization = NORMALIZATIONS[settings["normalization"]]
        kind = replace(kind, normalization=normalization, stride_in=settings["stride_in"])
    elif kind == FORMATS[0] or "identity" in payload:
        problem = "are this kit's, but their preprocessing and stride layout are not in the file"
        raise ValueError(f"the weights in {path} {problem}; give the run's .best.pt")
    head = "layer6" if any("layer6.conv2d_list." in key for key in tensors) else "layer5"
    # Some of timm's networks call their own layers features.
    owner = r"^(Scale|backbone)\." if model.startswith(TIMM) else r"^(Scale|backbone|features)\."
    names = {key: re.sub(rf"^{head}\.conv2d_list\.", "aspp.branches.", re.sub(owner, "", key)) for key in tensors}
    # The counters of old batch norms are absent from some files and used by no network here.
    return {names[key]: value for key, value in tensors.items() if not key.endswith(COUNTER)}, kind


def is_random(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether no batch norm among the tensors has seen an image: all running means 0, all running variances 1."""
    means = [value for key, value in tensors.items() if key.endswith("running_mean")]
    variances = [value for key, value in tensors.items() if key.endswith("running_var")]
    return bool(means) and all((value == 0).all() for value in means) and all((value == 1).all() for value in variances)


def _saw_unit_inputs(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a ResNet was trained on images of variance about 1, as torchvision's are, or, as Caffe's, about 60 * 60.

    Both have the same names. The variance of conv1's outputs, which bn1 keeps, is that of the images times the squared
    norm of the filter, give or take how smooth these are: the two are far enough apart.
    """
    variance, filters = tensors.get("bn1.running_var"), tensors.get("conv1.weight")
    if variance is None or filters is None:
        return False
    return (variance.double() / filters.double().flatten(1).square().sum(1)).median().item() < 60


def _timm_format(path: PathLike, name: str) -> Format:
    """The `Format` of a file of timm's for its network `name`."""
    mean, std = timm_backbones.preprocessing(name, path)
    for known in NORMALIZATIONS.values():
        if known.scale == 1 / 255 and np.allclose((*known.mean, *known.std), (*mean, *std), atol=1e-4):
            return Format(f"timm {name}", "", known, "3x3")
    raise ValueError(f"{path} wants images of mean {mean} and deviation {std}, which no preprocessing here gives")


def find_pretrained(*search_dirs: PathLike, model: str = "deeplabv2_resnet101") -> Path | None:
    """First weights file that suits the architecture `model`, or None.

    Looks into `search_dirs`, `$DEEPLAB_PRETRAINED` (a folder, or a file unless its name is of another network's
    weights), the project and its `data/`, what Kaggle and Colab mount, and PyTorch's download cache; the course's file
    goes before torchvision's. Of timm's backbones the files are called `<name>.<tag>.safetensors`, or .bin or .pth.
    Raises FileNotFoundError when `$DEEPLAB_PRETRAINED` names nothing.
    """
    patterns = _file_names(model)
    if not patterns:
        return None
    named = os.environ.get("DEEPLAB_PRETRAINED")
    if named and not Path(named).exists():
        raise FileNotFoundError(f"$DEEPLAB_PRETRAINED is {named}, where there is nothing")
    if named and Path(named).is_file() and _may_suit(Path(named).name, patterns):
        return Path(named)
    mounted = [folder for mount in bootstrap.MOUNTS for folder in (mount, *sorted(mount.glob("*/")))]
    usual = [project_root(), project_root() / "data", Path.cwd(), *mounted]
    folders = [*map(Path, search_dirs), *([Path(named)] if named else []), *usual, hub_folder()]
    for pattern in patterns:
        for folder in folders:
            if found := sorted(folder.glob(pattern)):
                return found[0]
    return None


def _file_names(model: str) -> list[str]:
    """Patterns of the names that weights files of the architecture `model` have, the preferred one first."""
    if model.startswith(TIMM):
        return [model.removeprefix(TIMM) + ending for ending in (".*safetensors", ".*bin", ".*pth")]
    backbone = torchvision_backbone(model)
    if backbone is None:
        return []
    course = [COURSE_FILES] if model == "deeplabv2_resnet101" else []
    return [*course, cached_file(backbone).name, f"{backbone}-*.pth"]


def _may_suit(name: str, patterns: Sequence[str]) -> bool:
    """Whether a file of this name may hold what `patterns` are of: unless it is the name of another network's."""
    known = [COURSE_FILES, *(f"{backbone}-*.pth" for backbone in TORCHVISION)]
    return any(fnmatch(name, p) for p in patterns) or not any(fnmatch(name, p) for p in known)


def resolve(pretrained: str | PathLike, model: str = "deeplabv2_resnet101", *search_dirs: PathLike) -> Pretrained:
    """The `Pretrained` meant by "none"/False, "auto"/True, "torchvision" or a path, for the architecture `model`.

    Needs no network in memory, so that preprocessing and stride layout can be shown before anything is built. "auto"
    takes what `find_pretrained` finds, else downloads torchvision's or timm's; offline it falls back to "none" with a
    warning. Raises FileNotFoundError, ValueError (see `read_weights`) or, for "torchvision" offline, ConnectionError.
    """
    wish = wanted(pretrained)
    scratch = Pretrained(None, RGB_IMAGENET, _scratch_layout(model), "none (from scratch)")
    if wish == "none":
        return scratch
    if wish not in ("auto", "torchvision"):
        return _from_file(_existing(wish), model)
    backbone, timm = torchvision_backbone(model), model.startswith(TIMM)
    if wish == "torchvision" and not backbone:
        raise ValueError(f"torchvision has no weights for {model}; use pretrained=none or another model")
    if wish == "auto" and (found := find_pretrained(*search_dirs, model=model)):
        return _from_file(found, model)
    try:
        if backbone:
            return _from_file(download(backbone), model)
        return _from_file(timm_backbones.download(model.removeprefix(TIMM)), model) if timm else scratch
    except ConnectionError as error:
        if wish == "torchvision":
            raise
        return replace(scratch, warning=f"no pretrained weights: training from scratch ({error})")


def wanted(pretrained: str | PathLike) -> str:
    """ "none", "auto", "torchvision" or a path, as which `pretrained` is meant."""
    wish = str(pretrained).strip()
    words = {"": "none", "false": "none", "true": "auto"}
    word = words.get(wish.lower(), wish.lower())
    return word if word in ("none", "auto", "torchvision") else wish


@short_traceback
def prepare_weights(config: "Config", wish: str | None = None) -> Pretrained:
    """What the run of `config` starts from, checked before its data are prepared: `wish`, None: `config.pretrained`.

    As `resolve`; besides, the file must fill the network's backbone and must have been trained. ValueError in one line
    where it does not; with "auto" a file of random weights is passed over with a warning. The warning also proposes a
    rate where the preset's is too high for weights that were trained already.
    """
    wish = config.pretrained if wish is None else wish
    found = resolve(wish, config.model)
    if found.path is None:
        return found
    weights, kind = read_weights(found.path, config.model)
    own = kind.name == FORMATS[0].name  # trained here, perhaps with batch norms that were never to learn
    if not own and is_random(weights):
        problem = f"{found.path} holds random weights (running means all 0, variances all 1): nobody has trained them"
        if wanted(wish) != "auto":
            raise ValueError(f"{problem}; name another file, or train from scratch with pretrained=none")
        scratch = resolve("none", config.model)
        return replace(scratch, warning=f"no pretrained weights: training from scratch ({problem})")
    from deeplab_lib.models.registry import make_model  # not at the top: it builds on this module's neighbours

    with torch.random.fork_rng(devices=[]):  # the network is looked at, and thrown away
        model = make_model(config.model, stride_in=found.stride_in, output_stride=config.output_stride)
    fitting(model, found.path)
    if not own and config.scale.lr_factor > 1 and config.lr > PRETRAINED_LR:
        advice = f"lr is {config.lr:g}, set for networks from scratch; if the training loss rises, try"
        return replace(found, warning=f"{advice} lr={PRETRAINED_LR:g}")
    return found


def _scratch_layout(model: str) -> StrideIn:
    return "3x3" if model in RESNETS or model.startswith(TIMM) or not model.startswith("deeplabv2") else "1x1"


def _existing(text: str) -> Path:
    """The file meant by a path that may be relative to the current folder or to the project."""
    if (path := in_project(text)).is_file():
        return path
    if path.is_dir():
        files = sorted(file.name for file in path.iterdir() if file.suffix in (".pth", ".pt", ".safetensors", ".bin"))
        hint = f"a folder; name a file in it: {some(files)}" if files else "a folder without weights"
    else:
        names = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
        near = nearest(path.name, names)
        hint = "no such file" + (f", the nearest there is {near}" if near else "")
    raise FileNotFoundError(f"pretrained is {text!r}: {hint}; use auto, none, torchvision or a path")


def _from_file(path: Path, model: str) -> Pretrained:
    kind = read_weights(path, model)[1]
    if _scratch_layout(model) == "3x3":
        _check_layout(path, kind, model)
    return Pretrained(path, kind.normalization, kind.stride_in, str(path))


def torchvision_backbone(model: str) -> str | None:
    """Name of the torchvision classifier whose weights fit the backbone of architecture `model`, or None."""
    return None if model.startswith(TIMM) else next((name for name in TORCHVISION if model.endswith(name)), None)


def hub_folder() -> Path:
    """PyTorch's download cache."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def cached_file(backbone: str) -> Path:
    """Where torchvision keeps the weights of `backbone` once they are downloaded."""
    return hub_folder() / _torchvision_weights(backbone).url.rpartition("/")[2]


def _torchvision_weights(backbone: str) -> Any:
    from torchvision.models import get_model_weights  # not at the top: it takes as long to import as torch itself

    return get_model_weights(backbone)["IMAGENET1K_V1"]  # V1, as torchvision's own segmentation networks are built on


def download(backbone: str, patience: float = 5) -> Path:
    """Path of torchvision's weights for `backbone`, downloaded and hash-checked unless cached.

    Raises ConnectionError in one line; a silent network counts as absent after `patience` seconds.
    """
    path = cached_file(backbone)
    if path.exists():
        return path
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(patience)
    try:
        _torchvision_weights(backbone).get_state_dict(check_hash=True)
    except (OSError, RuntimeError) as error:  # URLError is an OSError; a wrong hash a RuntimeError
        raise ConnectionError(
            f"torchvision's {backbone} weights could not be downloaded ({str(error).splitlines()[0]}); "
            f"put {path.name} into {path.parent}"
        ) from None
    finally:
        socket.setdefaulttimeout(before)
    return path
