"""The first day on a GPU, as one command: are its numbers right, how fast is it, how long would the study take?

`python -m deeplab_lib.study.gpu_check --minutes 8`, behind `make gpu-check`, works on a toy city at 1024x512 that it
draws itself: no data set, no network. It prints a table and writes one JSON to send. Exit status: 0 all right, 1 a
number is wrong, 2 no GPU.
"""

import argparse
import contextlib
import csv
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from deeplab_lib import toycity
from deeplab_lib.common import devices
from deeplab_lib.common.devices import AMP_TYPES
from deeplab_lib.common.errors import RunStopped
from deeplab_lib.common.files import read_json, write_json
from deeplab_lib.common.text import duration
from deeplab_lib.config import Config
from deeplab_lib.data.cityscapes import Cityscapes
from deeplab_lib.losses import make_loss
from deeplab_lib.models import efficiency
from deeplab_lib.models.folding import folded
from deeplab_lib.models.network import SegmentationNetwork
from deeplab_lib.models.placement import to_device
from deeplab_lib.models.registry import make_model
from deeplab_lib.recipes import PRESETS, RECIPES
from deeplab_lib.training import record
from deeplab_lib.training.loop import fit
from deeplab_lib.training.optimizer import make_optimizer
from deeplab_lib.training.trainer import Event, Trainer

SCENES, VALIDATED, EPOCHS = 75, 8, 2  # 25 steps an epoch at the paper's batch of 3: 50 steps a run
CHANGING = ("ce_lovasz_warmup", "ce_focal", "ce_lovasz_dice")  # the recipes with changes on the way
CITYSCAPES = (2975, 500)  # images to train and to validate on
# Largest relative errors (of the logits' norm, the loss, the gradient's norm) that rounding explains. float32 on two
# devices adds up in other orders, through a hundred layers; bf16 keeps 8 bits of a number, fp16 11.
FLOAT32 = {"logits": 1e-3, "loss": 1e-3, "gradient": 2e-2}
MIXED = {
    "bf16": {"logits": 6e-2, "loss": 3e-2, "gradient": 0.5},
    "fp16": {"logits": 1e-2, "loss": 5e-3, "gradient": 0.2},
}


@dataclass(frozen=True)
class Check:
    """One line of the table. `right` is None for what has no bound; `skipped` says why nothing was measured."""

    name: str
    value: float | None = None
    unit: str = ""
    bound: float | None = None
    right: bool | None = None
    skipped: str = ""
    remark: str = ""

    @property
    def verdict(self) -> str:
        """What the last column says."""
        if self.skipped:
            return f"skipped: {self.skipped}"
        return {None: "", True: "reached", False: "MISSED"}[self.right]

    def line(self) -> str:
        """The check as a line of text."""
        value = "" if self.value is None else f"{self.value:.4g} {self.unit}".strip()
        bound = "" if self.bound is None else f"<= {self.bound:g}"
        return f"{self.name:56} {value:>24} {bound:>9}  {self.verdict}{self.remark and f'  ({self.remark})'}".rstrip()


@dataclass(frozen=True)
class Setting:
    """What is checked where: device, image size (H, W), network, and the toy city's folder."""

    device: str
    size: tuple[int, int]
    model: str
    city: Path
    deadline: float
    budget: float  # seconds for a figure of speed

    @property
    def runs(self) -> Path:
        """Where the short runs leave their files."""
        return self.city.parent / "runs"

    def config(self, loss: str, **parameters: Any) -> Config:
        """A short run of `loss` at this size, `EPOCHS` long."""
        height, width = self.size
        given: dict[str, Any] = {"data": str(self.city), "out_dir": str(self.runs), "preset": "paper"}
        given |= {"epochs": EPOCHS, "model": self.model, "pretrained": "none"}
        given |= {"image_height": height, "image_width": width, "device": self.device}
        return Config(loss, **given | parameters)

    def seconds_left(self) -> float:
        """Seconds until the time that was given is used up."""
        return self.deadline - time.monotonic()


# --- numbers ---------------------------------------------------------------------------------------------------------


