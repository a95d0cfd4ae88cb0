"""What a network costs: parameters, multiply-adds, latency and memory, measured the same way for each.

`python -m deeplab_lib.models.efficiency --out runs/toycity/efficiency.json` measures the network of the runs beside
that file, and at 1024x512 the paper's DeepLabV2 and torchvision's networks; further backbones are counted there, and
timed where `--backbone-budget` grants them the seconds. What is timed on a CPU is timed in ONNX Runtime too, where that
is installed.
"""

import argparse
import copy
import json
import math
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self
from unittest import mock

import numpy as np
import psutil
import torch
from torch import nn
from torch.nn.modules.utils import _pair

from deeplab_lib.common.devices import (
    check_device,
    device_name,
    fast_paths,
    synchronizer,
    use_deterministic_algorithms,
)
from deeplab_lib.common.files import read_json, write_json
from deeplab_lib.common.types import PathLike, Say, Size
from deeplab_lib.models import onnx_file
from deeplab_lib.models.deeplabv2 import count_parameters
from deeplab_lib.models.network import SegmentationNetwork
from deeplab_lib.models.placement import to_device
from deeplab_lib.models.registry import TORCHVISION_NETWORKS, check_model, make_model
from deeplab_lib.models.torchvision_backbones import RESNETS
from deeplab_lib.recipes import PRESETS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # on import it compiles a loss in a way that newer PyTorch deprecates
    from fvcore.nn import FlopCountAnalysis
    from fvcore.nn.jit_handles import conv_flop_count, get_shape

WARM_UP, TIMED = 10, 100
BUSY, ATTEMPTS = 0.3, 3  # cores that others may use while a latency is taken, and how often it is tried
FEWEST = 4  # passes that a budget must hold, and that are timed: one alone may have been disturbed
PAPER_SIZE = (512, 1024)
SMALL = 2**16  # pixels up to which counting without data saves less than the 2 s for which PyTorch loads its compiler
COMPARED = ("deeplabv2_resnet101", *TORCHVISION_NETWORKS)
BACKBONES = ("deeplabv2_resnet50", "deeplabv2_resnet152", *(name for name in RESNETS if not name.endswith("_mini")))


