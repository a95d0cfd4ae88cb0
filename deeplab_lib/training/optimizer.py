"""The optimiser: SGD with momentum, the head at ten times the base rate unless the study's code is followed."""

import inspect

import torch

from deeplab_lib.losses import WeightedLoss
from deeplab_lib.models.network import SegmentationNetwork
from deeplab_lib.training.schedule import Step

MOMENTUM, WEIGHT_DECAY, HEAD_FACTOR = 0.9, 5e-4, 10


class SGD(torch.optim.SGD):
    """PyTorch's, without the wrappers that keep it out of compiled graphs.

    To do so they load the compiler, which takes every start of a run 2 s, and here only the network is ever compiled.
    """

    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))
    zero_grad, add_param_group, state_dict, load_state_dict = (
        inspect.unwrap(getattr(torch.optim.SGD, name))
        for name in ("zero_grad", "add_param_group", "state_dict", "load_state_dict")
    )


def make_optimizer(model: SegmentationNetwork, lr: float, fused: bool = False, head_factor: float = HEAD_FACTOR) -> SGD:
    """`SGD` for `model`; `factor` of a group, by which the loop multiplies the base rate, is `head_factor` for the
    head's.
    """
    groups = [
        {"params": model.backbone_parameters(), "factor": 1},
        {"params": model.aspp_parameters(), "factor": head_factor},
    ]
    optimizer = SGD(groups, lr=lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, fused=fused)
    lay_out_momentum(optimizer)
    return optimizer


def lay_out_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Give every weight its momentum, zero where it has none yet, in the weight's own memory format.

    The fused step relies on both: it walks weight and momentum as they lie in memory, and a first step that overflows
    in fp16 would leave the momentum it was to make unwritten.
    """
    for group in optimizer.param_groups:
        for weight in group["params"]:
            momentum, state = torch.zeros_like(weight), optimizer.state[weight]
            if state.get("momentum_buffer") is not None:
                momentum.copy_(state["momentum_buffer"])
            state["momentum_buffer"] = momentum


def apply_schedule(now: Step, optimizer: SGD, loss: WeightedLoss, model: SegmentationNetwork) -> None:
    """Set the rates, the loss weights and the frozen parts to what the schedule says of a step."""
    for group in optimizer.param_groups:
        group["lr"] = now.lr * group["factor"]
    loss.weights = now.weights
    if model.frozen != now.frozen:
        model.freeze(now.frozen)
