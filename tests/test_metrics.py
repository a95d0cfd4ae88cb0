"""Confusion matrix, IoU and boundary F: values by hand, ideal and worst cases, independence of batching and order."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deeplab_lib.labels import CATEGORIES, CLASSES
from deeplab_lib.metrics import (
    ConfusionMatrix,
    boundary_f,
    calibration_error,
    calibration_per_image,
    confusion_per_image,
    iou,
    mean_iou,
)

VOID = 255


@st.composite
def pairs(draw, num_classes=19):
    """Labels with void and predictions without, `(N, H, W)`."""
    shape = [draw(st.integers(1, high)) for high in (5, 8, 9)]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels, predicted = rng.integers(0, num_classes, (2, *shape))
    labels[rng.random(shape) < draw(st.sampled_from((0, 0.3, 1)))] = VOID
    return torch.from_numpy(labels), torch.from_numpy(predicted)


def test_counts_by_hand():
    labels = torch.tensor([[[0, 0, 1], [2, VOID, VOID]]])
    predicted = torch.tensor([[[0, 1, 1], [0, 0, 1]]])
    counts = ConfusionMatrix(3).update(labels, predicted)
    assert counts.matrix.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert counts.iou() == pytest.approx([100 / 3, 50, 0])
    assert counts.miou() == pytest.approx((100 / 3 + 50) / 3)
    assert counts.pixel_accuracy() == 50


def test_accumulate_then_divide():
    """IoU of a data set is that of the summed counts, not the mean of the images' IoUs."""
    counts = ConfusionMatrix(2)
    counts.update(torch.zeros(1, 1, 1).long(), torch.zeros(1, 1, 1).long())  # one pixel, right: 100 %
    counts.update(torch.zeros(1, 3, 1).long(), torch.ones(1, 3, 1).long())  # three pixels, wrong: 0 %
    assert counts.iou()[0] == 25


@given(pairs())
def test_as_counted_pixel_by_pixel(pair):
    expected = np.zeros((19, 19), dtype=np.int64)
    for label, prediction in zip(pair[0].flatten().tolist(), pair[1].flatten().tolist(), strict=True):
        if label != VOID:
            expected[label, prediction] += 1
    counts = ConfusionMatrix().update(*pair)
    assert (counts.matrix == expected).all() and counts.matrix.dtype == np.int64
    for c in range(19):
        union = expected[c].sum() + expected[:, c].sum() - expected[c, c]
        got = counts.iou()[c]
        assert got == pytest.approx(100 * expected[c, c] / union) if union else math.isnan(got)


@given(pairs(), st.integers(1, 5), st.randoms(use_true_random=False))
def test_independent_of_batch_size_and_order(pair, batch, random):
    whole = ConfusionMatrix().update(*pair)
    order = random.sample(range(len(pair[0])), len(pair[0]))
    parts = ConfusionMatrix()
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        parts.update(pair[0][chosen], pair[1][chosen])
    assert (parts.matrix == whole.matrix).all()


@given(pairs())
def test_per_image_matrices_sum_to_the_whole(pair):
    assert (confusion_per_image(*pair).sum(0).numpy() == ConfusionMatrix().update(*pair).matrix).all()


@given(pairs())
def test_a_perfect_prediction_scores_100_and_absent_classes_are_nan(pair):
    labels = pair[0]
    counts = ConfusionMatrix().update(labels, labels.where(labels != VOID, 3))
    present = set(labels[labels != VOID].tolist())
    for c, value in enumerate(counts.iou()):
        assert value == 100 if c in present else math.isnan(value)
    assert counts.miou() == 100 if present else math.isnan(counts.miou())


def test_nothing_seen_is_nan_not_zero():
    counts = ConfusionMatrix()
    assert math.isnan(counts.miou()) and math.isnan(counts.pixel_accuracy()) and np.isnan(counts.iou()).all()


def test_a_class_predicted_but_absent_from_the_labels_scores_zero():
    counts = ConfusionMatrix(3).update(torch.tensor([[0, 0]]), torch.tensor([[0, 1]]))
    assert counts.iou()[1] == 0 and math.isnan(counts.iou()[2])
    assert counts.miou() == 25


def test_mean_skips_nan():
    assert mean_iou([50, math.nan, 100]) == 75


