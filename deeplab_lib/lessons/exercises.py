"""Checks of the lessons' exercises: `check_dice(my_dice)` prints whether the answer is right or what went wrong.

Every exercise is one function that solves it and can also make the usual mistakes: those whose names are in `made`. Its
own name begins with an underscore, so that completion does not offer the solutions. An answer is run on crafted cases
and compared with the solution, then with every mistake and up to three of them together: what matches is named. An
answer that matches nothing is answered with the first case on which it differs.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import wraps
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from deeplab_lib.common.types import Size
from deeplab_lib.labels import CATEGORIES, IGNORE_INDEX, LABELS
from deeplab_lib.lessons.checking import Exercise
from deeplab_lib.models.deeplabv2 import subsample_labels

Made = Collection[str]  # names of the mistakes that a solution makes

# Lesson 1: labels and metrics.


def _train_ids(ids: np.ndarray, made: Made = ()) -> np.ndarray:
    """Train ids of label ids `(H, W)`, void 255."""
    table = {label.id: label.train_id for label in LABELS}
    if "shifts" in made:
        table = {i: i - 7 if t != IGNORE_INDEX else t for i, t in table.items()}
    if "categories" in made:
        table = {x.id: CATEGORIES.index(x.category) if x.category in CATEGORIES else IGNORE_INDEX for x in LABELS}
    if "wraps" in made:
        table[-1] = table[33]
    if "overwrites" in made:
        table[33] = IGNORE_INDEX
    if "keeps_plate" in made:
        table[-1] = -1
    if "void_is_road" in made:
        table = {i: 0 if t == IGNORE_INDEX else t for i, t in table.items()}
    return np.vectorize(table.get, otypes=[int])(np.asarray(ids))


check_train_ids = Exercise(
    _train_ids,
    {
        "the 19 evaluated classes": (np.array([[label.id for label in LABELS if label.train_id != IGNORE_INDEX]]),),
        "all labels but the licence plate": (np.arange(34).reshape(2, 17),),
        "a map with a licence plate (-1)": (np.array([[26, -1, 26], [7, 7, 33]]),),
        "a map of 8 bits (uint8), as the files hold it": (np.array([[26, 4, 26], [7, 9, 33]], dtype=np.uint8),),
    },
    {
        "wraps": "the licence plate has become a bicycle. Its id is -1, and table[-1] reads a table's last entry. "
        "Give -1 an entry of its own, or make room for it: 256 entries, and ids.astype(int) % 256.",
        "overwrites": "the bicycle (33) has become void. The licence plate's id is -1, and table[-1] = 255 overwrites "
        "a table's last entry, of 34 the bicycle's. Make room: 256 entries, and ids.astype(int) % 256.",
        "keeps_plate": "the licence plate keeps its -1. It is void, so it must become 255 like every other void label.",
        "void_is_road": "void has become 0, and 0 is road: the network would learn that its own car is a street. "
        "Fill the table with 255 before you enter the 19 classes.",
        "shifts": "you subtract 7. That is right for road and sidewalk, but parking and rail track (ids 9 and 10) are "
        "void, so everything behind them moves. Use label.train_id.",
        "categories": "these are the numbers of the 7 categories. The train id is another column: label.train_id.",
    },
    "A table is both the fastest and the safest way: one look-up a pixel, and an id that is no label can be caught.",
)


def _iou(matrix: np.ndarray, made: Made = ()) -> np.ndarray:
    """IoU in percent of every class of a confusion matrix `(C, C)`, row = label, column = prediction."""
    matrix = np.asarray(matrix, dtype=float)
    hits, labelled, predicted = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    union = labelled + predicted - hits * ("counts_twice" not in made)
    union = labelled if "only_recall" in made else predicted if "only_precision" in made else union
    absent = 0.0 if "absent_is_zero" in made else 100.0 if "absent_is_full" in made else np.nan
    with np.errstate(invalid="ignore", divide="ignore"):
        values = 100 * hits / union
    values[(labelled + predicted) == 0] = absent
    if "only_labelled" in made:
        values[labelled == 0] = np.nan
    return values / 100 if "fraction" in made else values


_CROWD = np.array([[50, 3, 2, 0], [4, 20, 6, 0], [1, 0, 9, 5], [2, 0, 0, 7]])
_ABSENT = np.array([[50, 3, 0, 0], [4, 20, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]])
check_iou = Exercise(
    _iou,
    {
        "four classes": (_CROWD,),
        "a class that is neither labelled nor predicted, and one that is only predicted": (_ABSENT,),
    },
    {
        "absent_is_zero": "a class that is neither labelled nor predicted gets 0. Nothing was missed and nothing "
        "claimed wrongly: 0/0 has no value. Use NaN and leave it out of the mean.",
        "absent_is_full": "a class that is neither labelled nor predicted gets 100. It would raise the mean for "
        "nothing: 0/0 has no value. Use NaN and leave it out of the mean.",
        "counts_twice": "the union is too large. Row sum plus column sum holds the hits twice: subtract them once.",
        "only_recall": "this is recall: hits over what is labelled. IoU also pays for what is claimed wrongly: the "
        "union has the column in it too.",
        "only_precision": "this is precision: hits over what is predicted. IoU also pays for what is missed: the union "
        "has the row in it too.",
        "only_labelled": "a class that is predicted and never labelled gets NaN. Its union is not empty and none of it "
        "right: 0.",
        "fraction": "these are fractions; the kit counts in percent. Multiply by 100.",
    },
    "Row, column, minus what they share: three sums are the whole metric.",
)


def _miou(labels: np.ndarray, predictions: np.ndarray, num_classes: int, made: Made = ()) -> float:
    """mIoU in percent over all images: `labels` and `predictions` `(N, H, W)`, void 255."""
    if "overflows" in made:  # as far as their numbers go, labels * num_classes + predictions
        wrapped = np.asarray(labels * num_classes + predictions, dtype=int)
        labels = np.where(labels == IGNORE_INDEX, IGNORE_INDEX, wrapped // num_classes)
        predictions = wrapped % num_classes
    labels, predictions = np.asarray(labels, dtype=int), np.asarray(predictions, dtype=int)
    void = num_classes  # by rights a row of its own
    void = 0 if "void_is_road" in made else num_classes - 1 if "void_is_last" in made else void
    rows = np.where(labels == IGNORE_INDEX, void, labels)
    cells = (rows * (num_classes + 1) + predictions).reshape(len(labels), -1)
    counts = np.array([np.bincount(image, minlength=(num_classes + 1) ** 2) for image in cells])
    matrices = counts.reshape(-1, num_classes + 1, num_classes + 1)
    matrices = matrices if "per_image" in made else matrices.sum(0, keepdims=True)
    hits = np.diagonal(matrices, axis1=1, axis2=2)[:, :num_classes]
    labelled = matrices[:, :num_classes].sum(2)
    predicted = matrices[:, : num_classes + ("counts_void" in made), :num_classes].sum(1)
    with np.errstate(invalid="ignore"):
        values = 100 * hits / (labelled + predicted - hits)
    values = np.where(labelled == 0, np.nan, values) if "only_labelled" in made else values
    values = np.nan_to_num(values) if "absent_is_zero" in made else values
    mean = np.mean if "nan_spoils" in made else np.nanmean
    return float(np.mean(mean(values, axis=1))) / (100 if "fraction" in made else 1)


_TRUTH = np.array([[[0, 0, 0, 1], [0, 0, 1, 1]], [[0, 2, 2, 2], [0, 0, 0, 1]]])
_GUESS = np.array([[[0, 0, 1, 1], [0, 0, 1, 0]], [[0, 2, 0, 0], [0, 1, 0, 1]]])
_VOID = np.where(np.arange(16).reshape(2, 2, 4) % 5 == 1, IGNORE_INDEX, _TRUTH)
_NINETEEN = np.arange(40, dtype=np.uint8).reshape(2, 4, 5) % 19
check_miou = Exercise(
    _miou,
    {
        "one image": (_TRUTH[1:], _GUESS[1:], 3),
        "two images": (_TRUTH, _GUESS, 3),
        "two images with void": (_VOID, _GUESS, 3),
        "two images in which the last class never occurs": (_VOID, _GUESS, 4),
        "a class that is only predicted": (np.array([[[0, 0, 1, 1]]]), np.array([[[0, 0, 1, 2]]]), 3),
        "images of 8 bits (uint8) with 19 classes": (_NINETEEN, np.where(_NINETEEN % 3, _NINETEEN, 18 - _NINETEEN), 19),
    },
    {
        "per_image": "you average over images. A class that one image holds a speck of then counts as much as a full "
        "street of it. Add up the confusion matrices of all images and divide once, at the end.",
        "counts_void": "what is predicted on void counts as an error. Nobody knows the right answer there: leave void "
        "pixels out of labels and predictions alike.",
        "absent_is_zero": "a class that never occurs enters the mean as 0. Leave it out: np.nanmean.",
        "nan_spoils": "one class that never occurs (0/0) makes the whole mean NaN. Leave it out: np.nanmean.",
        "only_labelled": "a class that is predicted and never labelled is left out; its union is not empty, so it "
        "counts as 0.",
        "void_is_road": "void has become class 0. Leave its pixels out of labels and predictions before you count: "
        "`valid = labels != 255`.",
        "void_is_last": "void has become the last class, perhaps by a clamp. Leave its pixels out of labels and "
        "predictions before you count: `valid = labels != 255`.",
        "fraction": "this is a fraction; the kit counts in percent. Multiply by 100.",
        "overflows": "numbers of 8 bits overflow: label 18 times 19 classes is 342, and uint8 ends at 255. NumPy says "
        "nothing and goes on from 0. Count in larger numbers: `labels.astype(int)`.",
    },
    "Accumulate, then divide: the result depends neither on the batch size nor on the order of the images.",
)


def _subsample(labels: Tensor, size: Size, made: Made = ()) -> Tensor:
    """Labels `(H, W)` at the pixels on which the cells of a grid `(h, w)` sit: 0, 8, 16 ..., clamped to the border."""
    if "slices" in made:
        return labels[::8, ::8]
    if "nearest" in made:
        return F.interpolate(labels[None, None].float(), size=size, mode="nearest")[0, 0].long()
    if made:  # "centres" or "stretches"
        rows, columns = (
            torch.arange(cells) * 8 + 4 if "centres" in made else torch.linspace(0, pixels - 1, cells).round().long()
            for cells, pixels in zip(size, labels.shape, strict=True)
        )
        return labels[rows.clamp(max=labels.shape[0] - 1)][:, columns.clamp(max=labels.shape[1] - 1)]
    return subsample_labels(labels, size)


def _numbered(height: int, width: int) -> Tensor:
    return torch.arange(height)[:, None] * 1000 + torch.arange(width)


check_subsample = Exercise(
    _subsample,
    {
        "a map of 33x41 pixels on a grid of 5x6": (_numbered(33, 41), (5, 6)),
        "a map of 64x128 pixels on a grid of 9x17": (_numbered(64, 128), (9, 17)),
    },
    {
        "slices": "labels[::8, ::8] ends a row and a column too early when the size is a multiple of 8: 64 pixels give "
        "8 rows, and the grid has 9. The last cell sits on the border pixel: min(8 i, H - 1).",
        "centres": "you sample the middle of 8x8 blocks (8 i + 4). The features are centred on the blocks' first "
        "pixels: 8 i.",
        "nearest": "interpolate(mode='nearest') spreads the cells evenly over the picture (i H/h), but the features "
        "sit every 8 pixels. The error grows along the axis to about a cell: use min(8 i, H - 1).",
        "stretches": "you spread the cells from the first to the last pixel. Nearly right, but 8 cells then cover "
        "one pixel less than 64: the features sit exactly every 8 pixels, and only the last is clamped to the border.",
    },
    "Labels and features now mean the same pixel, in every corner.",
)


# Which convention made a value. Each returns the convention's number, counted from 1.


def _nearest(values: Sequence[Any], value: Any, made: Made, conventions: tuple[int, int]) -> int:
    """The number of the value nearest to `value`; `conventions`: the two that may be exchanged."""
    number = 1 + int(np.argmin(np.abs(np.array(values, dtype=float) - float(value))))
    if "exchanges" in made and number in conventions:
        number = sum(conventions) - number
    return number - ("from_zero" in made)


_FROM_ZERO = "you count the conventions from 0; the list begins at 1."


def _mious(labels: np.ndarray, predictions: np.ndarray, num_classes: int, made: Made = ()) -> list[float]:
    """mIoU in percent by five conventions; see the lesson."""
    valid = labels != IGNORE_INDEX
    void = np.bincount(predictions[~valid], minlength=num_classes)
    cells = labels[valid].astype(int) * num_classes + predictions[valid]
    matrix = np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)
    matrix = np.vstack([matrix, void * ("keeps_void" in made)])
    hits, labelled, predicted = np.diag(matrix[:-1]), matrix[:-1].sum(1), matrix.sum(0)

    def mean(predicted: np.ndarray, absent: float = np.nan, counted: bool = True) -> float:
        with np.errstate(invalid="ignore"):
            values = 100 * hits / (labelled + predicted - hits)
        return np.nanmean(np.where((labelled + predicted) == 0, absent, values)[counted | (labelled > 0)])

    rules = (predicted, np.nan, True), (predicted, 0, True), (predicted, 100, True), (predicted, np.nan, False)
    return [*(mean(*rule) for rule in rules), mean(predicted + void * ("keeps_void" not in made))]


def _which_miou(value: float, labels: np.ndarray, predictions: np.ndarray, num_classes: int, made: Made = ()) -> int:
    """Number of the convention by which `value` is the mIoU of `labels` and `predictions` `(H, W)`, void 255."""
    return _nearest(_mious(labels, predictions, num_classes, made), value, made, (2, 3))


_MAPS = (
    np.array([[0, 0, 1, 1, 2, 0], [255, 255, 2, 2, 0, 1], [255, 2, 0, 0, 1, 0]]),
    np.array([[0, 1, 1, 1, 3, 0], [2, 2, 2, 0, 0, 1], [2, 2, 0, 0, 1, 0]]),
    5,  # class 3 is predicted only, class 4 is nowhere
)
check_which_miou = Exercise(
    _which_miou,
    {f"value {number}": (value, *_MAPS) for number, value in enumerate(_mious(*_MAPS), start=1)},
    {
        "from_zero": _FROM_ZERO,
        "exchanges": "conventions 2 and 3 are exchanged: counting an absent class as 0 makes the mean lower.",
        "keeps_void": "what is predicted on void is in all your sums, but only convention 5 counts it: leave void "
        "pixels out of labels and predictions for the first four.",
    },
    "Three decisions, five numbers, one name.",
)


# Lesson 2: the network.


def _dilated(signal: Tensor, kernel: Tensor, dilation: int, made: Made = ()) -> Tensor:
    """Convolution of a 1-D signal as networks compute it, unpadded: sum over k of kernel[k] signal[i + k dilation]."""
    gap = 1 if "not_dilated" in made else dilation + ("one_too_wide" in made)
    kernel = kernel.flip(0) if "flips" in made else kernel
    padding = gap * (len(kernel) - 1) // 2 if "pads" in made else 0
    return F.conv1d(signal[None, None], kernel[None, None], dilation=gap, padding=padding)[0, 0]


_SIGNAL = torch.tensor([1.0, 4, 2, 8, 5, 7, 1, 3, 9, 6, 2, 5, 1, 8, 3, 3, 7, 0, 4, 6])
check_dilated = Exercise(
    _dilated,
    {
        "dilation 1": (_SIGNAL, torch.tensor([1.0, 2, -1]), 1),
        "dilation 2": (_SIGNAL, torch.tensor([1.0, 2, -1]), 2),
        "dilation 3 and a kernel of 5": (_SIGNAL, torch.tensor([1.0, 0, 2, -1, 3]), 3),
        "dilation 2 and a kernel of 4": (_SIGNAL, torch.tensor([1.0, -2, 3, 1]), 2),
    },
    {
        "flips": "the kernel runs backwards. Mathematics flips it; networks do not (theirs is a correlation): the "
        "first weight meets the first tap.",
        "not_dilated": "the dilation has no effect: the taps stand side by side. Tap k reads signal[i + k * dilation].",
        "one_too_wide": "the taps stand dilation + 1 apart. Dilation 1 is the ordinary convolution: tap k reads "
        "signal[i + k * dilation].",
        "pads": "the result is as long as the signal: you pad. Here only those positions count at which every tap lies "
        "inside: len(signal) - dilation * (len(kernel) - 1) of them.",
    },
    "The same weights reach further: a wider view for not one parameter more.",
)


def _receptive_field(layers: Iterable[tuple[int, int, int]], made: Made = ()) -> int:
    """Receptive field in pixels of a stack of layers `(kernel, stride, dilation)`, from the input on."""
    field, jump = 1, 1
    for kernel, stride, dilation in layers:
        step = jump * stride if "stride_first" in made else jump
        field += (kernel - ("whole_kernel" not in made)) * (1 if "no_dilation" in made else dilation) * step
        jump *= 1 if "no_stride" in made else stride
    return field


check_receptive_field = Exercise(
    _receptive_field,
    {
        "one 3x3 convolution": ([(3, 1, 1)],),
        "two 3x3 convolutions": ([(3, 1, 1), (3, 1, 1)],),
        "one with dilation 4": ([(3, 1, 4)],),
        "a stride of 2 before a 3x3": ([(7, 2, 1), (3, 1, 1)],),
        "the stem, a stride in a 1x1, dilation": ([(7, 2, 1), (3, 2, 1), (1, 2, 1), (3, 1, 2), (3, 1, 12)],),
    },
    {
        "whole_kernel": "every layer adds its whole kernel. A single pixel already sees itself: a kernel of k adds "
        "k - 1 (times dilation and jump).",
        "no_stride": "strides have no effect. Behind a stride of 2, neighbours lie twice as far apart in the input: "
        "keep a jump and multiply it by the stride.",
        "no_dilation": "dilation has no effect. The outer taps of a 3x3 with dilation d lie 2 d apart: (k - 1) * d.",
        "stride_first": "a layer's own stride widens its own view. Its taps still stand on the finer grid in front of "
        "it: add first, multiply the jump afterwards.",
    },
    "Two numbers to carry, field and jump, are enough for any stack of layers.",
)


def _macs(
    in_channels: int, out_channels: int, kernel: int, stride: int, height: int, width: int, made: Made = ()
) -> int:
    """Multiply-adds of a square convolution, padded so that only its stride changes the size of the input."""
    stride = 1 if "no_stride" in made else stride
    rows, columns = (side // stride if "rounds_down" in made else -(-side // stride) for side in (height, width))
    cells = 1 if "parameters" in made else rows * columns
    taps = kernel if "kernel_once" in made else kernel**2
    inputs = 1 if "one_input" in made else in_channels
    return (1 + ("counts_flops" in made)) * cells * taps * out_channels * inputs


check_macs = Exercise(
    _macs,
    {
        "a 1x1 convolution": (256, 64, 1, 1, 65, 129),
        "a 3x3 convolution": (64, 32, 3, 1, 65, 129),
        "the stem, with its stride of 2": (3, 64, 7, 2, 512, 1024),
        "an odd size under a stride of 2": (16, 32, 3, 2, 129, 257),
    },
    {
        "counts_flops": "you count a multiplication and an addition apart: these are FLOPs, twice the multiply-adds.",
        "kernel_once": "the kernel has two sides: a k x k window holds k * k taps.",
        "one_input": "every output channel reads every input channel: multiply by in_channels too.",
        "parameters": "these are the parameters. Each of them is used once at every place of the output grid.",
        "no_stride": "the stride has no effect. What counts are the places of the output: the input's size "
        "divided by the stride, rounded up.",
        "rounds_down": "the output is a cell too small where the size is odd: 129 under a stride of 2 gives 65 places, "
        "not 64. Round up.",
    },
    "Output cells x taps x input channels x output channels: parameters ignore the picture's size, work does not.",
)


def _which_count(count: int, macs: int, normed: int, upsampled: int, made: Made = ()) -> int:
    """Number of the convention by which a tool counts `count` operations; see the lesson."""
    values = [
        2 * macs,
        macs,
        macs + 2 * normed + 4 * upsampled,
        macs + 4 * normed,
        macs + normed + 4 * upsampled,
    ]
    if "rounds" in made:
        count = next(value for value in values if abs(value - count) <= 0.01 * count)
    return _nearest(values, count, made, (1, 2))


_NETWORK = 373_656_133_632, 484_380_032, 9_961_472  # DeepLabV2 on one image of 512x1024
check_which_count = Exercise(
    _which_count,
    {
        "747,312,267,264": (747_312_267_264, *_NETWORK),
        "373,656,133,632": (373_656_133_632, *_NETWORK),
        "374,664,739,584": (374_664_739_584, *_NETWORK),
        "375,593,653,760": (375_593_653_760, *_NETWORK),
        "374,180,359,552": (374_180_359_552, *_NETWORK),
    },
    {
        "from_zero": _FROM_ZERO,
        "exchanges": "conventions 1 and 2 are exchanged: PyTorch counts a multiply-add as two operations.",
        "rounds": "you take the first convention that is about right. Four of the five lie within one percent of each "
        "other: take the nearest.",
    },
    "The same network has five sizes; a table that mixes them compares tools.",
)


# Lesson 3: losses and the schedule. A batch is `logits (N, C, h, w)` and `labels (N, h, w)`.


def _image_by_image(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`loss` with one mistake more, `per_image`: the mean of the losses of the single images."""

    @wraps(loss)
    def may_average(logits: Tensor, labels: Tensor, *options: Any, made: Made = (), **more: Any) -> Tensor:
        if "per_image" not in made:
            return loss(logits, labels, *options, made, **more)
        pairs = zip(logits.split(1), labels.split(1), strict=True)
        return torch.stack([loss(*pair, *options, made, **more) for pair in pairs]).mean()

    return may_average


