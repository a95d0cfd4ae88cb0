"""Decided by image: shares by hand, intervals that hold, and the images that are shown."""

import numpy as np
import pytest
from helpers.synthetic_runs import study_in_memory, write_runs

from deeplab_lib.analysis import by_image, sentences
from deeplab_lib.analysis.evidence import Evidence
from deeplab_lib.analysis.findings import Findings
from deeplab_lib.analysis.numbers import Numbers
from deeplab_lib.analysis.verdicts import CONTRADICTED, EQUIVALENT, INCONCLUSIVE, SUPPORTED
from deeplab_lib.study.grouping import studies
from deeplab_lib.study.results import read_runs


def image(hits):
    """Ten pixels of class 0 of which `hits` are found: mean IoU is ten times that."""
    matrix = np.zeros((19, 19), int)
    matrix[0, 0], matrix[0, 1] = hits, 10 - hits
    return matrix


def study_of(*hits):
    """CE and further recipes with the given hits in every image."""
    study = study_in_memory(
        np.random.default_rng(0), images=len(hits[0]), recipes=("ce", "ce_dice", "ce_focal")[: len(hits)]
    )
    for run, found in zip(study.runs, hits, strict=True):
        run.arrays["confusion"] = np.array([image(n) for n in found])
    return study


def evidence_of(*hits):
    return Evidence.of(study_of(*hits), 20)


def test_shares_by_hand():
    """Of eight images five are won, one lost, two tied: six wins of eight."""
    table = by_image.wins(evidence_of([5] * 8, [6, 6, 6, 6, 6, 4, 5, 5]))
    assert table.estimate.iloc[0] == 75 and table.images.iloc[0] == 8
    assert table.low.iloc[0] < 50 < table.high.iloc[0] and table.verdict.iloc[0] == INCONCLUSIVE


def test_wilsons_interval_is_that_of_the_tables():
    """81 of 263 at 95 %: (0.2553, 0.3662), as Newcombe (1998), table I, gives it for Wilson's method."""
    assert by_image.wilson(81 / 263, 263, 0.95) == pytest.approx((25.53, 36.62), abs=0.01)


@pytest.mark.parametrize(
    ("won", "verdict"), [(1.0, SUPPORTED), (0.0, CONTRADICTED), (0.5, EQUIVALENT), (0.6, SUPPORTED)]
)
def test_verdicts_are_about_more_than_half(won, verdict):
    hits = [6] * round(400 * won) + [4] * round(400 * (1 - won))
    assert by_image.wins(evidence_of([5] * 400, hits)).verdict.iloc[0] == verdict


def test_kind_4_equal_runs_tie_on_every_image():
    table = by_image.wins(evidence_of([5] * 300, [5] * 300))
    assert table.estimate.iloc[0] == 50 and table.verdict.iloc[0] == EQUIVALENT


def test_three_images_give_a_share_and_no_interval():
    study = study_of([5] * 3, [6] * 3)
    evidence = Evidence.of(study, 20)
    table = by_image.wins(evidence)
    assert table.estimate.iloc[0] == 100 and table[["low", "high"]].isna().all(axis=None)
    assert sentences.wins(Findings.of(study, evidence), table, Numbers()) == ""


def test_intervals_of_shares_hold():
    """1,000 shares of a true one half in 60 images: at most 6 % of Wilson's intervals miss it."""
    found = [by_image.wilson(n / 60, 60, 0.95) for n in np.random.default_rng(0).binomial(60, 0.5, 1000)]
    assert sum(not low <= 50 <= high for low, high in found) <= 60


def test_what_is_shown_differs_from_ce_or_divides_most():
    judged = Evidence.of(study_in_memory(np.random.default_rng(1), {"ce_focal": 9, "ce_dice": -9}, images=80), 200)
    shares = by_image.wins(judged)
    chosen = by_image.pairs_that_matter(judged.from_baseline(), shares)
    assert {judged.title(name) for name in chosen} == {"CE + Focal", "CE + Dice"}
    equal = Evidence.of(study_in_memory(np.random.default_rng(1), images=80), 200)
    assert len(by_image.pairs_that_matter(equal.from_baseline(), by_image.wins(equal))) == 1


def test_the_images_shown_are_those_that_speak_most_for_either_side(tmp_path):
    write_runs(tmp_path, ("ce", "ce_dice"), images=30, preset="smoke", effects={"ce_dice": 2})
    judged = Evidence.of(studies(read_runs(tmp_path))[0], 50)
    method = judged.recipes[1].name
    best, worst = by_image.most_different(judged, method)
    found = by_image.scores(judged)
    run = judged.recipes[1].runs[0]
    names = list(run.arrays["names"])
    gaps = {str(n): found[method][names.index(n)] - found[judged.baseline.name][names.index(n)]
            for n in run.arrays["prediction_names"]}  # fmt: skip
    assert best is None or gaps[best] == max(gaps.values()) > 0
    assert worst is None or gaps[worst] == min(gaps.values()) < 0
    assert best or worst


def test_no_image_no_share():
    study = study_in_memory(np.random.default_rng(0), images=10, recipes=("ce", "ce_dice"))
    for run in study.runs:
        run.arrays = {}
    assert by_image.wins(Evidence.of(study, 20)).empty
