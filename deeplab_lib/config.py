"""Every parameter of a run in one frozen dataclass, checked before anything is loaded."""

import inspect
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import torch

from deeplab_lib.common import devices
from deeplab_lib.common.errors import short_traceback
from deeplab_lib.common.files import data_folder, for_project, project_root
from deeplab_lib.common.parameters import check_parameters, read_parameters
from deeplab_lib.common.text import did_you_mean, slug
from deeplab_lib.common.types import Say
from deeplab_lib.data import cityscapes
from deeplab_lib.data.augment import LEVELS
from deeplab_lib.losses import TERMS, canonical, make_loss, parse_expression
from deeplab_lib.models.registry import ARCHITECTURES, TORCHVISION_NETWORKS, check_model
from deeplab_lib.models.timm_backbones import TIMM
from deeplab_lib.models.views import VIEWS
from deeplab_lib.recipes import (
    EXTRA_RECIPES,
    PRESETS,
    RECIPES,
    VERSIONS,
    Follows,
    Preset,
    Recipe,
    preset_for,
    recipe_for,
)
from deeplab_lib.training.earlier import UNSAID, began_earlier
from deeplab_lib.training.schedule import PolyLR

BatchNorm = Literal["train", "eval"]
Precision = Literal["auto", "bf16", "fp16", "off"]
Split = Literal["train", "train_extra"]
PRETRAINED_WORDS = {"null": "none", "false": "none", "true": "auto"} | {w: w for w in ("none", "auto", "torchvision")}

NAMED = RECIPES | EXTRA_RECIPES  # what `loss` may name
# The steps of a training in which the study warms up for 500: of its logs 50 epochs of 524, of its text of 1,487.
WARMED_UP_IN = {"logs": 26_200, "text": 74_350, "code": 26_200}


# What each parameter is, a line each: the text that stands beside it in `train.ipynb`.
DESCRIPTIONS = dict(
    line.split(": ", 1)
    for line in """
loss: a recipe of the study (ce, ce_tversky, ...) or of ours (ours_mirrored, ...), or "0.6*ce + 0.4*dice"
follows: version of the study's recipes: as logged (logs), as its text says (text) or as its code does (code)
data: Cityscapes root; None: $CITYSCAPES_DATASET, else the built-in toy city
split: training images: train (fine labels) or train_extra (coarse); None: train
coarse_epochs: passes over the coarse labels first, as a run of its own; 0: none
preset: paper, demo or smoke; auto: paper with real data, demo with the toy city
out_dir: folder of the run's files; None: runs/<dataset name>
seed: of the first weights, the order of the images and their augmentation
epochs: passes over the training images
batch_size: images an optimiser step
accumulate: parts a batch is split into, to save memory
lr: initial learning rate, as given; None: the recipe's, at demo scale times sixty
image_height: input size in pixels
image_width: input size in pixels
model: network: deeplabv2_resnet101, deeplabv3_resnet101, ...
output_stride: pixels between cells of the network's grid: 8 (the study's) or 16, faster and coarser
pretrained: auto, none, torchvision or a weights file
bn: statistics of batch norm: train (follow the batches) or eval (held)
schedule: recipe whose schedule is used instead of the loss's own
augment: training images: none (the study's), flip, standard (scale, crop, flip, colour) or strong
crops: random crops to choose from; above 1, the one with the rarest classes is taken
ema: test a running average of the weights with this decay, such as 0.99; 0: the weights themselves
label_stride: pixels between the labels that the loss sees: 4, 2 or 1 (all); 0: those on the network's grid
multiscale: train on three scales of each image and their maximum
tta: test on: none (the image), flip (and its mirror image) or multiscale (and at 3/4 and 5/4 of its size)
device: auto, cpu, cuda, cuda:N or mps
amp: mixed precision: auto, bf16, fp16 or off
gpus: processes (devices) that share this run
workers: loader processes
fast: whatever is faster here and changes no more than rounding; False: plain PyTorch
compile: torch.compile the network that trains
deterministic: deterministic GPU kernels only
checkpoint_minutes: longest time between two checkpoints
tensorboard: write curves and predictions for TensorBoard as well, into out_dir/tensorboard
resume: continue the run; False moves its old files aside and starts anew
""".strip().splitlines()
)