def relative_error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Norm of the difference over the norm of `wanted`; infinite where `found` is not finite."""
    found, wanted = found.double().cpu(), wanted.double().cpu()
    error = ((found - wanted).norm() / wanted.norm()).item()
    return error if math.isfinite(error) else math.inf


def batch(setting: Setting, count: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """The first `count` scenes: images `(N, 3, H, W)` and labels `(N, H, W)` int64."""
    images, labels = zip(*(Cityscapes(setting.city, "train", setting.size)[i] for i in range(count)), strict=True)
    return torch.stack(images), torch.stack(labels)


def network(setting: Setting, device: str) -> SegmentationNetwork:
    """The network with the weights that it always starts from here, made fast for `device`, in training mode."""
    torch.manual_seed(0)
    return to_device(make_model(setting.model), torch.device(device), devices.fast_paths(device)).train()


def results(setting: Setting, device: str, amp: str) -> dict[str, torch.Tensor]:
    """One training pass: grid logits, the five losses on them, and the gradient of their sum, all on the CPU."""
    images, labels = batch(setting)
    model = network(setting, device)
    devices.set_up(device, devices.fast_paths(device, disable=("tf32",)))
    images = images.to(device, memory_format=devices.memory_format(devices.fast_paths(device)))
    with devices.autocast(device, amp):
        logits = model.grid_logits(images).float()
    loss = make_loss("ce + focal + tversky + dice + lovasz")
    terms = loss.terms(logits, model.subsample(labels.to(device), logits.shape[-2:]))
    loss.total(terms).backward()
    gradient = torch.cat([p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None])
    return {"logits": logits.detach().cpu(), "gradient": gradient} | {n: t.detach().cpu() for n, t in terms.items()}


def compared(name: str, found: dict, wanted: dict, bounds: dict[str, float]) -> Iterator[Check]:
    """The relative errors of `found` against `wanted`, a line for logits, each loss, and the gradient."""
    for part in wanted:
        bound = bounds.get(part, bounds["loss"])
        error = relative_error(found[part], wanted[part])
        yield Check(f"{name}: {part}", error, "relative", bound, error <= bound)


def check_numbers(setting: Setting) -> Iterator[Check]:
    """float32 on the device against the CPU's, then mixed precisions against float32 on the device."""
    reference = results(setting, "cpu", "off")
    own = results(setting, setting.device, "off")
    yield from compared("float32 against the CPU", own, reference, FLOAT32)
    for amp, bounds in MIXED.items():
        if setting.device == "cpu" and amp == "fp16":
            yield Check("fp16 against float32", skipped="a CPU takes minutes for its gradient")
        elif setting.device.startswith("cuda") and amp == "bf16" and devices.best_amp(setting.device) == "fp16":
            yield Check("bf16 against float32", skipped="this GPU is too old for bf16")
        else:
            yield from compared(f"{amp} against float32", results(setting, setting.device, amp), own, bounds)


# --- runs ------------------------------------------------------------------------------------------------------------


def rows(config: Config) -> list[dict[str, str]]:
    """The rows of a run's CSV without what depends on time and memory."""
    with open(Path(config.out_dir) / f"{config.stem}.csv", newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in ("Runtime", "images_per_s", "peak_memory_MB")} for row in found]


