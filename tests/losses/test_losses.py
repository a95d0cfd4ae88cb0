"""The losses: values by hand, independent oracles, and what must hold for any batch."""

import math

import numpy as np
import pytest
import torch
from helpers.loss_batches import DTYPES, VOID, batches, flat
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from deeplab_lib.losses import (
    TERMS,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    LovaszLoss,
    TverskyLoss,
    make_loss,
    parse_expression,
)
from deeplab_lib.losses.standard import jaccard_growth
from deeplab_lib.recipes import RECIPES

PIXELWISE = ("ce", "focal", "boundary_ce", "ohem", "median_ce", "effective_ce")
OVERLAP = ("tversky", "dice", "lovasz", "focal_tversky")
SINGLE = (*PIXELWISE, *OVERLAP, "unified_focal", "focal(gamma=0.5)", "tversky(alpha=1, beta=0)")
ALL = (*SINGLE, *(recipe.loss for recipe in RECIPES.values()))

# Ten training images, from which the class weights come; the last classes are the rarest, and one never occurs.
COUNTS = np.random.default_rng(0).integers(0, 1000, (10, 19)) * (np.arange(19) <= np.linspace(3, 17, 10)[:, None])


def counted(expression):
    """The loss as a run has it, its class weights counted on the training images."""
    loss = make_loss(expression)
    loss.set_class_counts(COUNTS)
    return loss


def value_and_gradient(loss, logits, labels):
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, labels)
    value.backward()
    return value.detach(), logits.grad


def certain(labels, num_classes, margin=200.0):
    """Logits of a network that is certain of `labels`."""
    return margin * F.one_hot(labels, num_classes).permute(0, 3, 1, 2).float()


# -- oracles, in float64, class by class -------------------------------------------------------------------------------


def plain_focal(logits, labels, gamma=0.0):
    p, y = flat(logits, labels)
    true = p[np.arange(len(y)), y]
    return float(np.mean(-((1 - true) ** gamma) * np.log(true))) if len(y) else 0.0


def plain_tversky(logits, labels, alpha, beta):
    p, y = flat(logits, labels)
    losses = []
    for c in np.unique(y):
        g = (y == c).astype(float)
        tp, fp, fn = (p[:, c] * g).sum(), (p[:, c] * (1 - g)).sum(), ((1 - p[:, c]) * g).sum()
        losses.append(1 - tp / (tp + alpha * fp + beta * fn))
    return float(np.mean(losses)) if losses else 0.0


def plain_lovasz(logits, labels):
    """Algorithm 1 of Berman et al. for each class by itself, the Jaccard loss recounted at every pixel."""
    p, y = flat(logits, labels)
    losses = []
    for c in np.unique(y):
        g = y == c
        errors = np.abs(g - p[:, c])
        order = np.argsort(-errors, kind="stable")
        before, total, mistaken = 0.0, 0.0, np.zeros(len(y), bool)
        for i in order:
            mistaken[i] = True
            kept = (g & ~mistaken).sum()
            after = 1 - kept / (g | mistaken).sum()
            total += errors[i] * (after - before)
            before = after
        losses.append(total)
    return float(np.mean(losses)) if losses else 0.0


