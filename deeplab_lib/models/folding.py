"""A network for evaluation alone, its batch norms folded into the convolutions before them.

In eval mode a batch norm multiplies and shifts each channel by what no image changes. The convolution before it can do
that, too, and the network passes over its features once less for each. Source: Jacob et al., "Quantization and Training
of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018, section 3.2.
"""

import copy
from collections import Counter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode

from deeplab_lib.models.network import SegmentationNetwork
from deeplab_lib.models.placement import PointwiseConv2d

CONVOLUTIONS = (nn.Conv2d, PointwiseConv2d)  # themselves: what is derived from them may do more with its weights
NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)
TRIAL = 64  # pixels a side of the image on which the layers are followed


class Pair(NamedTuple):
    """Names of a convolution and of the batch norm that alone follows it."""

    convolution: str
    norm: str


def folded(model: SegmentationNetwork) -> SegmentationNetwork:
    """A copy of `model` in eval mode that computes the same logits, up to rounding, with fewer layers.

    `model` stays as it is. What is not folded is shared with it: the copy takes the memory of the convolutions alone.
    Weights are folded in float32 and rounded by mixed precision afterwards, as those of `model` would be.
    """
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    network = copy.deepcopy(model, shared).eval()
    for pair in foldable(network):
        convolution, norm = network.get_submodule(pair.convolution), network.get_submodule(pair.norm)
        fold(convolution, norm)
        network.set_submodule(pair.norm, what_remains(norm))
    return network


def fold(convolution: Any, norm: Any) -> None:
    """Let `convolution` do what `norm` after it does in eval mode."""
    statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    convolution.weight, convolution.bias = fuse_conv_bn_weights(convolution.weight, convolution.bias, *statistics)


def what_remains(norm: Any) -> nn.Module:
    """What a batch norm does besides: those of timm drop and activate."""
    return nn.Sequential(norm.drop, norm.act) if is_timm(norm) else nn.Identity()


def is_timm(norm: nn.Module) -> bool:
    """Whether a batch norm is timm's own, which is followed by its activation."""
    return type(norm).__name__ == "BatchNormAct2d" and type(norm).__module__.startswith("timm.")


def can_fold(norm: Any) -> bool:
    """Whether what a batch norm does in eval mode is known here."""
    return norm.running_mean is not None and (type(norm) in NORMS or is_timm(norm))


def foldable(model: SegmentationNetwork) -> list[Pair]:
    """The pairs that can be one layer, found by following a small image through `model`, which is in eval mode.

    A convolution's output must go to a batch norm and nowhere else, and both be passed once.
    """
    names = {module: name for name, module in model.named_modules()}
    outputs: dict[int, tuple[torch.Tensor, str]] = {}  # kept, so that no other tensor gets the same identity
    passed: Counter = Counter()
    pairs: list[Pair] = []
    uses = Uses()

    def leave_convolution(module: nn.Module, inputs: Any, output: Tensor) -> None:
        passed[names[module]] += 1
        outputs[id(output)] = output, names[module]
        uses.counted[id(output)] = 0  # those of an earlier tensor in its place

    def enter_norm(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        passed[names[module]] += 1
        if id(inputs[0]) in outputs:
            pairs.append(Pair(outputs[id(inputs[0])][1], names[module]))

    handles = [m.register_forward_hook(leave_convolution) for m in names if type(m) in CONVOLUTIONS]
    handles += [
        m.register_forward_pre_hook(enter_norm)
        for m in names
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and can_fold(m)
    ]
    first = next(model.parameters())
    with torch.inference_mode(), uses:
        model.grid_logits(torch.zeros(1, 3, TRIAL, TRIAL, device=first.device, dtype=first.dtype))
    for handle in handles:
        handle.remove()
    used = {name: uses.counted[identity] for identity, (_, name) in outputs.items()}
    return [pair for pair in pairs if used[pair.convolution] == passed[pair.convolution] == passed[pair.norm] == 1]


class Uses(TorchFunctionMode):
    """Counts, while it is in force, how many computations each tensor goes into: `counted[id(tensor)]`."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: Counter = Counter()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor | tuple | list):  # not what is asked of its shape
            given = torch.utils._pytree.tree_leaves((args, kwargs))
            self.counted.update({id(value) for value in given if isinstance(value, torch.Tensor)})
        return result
