"""How a network is laid out on its device: in memory, and on a CPU the faster ways to the same numbers.

A new network is made of plain layers, which every tool can count, draw and export. `to_device` makes it fast; training,
evaluation and prediction call it.
"""

from collections.abc import Collection
from functools import cache
from itertools import product
from types import MethodType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deeplab_lib.common.devices import memory_format
from deeplab_lib.models.deeplabv2 import ASPP

Network = TypeVar("Network", bound=nn.Module)


def to_device(model: Network, device: str | torch.device, chosen: Collection[str]) -> Network:
    """`model` on `device`, changed in place as the automatic choices `chosen` (see `devices.FAST_PATHS`) say."""
    for module in model.modules():
        if hasattr(module, "recompute"):
            module.recompute = "recomputed_norms" in chosen  # type: ignore[assignment]
    if "matrix_products" in chosen:
        use_matrix_products(model)
    if torch.device(device).type == "cpu" and "channels_last" in chosen:
        keep_out_of_bfloat16(model)
    return model.to(device, memory_format=memory_format(chosen))  # type: ignore[call-overload]


def keep_out_of_bfloat16(model: nn.Module) -> None:
    """Let the dilated depthwise convolutions of `model` compute in float32 where bfloat16 gives a wrong gradient."""
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d) and is_dilated_depthwise(module)]
    if layers and bfloat16_loses_gradients():
        for layer in layers:
            layer.forward = MethodType(in_float32, layer)  # type: ignore[method-assign]


