"""How long the passes of a network take here: what to expect of a run before it starts, and whether compiling pays."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from deeplab_lib.common import devices
from deeplab_lib.common.types import Say
from deeplab_lib.models.network import SegmentationNetwork
from deeplab_lib.models.views import VIEWS, training_views
from deeplab_lib.training import distributed

if TYPE_CHECKING:
    from deeplab_lib.config import Config


def epoch_seconds(config: Config, model: SegmentationNetwork, steps: int, validated: int) -> float:
    """Seconds that an epoch of `steps` steps and `validated` images should take here, from three passes of `model`.

    Left out are the loss, which is small beside them but for finer labels, and whatever loading cannot hide.
    """
    images = trial_batch(config)
    # Batch norm that is synchronised over processes would wait for the others here.
    model.train(config.gpus == 1)
    with put_back(model):
        per_image = pass_seconds(config, model, images) / len(images) / config.gpus
    trained = sum(seen.numel() for seen in training_views(images, config.multiscale, model.stride)) / images.numel()
    eval_views = sum(scale**2 for scale, _ in VIEWS[config.tta])
    forward = per_image / 3 / trained  # a forward pass is about a third of a step
    return steps * config.batch_size * per_image + validated * forward * eval_views


def compile_if_worth(config: Config, model: SegmentationNetwork, passes: int, say: Say = print) -> None:
    """Let torch.compile make the network, if that is faster here, and tell after how many of `passes` it pays.

    Both are timed on forward and backward passes, after which the batch-norm statistics are put back.
    """
    images = trial_batch(config)
    model.train()
    with put_back(model):
        plain = pass_seconds(config, model, images)
        model.grid_logits = torch.compile(model.grid_logits, dynamic=False)
        cost = pass_seconds(config, model, images, times=1)
        saved = plain - pass_seconds(config, model, images)
    # Decided by one process, or some would go on compiled and others not.
    say, (cost, saved) = distributed.first_only(say), distributed.from_first(lambda: (cost, saved))
    cost_text = f"compiling took {cost:.0f} s and saves {1000 * saved:.1f} of {1000 * plain:.1f} ms a pass"
    if saved > 0:
        say(f"{cost_text}: paid back after {cost / saved:,.0f} of {passes:,} passes")
    else:
        leave_compiled(model)
        say(f"{cost_text}: the network is used uncompiled")


def leave_compiled(model: torch.nn.Module) -> None:
    """Go back to the network's own `grid_logits`; a compiled one would be in the way of copies of the network."""
    vars(model).pop("grid_logits", None)


@contextmanager
def put_back(model: torch.nn.Module) -> Iterator[None]:
    """Put back afterwards what passes move in a network: the statistics of its batch norms."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)


def pass_seconds(config: Config, model: SegmentationNetwork, images: torch.Tensor, times: int = 3) -> float:
    """Shortest of `times` forward and backward passes of `model`, at every scale it trains on, in seconds."""
    seconds, synchronize = [], devices.synchronizer(config.device)
    for _ in range(times):
        start = time.monotonic()
        with devices.autocast(config.device, config.amp):
            logits = [model.grid_logits(seen) for seen in training_views(images, config.multiscale, model.stride)]
        sum(seen.float().mean() for seen in logits).backward()
        synchronize()
        seconds.append(time.monotonic() - start)
        model.zero_grad(set_to_none=True)
    return min(seconds)


def trial_batch(config: Config) -> torch.Tensor:
    """Random images `(N, 3, H, W)` as one process of the run gets them at a time."""
    micro = config.batch_size // config.accumulate // config.gpus
    images = torch.randn(micro, 3, *config.size, device=config.device)
    return images.to(memory_format=devices.memory_format(config.fast_paths))
