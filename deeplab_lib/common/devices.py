"""The machine: what it is, what is chosen on it, and what a process tells PyTorch and the system of that."""

import ctypes
import math
import os
import platform
import re
import sys
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

AMP_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's names, from malloc.h
# What makes a run faster or smaller without being asked for: the kinds of device on which it does, and what it is.
FAST_PATHS = {
    "channels_last": (("cpu", "cuda", "mps"), "images and weights stored pixel by pixel"),
    "fused": (("cpu", "cuda"), "the optimiser's step in one pass over the weights"),
    "kept_memory": (("cpu",), "freed memory stays with the process"),
    "recomputed_norms": (("cpu",), "large batch norms inside a block computed again for the gradient, not kept"),
    "matrix_products": (("cpu",), "1x1 convolutions and the pyramid computed as matrix products"),
    "tf32": (("cuda",), "float32 products rounded to TF32"),
    "autotune": (("cuda",), "cuDNN tries its kernels and keeps the fastest"),
    "pinned": (("cuda",), "images copied while the GPU works"),
}


def check_device(device: str) -> str:
    """The device that `device` names, "auto" being a GPU or else the CPU; ValueError where there is no such device."""
    if device == "auto":  # never mps, on which no run has been made yet
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", device):
        raise ValueError(f"device is {device!r}; valid: auto, cpu, cuda, cuda:N, mps")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device is {device!r}, but this PyTorch sees no GPU; use device=cpu or auto")
    if device.startswith("cuda:") and int(device[5:]) >= max(1, count := torch.cuda.device_count()):
        raise ValueError(f"device is {device!r}, but this machine's GPUs are 0 to {count - 1}")
    if device == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device is 'mps', but this PyTorch sees none; use device=cpu or auto")
    return device


def check_amp(amp: str, device: str) -> str:
    """The mixed precision that `amp` names, "auto" being the best of `device`; ValueError where a GPU emulates it."""
    if amp == "auto":
        return best_amp(device)
    if amp == "bf16" and best_amp(device) == "fp16":
        raise ValueError(f"amp is 'bf16', for which {device} is too old; use amp=fp16 or auto")
    return amp


def best_amp(device: str) -> str:
    """Mixed precision the hardware is built for: "bf16", "fp16" (older GPUs) or "off"."""
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    if device == "cpu":
        fast = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return "bf16" if any(getattr(torch.cpu, name, bool)() for name in fast) else "off"
    return "off"


def cores() -> int:
    """Processor cores that this process may use: on a cluster those of its job."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fast_paths(device: str, deterministic: bool = False, disable: Iterable[str] = ()) -> tuple[str, ...]:
    """Names of the `FAST_PATHS` in force on `device`, less those in `disable` and those that let numbers vary."""
    excluded = {*disable, *(("tf32", "autotune") if deterministic else ())}
    kind = torch.device(device).type
    return tuple(name for name, (kinds, _) in FAST_PATHS.items() if kind in kinds and name not in excluded)


def set_up(device: str, chosen: Collection[str], deterministic: bool = False) -> None:
    """Set this process's switches for a run on `device` with the fast paths `chosen`.

    A GPU that is asked for by number stays this process's first. One may use TF32 and the fastest of cuDNN's kernels,
    unless the numbers must come out the same every time: then PyTorch warns of every operation that cannot promise it.
    """
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)  # else a little of the first GPU's memory would be taken, too
    if "kept_memory" in chosen:
        keep_memory()
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS may vary
    use_deterministic_algorithms(deterministic, warn_only=True)
    torch.backends.cudnn.benchmark = "autotune" in chosen
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = "tf32" in chosen


def use_deterministic_algorithms(wanted: bool, warn_only: bool) -> None:
    """PyTorch's function of that name, left alone where nothing changes: it loads the compiler, which takes 2 s."""
    if wanted or torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(wanted, warn_only=warn_only)


def memory_format(chosen: Collection[str]) -> torch.memory_format:
    """How images and weights lie in memory under the `fast_paths` in force."""
    return torch.channels_last if "channels_last" in chosen else torch.contiguous_format


def precise(device: str | torch.device) -> torch.dtype:
    """The type in which sums are kept on `device`: float64, which Apple's GPUs do not have."""
    return torch.float32 if torch.device(device).type == "mps" else torch.float64


def keep_memory() -> None:
    """Let freed memory stay with this process, for good (glibc only): its next step needs the same again.

    Else every large tensor is new memory of the system, whose pages are cleared one by one at first touch: 360,000 of
    them, 9 % of the time, in one training step of ResNet-101 at 1024x512.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


class Copy:
    """A small tensor on its way to the host: on a GPU nothing waits until `values()` is asked for."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.detach().to("cpu", non_blocking=tensor.is_cuda)
        self.arrived = torch.cuda.Event() if tensor.is_cuda else None
        if self.arrived:
            self.arrived.record(torch.cuda.current_stream(tensor.device))

    def values(self) -> Any:
        """The tensor as Python numbers."""
        if self.arrived:
            self.arrived.synchronize()
        return self.tensor.tolist()


def autocast(device: str | torch.device, amp: str) -> torch.autocast:
    """A context in which `device` computes in the mixed precision `amp`, or in float32 with "off"."""
    return torch.autocast(torch.device(device).type, AMP_TYPES.get(amp), enabled=amp in AMP_TYPES)


def synchronizer(device: str | torch.device) -> Callable[[], None]:
    """A call that returns once `device` has finished everything asked of it."""
    kind = torch.device(device).type
    if kind == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return torch.mps.synchronize if kind == "mps" else lambda: None


def device_name(device: str) -> str:
    """The processor's or the GPU's own name."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.split(':', 1)[1].strip()} (CPU, {os.cpu_count()} cores)"
    return f"{platform.processor() or platform.machine()} (CPU, {os.cpu_count()} cores)"


def forget_peak_memory(device: str | torch.device) -> None:
    """Let a GPU's peak memory begin anew; a process's own, on a CPU, cannot be."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_mb(device: str) -> float:
    """Peak memory so far in MB: of the GPU's allocator, or of this whole process on a CPU; NaN if unknown."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:  # Linux; its getrusage counts what the parent held when it started this program
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
        if found:
            return int(found[1]) / 2**10
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
