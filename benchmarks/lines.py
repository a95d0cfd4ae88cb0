"""What is measured, line by line. Every pair computes the same thing, which tests/test_benchmarks.py checks."""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official
from PIL import Image

from benchmarks import plain
from benchmarks.timing import alternate, compared, figure, quartiles
from deeplab_lib import toycity
from deeplab_lib.common import devices
from deeplab_lib.common.devices import AMP_TYPES, best_amp
from deeplab_lib.data import cache
from deeplab_lib.data.cityscapes import Cityscapes
from deeplab_lib.data.label_files import read_labels
from deeplab_lib.data.normalization import RGB_IMAGENET
from deeplab_lib.labels import ID_OF_TRAIN_ID, TRAIN_ID_OF_ID
from deeplab_lib.losses import make_loss
from deeplab_lib.metrics import confusion_per_image, iou
from deeplab_lib.models.efficiency import count_macs
from deeplab_lib.models.placement import to_device
from deeplab_lib.models.predictor import Predictor
from deeplab_lib.models.registry import make_model
from deeplab_lib.training.optimizer import make_optimizer

# name: (network, (H, W), images a step, threads: None for all)
SCALES = {
    "paper": ("deeplabv2_resnet101", (512, 1024), 1, None),
    "demo": ("deeplabv2_mini", (128, 256), 4, 1),
    "smoke": ("deeplabv2_micro", (32, 64), 2, 1),
}
AMP = AMP_TYPES.get(best_amp("cpu"))


def batch(scale):
    """Random images and labels, with a tenth void, of a scale."""
    _, size, count, _ = SCALES[scale]
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 19, (count, *size), generator=rng)
    labels[torch.rand(labels.shape, generator=rng) < 0.1] = 255
    return torch.randn(count, 3, *size, generator=rng), labels


def steps(scale, amp="auto"):
    """The pair of training steps of a scale, each a function that returns its loss; ours in mixed precision `amp`."""
    kind = AMP if amp == "auto" else AMP_TYPES[amp]
    images, labels = batch(scale)
    torch.manual_seed(0)
    model, loss = make_model(SCALES[scale][0]).train(), make_loss("ce")
    usual = plain.network(SCALES[scale][0], model.state_dict()).train()
    model, own = to_device(model, "cpu", devices.fast_paths("cpu")), images.to(memory_format=torch.channels_last)
    optimizer, other = make_optimizer(model, 1e-3, fused=True), make_optimizer(usual, 1e-3)

    def ours():
        with torch.autocast("cpu", kind, enabled=kind is not None):
            grid = model.grid_logits(own)
        value = loss.total(loss.terms(grid, model.subsample(labels, grid.shape[-2:])))
        value.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return value.detach()

    return {"ours": ours, "plain": lambda: plain.train_step(usual, other, images, labels).detach()}


def passes(scale, amp="auto"):
    """The pair of inference passes of a scale on one image, each a function that returns its train ids; as `steps`."""
    images = batch(scale)[0][:1]
    torch.manual_seed(0)
    model = make_model(SCALES[scale][0]).eval()
    usual = plain.network(SCALES[scale][0], model.state_dict()).eval()
    predictor = Predictor(to_device(model, "cpu", devices.fast_paths("cpu")), devices.check_amp(amp, "cpu"))
    own = images.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def other():
        return usual.upsample(usual.grid_logits(images), images.shape[-2:]).argmax(1)

    return {"ours": lambda: predictor(own).predict(images.shape[-2:]), "plain": other}