# -- values worked by hand ---------------------------------------------------------------------------------------------
# Two pixels, two classes. Pixel 0 has label 0 and p = (3/4, 1/4); pixel 1 has label 1 and p = (1/2, 1/2).
HAND_LOGITS = torch.tensor([[[[math.log(3.0), 0.0]], [[0.0, 0.0]]]])
HAND_LABELS = torch.tensor([[[0, 1]]])


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("ce", (math.log(4 / 3) + math.log(2)) / 2),
        ("focal(gamma=2)", ((1 / 4) ** 2 * math.log(4 / 3) + (1 / 2) ** 2 * math.log(2)) / 2),
        # Class 0: TP 3/4, FP 1/2, FN 1/4. Class 1: TP 1/2, FP 1/4, FN 1/2.
        ("dice", 1 - (0.75 / (0.75 + 0.375) + 0.5 / (0.5 + 0.375)) / 2),
        ("tversky(alpha=0.3, beta=0.7)", 1 - (0.75 / (0.75 + 0.15 + 0.175) + 0.5 / (0.5 + 0.075 + 0.35)) / 2),
        ("tversky(alpha=1, beta=1)", 1 - (0.75 / 1.5 + 0.5 / 1.25) / 2),
        # Class 0: errors 1/2 (background) then 1/4 (foreground): Jaccard loss 1/2, then 1. Class 1: 1/2 (fg), 1/4 (bg).
        ("lovasz", ((0.5 * 0.5 + 0.25 * 0.5) + (0.5 * 1 + 0.25 * 0)) / 2),
        ("0.7*ce + 0.3*dice", 0.7 * math.log(8 / 3) / 2 + 0.3 * (1 - (0.75 / 1.125 + 0.5 / 0.875) / 2)),
    ],
)
def test_values_by_hand(expression, value):
    assert make_loss(expression)(HAND_LOGITS, HAND_LABELS).item() == pytest.approx(value, rel=1e-6)


@given(batches(dtypes=(torch.float32,)), st.sampled_from((0.5, 1.0, 2.0, 5.0)))
def test_focal_as_its_formula(batch, gamma):
    assert FocalLoss(gamma)(*batch).item() == pytest.approx(plain_focal(*batch, gamma), rel=1e-4, abs=1e-6)


@given(batches(dtypes=(torch.float32,)), st.floats(0, 1), st.floats(0.01, 1))
def test_tversky_as_its_formula(batch, alpha, beta):
    assert TverskyLoss(alpha, beta)(*batch).item() == pytest.approx(plain_tversky(*batch, alpha, beta), abs=1e-5)


@given(batches(dtypes=(torch.float32,)))
def test_lovasz_as_bermans_algorithm(batch):
    assert LovaszLoss()(*batch).item() == pytest.approx(plain_lovasz(*batch), abs=1e-5)


@given(batches(dtypes=(torch.float32,)))
def test_cross_entropy_as_pytorchs(batch):
    logits, labels = batch
    expected = F.cross_entropy(logits, labels, ignore_index=VOID) if (labels != VOID).any() else torch.tensor(0.0)
    assert torch.allclose(CrossEntropyLoss()(logits, labels), expected, rtol=1e-5, atol=1e-6)


def test_growth_of_the_jaccard_loss_by_hand():
    # Foreground, background, foreground become mistakes: 1 - 1/2, 1 - 1/3, 1 - 0/3.
    growth = jaccard_growth(torch.tensor([[True, False, True]]))
    assert torch.allclose(growth, torch.tensor([[1 / 2, 1 / 6, 1 / 3]]))


# -- identities between losses -----------------------------------------------------------------------------------------


@given(batches())
def test_focal_without_focus_is_cross_entropy(batch):
    (focal, focal_gradient), (ce, ce_gradient) = (
        value_and_gradient(f, *batch) for f in (FocalLoss(0), CrossEntropyLoss())
    )
    assert torch.allclose(focal, ce, rtol=1e-6)
    assert torch.allclose(focal_gradient, ce_gradient, rtol=1e-3, atol=1e-6)


@given(batches())
def test_balanced_tversky_is_dice(batch):
    assert TverskyLoss(0.5, 0.5)(*batch) == DiceLoss()(*batch)


@given(batches(), st.randoms(use_true_random=False))
def test_lovasz_of_a_hard_prediction_is_one_minus_the_mean_jaccard(batch, random):
    labels, classes = batch[1], batch[0].shape[1]
    prediction = torch.tensor([random.randrange(classes) for _ in range(labels.numel())]).view_as(labels)
    y, z = labels[labels != VOID], prediction[labels != VOID]
    jaccard = [((y == c) & (z == c)).sum() / ((y == c) | (z == c)).sum() for c in y.unique()]
    expected = 1 - float(torch.stack(jaccard).mean()) if len(jaccard) else 0.0
    assert LovaszLoss()(certain(prediction, classes), labels).item() == pytest.approx(expected, abs=1e-5)


