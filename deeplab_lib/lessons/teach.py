"""What the lessons compute beside the library itself: their street scenes, fields of view, a small trained network."""

import copy
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from deeplab_lib import toycity
from deeplab_lib.common.errors import interruptible, short_traceback
from deeplab_lib.common.files import data_folder
from deeplab_lib.data import cityscapes
from deeplab_lib.data.pictures import read_png
from deeplab_lib.labels import ID_OF_TRAIN_ID, IGNORE_INDEX, NUM_CLASSES
from deeplab_lib.losses import make_loss
from deeplab_lib.metrics import ConfusionMatrix
from deeplab_lib.models.deeplabv2 import DeepLabV2
from deeplab_lib.models.network import SegmentationNetwork
from deeplab_lib.models.placement import Network, to_device
from deeplab_lib.models.predictor import Predictor
from deeplab_lib.training.evaluate import evaluate
from deeplab_lib.training.optimizer import make_optimizer
from deeplab_lib.training.schedule import PolyLR

LESSON_SCENES, LESSON_SIZE = {"train": 96, "val": 24}, (128, 256)  # (H, W)


class Streets(cityscapes.Resized):
    """Scenes for a lesson; `title` says where they come from, to stand on every figure."""

    title: str


@short_traceback
@interruptible("the scenes were drawn: run the cell again")
def streets(split: str = "train", count: int = 96) -> Streets:
    """Scenes for a lesson, at most `count` images evenly spaced over the split.

    They come from `$CITYSCAPES_DATASET` where that is set, else from a small toy city, which is drawn the first time;
    both at the demo's 128x256, so that a laptop can train on them.
    """
    root = cityscapes.data_root()
    if root is None:
        root = toycity.write(data_folder() / "toycity" / "lessons", **LESSON_SCENES, size=LESSON_SIZE, workers=None)
    synthetic = (root / toycity.PARAMETERS_FILE).is_file()
    dataset = Streets(root, split, size=LESSON_SIZE)
    chosen = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int)
    dataset.pairs = [dataset.pairs[i] for i in chosen]
    dataset.title = "toy city (synthetic)" if synthetic else root.name
    return dataset


def label_ids(dataset: Streets, index: int) -> np.ndarray:
    """Label ids `(H, W)` of one scene as its annotation file holds them, at the data set's size.

    Raises ValueError where there is none, as in the test split.
    """
    file = dataset.pairs[index].label
    if file is None:
        raise ValueError(f"{dataset.pairs[index].name} has no labels")
    ids = np.asarray(read_png(file))
    ids = ID_OF_TRAIN_ID[ids] if file.name.endswith("_labelTrainIds.png") else ids
    return cityscapes.resize_labels(ids, dataset.size)


