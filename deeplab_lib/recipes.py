"""The eight runs of the study as data, and the three scales at which they can be made.

A recipe says what is trained: loss, learning rate and the changes on the way. A preset says at what scale: network,
image size, epochs. Every recipe runs at every preset. Recipes of our own stand after the study's eight.

The study describes its runs three times, and not alike: in its text, in the logs of its runs and in its code. `RECIPES`
and `PRESETS` follow the logs, which record what was done; `recipe_for` and `preset_for` give the other versions.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

PLAN_EPOCHS = 50
ALL_STAGES = ("layer1", "layer2", "layer3", "layer4", "bn1")  # frozen by the study's text
LATE_STAGES = ("layer3", "layer4")  # frozen by its logs: 2,835,724 parameters are left to train

Follows = Literal["logs", "text", "code"]
VERSIONS = ("logs", "text", "code")


@dataclass(frozen=True)
class Change:
    """A change of plan from the start of `epoch` (1-based, of `PLAN_EPOCHS`) on; None leaves a setting as it is.

    power: of the poly schedule. weights: {term: weight} of the loss. freeze: parts that stop training.
    """

    epoch: int
    power: float | None = None
    weights: dict | None = None
    freeze: tuple = ()

    @property
    def progress(self) -> float:
        """Share of the training after which the change acts, 0 to 1."""
        return (self.epoch - 1) / PLAN_EPOCHS

    def first_step(self, total_steps: int) -> int:
        """First optimiser step (0-based) under the change, for a training of `total_steps`."""
        return -(-(self.epoch - 1) * total_steps // PLAN_EPOCHS)


@dataclass(frozen=True)
class Recipe:
    """One run of the study. `stem` names its files, `title` its curves; `motivation` says what it is meant to show."""

    key: str
    stem: str
    title: str
    loss: str
    lr: float
    motivation: str
    power: float = 0.9
    warmup_steps: int = 0
    changes: tuple = ()


RECIPES = {
    recipe.key: recipe
    for recipe in (
        Recipe(
            "ce",
            "DeepLabV2_ce",
            "CE",
            "ce",
            lr=0.0001,
            motivation="The baseline: plain cross-entropy, all pixels have equal weight.",
        ),
        Recipe(
            "ce_tversky",
            "DeepLabV2_ce07_tv03",
            "CE + Tversky",
            "0.7*ce + 0.3*tversky(alpha=0.3, beta=0.7)",
            lr=0.0001,
            motivation="Cross-entropy covers the whole image. Tversky penalises a missed pixel more than a false one, "
            "which should help the rare classes.",
        ),
        Recipe(
            "ce_lovasz",
            "DeepLabV2_ce05_lv05",
            "CE + Lovász",
            "0.5*ce + 0.5*lovasz",
            lr=0.0001,
            motivation="Lovász-Softmax is a surrogate of IoU: half of the loss aims directly at the measure.",
        ),
        Recipe(
            "ce_dice",
            "DeepLabV2_cv07_di03",
            "CE + Dice",
            "0.7*ce + 0.3*dice",
            lr=0.0001,
            motivation="Dice measures the overlap of each class, whatever its size, which should help small and "
            "irregular objects.",
        ),
        Recipe(
            "ce_lovasz_warmup",
            "DeepLabV2_ce07_l03_warnup_lr_0.0002",
            "CE + Lovász (warm-up)",
            "0.7*ce + 0.3*lovasz",
            lr=0.0002,
            warmup_steps=500,
            changes=(
                Change(31, power=1.0),
                Change(46, power=2.0, weights={"ce": 0.5, "lovasz": 0.5}, freeze=LATE_STAGES),
                Change(48, power=1.2),
            ),
            motivation="The same pair, warmed up to twice the rate of the first runs. From epoch 31 on the rate decays "
            "faster, and at the end the last two stages are frozen.",
        ),
        Recipe(
            "ce_focal",
            "DeepLabV2_ce05_f05_warnup_lr_0.0003",
            "CE + Focal",
            "0.5*ce + 0.5*focal(gamma=2)",
            lr=0.0003,
            warmup_steps=500,
            changes=(Change(29, power=1.2), Change(44, power=1.0, freeze=LATE_STAGES)),
            motivation="Focal gives more weight to hard and rare pixels, at the highest of the rates. The rate decays "
            "faster from epoch 29 on, and the last two stages are frozen at the end.",
        ),
        Recipe(
            "ce_lovasz_dice",
            "DeepLabV2_ce05_l0.25_di0.25_no_warnup_lr_0.0002",
            "CE + Lovász + Dice",
            "0.5*ce + 0.25*lovasz + 0.25*dice",
            lr=0.0002,
            changes=(Change(31, power=1.1),),
            motivation="Both overlap losses together with cross-entropy; a faster decay should refine class details.",
        ),
        Recipe(
            "ce_lovasz_focal",
            "DeepLabV2_ce06_l0.2_fo0.2_no_warnup_lr_0.0001",
            "CE + Lovász + Focal",
            "0.6*ce + 0.2*lovasz + 0.2*focal(gamma=2)",
            lr=0.0001,
            motivation="Three terms at once: the whole image, the measure and the hard pixels.",
        ),
    )
}

# What the study's text says where its logs say otherwise.
TEXT: dict[str, dict[str, Any]] = {
    **{key: {"lr": 0.001} for key in ("ce", "ce_tversky", "ce_lovasz", "ce_dice")},
    "ce_lovasz_warmup": {
        "changes": (
            Change(29, power=1.2),
            Change(46, power=2.0, weights={"ce": 0.5, "lovasz": 0.5}, freeze=ALL_STAGES),
            Change(47, power=1.2),
        ),
        "motivation": "The same pair at a lower, warmed-up rate that decays faster from epoch 29 on. At the end the "
        "residual stages are frozen and only the layers around them are trained further.",
    },
    "ce_focal": {
        "changes": (Change(31, power=1.0), Change(44, freeze=ALL_STAGES)),
        "motivation": "Focal gives more weight to hard and rare pixels; the rate decays slightly faster over the last "
        "20 epochs.",
    },
    "ce_lovasz_dice": {"power": 1.1, "changes": ()},
}


def recipe_for(key: str, follows: Follows = "logs") -> Recipe:
    """The recipe `key`, the study's or ours, in the version of the study that is followed."""
    if key in EXTRA_RECIPES:
        # A recipe of ours has the baseline's rate, whichever that is.
        return replace(EXTRA_RECIPES[key], lr=recipe_for("ce", follows).lr)
    return replace(RECIPES[key], **TEXT.get(key, {})) if follows == "text" else RECIPES[key]


