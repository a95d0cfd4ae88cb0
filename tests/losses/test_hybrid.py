"""The further terms: values by hand, oracles, identities; what holds for every term stands in test_losses.py."""

import math

import numpy as np
import pytest
import torch
from helpers.loss_batches import VOID, batches, flat
from hypothesis import given
from hypothesis import strategies as st

from deeplab_lib.config import Config
from deeplab_lib.data.augment import count_classes
from deeplab_lib.data.dataset import prepare_data
from deeplab_lib.data.normalization import RGB_IMAGENET
from deeplab_lib.losses import TERMS, make_loss
from deeplab_lib.losses.base import Loss
from deeplab_lib.losses.hybrid import near_boundary
from deeplab_lib.training.loop import fit

# Two pixels, two classes. Pixel 0 has label 0 and p = (3/4, 1/4); pixel 1 has label 1 and p = (1/2, 1/2).
LOGITS = torch.tensor([[[[math.log(3.0), 0.0]], [[0.0, 0.0]]]])
LABELS = torch.tensor([[[0, 1]]])
# Tversky misses with alpha 0.3, beta 0.7. Class 0: TP 3/4, FP 1/2, FN 1/4. Class 1: TP 1/2, FP 1/4, FN 1/2.
MISS = (0.325 / 1.075, 0.425 / 0.925)


def value(expression, logits=LOGITS, labels=LABELS):
    return make_loss(expression)(logits, labels).item()


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("focal_tversky(alpha=0.3, beta=0.7, gamma=2)", (MISS[0] ** 0.5 + MISS[1] ** 0.5) / 2),
        ("focal_tversky", (MISS[0] ** 0.75 + MISS[1] ** 0.75) / 2),
        ("focal_tversky(gamma=1)", (MISS[0] + MISS[1]) / 2),
        ("unified_focal(mix=1, delta=1, gamma=1)", (math.log(4 / 3) + math.log(2)) / 2),
        ("unified_focal(mix=0, delta=0.7, gamma=1)", (MISS[0] + MISS[1]) / 2),
        (
            "unified_focal(mix=0.5, delta=0.7, gamma=0.5)",
            0.5 * 0.7 * (0.25**0.5 * math.log(4 / 3) + 0.5**0.5 * math.log(2)) / 2
            + 0.5 * (MISS[0] ** 0.5 + MISS[1] ** 0.5) / 2,
        ),
        ("ohem(keep=0.5)", math.log(2)),
        ("ohem(keep=0.1)", math.log(2)),  # at least one pixel
        ("ohem(keep=1)", (math.log(4 / 3) + math.log(2)) / 2),
        ("boundary_ce", (math.log(4 / 3) + math.log(2)) / 2),  # both at the boundary: both count alike
    ],
)
def test_values_by_hand(expression, expected):
    assert value(expression) == pytest.approx(expected, rel=1e-6)


# -- oracles, in float64, by loops -------------------------------------------------------------------------------------


def surprise(p, y):
    """-log p[i, y_i] `(P,)`."""
    return -np.log(p[np.arange(len(y)), y])


def plain_misses(p, y, alpha, beta):
    """1 - TI of every class in the labels."""
    overlaps = []
    for c in np.unique(y):
        g = y == c
        hits, claimed, missed = p[g, c].sum(), p[~g, c].sum(), (1 - p[g, c]).sum()
        overlaps.append(hits / (hits + alpha * claimed + beta * missed))
    return 1 - np.array(overlaps)


def plain_boundary(labels, width):
    """Which pixels `(N, h, w)` lie within `width` cells of another class, by looking at every neighbour."""
    edge, band = np.zeros(labels.shape, bool), np.zeros(labels.shape, bool)
    for n, i, j in np.ndindex(labels.shape):
        sides = [labels[n, a, b] for a, b in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)) if inside(labels, a, b)]
        edge[n, i, j] = labels[n, i, j] != VOID and any(side not in (VOID, labels[n, i, j]) for side in sides)
    for n, i, j in np.argwhere(edge):
        band[n, max(i - width + 1, 0) : i + width, max(j - width + 1, 0) : j + width] = True
    return band


def inside(labels, row, column):
    return 0 <= row < labels.shape[1] and 0 <= column < labels.shape[2]


