"""The eight runs of the study as data, and the three scales at which they can be made.

A recipe says what is trained: loss, learning rate and the changes on the way. A preset says at what scale: network,
image size, epochs. Every recipe runs at every preset. Recipes of our own stand after the study's eight.
"""

from dataclasses import dataclass, field

PLAN_EPOCHS = 50
ALL_STAGES = ("layer1", "layer2", "layer3", "layer4", "bn1")


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
    def progress(self):
        """Share of the training after which the change acts, 0 to 1."""
        return (self.epoch - 1) / PLAN_EPOCHS

    def first_step(self, total_steps):
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
            lr=0.001,
            motivation="The baseline: plain cross-entropy, every pixel counted alike.",
        ),
        Recipe(
            "ce_tversky",
            "DeepLabV2_ce07_tv03",
            "CE + Tversky",
            "0.7*ce + 0.3*tversky(alpha=0.3, beta=0.7)",
            lr=0.001,
            motivation="Cross-entropy carries the whole picture; Tversky, which punishes a missed pixel more than a "
            "false one, speaks for the under-represented classes.",
        ),
        Recipe(
            "ce_lovasz",
            "DeepLabV2_ce05_lv05",
            "CE + Lovász",
            "0.5*ce + 0.5*lovasz",
            lr=0.001,
            motivation="Lovász-Softmax is a surrogate of IoU itself: half of the training aims straight at the metric.",
        ),
        Recipe(
            "ce_dice",
            "DeepLabV2_cv07_di03",
            "CE + Dice",
            "0.7*ce + 0.3*dice",
            lr=0.001,
            motivation="Dice scores the overlap of each class whatever its size, which should help small and irregular "
            "objects.",
        ),
        Recipe(
            "ce_lovasz_warmup",
            "DeepLabV2_ce07_l03_warnup_lr_0.0002",
            "CE + Lovász (warm-up)",
            "0.7*ce + 0.3*lovasz",
            lr=0.0002,
            warmup_steps=500,
            changes=(
                Change(29, power=1.2),
                Change(46, power=2.0, weights={"ce": 0.5, "lovasz": 0.5}, freeze=ALL_STAGES),
                Change(47, power=1.2),
            ),
            motivation="The same pair at a lower, warmed-up rate that decays faster from epoch 29 on, to settle and "
            "refine; at the end the residual stages are frozen and only the layers around them go on learning.",
        ),
        Recipe(
            "ce_focal",
            "DeepLabV2_ce05_f05_warnup_lr_0.0003",
            "CE + Focal",
            "0.5*ce + 0.5*focal(gamma=2)",
            lr=0.0003,
            warmup_steps=500,
            changes=(Change(31, power=1.0), Change(44, freeze=ALL_STAGES)),
            motivation="Focal turns the attention to hard and rare pixels; a slightly steeper decay over the last 20 "
            "epochs is meant to close the training well.",
        ),
        Recipe(
            "ce_lovasz_dice",
            "DeepLabV2_ce05_l0.25_di0.25_no_warnup_lr_0.0002",
            "CE + Lovász + Dice",
            "0.5*ce + 0.25*lovasz + 0.25*dice",
            lr=0.0002,
            power=1.1,
            motivation="Both overlap losses beside cross-entropy; a steeper decay is to consolidate class detail.",
        ),
        Recipe(
            "ce_lovasz_focal",
            "DeepLabV2_ce06_l0.2_fo0.2_no_warnup_lr_0.0001",
            "CE + Lovász + Focal",
            "0.6*ce + 0.2*lovasz + 0.2*focal(gamma=2)",
            lr=0.0001,
            motivation="A three-way mix: the whole picture, the metric and the hard pixels at once.",
        ),
    )
}


@dataclass(frozen=True)
class Preset:
    """A scale. `lr_factor` multiplies every recipe's rate; `warmup` is a share of all steps, on top of a recipe's own.

    toycity: scenes (train, val) of the built-in toy city, written at `toycity_size` (H, W).
    """

    model: str
    image_height: int
    image_width: int
    epochs: int
    batch_size: int
    lr_factor: float
    warmup: float
    toycity: tuple
    toycity_size: tuple


PRESETS = {
    "paper": Preset("deeplabv2_resnet101", 512, 1024, 50, 2, 1.0, 0.0, (400, 120), (1024, 2048)),
    # From scratch in a few hundred steps the study's rates are too low and the head's first steps too wild: ten times
    # the rate and a common warm-up fix both, alike for every recipe.
    "demo": Preset("deeplabv2_mini", 128, 256, 5, 4, 10.0, 0.1, (320, 120), (128, 256)),
    "smoke": Preset("deeplabv2_micro", 32, 64, 5, 2, 10.0, 0.1, (20, 8), (64, 128)),
}


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
            lr=0.001,
            motivation="The baseline's training, untouched; tested is a running average of its weights.",
            parameters={"ema": 0.99},
        ),
        ExtraRecipe(
            "ours_balanced",
            "ours_balanced",
            "Ours: balanced classes",
            "median_ce",
            lr=0.001,
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
            lr=0.001,
            motivation="For few images and many passes over them, which a network soon knows by heart: in training "
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
            lr=0.001,
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
            lr=0.001,
            motivation="Many images with coarse labels come first, as a run of its own; its weights start the training "
            "on the few with fine labels.",
            parameters={"coarse_epochs": 5},
        ),
    )
}