def _flat(logits: Tensor, labels: Tensor, made: Made) -> tuple[Tensor, Tensor, Tensor]:
    """Softmax `(C, P)`, one-hot labels `(C, P)` and which pixels are valid `(P,)`."""
    classes = logits.shape[1]
    p = logits.softmax(1).transpose(0, 1).reshape(classes, -1)
    labels = labels.reshape(-1)
    if {"void_is_road", "void_is_last"} & set(made):  # then nothing is void
        labels = labels.where(labels != IGNORE_INDEX, 0 if "void_is_road" in made else classes - 1)
    return p, (labels == torch.arange(classes)[:, None]).float(), labels != IGNORE_INDEX


@_image_by_image
def _tversky(
    logits: Tensor, labels: Tensor, alpha: float, beta: float, made: Made = (), smoothing: float = 1.0
) -> Tensor:
    """Tversky loss; see `losses.TverskyLoss`. smoothing: what the mistake adds above and below the fraction."""
    missed = "void_is_missed" in made
    p, onehot, valid = _flat(logits, labels, {*made, "void_is_road"} if missed and "void_is_last" not in made else made)
    valid = labels.reshape(-1) != IGNORE_INDEX if missed else valid
    p = F.one_hot(p.argmax(0), len(p)).T.float() if "hard" in made else p
    p = logits.transpose(0, 1).reshape(len(p), -1) if "takes_logits" in made else p
    p = p if "forgets_void" in made else p * valid
    hits, claimed, labelled = (p * onehot).sum(1), (p**2 if "squared" in made else p).sum(1), onehot.sum(1)
    if "one_sum" in made:
        hits, claimed, labelled, onehot = (x.sum(0, keepdim=True) for x in (hits, claimed, labelled, onehot.bool()))
    alpha, beta = (beta, alpha) if "swapped" in made else (alpha, beta)
    more = smoothing * ("smooths" in made)
    scores = (hits + more) / (hits + alpha * (claimed - hits) + beta * (labelled - hits) + more)
    present = onehot.any(1)
    if "absent_are_perfect" in made:
        scores = scores.where(present, 1)
    mean = scores.mean() if {"all_classes", "absent_are_perfect"} & set(made) else scores[present].mean()
    return mean if "index" in made else 1 - mean