@given(batches(dtypes=(torch.float32,)), st.sampled_from((0.01, 0.25, 0.6, 1.0)))
def test_hard_pixels_as_a_sorted_mean(batch, keep):
    each = np.sort(surprise(*flat(*batch)))[::-1]
    expected = each[: math.ceil(np.float32(keep) * np.float32(len(each)))].mean() if len(each) else 0.0
    assert value(f"ohem(keep={keep})", *batch) == pytest.approx(expected, rel=1e-4, abs=1e-6)


@given(batches(dtypes=(torch.float32,)), st.sampled_from((0.0, 1.0, 4.0)), st.sampled_from((1, 2, 3)))
def test_boundaries_as_found_pixel_by_pixel(batch, weight, width):
    labels = batch[1].numpy()
    weights = 1 + weight * plain_boundary(labels, width)[labels != VOID]
    expected = np.average(surprise(*flat(*batch)), weights=weights) if len(weights) else 0.0
    assert value(f"boundary_ce(weight={weight}, width={width})", *batch) == pytest.approx(expected, rel=1e-4, abs=1e-6)


@given(batches(dtypes=(torch.float32,)), st.sampled_from(((0.3, 0.7), (1.0, 0.0))), st.sampled_from((0.5, 1.0, 2.0)))
def test_focal_tversky_as_its_formula(batch, parameters, gamma):
    misses = plain_misses(*flat(*batch), *parameters) ** (1 / gamma)
    expression = f"focal_tversky(alpha={parameters[0]}, beta={parameters[1]}, gamma={gamma})"
    assert value(expression, *batch) == pytest.approx(misses.mean() if len(misses) else 0.0, rel=1e-3, abs=1e-5)


@given(batches(dtypes=(torch.float32,)), *[st.sampled_from((0.0, 0.4, 1.0))] * 2, st.sampled_from((0.5, 0.8, 1.0)))
def test_unified_focal_as_its_formula(batch, mix, delta, gamma):
    p, y = flat(*batch)
    each = delta * (1 - p[np.arange(len(y)), y]) ** (1 - gamma) * surprise(p, y)
    misses = plain_misses(p, y, 1 - delta, delta) ** gamma
    expected = mix * each.mean() + (1 - mix) * misses.mean() if len(y) else 0.0
    expression = f"unified_focal(mix={mix}, delta={delta}, gamma={gamma})"
    assert value(expression, *batch) == pytest.approx(expected, rel=1e-3, abs=1e-5)


# -- hard pixels, boundaries -------------------------------------------------------------------------------------------


def test_hard_pixels_are_sought_in_the_whole_batch_and_void_is_none_of_them():
    logits = torch.zeros(2, 2, 1, 4)
    logits[0, 0] = -5.0  # the first image is wrong about everything, at its void pixel most
    labels = torch.zeros(2, 1, 4, dtype=torch.long)
    logits[0, 0, 0, 3], labels[0, 0, 3] = -50.0, VOID
    loss = make_loss("ohem(keep=0.42)")  # 3 of 7 valid pixels
    assert loss(logits, labels).item() == pytest.approx(math.log1p(math.exp(5)), rel=1e-6)


def test_the_boundary_band_by_hand():
    labels = torch.tensor([[[0, 0, 0, 1, 1, 1, VOID, 2, 2]]])
    assert near_boundary(labels, 1).int().tolist() == [[[0, 0, 1, 1, 0, 0, 0, 0, 0]]]
    assert near_boundary(labels, 2).int().tolist() == [[[0, 1, 1, 1, 1, 0, 0, 0, 0]]]
    assert near_boundary(labels.transpose(1, 2), 1).int().flatten().tolist() == [0, 0, 1, 1, 0, 0, 0, 0, 0]


def test_a_boundary_pixel_counts_as_often_as_its_weight_says():
    labels = torch.tensor([[[0, 0, 0, 1]]])
    logits = torch.randn(1, 2, 1, 4, generator=torch.Generator().manual_seed(0))
    each = torch.nn.functional.cross_entropy(logits, labels, reduction="none").flatten()
    expected = (each[0] + each[1] + 5 * each[2] + 5 * each[3]) / 12
    assert value("boundary_ce(weight=4)", logits, labels) == pytest.approx(expected.item(), rel=1e-6)
    assert value("boundary_ce(weight=0)", logits, labels) == pytest.approx(each.mean().item(), rel=1e-6)


# -- classes by frequency ----------------------------------------------------------------------------------------------