@given(batches(min_classes=4))
def test_a_sum_is_the_weighted_sum_of_its_terms(batch):
    loss = make_loss("0.6*ce + 0.2*lovasz + 0.2*focal(gamma=2)")
    parts = 0.6 * CrossEntropyLoss()(*batch) + 0.2 * LovaszLoss()(*batch) + 0.2 * FocalLoss(2)(*batch)
    assert torch.allclose(loss(*batch), parts, rtol=1e-6)
    terms = loss.terms(*batch)
    assert list(terms) == ["ce", "lovasz", "focal"]
    assert torch.allclose(loss.total(terms), parts, rtol=1e-6)


def test_weights_may_change_between_steps():
    loss = make_loss("0.7*ce + 0.3*dice")
    loss.weights = {"ce": 0.0, "dice": 2.0}
    assert loss(HAND_LOGITS, HAND_LABELS) == 2 * DiceLoss()(HAND_LOGITS, HAND_LABELS)


# -- best and worst ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expression", ALL)
def test_a_perfect_prediction_costs_nothing_and_a_wrong_one_the_most(expression):
    labels = torch.arange(12).view(1, 3, 4) % 6
    loss = counted(expression)
    assert loss(certain(labels, 6), labels).item() == pytest.approx(0, abs=1e-6)
    worst = loss(certain((labels + 1) % 6, 6), labels).item()
    overlap = sum(w for w, name, _ in parse_expression(expression) if name in OVERLAP)
    pixelwise = sum(w for w, name, _ in parse_expression(expression) if name in PIXELWISE)
    unified = 0.5 * 0.6 * 200 + 0.5 if expression == "unified_focal" else 0
    assert worst == pytest.approx(overlap + 200 * pixelwise + unified, rel=1e-4)


@pytest.mark.parametrize("expression", ALL)
def test_gradient_descent_on_the_logits_finds_the_labels(expression):
    torch.manual_seed(0)
    labels = torch.randint(0, 4, (2, 5, 6))
    logits = torch.zeros(2, 4, 5, 6, requires_grad=True)
    loss, optimizer = counted(expression), torch.optim.Adam([logits], lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        loss(logits, labels).backward()
        optimizer.step()
    assert (logits.argmax(1) == labels).float().mean() > 0.95


# -- void, absent classes, illegal labels ------------------------------------------------------------------------------


@pytest.mark.parametrize("expression", ALL)
@given(batch=batches())
def test_void_pixels_have_exactly_zero_gradient(expression, batch):
    value, gradient = value_and_gradient(counted(expression), *batch)
    void = (batch[1] == VOID)[:, None].expand_as(gradient)
    assert value.isfinite() and gradient.isfinite().all()
    assert (gradient[void] == 0).all()


@pytest.mark.parametrize("expression", ALL)
@given(batch=batches(), junk=st.sampled_from((0.0, -3e4, math.nan, math.inf, -math.inf)))
def test_whatever_stands_at_void_pixels_changes_nothing(expression, batch, junk):
    logits, labels = batch
    loss, void = counted(expression), (labels == VOID)[:, None]
    value, gradient = value_and_gradient(loss, logits, labels)
    other_value, other_gradient = value_and_gradient(loss, logits.masked_fill(void, junk), labels)
    assert torch.equal(value, other_value)
    assert torch.equal(gradient, other_gradient)


@pytest.mark.parametrize("expression", ALL)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_batch_of_nothing_but_void_gives_zero_and_a_zero_gradient(expression, dtype):
    logits = torch.randn(2, 19, 4, 5).to(dtype)
    value, gradient = value_and_gradient(counted(expression), logits, torch.full((2, 4, 5), VOID))
    assert value.shape == () and value == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("expression", (*OVERLAP, "unified_focal"))
@given(batch=batches(dtypes=(torch.float32,)))
def test_a_class_that_is_absent_and_not_predicted_does_not_dilute_the_mean(expression, batch):
    logits, labels = batch
    unlikely = torch.full_like(logits[:, :1], -1e4)
    loss = counted(expression)
    assert torch.allclose(loss(torch.cat([logits, unlikely], 1), labels), loss(logits, labels), atol=1e-6)


@pytest.mark.parametrize("expression", OVERLAP)
def test_an_absent_class_is_left_out_even_when_it_is_predicted(expression):
    # Everything is class 0 and predicted as class 1: one present class, wholly wrong.
    labels = torch.zeros(1, 2, 2, dtype=torch.long)
    assert counted(expression)(certain(labels + 1, 19), labels).item() == pytest.approx(1)


@pytest.mark.parametrize("label", (19, 20, 33, 254, 256, -1, -100))
@pytest.mark.parametrize("expression", ALL)
def test_an_illegal_label_is_refused_by_its_value(expression, label):
    labels = torch.zeros(1, 2, 2, dtype=torch.long)
    labels[0, 1, 1] = label
    with pytest.raises(ValueError, match=f"label {label} is neither a class .0 to 18. nor void .255."):
        counted(expression)(torch.zeros(1, 19, 2, 2), labels)


@pytest.mark.parametrize("shape", [(1, 3, 2), (2, 2, 3), (1, 2, 3, 1), (2, 3)])
def test_shapes_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match=r"want \(N, C, h, w\), \(N, h, w\)"):
        make_loss("ce")(torch.zeros(1, 19, 2, 3), torch.zeros(shape, dtype=torch.long))


