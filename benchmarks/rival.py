"""A recipe of ours against DeepLabV3+ of segmentation_models_pytorch, from scratch and at equal training time.

    pip install segmentation-models-pytorch
    python -m benchmarks.rival --data path/to/city --minutes 10 --seeds 0 1 2 --recipe ours_balanced --set preset=demo

The rival is `smp.DeepLabV3Plus` on a ResNet-50 with smp's Dice + cross-entropy, trained by a plain loop. Both sides
have the same images from the same cache, input size, normalisation, batch size, mixed precision, memory layout, one
thread, and validation after every epoch on the same pixels; the last epoch counts. Each is timed for two epochs and
gets as many as fit into the same time, over which its learning rate decays. Both are tuned alike: four trials
(`TRIALS`) on the first seed for a quarter of the time, of which the best by validation mIoU is trained with every seed.
On a CPU, time is the processor's. Running the command again continues: finished trainings are kept.
"""

import sys
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from benchmarks.beyond import Stopwatch, command_line, epochs_within, notes
from deeplab_lib.analysis.statistics import MEASURES, MIOU, Bootstrap, difference, ratios_of
from deeplab_lib.common import devices
from deeplab_lib.common.errors import RunStopped
from deeplab_lib.common.files import write_json, write_npz
from deeplab_lib.config import Config
from deeplab_lib.data.dataset import prepare_data
from deeplab_lib.data.normalization import RGB_IMAGENET
from deeplab_lib.labels import IGNORE_INDEX, NUM_CLASSES
from deeplab_lib.metrics import iou, mean_iou
from deeplab_lib.training.evaluate import evaluate
from deeplab_lib.training.loop import fit, silent
from deeplab_lib.training.optimizer import MOMENTUM, WEIGHT_DECAY

TUNING_SHARE = 0.25  # of a run's time, for a trial
# ours: times the recipe's own learning rate. rival: optimiser and its learning rate.
TRIALS = {"ours": (0.3, 1, 2, 4), "rival": (("sgd", 0.01), ("sgd", 0.1), ("adam", 3e-4), ("adam", 1e-3))}


def library():
    """The module `segmentation_models_pytorch`; ValueError where it is not installed."""
    try:
        import segmentation_models_pytorch  # not at the top: only this comparison needs it
    except ImportError:
        name = "segmentation_models_pytorch"
        raise ValueError(f"the rival is {name}'s: pip install {name.replace('_', '-')}") from None
    return segmentation_models_pytorch


# -- the rival -----------------------------------------------------------------------------------------------------


def train_rival(config, optimizer, lr, callback=silent):
    """Train smp's DeepLabV3+ on the data and with the size, batches, epochs, seed and precision of `config`.

    Returns the last epoch's confusion matrices of the validation images `(N, C, C)`.
    """
    smp, data = library(), prepare_data(config, RGB_IMAGENET)
    devices.set_up(config.device, config.fast_paths)
    torch.manual_seed(config.seed)
    network = smp.DeepLabV3Plus(encoder_name="resnet50", encoder_weights=None, classes=NUM_CLASSES)
    network.to(config.device, memory_format=torch.channels_last)
    dice = smp.losses.DiceLoss("multiclass", ignore_index=IGNORE_INDEX)
    ce = nn.CrossEntropyLoss(ignore_index=IGNORE_INDEX)
    batches = torch.utils.data.DataLoader(data.train, config.batch_size, shuffle=True, drop_last=True)
    optimizer = make_optimizer(optimizer, network, lr)
    decay = torch.optim.lr_scheduler.PolynomialLR(optimizer, config.epochs * len(batches), power=0.9)
    for _ in range(config.epochs):
        network.train()
        for images, labels in batches:
            optimizer.zero_grad()
            logits, labels = logits_of(network, images, config).float(), labels.to(config.device)
            (dice(logits, labels) + ce(logits, labels)).backward()
            optimizer.step()
            decay.step()
        confusion = validate(network, data.val, config)
        callback("epoch", None)
    return confusion


