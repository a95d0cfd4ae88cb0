"""The exercises' checks: they accept the solutions and name the mistake in answers that students plausibly give."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.small_city import write_city
from torch.nn import functional as F

from deeplab_lib import losses
from deeplab_lib.labels import CATEGORIES, CLASS_NAMES, CLASSES, LABELS, NUM_CLASSES
from deeplab_lib.lessons import checking, exercises, figures, teach
from deeplab_lib.losses.standard import jaccard_growth
from deeplab_lib.metrics import ConfusionMatrix
from deeplab_lib.models.deeplabv2 import DeepLabV2, subsample_labels
from deeplab_lib.training.schedule import PolyLR

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
LESSONS = ("01_cityscapes", "02_deeplabv2", "03_losses")
CHECKS = {name: check for name, check in vars(exercises).items() if name.startswith("check_")}


def code_of(path):
    """Source of every code cell."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def checks_in(path):
    return re.findall(r"exercises\.(check_\w+)\(", "\n".join(code_of(path)))


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_solutions_answer_every_exercise_of_the_lesson_and_are_accepted(lesson, capsys):
    namespace = {}
    for source in code_of(NOTEBOOKS / "solutions" / f"{lesson}.ipynb"):
        exec(source, namespace)
    verdicts = capsys.readouterr().out.splitlines()
    asked = checks_in(NOTEBOOKS / f"{lesson}.ipynb")
    assert len(asked) >= 3
    assert sorted(asked) == sorted(checks_in(NOTEBOOKS / "solutions" / f"{lesson}.ipynb"))
    assert len(verdicts) == len(asked) and all(verdict.startswith("Right. ") for verdict in verdicts)


def test_every_check_is_asked_in_some_lesson():
    assert sorted(CHECKS) == sorted(name for lesson in LESSONS for name in checks_in(NOTEBOOKS / f"{lesson}.ipynb"))


# Wrong answers, written as a student would write them: (check, words that the verdict must hold, answer).


def ids_by_short_table(ids):
    table = np.full(34, 255)
    for label in CLASSES:
        table[label.id] = label.train_id
    return table[ids]


def ids_by_table_with_the_plate_written_last(ids):
    table = np.full(34, 255)
    for label in LABELS:
        table[label.id] = label.train_id
    return table[ids]


def ids_leaving_the_plate(ids):
    return np.where(ids == -1, -1, ids_by_short_table(ids))


def ids_with_void_as_zero(ids):
    result = np.zeros(ids.shape, dtype=int)
    for label in CLASSES:
        result[ids == label.id] = label.train_id
    return result


def ids_in_8_bits(ids):
    table = np.full(256, 255)
    for label in CLASSES:
        table[label.id] = label.train_id
    return table[ids % 256]


def ids_as_categories(ids):
    number = {x.id: CATEGORIES.index(x.category) if x.category in CATEGORIES else 255 for x in LABELS}
    return np.array([[number[i] for i in row] for row in ids.tolist()])


def iou_absent_zero(matrix):
    hits = np.diag(matrix)
    return 100 * hits / np.maximum(matrix.sum(0) + matrix.sum(1) - hits, 1)


def iou_union_too_large(matrix):
    with np.errstate(invalid="ignore"):
        return 100 * np.diag(matrix) / (matrix.sum(0) + matrix.sum(1))


def iou_as_recall(matrix):
    with np.errstate(invalid="ignore"):
        recall = 100 * np.diag(matrix) / matrix.sum(1)
    return np.where(matrix.sum(0) + matrix.sum(1) == 0, np.nan, recall)


def iou_of_labelled(matrix):
    return np.where(matrix.sum(1) == 0, np.nan, iou_absent_zero(matrix))


def iou_in_fractions(matrix):
    return ConfusionMatrix(len(matrix), torch.tensor(matrix)).iou() / 100


def miou_image_by_image(labels, predictions, classes):
    each = [ConfusionMatrix(classes).update(*pair).miou() for pair in zip(labels, predictions, strict=True)]
    return np.mean(each)


def miou_absent_zero(labels, predictions, classes):
    return np.nan_to_num(ConfusionMatrix(classes).update(labels, predictions).iou()).mean()


def miou_with_nan(labels, predictions, classes):
    return ConfusionMatrix(classes).update(labels, predictions).iou().mean()


def miou_with_void(labels, predictions, classes):
    values = []
    for c in range(classes):
        union = ((labels == c) | (predictions == c)).sum()
        values.append(((labels == c) & (predictions == c)).sum() / union if union else np.nan)
    return 100 * np.nanmean(values)


def miou_with_void_as_road(labels, predictions, classes):
    return ConfusionMatrix(classes).update(np.where(labels == 255, 0, labels), predictions).miou()


def miou_with_clamped_void(labels, predictions, classes):
    return ConfusionMatrix(classes).update(np.minimum(labels, classes - 1), predictions).miou()


def miou_of_labelled(labels, predictions, classes):
    values = ConfusionMatrix(classes).update(labels, predictions).iou()
    return np.mean([values[c] for c in range(classes) if (labels == c).any()])


def matrix_of(labels, predictions, classes):
    """Confusion matrix counted in whatever kind of number the labels are."""
    valid = labels != 255
    cells = labels[valid] * classes + predictions[valid]
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def miou_in_8_bits(labels, predictions, classes):
    return np.nanmean(exercises._iou(matrix_of(labels, predictions, classes)))


def miou_in_fractions(labels, predictions, classes):
    return ConfusionMatrix(classes).update(labels, predictions).miou() / 100


def miou_in_fractions_of_8_bits(labels, predictions, classes):
    return miou_in_8_bits(labels, predictions, classes) / 100