# -- the whole batch ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expression", [expression for expression in ALL if expression != "boundary_ce"])
@given(batch=batches(), seed=st.integers(0, 1000))
def test_only_the_set_of_pixels_matters(expression, batch, seed):
    """How pixels are spread over images, rows and columns is no matter: losses are of the batch, not of the image."""
    logits, labels = batch
    order = torch.from_numpy(np.random.default_rng(seed).permutation(labels.numel()))
    one_row = logits.transpose(0, 1).flatten(1)[:, order][None, :, None]
    loss = counted(expression)
    assert torch.allclose(
        loss(logits, labels), loss(one_row, labels.flatten()[order][None, None]), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("expression", OVERLAP)
def test_batch_loss_is_not_the_mean_over_images(expression):
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 8, 8), torch.zeros(2, 8, 8, dtype=torch.long)
    labels[1, :2] = 1
    loss = counted(expression)
    mean = (loss(logits[:1], labels[:1]) + loss(logits[1:], labels[1:])) / 2
    assert abs(loss(logits, labels) - mean) > 0.01


# -- precision ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def street():
    """Logits of a half-trained network on a 1024x512 image, with stripes of void and one rare class."""
    torch.manual_seed(0)
    labels = torch.randint(0, 17, (1, 16, 32)).repeat_interleave(32, 1).repeat_interleave(32, 2)
    labels[:, :, ::7], labels[0, :3, 5] = VOID, 18
    logits = torch.randn(1, 19, 512, 1024) + 3 * F.one_hot(labels % VOID % 19, 19).permute(0, 3, 1, 2)
    return logits, labels


@pytest.mark.parametrize("expression", TERMS)
def test_half_precision_is_within_one_percent_at_full_size(street, expression):
    logits, labels = street
    loss = counted(expression)
    exact, gradient = value_and_gradient(loss, logits, labels)
    for dtype in DTYPES[1:]:
        value, half_gradient = value_and_gradient(loss, logits.to(dtype), labels)
        assert value.dtype == torch.float32
        assert value == pytest.approx(exact.item(), rel=0.01)
        assert half_gradient.isfinite().all()
        # A gradient of one pixel in half a million lies below fp16's range: hence loss scaling. And rounding changes
        # which pixels are the hardest.
        if dtype == torch.bfloat16 and expression != "ohem":
            assert (half_gradient.float() - gradient).norm() < 0.05 * gradient.norm()