class StopAfter:
    """A callback that interrupts a run after `epoch`, as the stop button does."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def __call__(self, event: Event, trainer: Trainer, /) -> None:
        if event == "epoch" and len(trainer.state.history) == self.epoch:
            signal.raise_signal(signal.SIGINT)


class KillAt:
    """A callback that kills its own process at optimiser step `step` (counted in this process)."""

    def __init__(self, step: int) -> None:
        self.step, self.seen = step, 0

    def __call__(self, event: Event, trainer: Trainer, /) -> None:
        self.seen += event == "step"
        if self.seen == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def moved(setting: Setting, first: str, then: str) -> Check:
    """A run begun on the device `first` and continued on `then`: whole, its first epoch untouched."""
    name, folder = f"run begun on {first}, continued on {then}", setting.runs / f"{first}-{then}".replace(":", "")
    config = partial(setting.config, "ce", out_dir=str(folder), model="deeplabv2_micro", amp="off")
    with contextlib.suppress(RunStopped):
        fit(config(device=first), callback=StopAfter(1))
    before = rows(config(device=first))
    fit(config(device=then))
    after = rows(config(device=then))
    right = after[: len(before)] == before and len(after) == EPOCHS
    right &= all(math.isfinite(float(row["train_loss"])) for row in after)
    return Check(name, float(len(after)), "epochs", right=right)


def repeated(setting: Setting) -> Check:
    """Two deterministic runs of one configuration: equal to the last bit."""
    found = []
    for number in (1, 2):
        config = setting.config("ce", deterministic=True, out_dir=str(setting.runs / f"deterministic{number}"))
        fit(config)
        found.append(rows(config))
    return Check("deterministic=True, twice: rows that differ", _differing(*found), "", 0, found[0] == found[1])


def killed(setting: Setting) -> Check:
    """A deterministic run killed in its second epoch and continued, against the one of `repeated` left alone."""
    alone = rows(setting.config("ce", deterministic=True, out_dir=str(setting.runs / "deterministic1")))
    config = setting.config("ce", deterministic=True, out_dir=str(setting.runs / "killed"))
    steps = SCENES // config.batch_size
    process = multiprocessing.get_context("spawn").Process(
        target=fit, args=(config,), kwargs={"callback": KillAt(steps + steps // 2)}
    )
    process.start()
    process.join()
    if process.exitcode != -signal.SIGKILL:
        return Check("killed and continued", right=False, remark=f"the run ended by itself, status {process.exitcode}")
    fit(config)
    again = rows(config)
    return Check("killed and continued: rows that differ", _differing(alone, again), "", 0, alone == again)


def _differing(one: list, other: list) -> float:
    return float(sum(a != b for a, b in zip(one, other, strict=False)) + abs(len(one) - len(other)))


def check_runs(setting: Setting) -> Iterator[Check]:
    """Short runs: repeated, killed, moved between CPU and device, then as many recipes as the time allows."""
    yield repeated(setting)
    yield killed(setting)
    if setting.device == "cpu":
        yield Check("run continued on another device", skipped="the device is the CPU")
    else:
        yield moved(setting, "cpu", setting.device)
        yield moved(setting, setting.device, "cpu")
    taken = 0.0
    for number, key in enumerate([*CHANGING, *(key for key in RECIPES if key not in CHANGING)]):
        name = f"recipe {key}: training loss, last epoch"
        if number and setting.seconds_left() < taken:
            yield Check(name, skipped="the time was used up")
            continue
        begun, config = time.monotonic(), setting.config(key)
        fit(config)
        taken = time.monotonic() - begun
        last = rows(config)[-1]
        finite = math.isfinite(float(last["train_loss"])) and math.isfinite(float(last["val_mIoU"]))
        steps = EPOCHS * (SCENES // config.batch_size)
        yield Check(name, float(last["train_loss"]), "", right=finite, remark=f"{steps} steps, {duration(taken)}")


def check_two_devices(setting: Setting) -> Iterator[Check]:
    """One run on one device and the same on two: NCCL, SyncBatchNorm, equal but for rounding."""
    name = "two GPUs against one: training loss"
    if not setting.device.startswith("cuda") or torch.cuda.device_count() < 2:
        yield Check(name, skipped=f"{max(torch.cuda.device_count(), 0)} GPU(s) here")
        return
    found = []
    for gpus in (1, 2):
        options = {"amp": "off", "batch_size": 4, "device": "cuda", "out_dir": str(setting.runs / f"gpus{gpus}")}
        config = setting.config("ce_dice", gpus=gpus, **options)
        fit(config)
        found.append(float(rows(config)[0]["train_loss"]))
    error = abs(found[1] - found[0]) / abs(found[0])
    yield Check(name, error, "relative", 1e-3, error <= 1e-3)


# --- speed -----------------------------------------------------------------------------------------------------------


def seconds_of(run: Callable[[], object], device: str, budget: float) -> float:
    """Median seconds of one call of `run`, after a warm-up, within about `budget` seconds."""
    wait = devices.synchronizer(device)
    durations, begun = [], time.monotonic()
    for number in range(53):
        start = time.perf_counter()
        run()
        wait()
        if number >= 3 or budget < time.monotonic() - begun:
            durations.append(time.perf_counter() - start)
        if durations and time.monotonic() - begun > budget:
            break
    return sorted(durations)[len(durations) // 2]


def matrix_rate(device: str, amp: str, budget: float) -> float:
    """Multiply-adds a second of a large matrix product: what the device reaches at best in this precision."""
    side = 8192 if device != "cpu" else 1024
    a = torch.randn(side, side, device=device, dtype=AMP_TYPES.get(amp, torch.float32))
    with torch.no_grad():
        return side**3 / seconds_of(lambda: a @ a, device, budget)


def training_step(setting: Setting, amp: str, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], object]:
    """A training step as a run makes it: mixed precision, cross-entropy on the grid, SGD."""
    model = network(setting, setting.device)
    optimizer, loss = make_optimizer(model, 1e-3, fused=setting.device != "mps"), make_loss("ce")
    scaler = torch.amp.GradScaler(torch.device(setting.device).type, enabled=amp == "fp16")

    def step() -> None:
        with devices.autocast(setting.device, amp):
            logits = model.grid_logits(images).float()
        value = loss.total(loss.terms(logits, model.subsample(labels, logits.shape[-2:])))
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)

    return step


def plain_step(setting: Setting, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], object] | None:
    """The step of the benchmarks' plain baseline in float32; None where the benchmarks do not lie beside the kit."""
    try:
        from benchmarks import plain
    except ImportError:
        return None
    torch.manual_seed(0)
    state = make_model(setting.model).state_dict()
    model = plain.network(setting.model, state).to(setting.device).train()
    images = images.contiguous(memory_format=torch.contiguous_format)
    return partial(plain.train_step, model, make_optimizer(model, 1e-3), images, labels)


