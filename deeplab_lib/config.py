"""Every parameter of a run in one frozen dataclass, checked before anything is loaded."""

import math
import os
import re
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path

import torch

from deeplab_lib.common import devices
from deeplab_lib.common.errors import short_traceback
from deeplab_lib.common.files import data_folder, for_project, project_root
from deeplab_lib.common.parameters import check_parameters
from deeplab_lib.common.text import did_you_mean, slug
from deeplab_lib.data import cityscapes
from deeplab_lib.data.augment import LEVELS
from deeplab_lib.losses import TERMS, canonical, make_loss, parse_expression
from deeplab_lib.models.registry import ARCHITECTURES, TORCHVISION_NETWORKS, check_model
from deeplab_lib.models.timm_backbones import TIMM
from deeplab_lib.models.views import VIEWS
from deeplab_lib.recipes import EXTRA_RECIPES, PRESETS, RECIPES, VERSIONS, Preset, Recipe, preset_for, recipe_for
from deeplab_lib.training.earlier import UNSAID, began_earlier
from deeplab_lib.training.schedule import PolyLR

NAMED = RECIPES | EXTRA_RECIPES  # what `loss` may name
# The steps of a training in which the study warms up for 500: of its logs 50 epochs of 524, of its text of 1,487.
WARMED_UP_IN = {"logs": 26_200, "text": 74_350, "code": 26_200}


def parameter(default, kind, help, choices=None, low=None, high=None, result=False, plain=None):
    """A field of `Config`. `result` marks what changes the numbers of a run (and so belongs to its fingerprint).

    plain: what the study did, for a parameter that goes beyond it. At that value it stays out of the fingerprint, so
    that a run of the study is the same whatever parameters are added.
    """
    about = {"kind": kind, "help": help, "choices": choices, "low": low, "high": high, "result": result, "plain": plain}
    return field(default=default, metadata=about)