@dataclass(frozen=True)
class Preset:
    """A scale. `lr_factor` multiplies the rate of the study's recipes, `extra_lr_factor` that of ours and of losses of
    your own; `warmup` is a share of all steps, on top of a recipe's own.

    toycity: scenes of each split of the built-in toy city, written at `toycity_size` (H, W). On it, and on no other
    data, a pass over the training scenes is divided into `epochs_per_pass` epochs, and after every epoch but the last
    only the first `val_each_epoch` validation scenes are evaluated (None: all), `val_at_once` training batches at once.
    """

    model: str
    image_height: int
    image_width: int
    epochs: int
    batch_size: int
    lr_factor: float
    extra_lr_factor: float
    warmup: float
    toycity: dict[str, int]
    toycity_size: tuple[int, int]
    epochs_per_pass: int = 1
    val_each_epoch: int | None = None
    val_at_once: int = 1


def scenes(train: int, val: int, coarse: int) -> dict[str, int]:
    """Scenes of each split of a toy city; the coarsely labelled ones are drawn on demand."""
    return {"train": train, "val": val, "train_extra": coarse}


PRESETS = {
    "paper": Preset("deeplabv2_resnet101", 512, 1024, 50, 3, 1.0, 1.0, 0.0, scenes(400, 120, 400), (1024, 2048)),
    # From scratch in a few hundred steps the study's rates are too low and the head's first steps too wild: sixty times
    # the rate and a long common warm-up solve both, alike for every recipe. Many scenes seen twice teach more than few
    # seen often, and small batches more than large ones, in the same time.
    "demo": Preset(
        "deeplabv2_mini", 128, 256, 10, 2, 60.0, 100.0, 0.2, scenes(600, 400, 320), (128, 256),
        epochs_per_pass=5, val_each_epoch=120, val_at_once=4,
    ),
    "smoke": Preset("deeplabv2_micro", 32, 64, 5, 2, 100.0, 100.0, 0.1, scenes(20, 8, 20), (64, 128)),
}  # fmt: skip