def make_optimizer(name, network, lr):
    """SGD as ours has it, or Adam, over all of the rival's parameters."""
    if name == "adam":
        return torch.optim.Adam(network.parameters(), lr)
    return torch.optim.SGD(network.parameters(), lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


def logits_of(network, images, config):
    """Logits `(N, C, H, W)` of `images (N, 3, H, W)` in the precision of `config`."""
    with devices.autocast(config.device, config.amp):
        return network(images.to(config.device, memory_format=torch.channels_last))


class Answer(NamedTuple):
    """Logits `(N, C, H, W)` at the labels' size, as the evaluation asks for them."""

    logits: torch.Tensor

    def predict(self, size):
        """Train ids `(N, H, W)`."""
        return self.logits.max(1).indices


def validate(network, dataset, config):
    """Confusion matrices `(N, C, C)` of a data set's images at the input size, by the kit's own evaluation."""
    network.eval()
    batches = torch.utils.data.DataLoader(dataset, config.batch_size)
    found = evaluate(
        lambda images: Answer(logits_of(network, images, config)),
        ((range(len(images)), images, labels.to(config.device)) for images, labels in batches),
    )
    return np.concatenate([result["confusion"].numpy() for result in found])


# -- what a side does ----------------------------------------------------------------------------------------------


class Ours:
    """The recipe in the kit's own training; a setting is a factor of its learning rate."""

    name = "ours"

    def __init__(self, parameters, folder):
        self.parameters, self.folder = parameters, folder

    def epochs_within(self, seconds):
        """How many epochs fit into `seconds`."""
        return epochs_within(seconds, self.parameters, self.folder)

    def train(self, factor, seed, epochs):
        """Path of the validation images' results, from disk if the training is finished already."""
        parameters = self.parameters | {"seed": seed, "epochs": epochs, "out_dir": str(self.folder)}
        return fit(Config(**parameters, lr=factor * Config(**parameters).lr)).npz


class Rival(Ours):
    """smp's network in the plain loop; a setting is optimiser and learning rate."""

    name = "rival"

    def epochs_within(self, seconds):
        config = Config(**self.parameters, epochs=3)
        callback = Stopwatch(config.device)
        train_rival(config, *TRIALS[self.name][0], callback)
        return callback.epochs_within(seconds)

    def train(self, setting, seed, epochs):
        path = self.folder / f"rival_{setting[0]}{setting[1]:g}_epochs{epochs}_seed{seed}.npz"
        if not path.exists():
            config = Config(**self.parameters, seed=seed, epochs=epochs)
            names = [pair.name for pair in prepare_data(config, RGB_IMAGENET).val.pairs]
            write_npz(path, names=np.array(names), confusion=train_rival(config, *setting))
        return path


def loaded(path, method):
    """Results on disk as `ratios_of` takes them: one run of `method`."""
    with np.load(path) as stored:
        return SimpleNamespace(path=path, method=method, arrays={key: stored[key] for key in ("names", "confusion")})


# -- the comparison ------------------------------------------------------------------------------------------------


def tune(side, seconds, seed, known, keep):
    """The side's best setting and its epochs in `seconds`; `known` holds what has been found, `keep()` saves it."""
    if "epochs" not in known:
        known["epochs"] = side.epochs_within(seconds)
        keep()
    trials, short = known.setdefault("trials", {}), max(1, round(TUNING_SHARE * known["epochs"]))
    for setting in TRIALS[side.name]:
        if str(setting) not in trials:
            trials[str(setting)] = trial(side, setting, seed, short)
            keep()
            print(f"{side.name}: {setting}, {short} epochs: {trials[str(setting)]:.2f} % mIoU", flush=True)
    return max(TRIALS[side.name], key=lambda setting: trials[str(setting)]), known["epochs"]


def trial(side, setting, seed, epochs):
    """Validation mIoU of a setting in percent; -1 where its training breaks down."""
    try:
        confusion = loaded(side.train(setting, seed, epochs), side.name).arrays["confusion"]
    except RunStopped as stopped:
        if "not finite" not in str(stopped):
            raise
        return -1.0
    return float(mean_iou(iou(confusion.sum(0))))


def verdict_lines(runs, chosen):
    """The result in words: both levels, the paired interval of their difference. chosen: {side: (setting, epochs)}."""
    bootstrap = Bootstrap(ratios_of(runs), {MIOU: MEASURES[MIOU]})
    for name, level in bootstrap.levels().items():
        yield f"{name}: {level:.2f} % mIoU (setting {chosen[name][0]}, {chosen[name][1]} epochs)"
    gain = bootstrap.interval({"gain": difference("ours", "rival")}).loc["gain"]
    verdict = "above" if gain.low > 0 else "below" if gain.high < 0 else "not distinguishable from"
    yield (
        f"ours is {verdict} the rival: {gain.estimate:+.2f} points, 95 % interval {gain.low:+.2f} to {gain.high:+.2f} "
        f"({len(runs) // 2} seeds and {len(TRIALS['ours'])} tuning trials each)"
    )


def main(arguments=None):
    given, common = command_line("rival", __doc__.splitlines()[0], arguments, recipe="ours_balanced")
    library()
    parameters, path = common | {"loss": given.recipe, "pretrained": "none"}, given.out / "rival.json"
    if Config(**parameters).amp == "fp16":
        raise ValueError("the rival's loop does not scale its loss, as fp16 needs; --set amp=off or bf16")
    known = notes(path, {"minutes": given.minutes, "parameters": parameters})
    sides = [kind(parameters, given.out) for kind in (Ours, Rival)]
    chosen, runs = {}, []
    for side in sides:
        mine = known.setdefault(side.name, {})
        chosen[side.name] = tune(side, 60 * given.minutes, given.seeds[0], mine, lambda: write_json(path, known))
    for seed in given.seeds:
        for side in sides:
            setting, epochs = chosen[side.name]
            runs.append(loaded(side.train(setting, seed, epochs), side.name))
            print(f"{side.name}, seed {seed}: done", flush=True)
    print(*verdict_lines(runs, chosen), sep="\n")


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(str(error))
