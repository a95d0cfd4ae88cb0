"""Recipes of our own, beyond the study: the same network, trained and tested as well as we know how.

They are never among the study's eight. A recipe here also sets knobs of `Config` that the study left alone; whatever is
given explicitly still wins.
"""

from dataclasses import dataclass, field

from deeplab_lib.recipes import Recipe


@dataclass(frozen=True)
class OurRecipe(Recipe):
    """A recipe with `knobs`, values of `Config`'s fields that are None unless given."""

    knobs: dict = field(default_factory=dict)


OURS = {
    recipe.key: recipe
    for recipe in (
        OurRecipe(
            "ours_averaged",
            "ours_averaged",
            "Ours: CE, averaged",
            "ce",
            lr=0.001,
            motivation="The baseline's training, untouched; tested is a running average of its weights.",
            knobs={"ema": 0.99},
        ),
        OurRecipe(
            "ours_balanced",
            "ours_balanced",
            "Ours: balanced classes",
            "median_ce",
            lr=0.001,
            motivation="Cross-entropy in which rare classes weigh more, on labels twice as dense each way. The grid is "
            "coarser than the study's, so that a step costs less than half and the same time goes over more images; "
            "tested is a running average of the weights.",
            knobs={"output_stride": 16, "label_stride": 4, "ema": 0.98},
        ),
        OurRecipe(
            "ours_mirrored",
            "ours_mirrored",
            "Ours: mirrored, finer labels",
            "0.7*ce + 0.3*tversky(alpha=0.3, beta=0.7)",
            lr=0.001,
            motivation="For few images and many passes over them, which a network soon knows by heart: in training "
            "half of the images are mirrored; in testing every image is seen as it is and mirrored, and the two "
            "answers are averaged. Labels are twice as dense each way. The grid is the study's, for small objects "
            "need it; Tversky speaks for rare classes; tested is a running average of the weights.",
            knobs={"augment": "flip", "label_stride": 4, "ema": 0.98, "tta": "flip"},
        ),
        OurRecipe(
            "ours_standard",
            "ours_standard",
            "Ours: augmented, averaged",
            "0.5*ce + 0.5*lovasz",
            lr=0.001,
            motivation="Cross-entropy and the surrogate of the metric, on images that never look the same twice; "
            "tested is a running average of the weights. Meant for long training: where a network does not yet fit its "
            "training images, augmentation only makes them harder.",
            knobs={"augment": "standard", "ema": 0.99},
        ),
        OurRecipe(
            "ours_two_stage",
            "ours_two_stage",
            "Ours: coarse, then fine",
            "ce",
            lr=0.001,
            motivation="Many images with coarse labels come first, as a run of its own; its weights start the training "
            "on the few with fine labels.",
            knobs={"coarse_epochs": 5},
        ),
    )
}
