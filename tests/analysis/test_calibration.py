"""Calibration error with its intervals: by hand, on planted overconfidence, and on equal networks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.synthetic_runs import believed, study_in_memory

from deeplab_lib.analysis import sentences
from deeplab_lib.analysis.calibration import ALL_BINS, ECE, CalibrationBins, calibration, reliability
from deeplab_lib.analysis.evidence import Evidence
from deeplab_lib.analysis.findings import Findings
from deeplab_lib.analysis.numbers import Numbers
from deeplab_lib.analysis.statistics import Bootstrap, difference
from deeplab_lib.analysis.verdicts import CONTRADICTED, EQUIVALENT, SUPPORTED
from deeplab_lib.metrics import calibration_per_image


def counted(logits, labels):
    """Counts, summed confidence and hits of images `logits (N, C, H, W)`, three arrays `(N, 15)`."""
    p = logits.softmax(1)
    return [part.numpy() for part in calibration_per_image(labels, p.argmax(1), p.amax(1))]


def honest(rng, images=60, classes=5, size=(12, 20)):
    """Logits that are believed as often as they are right, and labels drawn from their own probabilities."""
    logits = torch.from_numpy(rng.normal(0, 2, (images, classes, *size))).float()
    draws = torch.distributions.Categorical(logits.softmax(1).movedim(1, -1)).sample()
    return logits, draws


def judged(arrays):
    """The frame of `calibration` for runs in memory whose arrays are `{recipe: (counts, confidence, hits)}`."""
    names = ("calibration_count", "calibration_confidence", "calibration_hits")
    study = study_in_memory(np.random.default_rng(0), images=60, recipes=tuple(arrays))
    for run in study.runs:
        run.arrays |= dict(zip(names, arrays[run.recipe], strict=True))
    evidence = Evidence.of(study, 50)
    return calibration(evidence, resamples=400), evidence, Findings.of(study, evidence)


@pytest.fixture(scope="module")
def planted():
    """CE and Dice with honest logits, run 5 with the same network as CE, Focal with its logits doubled."""
    torch.manual_seed(0)
    rng = np.random.default_rng(1)
    logits, labels = honest(rng)
    other, _ = honest(rng)
    other = logits + 0.05 * other
    return judged({
        "ce": counted(logits, labels), "ce_dice": counted(other, labels), "ce_lovasz_warmup": counted(logits, labels),
        "ce_focal": counted(2 * logits, labels),
    })  # fmt: skip


def test_doubled_logits_are_found_overconfident_and_equal_networks_are_not(planted):
    table, evidence, _ = planted
    rows = {method.recipe: table.loc[method.name] for method in evidence.recipes}
    assert rows["ce_focal"].verdict == SUPPORTED and rows["ce_focal"].low > rows["ce"].high
    assert rows["ce_focal"].overconfidence > 5 > abs(rows["ce"].overconfidence)
    assert rows["ce_lovasz_warmup"].verdict == EQUIVALENT
    assert tuple(rows["ce_lovasz_warmup"][["difference", "difference_low", "difference_high"]]) == (0, 0, 0)
    assert rows["ce_dice"].verdict != SUPPORTED
    assert table.index[-1] == next(m.name for m in evidence.recipes if m.recipe == "ce_focal")


def test_halved_logits_are_too_shy():
    torch.manual_seed(1)
    logits, labels = honest(np.random.default_rng(2))
    table, *_ = judged({"ce": counted(2 * logits, labels), "ce_focal": counted(logits, labels)})
    assert table.verdict.iloc[0] == CONTRADICTED, "its error is smaller than that of the doubled ones"
    table, *_ = judged({"ce": counted(logits, labels), "ce_focal": counted(0.5 * logits, labels)})
    assert table.overconfidence.iloc[-1] < -5 and table.verdict.iloc[-1] == SUPPORTED


def test_error_in_resamples_by_hand():
    """Two bins: gaps -2 of 10 pixels and +1 of 10, so 3 of 20; without the second image -2 of 10."""
    counts = np.array([[[10.0, 0.0], [0.0, 10.0]]])
    bins = CalibrationBins(("A",), np.array([[[-2.0, 0.0], [0.0, 1.0]]]), counts)
    value, _ = bins.estimates(None, np.array([[1.0, 1.0], [2.0, 0.0]]))
    assert value[:, 0] == pytest.approx([15, 20])


def test_covariance_is_the_spread_of_the_images_influence():
    rng = np.random.default_rng(3)
    arrays = [believed(rng, np.full((8, 1, 1), 5000)) for _ in "AB"]
    counts = np.array([array["calibration_count"] for array in arrays], float)
    gaps = np.array([array["calibration_hits"] - array["calibration_confidence"] for array in arrays])
    bins, weights, step = CalibrationBins(("A", "B"), gaps, counts), np.ones((1, 8)), 1e-6
    value, covariance = bins.estimates(ALL_BINS, weights)
    moved = [(bins.estimates(ALL_BINS, weights + step * np.eye(8)[i])[0][0] - value[0]) / step for i in range(8)]
    assert covariance[0] == pytest.approx(np.array(moved).T @ np.array(moved), rel=1e-3)


def test_intervals_of_the_error_cover_equal_networks():
    """Two networks of one quality, 100 times: their difference is found in at most 8 %."""
    rng, found = np.random.default_rng(5), 0
    for _ in range(100):
        arrays = [believed(rng, np.full((60, 1, 1), 5000)) for _ in "AB"]
        counts = np.array([array["calibration_count"] for array in arrays], float)
        gaps = np.array([array["calibration_hits"] - array["calibration_confidence"] for array in arrays])
        bootstrap = Bootstrap(CalibrationBins(("A", "B"), gaps, counts), {ECE: ALL_BINS}, 200)
        row = bootstrap.interval({"d": difference("A", "B", ECE)}).loc["d"]
        found += row.low > 0 or row.high < 0
    assert found <= 8


def test_reliability_by_hand():
    study = study_in_memory(np.random.default_rng(0), images=20, recipes=("ce",))
    counts = np.zeros((20, 15), int)
    counts[:, 14], counts[:, 7] = 30, 10
    study.runs[0].arrays |= {
        "calibration_count": counts, "calibration_confidence": counts * 0.9, "calibration_hits": counts // 2,
    }  # fmt: skip
    (frame,) = reliability(Evidence.of(study, 20)).values()
    assert frame.loc[14].tolist() == pytest.approx([0.75, 90, 50])
    assert frame.loc[0, ["confidence", "accuracy"]].isna().all() and frame.loc[0, "pixels"] == 0


def test_files_without_counts_are_said_to_lack_them():
    study = study_in_memory(np.random.default_rng(0), images=20, recipes=("ce", "ce_dice"))
    del study.runs[1].arrays["calibration_hits"]
    evidence = Evidence.of(study, 20)
    assert calibration(evidence) is None and reliability(evidence) == {}
    assert "hold no counts by confidence" in sentences.calibration(Findings.of(study, evidence), Numbers())


def test_the_paragraph_names_who_believes_too_much(planted):
    _, _, findings = planted
    text = sentences.calibration(findings, Numbers())
    assert "larger for CE + Focal" in text and "no difference that matters" in text
    assert "CE + Focal" in text.split("overconfident")[0]


def test_what_is_concluded_is_said_of_one_schedule_and_only_where_it_is_decided(planted):
    """Focal, found overconfident, had another schedule; Dice, on that of CE, makes no difference that matters."""
    _, evidence, findings = planted
    assert sentences.trusted(findings) == ""
    trust = findings.trust.copy()
    dice = next(method.name for method in evidence.recipes if method.recipe == "ce_dice")
    trust.loc[dice, "verdict"] = SUPPORTED
    said = sentences.trusted(replace(findings, trust=trust))
    assert said.startswith("At equal schedule, the calibration error of CE + Dice is significantly larger than that of")
    assert sentences.trusted(replace(findings, trust=None)) == ""