def _dice(logits: Tensor, labels: Tensor, made: Made = ()) -> Tensor:
    """Dice loss; see `losses.DiceLoss`. It has Tversky's fraction doubled above and below, so 1 there is 1/2 here."""
    return _tversky(logits, labels, 0.5, 0.5, made=made, smoothing=0.5)


@_image_by_image
def _focal(logits: Tensor, labels: Tensor, gamma: float, made: Made = ()) -> Tensor:
    """Focal loss; see `losses.FocalLoss`."""
    p, onehot, valid = _flat(logits, labels, made)
    p_true = (p * onehot).sum(0).where(valid, 1)
    count = valid.numel() if "forgets_void" in made else valid.sum()
    if "of_mean" in made:  # cross-entropy's mean taken for a single pixel
        p_true, count = (p_true.log().sum() / count).exp(), 1
    surprise = -p_true.log()
    base = p_true if "on_p" in made else surprise if "on_log" in made else 1 - p_true
    factor = 1 if "no_gamma" in made else base * gamma if "no_power" in made else base**gamma
    each = factor * surprise
    return each.sum() / (1 if "adds_up" in made else count)


def _lovasz(errors: Tensor, foreground: Tensor, made: Made = ()) -> Tensor:
    """Lovasz extension of one class's Jaccard loss, of `errors (P,)` and `foreground (P,)` bool."""
    order = errors.argsort(descending="upwards" not in made)
    order = torch.arange(len(errors)) if "unsorted" in made else order
    truth = (foreground if "sorts_alone" in made else foreground[order]).float()
    misses = (1 - truth).cumsum(0)
    jaccard = 1 - (truth.sum() - truth.cumsum(0)) / (truth.sum() + misses)
    growth = jaccard.diff(prepend=jaccard.new_zeros(1))
    if "no_growth" in made:
        growth = jaccard
    if "no_first" in made:
        growth = torch.cat([growth.new_zeros(1), growth[1:]])
    return errors[order] @ growth


