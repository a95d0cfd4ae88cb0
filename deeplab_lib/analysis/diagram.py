"""The network as a picture: its parts in order, and the shape of what passes between them.

Shapes are those that the network itself gives at the size of the runs' images, computed without data.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple
from unittest import mock

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import nn

from deeplab_lib.common.types import Size
from deeplab_lib.models.deeplabv2 import STAGES, DeepLabV2
from deeplab_lib.models.efficiency import PAPER_SIZE
from deeplab_lib.models.registry import DEEPLABV2_SIZES, make_model
from deeplab_lib.plotting.style import figure, styled

WIDE, GAP = 14.7, 2.36  # six boxes in a row of 100
FILLS = {"stem": "0.93", "layer1": "0.87", "layer2": "0.87", "layer3": "0.75", "layer4": "0.75"}  # of the backbone
Point = tuple[float, float]


class Part(NamedTuple):
    """A part of the network: what it is called, what it does, and channels, height and width of what it gives."""

    name: str
    does: str
    shape: tuple[int, int, int]


class Place(NamedTuple):
    """Where a box stands: its column, from the left, its lower edge and its height."""

    column: int
    bottom: float
    high: float

    @property
    def corner(self) -> Point:
        return self.column * (WIDE + GAP), self.bottom

    @property
    def left(self) -> Point:
        return self.corner[0], self.bottom + self.high / 2

    @property
    def right(self) -> Point:
        return self.corner[0] + WIDE, self.bottom + self.high / 2


def drawn_network(config: Mapping[str, Any]) -> tuple[str, Size]:
    """Name and size (H, W) of the network to draw: that of a run's `config`, if a plain DeepLabV2, else the study's."""
    name, size = config.get("model", ""), (config.get("image_height", 0), config.get("image_width", 0))
    return (name, size) if name in DEEPLABV2_SIZES and all(size) else ("deeplabv2_resnet101", PAPER_SIZE)


def parts(name: str, size: Size) -> dict[str, Part]:
    """`{key: Part}` of a DeepLabV2 of `DEEPLABV2_SIZES` for one image of `size` (H, W), in order."""
    with torch.device("meta"):
        network, image = make_model(name).eval(), torch.empty(1, 3, *size)
    assert isinstance(network, DeepLabV2)
    shapes = _shapes(network, image)
    found = {"image": Part("image", "", (3, *size))}
    found["stem"] = Part("stem", "7 × 7 convolution, max-pool", shapes["maxpool"])
    for stage in STAGES:
        blocks = getattr(network, stage)
        rate = blocks[-1].conv2.dilation[0]
        does = f"{len(blocks)} block{'s' * (len(blocks) > 1)}" + (f", dilation {rate}" if rate > 1 else "")
        found[stage] = Part(stage, does, shapes[stage])
    logits = (network.num_classes, *shapes["layer4"][1:])
    for branch in network.aspp.branches:
        rate = branch.dilation[0]
        found[f"branch{rate}"] = Part("3 × 3", f"rate {rate}", logits)
    found["sum"] = Part("sum", "logits", logits)
    found["output"] = Part("upsampling", "bilinear, logits", (network.num_classes, *size))
    return found


def _shapes(network: DeepLabV2, image: torch.Tensor) -> dict[str, tuple[int, int, int]]:
    """`{name of a part: (channels, height, width) of its output}` of the backbone's parts.

    Batch norms, which keep the shape, are left out: on tensors without data they load the compiler, 1.5 s and 150 MB.
    """
    shapes: dict[str, tuple[int, int, int]] = {}
    for name, module in network.named_children():
        keep = lambda _, __, output, name=name: shapes.update({name: tuple(output.shape[1:])})  # noqa: E731
        module.register_forward_hook(keep)
    with mock.patch.object(nn.functional, "batch_norm", lambda x, *_, **__: x):
        network.features(image)
    return shapes


@styled
def network(name: str, size: Size) -> Figure:
    """A DeepLabV2 of `DEEPLABV2_SIZES` at `size` (H, W): above its backbone, below the branches and their sum."""
    found = parts(name, size)
    fig, ax = figure(2.9)
    ax.set(xlim=(-0.5, 100.5), ylim=(0, 47))
    ax.axis("off")
    places = {key: Place(column, 35, 12) for column, key in enumerate(("image", "stem", *STAGES))}
    branches = [key for key in found if key.startswith("branch")]
    places |= {key: Place(4, 24 - 7 * row, 5) for row, key in enumerate(branches)}
    places |= {key: Place(column, 9, 10) for column, key in ((2, "sum"), (1, "output"))}
    for key, part in found.items():
        _box(ax, places[key], part, FILLS.get(key, "white"), one_line=key in branches)
    for key, following in pairwise(("image", "stem", *STAGES)):
        _arrow(ax, places[key].right, places[following].left)
    below = places["layer4"].left[0] + WIDE / 2
    ax.plot([below, below], [35, places[branches[-1]].right[1]], color="0.2", linewidth=0.8)
    for key in branches:
        _arrow(ax, (below, places[key].right[1]), places[key].right)
        _arrow(ax, places[key].left, places["sum"].right)
    _arrow(ax, places["sum"].left, places["output"].right)
    ax.text(places[branches[0]].corner[0] + WIDE / 2, 30, "ASPP", ha="center", fontsize=8, weight="bold")
    return fig


def _box(ax: Axes, place: Place, part: Part, fill: str, one_line: bool) -> None:
    """A part as a box with its name in bold, what it does, and the shape of what it gives."""
    shape = " × ".join(map(str, part.shape))
    ax.add_patch(Rectangle(place.corner, WIDE, place.high, facecolor=fill, edgecolor="0.2", linewidth=0.8))
    x, y = place.corner[0] + WIDE / 2, place.corner[1] + place.high / 2
    if one_line:
        ax.text(x, y, f"{part.name}, {part.does}", ha="center", va="center", fontsize=7.5)
        return
    text = "\n".join(filter(None, ["", *part.does.split(", "), shape]))
    ax.text(x, place.corner[1] + place.high - 0.9, part.name, ha="center", va="top", fontsize=8, weight="bold")
    ax.text(x, place.corner[1] + 0.7, text, ha="center", va="bottom", fontsize=7.5, linespacing=1.15)


def _arrow(ax: Axes, start: Point, end: Point) -> None:
    ax.annotate(
        "", end, start, arrowprops={"arrowstyle": "-|>", "color": "0.2", "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0}
    )