def batch(dataset: cityscapes.Cityscapes, indices: Iterable[int] | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Images `(N, 3, H, W)` and labels `(N, H, W)` of some scenes."""
    images, labels = zip(*(dataset[int(i)] for i in indices), strict=True)
    return torch.stack(images), torch.stack(labels)


def score_of_grid(labels: torch.Tensor, grid: torch.Tensor) -> float:
    """mIoU in percent, against the labels `(N, H, W)`, of a network that answers exactly the labels `grid (N, h, w)`.

    It is equally sure of each, and its answers are upsampled as DeepLabV2 upsamples: bilinearly, corner on corner. This
    is no upper limit: a network that is surer of one cell than of its neighbour places the outline between them freely.
    """
    classes = F.one_hot(grid.where(grid != IGNORE_INDEX, NUM_CLASSES), NUM_CLASSES + 1).movedim(3, 1).float()
    logits = F.interpolate(classes, size=labels.shape[1:], mode="bilinear", align_corners=True)
    return ConfusionMatrix().update(labels, logits[:, :NUM_CLASSES].argmax(1)).miou()


def see_through(model: Network) -> Network:
    """A copy of `model` through which gradients pass evenly: averages for maxima and weights, no ReLU, no batch norm.

    What its gradient does not reach, the model cannot see whatever its weights.
    """
    clear = copy.deepcopy(model).eval()
    for module in clear.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU | nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
            elif isinstance(child, nn.MaxPool2d):
                pool = nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode)
                setattr(module, name, pool)
            elif isinstance(child, nn.Conv2d):
                nn.init.constant_(child.weight, 1 / child.weight[0].numel())
    return clear


def receptive_fields(stages: Mapping[str, Iterable[tuple[int, int, int]]]) -> dict[str, int]:
    """Receptive field in pixels after each stage of `{name: [(kernel, stride, dilation), ...]}`, one upon the other."""
    field, jump, fields = 1, 1, {}
    for name, layers in stages.items():
        for kernel, stride, dilation in layers:
            field, jump = field + (kernel - 1) * dilation * jump, jump * stride
        fields[name] = field
    return fields


def train_small(
    dataset: cityscapes.Cityscapes,
    steps: int = 60,
    batch_size: int = 2,
    loss: str = "ce",
    lr: float = 0.002,
    seed: int = 0,
) -> DeepLabV2:
    """A demo-scale DeepLabV2 after a few seconds of training: no good network, but one that has learnt the streets."""
    torch.manual_seed(seed)
    network = to_device(DeepLabV2(blocks=(1, 1, 1, 1), width=16), "cpu", ("matrix_products",))
    criterion, optimizer = make_loss(loss), make_optimizer(network, lr)
    plan, order = PolyLR(lr, steps, warmup_steps=10), torch.randint(len(dataset), (steps, batch_size))
    for step in range(steps):
        images, labels = batch(dataset, order[step])
        for group in optimizer.param_groups:
            group["lr"] = group["factor"] * plan.lr(step)
        logits = network.grid_logits(images)
        optimizer.zero_grad()
        criterion(logits, network.subsample(labels, logits.shape[-2:])).backward()
        optimizer.step()
    return network.eval()


def score(network: SegmentationNetwork, dataset: cityscapes.Cityscapes) -> ConfusionMatrix:
    """Confusion matrix of `network` over a data set, taken as one batch."""
    numbers = range(len(dataset))
    (result,) = evaluate(Predictor(network), [(numbers, *batch(dataset, numbers))])
    return ConfusionMatrix(matrix=result["confusion"].sum(0))


@torch.no_grad()
def score_without(network: DeepLabV2, dataset: cityscapes.Cityscapes, branch: int) -> ConfusionMatrix:
    """As `score`, with one branch of the pyramid silenced."""
    silenced = copy.deepcopy(network)
    for parameter in silenced.aspp.branches[branch].parameters():
        parameter.zero_()
    return score(silenced, dataset)


def pull(
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], logits: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """How hard a loss pulls at each cell: the sum over classes of |d loss / d score|, `(N, h, w)`."""
    logits = logits.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(logits, labels), logits)
    return gradient.abs().sum(dim=1)


def steps_to_find(
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], margin: float, lr: float = 20.0, cap: int = 300
) -> int:
    """Steps of gradient descent until a class that is denied by `margin` logits everywhere is found on half its pixels.

    200 pixels, 20 of them of class 1; every score starts in favour of class 0. Returns `cap` when it takes longer.
    """
    labels = (torch.arange(200) < 20).long().view(1, 1, 200)
    logits = torch.zeros(1, 2, 1, 200)
    logits[:, 0] = margin
    for step in range(cap):
        if (logits.argmax(dim=1)[labels == 1] == 1).float().mean() >= 0.5:
            return step
        logits.requires_grad_()
        (gradient,) = torch.autograd.grad(loss(logits, labels), logits)
        logits = logits.detach() - lr * gradient
    return cap


def settle(truth: torch.Tensor, alpha: float, beta: float, steps: int = 150) -> torch.Tensor:
    """Probabilities `(P,)` at which gradient descent on the Tversky loss of the expected counts ends.

    truth: how often each pixel belongs to the object, `(P,)`. The expected TP, FP and FN enter the formula; the mean of
    the loss itself is something else. For alpha + beta = 1 the best answer claims what exceeds alpha times the index.
    """
    z = torch.zeros(len(truth), requires_grad=True)
    optimizer = torch.optim.Adam([z], lr=0.2)
    for _ in range(steps):
        p = z.sigmoid()
        hits, false, missed = (p * truth).sum(), (p * (1 - truth)).sum(), ((1 - p) * truth).sum()
        optimizer.zero_grad()
        (1 - hits / (hits + alpha * false + beta * missed)).backward()
        optimizer.step()
    return z.sigmoid().detach()
