"""Verdicts by hand, and what they promise: in trials with a planted zero, and with a difference at the margin."""

import math

import numpy as np
import pytest
from helpers import synthetic_runs
from hypothesis import given
from hypothesis import strategies as st

from deeplab_lib.analysis.statistics import MEASURES, MIOU, Bootstrap, Ratios, difference
from deeplab_lib.analysis.verdicts import (
    CONTRADICTED,
    EQUIVALENT,
    INCONCLUSIVE,
    POWER_80,
    SUPPORTED,
    Margins,
    Settled,
    decide,
    settles_any,
    settles_seen,
    together,
)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.1, 3, SUPPORTED),
        (-3, -0.1, CONTRADICTED),
        (-1.9, 1.9, EQUIVALENT),
        (0.1, 1.9, EQUIVALENT),  # on one side of zero, and too small to matter
        (0, 0, EQUIVALENT),
        (-0.1, 2.0, INCONCLUSIVE),
        (0, 3, INCONCLUSIVE),
        (math.nan, math.nan, INCONCLUSIVE),
    ],
)
def test_verdicts_by_hand_with_a_margin_of_two(low, high, verdict):
    assert decide(low, high, 2.0) == verdict


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        ([SUPPORTED, SUPPORTED], SUPPORTED),
        ([SUPPORTED, INCONCLUSIVE], INCONCLUSIVE),
        ([SUPPORTED, EQUIVALENT, INCONCLUSIVE], EQUIVALENT),
        ([CONTRADICTED, EQUIVALENT, SUPPORTED], CONTRADICTED),
        ([INCONCLUSIVE], INCONCLUSIVE),
    ],
)
def test_a_claim_asserts_all_of_its_parts(parts, verdict):
    assert together(parts) == verdict


def row(estimate=1.0, images=4.0, seeds=0.0, quantile=3.0, number=100, of_seeds=1):
    return {
        "estimate": estimate, "image_variance": images, "seed_variance": seeds, "quantile": quantile,
        "images": number, "seeds": of_seeds,
    }  # fmt: skip


def test_what_settles_a_difference_by_hand():
    """Half-width 3 x 2 = 6; with a margin of 3 it has to be 1.5: a sixteenth of the variance, 1,600 images."""
    assert settles_any(row(), 3.0) == Settled(1600, math.inf)
    # A difference of 1 is nearer to zero than to the margin: 2 / (3 + z) of standard error, found equivalent.
    assert settles_seen(row(), 3.0).images == math.ceil(100 * 4 / (2 / (3 + POWER_80)) ** 2)
    assert settles_seen(row(estimate=-5.0), 3.0).images == math.ceil(100 * 4 / (5 / (3 + POWER_80)) ** 2)


def test_seeds_and_images_each_settle_where_the_other_leaves_room():
    """The error has to be 0.5, its square 0.25: images alone once they are 0.1 of it, seeds alone once 0.2."""
    found = settles_any(row(images=0.2, seeds=0.1, of_seeds=3), 3.0)
    assert found == Settled(math.ceil(100 * 0.2 / 0.15), math.ceil(3 * 0.1 / 0.05))
    assert settles_any(row(images=0.5, seeds=0.3), 3.0) == Settled(math.inf, math.inf, pytest.approx(0.8 / 0.25))
    assert settles_any(row(images=0.5, seeds=0.1), 3.0).seeds == math.inf


@given(
    estimate=st.floats(-20, 20), error=st.floats(0.01, 10), quantile=st.floats(1.5, 5), margin=st.floats(0.5, 6),
    shared=st.floats(0, 1),
)  # fmt: skip
def test_what_is_inconclusive_always_takes_more_than_there_is(estimate, error, quantile, margin, shared):
    """And what takes no more is decided: a design that suffices is never inconclusive."""
    reach = quantile * error
    about = row(estimate, error**2 * shared, error**2 * (1 - shared), quantile, 100, 3)
    verdict = decide(estimate - reach, estimate + reach, margin)
    for settled in (settles_seen(about, margin), settles_any(about, margin)):
        if verdict == INCONCLUSIVE:
            assert settled.images >= 100 and settled.seeds >= 3 and settled.both >= 1
    if 2 * reach < margin:
        assert verdict != INCONCLUSIVE


def test_margins_follow_from_that_of_miou_or_stand_alone():
    margins = Margins(2.0, rare_classes=10)
    assert margins.of("rare") == pytest.approx(3.8), "ten of nineteen classes by 3.8 points move the mean by two"
    assert [margins.of(name) for name in (MIOU, "boundary_f", "class_3", "ece", "log_loss")] == [2, 1, 5, 1, 0.05]
    with pytest.raises(ValueError, match="margin is 0; it must be a positive number"):
        Margins(0)


def trial(rng, images, effect=0.0):
    labels, recall = synthetic_runs.scenes(rng, images)
    runs = [synthetic_runs.confusions(rng, labels, recall, gap) for gap in (0.0, effect)]
    bootstrap = Bootstrap(Ratios.of("AB", runs), {MIOU: MEASURES[MIOU]}, 300)
    return bootstrap.interval({"d": difference("B", "A")}).loc["d"]


def test_a_planted_zero_is_found_equivalent_where_the_power_statement_says_so():
    """A pilot of 40 images says how many it takes; with that many, at least 80 % of the trials find it."""
    rng = np.random.default_rng(2)
    pilot = trial(rng, 40)
    margin = 1.25 * (pilot.high - pilot.estimate)
    needed = int(settles_any(pilot, margin).images)
    assert 80 < needed < 200
    found = [trial(rng, needed) for _ in range(60)]
    verdicts = [decide(one.low, one.high, margin) for one in found]
    assert verdicts.count(EQUIVALENT) >= 0.8 * len(verdicts)
    assert verdicts.count(INCONCLUSIVE) <= 0.1 * len(verdicts)


def test_a_difference_at_the_margin_is_hardly_ever_found_equivalent():
    rng = np.random.default_rng(3)
    found = [trial(rng, 100, effect=1.0) for _ in range(100)]
    assert sum(decide(one.low, one.high, 1.0) == EQUIVALENT for one in found) <= 5