def test_lovasz_keeps_its_precision_over_half_a_million_pixels(street):
    logits, labels = street
    p, y = flat(logits, labels)
    losses = []
    for c in np.unique(y):  # as Berman's algorithm, in closed form and float64
        g = (y == c).astype(float)
        errors = np.abs(g - p[:, c])
        order = np.argsort(-errors)
        jaccard = 1 - (g.sum() - g[order].cumsum()) / (g.sum() + (1 - g[order]).cumsum())
        losses.append((errors[order] * np.diff(jaccard, prepend=0)).sum())
    assert LovaszLoss()(logits, labels).item() == pytest.approx(np.mean(losses), rel=1e-4)


@pytest.mark.parametrize("expression", ALL)
@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_logits_stay_finite(expression, dtype):
    labels = torch.tensor([[[0, 1, 2, VOID]]])
    for wrong in (0, 1):
        logits = (2e4 * F.one_hot((labels.clamp(max=2) + wrong) % 3, 3).permute(0, 3, 1, 2)).to(dtype)
        value, gradient = value_and_gradient(counted(expression), logits, labels)
        assert value.isfinite() and gradient.isfinite().all()


# -- expressions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "weights"),
    [
        ("ce", {"ce": 1}),
        ("0.7*ce + 0.3*tversky(alpha=0.3, beta=0.7)", {"ce": 0.7, "tversky": 0.3}),
        (" .5 * CE+5e-1*Lovasz ", {"ce": 0.5, "lovasz": 0.5}),
        ("dice + 2*focal()", {"dice": 1, "focal": 2}),
    ],
)
def test_an_expression_is_read_as_meant(expression, weights):
    loss = make_loss(expression)
    assert loss.weights == weights
    assert list(loss.losses) == list(weights)


def test_options_reach_their_loss():
    loss = make_loss("focal(gamma=3) + tversky( beta = 0.9 )")
    assert loss.losses["focal"].gamma == 3
    assert (loss.losses["tversky"].alpha, loss.losses["tversky"].beta) == (0.3, 0.9)


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("", "cannot read 'an empty term'"),
        ("ce +", "cannot read 'an empty term'"),
        ("0.5*ce ++ dice", "cannot read '\\+ dice'"),
        ("ce dice", "expected \\+ or the end before 'dice'"),
        ("ce - dice", "expected \\+ or the end before '- dice'"),
        ("-1*ce", "cannot read"),
        ("0*ce", "the weight of 'ce' is 0; it must be positive"),
        ("1e999*ce", "the weight of 'ce' is inf"),
        ("0.5*lovazs", "no term 'lovazs', did you mean 'lovasz'\\?; terms: ce, focal, tversky, dice, lovasz"),
        ("ce + 0.5*ce", "'ce' appears twice"),
        ("focal(gama=2)", "focal cannot take 'gama=2'; options: gamma"),
        ("focal(gamma=2, gamma=3)", "focal cannot take 'gamma=3'"),
        ("focal(2)", "focal cannot take '2'; options: gamma"),
        ("focal(gamma=-1)", "gamma is -1; it must not be negative"),
        ("focal(gamma=1e999)", "gamma is inf"),
        ("dice(alpha=1)", "dice cannot take 'alpha=1'; it takes none"),
        ("lovasz(kwargs=1)", "lovasz cannot take 'kwargs=1'; it takes none"),
        ("tversky(alpha=0, beta=0)", "alpha and beta are both 0"),
        ("ce(", "expected \\+ or the end before '\\('"),
        ("__import__('os')", "no term '__import__'"),
    ],
)
def test_an_expression_that_cannot_be_meant_is_refused_in_one_line(expression, complaint):
    with pytest.raises(ValueError, match=complaint) as raised:
        make_loss(expression)
    assert "\n" not in str(raised.value)
