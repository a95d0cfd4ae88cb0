"""The statistics, by hand-worked values, by brute force, and by trials with a known truth."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from helpers import synthetic_runs
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_lib.analysis.statistics import (
    BOUNDARY,
    CLASS_MEASURES,
    LOG_LOSS,
    MEASURES,
    MIOU,
    Bootstrap,
    Contrast,
    Ratios,
    all_pairs,
    difference,
    drop_unbounded,
    image_weights,
    ranking,
    seed_intervals,
    significantly_above,
)
from deeplab_lib.labels import NUM_CLASSES
from deeplab_lib.metrics import ConfusionMatrix


def confusion(*entries):
    """One image's matrix from `(label, prediction, pixels)` entries."""
    matrix = np.zeros((NUM_CLASSES, NUM_CLASSES), dtype=np.int64)
    for label, prediction, pixels in entries:
        matrix[label, prediction] = pixels
    return matrix


def random_ratios(seed=0, methods=("A", "B"), images=12, effect=0.0):
    rng = np.random.default_rng(seed)
    labels, recall = synthetic_runs.scenes(rng, images)
    matrices = [synthetic_runs.confusions(rng, labels, recall, effect * (name == "B")) for name in methods]
    return Ratios.of(methods, matrices, rng.uniform(40, 70, (len(methods), images))), np.array(matrices)


# --- estimates -------------------------------------------------------------------------------------------------------


def test_miou_is_worked_by_hand_over_two_images():
    """Class 0: hits 6 + 2, union 8 + 4 -> 8/12; class 1: hits 2 + 2, union 4 + 4 -> 4/8; no other class occurs."""
    images = [confusion((0, 0, 6), (0, 1, 2), (1, 1, 2)), confusion((0, 0, 2), (1, 1, 2), (0, 1, 1), (1, 0, 1))]
    value, _ = Ratios.of(["A"], [images]).estimates(MEASURES[MIOU], np.ones((1, 2)))
    assert value[0, 0] == pytest.approx(100 * (8 / 12 + 4 / 8) / 2, abs=1e-12)


def test_a_class_without_pixels_in_a_resample_leaves_the_mean():
    images = [confusion((0, 0, 5), (0, 1, 5)), confusion((2, 2, 3))]
    weights = np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    value, _ = Ratios.of(["A"], [images]).estimates(MEASURES[MIOU], weights)
    # Class 1 is predicted and never true: it counts, with IoU 0.
    assert value[:, 0] == pytest.approx([25, 100, 50])


def test_nothing_at_all_has_no_value():
    value, _ = Ratios.of(["A"], np.zeros((1, 2, 19, 19))).estimates(MEASURES[MIOU], np.ones((1, 2)))
    assert np.isnan(value[0, 0])


def test_boundary_score_is_the_mean_of_the_images_that_have_one():
    ratios = Ratios.of(["A"], np.zeros((1, 3, 19, 19)), [[40.0, np.nan, 80.0]])
    value, _ = ratios.estimates(MEASURES[BOUNDARY], np.array([[1, 1, 1], [3, 0, 0], [0, 1, 2.0]]))
    assert value[:, 0] == pytest.approx([60, 40, 80])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_estimates_equal_the_metric_of_the_summed_matrices(seed):
    ratios, matrices = random_ratios(seed)
    weights = image_weights(np.random.default_rng(seed), 5, 12)
    for measure, mask in (MEASURES | CLASS_MEASURES).items():
        value, _ = ratios.estimates(mask, weights)
        for b, r in np.ndindex(5, 2):
            summed = np.tensordot(weights[b], matrices[r], 1)
            iou = synthetic_runs.iou(summed)
            if measure == MIOU:
                assert value[b, r] == pytest.approx(np.nanmean(iou))
            elif measure not in (BOUNDARY, LOG_LOSS):
                assert value[b, r] == pytest.approx(iou[int(measure.split("_")[1])], nan_ok=True)


def test_miou_on_all_images_is_the_kits_metric():
    import torch

    ratios, matrices = random_ratios(3)
    value, _ = ratios.estimates(MEASURES[MIOU], np.ones((1, 12)))
    for r in range(2):
        assert value[0, r] == pytest.approx(ConfusionMatrix(matrix=torch.from_numpy(matrices[r].sum(0))).miou())