# The scales at which the study's text is followed, whose rates differ from those of its logs.
_TEXT_PRESETS = {
    "paper": replace(PRESETS["paper"], batch_size=2),
    "demo": Preset("deeplabv2_mini", 128, 256, 5, 4, 10.0, 10.0, 0.1, scenes(320, 120, 320), (128, 256)),
    "smoke": replace(PRESETS["smoke"], lr_factor=10.0, extra_lr_factor=10.0),
}


def preset_for(name: str, follows: Follows = "logs") -> Preset:
    """The scale `name` for the version of the study that is followed."""
    return _TEXT_PRESETS[name] if follows == "text" else PRESETS[name]


@dataclass(frozen=True)
class ExtraRecipe(Recipe):
    """A recipe beyond the study: the same network, trained and tested as well as we know how.

    parameters: values of `Config`'s fields that the study left alone; what is given explicitly still wins.
    """

    parameters: dict = field(default_factory=dict)


EXTRA_RECIPES = {
    recipe.key: recipe
    for recipe in (
        ExtraRecipe(
            "ours_averaged",
            "ours_averaged",
            "Ours: CE, averaged",
            "ce",
            lr=0.0001,
            motivation="The baseline's training, untouched; tested is a running average of its weights.",
            parameters={"ema": 0.99},
        ),
        ExtraRecipe(
            "ours_balanced",
            "ours_balanced",
            "Ours: balanced classes",
            "median_ce",
            lr=0.0001,
            motivation="Cross-entropy in which rare classes weigh more, on labels twice as dense each way. The grid is "
            "coarser than the study's, so that a step costs less than half and the same time goes over more images; "
            "tested is a running average of the weights.",
            parameters={"output_stride": 16, "label_stride": 4, "ema": 0.98},
        ),
        ExtraRecipe(
            "ours_mirrored",
            "ours_mirrored",
            "Ours: mirrored, finer labels",
            "0.7*ce + 0.3*tversky(alpha=0.3, beta=0.7)",
            lr=0.0001,
            motivation="For few images and many passes over them, which a network soon memorises: in training "
            "half of the images are mirrored; in testing every image is seen as it is and mirrored, and the two "
            "answers are averaged. Labels are twice as dense each way. The grid is the study's, for small objects "
            "need it; Tversky speaks for rare classes; tested is a running average of the weights.",
            parameters={"augment": "flip", "label_stride": 4, "ema": 0.98, "tta": "flip"},
        ),
        ExtraRecipe(
            "ours_standard",
            "ours_standard",
            "Ours: augmented, averaged",
            "0.5*ce + 0.5*lovasz",
            lr=0.0001,
            motivation="Cross-entropy and the surrogate of the metric, on images that never look the same twice; "
            "tested is a running average of the weights. Meant for long training: where a network does not yet fit its "
            "training images, augmentation only makes them harder.",
            parameters={"augment": "standard", "ema": 0.99},
        ),
        ExtraRecipe(
            "ours_two_stage",
            "ours_two_stage",
            "Ours: coarse, then fine",
            "ce",
            lr=0.0001,
            motivation="Many images with coarse labels come first, as a run of its own; its weights start the training "
            "on the few with fine labels.",
            parameters={"coarse_epochs": 5},
        ),
    )
}
