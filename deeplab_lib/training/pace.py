"""How long a run should take here, from one measured step: what to expect of it before it starts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from deeplab_lib.common import devices
from deeplab_lib.models.network import SegmentationNetwork
from deeplab_lib.models.views import VIEWS, training_views

if TYPE_CHECKING:
    from deeplab_lib.config import Config


def epoch_seconds(config: Config, model: SegmentationNetwork, steps: int, validated: int) -> float:
    """Seconds that an epoch of `steps` steps and `validated` images should take here, from one step of `model`.

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


@contextmanager
def put_back(model: torch.nn.Module) -> Iterator[None]:
    """Put back afterwards what passes move in a network: the statistics of its batch norms."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)


def pass_seconds(config: Config, model: SegmentationNetwork, images: torch.Tensor) -> float:
    """Seconds of a forward and backward pass of `model`, at every scale it trains on: the shortest of three.

    The first one makes what all others find ready, and other programs may be at work.
    """
    seconds, synchronize = [], devices.synchronizer(config.device)
    for _ in range(3):
        start = time.monotonic()
        with devices.autocast(config.device, config.amp):
            logits = [model.grid_logits(seen) for seen in training_views(images, config.multiscale, model.stride)]
        torch.stack([seen.float().mean() for seen in logits]).sum().backward()
        synchronize()
        seconds.append(time.monotonic() - start)
        model.zero_grad(set_to_none=True)
    return min(seconds)


def trial_batch(config: Config) -> torch.Tensor:
    """Random images `(N, 3, H, W)` as one process of the run gets them at a time."""
    micro = config.batch_size // config.accumulate // config.gpus
    images = torch.randn(micro, 3, *config.size, device=config.device)
    return images.to(memory_format=devices.memory_format(config.fast_paths))