def test_covariance_is_the_spread_of_the_images_influence():
    """Against a numerical derivative: the influence of image i is d(value) / d(weight i)."""
    ratios, _ = random_ratios(1, images=8)
    weights, step = np.ones((1, 8)), 1e-4
    value, covariance = ratios.estimates(MEASURES[MIOU], weights)
    influence = [
        (ratios.estimates(MEASURES[MIOU], weights + step * np.eye(8)[i])[0][0] - value[0]) / step for i in range(8)
    ]
    assert covariance[0] == pytest.approx(np.array(influence).T @ np.array(influence), rel=1e-2)


def test_weights_draw_each_image_as_often_as_chance_does():
    weights = image_weights(np.random.default_rng(0), 4000, 20)
    assert (weights.sum(1) == 20).all()
    assert weights.mean(0) == pytest.approx(np.ones(20), abs=0.1)
    assert weights.var() == pytest.approx(0.95, abs=0.02)


# --- intervals -------------------------------------------------------------------------------------------------------


def test_the_same_resamples_serve_every_run():
    """Equal runs differ by exactly nothing, however uncertain each is."""
    _, matrices = random_ratios(methods=("A",))
    twins = Bootstrap(Ratios.of(["A", "B"], [matrices[0], matrices[0]]), {MIOU: MEASURES[MIOU]}, 200)
    row = twins.interval({"gap": difference("A", "B")}).loc["gap"]
    assert tuple(row[["estimate", "low", "high"]]) == (0, 0, 0)
    assert row.p == 1
    level = twins.interval({"A": Contrast(MIOU, {"A": 1.0})}).loc["A"]
    assert level.high - level.low > 1


def test_the_same_runs_give_the_same_intervals():
    ratios, _ = random_ratios()
    tables = [Bootstrap(ratios, resamples=100).interval(all_pairs(ratios.names)) for _ in range(2)]
    pd.testing.assert_frame_equal(*tables)


def test_an_interval_holds_its_estimate_and_turns_with_its_contrast():
    bootstrap = Bootstrap(random_ratios()[0], resamples=300)
    there, back = (bootstrap.interval({"d": difference(*names)}).loc["d"] for names in ("AB", "BA"))
    assert there.low < there.estimate < there.high
    assert (back.estimate, back.low, back.high) == pytest.approx((-there.estimate, -there.high, -there.low))


def test_intervals_that_hold_together_are_wider_than_one_alone():
    bootstrap = Bootstrap(random_ratios(methods="ABCDEF")[0], resamples=500)
    family = bootstrap.interval(all_pairs("ABCDEF"))
    alone = bootstrap.interval({"d": difference("A", "B")}).loc["d"]
    together = family.loc[[("A", "B")]].iloc[0]
    assert together.estimate == alone.estimate
    assert together.high - together.low > 1.2 * (alone.high - alone.low)


def test_p_and_interval_tell_the_same():
    bootstrap = Bootstrap(random_ratios(methods="ABCD", images=60, effect=3.0)[0], resamples=999)
    table = bootstrap.interval(all_pairs("ABCD"))
    assert ((table.low > 0) | (table.high < 0)).any()
    assert ((table.p <= 0.05) == ((table.low > 0) | (table.high < 0))).all()


def test_groups_take_the_width_of_the_widest():
    """Of each group the largest signed deviation counts, in either direction: against a plain computation."""
    bootstrap = Bootstrap(random_ratios(methods="ABC", images=40)[0], resamples=400)
    contrasts = {pair: difference(*pair) for pair in ("AC", "BC", "CA", "CB")}
    table = bootstrap.interval(contrasts, groups=[["AC", "BC"], ["CA"], ["CB"]])
    value, (values, covariances) = bootstrap.value[MIOU][0][0], bootstrap.drawn[MIOU]
    deviation = {}
    for a, b in ("AC", "BC"):
        i, j = "ABC".index(a), "ABC".index(b)
        variance = covariances[:, i, i] + covariances[:, j, j] - 2 * covariances[:, i, j]
        deviation[a] = (values[:, i] - values[:, j] - value[i] + value[j]) / np.sqrt(variance)
    extremes = [np.maximum(deviation["A"], deviation["B"]), deviation["A"], deviation["B"]]
    width = max(np.sort(np.abs(extreme))[380] for extreme in extremes)
    assert ((table.high - table.estimate) / table.standard_error).to_numpy() == pytest.approx(width)
    assert (table.high < bootstrap.interval(contrasts).high).all()
    alone = bootstrap.interval({"AC": contrasts["AC"]})
    pd.testing.assert_frame_equal(bootstrap.interval({"AC": contrasts["AC"]}, groups=[["AC"]]), alone)


