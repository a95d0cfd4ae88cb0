"""The poly schedule and its changes, step by step, against the formula worked out on its own."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplab_lib.common.text import plan_change
from deeplab_lib.config import Config
from deeplab_lib.recipes import ALL_STAGES, RECIPES, Change
from deeplab_lib.training.schedule import PolyLR

EPOCHS_STEPS = [(5, 10), (5, 7), (10, 100), (50, 1487), (3, 1), (1, 1)]


def plan_of(key, epochs, steps_per_epoch, **parameters):
    return Config(loss=key, epochs=epochs, data="/somewhere", preset="paper", **parameters).poly(steps_per_epoch)


@given(st.floats(1e-6, 1), st.integers(1, 3000), st.floats(0, 3), st.integers(0, 600))
def test_poly_to_the_last_digits(base, total, power, warmup):
    plan = PolyLR(base, total, power, warmup)
    for step in {0, 1, warmup - 1, warmup, total // 2, total - 1} & set(range(total)):
        expected = base * (1 - step / total) ** power * (min(1, (step + 1) / warmup) if warmup else 1)
        assert plan.lr(step) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@given(st.integers(1, 500), st.floats(0.1, 3), st.integers(0, 2000))
def test_the_rate_is_real_and_never_negative_even_past_the_end(total, power, beyond):
    rate = PolyLR(0.1, total, power).lr(total + beyond)
    assert isinstance(rate, float) and rate == 0


def test_values_by_hand():
    plan = PolyLR(0.001, 100, power=1.0, warmup_steps=4)
    assert [plan.lr(step) for step in (0, 1, 3, 50, 99, 100)] == pytest.approx(
        [0.001 / 4, 0.001 * 0.99 / 2, 0.001 * 0.97, 0.0005, 0.00001, 0], abs=1e-15
    )


@pytest.mark.parametrize(("epochs", "steps"), EPOCHS_STEPS)
@pytest.mark.parametrize("key", RECIPES)
def test_every_step_of_every_recipe(key, epochs, steps):
    """Rate, power, weights and frozen parts against the recipe read as plain sentences about progress."""
    recipe, total = RECIPES[key], epochs * steps
    plan = plan_of(key, epochs, steps)
    for step in range(0, total + 1, 1 if total < 2000 else 37):
        power, weights, frozen = recipe.power, None, set()
        for change in recipe.changes:
            if Fraction(step, total) >= Fraction(change.epoch - 1, 50):
                power = change.power or power
                weights, frozen = change.weights or weights, frozen | set(change.freeze)
        warm = min(1, (step + 1) / recipe.warmup_steps) if recipe.warmup_steps else 1
        assert plan.power(step) == power
        assert plan.lr(step) == pytest.approx(recipe.lr * (1 - step / total) ** power * warm, rel=1e-12, abs=1e-15)
        assert set(plan.frozen(step)) == frozen
        assert plan.weights(step) == (weights or plan.weights(0))


@pytest.mark.parametrize(
    ("epochs", "steps_per_epoch", "at"),
    [
        (50, 1487, [28 * 1487, 45 * 1487, 46 * 1487]),  # the beginnings of epochs 29, 46 and 47
        (10, 100, [560, 900, 920]),
        (5, 10, [28, 45, 46]),
        (5, 7, [20, 32, 33]),  # 19.6, 31.5 and 32.2, the next whole step
    ],
)
def test_changes_act_at_the_right_step(epochs, steps_per_epoch, at):
    plan = plan_of("ce_lovasz_warmup", epochs, steps_per_epoch)
    decay, focus, relax = at
    assert [plan.power(step) for step in (decay - 1, decay, focus - 1, focus, relax - 1, relax)] == [
        0.9,
        1.2,
        1.2,
        2.0,
        2.0,
        1.2,
    ]
    assert (plan.frozen(focus - 1), plan.frozen(focus), plan.frozen(relax)) == ((), ALL_STAGES, ALL_STAGES)
    assert (plan.weights(focus - 1), plan.weights(focus)) == ({"ce": 0.7, "lovasz": 0.3}, {"ce": 0.5, "lovasz": 0.5})


def test_the_rate_drops_and_rises_as_the_study_describes():
    plan = plan_of("ce_lovasz_warmup", 50, 1487)
    at = [plan.lr(45 * 1487 - 1), plan.lr(45 * 1487), plan.lr(46 * 1487 - 1), plan.lr(46 * 1487)]
    assert at[0] / at[1] == pytest.approx(6.3, abs=0.1)
    assert at[3] / at[2] == pytest.approx(7.5, abs=0.2)


def test_the_plan_can_be_read():
    words = [plan_change(c.power, c.weights, c.freeze) for c in RECIPES["ce_lovasz_warmup"].changes]
    assert words == ["power 1.2", "power 2, weights 0.5/0.5, layer1–4 and bn1 frozen", "power 1.2"]
    assert plan_change(freeze=["aspp"]) == "aspp frozen" and plan_change() == ""


def test_changes_may_be_given_in_any_order():
    plan = PolyLR(1, 50, changes=(Change(40, power=3), Change(10, power=2)))
    assert [plan.power(step) for step in (8, 9, 38, 39)] == [0.9, 2, 2, 3]