@dataclass(frozen=True)
class Config:
    """One run, fully resolved: what is None when it is made takes the recipe's, the preset's or the machine's value.

    Values may come as text (papermill, shell): "1e-3", "false" and "None" are read as meant. Raises ValueError in one
    line naming the parameter, its value and the valid ones.
    """

    loss: str = parameter("ce", str, "recipe key or loss expression", result=True)
    follows: str = parameter(
        "logs", str, "version of the study's recipes: its logs, text or code", VERSIONS, result=True
    )
    data: str = parameter(None, str, "Cityscapes root; None: $CITYSCAPES_DATASET, else the toy city")
    preset: str = parameter("auto", str, "scale: paper, demo or smoke", choices=("auto", *PRESETS))
    out_dir: str = parameter(None, str, "folder of the run's files; None: runs/<dataset name>")
    seed: int = parameter(0, int, "of weights, order and augmentation", low=0, high=2**31 - 1, result=True)
    epochs: int = parameter(None, int, "passes over the training images", low=1, high=100_000, result=True)
    batch_size: int = parameter(None, int, "images an optimiser step", low=1, high=4096, result=True)
    accumulate: int = parameter(1, int, "micro-batches a step is split into", low=1, high=4096, result=True)
    lr: float = parameter(
        None, float, "initial learning rate, as given (no preset factor)", low=0, high=10, result=True
    )
    image_height: int = parameter(None, int, "input height in pixels", low=32, high=4096, result=True)
    image_width: int = parameter(None, int, "input width in pixels", low=32, high=8192, result=True)
    model: str = parameter(None, str, "network; deeplabv2_timm_<name>: on timm's", choices=ARCHITECTURES, result=True)
    output_stride: int = parameter(None, int, "pixels between the grid's cells", choices=(8, 16), result=True, plain=8)
    pretrained: str = parameter(None, str, "auto, none, torchvision or a weights file", result=True)
    bn: str = parameter(
        "train", str, "batch-norm statistics: train or eval (frozen)", choices=("train", "eval"), result=True
    )
    schedule: str = parameter(
        None, str, "recipe whose schedule is used; None: its own", choices=tuple(RECIPES), result=True
    )
    split: str = parameter(None, str, "training images", choices=("train", "train_extra"), result=True, plain="train")
    coarse_epochs: int = parameter(
        None, int, "first, passes over the coarse labels; 0: none", low=0, high=100_000, result=True, plain=0
    )
    augment: str = parameter(None, str, "augmentation of training images", choices=LEVELS, result=True, plain="none")
    crops: int = parameter(None, int, "crops tried; rarest classes win", low=1, high=100, result=True, plain=1)
    ema: float = parameter(
        None, float, "decay of averaged weights; 0: none", low=0, high=0.999999, result=True, plain=0.0
    )
    label_stride: int = parameter(
        None, int, "pixels between labels the loss sees; 0: grid", choices=(0, 1, 2, 4, 8), result=True, plain=0
    )
    multiscale: bool = parameter(None, bool, "train on three scales and their maximum", result=True, plain=False)
    tta: str = parameter(None, str, "views averaged in testing", choices=tuple(VIEWS), result=True, plain="none")
    device: str = parameter("auto", str, "auto, cpu, cuda, cuda:N or mps")
    amp: str = parameter("auto", str, "mixed precision", choices=("auto", "bf16", "fp16", "off"))
    gpus: int = parameter(1, int, "processes (devices) in this run", low=1, high=64)
    workers: int = parameter(None, int, "loader processes a device; None: by core count", low=0, high=256)
    without: str = parameter("", str, f"fast paths to leave off, of {', '.join(devices.FAST_PATHS)}")
    compile: bool = parameter(False, bool, "torch.compile the network")
    deterministic: bool = parameter(False, bool, "deterministic GPU kernels only")
    checkpoint_minutes: float = parameter(5.0, float, "longest time between checkpoints", low=0, high=1e6)
    resume: bool = parameter(True, bool, "continue the run; False moves the old files aside")

    def __post_init__(self):
        for item in fields(self):
            self._set(item.name, checked(item, getattr(self, item.name)))
        # What was asked for, before it is resolved: version 0.1 may have understood it otherwise.
        self._set("given", {name: value for name, value in asdict(self).items() if value != PARAMETERS[name].default})
        self._set("loss", self._canonical_loss())
        self._set("out_dir", self.out_dir and str(for_project(self.out_dir)))
        self._set("data", str(cityscapes.data_root(self.data) or ""))
        if self.preset == "auto":
            self._set("preset", "paper" if self.data else "demo")
        self._set("data", self.data or str(data_folder() / "toycity" / self.preset))
        for name, value in {**self._defaults(), "out_dir": str(project_root() / "runs" / self.dataset_name)}.items():
            if getattr(self, name) is None:
                self._set(name, value)
        if self.schedule and self._same_schedule():
            self._set("schedule", None)
        if self.label_stride == self.output_stride and self.model not in TORCHVISION_NETWORKS:
            self._set("label_stride", 0)  # what the grid sees anyway
        self._resolve_machine()
        self._check_together()

    def _set(self, name, value):
        object.__setattr__(self, name, value)

    def _canonical_loss(self):
        """The recipe's key, or the expression once it has been read without error."""
        if self.loss.lower() in NAMED:
            return self.loss.lower()
        if re.fullmatch(r"\w+", self.loss) and self.loss.lower() not in TERMS:
            hint = did_you_mean(self.loss, [*NAMED, *TERMS])
            known = f"recipes: {', '.join(NAMED)}; terms: {', '.join(TERMS)}"
            raise ValueError(f"no loss {self.loss!r}{hint}; {known}")
        make_loss(self.loss)
        return canonical(self.loss)

    def _same_schedule(self):
        """Whether `schedule` names what the loss would be trained on anyway."""
        own = self.named or recipe_for("ce", self.follows)
        return all(
            getattr(own, k) == getattr(self.schedule_recipe, k) for k in ("lr", "power", "warmup_steps", "changes")
        )

    def _defaults(self):
        """What recipe and preset say of the parameters they set."""
        return {
            "epochs": self.scale.epochs,
            "batch_size": self.scale.batch_size,
            "lr": self.schedule_recipe.lr * self.lr_factor,
            "image_height": self.scale.image_height,
            "image_width": self.scale.image_width,
            "model": self.scale.model,
            "pretrained": "auto" if self.preset == "paper" else "none",
            **{item.name: item.metadata["plain"] for item in beyond_study()},
            **getattr(self.named, "parameters", {}),
        }

    def _resolve_machine(self):
        self._set("device", devices.check_device(self.device))
        self._check_disabled()
        if self.gpus > 1:
            self._check_processes()
        self._set("amp", devices.check_amp(self.amp, self.device))
        if self.workers is None:
            # Two processes may share a machine's cores, and a cached image costs a millisecond: few workers suffice.
            self._set("workers", 0 if self.device == "cpu" else max(1, min(4, devices.cores() // self.gpus)))

    def _check_disabled(self):
        """What is left off must be something that is chosen automatically."""
        unknown = [name for name in self.disabled if name not in devices.FAST_PATHS]
        if unknown:
            hint = did_you_mean(unknown[0], devices.FAST_PATHS)
            raise ValueError(f"without names {unknown[0]!r}{hint}; valid: {', '.join(devices.FAST_PATHS)}")

    def _check_processes(self):
        """Several processes want a device each, and batch norm that follows the batches wants GPUs."""
        if self.device not in ("cuda", "cpu"):
            raise ValueError(f"gpus is {self.gpus}, but device is {self.device!r}; several processes need cuda or cpu")
        if self.device == "cuda" and self.gpus > torch.cuda.device_count():
            raise ValueError(
                f"gpus is {self.gpus}, but PyTorch sees {torch.cuda.device_count()} (CUDA_VISIBLE_DEVICES?)"
            )
        if self.device == "cpu" and self.bn == "train":
            raise ValueError(
                f"gpus is {self.gpus} on the CPU, where batch norm cannot follow a batch spread over processes; "
                "use bn=eval or gpus=1"
            )

    def _check_grid(self):
        """The grid's cells lie a stride apart, and the first and the last are shown at the image's corners."""
        for name in ("image_height", "image_width"):
            side, stride = getattr(self, name), self.output_stride
            if self.model not in TORCHVISION_NETWORKS and side % stride > 1:
                near = [stride * (side // stride + i) for i in (0, 1)]
                raise ValueError(
                    f"{name} is {side}, but the grid's cells lie {stride} pixels apart; "
                    f"use a multiple of {stride}, such as {near[0]} or {near[1]}"
                )

    def _check_together(self):
        check_model(self.model, self.output_stride)
        self._check_grid()
        if self.model.startswith("deeplabv3") and self.bn == "train" and self.batch_size == self.accumulate:
            raise ValueError(
                f"{self.model} pools a batch to one value a channel, but its batches are of one image (batch_size "
                f"{self.batch_size}, accumulate {self.accumulate}); use two images or bn=eval"
            )
        if self.full_size_loss and self.label_stride:
            raise ValueError(
                f"label_stride is {self.label_stride}, but with follows=code the loss sees every label; leave it out"
            )
        if self.coarse_epochs and self.split != "train":
            raise ValueError(f"coarse_epochs is {self.coarse_epochs}, but split is {self.split}; use split=train")
        if self.crops > 1 and self.augment in ("none", "flip"):
            cause = f"crops is {self.crops}, but augment is {self.augment}: nothing is cropped"
            raise ValueError(f"{cause}; use augment=standard")
        if self.batch_size % (self.accumulate * self.gpus):
            raise ValueError(
                f"batch_size {self.batch_size} cannot be split evenly "
                f"over accumulate {self.accumulate} x gpus {self.gpus}"
            )
        terms = [name for _, name, _ in parse_expression(self.expression)]
        for change in self.schedule_recipe.changes:
            if change.weights and set(change.weights) != set(terms):
                raise ValueError(
                    f"schedule {self.schedule_recipe.key!r} weighs {', '.join(change.weights)}, "
                    f"but the loss {self.expression!r} has {', '.join(terms)}"
                )

    @property
    def named(self) -> Recipe | None:
        """The recipe that is trained, the study's or ours, or None for a loss expression."""
        return recipe_for(self.loss, self.follows) if self.loss in NAMED else None

    @property
    def schedule_recipe(self) -> Recipe:
        """The recipe whose rate, power, warm-up and changes are used."""
        return recipe_for(self.schedule or (self.loss if self.named else "ce"), self.follows)

    @property
    def first_stage(self):
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
        """By what the preset multiplies the plan's rate."""
        studied = self.schedule or self.loss in RECIPES
        return self.scale.lr_factor if studied else self.scale.extra_lr_factor

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
        return {split: (count,) for split, count in counts.items()} | {"val": (self.val_each_epoch, counts["val"])}

    @property
    def epochs_per_pass(self) -> int:
        """How many epochs make a pass over the training images."""
        return self.scale.epochs_per_pass if self.toycity and self.split == "train" else 1

    @property
    def val_each_epoch(self) -> int | None:
        """How many images, the first, are evaluated after every epoch but the last; None: all."""
        return (self.scale.val_each_epoch or self.scale.toycity["val"]) if self.toycity else None

    @property
    def disabled(self):
        """The fast paths that `without` names."""
        return re.findall(r"[\w-]+", self.without.lower())

    @property
    def fast_paths(self):
        """The fast paths in force, see `devices.FAST_PATHS`."""
        return devices.fast_paths(self.device, self.deterministic, self.disabled)

    @property
    def expression(self):
        """The loss as an expression."""
        return self.named.loss if self.named else self.loss

    @property
    def title(self):
        """Short name for tables and curves."""
        return self.named.title if self.named else self.loss

    @property
    def about(self):
        """What is trained, in a sentence: a recipe's own motivation, unless its loss has another's schedule."""
        if self.named and not self.schedule:
            return self.named.motivation
        loss = f"The loss of {self.title}" if self.named else "A loss of your own"
        return f"{loss}, on the schedule of {self.schedule_recipe.title}."

    @property
    def needs_class_counts(self):
        """Whether the training depends on how often each class occurs."""
        return self.crops > 1 or make_loss(self.expression).needs_class_counts

    @property
    def size(self):
        """Input size (H, W)."""
        return self.image_height, self.image_width

    @property
    def toycity(self):
        """Whether the data is the kit's own toy city, which is written when it is not there."""
        return Path(self.data) == data_folder() / "toycity" / self.preset

    @property
    def dataset_name(self):
        """`toycity`, or the data folder's name in lower case."""
        return "toycity" if self.toycity else Path(self.data).name.lower()

    @property
    def stem(self):
        """Name of the run's files: the study's stem, then every parameter that differs from recipe and preset."""
        name = self.named.stem if self.named else "DeepLabV2_" + slug(self.loss)
        short = {"image_height": "h", "image_width": "w", "batch_size": "batch", "model": "", "follows": ""}
        short |= {"output_stride": "stride", "coarse_epochs": "coarse"}
        short |= {name: f"{name}_" for name in ("schedule", "augment", "tta", "split")}
        return name + "".join(f"_{short.get(key, key)}{value}" for key, value in self._departures())

    def _departures(self):
        normal = {item.name: item.default for item in fields(self) if item.metadata["result"]} | self._defaults()
        for name, default in normal.items():
            value = getattr(self, name)
            if name != "loss" and value != default and not (name == "pretrained" and value == "auto"):
                text = f"{value:g}" if isinstance(value, float) else slug(Path(str(value)).stem)
                yield name, text

    def poly(self, steps_per_epoch):
        """The `PolyLR` of this run; a recipe's own warm-up shrinks with the length of the training, except on paper."""
        total = self.epochs * steps_per_epoch
        share = 1 if self.preset == "paper" else total / WARMED_UP_IN[self.follows]
        warmup = round(self.scale.warmup * total) + round(self.schedule_recipe.warmup_steps * share)
        weights = make_loss(self.expression).weights
        return PolyLR(
            self.lr, total, self.schedule_recipe.power, warmup, weights, self.schedule_recipe.changes, self.follows
        )

    def as_dict(self):
        """Every parameter, for JSON."""
        return asdict(self)

    def result_dict(self):
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


def beyond_study():
    """The parameters for what the study did not do."""
    return [item for item in fields(Config) if item.metadata["plain"] is not None]


def checked(item, value):
    """`value` of parameter `item` as its type and within its range, or ValueError."""
    about = item.metadata
    means_none = item.name == "pretrained" or "none" in (about["choices"] or ())
    if isinstance(value, str) and value.strip().lower() in ("none", "null", "") and not means_none:
        value = None
    if value is None:
        return None if item.default is MISSING else item.default
    if value is False and about["kind"] is str:  # YAML reads off and no as false
        words = ("none",) if item.name == "pretrained" else about["choices"] or ()
        value = next((word for word in ("off", "none") if word in words), value)
    value = coerce(item.name, value, about["kind"])
    if item.name == "pretrained":
        value = {"": None, "null": "none", "false": "none", "true": "auto"}.get(value.lower(), value)
        return value.lower() if value and value.lower() in ("none", "auto", "torchvision") else value
    if about["choices"]:
        value = value.lower() if isinstance(value, str) else value
        if value not in about["choices"] and not (item.name == "model" and value.startswith(TIMM)):
            hint = did_you_mean(value, map(str, about["choices"]))
            raise ValueError(f"{item.name} is {value!r}{hint}; valid: {', '.join(map(str, about['choices']))}")
    if about["low"] is not None and not about["low"] <= value <= about["high"]:
        form = ".15g" if about["kind"] is float else "d"
        raise ValueError(f"{item.name} is {value:{form}}; it must lie between {about['low']} and {about['high']}")
    if item.name == "lr" and value == 0:
        raise ValueError("lr is 0; it must be positive")
    return value


def coerce(name, value, kind):
    """Read `value`, perhaps text from a command line, as `kind`; ValueError when it does not mean one."""
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    try:
        if kind is bool and not isinstance(value, float):
            return words[str(value).strip().lower()]
        if kind is str and isinstance(value, str | os.PathLike):
            return str(value).strip()
        if kind in (int, float) and isinstance(value, int | float | str) and not isinstance(value, bool):
            number = float(value)
            if math.isfinite(number) and (kind is float or number == int(number)):
                return kind(number)
    except (KeyError, ValueError, OverflowError):
        pass
    want = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[kind]
    raise ValueError(f"{name} is {value!r}; it must be {want}")


class EarlierConfig(Config):
    """The configuration of a run that version 0.1 began, before a run could follow anything but the study's text."""

    def _departures(self):
        return ((key, value) for key, value in super()._departures() if key != "follows")


def as_begun(config: Config, say: Callable[[str], None] = print) -> Config:
    """`config`, or what the same parameters meant in version 0.1 where that version began their run.

    Such a run, or its first stage, is continued as it was begun, or kept if it is finished; `say` gets the choice.
    """
    if config.follows != "logs" or not config.resume or isinstance(config, EarlierConfig):
        return config
    earlier = EarlierConfig(**config.given | UNSAID)
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
def from_notebook(namespace):
    """The `Config` of a notebook's parameters, given its `globals()`; a name that is none is refused."""
    check_parameters(namespace, PARAMETERS)
    return as_begun(Config(**{name: namespace[name] for name in PARAMETERS if name in namespace}))