def test_a_class_seen_in_too_few_images_has_no_interval():
    images = np.array([confusion((0, 0, 90 + i), (0, 1, 3 + i % 4), (1, 1, 5)) for i in range(20)])
    images[:4, 7, 7] = 10
    other = images.copy()
    other[:, 0, 1] += np.arange(20) % 3
    measures = {name: CLASS_MEASURES[name] for name in ("class_0", "class_7")}
    bootstrap = Bootstrap(Ratios.of(["A", "B"], [images, other]), measures, 200)
    table = bootstrap.interval({name: difference("A", "B", name) for name in measures})
    assert np.isnan(table.low["class_7"])
    assert np.isfinite(table.low["class_0"])


def test_a_class_that_one_image_decides_takes_no_bounds_from_the_others():
    """Only one image of 20 has a hit of class 7, so a third of the resamples say nothing about it."""
    rng = np.random.default_rng(0)
    images = np.array([confusion((0, 0, 90), (0, 1, k), (7, 1, 10), (1, 1, 9)) for k in rng.integers(1, 9, 20)])
    other = images + np.array([confusion((0, 1, k)) for k in rng.integers(0, 9, 20)])
    other[3, 7, 7] += 10
    measures = {name: CLASS_MEASURES[name] for name in ("class_0", "class_7")}
    bootstrap = Bootstrap(Ratios.of(["A", "B"], [images, other]), measures, 200)
    table = bootstrap.interval({name: difference("A", "B", name) for name in measures})
    assert np.isnan(table.low["class_7"])
    assert table.estimate["class_7"] < 0
    assert table.low["class_0"] > 0


def test_bounded_keeps_what_together_stays_under_the_share():
    inf = np.inf
    studentised = {"a": np.array([1, 2, 3, 4.0]), "b": np.array([inf, 1, 1, 1]), "c": np.array([inf, inf, 1, 1])}
    assert drop_unbounded(studentised, 0.0) == {"a"}
    assert drop_unbounded(studentised, 0.25) == {"a", "b"}
    assert drop_unbounded(studentised, 0.5) == {"a", "b", "c"}
    # Each alone lacks bounds in a quarter, but in quarters of its own: two of them together in half.
    apart = {name: np.where(np.arange(4) == place, inf, 1.0) for place, name in enumerate("abc")}
    assert len(drop_unbounded(apart, 0.25)) == 1 and len(drop_unbounded(apart, 0.5)) == 2


@pytest.mark.parametrize(("deciding", "told"), [(3, False), (4, True)])
def test_a_class_may_lack_bounds_in_half_of_what_the_confidence_leaves(deciding, told):
    """Of 10 images 3 decide in 97.2 % of all resamples, 4 in 99.4 %; intervals of 95 % ask for 97.5."""
    rng = np.random.default_rng(1)
    images = np.array([confusion((0, 0, 80), (0, 1, 5), (1, 1, 60)) for _ in range(10)])
    other = images.copy()
    other[:deciding, 0, 0] += rng.integers(2, 9, deciding)
    measures = {"class_0": CLASS_MEASURES["class_0"]}
    table = Bootstrap(Ratios.of("AB", [images, other]), measures, 4000).interval({"d": difference("A", "B", "class_0")})
    assert np.isfinite(table.low["d"]) == told


def test_a_class_needs_its_images_in_every_run_of_a_comparison():
    """B sees class 7, falsely, in all 20 images; A only in the 4 that hold it."""
    images = np.array([confusion((0, 0, 90 + i), (1, 1, 5)) for i in range(20)])
    images[:4, 7, 7] = 10
    other = images.copy()
    other[:, 0, 7] = 3
    bootstrap = Bootstrap(Ratios.of("AB", [images, other]), {"class_7": CLASS_MEASURES["class_7"]}, 200)
    contrasts = {"B": Contrast("class_7", {"B": 1.0}), "A - B": difference("A", "B", "class_7")}
    low = bootstrap.interval(contrasts).low
    assert np.isfinite(low["B"]) and np.isnan(low["A - B"])


@pytest.mark.parametrize(("images", "told"), [(1, False), (4, False), (5, True)])
def test_a_handful_of_images_decides_nothing(images, told):
    """One image is the same in every resample, which would make any difference certain."""
    bootstrap = Bootstrap(random_ratios(images=images, effect=20.0)[0], resamples=200)
    table = bootstrap.interval({name: difference("A", "B", name) for name in (MIOU, BOUNDARY)})
    assert np.isfinite(table.low).tolist() == [told] * 2 and np.isfinite(table.estimate).all()