# Three images of 100 pixels and three classes that occur; the fourth never does.
COUNTS = np.array([[90, 10, 0, 0], [50, 0, 50, 0], [40, 40, 20, 0]])


def weights_of(expression, counts=COUNTS):
    loss = make_loss(expression)
    loss.set_class_counts(counts)
    return next(iter(loss.losses.values())).weights.tolist()


def test_median_frequency_by_hand():
    # Shares in the images that show the class: 180/300, 50/200, 70/200.
    assert weights_of("median_ce") == pytest.approx([0.35 / 0.6, 0.35 / 0.25, 1, 0.35 / 0.25])
    # Images of 40 and of 10 valid pixels: shares 20/50 and 30/40; the median of two is their mean.
    assert weights_of("median_ce", np.array([[10, 30], [10, 0]])) == pytest.approx([0.575 / 0.4, 0.575 / 0.75])


def test_effective_number_by_hand():
    # Shown by 3, 2 and 2 images: (1 - 1/2) / (1 - 1/2^n) = 4/7, 2/3, 2/3; their mean is 40/63.
    expected = [4 / 7 * 63 / 40, 2 / 3 * 63 / 40, 2 / 3 * 63 / 40, 2 / 3 * 63 / 40]
    assert weights_of("effective_ce(beta=0.5)") == pytest.approx(expected)
    assert weights_of("effective_ce(beta=0)") == pytest.approx([1, 1, 1, 1])


@pytest.mark.parametrize("expression", ("median_ce", "effective_ce"))
@given(batch=batches(dtypes=(torch.float32,)))
def test_class_weights_weigh_as_pytorchs(expression, batch):
    logits, labels = batch
    counts = np.tile(COUNTS, 2)  # of eight classes
    loss = make_loss(expression)
    loss.set_class_counts(counts)
    weight = torch.tensor(weights_of(expression, counts))[: logits.shape[1]]
    expected = torch.nn.functional.cross_entropy(logits, labels, weight=weight, ignore_index=VOID)
    expected = expected if (labels != VOID).any() else torch.tensor(0.0)
    assert torch.allclose(loss(logits, labels), expected, rtol=1e-5, atol=1e-6)
    assert value(expression) == pytest.approx(value("ce"))  # no counts given: every class weighs 1


def test_a_run_counts_the_classes_of_its_training_labels(smoke):
    plain = smoke(loss="0.5*ce + 0.5*dice", epochs=1)
    assert prepare_data(plain, RGB_IMAGENET).class_counts is None
    config = smoke(loss="0.5*median_ce + 0.5*focal_tversky", epochs=1)
    data = prepare_data(config, RGB_IMAGENET)
    assert np.array_equal(data.class_counts, count_classes(data.train))
    row = fit(config).csv.read_text().splitlines()
    first = dict(zip(row[0].split(","), row[1].split(","), strict=True))
    assert float(first["loss_median_ce"]) > 0 and 0 < float(first["loss_focal_tversky"]) <= 1


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("ohem(keep=0)", "keep is 0; it must be positive"),
        ("ohem(keep=2)", "keep is 2; it must lie between 0 and 1"),
        ("focal_tversky(gamma=0)", "gamma is 0; it must be positive"),
        ("focal_tversky(alpha=0, beta=0)", "alpha and beta are both 0"),
        ("unified_focal(mix=1.5)", "mix is 1.5; it must lie between 0 and 1"),
        ("boundary_ce(width=1.5)", "width is 1.5; it must be a whole number of cells"),
        ("effective_ce(beta=1)", "beta is 1; it must be below 1"),
    ],
)
def test_options_out_of_range_are_refused_in_one_line(expression, complaint):
    with pytest.raises(ValueError, match=complaint) as raised:
        make_loss(expression)
    assert "\n" not in str(raised.value)


def test_a_loss_of_a_notebooks_own_is_a_term_once_it_has_a_name(monkeypatch):
    class Mine(Loss):
        def compute(self, pixels):
            return pixels.pixel_mean(1 - pixels.log_p_true.exp())

    monkeypatch.setitem(TERMS, "mine", Mine)
    logits, labels = torch.zeros(1, 4, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64)
    assert make_loss("2*mine")(logits, labels) == pytest.approx(1.5)  # of four classes, none preferred
    assert Config(loss="0.5*ce + 0.5*mine", preset="smoke").stem == "DeepLabV2_0.5ce_0.5mine"