def losses(name, size):
    """The pair of functions that return a loss and its gradient, on smooth logits and blocks of labels at `size`."""
    rng, coarse = torch.Generator().manual_seed(0), [max(2, pixels // 8) for pixels in size]
    logits = torch.nn.functional.interpolate(torch.randn(1, 19, *coarse, generator=rng) * 3, size=size, mode="bilinear")
    blocks = torch.randint(0, 19, (1, 1, *coarse), generator=rng).float()
    labels = torch.nn.functional.interpolate(blocks, size=size)[:, 0].long()
    labels[torch.rand(labels.shape, generator=rng) < 0.1] = 255
    loss = make_loss(name)

    def with_gradient(function):
        grid = logits.clone().requires_grad_()
        value = function(grid, labels)
        return value.detach(), torch.autograd.grad(value, grid)[0]

    return {
        "ours": lambda: with_gradient(lambda grid, labels: loss.terms(grid, labels)[name]),
        "plain": lambda: with_gradient(getattr(plain, name)),
    }


def city(folder, size=(1024, 2048), images=2):
    """A toy city of a few scenes as large as Cityscapes' own; returns its root."""
    toycity.write(folder / "city", images, 1, size=size)
    return folder / "city"


def loading(root, folder, size=(512, 1024)):
    """Three ways to a ready pair of tensors: from the cache, decoded by us, decoded by Pillow alone."""
    source = Cityscapes(root, "train", size)
    ready = cache.cached(root, "train", size, folder=folder / "cache", say=lambda text: None)
    mean, std = (np.array(getattr(RGB_IMAGENET, name), np.float32) for name in ("mean", "std"))
    return {
        "cache": lambda: ready[0],
        "cold": lambda: source[0],
        "plain": lambda: plain.load(source.pairs[0], size, mean, std),
    }


def evaluation(root, folder):
    """Three ways to an image's confusion matrix: "memory" as a run has its maps, labels as they were read and
    predictions int64; "files" ours and "plain" theirs.

    cityscapesScripts knows files only. The same image's labels and the labels shifted by 9 pixels as its prediction.
    """
    truth = Cityscapes(root, "train").pairs[0].label
    labels = TRAIN_ID_OF_ID[np.asarray(Image.open(truth))]
    predicted = np.roll(np.where((labels >= 0) & (labels < 19), labels, 0), 9, axis=1)
    prediction = folder / "prediction.png"
    Image.fromarray(ID_OF_TRAIN_ID[predicted].astype(np.uint8)).save(prediction)
    args = argparse.Namespace(evalInstLevelScore=False, evalPixelAccuracy=False, evalLabels=None)

    def read(file):
        return torch.from_numpy(read_labels(file))[None]

    def theirs():
        counts = official.generateMatrix(args)
        official.evaluatePair(str(prediction), str(truth), counts, {}, {}, args)
        return counts

    maps = read(truth), read(prediction).long()
    return {
        "memory": lambda: confusion_per_image(*maps)[0],
        "files": lambda: confusion_per_image(read(truth), read(prediction).long())[0],
        "plain": theirs,
    }


def scoring(size):
    """Two ways from labels and predictions of `size` to IoU by class: one count of all pairs, and class by class."""
    labels, predicted = (
        torch.randint(0, 19, (1, *size), generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)
    )
    return {
        "ours": lambda: iou(confusion_per_image(labels, predicted)[0]),
        "plain": lambda: plain.iou(labels, predicted),
    }


def official_iou(counts):
    """IoU of the 19 classes in percent from cityscapesScripts' own matrix, by its own rule."""
    args = argparse.Namespace(evalLabels=list(range(len(counts))))
    return [100 * official.getIouScoreForLabel(int(ID_OF_TRAIN_ID[c]), counts, args) for c in range(19)]


def product(n, dtype):
    """A product of two random `n` x `n` matrices: `2 n^3` operations."""
    a, b = (torch.randn(n, n).to(dtype) for _ in range(2))
    return lambda: a @ b


def rate(n, seconds):
    """Operations a second of products of size `n` that took the `seconds` of `timing.alternate`."""
    return 2 * n**3 / quartiles(seconds["wall"])["median"]


def matrix_rate(dtype):
    """The machine's matrix rate: `(operations a second, n)` of the best of three sizes of square matrices."""
    sizes = {n: product(n, dtype) for n in (1024, 2048, 4096)}
    return max((rate(n, seconds), n) for n, seconds in alternate(sizes, repeats=5).items())


def threads_of(scale):
    """Use the threads that runs of this scale use."""
    torch.set_num_threads(SCALES[scale][3] or ALL_THREADS)


ALL_THREADS = torch.get_num_threads()


def measure_network(repeats):
    """Lines for training steps, inference, and the share of the machine's matrix rate that they reach.

    The rate is measured in turn with what is held against it: a shared machine is not as fast at every minute.
    """
    devices.set_up("cpu", devices.fast_paths("cpu"))
    # A type that the processor has no instructions for is emulated, a hundred times slower: nobody trains in it.
    for kind in filter(None, (torch.float32, AMP)):
        best, n = matrix_rate(kind)
        yield figure(f"matrix rate, {str(kind).removeprefix('torch.')}", best / 1e9, "GFLOP/s")
    threads_of("demo")
    yield compared("training step, demo", alternate(steps("demo"), repeats["demo"]))
    threads_of("paper")
    operations, took = 2 * count_macs(make_model(SCALES["paper"][0]), SCALES["paper"][1]), {}
    for name, pair, factor, target, wanted in (
        ("training step, paper", steps, 3, 3.3, 65),
        ("inference, paper", passes, 1, None, 85),
    ):
        seconds = alternate(pair("paper") | {"product": product(n, kind)}, repeats["paper"])
        line = compared(name, seconds, target)
        took[pair] = line["ours"]["median"]
        yield line
        share = factor * operations / took[pair] / rate(n, seconds["product"])
        yield figure(f"{name}: share of the matrix rate", 100 * share, "%", wanted)
    yield share_that_waits(took[steps], repeats["full"])


def share_that_waits(step, repeats):
    """The line for how much of a paper `step` (seconds) is spent waiting for its image: at worst, no worker loads."""
    with tempfile.TemporaryDirectory() as folder:
        pair = loading(city(Path(folder)), Path(folder))["cache"]
        waiting = quartiles(alternate({"pair": pair}, repeats)["pair"]["wall"])["median"]
    share = 100 * waiting / (waiting + step)
    return figure("training step, paper: share that waits for data", share, "%", 2, at_most=True)


def measure_losses(repeats):
    """Lines for every loss and its gradient, on the paper's grid and at full resolution."""
    devices.set_up("cpu", devices.fast_paths("cpu"))
    for size, where in (((65, 129), "1/8 grid"), ((512, 1024), "full size")):
        for name in ("ce", "focal", "tversky", "dice", "lovasz"):
            target = {"1/8 grid": 2.0, "full size": 1.5}[where] if name == "lovasz" else None
            times = repeats["grid" if where == "1/8 grid" else "full"]
            yield compared(f"{name}, {where}", alternate(losses(name, size), times), target)


def measure_data(repeats):
    """Lines for loading one pair, and for evaluating one image."""
    devices.set_up("cpu", devices.fast_paths("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        root = city(Path(folder))
        taken = alternate(loading(root, Path(folder)), repeats["full"])
        yield compared("a pair from the cache", {"ours": taken["cache"], "plain": taken["plain"]}, 30)
        yield compared("a pair decoded", {"ours": taken["cold"], "plain": taken["plain"]})
        yield compared("IoU of an image, against a loop over classes", alternate(scoring((512, 1024)), repeats["full"]))
        taken = alternate(evaluation(root, Path(folder)), repeats["full"])
        for way, target in (("memory", 5), ("files", None)):
            name = f"evaluation of an image, maps from {way}, against cityscapesScripts"
            yield compared(name, {"ours": taken[way], "plain": taken["plain"]}, target)