def test_p_is_never_zero():
    """What no resample reaches has one chance in as many as were drawn, and the data's own."""
    images = np.array([confusion((0, 0, 90 + i % 7), (1, 1, 50)) for i in range(40)])
    other = images + confusion((0, 1, 200))
    table = Bootstrap(Ratios.of("AB", [images, other]), resamples=99).interval({"d": difference("A", "B")})
    assert table.p["d"] == 1 / 100


def test_deviations_count_other_seeds_as_their_standard_error_does():
    """By hand from what was drawn: two seeds of A, one of B, so s2 (1/2 + 1) on top of the images' variance."""
    rng = np.random.default_rng(0)
    labels, recall = synthetic_runs.scenes(rng, 40)
    runs = [synthetic_runs.confusions(rng, labels, recall, effect) for effect in (-1, 1, 0)]
    bootstrap = Bootstrap(Ratios.of(["A", "A", "B"], runs), {MIOU: MEASURES[MIOU]}, 2000)
    estimate, variances, found = bootstrap._studentised(difference("A", "B"))
    s2, (values, covariances) = bootstrap.seed_variance(MIOU), bootstrap.drawn[MIOU]
    shift = np.sqrt(s2) * (bootstrap.seed_noise[:, 0] - bootstrap.seed_noise[:, 1])
    variance = covariances[:, 0, 0] + covariances[:, 1, 1] - 2 * covariances[:, 0, 1] + 1.5 * s2 * bootstrap.chi2_scale
    assert found == pytest.approx((values[:, 0] - values[:, 1] - estimate + shift) / np.sqrt(variance))
    images = bootstrap.value[MIOU][1][0]
    assert sum(variances) == pytest.approx(images[0, 0] + images[1, 1] - 2 * images[0, 1] + 1.5 * s2)
    assert bootstrap.seed_noise.std(axis=0) == pytest.approx([np.sqrt(0.5), 1], rel=0.06)
    assert (bootstrap.degrees_of_freedom, bootstrap.chi2_scale.mean()) == (1, pytest.approx(1, rel=0.15))


def test_difference_averages_groups():
    assert difference(("A", "B"), "C").weights == {"A": 0.5, "B": 0.5, "C": -1.0}


def test_seeds_widen_the_interval_of_their_mean():
    """Two seeds of A that lie 2 points apart and one of B: pooled variance 2 with one degree of freedom."""
    rng = np.random.default_rng(0)
    labels, recall = synthetic_runs.scenes(rng, 80)
    low, high, other = (synthetic_runs.confusions(rng, labels, recall, effect, 0.1) for effect in (-1, 1, 0))
    ratios = Ratios.of(["A", "A", "B"], [low, high, other])
    bootstrap = Bootstrap(ratios, {MIOU: MEASURES[MIOU]}, 500)
    gap = synthetic_runs.miou(high.sum(0)) - synthetic_runs.miou(low.sum(0))
    assert bootstrap.seed_variance(MIOU) == pytest.approx(gap**2 / 2)
    assert bootstrap.levels()["A"] == pytest.approx(
        (synthetic_runs.miou(low.sum(0)) + synthetic_runs.miou(high.sum(0))) / 2
    )
    with_seeds = bootstrap.interval({"d": difference("A", "B")}).loc["d"]
    single = Bootstrap(Ratios.of(["A", "B"], [low, other]), {MIOU: MEASURES[MIOU]}, 500)
    without = single.interval({"d": difference("A", "B")}).loc["d"]
    assert single.seed_variance(MIOU) == 0
    # Variance of a difference of means: s2/2 + s2/1 on top of the images'.
    assert with_seeds.standard_error**2 > 1.5 * gap**2 / 2
    assert with_seeds.high - with_seeds.low > 3 * (without.high - without.low)


def test_ten_thousand_resamples_of_eight_runs_on_500_images_are_computed_in_blocks_of_250():
    """Some hundred calls in all, whatever the machine: one by one they would take minutes."""
    resampled = []

    class Counting(Ratios):
        def estimates(self, mask, weights):
            resampled.append(len(weights))
            return super().estimates(mask, weights)

    ratios, _ = random_ratios(methods="ABCDEFGH", images=500)
    table = Bootstrap(Counting(ratios.methods, ratios.numerator, ratios.denominator)).interval(all_pairs("ABCDEFGH"))
    assert len(table) == 28 and sorted(resampled) == len(MEASURES) * [1] + 40 * len(MEASURES) * [250]