def parameter(
    default: Any,
    kind: type,
    choices: Collection[object] | None = None,
    low: float | None = None,
    high: float | None = None,
    result: bool = False,
    plain: Any = None,
    words: Mapping[str, str] | None = None,
    also: str | None = None,
) -> Any:
    """A field of `Config`. `result` marks what changes the numbers of a run (and so belongs to its fingerprint).

    words: what some texts mean. also: how further valid texts begin, beside `choices`. plain: what the study did, for
    a parameter that goes beyond it. At that value it stays out of the fingerprint, so that a run of the study is the
    same whatever parameters are added.
    """
    about = {"kind": kind, "choices": choices, "low": low, "high": high, "result": result, "plain": plain}
    return field(default=default, metadata=about | {"words": words, "also": also})


@dataclass(frozen=True, init=False)
class Config:
    """One run, fully resolved: what is None when it is made takes the recipe's, the preset's or the machine's value.

    Values may come as text (papermill, shell): "1e-3", "false" and "None" are read as meant. Raises ValueError in one
    line naming the parameter, its value and the valid ones.
    """

    loss: str = parameter("ce", str, result=True)
    follows: Follows = parameter("logs", str, VERSIONS, result=True)
    data: str = parameter(None, str)
    preset: str = parameter("auto", str, choices=("auto", *PRESETS))
    out_dir: str = parameter(None, str)
    seed: int = parameter(0, int, low=0, high=2**31 - 1, result=True)
    epochs: int = parameter(None, int, low=1, high=100_000, result=True)
    batch_size: int = parameter(None, int, low=1, high=4096, result=True)
    accumulate: int = parameter(1, int, low=1, high=4096, result=True)
    lr: float = parameter(None, float, low=0, high=10, result=True)
    image_height: int = parameter(None, int, low=32, high=4096, result=True)
    image_width: int = parameter(None, int, low=32, high=8192, result=True)
    model: str = parameter(None, str, choices=ARCHITECTURES, also=TIMM, result=True)
    output_stride: int = parameter(None, int, choices=(8, 16), result=True, plain=8)
    pretrained: str = parameter(None, str, words=PRETRAINED_WORDS, result=True)
    bn: BatchNorm = parameter("train", str, choices=get_args(BatchNorm), result=True)
    schedule: str | None = parameter(None, str, choices=tuple(RECIPES), result=True)
    split: Split = parameter(None, str, choices=get_args(Split), result=True, plain="train")
    coarse_epochs: int = parameter(None, int, low=0, high=100_000, result=True, plain=0)
    augment: str = parameter(None, str, choices=LEVELS, result=True, plain="none")
    crops: int = parameter(None, int, low=1, high=100, result=True, plain=1)
    ema: float = parameter(None, float, low=0, high=0.999999, result=True, plain=0.0)
    label_stride: int = parameter(None, int, choices=(0, 1, 2, 4, 8), result=True, plain=0)
    multiscale: bool = parameter(None, bool, result=True, plain=False)
    tta: str = parameter(None, str, choices=tuple(VIEWS), result=True, plain="none")
    device: str = parameter("auto", str)
    amp: Precision = parameter("auto", str, choices=get_args(Precision))
    gpus: int = parameter(1, int, low=1, high=64)
    workers: int = parameter(None, int, low=0, high=256)
    fast: bool = parameter(True, bool)
    compile: bool = parameter(False, bool)
    deterministic: bool = parameter(False, bool)
    checkpoint_minutes: float = parameter(5.0, float, low=0, high=1e6)
    tensorboard: bool = parameter(False, bool)
    resume: bool = parameter(True, bool)

    def __init__(self, loss: str | None = None, **given: Any) -> None:
        asked = read_parameters(replace_removed({"loss": loss} | given), PARAMETERS)
        vars(self).update(resolve(asked))
        # What was asked for, before it was resolved: version 0.1 may have understood it otherwise.
        vars(self)["given"] = {name: value for name, value in asked.items() if value != PARAMETERS[name].default}
        check_together(self)

    @property
    def named(self) -> Recipe | None:
        """The recipe that is trained, the study's or ours, or None for a loss expression."""
        return named_recipe(self.loss, self.follows)

    @property
    def schedule_recipe(self) -> Recipe:
        """The recipe whose rate, power, warm-up and changes are used."""
        return schedule_recipe(self.loss, self.schedule, self.follows)

    @property
    def first_stage(self) -> "Config | None":
        """The run on the coarse labels whose weights this one starts from; None where there is none."""
        if self.coarse_epochs:
            return replace(self, split="train_extra", epochs=self.coarse_epochs, coarse_epochs=0, resume=True)
        return None

    @property
    def scale(self) -> Preset:
        """The preset's values."""
        return preset_for(self.preset, self.follows)

    @property
    def lr_factor(self) -> float:
        """By what the preset multiplies the recipe's rate."""
        return lr_factor(self.loss, self.schedule, self.scale)

    @property
    def full_size_loss(self) -> bool:
        """Whether the loss is taken at the input's size, as in the study's code, and not on the network's grid."""
        return self.follows == "code"

    @property
    def scenes(self) -> dict[str, tuple[int, ...]] | None:
        """The toy city's scenes that this run uses, for `cityscapes.describe`; None for other data, used whole."""
        if not self.toycity:
            return None
        counts = self.scale.toycity
        first = self.scale.val_each_epoch or counts["val"]
        return {**{split: (count,) for split, count in counts.items()}, "val": (first, counts["val"])}

    @property
    def micro_batch(self) -> int:
        """Images that go through the network at once in training."""
        return self.batch_size // self.accumulate

    @property
    def val_at_once(self) -> int:
        """How many such batches are evaluated at once."""
        return self.scale.val_at_once if self.toycity else 1

    @property
    def epochs_per_pass(self) -> int:
        """How many epochs make a pass over the training images."""
        return self.scale.epochs_per_pass if self.toycity and self.split == "train" else 1

    @property
    def val_each_epoch(self) -> int | None:
        """How many images, the first, are evaluated after every epoch but the last; None: all."""
        return (self.scale.val_each_epoch or self.scale.toycity["val"]) if self.toycity else None

    @property
    def fast_paths(self) -> tuple[str, ...]:
        """The fast paths in force, see `devices.FAST_PATHS`."""
        return devices.fast_paths(self.device, self.deterministic) if self.fast else ()

    @property
    def expression(self) -> str:
        """The loss as an expression."""
        return self.named.loss if self.named else self.loss

    @property
    def title(self) -> str:
        """Short name for tables and curves."""
        return self.named.title if self.named else self.loss

    @property
    def about(self) -> str:
        """What is trained, in a sentence: a recipe's own motivation, unless its loss has another's schedule."""
        if self.named and not self.schedule:
            return self.named.motivation
        loss = f"The loss of {self.title}" if self.named else "A loss of your own"
        return f"{loss}, on the schedule of {self.schedule_recipe.title}."

    @property
    def needs_class_counts(self) -> bool:
        """Whether the training depends on how often each class occurs."""
        return self.crops > 1 or make_loss(self.expression).needs_class_counts

    @property
    def size(self) -> tuple[int, int]:
        """Input size (H, W)."""
        return self.image_height, self.image_width

    @property
    def toycity(self) -> bool:
        """Whether the data is the kit's own toy city, which is written when it is not there."""
        return Path(self.data) == toycity_folder(self.preset)

    @property
    def dataset_name(self) -> str:
        """`toycity`, or the data folder's name in lower case."""
        return dataset_name(self.data, self.preset)

    @property
    def stem(self) -> str:
        """Name of the run's files: the study's stem, then every parameter that differs from recipe and preset."""
        name = self.named.stem if self.named else "DeepLabV2_" + slug(self.loss)
        short = {"image_height": "h", "image_width": "w", "batch_size": "batch", "model": "", "follows": ""}
        short |= {"output_stride": "stride", "coarse_epochs": "coarse"}
        short |= {name: f"{name}_" for name in ("schedule", "augment", "tta", "split")}
        return name + "".join(f"_{short.get(key, key)}{value}" for key, value in self._departures())

    def _departures(self) -> Iterator[tuple[str, str]]:
        normal = {item.name: item.default for item in fields(self) if item.metadata["result"]}
        normal |= defaults(self.loss, self.schedule, self.follows, self.preset)
        for name, default in normal.items():
            value = getattr(self, name)
            if name != "loss" and value != default and not (name == "pretrained" and value == "auto"):
                text = f"{value:g}" if isinstance(value, float) else slug(Path(str(value)).stem)
                yield name, text

    def poly(self, steps_per_epoch: int) -> PolyLR:
        """The `PolyLR` of this run; a recipe's own warm-up shrinks with the length of the training, except on paper."""
        total = self.epochs * steps_per_epoch
        share = 1 if self.preset == "paper" else total / WARMED_UP_IN[self.follows]
        warmup = round(self.scale.warmup * total) + round(self.schedule_recipe.warmup_steps * share)
        weights = make_loss(self.expression).weights
        return PolyLR(
            self.lr, total, self.schedule_recipe.power, warmup, weights, self.schedule_recipe.changes, self.follows
        )

    def as_dict(self) -> dict[str, Any]:
        """Every parameter, for JSON."""
        return asdict(self)

    def result_dict(self) -> dict[str, Any]:
        """The parameters that change the numbers, and what recipe and preset add to them."""
        parameters = {item.name: getattr(self, item.name) for item in fields(self) if item.metadata["result"]}
        for item in beyond_study():
            if parameters[item.name] == item.metadata["plain"]:
                del parameters[item.name]
        recipe = self.schedule_recipe
        extra = {"power": recipe.power, "changes": [asdict(change) for change in recipe.changes]}
        if self.epochs_per_pass > 1:
            extra["epochs_per_pass"] = self.epochs_per_pass
        if self.toycity and self.scale.val_each_epoch:
            extra["val_each_epoch"] = self.val_each_epoch
        return parameters | extra | {"warmup": [recipe.warmup_steps, self.scale.warmup], "preset": self.preset}