class ShapeOnlyConvolution(torch.autograd.Function):
    """A convolution's output shape without its arithmetic, for counting on tensors that hold no data."""

    @staticmethod
    def forward(
        context: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
    ) -> torch.Tensor:
        """Empty `(N, C_out, H', W')` for `x (N, C_in, H, W)` and `weight (C_out, C_in / groups, kh, kw)`."""
        axes = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
        grid = [
            (int(size) + 2 * pad - gap * (int(kernel) - 1) - 1) // step + 1 for size, kernel, step, pad, gap in axes
        ]
        return x.new_empty([int(x.shape[0]), int(weight.shape[0]), *grid])

    @staticmethod
    def macs(inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
        """fvcore's own count for a convolution."""
        return conv_flop_count(get_shape(inputs[0]), get_shape(inputs[1]), get_shape(outputs[0]))


def count_macs(model: nn.Module, size: Size) -> int:
    """Multiply-adds of one image of `size` (H, W), upsampling included, as fvcore counts them in eval mode."""
    return count_operations(model, size)[0]


def count_operations(model: nn.Module, size: Size) -> tuple[int, dict[str, int]]:
    """Multiply-adds of one image of `size` (H, W), and what is not among them.

    Returns `(macs, uncounted)`, the latter {operator: times} for what fvcore has no rule for (additions, pooling).
    fvcore traces a whole forward pass, seconds on a CPU; with convolutions replaced by their shapes, and all but small
    images by tensors without data, the same trace and the same sum take half a second.
    """
    tensors = [*model.parameters(), *model.buffers()]
    small = math.prod(size) <= SMALL and not any(tensor.is_meta for tensor in tensors)
    where = "cpu" if small else "meta"
    shadow = copy.deepcopy(model, {id(tensor): tensor.detach().to(where) for tensor in tensors}).eval()
    shapes_only = mock.patch.object(nn.functional, "conv2d", _convolve_shapes)
    with warnings.catch_warnings(), kernels_of_any_kind(), shapes_only:  # deterministic kernels cannot be traced
        warnings.simplefilter("ignore")
        analysis = FlopCountAnalysis(shadow, torch.empty(1, 3, *size, device=where))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        analysis.set_op_handle(f"prim::PythonOp.{ShapeOnlyConvolution.__name__}", ShapeOnlyConvolution.macs)
        return int(analysis.total()), dict(analysis.unsupported_ops())


@contextmanager
def kernels_of_any_kind() -> Iterator[None]:
    """Leave `torch.use_deterministic_algorithms` for a while."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    use_deterministic_algorithms(False, warn_only=False)
    try:
        yield
    finally:
        use_deterministic_algorithms(before[0], warn_only=before[1])


def _convolve_shapes(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> torch.Tensor:
    return ShapeOnlyConvolution.apply(x, weight, _pair(stride), _pair(padding), _pair(dilation))


def time_runs(
    run: Callable[[], object], synchronize: Callable[[], None], most: int, seconds: float, least: int = 1
) -> list[float]:
    """Durations in seconds of at least `least` and at most `most` calls of `run`, ending before `seconds` are over."""
    durations: list[float] = []
    begun = time.perf_counter()
    while len(durations) < most:
        expected = time.perf_counter() - begun + (durations[-1] if durations else 0)
        if len(durations) >= least and expected > seconds:
            break
        synchronize()
        start = time.perf_counter()
        run()
        synchronize()
        durations.append(time.perf_counter() - start)
    return durations


def latency_ms(run: Callable[[], object], synchronize: Callable[[], None], budget: float) -> dict[str, float]:
    """Milliseconds a call of `run`, see `quartiles`: up to 100 calls after up to 10 to warm up, at least `FEWEST`.

    Any more must fit into `budget` seconds, the warm-up into a quarter of it.
    """
    time_runs(run, synchronize, WARM_UP, budget / 4, least=0)
    return quartiles(time_runs(run, synchronize, TIMED, budget, FEWEST))


def quartiles(durations: Sequence[float]) -> dict[str, float]:
    """Durations in seconds as median, quartiles (milliseconds) and number `n`."""
    q1, median, q3 = np.quantile(1000 * np.array(durations), (0.25, 0.5, 0.75)).tolist()
    return {"median": median, "q1": q1, "q3": q3, "n": len(durations)}


def peak_memory_mb(model: nn.Module, run: Callable[[], object], device: str) -> float | None:
    """Peak memory in MB that PyTorch's allocator handed out during one call of `run`, the model's own included.

    On a GPU as `max_memory_allocated` says; on a CPU from the profiler's record of every allocation. None elsewhere.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device) / 2**20
    if kind != "cpu":
        run()
        return None
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it complains of a missing GPU
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    with tempfile.TemporaryDirectory() as folder:
        profile.export_chrome_trace(f"{folder}/trace.json")
        events = json.loads(Path(folder, "trace.json").read_text())["traceEvents"]
    sums = (event["args"]["Total Allocated"] for event in events if event.get("name") == "[memory]")
    held = sum(tensor.nbytes for tensor in model.state_dict().values())
    return (held + max(sums, default=0)) / 2**20


@torch.inference_mode()
def macs_per_second(device: str) -> float:
    """Multiply-adds a second of a typical convolution here: enough to say beforehand how long a network takes."""
    layer, x = nn.Conv2d(256, 256, 3, padding=1).to(device), torch.zeros(1, 256, 64, 128, device=device)
    # At least three: the first one loads a GPU's kernels.
    durations = time_runs(lambda: layer(x), synchronizer(device), most=5, seconds=1, least=3)
    return layer.weight.numel() * 64 * 128 / min(durations)


def cost_row(name: str, model: SegmentationNetwork, size: Size, device: str) -> dict[str, Any]:
    """What `efficiency.json` says of one network at one size (H, W), except what has to be run: see `add_timings`."""
    macs, uncounted = count_operations(model, size)
    total, trainable = count_parameters(model)
    return {
        "model": name,
        "height": size[0],
        "width": size[1],
        "device": torch.device(device).type,
        "device_name": device_name(device),
        "dtype": "float32",
        "threads": torch.get_num_threads(),
        "stride_in": model.stride_in,
        "output_stride": model.stride,
        "parameters": total,
        "trainable": trainable,
        "frozen": total - trainable,
        "macs": macs,
        "flops": 2 * macs,
        "uncounted_ops": uncounted,
        "latency_ms": None,
        "other_cores": None,
        "peak_memory_MB": None,
        "onnx_runtime": None,
        "note": "",
    }


@torch.inference_mode()
def add_timings(row: dict[str, Any], model: SegmentationNetwork, budget: float, expected: float, device: str) -> None:
    """Fill in latency and peak memory of one image on `device`, or why not; `expected`: seconds a pass, guessed."""
    if not budget:
        row["note"] = "not timed: counted only"
        return
    if FEWEST * expected > budget:
        row["note"] = f"not timed: an image takes about {expected:.1f} s here, too long for {budget:g} s of passes"
        return
    # As it is trained, but in the layout of memory in which PyTorch makes a network, and with its batch norms, which
    # predictions have folded: so are the rows of the study and of earlier versions, beside which these stand.
    model = to_device(model, device, {"matrix_products"} & {*fast_paths(device)}).eval()
    image = torch.zeros(1, 3, row["height"], row["width"], device=device)
    run = lambda: model(image)  # noqa: E731
    row["peak_memory_MB"] = peak_memory_mb(model, run, device)
    row["latency_ms"], row["other_cores"] = quietest(run, synchronizer(device), budget)
    row["note"] = "batch 1, transfer excluded, warmed up"
    if row["other_cores"] > BUSY:
        row["note"] += f"; other programs kept {row['other_cores']:.1f} cores busy, so that it may be too long"


def quietest(
    run: Callable[[], object], synchronize: Callable[[], None], budget: float
) -> tuple[dict[str, float], float]:
    """`latency_ms` of `run`, and how many cores others used meanwhile: of up to three attempts that with the fewest."""
    best: tuple[dict[str, float], float] | None = None
    for _ in range(ATTEMPTS):
        with OtherWork() as other:
            latency = latency_ms(run, synchronize, budget)
        if best is None or other.cores < best[1]:
            best = latency, round(other.cores, 2)
        if best[1] <= BUSY:
            break
    assert best
    return best


def onnx_runtime(model: SegmentationNetwork, size: Size, budget: float) -> dict[str, Any] | None:
    """`{"version", "latency_ms", "other_cores"}` of `model` in ONNX Runtime: one image, on PyTorch's threads.

    None where it is not installed, or the network cannot be expressed.
    """
    if not onnx_file.installed():
        return None
    images = torch.zeros(1, 3, *size)
    try:
        session = onnx_file.session(onnx_file.traced(model.eval(), images, "logits"), torch.get_num_threads())
    except Exception:  # the exporter's and the runtime's errors have no common type
        return None
    given = {onnx_file.INPUT: images.numpy()}
    latency, others = quietest(lambda: session.run(None, given), lambda: None, budget)
    return {"version": version("onnxruntime"), "latency_ms": latency, "other_cores": others}


class OtherWork:
    """A context in which the processor time of all other programs is counted: `cores` of them were busy, on average.

    A latency that was taken beside other jobs is theirs as much as the network's.
    """

    def __enter__(self) -> Self:
        self.start, self.cores = self._counted(), 0.0
        return self

    def __exit__(self, *_: object) -> None:
        ended = self._counted()
        wall, busy, own = (after - before for before, after in zip(self.start, ended, strict=True))
        self.cores = max(0.0, busy - own) / max(wall, 1e-9)

    @staticmethod
    def _counted() -> tuple[float, float, float]:
        """Seconds: of the clock, of all processors at work, of this process."""
        every, own = psutil.cpu_times(), psutil.Process().cpu_times()
        busy = sum(every) - every.idle - getattr(every, "iowait", 0.0) - getattr(every, "guest", 0.0)
        return time.perf_counter(), busy, own.user + own.system


def measure(
    models: Sequence[str],
    sizes: Sequence[Size],
    device: str = "auto",
    budget: float = 4.0,
    say: Say = print,
    options: Sequence[Mapping[str, Any]] | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows of `efficiency.json` for each named model at the size (H, W) beside it, one at a time, as an iterator.

    budget: seconds of timed passes a model; where it would not hold `FEWEST` of them, or at 0, none is made.
    options: those of `make_model` for each. Raises ValueError for an unknown model.
    """
    options = options or [{}] * len(models)
    device = check_device(device)
    torch.backends.cudnn.allow_tf32 = False  # the rows say float32
    speed = macs_per_second(device)
    for number, (name, size, about) in enumerate(zip(models, sizes, options, strict=True), start=1):
        with torch.device("meta"):  # to be counted, a network needs no weights
            model = make_model(name, **about)
        row = cost_row(name, model, size, device)
        expected = row["macs"] / speed
        timed = min(1.25 * budget, (WARM_UP + TIMED) * expected) if FEWEST * expected <= budget else 0
        in_onnx = row["device"] == "cpu" and onnx_file.installed()
        line = f"{name} {size[1]}x{size[0]}: {row['macs'] / 1e9:.2f} GMACs"
        line += f", about {(1 + in_onnx) * timed + 2:.0f} s" if timed else ""
        say(f"{number}/{len(models)} {line}" if budget else line)
        add_timings(row, make_model(name, **about) if timed else model, budget, expected, device)
        if row["latency_ms"] and in_onnx:
            row["onnx_runtime"] = onnx_runtime(make_model(name, **about), size, budget)
        yield row


def merge(path: PathLike, row: Mapping[str, Any]) -> None:
    """Put `row` into the file of rows at `path`, in place of an earlier one of the same network, size and device."""
    rows = (read_json(path) or {"rows": []})["rows"]
    write_json(path, {"rows": [*(old for old in rows if key_of(old) != key_of(row)), row]})


def key_of(row: Mapping[str, Any]) -> list[Any]:
    """What a row is of; older ones do not say the stride, which only DeepLabV2's networks have a choice of."""
    stride = row.get("output_stride", 8) if row["model"].startswith("deeplabv2") else None
    return [stride, *(row.get(name) for name in ("model", "height", "width", "device", "dtype"))]


def trained_networks(folder: PathLike, preset: str) -> list[tuple[str, Size, dict[str, Any]]]:
    """`(model, (H, W), options)` of the finished runs in `folder`; of `preset`, should there be none."""
    scale = PRESETS[preset]
    return _trained(folder) or [(scale.model, (scale.image_height, scale.image_width), {})]


def _trained(folder: PathLike) -> list[tuple[str, Size, dict[str, Any]]]:
    found = {}
    for path in sorted(Path(folder).glob("*.json")):
        run = read_json(path)
        config = run.get("config") if run else None
        if isinstance(config, dict) and {"model", "image_height", "image_width"} <= config.keys():
            size, stride = (config["image_height"], config["image_width"]), config.get("output_stride", 8)
            options = {"stride_in": run.get("weights", {}).get("stride_in", "1x1"), "output_stride": stride}
            found[config["model"], size, stride] = config["model"], size, options
    return list(found.values())


def unmeasured(path: Path) -> list[str]:
    """The networks of the finished runs beside the file of rows at `path` that it holds no row of, on any device."""
    rows = (read_json(path) or {}).get("rows", [])
    there = {(row.get("model"), row.get("height"), row.get("width"), row.get("output_stride", 8)) for row in rows}
    trained = _trained(path.parent)
    return [name for name, size, options in trained if (name, *size, options["output_stride"]) not in there]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: measure and write after every network, so that nothing measured is lost."""
    parser = argparse.ArgumentParser(
        prog="python -m deeplab_lib.models.efficiency", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--out", required=True, type=Path, help="the JSON file; its folder is where the runs are")
    parser.add_argument("--preset", default="demo", choices=PRESETS, help="whose network to take if there is no run")
    parser.add_argument("--budget", default=4.0, type=float, help="seconds of timed passes for each network")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--models", nargs="*", default=[], metavar="NAME", help="further networks, such as timm's")
    parser.add_argument("--backbone-budget", default=0.0, type=float, help="seconds for each backbone; 0: only counted")
    parser.add_argument("--name", default="", help="what is put in brackets before every line that is printed")
    given = parser.parse_args(arguments)
    say = partial(print, *([f"[{given.name}]"] if given.name else []), flush=True)
    for name in given.models:
        check_model(name)
    networks = trained_networks(given.out.parent, given.preset)
    there = [(name, size) for name, size, options in networks if options.get("output_stride", 8) == 8]
    wanted = [name for name in (*COMPARED, *given.models) if (name, PAPER_SIZE) not in there]
    networks += [(name, PAPER_SIZE, {}) for name in wanted]
    further: list[tuple[str, Size, dict[str, Any]]]
    further = [(name, PAPER_SIZE, {}) for name in BACKBONES if name not in wanted and (name, PAPER_SIZE) not in there]
    for group, budget in ((networks, given.budget), (further, given.backbone_budget)):
        models, sizes, options = zip(*group, strict=True) if group else ((), (), ())
        for row in measure(models, sizes, given.device, budget, say, options):
            merge(given.out, row)
            timings = {"": row["latency_ms"], " in ONNX Runtime": (row["onnx_runtime"] or {}).get("latency_ms")}
            taken = [f"{ms['median']:.1f} ms (median of {ms['n']}){where}" for where, ms in timings.items() if ms]
            say(f"    {', '.join(taken) or row['note']}")


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("stopped")
