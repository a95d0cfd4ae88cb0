"""The network that is tested: averages over time and over views, and what becomes of them when a run is cut short."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from deeplab_lib.common.errors import RunStopped
from deeplab_lib.models.registry import make_model
from deeplab_lib.models.views import VIEWS, Views, view
from deeplab_lib.predict import load_run
from deeplab_lib.recipes import EXTRA_RECIPES, RECIPES
from deeplab_lib.study.results import read_run
from deeplab_lib.training import checkpoint
from deeplab_lib.training.ema import Average
from deeplab_lib.training.loop import fit

TIMINGS = ["Runtime", "images_per_s", "peak_memory_MB"]


# -- weights over time -------------------------------------------------------------------------------------------------


def test_the_average_by_hand():
    model = nn.BatchNorm1d(1)
    average = Average(model, decay=0.5)
    for step, value in enumerate((1.0, 4.0, 10.0)):
        nn.init.constant_(model.weight, value)
        model.running_mean.fill_(value)
        model.num_batches_tracked.fill_(step)
        average.update(model, step=step)
    # It starts at 1, and keeps 1/10 at step 0, then 2/11, then 3/12; the decay of 1/2 is never reached.
    expected = 1 / 10 * 1 + 9 / 10 * 1
    expected = 2 / 11 * expected + 9 / 11 * 4
    expected = 3 / 12 * expected + 9 / 12 * 10
    assert average.model.weight.item() == pytest.approx(expected)
    assert average.model.num_batches_tracked == 2 and not average.model.training
    # The statistics likewise, from their own start of 0.
    statistic = 3 / 12 * (2 / 11 * (9 / 10) + 9 / 11 * 4) + 9 / 12 * 10
    assert average.model.running_mean.item() == pytest.approx(statistic)


def test_the_decay_is_reached_and_a_constant_network_is_its_own_average():
    model = nn.Linear(2, 2)
    average = Average(model, decay=0.9)
    before = model.weight.detach().clone()
    average.update(model, step=1000)
    assert torch.allclose(average.model.weight, before)
    nn.init.zeros_(model.weight)
    average.update(model, step=1000)
    assert torch.allclose(average.model.weight, 0.9 * before)


# -- answers over views ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return make_model("deeplabv2_micro", 5).eval()


def predict(network, images, tta, **options):
    with torch.inference_mode():
        return Views(network, network.grid_logits, images, tta).predict(images.shape[-2:], **options)


def test_one_view_is_the_network_itself(network):
    images = torch.randn(2, 3, 33, 65)
    with torch.inference_mode():
        assert torch.equal(predict(network, images, "none"), network(images).argmax(1))


def test_mean_of_the_probabilities_of_image_and_mirror_image(network):
    images = torch.randn(2, 3, 33, 65)
    with torch.inference_mode():
        p = network(images).softmax(1) + network(images.flip(-1)).softmax(1).flip(-1)
    assert torch.equal(predict(network, images, "flip"), p.argmax(1))


@pytest.mark.parametrize("tta", ["flip", "multiscale"])
def test_mirrored_images_are_answered_mirrored(network, tta):
    images = torch.randn(2, 3, 33, 65)
    mirrored = predict(network, images.flip(-1), tta).flip(-1)
    assert (predict(network, images, tta) == mirrored).float().mean() > 0.99  # but for ties in rounding


def test_chosen_images_and_sizes(network):
    images = torch.randn(3, 3, 32, 64)
    with torch.inference_mode():
        views = Views(network, network.grid_logits, images, "multiscale")
        assert views.plain.shape[0] == 3 and len(views.logits) == len(VIEWS["multiscale"]) == 6
        assert torch.equal(views.predict((50, 70))[1:2], views.predict((50, 70), slice(1, 2)))


def test_the_scales_are_those_announced():
    """`tta` promises the image, its mirror image, and both at 3/4 and 5/4 of its size."""
    assert set(VIEWS) == {"none", "flip", "multiscale"} and VIEWS["none"] == ((1, False),)
    assert set(VIEWS["flip"]) == {(1, False), (1, True)}
    assert set(VIEWS["multiscale"]) == {(scale, mirrored) for scale in (0.75, 1, 1.25) for mirrored in (False, True)}
    assert all(views[0] == (1, False) for views in VIEWS.values())  # the losses are taken of the first


def test_a_view_has_its_scale_and_is_mirrored():
    images = torch.arange(64.0).repeat(1, 3, 32, 1)
    assert view(images, 0.75, False).shape[-2:] == (24, 48)
    assert torch.equal(view(images, 1.0, True), images.flip(-1))


@given(st.integers(4, 40), st.integers(0, 1), st.sampled_from((0.5, 0.75, 1.25)), st.sampled_from((8, 16)))
def test_a_view_has_grid_cells_in_its_corners_where_the_image_has(cells, rest, scale, stride):
    """136 pixels at 0.75 would be 102, whose last cell lies 5 pixels inside; 104 has it where the image does."""
    side = stride * cells + rest
    seen = view(torch.zeros(1, 3, side, side), scale, stride=stride).shape[-1]
    assert seen % stride == rest and abs(seen - scale * side) <= stride / 2 + 1


def test_the_network_sees_views_of_its_own_stride():
    shapes, network = [], SimpleNamespace(stride=16)
    Views(network, lambda seen: shapes.append(tuple(seen.shape[-2:])) or seen, torch.zeros(1, 3, 80, 161), "multiscale")
    assert shapes == [(80, 161)] * 2 + [(64, 129)] * 2 + [(96, 193)] * 2


# -- in a run ----------------------------------------------------------------------------------------------------------


def test_the_averaged_network_is_what_is_validated_and_kept(smoke):
    plain, averaged = fit(smoke(epochs=2)), fit(smoke(epochs=2, ema=0.9))
    assert averaged.stem == plain.stem + "_ema0.9"
    first, second = (pd.read_csv(folder.csv) for folder in (plain, averaged))
    assert (first.train_loss == second.train_loss).all()  # it only watches
    assert (first.val_ce != second.val_ce).all()
    state = checkpoint.load(averaged.checkpoint)
    best = load_run(averaged.path("")).model.state_dict()
    if averaged.summary["best"]["epoch"] == 2:
        assert all(torch.equal(best[key], value) for key, value in state["average"].items())
    assert any(not torch.equal(value, state["model"][key]) for key, value in state["average"].items())


def test_the_average_takes_in_every_step_by_its_number(smoke):
    """The first keeps (1 + 0) / (10 + 0) of the start, the second 2 / 11, the third 3 / 12."""
    weights, seen = lambda model: model.aspp.branches[0].weight.detach().double(), {}

    def callback(event, run):
        if event == "start":
            seen["expected"] = weights(run.model).clone()
        if event == "step" and run.state.step <= 3:
            kept = run.state.step / (9 + run.state.step)
            seen["expected"] = kept * seen["expected"] + (1 - kept) * weights(run.model)
            assert torch.allclose(weights(run.average.model), seen["expected"], rtol=0, atol=1e-7)
            seen["steps"] = run.state.step

    fit(smoke(epochs=1, ema=0.99), callback=callback)
    assert seen["steps"] == 3


def test_a_run_cut_short_ends_as_an_undisturbed_one(smoke, tmp_path):
    parameters = {"loss": "ours_standard", "epochs": 3}

    def cut(event, run):
        if event == "step" and run.state.step == 13:
            run.stop.requested = "SIGTERM"

    whole, again = smoke(**parameters), smoke(**parameters, out_dir=str(tmp_path / "again"))
    expected = fit(whole)
    with pytest.raises(RunStopped):
        fit(again, callback=cut)
    found = fit(again)
    tables = [pd.read_csv(f.csv, dtype=str).drop(columns=TIMINGS) for f in (expected, found)]
    pd.testing.assert_frame_equal(*tables)
    states = [checkpoint.load(f.checkpoint) for f in (expected, found)]
    assert all(torch.equal(states[0]["average"][key], value) for key, value in states[1]["average"].items())
    with np.load(expected.npz) as one, np.load(found.npz) as other:
        assert np.array_equal(one["confusion"], other["confusion"])


# -- recipes of our own ------------------------------------------------------------------------------------------------


def test_ours_are_never_among_the_eight(smoke):
    assert not set(EXTRA_RECIPES) & set(RECIPES)
    for key, recipe in EXTRA_RECIPES.items():
        config = smoke(loss=key)
        assert key.startswith("ours_") and config.stem == recipe.stem == key
        assert config.loss not in RECIPES and config.title.startswith("Ours") and len(recipe.motivation) > 40
        assert all(getattr(config, name) == value for name, value in recipe.parameters.items())
        assert recipe.parameters.items() <= config.result_dict().items()


def test_what_is_given_wins_over_the_recipe(smoke):
    config = smoke(loss="ours_standard", augment="none", ema=0)
    assert (config.augment, config.ema, config.stem) == ("none", 0, "ours_standard_augment_none_ema0")


def test_the_analysis_takes_ours_for_no_recipe_of_the_study(smoke):
    run = read_run(fit(smoke(loss="ours_averaged", epochs=1)).csv)
    assert (run.recipe, run.title, run.method) == (None, EXTRA_RECIPES["ours_averaged"].title, "ours_averaged_epochs1")


def test_knobs_beyond_the_study_stand_in_a_fingerprint_only_when_they_are_used(smoke):
    beyond = {"augment", "crops", "ema", "tta", "label_stride", "multiscale"}
    assert not beyond & set(smoke().result_dict())
    assert beyond & set(smoke(tta="flip").result_dict()) == {"tta"}
    assert smoke(tta="flip").stem == "DeepLabV2_ce_tta_flip"
