"""The poly schedule and its changes, step by step, against the formula worked out on its own."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplab_lib.common.text import plan_change
from deeplab_lib.config import Config
from deeplab_lib.recipes import ALL_STAGES, LATE_STAGES, RECIPES, Change, recipe_for
from deeplab_lib.training.schedule import PolyLR

EPOCHS_STEPS = [(5, 10), (5, 7), (10, 100), (50, 524), (3, 1), (1, 1)]


def plan_of(key, epochs, steps_per_epoch, **parameters):
    return Config(loss=key, epochs=epochs, data="/somewhere", preset="paper", **parameters).poly(steps_per_epoch)


def rate(follows, base, step, total, power, warmup):
    """The rate of one step as a version of the study has it, written out."""
    if follows == "text":
        return base * (1 - step / total) ** power * (min(1, (step + 1) / warmup) if warmup else 1)
    if step < warmup:
        return 1e-6 + (base - 1e-6) * step / warmup
    return base * ((total - step) / (total - warmup)) ** power


@given(
    st.sampled_from(("logs", "text")), st.floats(1e-6, 1), st.integers(1, 3000), st.floats(0, 3), st.integers(0, 600)
)
def test_poly_to_the_last_digits(follows, base, total, power, warmup):
    plan = PolyLR(base, total, power, warmup, follows=follows)
    for step in {0, 1, warmup - 1, warmup, total // 2, total - 1} & set(range(total)):
        assert plan.lr(step) == pytest.approx(rate(follows, base, step, total, power, warmup), rel=1e-9, abs=1e-12)


@given(st.sampled_from(("logs", "text")), st.integers(1, 500), st.floats(0.1, 3), st.integers(0, 2000))
def test_the_rate_is_real_and_never_negative_even_past_the_end(follows, total, power, beyond):
    rate = PolyLR(0.1, total, power, follows=follows).lr(total + beyond)
    assert isinstance(rate, float) and rate == 0


def test_a_warm_up_that_takes_the_whole_training_ends_in_zero():
    plan = PolyLR(0.1, 10, warmup_steps=10)
    assert plan.lr(9) == pytest.approx(0.09, abs=1e-6) and plan.lr(10) == 0


def test_values_by_hand():
    plan = PolyLR(0.001, 104, power=1.0, warmup_steps=4)
    assert [plan.lr(step) for step in (0, 1, 3, 4, 54, 103, 104)] == pytest.approx(
        [1e-6, 250.75e-6, 750.25e-6, 0.001, 0.0005, 0.00001, 0], abs=1e-15
    )
    text = PolyLR(0.001, 100, power=1.0, warmup_steps=4, follows="text")
    assert [text.lr(step) for step in (0, 1, 3, 50, 99, 100)] == pytest.approx(
        [0.001 / 4, 0.001 * 0.99 / 2, 0.001 * 0.97, 0.0005, 0.00001, 0], abs=1e-15
    )


def test_values_that_the_study_logged():
    """Epoch 1 of run 5, whose warm-up ends within it, and of run 1, which has none."""
    assert plan_of("ce_lovasz_warmup", 50, 524).lr(524) == pytest.approx(0.00019983189876337883, rel=1e-15)
    assert plan_of("ce", 50, 524).lr(524) == pytest.approx(0.00009819818665965754, rel=1e-15)


@pytest.mark.parametrize("follows", ["logs", "text"])
@pytest.mark.parametrize(("epochs", "steps"), EPOCHS_STEPS)
@pytest.mark.parametrize("key", RECIPES)
def test_every_step_of_every_recipe(key, epochs, steps, follows):
    """Rate, power, weights and frozen parts against the recipe read as plain sentences about progress."""
    recipe, total = recipe_for(key, follows), epochs * steps
    plan = plan_of(key, epochs, steps, follows=follows)
    for step in range(0, total, 1 if total < 2000 else 37):
        power, weights, frozen = recipe.power, None, set()
        for change in recipe.changes:
            if Fraction(step, total) >= Fraction(change.epoch - 1, 50):
                power = change.power or power
                weights, frozen = change.weights or weights, frozen | set(change.freeze)
        expected = rate(follows, recipe.lr, step, total, power, recipe.warmup_steps)
        assert plan.power(step) == power
        assert plan.lr(step) == pytest.approx(expected, rel=1e-9, abs=1e-15)
        assert set(plan.frozen(step)) == frozen
        assert plan.weights(step) == (weights or plan.weights(0))
    assert plan.lr(total) == 0


@pytest.mark.parametrize(
    ("epochs", "steps_per_epoch", "at"),
    [
        (50, 524, [30 * 524, 45 * 524, 47 * 524]),  # the beginnings of epochs 31, 46 and 48
        (10, 100, [600, 900, 940]),
        (5, 10, [30, 45, 47]),
        (5, 7, [21, 32, 33]),  # 21.0, 31.5 and 32.9, the next whole step
    ],
)
def test_changes_act_at_the_right_step(epochs, steps_per_epoch, at):
    plan = plan_of("ce_lovasz_warmup", epochs, steps_per_epoch)
    decay, focus, relax = at
    assert [plan.power(step) for step in (decay - 1, decay, focus - 1, focus, relax - 1, relax)] == [
        0.9,
        1.0,
        1.0,
        2.0,
        2.0,
        1.2,
    ]
    assert (plan.frozen(focus - 1), plan.frozen(focus), plan.frozen(relax)) == ((), LATE_STAGES, LATE_STAGES)
    assert (plan.weights(focus - 1), plan.weights(focus)) == ({"ce": 0.7, "lovasz": 0.3}, {"ce": 0.5, "lovasz": 0.5})


def test_the_rate_drops_and_rises_as_the_study_logged():
    """From power 1 to 2 with a tenth of the training left the rate falls to about a tenth; from 2 to 1.2 it rises."""
    plan = plan_of("ce_lovasz_warmup", 50, 524)
    at = [plan.lr(45 * 524 - 1), plan.lr(45 * 524), plan.lr(47 * 524 - 1), plan.lr(47 * 524)]
    assert at[0] / at[1] == pytest.approx(25_700 / 2_620, rel=1e-3)
    assert at[3] / at[2] == pytest.approx((1_572 / 25_700) ** -0.8, rel=2e-3)


def test_the_plan_can_be_read():
    words = [plan_change(c.power, c.weights, c.freeze) for c in RECIPES["ce_lovasz_warmup"].changes]
    assert words == ["power 1", "power 2, weights 0.5/0.5, layer3 and layer4 frozen", "power 1.2"]
    assert plan_change(freeze=ALL_STAGES) == "layer1–4 and bn1 frozen"
    assert plan_change(freeze=["aspp"]) == "aspp frozen" and plan_change() == ""


def test_changes_may_be_given_in_any_order():
    plan = PolyLR(1, 50, changes=(Change(40, power=3), Change(10, power=2)))
    assert [plan.power(step) for step in (8, 9, 38, 39)] == [0.9, 2, 2, 3]