def in_float32(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """What `layer` computes, outside of mixed precision; in the type of `x`."""
    with torch.autocast(x.device.type, enabled=False):
        return type(layer).forward(layer, x.float()).to(x.dtype)


def kept_out(model: nn.Module, amp: str) -> str:
    """A line on the layers of `model` that `keep_out_of_bfloat16` has changed; empty where mixed precision has none."""
    count = sum(getattr(module.__dict__.get("forward"), "__func__", None) is in_float32 for module in model.modules())
    note = "dilated depthwise layers compute in float32: this PyTorch gets their gradients in bf16 wrong"
    return f"{count} {note}" if count and amp == "bf16" else ""


def is_dilated_depthwise(layer: nn.Conv2d) -> bool:
    """Whether each channel has a kernel of its own whose taps stand apart."""
    return layer.groups == layer.in_channels > 1 and max(layer.dilation) > 1


@cache
def bfloat16_loses_gradients() -> bool:
    """Whether this PyTorch computes another weight gradient of such a layer, pixel by pixel in memory, than in float32.

    oneDNN in PyTorch 2.13 and 2.14 gives noise from grids of 16x32 cells on, another at every call; outputs are right.
    """
    draw, found = torch.Generator().manual_seed(0), []
    pixels, pull = (torch.randn(1, 16, 16, 32, generator=draw) for _ in range(2))
    for kind in (torch.float32, torch.bfloat16):
        weight = torch.ones(16, 1, 3, 3, requires_grad=True)
        x, kernel = (tensor.to(kind, memory_format=torch.channels_last) for tensor in (pixels, weight))
        (gradient,) = torch.autograd.grad(F.conv2d(x, kernel, padding=2, dilation=2, groups=16).float(), weight, pull)
        found.append(gradient)
    return not bool((found[0] - found[1]).norm() < 0.1 * found[0].norm())


def use_matrix_products(model: nn.Module) -> None:
    """Let the 1x1 convolutions and the pyramid of `model` be computed as matrix products, which CPUs are better at.

    Weights, their names and, up to rounding, all values and gradients stay what they are. Operation counters that know
    layers by their class, or listen to what is computed, no longer see the whole network: count before.
    """
    for module in model.modules():
        if type(module) is ASPP:
            module.__class__ = ProductASPP
        elif type(module) is nn.Conv2d and is_pointwise(module):
            module.__class__ = PointwiseConv2d


def is_pointwise(layer: nn.Conv2d) -> bool:
    """Whether a convolution combines the channels of single pixels, and of every pixel: a matrix product."""
    return (layer.kernel_size, layer.stride, layer.padding, layer.groups) == ((1, 1), (1, 1), (0, 0), 1)


class PointwiseConv2d(nn.Conv2d):
    """A 1x1 convolution, in bfloat16 computed as the matrix product that it is.

    On a CPU oneDNN's bfloat16 matrix product is about a quarter faster than its 1x1 convolution of the same numbers.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Channels combined pixel by pixel: `(N, C, H, W)` to `(N, C', H, W)`."""
        pixels = x.permute(0, 2, 3, 1)
        if x.dtype != torch.bfloat16 or not pixels.is_contiguous():
            return super().forward(x)
        return F.linear(pixels, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class ProductASPP(ASPP):
    """The pyramid's sum as one matrix product, whose parts are then added where the dilations put them.

    A CPU has no good kernel for few output channels at high dilation. On a small grid most of the shifts lead
    outside, and all four centres are one: of 36 kernel taps 21 are computed on a 17x33 grid, 33 on 65x129.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The sum of the branches, `(N, C', h, w)` float32, of features `(N, C, h, w)`."""
        if torch.jit.is_tracing():  # to be counted or exported: as the convolutions that it is
            return super().forward(x)
        taps, kind = self.taps(*x.shape[-2:]), x.device.type
        precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        weights = torch.stack(list(taps.values()))
        shifted = ShiftedProducts.apply(x.to(precision), weights.to(precision), list(taps))
        return shifted + sum(branch.bias for branch in self.branches)[:, None, None]

    def taps(self, height: int, width: int) -> dict[tuple[int, int], Tensor]:
        """`{(dy, dx): weights (C', C)}` of every distinct offset that stays on a grid of this size."""
        taps: dict[tuple[int, int], Tensor] = {}
        for branch in self.branches:
            (rate, _), kernel = branch.dilation, branch.weight.permute(2, 3, 0, 1)
            for y, x in product(range(3), range(3)):
                offset = dy, dx = (y - 1) * rate, (x - 1) * rate
                if abs(dy) < height and abs(dx) < width:
                    taps[offset] = taps[offset] + kernel[y, x] if offset in taps else kernel[y, x]
        return taps


class ShiftedProducts(torch.autograd.Function):
    """Sum over t of `weights[t] (C', C)` times `x (N, C, h, w)` as seen at `offsets[t]`, (dy, dx) cells further on.

    Its gradient is written out, two products for all shifts together: PyTorch would copy the parts once a shift.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, offsets: list[tuple[int, int]]) -> Tensor:
        """The sum, `(N, C', h, w)`, float32 or finer."""
        n, channels, height, width = x.shape
        pixels = x.permute(0, 2, 3, 1).reshape(-1, channels)
        ctx.save_for_backward(pixels, weights)
        ctx.offsets, ctx.grid = offsets, (n, height, width)
        # Class by class, so that the rows to be shifted lie in one piece.
        parts = (weights.flatten(0, 1) @ pixels.t()).view(*weights.shape[:2], n, height, width)
        total = torch.zeros_like(parts[0], dtype=torch.promote_types(x.dtype, torch.float32))
        for part, offset in zip(parts, offsets, strict=True):
            total[on_grid(offset, height, width)] += part[on_grid(offset, height, width, seen=True)]
        return total.transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None]:
        """Gradients of `x` and of `weights`."""
        (pixels, weights), (n, height, width) = ctx.saved_tensors, ctx.grid
        parts = pixels.new_zeros(n, *weights.shape[:2], height, width)
        for part, offset in zip(parts.unbind(1), ctx.offsets, strict=True):
            part[on_grid(offset, height, width, seen=True)] = gradient[on_grid(offset, height, width)]
        rows = parts.flatten(1, 2).permute(0, 2, 3, 1).flatten(0, 2)
        of_weights = (rows.t() @ pixels).view_as(weights)
        if not ctx.needs_input_grad[0]:
            return None, of_weights, None
        return (rows @ weights.flatten(0, 1)).view(n, height, width, -1).permute(0, 3, 1, 2), of_weights, None


def on_grid(offset: tuple[int, int], height: int, width: int, seen: bool = False) -> tuple[Any, ...]:
    """Index of the cells of a grid from which a cell `offset` further on is on it; `seen`: of those further on."""
    steps = offset if seen else [-step for step in offset]
    return ..., *(slice(max(0, step), side + min(0, step)) for step, side in zip(steps, (height, width), strict=True))