def _median(counts: np.ndarray, made: Made = ()) -> np.ndarray:
    """Class weights `(C,)` by median frequency, of the pixels of each class in each image `(N, C)`."""
    counts = np.asarray(counts, dtype=float)
    shown = (counts > 0) | ("over_all_images" in made)
    pixels, size = counts.sum(0), (shown * counts.sum(1, keepdims=True)).sum(0)
    occurs = pixels > 0
    frequency = np.divide(pixels, size, out=np.zeros_like(pixels), where=occurs)
    if "means_of_shares" in made:
        shares = counts / counts.sum(1, keepdims=True)
        frequency = np.divide(shares.sum(0), shown.sum(0), out=np.zeros_like(pixels), where=occurs)
    counted = np.sort(frequency if "absent_in_median" in made else frequency[occurs])
    counted = counted[[(len(counted) - 1) // 2]] if "lower_median" in made else counted
    middle = (np.mean if "mean" in made else np.median)(counted)
    spoilt = "absent_spoils" in made and not occurs.all()
    middle = 1 if "no_median" in made else np.nan if spoilt else middle
    weights = np.zeros_like(pixels)
    weights[occurs] = frequency[occurs] / middle if "upside_down" in made else middle / frequency[occurs]
    weights[~occurs] = 0 if "absent_is_zero" in made else np.inf if "absent_is_infinite" in made else weights.max()
    if {"absent_is_nan", "absent_spoils"} & set(made):
        weights[~occurs] = np.nan
    return weights


def _poly(step: int, total_steps: int, base_lr: float, power: float, made: Made = ()) -> float:
    """Learning rate of the poly schedule at `step`."""
    done = step / total_steps
    if "inside" in made:
        return base_lr * (1 - done**power)
    if "around" in made:
        return (base_lr * (1 - done)) ** power
    if "multiplies" in made:
        return base_lr * (1 - done) * power
    return base_lr * (done if "rises" in made else 1 - done) ** (1 if "no_power" in made else power)


def _batch(classes: int, void: bool = False, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A batch of 2 images whose labels run over `classes` of 5, the last one in the second image only.

    With void, the second image has twice as much of it: a mean over images is then not the mean over pixels.
    """
    generator = torch.Generator().manual_seed(seed)
    logits = (2 * torch.randn(2, 5, 4, 6, generator=generator)).requires_grad_()
    labels = torch.randint(classes - 1, (2, 4, 6), generator=generator)
    labels[1, :2, :3] = classes - 1
    if void:
        labels[0, 3], labels[1, 2:] = IGNORE_INDEX, IGNORE_INDEX
    return logits, labels


_BATCHES = {
    "a batch without void": _batch(5),
    "a batch with void": _batch(5, void=True, seed=1),
    "a batch in which two classes are absent": _batch(3, seed=2),
    "a batch with void and absent classes": _batch(3, void=True, seed=3),
}
_REGION_MISTAKES = {
    "forgets_void": "the sums still hold the probabilities on void pixels. Set p to 0 there, for every class: void "
    "takes part neither in the labels nor in the predictions.",
    "void_is_road": "void has become class 0, perhaps for one_hot's sake. Set both the one-hot labels and p to 0 where "
    "labels == 255.",
    "void_is_last": "void has become the last class, perhaps by a clamp for one_hot's sake. Set both the one-hot "
    "labels and p to 0 where labels == 255.",
    "void_is_missed": "p is 0 on void, the one-hot labels are not: void is some class that the network seems to miss. "
    "Set them to 0 there too.",
    "all_classes": "you average over all classes. A class that no label shows has no overlap to win: its loss is 1 "
    "whatever the network does. Take the mean over the classes present in the labels.",
    "absent_are_perfect": "absent classes enter the mean with a loss of 0, perhaps by a smoothing term. They dilute "
    "the loss, more in one batch than in another. Take the mean over the classes present in the labels.",
    "smooths": "1 is added above and below the fraction. This smoothing draws the loss of a small class towards 0. "
    "Only classes present in the labels count, so nothing is divided by 0: leave it out.",
    "squared": "the probabilities in the denominator are squared. That is Milletari's first form; the study's is "
    "|P| + |G|, with p itself.",
    "index": "this is the overlap, which should grow. A loss should shrink: return 1 minus it.",
    "per_image": "you compute one loss an image and average. The sums run over all pixels of the batch at once.",
    "hard": "you count decisions (argmax). They do not change with a small step, so no gradient comes of them: sum the "
    "probabilities.",
    "takes_logits": "the sums are of the logits. They are of probabilities: take the softmax over the classes first "
    "(dim=1).",
    "one_sum": "all classes are in one sum, in which the large ones decide. Make a fraction for each class, and take "
    "the mean of the fractions.",
}
check_dice = Exercise(
    _dice,
    _BATCHES,
    _REGION_MISTAKES,
    "Void is nowhere, absent classes are left out, and a small class weighs as much as a large one.",
    gradient=True,
)
check_tversky = Exercise(
    _tversky,
    {name: (*batch, 0.3, 0.7) for name, batch in _BATCHES.items()}
    | {"alpha 0.9 and beta 0.2": (*_BATCHES["a batch with void"], 0.9, 0.2)},
    {
        "swapped": "alpha and beta are swapped. Alpha weighs what is claimed wrongly (false positives), beta what is "
        "missed (false negatives).",
        **_REGION_MISTAKES,
    },
    "One formula for a whole family: 0.5 and 0.5 is Dice, 1 and 1 is the IoU itself.",
    gradient=True,
)
check_focal = Exercise(
    _focal,
    {f"{name}, gamma {gamma:g}": (*batch, gamma) for name, batch in _BATCHES.items() for gamma in (2.0, 0.5)}
    | {"gamma 0, where focal is cross-entropy": (*_BATCHES["a batch with void"], 0.0)},
    {
        "on_p": "the power sits on p. It must sit on the miss, 1 - p: pixels that are right already (p near 1) are to "
        "be turned down, not up.",
        "on_log": "the power sits on -log p. It must sit on the miss, 1 - p, in front of the logarithm.",
        "no_power": "you multiply by gamma; it is an exponent: (1 - p) ** gamma.",
        "of_mean": "this is the focal loss of the mean cross-entropy. Each pixel has a miss of its own: weigh pixel by "
        "pixel (reduction='none'), and take the mean at the end.",
        "forgets_void": "the mean divides by all pixels, void included, so the loss shrinks where a picture has much "
        "void. Divide by the number of valid pixels.",
        "void_is_road": "void has become class 0, and the network is punished there. Leave pixels with label 255 out.",
        "void_is_last": "void has become the last class, perhaps by a clamp for gather's sake, and the network is "
        "punished there. Leave pixels with label 255 out.",
        "adds_up": "this is the sum over the pixels; take the mean over the valid ones.",
        "no_gamma": "gamma has no effect: this is cross-entropy. The factor (1 - p) ** gamma is missing.",
        "per_image": "you compute one loss an image and average. An image with much void then counts as much as one "
        "with little: take the mean over all valid pixels of the batch at once.",
    },
    "With gamma 0 it is cross-entropy; every step up turns the easy pixels further down.",
    gradient=True,
)
_ERRORS = torch.tensor([0.1, 0.8, 0.3, 0.9, 0.2, 0.6, 0.4, 0.7])
_FOREGROUND = torch.tensor([1, 0, 1, 1, 0, 0, 1, 0], dtype=torch.bool)
check_lovasz = Exercise(
    _lovasz,
    {
        "eight pixels": (_ERRORS.clone().requires_grad_(), _FOREGROUND),
        "another foreground": (_ERRORS.clone().requires_grad_(), ~_FOREGROUND),
        "three pixels": (torch.tensor([0.25, 0.5, 0.75], requires_grad=True), torch.tensor([True, False, True])),
    },
    {
        "unsorted": "the errors are not sorted, so the weights depend on where a pixel stands in the picture. "
        "Sort downwards first: the worst pixel joins the mistakes first.",
        "upwards": "the errors are sorted upwards. The worst pixel comes first: sort downwards.",
        "sorts_alone": "the errors are sorted, the foreground is not: each error meets another pixel's truth. Take the "
        "order from the errors and apply it to both.",
        "no_growth": "each error is weighted by the Jaccard loss reached so far. Its weight is by how much the loss "
        "grows with this pixel: the difference from the value before.",
        "no_first": "the first, worst pixel has no weight. Without any mistake the Jaccard loss is 0, so its growth is "
        "the first value itself.",
    },
    "Sorted errors against the growth of the Jaccard loss: the IoU, made smooth.",
    gradient=True,
)
check_median = Exercise(
    _median,
    {
        "images that all show every class": (np.array([[60, 30, 10], [50, 20, 30], [70, 25, 5]]),),
        "classes that some images do not show": (np.array([[80, 15, 0, 5], [50, 30, 20, 0], [90, 0, 0, 10]]),),
        "images of different sizes": (np.array([[300, 90, 10, 0], [60, 0, 30, 10]]),),
        "a class that never occurs": (np.array([[80, 15, 5, 0], [60, 30, 0, 0], [90, 0, 10, 0]]),),
    },
    {
        "over_all_images": "each class's pixels are divided by the pixels of all images. Divide by those of the images "
        "that show the class: a train is large where it is, and so it needs less weight than its rarity suggests.",
        "means_of_shares": "you average the shares image by image, so a small image counts as much as a large one. Add "
        "up the pixels first, the class's and the images', and divide once.",
        "upside_down": "the fraction stands on its head: the frequent classes gain. Median over frequency.",
        "mean": "this is the mean of the frequencies. A few large classes pull it up; take the median.",
        "no_median": "these are 1/f, without the median. It makes the middle class weigh 1, so that the learning rate "
        "keeps its meaning.",
        "absent_in_median": "the median runs over classes that never occur too, as frequencies of 0. Take it over the "
        "classes that occur.",
        "absent_is_zero": "a class that never occurs gets the weight 0. Should it turn up after all, it would not be "
        "learnt: give it the largest weight of the others.",
        "absent_is_infinite": "a class that never occurs gets an infinite weight (a division by 0). A single pixel of "
        "it spoils the loss: give it the largest weight of the others.",
        "absent_is_nan": "a class that never occurs weighs NaN: its frequency is 0/0, and np.nanmedian keeps that out "
        "of the median, not out of the weights. Give it the largest weight of the others.",
        "absent_spoils": "one class that never occurs (0/0) makes the median NaN, and with it every weight. Take the "
        "median over the classes that occur, and give the absent one the largest weight of the others.",
        "lower_median": "of two middle frequencies you take the lower one, as torch.median does. The median lies half "
        "way between them: np.median.",
    },
    "Counted once, on the training labels: no batch can change what a class weighs.",
)
check_poly = Exercise(
    _poly,
    {
        "the first step": (0, 1000, 0.001, 0.9),
        "half-way": (500, 1000, 0.001, 0.9),
        "half-way with power 2": (500, 1000, 0.001, 2.0),
        "near the end": (990, 1000, 0.01, 1.2),
        "the very end": (1000, 1000, 0.01, 0.9),
    },
    {
        "inside": "the exponent sits on t/T. It belongs outside the bracket: (1 - t/T) ** power.",
        "around": "the exponent takes the base rate with it. It belongs to the bracket alone: "
        "base_lr * (1 - t/T) ** power.",
        "no_power": "the power has no effect: this is the straight line. (1 - t/T) ** power.",
        "multiplies": "you multiply by the power; it is an exponent: (1 - t/T) ** power.",
        "rises": "the rate rises from 0. It falls with what remains: 1 - t/T.",
    },
    "The rate depends on the step alone, so a resumed run finds it again without having stored it.",
)


def _dices(logits: Tensor, labels: Tensor, made: Made = ()) -> list[Tensor]:
    """Dice loss by five conventions; see the lesson."""
    p = logits.softmax(dim=1)
    g = (labels[:, None] == torch.arange(logits.shape[1]).view(1, -1, 1, 1)).float()
    p = p if "keeps_void" in made else p * (labels != IGNORE_INDEX)[:, None]
    hits, sizes, shown = (p * g).sum((2, 3)), (p + g).sum((2, 3)), g.sum((2, 3)) > 0
    loss, present = 1 - 2 * hits.sum(0) / sizes.sum(0), shown.any(0)
    by_picture = [(1 - 2 * h / s)[there].mean() for h, s, there in zip(hits, sizes, shown, strict=True)]
    return [
        loss[present].mean(),
        loss.where(present, torch.tensor(0.0)).mean(),
        loss.where(present, torch.tensor(1.0)).mean(),
        1 - 2 * hits.sum() / sizes.sum(),
        torch.stack(by_picture).mean(),
    ]


def _which_dice(value: float, logits: Tensor, labels: Tensor, made: Made = ()) -> int:
    """Number of the convention by which `value` is the Dice loss of `logits` and `labels`, void 255."""
    return _nearest(_dices(logits, labels, made), value, made, (2, 3))


_PICTURES = torch.tensor([[[0, 0, 0, 1], [0, 2, 1, 255]], [[0, 0, 1, 1], [255, 255, 1, 0]]])
_ANSWERS = torch.randn(2, 5, 2, 4, generator=torch.Generator().manual_seed(3)) + 2 * F.one_hot(
    _PICTURES.where(_PICTURES != IGNORE_INDEX, 0), 5
).movedim(3, 1)
check_which_dice = Exercise(
    _which_dice,
    {
        f"value {number}": (float(value), _ANSWERS, _PICTURES)
        for number, value in enumerate(_dices(_ANSWERS, _PICTURES), start=1)
    },
    {
        "from_zero": _FROM_ZERO,
        "exchanges": "conventions 2 and 3 are exchanged: an absent class that loses 0 makes the mean lower.",
        "keeps_void": "the probabilities on void are in your sums. All five conventions leave void pixels out.",
    },
    "One formula, five losses: the name does not say which.",
)