# --- trials with a known truth ---------------------------------------------------------------------------------------


def test_single_intervals_cover_the_truth():
    """The truth is the mIoU of a town of 4,000 images, of which each trial sees 80."""
    rng = np.random.default_rng(7)
    labels, recall = synthetic_runs.scenes(rng, 4000)
    town = [synthetic_runs.confusions(rng, labels, recall, effect) for effect in (0, 1)]
    truth = synthetic_runs.miou(town[1].sum(0)) - synthetic_runs.miou(town[0].sum(0))
    covered = 0
    for _ in range(200):
        sample = rng.choice(4000, 80, replace=False)
        ratios = Ratios.of(["A", "B"], [matrix[sample] for matrix in town])
        row = Bootstrap(ratios, {MIOU: MEASURES[MIOU]}, 200).interval({"d": difference("B", "A")}).loc["d"]
        covered += row.low <= truth <= row.high
    assert 0.90 <= covered / 200 <= 0.99


def test_other_seeds_are_covered_when_seeds_vary():
    """Three seeds a method, far apart in quality: no method is better, and few trials may say that one is."""
    rng = np.random.default_rng(11)
    false, spread = 0, []
    for _ in range(100):
        labels, recall = synthetic_runs.scenes(rng, 60)
        odds = np.log(recall / (1 - recall))
        luck = 1 / (1 + np.exp(-(odds + rng.normal(0, 0.1, (12, 1, 1)))))
        matrices = [synthetic_runs.confusions(rng, labels, quality) for quality in luck]
        bootstrap = Bootstrap(Ratios.of([n for n in "ABCD" for _ in range(3)], matrices), {MIOU: MEASURES[MIOU]}, 200)
        table = bootstrap.interval(all_pairs("ABCD"))
        false += bool(((table.low > 0) | (table.high < 0)).any())
        spread.append(bootstrap.seed_variance(MIOU) ** 0.5)
    assert np.mean(spread) > 1
    assert false <= 10


# --- ranking ---------------------------------------------------------------------------------------------------------


def pairs_frame(order, apart):
    """All pairs of `order`, told apart (by 1 +- 0.5) exactly where listed in `apart` as (better, worse)."""
    rows = {}
    for a, b in all_pairs(order):
        sign = 1 if (a, b) in apart else -1 if (b, a) in apart else 0
        rows[a, b] = {"estimate": sign, "low": sign - 0.5, "high": sign + 0.5}
    return pd.DataFrame.from_dict(rows, orient="index")


def test_ranking_shows_ties_as_ties():
    levels = {"C": 48.0, "A": 52.0, "B": 50.0, "D": 40.0}
    apart = {("A", "C"), ("A", "D"), ("B", "D"), ("C", "D")}
    table = ranking(levels, pairs_frame("ABCD", apart))
    assert list(table.index) == ["A", "B", "C", "D"]
    assert list(table.ties) == ["a", "ab", "b", "c"]
    assert list(table.best) == [1, 1, 2, 4]
    assert list(table.worst) == [2, 3, 3, 4]


def test_all_tied_is_one_group():
    table = ranking({"A": 3.0, "B": 2.0, "C": 1.0}, pairs_frame("ABC", set()))
    assert set(table.ties) == {"a"}
    assert set(table.best) == {1}
    assert set(table.worst) == {3}


def test_ties_may_leave_out_who_lies_between():
    """The difference of the extremes may be the least sure of all: A and C are tied, B and C are not."""
    table = ranking({"A": 3.0, "B": 2.0, "C": 1.0}, pairs_frame("ABC", {("A", "B"), ("B", "C")}))
    assert list(table.ties) == ["a", "b", "a"]
    assert list(table.worst) == [2, 2, 3]


@settings(max_examples=50, deadline=None)
@given(st.sets(st.sampled_from(list(combinations("ABCDEF", 2)))))
def test_two_share_a_letter_exactly_when_they_are_not_told_apart(apart):
    ties = ranking({name: -place for place, name in enumerate("ABCDEF")}, pairs_frame("ABCDEF", apart)).ties
    for pair in combinations("ABCDEF", 2):
        assert bool(set(ties[pair[0]]) & set(ties[pair[1]])) == (pair not in apart)


