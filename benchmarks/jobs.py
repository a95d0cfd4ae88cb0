"""Whole processes: their peak memory, where a demo run spends its time, how cost grows with images and epochs, and
whether what the kit chooses by itself changes what a run reaches."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import numpy as np

from benchmarks.timing import figure, sign_flip_p


def child(*words, **environment):
    """The JSON object that a process of this module prints last; `words` choose what it does."""
    command = [sys.executable, "-m", "benchmarks.jobs", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def peak_mb():
    """Peak memory of this process so far, in MB."""
    from deeplab_lib.common.devices import peak_memory_mb

    return peak_memory_mb("cpu")


def memory_of_step(side, amp="auto", scale="paper"):
    """Two training steps of one side, ours in the mixed precision `amp`: peak memory."""
    from benchmarks import lines
    from deeplab_lib.common import devices

    if side == "ours":
        devices.set_up("cpu", devices.fast_paths("cpu"))
    lines.threads_of(scale)
    loaded = peak_mb()
    step = lines.steps(scale, amp).pop(side)
    for _ in range(2):
        step()
    return {"peak_MB": peak_mb(), "loaded_MB": loaded}


def train(folder, images, epochs, preset):
    """A run on `images` scenes for `epochs`: processor seconds in all and by part, and peak memory."""
    begun = time.process_time()
    import torch

    from deeplab_lib import toycity
    from deeplab_lib.config import Config
    from deeplab_lib.plotting import live
    from deeplab_lib.recipes import PRESETS
    from deeplab_lib.training import loop as training
    from deeplab_lib.training import optimizer, trainer

    torch.set_num_threads(1)
    parts, size = defaultdict(float), PRESETS[preset].toycity_size
    parts["start-up (imports)"] = time.process_time() - begun

    def timed(part, owner, name):
        function = getattr(owner, name)

        def wrapper(*args, **kwargs):
            start, inside = time.process_time(), sum(parts.values())
            try:
                return function(*args, **kwargs)
            finally:  # what a part calls that is timed itself counts there alone
                parts[part] += time.process_time() - start - (sum(parts.values()) - inside)

        setattr(owner, name, wrapper)

    timed("data (toy city, cache)", toycity, "write")
    timed("data (toy city, cache)", training, "prepare_data")
    timed("forward", trainer.Trainer, "grid_logits")
    timed("loss", trainer.WeightedLoss, "terms")
    timed("backward", torch.Tensor, "backward")
    timed("optimiser", optimizer.SGD, "step")
    timed("evaluation", training, "evaluate_run")
    timed("plotting", live.Live, "_draw")
    timed("files", training, "save")
    timed("files", training, "summarize")
    root = Path(folder) / f"city{images}"
    toycity.write(root, int(images), 8 if preset == "smoke" else 40, size=size)
    start = time.process_time()
    training.fit(
        Config("ce", data=root, preset=preset, epochs=int(epochs), out_dir=Path(folder) / f"{images}-{epochs}")
    )
    seconds = time.process_time() - start
    parts["everything else in the loop"] = time.process_time() - begun - sum(parts.values())
    return {
        "seconds": seconds,
        "parts": parts,
        "peak_MB": peak_mb(),
    }


def pair_of_runs(folder, seed, epochs):
    """Validation mIoU in percent of a smoke run on the city in `folder`: all automatic choices, and none of them.

    The choices include bf16, also where no hardware has it and `auto` would stay with float32.
    """
    import torch

    from deeplab_lib.config import Config
    from deeplab_lib.training.loop import fit

    torch.set_num_threads(1)
    common = {"loss": "ce", "data": Path(folder) / "city", "preset": "smoke", "seed": int(seed), "epochs": int(epochs)}
    common |= {"image_height": 64, "image_width": 128, "batch_size": 4, "workers": 0}
    sides = {"chosen": {"amp": "bf16"}, "none": {"amp": "off", "fast": False}}
    summaries = {
        side: fit(Config(**common, **parameters, out_dir=Path(folder) / side)).json.read_text()
        for side, parameters in sides.items()
    }
    return {side: json.loads(text)["final"]["val_mIoU"] for side, text in summaries.items()}


def measure_choices(seeds, epochs):
    """Lines for what the automatic choices do to mIoU, over `seeds` pairs of runs that differ in nothing else."""
    from deeplab_lib import toycity

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        toycity.write(Path(folder) / "city", 80, 60, size=(64, 128))
        run = lambda seed: child("pair_of_runs", folder, seed, epochs, DEEPLAB_CACHE=folder)  # noqa: E731
        pairs = list(pool.map(run, range(seeds)))
    chosen, none = (np.array([pair[side] for pair in pairs]) for side in ("chosen", "none"))
    moved, about = chosen - none, {"pairs": pairs, "spread_of_seeds": float(none.std(ddof=1))}
    about["standard_error"] = float(moved.std(ddof=1) / np.sqrt(seeds))
    name = f"mIoU with the automatic choices less without, {seeds} seeds"
    yield figure(f"{name}: mean", float(moved.mean()), "points", **about)
    yield figure(f"{name}: p", sign_flip_p(moved), "", 0.05)


def measure_memory():
    """Lines for the peak memory of a training step at paper scale.

    bf16 is measured also where the processor only emulates it: that takes a minute a step, and the same memory.
    """
    import torch

    from deeplab_lib.common.devices import best_amp

    best = best_amp("cpu")
    kinds = {"float32" if best == "off" else best: "auto"}
    if best == "off" and torch.backends.cpu.get_cpu_capability() == "AVX512":  # below it not even emulated
        kinds["bf16, emulated"] = "bf16"
    plain = child("memory_of_step", "plain")
    for kind, amp in kinds.items():
        sides = {"ours": child("memory_of_step", "ours", amp), "plain": plain}
        whole = {side: found["peak_MB"] for side, found in sides.items()}
        above = {side: found["peak_MB"] - found["loaded_MB"] for side, found in sides.items()}
        for name, peaks, target in (("process", whole, 55), ("less Python and PyTorch loaded", above, None)):
            share = 100 * peaks["ours"] / peaks["plain"]
            name = f"memory of a paper step, {kind}: {name}"
            yield figure(name, share, "% of plain", target, at_most=True, peak_MB=peaks)


def measure_split(epochs):
    """Lines for where the processor time of one demo run goes."""
    with tempfile.TemporaryDirectory() as folder:
        parts = child("train", folder, 320, epochs, "demo", DEEPLAB_CACHE=folder)["parts"]
    for part, seconds in parts.items():
        yield figure(f"demo run of {epochs} epochs: {part}", seconds, "CPU s", share=seconds / sum(parts.values()))


def measure_job(**settings):
    """Lines for the whole job, which is `make report` after set-up: toy city, eight runs, costs, analysis, report.

    settings: of `workflow/config.yaml`. Runs side by side count once, as if they kept their cores busy to the end.
    """
    from deeplab_lib.common.files import project_root
    from deeplab_lib.config import Config
    from deeplab_lib.study import planning

    with tempfile.TemporaryDirectory() as folder:
        places = {"runs": f"{folder}/runs", "report": f"{folder}/report"}
        given = [f"{name}={json.dumps(value)}" for name, value in (settings | places).items()]
        command = [sys.executable, "-m", "snakemake", "--snakefile", "workflow/Snakefile", "--config", *given]
        environment = os.environ | {"DEEPLAB_DATA": folder, "DEEPLAB_CACHE": folder, "CITYSCAPES_DATASET": ""}
        begun = time.time()
        done = subprocess.run(command, cwd=project_root(), capture_output=True, text=True, env=environment)
        ended = time.time()
        if done.returncode:
            raise RuntimeError(f"the job failed: {done.stdout.strip()[-500:]}")
        runs = [json.loads(path.read_text()) for path in Path(folder, "runs").glob("DeepLab*.json")]
        notebooks = {path.stem: executed(path) for path in Path(folder, "runs").glob("*.ipynb")}
    report_from, report_to = notebooks.pop("analysis")
    first, last = (pick(times) for pick, times in zip((min, max), zip(*notebooks.values(), strict=True), strict=True))
    lanes, _ = planning.side_by_side(len(runs), Config(preset=runs[0]["config"]["preset"]), os.cpu_count())
    training = sum(run["wall_time_s"] for run in runs) / lanes
    parts = {
        "before the first run": first - begun,
        "in the runs": last - first - training,
        "costs of the networks": report_from - last,
        "analysis": report_to - report_from,
        "HTML and PDF": ended - report_to,
    }
    yield figure("the job", ended - begun, "s", 480, at_most=True, training_and_evaluation=training)
    yield figure("the job: beside training and evaluation", sum(parts.values()), "s", 90, at_most=True)
    for part, seconds in parts.items():
        yield figure(f"the job: beside them, {part}", seconds, "s")


def executed(notebook):
    """When the execution of a notebook began and ended, in seconds since 1970."""
    about = json.loads(notebook.read_text(encoding="utf-8"))["metadata"]["papermill"]
    return tuple(datetime.fromisoformat(about[name]).timestamp() for name in ("start_time", "end_time"))


def measure_growth(unit, repeats):
    """Lines for cost and memory at one, two and four times the images and the epochs, in multiples of the first.

    Each is run `repeats` times, in turn, and the least is taken: what a shared machine does to processor seconds only
    ever adds to them, and differences of differences would show little else.
    """
    for name in ("images", "epochs"):
        runs = {1: [], 2: [], 4: []}
        for _ in range(repeats):
            for times, found in runs.items():
                images, epochs = (unit * times, 4) if name == "images" else (unit, 4 * times)
                # Each its own folder, city and cache: what is found finished costs nothing.
                with tempfile.TemporaryDirectory() as folder:
                    found.append(child("train", folder, images, epochs, "smoke", DEEPLAB_CACHE=folder))
        seconds, peaks = (
            {times: min(run[what] for run in found) for times, found in runs.items()} for what in ("seconds", "peak_MB")
        )
        # From 1x to 2x and from 2x to 4x: what one unit more costs, free of the fixed cost.
        slopes = seconds[2] - seconds[1], (seconds[4] - seconds[2]) / 2
        yield figure(f"cost of more {name}: second doubling over first", slopes[1] / slopes[0], "x", seconds=seconds)
        yield figure(f"memory at 4x the {name} over 1x", peaks[4] / peaks[1], "x", 1.05, at_most=True, peak_MB=peaks)


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
