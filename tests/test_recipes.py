"""The eight runs as the study has them, and the scales they are made at."""

import re

import pytest

from deeplab_lib.losses import make_loss
from deeplab_lib.recipes import (
    ALL_STAGES,
    EXTRA_RECIPES,
    LATE_STAGES,
    PRESETS,
    RECIPES,
    VERSIONS,
    Change,
    preset_for,
    recipe_for,
)

# number, key, stem, {term: weight}, rate, power, warm-up, changes (epoch, power, weights, frozen), as logged
STUDY = [
    (1, "ce", "DeepLabV2_ce", {"ce": 1}, 0.0001, 0.9, 0, ()),
    (2, "ce_tversky", "DeepLabV2_ce07_tv03", {"ce": 0.7, "tversky": 0.3}, 0.0001, 0.9, 0, ()),
    (3, "ce_lovasz", "DeepLabV2_ce05_lv05", {"ce": 0.5, "lovasz": 0.5}, 0.0001, 0.9, 0, ()),
    (4, "ce_dice", "DeepLabV2_cv07_di03", {"ce": 0.7, "dice": 0.3}, 0.0001, 0.9, 0, ()),
    (5, "ce_lovasz_warmup", "DeepLabV2_ce07_l03_warnup_lr_0.0002", {"ce": 0.7, "lovasz": 0.3}, 0.0002, 0.9, 500,
     ((31, 1.0, None, ()), (46, 2.0, {"ce": 0.5, "lovasz": 0.5}, LATE_STAGES), (48, 1.2, None, ()))),
    (6, "ce_focal", "DeepLabV2_ce05_f05_warnup_lr_0.0003", {"ce": 0.5, "focal": 0.5}, 0.0003, 0.9, 500,
     ((29, 1.2, None, ()), (44, 1.0, None, LATE_STAGES))),
    (7, "ce_lovasz_dice", "DeepLabV2_ce05_l0.25_di0.25_no_warnup_lr_0.0002",
     {"ce": 0.5, "lovasz": 0.25, "dice": 0.25}, 0.0002, 0.9, 0, ((31, 1.1, None, ()),)),
    (8, "ce_lovasz_focal", "DeepLabV2_ce06_l0.2_fo0.2_no_warnup_lr_0.0001",
     {"ce": 0.6, "lovasz": 0.2, "focal": 0.2}, 0.0001, 0.9, 0, ()),
]  # fmt: skip

# {key: (rate, power, changes)} of the study's text.
TEXT = {
    **{key: (0.001, 0.9, ()) for key in ("ce", "ce_tversky", "ce_lovasz", "ce_dice")},
    "ce_lovasz_warmup": (0.0002, 0.9, ((29, 1.2, None, ()), (46, 2.0, {"ce": 0.5, "lovasz": 0.5}, ALL_STAGES),
                                       (47, 1.2, None, ()))),
    "ce_focal": (0.0003, 0.9, ((31, 1.0, None, ()), (44, None, None, ALL_STAGES))),
    "ce_lovasz_dice": (0.0002, 1.1, ()),
    "ce_lovasz_focal": (0.0001, 0.9, ()),
}  # fmt: skip


def test_there_are_eight_in_the_studys_order():
    assert list(RECIPES) == [key for _, key, *_ in STUDY]


@pytest.mark.parametrize(("number", "key", "stem", "weights", "lr", "power", "warmup", "changes"), STUDY)
def test_recipe(number, key, stem, weights, lr, power, warmup, changes):
    recipe = RECIPES[key]
    assert (recipe.key, recipe.stem, recipe.lr, recipe.power, recipe.warmup_steps) == (key, stem, lr, power, warmup)
    assert make_loss(recipe.loss).weights == weights
    assert recipe.changes == tuple(Change(*change) for change in changes)
    assert recipe.title and len(recipe.motivation) > 40


