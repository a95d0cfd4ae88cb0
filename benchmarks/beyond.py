"""What each change beyond the study is worth at equal training time: one at a time, and together.

    python -m benchmarks.beyond --data path/to/city --minutes 5 --seeds 0 1 2 --set preset=demo

Every variant is first timed for two epochs and then gets as many epochs as fit into the same time; its learning rate
decays over just these. On a CPU, time is the processor's, so that whatever else the machine does enters no result.
Running the command again continues; the table is printed at the end and can be had again from the runs' folder.
"""

import argparse
import sys
import time
from pathlib import Path

import torch

from deeplab_lib.analysis.beyond import ablation
from deeplab_lib.common.files import read_json, write_json
from deeplab_lib.config import Config
from deeplab_lib.recipes import EXTRA_RECIPES
from deeplab_lib.study.results import read_runs
from deeplab_lib.training.loop import fit

VARIANTS = {
    "the study's CE": {"loss": "ce"},
    "class weights": {"loss": "median_ce"},
    "coarser grid": {"loss": "ce", "output_stride": 16},
    "finer labels": {"loss": "ce", "label_stride": 4},
    "averaged weights": {"loss": "ce", "ema": 0.98},
    "mirrored images": {"loss": "ce", "augment": "flip", "tta": "flip"},
    "augmentation": {"loss": "ce", "augment": "standard"},
    "ours_balanced": {"loss": "ours_balanced"},
    "ours_mirrored": {"loss": "ours_mirrored"},
    "ours_mirrored without Tversky": EXTRA_RECIPES["ours_mirrored"].parameters | {"loss": "ce"},
}


class Stopwatch:
    """A `callback` for `fit` that takes the time of every epoch, the first left out: a CPU's own, or the clock's."""

    def __init__(self, device):
        self.clock, self.marks = time.process_time if device == "cpu" else time.monotonic, []

    def __call__(self, event, run):
        if event == "epoch":
            self.marks.append(self.clock())

    @property
    def seconds(self):
        """Seconds of the fastest epoch."""
        return min(late - early for early, late in zip(self.marks, self.marks[1:], strict=False))

    def epochs_within(self, seconds):
        """How many such epochs fit into `seconds`."""
        return max(1, round(seconds / self.seconds))


def epochs_within(seconds, parameters, folder):
    """How many epochs of a run with `parameters` fit into `seconds`, from two timed ones."""
    config = Config(**parameters, epochs=3, out_dir=str(folder / "timing"), resume=False)
    callback = Stopwatch(config.device)
    fit(config, callback=callback)
    return callback.epochs_within(seconds)


def command_line(name, description, arguments=None, **further):
    """What a comparison at equal time is given, and the parameters that all its runs share: `(given, common)`.

    further: {name: default} of options that only this comparison has. Raises ValueError for a parameter that is
    not to be set for all runs.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument("--data", help="Cityscapes root; without it the toy city")
    parser.add_argument("--out", type=Path, default=Path(f"runs/{name}"), help="folder of the runs")
    parser.add_argument("--minutes", type=float, default=5, help="training time of each run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="further parameters, for every run")
    for option, default in further.items():
        parser.add_argument(f"--{option}", default=default, help=f"default: {default}")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    common = dict(pair.partition("=")[::2] for pair in given.set)
    if fixed := sorted({"data", "epochs", "loss", "lr", "out_dir", "seed"} & set(common)):
        raise ValueError(f"--set {fixed[0]}: the comparison itself decides on {fixed[0]}")
    return given, {"data": given.data, "workers": 0} | common


def notes(path, asked):
    """What a comparison has written down at `path`, if anything; ValueError when it was asked otherwise."""
    known = read_json(path) or {"asked": asked}
    if known["asked"] != asked:
        raise ValueError(f"{path} is of another comparison, {known['asked']}; give another --out")
    return known


def main(arguments=None):
    given, common = command_line("beyond", __doc__.splitlines()[0], arguments, variants=",".join(VARIANTS))
    variants = {variant: VARIANTS.get(variant) for variant in given.variants.split(",")}
    if unknown := [variant for variant, parameters in variants.items() if parameters is None]:
        raise ValueError(f"no variant {unknown[0]!r}; variants: {', '.join(VARIANTS)}")
    path = given.out / "beyond.json"
    known = notes(path, {"minutes": given.minutes, "parameters": common})
    epochs = known.setdefault("epochs", {})
    for variant, parameters in variants.items():
        if variant not in epochs:
            epochs[variant] = epochs_within(60 * given.minutes, common | parameters, given.out)
            write_json(path, known)
            print(f"{variant}: {epochs[variant]} epochs in {given.minutes:g} minutes", flush=True)
    for seed in given.seeds:
        for variant, parameters in variants.items():
            fit(Config(**common, **parameters, seed=seed, epochs=epochs[variant], out_dir=str(given.out)))
            print(f"{variant}, seed {seed}: done", flush=True)
    print(ablation(read_runs(given.out)).round(2).to_string())


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(str(error))