def test_iou_of_many_matrices_at_once():
    matrices = np.random.default_rng(0).integers(0, 5, (4, 19, 19))
    assert np.allclose(iou(matrices), [iou(m) for m in matrices], equal_nan=True)


def test_no_overflow_beyond_32_bits():
    counts = ConfusionMatrix(2, matrix=torch.tensor([[2**40, 0], [0, 2**40]]))
    assert counts.update(torch.tensor([[0]]), torch.tensor([[0]])).matrix[0, 0] == 2**40 + 1


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="differ in shape"):
        ConfusionMatrix().update(torch.zeros(1, 2, 2), torch.zeros(1, 2, 3))


@pytest.mark.parametrize("value", [-1, 19, 30, 300])
def test_what_is_no_class_is_refused_by_its_value(value):
    right, wrong = torch.zeros(1, 2, 2).long(), torch.full((1, 2, 2), value)
    with pytest.raises(ValueError, match=rf"label {value} is neither a class \(0 to 18\) nor void"):
        ConfusionMatrix().update(wrong, right)
    with pytest.raises(ValueError, match=rf"prediction {value} is no class \(0 to 18\)"):
        ConfusionMatrix().update(right, wrong)
    with pytest.raises(ValueError, match="prediction 255 is no class"):
        ConfusionMatrix().update(right, torch.full((1, 2, 2), VOID))


@given(pairs())
def test_categories_are_the_classes_pooled(pair):
    index = torch.tensor([CATEGORIES.index(label.category) for label in CLASSES])
    labels, predicted = pair[0].where(pair[0] != VOID, 0), pair[1]
    pooled = ConfusionMatrix(7).update(index[labels].where(pair[0] != VOID, VOID), index[predicted])
    result = ConfusionMatrix().update(*pair).category_iou()
    assert list(result) == list(CATEGORIES)
    assert np.allclose(list(result.values()), pooled.iou(), equal_nan=True)


# -- boundaries --------------------------------------------------------------------------------------------------------


def halves(at, height=40, width=60):
    """Class 0 left of column `at`, class 1 from it on."""
    return (torch.arange(width) >= at).long().expand(1, height, width)


def test_boundary_f_by_hand():
    # The diagonal is 72.1, so the tolerance is 0.54 pixels, at least one: an outline two columns wide around the edge.
    assert boundary_f(halves(30), halves(30)).tolist() == [100]
    assert boundary_f(halves(30), halves(31)).tolist() == [100]  # shifted by the tolerance
    # By two: class 0 outlines column 29, guessed at 31: both out of reach; the same for class 1.
    assert boundary_f(halves(30), halves(32)).tolist() == [0]
    assert boundary_f(halves(30), halves(32), tolerance=2 / 72).tolist() == [100]


def test_the_boundary_tolerance_of_a_small_image_is_one_pixel():
    small, shifted = halves(6, height=10, width=12), halves(7, height=10, width=12)  # 0.75 % of the diagonal: 0.12
    assert boundary_f(small, shifted).tolist() == [100]


def test_boundary_f_of_a_spurious_class():
    labels = halves(30)
    predicted = labels.clone()
    predicted[:, :20, 30:] = 2
    # Class 0: column 29, found whole: 1. Class 2: none in the label: 0. Class 1: 40 pixels of column 30 in the label,
    # 20 of them and 29 of row 20 in the guess; within one pixel lie 21 of those 49 and 21 of the 40: 2 x 21 / (49 + 40)
    assert boundary_f(labels, predicted).item() == pytest.approx(100 * (1 + 42 / 89 + 0) / 3)


def test_boundary_f_of_an_object_of_a_single_pixel():
    """Its outline is itself: found, the object's F is 1; one guessed where there is none has 0."""
    labels = torch.zeros(1, 40, 60, dtype=torch.long)
    labels[:, 20, 30] = 1
    assert boundary_f(labels, labels).tolist() == [100]
    assert boundary_f(torch.zeros_like(labels), labels).tolist() == [0]


def test_boundary_f_without_any_outline_is_nan():
    same = torch.zeros(1, 10, 10, dtype=torch.long)
    assert boundary_f(same, same).isnan().all()


def test_an_edge_towards_void_is_nobodys_outline():
    labels = torch.zeros(1, 20, 20, dtype=torch.long)
    labels[:, 5:9, 5:9] = VOID
    assert boundary_f(labels, torch.zeros_like(labels)).isnan().all()