def test_loss_options_of_the_study():
    tversky = make_loss(RECIPES["ce_tversky"].loss).losses["tversky"]
    assert (tversky.alpha, tversky.beta) == (0.3, 0.7)
    assert {make_loss(RECIPES[key].loss).losses["focal"].gamma for key in ("ce_focal", "ce_lovasz_focal")} == {2.0}


@pytest.mark.parametrize(("key", "version"), TEXT.items(), ids=TEXT)
def test_the_studys_text_differs_in_rate_power_and_changes_alone(key, version):
    lr, power, changes = version
    logged, told = recipe_for(key, "logs"), recipe_for(key, "text")
    assert (told.lr, told.power, told.changes) == (lr, power, tuple(Change(*change) for change in changes))
    assert (told.stem, told.loss, told.warmup_steps) == (logged.stem, logged.loss, logged.warmup_steps)
    assert recipe_for(key, "code") == logged == RECIPES[key] and len(told.motivation) > 40


def test_five_recipes_share_a_schedule():
    plans = {key: (recipe.lr, recipe.power, recipe.warmup_steps, recipe.changes) for key, recipe in RECIPES.items()}
    alike = [key for key, plan in plans.items() if plan == plans["ce"]]
    assert alike == ["ce", "ce_tversky", "ce_lovasz", "ce_dice", "ce_lovasz_focal"]


def test_a_recipe_of_ours_has_the_baselines_rate():
    for key in EXTRA_RECIPES:
        assert [recipe_for(key, follows).lr for follows in VERSIONS] == [0.0001, 0.001, 0.0001]


def test_frozen_parts_are_those_that_the_version_names():
    assert set(LATE_STAGES) == {"layer3", "layer4"}
    assert set(ALL_STAGES) == {"layer1", "layer2", "layer3", "layer4", "bn1"}


def test_names_are_told_apart_without_regard_to_case_and_serve_as_file_names():
    for names in ([r.stem for r in RECIPES.values()], [r.title for r in RECIPES.values()]):
        assert len({name.lower() for name in names}) == 8
    assert all(re.fullmatch(r"[\w.-]+", recipe.stem) for recipe in RECIPES.values())


@pytest.mark.parametrize(("follows", "batch"), [("logs", 3), ("text", 2), ("code", 3)])
def test_the_paper_preset_is_the_study(follows, batch):
    paper = preset_for("paper", follows)
    assert (paper.model, paper.image_height, paper.image_width, paper.epochs, paper.batch_size) == (
        "deeplabv2_resnet101", 512, 1024, 50, batch,
    )  # fmt: skip
    assert (paper.lr_factor, paper.extra_lr_factor, paper.warmup) == (1, 1, 0)


@pytest.mark.parametrize("name", ["demo", "smoke"])
def test_at_small_scales_the_texts_rates_are_version_01s_and_extra_losses_keep_theirs(name):
    assert preset_for(name, "text").lr_factor == 10
    for follows in VERSIONS:
        rate = recipe_for("ours_mirrored", follows).lr * preset_for(name, follows).extra_lr_factor
        assert rate == pytest.approx(0.01, rel=1e-12)
    assert preset_for(name) == PRESETS[name]


def test_the_texts_demo_is_version_01s():
    demo = preset_for("demo", "text")
    assert (demo.epochs, demo.batch_size, demo.lr_factor, demo.warmup) == (5, 4, 10, 0.1)
    assert (demo.toycity["train"], demo.toycity["val"], demo.epochs_per_pass, demo.val_each_epoch) == (
        320,
        120,
        1,
        None,
    )


def test_the_demo_trains_on_whole_passes_in_whole_batches():
    demo = preset_for("demo")
    assert demo.epochs >= 10 and demo.epochs % demo.epochs_per_pass == 0
    assert demo.toycity["train"] % (demo.epochs_per_pass * demo.batch_size) == 0
    assert demo.val_each_epoch == 120 and demo.toycity["val"] >= 400