def check_speed(setting: Setting) -> Iterator[Check]:
    """Training step and inference per precision, with peak memory and share of the matrix rate; the plain baseline."""
    device, size = setting.device, PRESETS["paper"].batch_size
    devices.set_up(device, devices.fast_paths(device))
    stored = devices.memory_format(devices.fast_paths(device))
    images, labels = batch(setting, size)
    images, labels = images.to(device, memory_format=stored), labels.to(device)
    macs = efficiency.count_macs(make_model(setting.model), setting.size)
    for amp in ("off", "bf16", "fp16"):
        name = {"off": "float32"}.get(amp, amp)
        if (amp == "fp16" and device == "cpu") or (amp == "bf16" and devices.best_amp(device) not in ("bf16",)):
            yield Check(f"{name}: training step", skipped="not a precision this device is built for")
            continue
        rate = matrix_rate(device, amp, setting.budget)
        yield Check(f"{name}: matrix product", rate / 1e12, "T multiply-adds/s")
        devices.forget_peak_memory(device)
        seconds = seconds_of(training_step(setting, amp, images, labels), device, setting.budget)
        share = f"{100 * 3 * macs * size / seconds / rate:.0f} % of the matrix rate"
        yield Check(f"{name}: training step, batch {size}", size / seconds, "images/s", remark=share)
        yield Check(f"{name}: peak memory", devices.peak_memory_mb(device), "MB")
        model = folded(network(setting, device))
        with torch.inference_mode(), devices.autocast(device, amp):
            seconds = seconds_of(lambda: model.grid_logits(images), device, setting.budget)  # noqa: B023  called at once
        share = f"{100 * macs * size / seconds / rate:.0f} % of the matrix rate"
        yield Check(f"{name}: inference, batch {size}", size / seconds, "images/s", remark=share)
    plain = plain_step(setting, images, labels)
    if plain is None:
        yield Check("plain float32: training step", skipped="benchmarks/ is not beside the kit")
    else:
        yield Check(
            f"plain float32: training step, batch {size}", size / seconds_of(plain, device, setting.budget), "images/s"
        )
    for row in efficiency.measure([setting.model], [setting.size], device, setting.budget, say=lambda text: None):
        timing = row["latency_ms"]
        skipped = "" if timing else row["note"]
        yield Check("latency of one image, as the report prints it", timing and timing["median"], "ms", skipped=skipped)