def test_what_is_predicted_at_void_is_nobodys_outline():
    """A perfect prediction stays perfect whatever classes it names where there is no label."""
    labels, predicted = halves(30).clone(), halves(30).clone()
    labels[:, 5:35, 5:20] = VOID
    predicted[:, 15:25, 8:16] = 2  # well inside the void
    assert boundary_f(labels, predicted).tolist() == [100]


@given(pairs(), st.randoms(use_true_random=False))
def test_boundary_f_lies_in_range_and_is_per_image(pair, random):
    scores = boundary_f(*pair)
    assert ((scores >= 0) & (scores <= 100.001) | scores.isnan()).all()
    each = torch.stack([boundary_f(y[None], z[None])[0] for y, z in zip(*pair, strict=True)])
    assert torch.allclose(scores, each, equal_nan=True)


# --- calibration -----------------------------------------------------------------------------------------------------


def test_calibration_error_by_hand():
    """Five pixels and two bins: three at 0.9, two of them right; two at 0.3, both wrong; a void one counts nowhere."""
    labels = torch.tensor([[[0, 0, 1, 1, 1, VOID]]])
    predicted = torch.tensor([[[0, 0, 0, 0, 0, 0]]])
    confidence = torch.tensor([[[0.9, 0.9, 0.9, 0.3, 0.3, 0.9]]])
    counts, confident, hits = calibration_per_image(labels, predicted, confidence, bins=2)
    assert (counts.tolist(), hits.tolist()) == ([[2, 3]], [[0, 2]])
    assert confident.numpy() == pytest.approx(np.array([[0.6, 2.7]]), abs=1e-6)
    # 2/5 |0 - 0.3| + 3/5 |2/3 - 0.9|
    assert calibration_error(counts, confident, hits) == pytest.approx(
        [100 * (0.4 * 0.3 + 0.6 * (0.9 - 2 / 3))], abs=1e-5
    )


def test_a_bin_holds_its_upper_end_and_certainty_is_in_the_last():
    counts, *_ = calibration_per_image(*[torch.zeros(1, 1, 4).long()] * 2, torch.tensor([[[0.5, 0.50001, 1, 0.02]]]), 2)
    assert counts.tolist() == [[2, 2]]


def test_who_is_right_as_often_as_believed_has_no_error():
    confidence, labels = torch.full((1, 1, 4), 0.75), torch.tensor([[[1, 1, 1, 0]]])
    assert calibration_error(*calibration_per_image(labels, torch.ones(1, 1, 4).long(), confidence))[0] == 0
    assert np.isnan(calibration_error(*calibration_per_image(labels * 0 + VOID, labels, confidence))[0])


@given(st.integers(0, 2**32 - 1))
def test_calibration_of_images_adds_up_in_any_order(seed):
    rng = np.random.default_rng(seed)
    labels, predicted = torch.from_numpy(rng.integers(0, 3, (2, 4, 5, 6)))
    labels[rng.random(labels.shape) < 0.2] = VOID
    confidence = torch.from_numpy(rng.random(labels.shape)).float()
    whole = calibration_per_image(labels, predicted, confidence)
    order = [2, 0, 3, 1]
    shuffled = calibration_per_image(labels[order], predicted[order], confidence[order])
    assert all(torch.equal(a.sum(0), b.sum(0)) for a, b in zip(whole, shuffled, strict=True))
    assert whole[0].sum() == (labels != VOID).sum()


def test_calibration_error_is_that_of_another_library():
    torchmetrics = pytest.importorskip("torchmetrics.functional.classification")
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(0, 2, (3, 19, 40, 50))).float()
    labels = torch.from_numpy(rng.integers(0, 19, (3, 40, 50)))
    labels[rng.random(labels.shape) < 0.1] = VOID
    p = logits.softmax(1)
    mine = calibration_error(*(c.sum(0) for c in calibration_per_image(labels, p.argmax(1), p.amax(1))))
    theirs = torchmetrics.multiclass_calibration_error(p, labels, 19, n_bins=15, norm="l1", ignore_index=VOID)
    assert mine == pytest.approx(100 * theirs.item(), abs=1e-4)  # in percent: 1e-6 of the share