def grid_by_slicing(labels, size):
    return labels[::8, ::8]


def grid_by_interpolation(labels, size):
    return F.interpolate(labels[None, None].double(), size=size, mode="nearest")[0, 0]


def grid_of_block_centres(labels, size):
    rows, columns = (torch.arange(n) * 8 + 4 for n in size)
    return labels[rows.clamp(max=len(labels) - 1)][:, columns.clamp(max=labels.shape[1] - 1)]


def dilated_by_numpy(signal, kernel, dilation):
    wide = np.zeros(dilation * (len(kernel) - 1) + 1)
    wide[::dilation] = kernel
    return np.convolve(signal, wide, mode="valid")


def dilated_around_a_middle_tap(signal, kernel, dilation):
    reach = len(kernel) // 2 * dilation
    taps = [signal[reach + k * dilation :] for k in range(-(len(kernel) // 2), len(kernel) - len(kernel) // 2)]
    return sum(w * tap[: len(signal) - 2 * reach] for w, tap in zip(kernel, taps, strict=True))


def dilated_not_at_all(signal, kernel, dilation):
    return [float(signal[i : i + len(kernel)] @ kernel) for i in range(len(signal) - len(kernel) + 1)]


def dilated_with_gaps(signal, kernel, dilation):
    return F.conv1d(signal[None, None], kernel[None, None], dilation=dilation + 1)[0, 0]


def dilated_with_padding(signal, kernel, dilation):
    return F.conv1d(signal[None, None], kernel[None, None], dilation=dilation, padding="same")[0, 0]


def field_with_whole_kernels(layers):
    field, jump = 1, 1
    for kernel, stride, dilation in layers:
        field, jump = field + kernel * dilation * jump, jump * stride
    return field


def field_without_strides(layers):
    return 1 + sum((kernel - 1) * dilation for kernel, _, dilation in layers)


def field_with_stride_first(layers):
    field, jump = 1, 1
    for kernel, stride, dilation in layers:
        jump *= stride
        field += (kernel - 1) * dilation * jump
    return field


def field_without_dilation(layers):
    return exercises._receptive_field([(kernel, stride, 1) for kernel, stride, _ in layers])


def macs_as_flops(i, o, k, s, h, w):
    return 2 * i * o * k * k * -(-h // s) * -(-w // s)


def macs_one_side(i, o, k, s, h, w):
    return i * o * k * -(-h // s) * -(-w // s)


def macs_of_the_input(i, o, k, s, h, w):
    return i * o * k * k * h * w


def macs_are_weights(i, o, k, s, h, w):
    return i * o * k * k


def counts(logits, labels, keep_void=False, square=False, void_as=255):
    """Hits, claims and labelled pixels of every class."""
    p, valid = logits.softmax(1), (labels != 255)[:, None]
    p, labels = p if keep_void else p * valid, torch.where(labels == 255, void_as, labels)
    g = torch.stack([labels == c for c in range(logits.shape[1])], dim=1)
    return (p * g).sum((0, 2, 3)), (p ** (2 if square else 1)).sum((0, 2, 3)), g.sum((0, 2, 3))


def dice_with_void(logits, labels):
    hits, claimed, labelled = counts(logits, labels, keep_void=True)
    return 1 - (2 * hits / (claimed + labelled))[labelled > 0].mean()


def dice_over_all_classes(logits, labels):
    hits, claimed, labelled = counts(logits, labels)
    return (1 - 2 * hits / (claimed + labelled)).mean()


def dice_of_void_as_road_smoothed_over_all_classes(logits, labels):
    hits, claimed, labelled = counts(logits, torch.where(labels == 255, 0, labels))
    return 1 - ((2 * hits + 1) / (claimed + labelled + 1)).mean()


def dice_squared(logits, labels):
    hits, claimed, labelled = counts(logits, labels, square=True)
    return 1 - (2 * hits / (claimed + labelled))[labelled > 0].mean()


def dice_of_void_as_road(logits, labels):
    labels = torch.where(labels == 255, 0, labels)
    hits, claimed, labelled = counts(logits, labels)
    return 1 - (2 * hits / (claimed + labelled))[labelled > 0].mean()


def dice_of_clamped_void(logits, labels):
    labels = labels.clamp(max=logits.shape[1] - 1)
    hits, claimed, labelled = counts(logits, labels)
    return 1 - (2 * hits / (claimed + labelled))[labelled > 0].mean()


def dice_masking_p_alone(logits, labels):
    hits, claimed, labelled = counts(logits, labels, void_as=0)
    return 1 - (2 * hits / (claimed + labelled))[labelled > 0].mean()


def dice_masking_p_alone_of_clamped_void(logits, labels):
    hits, claimed, labelled = counts(logits, labels, void_as=logits.shape[1] - 1)
    return 1 - (2 * hits / (claimed + labelled))[labelled > 0].mean()


def dice_smoothed(logits, labels):
    hits, claimed, labelled = counts(logits, labels)
    return 1 - ((2 * hits + 1) / (claimed + labelled + 1))[labelled > 0].mean()


def dice_smoothed_over_all_classes(logits, labels):
    hits, claimed, labelled = counts(logits, labels)
    return 1 - ((2 * hits + 1) / (claimed + labelled + 1)).mean()


def dice_with_void_over_all_classes(logits, labels):
    hits, claimed, labelled = counts(logits, labels, keep_void=True)
    return 1 - (2 * hits / (claimed + labelled)).mean()


def tversky_swapped(logits, labels, alpha, beta):
    return losses.TverskyLoss(alpha=beta, beta=alpha)(logits, labels)


def tversky_index(logits, labels, alpha, beta):
    return 1 - losses.TverskyLoss(alpha, beta)(logits, labels)


def tversky_of_decisions(logits, labels, alpha, beta):
    decided = F.one_hot(logits.argmax(1), logits.shape[1]).movedim(3, 1)
    return losses.TverskyLoss(alpha, beta)(1000.0 * decided, labels) + 0 * logits.sum()


def tversky_with_void(logits, labels, alpha, beta):
    hits, claimed, labelled = counts(logits, labels, keep_void=True)
    index = hits / (hits + alpha * (claimed - hits) + beta * (labelled - hits))
    return 1 - index[labelled > 0].mean()


def tversky_smoothed(logits, labels, alpha, beta):
    hits, claimed, labelled = counts(logits, labels)
    index = (hits + 1) / (hits + alpha * (claimed - hits) + beta * (labelled - hits) + 1)
    return 1 - index[labelled > 0].mean()


def focal_on_p(logits, labels, gamma):
    ce = F.cross_entropy(logits, labels, ignore_index=255, reduction="none")
    return (torch.exp(-ce) ** gamma * ce)[labels != 255].mean()


def focal_over_all_pixels(logits, labels, gamma):
    ce = F.cross_entropy(logits, labels, ignore_index=255, reduction="none")
    return ((1 - torch.exp(-ce)) ** gamma * ce).mean()


def focal_times_gamma(logits, labels, gamma):
    ce = F.cross_entropy(logits, labels, ignore_index=255, reduction="none")
    return (gamma * (1 - torch.exp(-ce)) * ce)[labels != 255].mean()


def focal_of_mean(logits, labels, gamma):
    ce = F.cross_entropy(logits, labels, ignore_index=255)
    return (1 - torch.exp(-ce)) ** gamma * ce


def focal_of_clamped_void(logits, labels, gamma):
    return losses.FocalLoss(gamma)(logits, labels.clamp(max=logits.shape[1] - 1))


def focal_image_by_image(logits, labels, gamma):
    ce = F.cross_entropy(logits, labels, ignore_index=255, reduction="none")
    sums = ((1 - torch.exp(-ce)) ** gamma * ce).sum((1, 2))
    return (sums / (labels != 255).sum((1, 2))).mean()


def focal_summed(logits, labels, gamma):
    return losses.FocalLoss(gamma)(logits, labels) * (labels != 255).sum()


def growth(foreground):
    return jaccard_growth(foreground[None].bool())[0]


def lovasz_unsorted(errors, foreground):
    return errors @ growth(foreground)


def lovasz_sorting_errors_only(errors, foreground):
    return errors.sort(descending=True).values @ growth(foreground)


def lovasz_upwards(errors, foreground):
    errors, order = errors.sort()
    return errors @ growth(foreground[order])


def lovasz_without_growth(errors, foreground):
    errors, order = errors.sort(descending=True)
    return errors @ growth(foreground[order]).cumsum(0)


def frequency(counts):
    """Share of each class in the images that show it, 0 for a class that never occurs."""
    return counts.sum(0) / ((counts > 0) * counts.sum(1, keepdims=True)).sum(0).clip(1)


def weights_by(f, middle, absent=None):
    """middle / f; a class that never occurs weighs `absent`, by default the most of the others."""
    weights = middle / np.where(f > 0, f, f[f > 0].min())
    return weights if absent is None else np.where(f > 0, weights, absent)


def weights_over_all_images(counts):
    f = counts.sum(0) / counts.sum()
    return weights_by(f, np.median(f[f > 0]))


def weights_image_by_image(counts):
    shares = counts / counts.sum(1, keepdims=True)
    f = shares.sum(0) / (shares > 0).sum(0).clip(1)
    return weights_by(f, np.median(f[f > 0]))


def weights_without_median(counts):
    return weights_by(frequency(counts), 1)


def weights_with_infinity(counts):
    f = frequency(counts)
    return weights_by(f, np.median(f[f > 0]), absent=np.inf)


def weights_with_absent_zeros(counts):
    return weights_by(frequency(counts), np.median(frequency(counts)))


def weights_with_nan(counts):
    with np.errstate(invalid="ignore"):
        f = counts.sum(0) / ((counts > 0) * counts.sum(1, keepdims=True)).sum(0)
    return np.median(f) / f


def weights_with_nan_where_absent(counts):
    with np.errstate(invalid="ignore"):
        f = counts.sum(0) / ((counts > 0) * counts.sum(1, keepdims=True)).sum(0)
    return np.nanmedian(f) / f


def weights_by_the_lower_median(counts):
    f = frequency(counts)
    return weights_by(f, float(torch.median(torch.from_numpy(f[f > 0]))))


def poly_inside(step, total, lr, power):
    return lr * (1 - (step / total) ** power)


def poly_around(step, total, lr, power):
    return (lr * (1 - step / total)) ** power


def poly_line(step, total, lr, power):
    return lr - lr * step / total


def mious(labels, predictions, num_classes, valid):
    """By the first four conventions and the fifth, with the pixels `valid` in all sums."""
    rows = [(labels == c) & (labels != 255) for c in range(num_classes)]
    columns = [(predictions == c) & valid for c in range(num_classes)]
    every = [predictions == c for c in range(num_classes)]
    iou = [100 * (r & c).sum() / (r | c).sum() if (r | c).any() else np.nan for r, c in zip(rows, columns, strict=True)]
    official = np.array(iou)
    labelled = official[[r.any() for r in rows]]
    fifth = [100 * (r & c).sum() / (r | c).sum() for r, c in zip(rows, every, strict=True) if (r | c).any()]
    absent_low, absent_high = np.nan_to_num(official), np.nan_to_num(official, nan=100)
    means = np.nanmean(official), absent_low.mean(), absent_high.mean(), labelled.mean(), np.mean(fifth)
    return np.array(means)


def which_miou_from_zero(value, labels, predictions, num_classes):
    return int(np.abs(mious(labels, predictions, num_classes, labels != 255) - value).argmin())


def which_miou_exchanged(value, labels, predictions, num_classes):
    return 1 + int(np.abs(mious(labels, predictions, num_classes, labels != 255)[[0, 2, 1, 3, 4]] - value).argmin())


def which_miou_with_void(value, labels, predictions, num_classes):
    return 1 + int(np.abs(mious(labels, predictions, num_classes, labels == labels) - value).argmin())


def counts_of(macs, normed, upsampled):
    return [2 * macs, macs, macs + 2 * normed + 4 * upsampled, macs + 4 * normed, macs + normed + 4 * upsampled]


def which_count_from_zero(count, *network):
    return counts_of(*network).index(count)


def which_count_exchanged(count, *network):
    counts = counts_of(*network)
    return 1 + [counts[1], counts[0], *counts[2:]].index(count)


def which_count_rounded(count, *network):
    return 1 + [abs(count / one - 1) < 0.01 for one in counts_of(*network)].index(True)


def dices(logits, labels, valid):
    p, classes = logits.softmax(1) * valid[:, None], range(logits.shape[1])
    g = torch.stack([labels == c for c in classes], 1).float()

    def each(p, g):
        return torch.stack([1 - 2 * (p[:, c] * g[:, c]).sum() / (p[:, c] + g[:, c]).sum() for c in classes])

    loss, present = each(p, g), torch.tensor([bool(g[:, c].any()) for c in classes])
    pictures = [each(p[i : i + 1], g[i : i + 1])[g[i].flatten(1).any(1)].mean() for i in range(len(p))]
    means = loss[present].mean(), (loss * present).mean(), (loss * present + ~present).mean()
    return torch.stack([*means, 1 - 2 * (p * g).sum() / (p + g).sum(), torch.stack(pictures).mean()])


def which_dice_from_zero(value, logits, labels):
    return int((dices(logits, labels, labels != 255) - value).abs().argmin())


def which_dice_exchanged(value, logits, labels):
    return 1 + int((dices(logits, labels, labels != 255)[[0, 2, 1, 3, 4]] - value).abs().argmin())


def which_dice_with_void(value, logits, labels):
    return 1 + int((dices(logits, labels, labels == labels) - value).abs().argmin())


def dice_of_logits(logits, labels):
    valid = (labels != 255)[:, None]
    g = F.one_hot(labels.where(labels != 255, 0), 5).movedim(3, 1) * valid
    index = 2 * (logits * valid * g).sum((0, 2, 3)) / (logits * valid + g).sum((0, 2, 3))
    return 1 - index[g.sum((0, 2, 3)) > 0].mean()


def dice_in_one_sum(logits, labels):
    valid = (labels != 255)[:, None]
    p = logits.softmax(1) * valid
    g = F.one_hot(labels.where(labels != 255, 0), 5).movedim(3, 1) * valid
    return 1 - 2 * (p * g).sum() / (p + g).sum()


def focal_without_gamma(logits, labels, gamma):
    return F.cross_entropy(logits, labels, ignore_index=255)


def macs_rounded_down(in_channels, out_channels, kernel, stride, height, width):
    return (height // stride) * (width // stride) * out_channels * in_channels * kernel**2


def poly_times(step, total_steps, base_lr, power):
    return base_lr * (1 - step / total_steps) * power


WRONG = [
    ("train_ids", "become a bicycle", ids_by_short_table),
    ("train_ids", "overwrites", ids_by_table_with_the_plate_written_last),
    ("train_ids", "keeps its -1", ids_leaving_the_plate),
    ("train_ids", "0 is road", ids_with_void_as_zero),
    ("train_ids", "7 categories", ids_as_categories),
    ("iou", "neither labelled nor predicted gets 0", iou_absent_zero),
    ("iou", "hits twice", iou_union_too_large),
    ("iou", "recall", iou_as_recall),
    ("iou", "never labelled gets NaN", iou_of_labelled),
    ("iou", "percent", iou_in_fractions),
    ("miou", "average over images", miou_image_by_image),
    ("miou", "enters the mean as 0", miou_absent_zero),
    ("miou", "whole mean NaN", miou_with_nan),
    ("miou", "predicted on void", miou_with_void),
    ("miou", "never labelled is left out", miou_of_labelled),
    ("miou", "void has become class 0", miou_with_void_as_road),
    ("miou", "void has become the last class", miou_with_clamped_void),
    ("miou", "8 bits overflow", miou_in_8_bits),
    ("miou", "this is a fraction", miou_in_fractions),
    ("miou", "this is a fraction", miou_in_fractions_of_8_bits),
    ("miou", "8 bits overflow", miou_in_fractions_of_8_bits),
    ("subsample", "a row and a column too early", grid_by_slicing),
    ("subsample", "evenly over the picture", grid_by_interpolation),
    ("subsample", "middle of 8x8 blocks", grid_of_block_centres),
    ("dilated", "runs backwards", dilated_by_numpy),
    ("dilated", "dilation has no effect", dilated_not_at_all),
    ("dilated", "dilation + 1 apart", dilated_with_gaps),
    ("dilated", "you pad", dilated_with_padding),
    ("receptive_field", "k - 1", field_with_whole_kernels),
    ("receptive_field", "strides have no effect", field_without_strides),
    ("receptive_field", "add first", field_with_stride_first),
    ("receptive_field", "dilation has no effect", field_without_dilation),
    ("macs", "FLOPs", macs_as_flops),
    ("macs", "two sides", macs_one_side),
    ("macs", "stride has no effect", macs_of_the_input),
    ("macs", "parameters", macs_are_weights),
    ("dice", "probabilities on void", dice_with_void),
    ("dice", "average over all classes", dice_over_all_classes),
    ("dice", "squared", dice_squared),
    ("dice", "void has become class 0", dice_of_void_as_road),
    ("dice", "void has become the last class", dice_of_clamped_void),
    ("dice", "the one-hot labels are not", dice_masking_p_alone),
    ("dice", "the last class", dice_masking_p_alone_of_clamped_void),
    ("dice", "the one-hot labels are not", dice_masking_p_alone_of_clamped_void),
    ("dice", "smoothing", dice_smoothed),
    ("dice", "smoothing", dice_smoothed_over_all_classes),
    ("dice", "average over all classes", dice_smoothed_over_all_classes),
    ("dice", "void has become class 0", dice_of_void_as_road_smoothed_over_all_classes),
    ("dice", "smoothing", dice_of_void_as_road_smoothed_over_all_classes),
    ("dice", "average over all classes", dice_of_void_as_road_smoothed_over_all_classes),
    ("dice", "probabilities on void", dice_with_void_over_all_classes),
    ("dice", "average over all classes", dice_with_void_over_all_classes),
    ("tversky", "alpha and beta are swapped", tversky_swapped),
    ("tversky", "return 1 minus it", tversky_index),
    ("tversky", "decisions (argmax)", tversky_of_decisions),
    ("tversky", "probabilities on void", tversky_with_void),
    ("tversky", "smoothing", tversky_smoothed),
    ("focal", "power sits on p", focal_on_p),
    ("focal", "divides by all pixels", focal_over_all_pixels),
    ("focal", "it is an exponent", focal_times_gamma),
    ("focal", "of the mean cross-entropy", focal_of_mean),
    ("focal", "void has become the last class", focal_of_clamped_void),
    ("focal", "one loss an image", focal_image_by_image),
    ("focal", "this is the sum", focal_summed),
    ("lovasz", "not sorted", lovasz_unsorted),
    ("lovasz", "the foreground is not", lovasz_sorting_errors_only),
    ("lovasz", "sorted upwards", lovasz_upwards),
    ("lovasz", "reached so far", lovasz_without_growth),
    ("median", "pixels of all images", weights_over_all_images),
    ("median", "image by image", weights_image_by_image),
    ("median", "without the median", weights_without_median),
    ("median", "infinite weight", weights_with_infinity),
    ("median", "as frequencies of 0", weights_with_absent_zeros),
    ("median", "makes the median NaN", weights_with_nan),
    ("median", "np.nanmedian keeps that out", weights_with_nan_where_absent),
    ("median", "the lower one", weights_by_the_lower_median),
    ("dice", "sums are of the logits", dice_of_logits),
    ("dice", "all classes are in one sum", dice_in_one_sum),
    ("focal", "gamma has no effect", focal_without_gamma),
    ("macs", "a cell too small where the size is odd", macs_rounded_down),
    ("poly", "multiply by the power", poly_times),
    ("poly", "exponent sits on t/T", poly_inside),
    ("poly", "takes the base rate with it", poly_around),
    ("poly", "straight line", poly_line),
    ("which_miou", "from 0; the list begins at 1", which_miou_from_zero),
    ("which_miou", "2 and 3 are exchanged", which_miou_exchanged),
    ("which_miou", "predicted on void is in all your sums", which_miou_with_void),
    ("which_count", "from 0; the list begins at 1", which_count_from_zero),
    ("which_count", "counts a multiply-add as two", which_count_exchanged),
    ("which_count", "take the nearest", which_count_rounded),
    ("which_dice", "from 0; the list begins at 1", which_dice_from_zero),
    ("which_dice", "2 and 3 are exchanged", which_dice_exchanged),
    ("which_dice", "probabilities on void", which_dice_with_void),
]


@pytest.mark.parametrize(("exercise", "words", "answer"), WRONG, ids=lambda value: getattr(value, "__name__", None))
def test_a_wrong_answer_is_rejected_and_its_mistake_named(exercise, words, answer):
    verdict = CHECKS[f"check_{exercise}"].judge(answer)
    assert verdict.startswith("Not yet: ") and words in verdict and "you return" not in verdict


def test_every_exercise_rejects_at_least_three_planted_answers():
    for name in CHECKS:
        assert len({answer for exercise, _, answer in WRONG if f"check_{exercise}" == name}) >= 3


@pytest.mark.parametrize("name", CHECKS)
def test_the_cases_tell_every_known_mistake_from_every_other(name):
    check = CHECKS[name]
    for mistake, told in check.mistakes.items():
        verdict = check.judge(lambda *case, made=mistake: check._solution(*case, made={made}))
        assert verdict == f"Not yet: {told}"


def test_an_unanswered_exercise_says_so_and_stops_nothing(capsys):
    def dots(logits, labels): ...

    def only_described(logits, labels):
        """Dice loss."""

    for answer in (None, lambda logits, labels: ..., dots, only_described):
        exercises.check_dice(answer)
    assert capsys.readouterr().out == f"{checking.UNANSWERED}\n" * 4


def test_kind_9_code_without_return_is_not_taken_for_unanswered():
    def my_dice(logits, labels):
        loss = losses.DiceLoss()(logits, labels)  # noqa: F841

    def my_macs(*case):
        if case[2] == 1:
            return exercises._macs(*case)

    def a_number(ids):
        19  # noqa: B018

    def nothing(ids):
        return

    answers = [(exercises.check_dice, my_dice), (exercises.check_macs, my_macs)]
    for check, answer in [*answers, (exercises.check_train_ids, a_number), (exercises.check_train_ids, nothing)]:
        assert re.fullmatch(r"Not yet: on .* returns nothing; is `return` missing\?", check.judge(answer))


def test_kind_9_no_warning_of_numpy_spoils_a_right_answer(recwarn):
    def my_iou(matrix):
        matrix = np.asarray(matrix, float)
        hits = np.diag(matrix)
        return 100 * hits / (matrix.sum(0) + matrix.sum(1) - hits)  # of an absent class 0/0

    assert exercises.check_iou.judge(my_iou).startswith("Right.")
    assert not recwarn.list


# Answers whose value is right and whose gradient is not.


def dice_as_a_number(logits, labels):
    return losses.DiceLoss()(logits, labels).item()


def dice_with_detached_denominator(logits, labels):
    hits, claimed, labelled = counts(logits, labels)
    return 1 - (2 * hits / (claimed + labelled).detach())[labelled > 0].mean()


def focal_with_detached_miss(logits, labels, gamma):
    ce = F.cross_entropy(logits, labels, ignore_index=255, reduction="none")
    return ((1 - torch.exp(-ce.detach())) ** gamma * ce)[labels != 255].mean()


def focal_hiding_the_logarithm_of_0(logits, labels, gamma):
    valid = labels != 255
    p = (logits.softmax(1) * F.one_hot(labels.where(valid, 0), 5).movedim(3, 1)).sum(1) * valid
    return torch.where(valid, -((1 - p) ** gamma) * p.log(), 0).sum() / valid.sum()


def lovasz_that_only_seems_to_have_a_gradient(errors, foreground):
    return exercises._lovasz(errors.detach(), foreground) + 0 * errors.sum()


def lovasz_of_a_leaf_of_its_own(errors, foreground):
    return exercises._lovasz(errors.detach().requires_grad_(), foreground)


def lovasz_that_uses_up_its_graph(errors, foreground):
    loss = exercises._lovasz(errors, foreground)
    loss.backward()
    return loss


@pytest.mark.parametrize(
    ("exercise", "words", "answer"),
    [
        ("dice", "no gradient flows back", dice_as_a_number),
        ("dice", "its gradient is not: something on the way is detached", dice_with_detached_denominator),
        ("focal", "its gradient is not: something on the way is detached", focal_with_detached_miss),
        ("focal", "its gradient is NaN", focal_hiding_the_logarithm_of_0),
        ("lovasz", "its gradient is not: something on the way is detached", lovasz_that_only_seems_to_have_a_gradient),
        ("lovasz", "its gradient is not: something on the way is detached", lovasz_of_a_leaf_of_its_own),
        ("lovasz", "its gradient is lost", lovasz_that_uses_up_its_graph),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_right_value_with_a_wrong_gradient_is_not_accepted(exercise, words, answer):
    verdict = CHECKS[f"check_{exercise}"].judge(answer)
    assert verdict.startswith("Not yet: ") and words in verdict


def test_a_small_number_under_a_logarithm_or_a_fraction_is_no_mistake():
    def my_focal(logits, labels, gamma):
        valid = labels != 255
        p = logits.softmax(1).gather(1, labels.where(valid, 0)[:, None])[:, 0][valid]
        return -((1 - p) ** gamma * (p + 1e-6).log()).mean()

    def my_dice(logits, labels):
        hits, claimed, labelled = counts(logits, labels)
        return 1 - ((2 * hits + 1e-6) / (claimed + labelled + 1e-6))[labelled > 0].mean()

    assert exercises.check_focal.judge(my_focal).startswith("Right")
    assert exercises.check_dice.judge(my_dice).startswith("Right")


def test_an_unknown_mistake_is_told_the_first_case_on_which_it_differs():
    verdict = exercises.check_poly.judge(lambda step, total, lr, power: lr * (1 - step / total) ** 0.9)
    assert "right on the first step, half-way" in verdict and "on half-way with power 2 you return" in verdict


def test_of_an_array_the_first_wrong_number_is_told_with_its_place():
    def my_train_ids(ids):
        return np.where(ids == 33, 7, exercises._train_ids(ids))

    verdict = exercises.check_train_ids.judge(my_train_ids)
    assert "on the 19 evaluated classes at [0, 18] you have 7, expected 18. Try it: `my_train_ids(*" in verdict


def test_the_case_that_a_verdict_names_can_be_had():
    verdict = exercises.check_focal.judge(lambda *case: torch.tensor(0.5))
    call = re.search(r"`your_function\(\*(exercises\.check_\w+\.case\(.*\))\)`\.$", verdict)[1]
    logits, labels, gamma = eval(call)
    assert logits.shape == (2, 5, 4, 6) and labels.shape == (2, 4, 6) and gamma == 2
    logits.data.zero_()  # whatever is done to it
    assert exercises.check_focal.case("a batch without void, gamma 2")[0].any()
    assert all(check.name == name for name, check in CHECKS.items())


@pytest.mark.parametrize("answer", [lambda *case: 1 / 0, lambda *case: case[0].no_such_method()])
def test_an_answer_that_stops_is_told_where_and_why(answer):
    verdict = exercises.check_dice.judge(answer)
    line = rf"in line {answer.__code__.co_firstlineno} \(`@pytest.*`\)"
    assert re.match(rf"Not yet: on a batch without void your function stops {line} with \w+Error: ", verdict)
    assert "255" not in verdict


def test_an_answer_that_stops_at_void_is_told_that_void_is_there():
    def my_miou(labels, predictions, classes):
        matrix = np.bincount((labels * classes + predictions).ravel(), minlength=classes**2)
        return np.nanmean(exercises._iou(matrix.reshape(classes, classes)))

    verdict = exercises.check_miou.judge(my_miou)
    told = r"Not yet: on two images with void your function stops .* This case holds 255, void: leave its pixels out"
    assert re.match(told, verdict)


def test_an_answer_that_stops_without_a_word_is_told_the_kind_of_error_alone():
    def my_dice(logits, labels):
        raise NotImplementedError

    assert "with NotImplementedError. Try it" in exercises.check_dice.judge(my_dice)


def test_label_ids_of_8_bits_are_among_the_cases():
    verdict = exercises.check_train_ids.judge(ids_in_8_bits)
    assert "on a map of 8 bits (uint8), as the files hold it your function stops" in verdict and "256" in verdict


def test_a_kernel_without_a_middle_is_among_the_cases():
    verdict = exercises.check_dilated.judge(dilated_around_a_middle_tap)
    assert (
        "right on dilation 1, dilation 2, dilation 3 and a kernel of 5, but on dilation 2 and a kernel of 4" in verdict
    )


def test_an_answer_that_changes_its_arguments_is_not_accepted_though_its_result_is_right():
    def my_focal(logits, labels, gamma):
        valid = labels != 255
        labels[~valid] = 0
        return losses.FocalLoss(gamma)(logits, torch.where(valid, labels, 255))

    def my_receptive_field(layers):
        field = exercises._receptive_field(layers)
        layers.clear()
        return field

    told = "Not yet: the result is right, but on {} your function changes the {} it was given"
    verdict = exercises.check_focal.judge(my_focal)
    assert verdict.startswith(told.format("a batch with void, gamma 2", "labels")) and verdict.endswith("on a copy.")
    verdict = exercises.check_receptive_field.judge(my_receptive_field)
    assert verdict.startswith(told.format("one 3x3 convolution", "layers"))


def test_whole_numbers_are_compared_exactly_and_told_in_full():
    for check, solution in ((exercises.check_macs, exercises._macs), (exercises.check_subsample, exercises._subsample)):
        assert check.judge(lambda *case, solution=solution: solution(*case) * 1.0).startswith("Right")
        assert check.judge(lambda *case, solution=solution: solution(*case) + 1).startswith("Not yet")
    verdict = exercises.check_macs.judge(lambda *case: exercises._macs(*case) + 1)
    assert "you return 137379841; expected 137379840." in verdict
    assert "you return 1.23457; expected 0.001." in exercises.check_poly.judge(lambda *case: 1.2345678)


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_dots_to_be_replaced_stand_on_a_line_of_their_own(lesson):
    answers = [source for source in code_of(NOTEBOOKS / f"{lesson}.ipynb") if "exercises.check_" in source]
    assert len(answers) >= 3 and all(re.match(r"def my_\w+\(.*\):\n    # your code\n    \.\.\.\n", a) for a in answers)


def test_an_answer_that_takes_other_arguments_is_told_so():
    assert "your function stops with TypeError: " in exercises.check_dice.judge(lambda logits: 0)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("a string", "a str"),
        ([1, [2, 3]], "a list"),
        ({"lr": 0.001}, "a dict"),
        (1j, "a complex"),
        (torch.zeros(3), "0, 0, 0 (shape (3,))"),
        (torch.eye(3).to_sparse(), "1, 0, 0, 0, 1, 0, ... (shape (3, 3))"),
        (torch.empty(3, device="meta"), "a Tensor"),
        ([torch.ones(2, requires_grad=True)] * 5, "a list of 5 tensors"),
        ((torch.ones(2), torch.ones(3)), "a tuple of 2 tensors"),
    ],
)
def test_an_answer_of_the_wrong_kind_is_told_what_it_is(value, told):
    assert f"you return {told}; expected a number, 0.001." in exercises.check_poly.judge(lambda *case: value)


def test_numbers_are_compared_in_whatever_form_they_come():
    one, two = torch.tensor(1.0, requires_grad=True), torch.tensor(2.0, dtype=torch.bfloat16)
    for value in ([one, two], (1, 2), np.array([1, 2]), torch.stack([one, two]), torch.tensor([1.0, 2]).to_sparse()):
        assert checking.same(value, torch.tensor([1.0, 2])) and not checking.same(value, [1, 3])
    assert "you return 2; expected 0.001" in exercises.check_poly.judge(lambda *case: two)


def test_an_answer_cannot_spoil_the_cases_for_the_next_one():
    def spoils(labels, predictions, classes):
        labels[:] = 0
        return 0.0

    before = exercises.check_miou.judge(exercises._miou)
    exercises.check_miou.judge(spoils)
    assert exercises.check_miou.judge(exercises._miou) == before


def test_no_solution_bears_a_public_name():
    functions = [
        name for name, value in vars(exercises).items() if getattr(value, "__module__", "") == exercises.__name__
    ]
    assert functions and all(name.startswith("_") for name in functions)


def test_the_checks_solutions_are_the_library():
    for batch in exercises._BATCHES.values():
        for mine, theirs in (
            (exercises._dice(*batch), losses.DiceLoss()),
            (exercises._tversky(*batch, 0.2, 0.9), losses.TverskyLoss(0.2, 0.9)),
            (exercises._focal(*batch, 2.0), losses.FocalLoss(2.0)),
        ):
            torch.testing.assert_close(mine, theirs(*batch))
    for (counts,) in exercises.check_median.cases.values():
        loss = losses.make_loss("median_ce")
        loss.set_class_counts(counts)
        assert checking.same(loss.losses["median_ce"].weights, exercises._median(counts))
    for step in (0, 3, 99):
        assert exercises._poly(step, 100, 0.01, 1.2) == PolyLR(0.01, 100, power=1.2).lr(step)


# What the lessons tell and compute.


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_percentage_is_written_with_a_space(lesson):
    assert not [line for line in "\n".join(code_of(NOTEBOOKS / f"{lesson}.ipynb")).splitlines() if "%}" in line]


def test_a_search_that_was_given_up_is_not_shown_as_one_that_ended():
    source = next(code for code in code_of(NOTEBOOKS / "03_losses.ipynb") if code.startswith("found = pd.DataFrame"))
    *lines, shown = source.splitlines()
    names = {"pd": pd, "steps": {"lovasz": [12, 300]}, "margins": [1, 8], "cap": 300}
    exec("\n".join(lines), names)
    assert eval(shown, names).loc["lovasz"].tolist() == [12, "≥ 300"]


def test_the_toy_city_shows_the_large_classes_as_often_as_cityscapes_and_the_rarest_more_often():
    """Shares of all pixels, as the first lesson tells them; Cityscapes' come from the class weights of ERFNet."""
    pixels = sum(np.bincount(street[1].flatten(), minlength=256) for street in teach.streets("train"))
    real = {"road": 2.8149, "sidewalk": 6.9850, "building": 3.7890, "pole": 9.5111, "vegetation": 4.6323}
    real |= {"car": 6.6616, "train": 10.2879, "motorcycle": 10.4054}
    times = {
        name: pixels[CLASS_NAMES.index(name)] / pixels.sum() / (np.exp(1 / weight) - 1.1)
        for name, weight in real.items()
    }
    assert all(0.7 < times[name] < 1.5 for name in ("road", "building", "vegetation", "car", "sidewalk"))
    assert 2.5 < times["pole"] < 3.5 and 5.5 < times["train"] < 6.5 and 5.5 < times["motorcycle"] < 6.5


def test_streets_come_from_cityscapes_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("CITYSCAPES_DATASET", str(write_city(tmp_path / "leafy")))
    streets = teach.streets("train", count=2)
    assert len(streets) == 2 and streets.title == "leafy"
    assert streets.raw(0)[1].shape == teach.label_ids(streets, 0).shape == teach.LESSON_SIZE


def test_streets_are_a_toy_city_otherwise(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPLAB_DATA", str(tmp_path))
    monkeypatch.setattr(teach, "LESSON_SCENES", {"train": 3, "val": 1})
    streets = teach.streets("train", count=96)
    assert len(streets) == 3 and streets.title == "toy city (synthetic)"


def test_the_labels_of_a_grid_as_fine_as_the_picture_score_everything_and_of_a_coarse_one_less():
    labels = torch.randint(NUM_CLASSES, (2, 33, 33), generator=torch.Generator().manual_seed(0))
    assert teach.score_of_grid(labels, labels) == 100
    assert teach.score_of_grid(labels, subsample_labels(labels, (5, 5))) < 30


def test_both_ends_of_a_drift_are_drawn_in_their_own_rows_and_columns():
    ours, nearest = np.indices((3, 4)) * 8, np.indices((3, 4)) * 7
    fig = figures.sampling(np.zeros((24, 32, 3), np.uint8), ours, nearest, {"8 i": 70.0, "nearest": 50.0})
    drawn = {line.get_label(): line.get_xydata().tolist() for line in fig.axes[0].lines}
    assert drawn["feature"] == [[column, row] for row in (0, 8, 16) for column in (0, 16)]
    assert drawn["its label (nearest)"] == [[column, row] for row in (0, 7, 14) for column in (0, 14)]


def test_a_cell_sees_exactly_its_receptive_field():
    clear = teach.see_through(DeepLabV2(blocks=(1, 1, 1, 1), width=4))
    image = torch.ones(1, 3, 265, 265, requires_grad=True)
    clear.features(image)[0, :, 16, 16].sum().backward()
    seen = image.grad.abs().sum(dim=(0, 1, 2)).nonzero()
    layers = [(7, 2, 1), (3, 2, 1), (3, 1, 1), (1, 2, 1), (3, 1, 1), (3, 1, 2), (3, 1, 4)]
    computed = teach.receptive_fields({"stem": layers[:2], "stages": layers[2:]})
    assert int(seen.max() - seen.min()) + 1 == computed["stages"] == exercises._receptive_field(layers) == 131


@pytest.mark.parametrize("alpha", [0.7, 0.5, 0.3])
def test_the_best_answer_to_an_unclear_edge_claims_what_exceeds_alpha_times_the_index(alpha):
    truth = torch.sigmoid((10 - torch.arange(-30, 31).abs()) / 3)
    p = teach.settle(truth, alpha, 1 - alpha)
    hits, false, missed = (p * truth).sum(), (p * (1 - truth)).sum(), ((1 - p) * truth).sum()
    index = hits / (hits + alpha * false + (1 - alpha) * missed)
    assert ((p > 0.5) == (truth > alpha * index)).all() and 0 < (p > 0.5).sum() < len(p)


def test_overlap_losses_find_a_denied_class_late_and_cross_entropy_in_time():
    late, early = (teach.steps_to_find(losses.make_loss(name), margin=5) for name in ("lovasz", "ce"))
    assert 2 * early < late
    assert teach.steps_to_find(losses.make_loss("lovasz"), margin=8, cap=50) == 50


@pytest.mark.parametrize("losses", [5, 6, 7])
def test_maps_of_a_further_loss_find_a_place(losses):
    """As in lesson 3, once somebody has added a term."""
    maps = {f"loss {number}": np.ones((3, 4)) for number in range(losses)}
    fig = figures.gradient_maps(np.zeros((24, 32, 3), np.uint8), np.zeros((3, 4), np.uint8), maps)
    titles = [ax.get_title() for ax in fig.axes if ax.get_title()]
    assert titles == ["image", "labels on the grid (black: void)", *maps]