def test_significantly_above_reads_a_pair_either_way_round():
    pairs = pairs_frame("AB", {("B", "A")})
    assert significantly_above(pairs, "B", "A")
    assert not significantly_above(pairs, "A", "B")


# --- the variation between seeds -------------------------------------------------------------------------------------


def test_intervals_between_seeds_by_hand():
    """Pooled variance of {1, 3} and {5, 9} is (2 + 8) / 2; a difference of two means of two has that variance."""
    contrasts = {"d": Contrast("x", {"A": 1, "B": -1})}
    row = seed_intervals(contrasts, {"x": {"A": [1.0, 3.0], "B": [5.0, 9.0]}})["d"]
    assert (row["estimate"], row["standard_error"] ** 2, row["seeds"]) == (-5, pytest.approx(5), 2)
    reach = row["high"] - row["estimate"]
    assert reach == pytest.approx(4.30 * np.sqrt(5), rel=0.05), "t of two degrees of freedom, 95 %"


def test_intervals_between_seeds_hold_at_once():
    """Two statistics of three methods with three seeds each: all six true differences are covered in 95 % of trials."""
    rng, missed, trials = np.random.default_rng(0), 0, 400
    pairs = {(name, *pair): difference(*pair, name) for name in "xy" for pair in combinations("ABC", 2)}
    for _ in range(trials):
        values = {name: {method: rng.normal(0, 1, 3) for method in "ABC"} for name in "xy"}
        rows = seed_intervals(pairs, values, draws=1000).values()
        missed += any(row["low"] > 0 or row["high"] < 0 for row in rows)
    assert missed <= 0.07 * trials


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        ([1.0], [2.0], "every run has one seed"),
        ([1.0, np.nan], [2.0, 3.0], "a run has no value"),
        ([1.0, 1.0], [2.0, 2.0], "the seeds do not differ"),
    ],
)
def test_where_seeds_say_nothing_there_is_a_reason(a, b, reason):
    row = seed_intervals({"d": difference("A", "B", "x")}, {"x": {"A": a, "B": b}})["d"]
    assert np.isnan(row["low"]) and row["reason"] == reason


def test_a_statistic_that_moves_in_steps_is_no_surer_than_its_step():
    """Seeds that all fall on one step of 0.2 have the variance of its rounding."""
    values = {"x": {"A": [0.2, 0.2], "B": [0.4, 0.4]}}
    row = seed_intervals({"d": difference("A", "B", "x")}, values, resolution={"x": 0.2})["d"]
    assert row["standard_error"] ** 2 == pytest.approx(0.2**2 / 12)


@pytest.mark.parametrize(
    ("images", "shown", "reason"),
    [
        (3, 3, "it takes 5 validation images, and there are 3"),
        (1, 1, "it takes 5 validation images, and there is one"),
        (20, 4, "it takes 5 validation images, and 4 of the 20 show it"),
        (20, 0, "no image shows it"),
    ],
)
def test_a_missing_interval_says_why(images, shown, reason):
    matrices = np.array([confusion((0, 0, 90 + i), (0, 1, i)) for i in range(images)])
    matrices[:shown, 7, 7] = 10
    other = matrices + confusion((0, 1, 3), (1, 7, int(shown == 0)))
    ratios = Ratios.of("AB", [matrices, matrices if shown else other])
    table = Bootstrap(ratios, {"class_7": CLASS_MEASURES["class_7"]}, 50).interval(
        {"d": Contrast("class_7", {"A": 1.0})}
    )
    assert table.reason["d"] == reason and np.isnan(table.low["d"])


def test_a_measure_that_the_files_lack_says_so():
    ratios, _ = random_ratios()
    table = Bootstrap(Ratios(ratios.methods, ratios.numerator, ratios.denominator), resamples=50).interval(
        {"d": difference("A", "B", LOG_LOSS)}
    )
    assert table.reason["d"] == "the files do not hold it"


def test_log_loss_is_weighed_by_pixels():
    """10 pixels at 0.5 nats and 30 at 1.5 are 1.25 a pixel."""
    images = [confusion((0, 0, 10)), confusion((0, 0, 30))]
    value, _ = Ratios.of(["A"], [images], log_loss=[[0.5, 1.5]]).estimates(MEASURES[LOG_LOSS], np.ones((1, 2)))
    assert value[0, 0] == pytest.approx(1.25)