def check_data(setting: Setting) -> Iterator[Check]:
    """How long a run waits for its images, from the run of `check_runs` with the most steps."""
    summary = read_json(setting.runs / f"{setting.config(CHANGING[0]).stem}.json")
    if not summary:
        yield Check("training steps a second in a run", skipped="no run was made")
        return
    with open(setting.runs / f"{summary['stem']}.csv", newline="", encoding="utf-8") as file:
        speeds = [float(row["images_per_s"]) for row in csv.DictReader(file)]
    yield Check("a run's training, data and checks included", speeds[-1], "images/s")


def estimate(checks: list[Check]) -> str:
    """How long the paper's eight runs would take at the speeds found."""
    found = {check.name: check.value for check in checks if check.value}
    trained = found.get("a run's training, data and checks included")
    tested = max((v for k, v in found.items() if "inference" in k), default=None)
    if not trained or not tested:
        return "The study's eight runs: no estimate without a run"
    hours = 8 * PRESETS["paper"].epochs * (CITYSCAPES[0] / trained + CITYSCAPES[1] / tested) / 3600
    return f"The study's eight runs on Cityscapes (50 epochs of 2,975 images) would take about {hours:.0f} h here"


# --- command line ----------------------------------------------------------------------------------------------------

PARTS = (check_numbers, check_speed, check_runs, check_data, check_two_devices)


def run_checks(setting: Setting) -> Iterator[Check]:
    """All checks; a part that fails is one line of its own, and wrong, and the others go on."""
    for part in PARTS:
        try:
            yield from part(setting)
        except (RuntimeError, ValueError, OSError) as error:
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            yield Check(part.__name__.replace("_", " "), right=False, remark=reason)


def driver() -> str:
    """Version of NVIDIA's driver."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout.split("\n")[0] or "unknown"
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"


def about(setting: Setting) -> dict[str, object]:
    """The machine, in what is sent: device, driver, versions."""
    cuda = setting.device.startswith("cuda")
    return {
        "device": setting.device,
        "device_name": devices.device_name(setting.device),
        "driver": driver() if cuda else None,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if cuda else None,
        "gpus": torch.cuda.device_count(),
        "size": list(setting.size),
        "model": setting.model,
        "versions": record.versions(),
        "commit": record.commit(),
    }


def parse_size(text: str) -> tuple[int, int]:
    """`"512x1024"` as (height, width)."""
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write height x width, such as 512x1024")
    return int(height), int(width)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    program = "python -m deeplab_lib.study.gpu_check"
    parser = argparse.ArgumentParser(prog=program, description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="time for all of it; the last recipes give way")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, mps or cpu (a trial of this script)")
    parser.add_argument("--size", type=parse_size, default=(512, 1024), help="height x width of the images")
    parser.add_argument("--model", default=PRESETS["paper"].model, help="network to check")
    parser.add_argument("--out", type=Path, default=Path("gpu-check.json"), help="the JSON to send")
    given = parser.parse_args(arguments)
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        print("no GPU here: PyTorch sees none (python -c 'import torch; print(torch.cuda.is_available())')")
        return 2
    devices.check_device(given.device)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        os.environ.setdefault("DEEPLAB_CACHE", f"{folder}/cache")
        print(f"Drawing {SCENES + VALIDATED} scenes at {given.size[1]}x{given.size[0]}", flush=True)
        city = toycity.write(Path(folder) / "city", SCENES, VALIDATED, size=given.size, workers=None)
        budget = min(4.0, 0.5 * given.minutes)
        setting = Setting(given.device, given.size, given.model, city, begun + 60 * given.minutes, budget)
        checks = []
        for check in run_checks(setting):
            checks.append(check)
            print(check.line(), flush=True)
    wrong = [check for check in checks if check.right is False]
    lines = [f"{len(checks)} checks in {duration(time.monotonic() - begun)}: {len(wrong)} missed", estimate(checks)]
    print("\n".join(lines))
    content = {"about": about(setting), "checks": [asdict(check) | {"verdict": check.verdict} for check in checks]}
    write_json(given.out, content | {"result": lines})
    print(f"written: {given.out}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