PARAMETERS = {item.name: item for item in fields(Config)}
# What completion and tooltips show: every parameter with its type and its default. Where that is None, a configuration
# holds what the recipe, the preset or the machine says.
TYPES = get_type_hints(Config)
Config.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY if place else inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=item.default,
            annotation=TYPES[name] | None if item.default is None else TYPES[name],
        )
        for place, (name, item) in enumerate(PARAMETERS.items())
    ]
)


def beyond_study() -> list:
    """The parameters for what the study did not do."""
    return [item for item in fields(Config) if item.metadata["plain"] is not None]


def resolve(asked: dict[str, Any]) -> dict[str, Any]:
    """The value of every parameter: what is None in `asked` takes the recipe's, the preset's or the machine's."""
    value = dict(asked)
    value["loss"] = loss = canonical_loss(asked["loss"])

    root = cityscapes.data_root(asked["data"])
    value["preset"] = preset = asked["preset"] if asked["preset"] != "auto" else "paper" if root else "demo"
    value["data"] = str(root or toycity_folder(preset))
    runs = project_root() / "runs" / dataset_name(value["data"], preset)
    value["out_dir"] = str(for_project(asked["out_dir"], "out_dir") if asked["out_dir"] else runs)

    follows, schedule = asked["follows"], asked["schedule"]
    if schedule and same_schedule(loss, schedule, follows, preset):
        value["schedule"] = schedule = None
    for name, default in defaults(loss, schedule, follows, preset).items():
        value[name] = default if value[name] is None else value[name]
    if value["label_stride"] == value["output_stride"] and value["model"] not in TORCHVISION_NETWORKS:
        value["label_stride"] = 0  # what the grid sees anyway

    value["device"] = devices.check_device(asked["device"])
    if value["gpus"] > 1:
        check_processes(value["gpus"], value["device"], value["bn"])
    value["amp"] = devices.check_amp(asked["amp"], value["device"])
    if value["workers"] is None:
        # Two processes may share a machine's cores, and a cached image costs a millisecond: few workers suffice.
        several = max(1, min(4, devices.cores() // value["gpus"]))
        value["workers"] = 0 if value["device"] == "cpu" else several
    return value


def defaults(loss: str, schedule: str | None, follows: Follows, preset: str) -> dict[str, Any]:
    """What recipe and preset say of the parameters that they set."""
    scale, recipe = preset_for(preset, follows), schedule_recipe(loss, schedule, follows)
    return {
        "epochs": scale.epochs,
        "batch_size": scale.batch_size,
        "lr": recipe.lr * lr_factor(loss, schedule, scale),
        "image_height": scale.image_height,
        "image_width": scale.image_width,
        "model": scale.model,
        "pretrained": "auto" if preset == "paper" else "none",
        **{item.name: item.metadata["plain"] for item in beyond_study()},
        **getattr(named_recipe(loss, follows), "parameters", {}),
    }


def canonical_loss(loss: str) -> str:
    """The recipe's key, or the expression once it has been read without error."""
    if loss.lower() in NAMED:
        return loss.lower()
    if re.fullmatch(r"\w+", loss) and loss.lower() not in TERMS:
        hint = did_you_mean(loss, [*NAMED, *TERMS])
        raise ValueError(f"no loss {loss!r}{hint}; recipes: {', '.join(NAMED)}; terms: {', '.join(TERMS)}")
    make_loss(loss)
    return canonical(loss)


def named_recipe(loss: str, follows: Follows) -> Recipe | None:
    """The recipe that `loss` names, the study's or ours; None for a loss expression."""
    return recipe_for(loss, follows) if loss in NAMED else None


def schedule_recipe(loss: str, schedule: str | None, follows: Follows) -> Recipe:
    """The recipe whose rate, power, warm-up and changes are used: that of `schedule`, of the loss, or of CE."""
    return recipe_for(schedule or (loss if loss in NAMED else "ce"), follows)


def same_schedule(loss: str, schedule: str, follows: Follows, preset: str) -> bool:
    """Whether `schedule` names what the loss would be trained on anyway."""
    own, other = schedule_recipe(loss, None, follows), schedule_recipe(loss, schedule, follows)
    scale = preset_for(preset, follows)
    alike = all(getattr(own, k) == getattr(other, k) for k in ("lr", "power", "warmup_steps", "changes"))
    return alike and lr_factor(loss, schedule, scale) == lr_factor(loss, None, scale)


def lr_factor(loss: str, schedule: str | None, scale: Preset) -> float:
    """By what a preset multiplies the rate of the study's recipes, and that of other losses."""
    return scale.lr_factor if schedule or loss in RECIPES else scale.extra_lr_factor


def toycity_folder(preset: str) -> Path:
    """Where the toy city of a preset lies."""
    return data_folder() / "toycity" / preset


def dataset_name(data: str, preset: str) -> str:
    """`toycity`, or the data folder's name in lower case."""
    return "toycity" if Path(data) == toycity_folder(preset) else Path(data).name.lower()


# -- what does not go together -----------------------------------------------------------------------------------------


def check_processes(gpus: int, device: str, bn: str) -> None:
    """Several processes want a device each, and batch norm that follows the batches wants GPUs."""
    if device not in ("cuda", "cpu"):
        raise ValueError(f"gpus is {gpus}, but device is {device!r}; several processes need cuda or cpu")
    if device == "cuda" and gpus > torch.cuda.device_count():
        raise ValueError(f"gpus is {gpus}, but PyTorch sees {torch.cuda.device_count()} (CUDA_VISIBLE_DEVICES?)")
    if device == "cpu" and bn == "train":
        raise ValueError(
            f"gpus is {gpus} on the CPU, where batch norm cannot follow a batch spread over processes; "
            "use bn=eval or gpus=1"
        )


def check_grid(config: Config) -> None:
    """The grid's cells lie a stride apart, and the first and the last are shown at the image's corners."""
    for name in ("image_height", "image_width"):
        side, stride = getattr(config, name), config.output_stride
        if config.model not in TORCHVISION_NETWORKS and side % stride > 1:
            near = [stride * (side // stride + i) for i in (0, 1)]
            raise ValueError(
                f"{name} is {side}, but the grid's cells lie {stride} pixels apart; "
                f"use a multiple of {stride}, such as {near[0]} or {near[1]}"
            )


def check_together(config: Config) -> None:
    """Refuse values that are valid alone and not together."""
    if config.tensorboard and find_spec("tensorboard") is None:
        raise ValueError('tensorboard is True, but is not installed: pip install tensorboard (or -e ".[tensorboard]")')
    check_model(config.model, config.output_stride)
    check_grid(config)
    if config.model.startswith("deeplabv3") and config.bn == "train" and config.batch_size == config.accumulate:
        raise ValueError(
            f"{config.model} pools a batch to one value a channel, but its batches are of one image (batch_size "
            f"{config.batch_size}, accumulate {config.accumulate}); use two images or bn=eval"
        )
    if config.full_size_loss and config.label_stride:
        raise ValueError(
            f"label_stride is {config.label_stride}, but with follows=code the loss sees every label; leave it out"
        )
    if config.coarse_epochs and config.split != "train":
        raise ValueError(f"coarse_epochs is {config.coarse_epochs}, but split is {config.split}; use split=train")
    if config.crops > 1 and config.augment in ("none", "flip"):
        cause = f"crops is {config.crops}, but augment is {config.augment}: nothing is cropped"
        raise ValueError(f"{cause}; use augment=standard")
    if config.batch_size % (config.accumulate * config.gpus):
        raise ValueError(
            f"batch_size {config.batch_size} cannot be split evenly "
            f"over accumulate {config.accumulate} x gpus {config.gpus}"
        )
    terms, recipe = [name for _, name, _ in parse_expression(config.expression)], config.schedule_recipe
    for change in recipe.changes:
        if change.weights and set(change.weights) != set(terms):
            raise ValueError(
                f"schedule {recipe.key!r} weighs {', '.join(change.weights)}, "
                f"but the loss {config.expression!r} has {', '.join(terms)}"
            )


# -- from a notebook, and from version 0.1 -----------------------------------------------------------------------------


# What were parameters once and are still accepted: what does their work now, and its value where they are set.
REMOVED = {"without": {"fast": False}}


def replace_removed(given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with what took the place of parameters that are none any more, of which a line tells."""
    kept = {name: value for name, value in given.items() if name not in REMOVED}
    for name in REMOVED.keys() & given.keys():
        if given[name] and str(given[name]).lower() != "none":
            kept = REMOVED[name] | kept
            instead = ", ".join(f"{new}={value}" for new, value in REMOVED[name].items())
            note_once(f"{name} is no parameter any more: {name}={given[name]!r} is taken as {instead}")
    return kept


@cache
def note_once(text: str) -> None:
    """Print a note, once a process."""
    print(f"note: {text}")


class EarlierConfig(Config):
    """The configuration of a run that version 0.1 began, before a run could follow anything but the study's text."""

    def _departures(self) -> Iterator[tuple[str, str]]:
        return ((key, value) for key, value in super()._departures() if key != "follows")


def as_begun(config: Config, say: Say = print) -> Config:
    """`config`, or what the same parameters meant in version 0.1 where that version began their run.

    Such a run, or its first stage, is continued as it was begun, or kept if it is finished; `say` gets the choice.
    """
    if config.follows != "logs" or not config.resume or isinstance(config, EarlierConfig):
        return config
    earlier = EarlierConfig(**vars(config)["given"] | UNSAID)
    stage = earlier.first_stage
    if not any(began_earlier(run.out_dir, run.stem) for run in filter(None, (earlier, stage))):
        return config
    done = (Path(earlier.out_dir) / f"{earlier.stem}.json").exists()
    say(
        f"{earlier.stem} in {earlier.out_dir} was begun by version 0.1, which followed the study's text: it "
        + ("is finished and kept" if done else "continues as it began")
        + "; to follow the logs, give another out_dir, or resume=False, which moves its files aside"
    )
    return earlier


@short_traceback
def from_notebook(namespace: Mapping[str, Any]) -> Config:
    """The `Config` of a notebook's parameters, given its `globals()`; a name that is none is refused."""
    check_parameters(namespace, PARAMETERS, REMOVED)
    return as_begun(Config(**{name: namespace[name] for name in (*PARAMETERS, *REMOVED) if name in namespace}))
