"""The machine: what a process tells PyTorch and the system about it, all in one place."""

import ctypes
import os
import platform
import time
from contextlib import contextmanager

import torch

AMP_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's names, from malloc.h
# What makes a run faster or smaller without being asked for: the kinds of device on which it does, and what it is.
CHOICES = {
    "channels_last": (("cpu", "cuda", "mps"), "images and weights stored pixel by pixel"),
    "fused": (("cpu", "cuda"), "the optimiser's step in one pass over the weights"),
    "kept_memory": (("cpu",), "freed memory stays with the process"),
    "recomputed_norms": (("cpu",), "large batch norms inside a block computed again for the gradient, not kept"),
    "tf32": (("cuda",), "float32 products rounded to TF32"),
    "autotune": (("cuda",), "cuDNN tries its kernels and keeps the fastest"),
    "pinned": (("cuda",), "images copied while the GPU works"),
}


def choices(device, deterministic=False, without=()):
    """Names of the `CHOICES` in force on `device`, less those `without` names and those that let numbers vary."""
    barred = {*without, *(("tf32", "autotune") if deterministic else ())}
    kind = torch.device(device).type
    return tuple(name for name, (kinds, _) in CHOICES.items() if kind in kinds and name not in barred)


def set_up(device, deterministic=False, without=()):
    """Set this process's switches for a run on `device`; returns the `choices` in force.

    A GPU may use TF32 and the fastest of cuDNN's kernels, unless the numbers must come out the same every time: then
    PyTorch warns of every operation that cannot promise it, by name.
    """
    chosen = choices(device, deterministic, without)
    if "kept_memory" in chosen:
        keep_memory()
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS may vary
    use_deterministic_algorithms(deterministic, warn_only=True)
    torch.backends.cudnn.benchmark = "autotune" in chosen
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = "tf32" in chosen
    return chosen


def use_deterministic_algorithms(wanted, warn_only):
    """PyTorch's function of that name, left alone where nothing changes: it loads the compiler, which takes 2 s."""
    if wanted or torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(wanted, warn_only=warn_only)


def memory_format(chosen):
    """How images and weights lie in memory under the `choices` in force."""
    return torch.channels_last if "channels_last" in chosen else torch.contiguous_format


def place(model, device, chosen):
    """`model` on `device`, as the `choices` in force want it."""
    for module in model.modules():
        if hasattr(module, "recompute"):
            module.recompute = "recomputed_norms" in chosen
    return model.to(device, memory_format=memory_format(chosen))


def precise(device):
    """The type in which sums are kept on `device`: float64, which Apple's GPUs do not have."""
    return torch.float32 if torch.device(device).type == "mps" else torch.float64


def keep_memory():
    """Let freed memory stay with this process, for good (glibc only): its next step needs the same again.

    Else every large tensor is new memory of the system, whose pages are cleared one by one at first touch: 360,000 of
    them, 9 % of the time, in one training step of ResNet-101 at 1024x512.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def compile_if_worth(run, say=print):
    """Let torch.compile make the network of `run`, if that is faster here, and tell after how many passes it pays.

    Both are timed on forward and backward passes, after which the batch-norm statistics are put back.
    """
    images = trial_batch(run)
    passes = run.config.accumulate * (run.plan.total_steps - run.step)
    run.model.train()
    with put_back(run.model):
        plain = pass_seconds(run, images)
        run.model.scores = torch.compile(run.model.scores, dynamic=False)
        cost = pass_seconds(run, images, times=1)
        saved = plain - pass_seconds(run, images)
    told = f"compiling took {cost:.0f} s and saves {1000 * saved:.1f} of {1000 * plain:.1f} ms a pass"
    if saved > 0:
        say(f"{told}: paid back after {cost / saved:,.0f} of {passes:,} passes")
    else:
        del run.model.scores
        say(f"{told}: the network is used uncompiled")


@contextmanager
def put_back(model):
    """Put back afterwards what passes move in a network: the statistics of its batch norms."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)


def pass_seconds(run, images, times=3):
    """Shortest of `times` forward and backward passes of a run's network, at every scale it trains on, in seconds."""
    seconds = []
    for _ in range(times):
        start = time.monotonic()
        sum(run.scores(seen).float().mean() for seen in run.seen(images)).backward()
        if run.device.type == "cuda":
            torch.cuda.synchronize(run.device)
        seconds.append(time.monotonic() - start)
        run.model.zero_grad(set_to_none=True)
    return min(seconds)


def trial_batch(run):
    """Random images `(N, 3, H, W)` as one process of `run` gets them at a time."""
    micro = run.config.batch_size // run.config.accumulate // run.config.gpus
    return torch.randn(micro, 3, *run.config.size, device=run.device).to(memory_format=memory_format(run.choices))


class Copy:
    """A small tensor on its way to the host: on a GPU nothing waits until `values()` is asked for."""

    def __init__(self, tensor):
        self.tensor = tensor.detach().to("cpu", non_blocking=tensor.is_cuda)
        self.arrived = torch.cuda.Event() if tensor.is_cuda else None
        if self.arrived:
            self.arrived.record(torch.cuda.current_stream(tensor.device))

    def values(self):
        """The tensor as Python numbers."""
        if self.arrived:
            self.arrived.synchronize()
        return self.tensor.tolist()
