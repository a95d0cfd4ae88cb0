"""Figures of the lessons. Each takes what the lesson has just computed and returns a matplotlib `Figure`."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from deeplab_lib.labels import CLASS_NAMES, IGNORE_INDEX, NUM_CLASSES, PALETTE, colorize
from deeplab_lib.plotting.run_figures import picture
from deeplab_lib.plotting.style import LOOKS, styled

if TYPE_CHECKING:
    from torch import Tensor

DARK, LIGHT = "#1b1b1b", "0.72"  # two tones that stay apart on any printer


def panels(height: float, columns: int = 1, rows: int = 1, width: float = 8.0, **subplots: Any) -> tuple[Figure, Any]:
    """A figure for the screen, `width` x `height` inches, and its axes."""
    fig = Figure(figsize=(width, height), layout="constrained", dpi=110)
    return fig, fig.subplots(rows, columns, **subplots)


# Lesson 1: labels and metrics.


@styled
def one_patch(image: np.ndarray, ids: np.ndarray, train_ids: np.ndarray, size: tuple[int, int] = (7, 9)) -> Figure:
    """A few pixels as colours, as label ids and as train ids: where most labels meet, void among them if possible."""
    top, left = _busiest(ids, train_ids, size)
    window = np.s_[top : top + size[0], left : left + size[1]]
    fig, (scene, *axes) = panels(2.1, 4, width=10, gridspec_kw={"width_ratios": (1.5, 1, 1, 1)})
    picture(scene, image, "the scene")
    for tone, width in (("black", 3), ("white", 1.2)):
        scene.add_patch(Rectangle((left - 0.5, top - 0.5), size[1], size[0], fill=False, ec=tone, lw=width))
    picture(axes[0], image[window], "the box, enlarged")
    for ax, numbers, title in ((axes[1], ids, "label ids (the file)"), (axes[2], train_ids, "train ids (the network)")):
        picture(ax, 255 - (255 - colorize(train_ids[window]).astype(int)) // 2, title)
        for (row, column), value in np.ndenumerate(numbers[window]):
            void = train_ids[window][row, column] == IGNORE_INDEX
            ax.text(column, row, value, ha="center", va="center", fontsize=6.5, color="white" if void else "black")
    return fig


def _busiest(ids: np.ndarray, train_ids: np.ndarray, size: tuple[int, int]) -> tuple[int, int]:
    """Corner of the window of `size` with the most different labels; one with void comes before any without."""
    best, corner = (-1, -1), (0, 0)
    for top in range(0, ids.shape[0] - size[0], 3):
        for left in range(0, ids.shape[1] - size[1], 3):
            window = np.s_[top : top + size[0], left : left + size[1]]
            void = np.mean(train_ids[window] == IGNORE_INDEX)
            if (score := (0.05 < void < 0.4, len(np.unique(ids[window])))) > best:
                best, corner = score, (top, left)
    return corner


def class_axis(ax: Axes) -> None:
    """Class names down the left side, the first on top."""
    ax.set_yticks(range(NUM_CLASSES), CLASS_NAMES)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)


@styled
def imbalance(pixels: np.ndarray, images: np.ndarray, title: str) -> Figure:
    """Share of the labelled pixels and of the images that each class takes, both in percent `(19,)`."""
    fig, axes = panels(3.6, 2, sharey=True)
    for ax, values, label in zip(
        axes,
        (pixels, images),
        ("share of the labelled pixels (%, log scale)", "images that hold the class (%)"),
        strict=True,
    ):
        ax.barh(range(NUM_CLASSES), values, color=PALETTE / 255, edgecolor="0.2", linewidth=0.5)
        for place, value in enumerate(values):
            ax.annotate(f"{value:.3g}", (value, place), (3, 0), textcoords="offset points", va="center", fontsize=6.5)
        ax.set_xlabel(label)
    axes[0].set_xscale("log")
    axes[0].set_xlim(max(np.min(pixels[pixels > 0]) / 2, 1e-3), 130)
    axes[1].set_xlim(0, 115)
    class_axis(axes[0])
    fig.suptitle(title, fontsize=8)
    return fig


@styled
def erased(drops: np.ndarray, title: str) -> Figure:
    """What accuracy and mIoU lose when a perfect prediction forgets one class: `drops (19, 2)` in points."""
    fig, ax = panels(3.6)
    for place, (accuracy, miou) in enumerate(drops):
        ax.plot([accuracy, miou], [place, place], color="0.7", lw=1, zorder=1)
    ax.plot(drops[:, 0], range(NUM_CLASSES), "o", color="white", mec=DARK, ms=5, label="pixel accuracy")
    ax.plot(drops[:, 1], range(NUM_CLASSES), "s", color=DARK, ms=5, label="mIoU")
    class_axis(ax)
    ax.set(xlabel="lost when the class is forgotten (percentage points)", title=title, xlim=(-0.5, None))
    ax.legend(loc="lower right")
    return fig


@styled
def outline_cost(sides: np.ndarray, lost: Mapping[int, ArrayLike]) -> Figure:
    """IoU of a square against its side when its outline is drawn too wide; `lost` {pixels: IoU in percent}."""
    fig, ax = panels(2.5, width=5.5)
    for (pixels, values), dash in zip(lost.items(), ("-", "--", ":"), strict=False):
        ax.plot(sides, values, color=DARK, ls=dash, label=f"{pixels} px too wide")
    ax.set_xscale("log", base=2)
    ax.set_xticks(sides[::1], [f"{side:g}" for side in sides])
    ax.set(xlabel="side of the object (pixels, log scale)", ylabel="IoU (%)", ylim=(0, 100))
    ax.legend()
    return fig


@styled
def sampling(
    labels: np.ndarray,
    ours: Sequence[np.ndarray],
    nearest: Sequence[np.ndarray],
    scores: Mapping[str, float],
    shown: int = 48,
) -> Figure:
    """Where two rules take a picture's labels: in a part of it, along a row, and what the grid's own labels score.

    labels: colours `(H, W, 3)`. ours, nearest: rows and columns `(h, w)` of the pixels taken. scores: {rule: mIoU in
    percent}.
    """
    fig, axes = panels(2.5, 3, width=9.5, gridspec_kw={"width_ratios": (1.2, 1.2, 1)})
    height, width = labels.shape[:2]
    axes[0].imshow(labels, alpha=0.45)
    # Every other column, so that the pairs stay apart.
    rows, columns = (np.array([a, b])[..., ::2].reshape(2, -1) for a, b in zip(ours, nearest, strict=True))
    axes[0].plot(columns, rows, color="black", lw=0.8)
    axes[0].plot(columns[0], rows[0], "o", color="black", mfc="white", ms=4.5, label="feature")
    axes[0].plot(columns[1], rows[1], "x", color="black", ms=4, label="its label (nearest)")
    left, top = int(0.62 * width), int(0.4 * height)
    axes[0].set(xlim=(left, left + shown), ylim=(top + 0.75 * shown, top))
    axes[0].set(xlabel="column (px)", ylabel="row (px)", title="labels, right of the middle")
    axes[0].grid(visible=False)
    axes[0].legend(loc="upper left", frameon=True, framealpha=0.9, fontsize=6, handlelength=1)
    drift = ours[1][0] - nearest[1][0]
    axes[1].step(range(len(drift)), drift, where="mid", color=DARK)
    axes[1].set(xlabel="column of the grid", ylabel="too far left by (px)", title="drift of nearest interpolation")
    bars = axes[2].bar(list(scores), list(scores.values()), color=[DARK, LIGHT], edgecolor="0.2", width=0.6)
    axes[2].bar_label(bars, fmt="%.1f", fontsize=7)
    axes[2].set(ylabel="mIoU (%)", ylim=(0, 100), title="score of the grid's own labels")
    axes[2].grid(axis="x", visible=False)
    return fig


# Lesson 2: the network.


def bare(ax: Axes) -> None:
    """No frame, no grid, no ticks: the picture alone."""
    ax.set(xticks=[], yticks=[])
    ax.grid(visible=False)


@styled
def taps(dilations: Sequence[int], extent: int = 9) -> Figure:
    """Which pixels a 3x3 kernel reads, for some dilations, on a square of `extent` pixels."""
    fig, axes = panels(2.2, len(dilations))
    for ax, dilation in zip(axes, dilations, strict=True):
        read = np.zeros((extent, extent))
        places = extent // 2 + dilation * np.arange(-1, 2)
        read[np.ix_(places, places)] = 1
        ax.imshow(read, cmap="Greys", vmin=0, vmax=1.3)
        ax.set_xticks(np.arange(extent + 1) - 0.5, [])
        ax.set_yticks(np.arange(extent + 1) - 0.5, [])
        ax.tick_params(length=0)
        ax.set_title(f"dilation {dilation}: 9 weights, {2 * dilation + 1} pixels wide")
    return fig


@styled
def nested_fields(image: np.ndarray, fields: Mapping[str, int], size: tuple[int, int]) -> Figure:
    """Receptive fields {name: side in pixels} of the middle cell, drawn over an image of `size` (H, W) pixels."""
    fig, ax = panels(4.4, width=6.8)
    height, width = size
    ax.imshow(image, extent=(0, width, height, 0), alpha=0.6)
    dashes = ("-", "--", "-.", ":", "--", "-")
    for place, (name, side) in enumerate(fields.items()):
        corner, label = (width / 2 - side / 2, height / 2 - side / 2), f"{name}: {side} px"
        line: dict[str, Any] = {"lw": 0.9 + 0.2 * place, "ls": dashes[place % 6], "joinstyle": "miter"}
        ax.add_patch(Rectangle(corner, side, side, fill=False, ec="black", label=label, **line))
    reach = max(fields.values()) / 2 + 40
    ax.set(xlim=(width / 2 - reach, width / 2 + reach), ylim=(height / 2 + reach, height / 2 - reach))
    ax.set(xlabel="column (px)", ylabel="row (px)")
    ax.grid(visible=False)
    ax.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), title="receptive field after", title_fontsize=7)
    return fig


@styled
def seen_by_branches(image: np.ndarray, maps: Mapping[str, np.ndarray]) -> Figure:
    """Where each branch looks: `maps` {title: gradient (H, W)}, each on its own scale."""
    fig, axes = panels(3.0, 3, rows=2, width=9)
    picture(axes.flat[0], image, "the image; the cell in question is a cross")
    height, width = image.shape[:2]
    axes.flat[0].plot(width / 2, height / 2, "+", color="white", ms=9, mew=2.5)
    axes.flat[0].plot(width / 2, height / 2, "+", color="black", ms=8, mew=1)
    for ax, (title, gradient) in zip(axes.flat[1:], maps.items(), strict=True):
        drawn = ax.imshow(gradient / gradient.max(), cmap="Greys", vmin=0, vmax=1)
        ax.set_title(title, fontsize=7)
        bare(ax)
        ax.spines[:].set_visible(True)
    fig.colorbar(drawn, ax=axes, shrink=0.7, label="influence on the answer (1 = largest)")
    return fig


@styled
def branch_drops(
    rates: Sequence[int],
    drops: Mapping[str, Sequence[float] | np.ndarray],
    inside: Mapping[str, Sequence[float] | np.ndarray],
    title: str,
) -> Figure:
    """What silencing each branch costs, and how many of its taps lie inside the grid.

    drops: {score: (4,)} in points. inside: {grid: (4,)} in percent.
    """
    fig, axes = panels(2.7, 2)
    names = [f"rate {rate}" for rate in rates]
    for ax, groups, label in (
        (axes[0], drops, "lost without the branch (points)"),
        (axes[1], inside, "taps inside the grid (%)"),
    ):
        for place, (name, values) in enumerate(groups.items()):
            x = np.arange(len(rates)) + 0.38 * (place - 0.5)
            bars = ax.bar(x, values, 0.36, color=(DARK, LIGHT)[place], edgecolor="0.2", label=name)
            ax.bar_label(bars, [f"{value:.1f}" for value in values], fontsize=6.5, padding=2)
        ax.set_xticks(range(len(rates)), names)
        ax.set_ylabel(label)
        ax.grid(axis="x", visible=False)
        ax.margins(y=0.25)
        ax.axhline(0, color="0.2", lw=0.6)
        ax.legend(loc="upper right", handlelength=1.2, ncols=2)
    fig.suptitle(title, fontsize=8)
    return fig


@styled
def costs(table: pd.DataFrame, title: str) -> Figure:
    """Shares of parameters and multiply-adds by part of the network, from a table with one column each."""
    fig, ax = panels(2.8)
    y = np.arange(len(table))
    for place, (column, tone) in enumerate(zip(table, (DARK, LIGHT), strict=True)):
        share = 100 * table[column] / table[column].sum()
        bars = ax.barh(y + 0.4 * (place - 0.5), share, 0.36, color=tone, edgecolor="0.2", label=column)
        ax.bar_label(bars, fmt="%.1f", fontsize=6.5, padding=2)
    ax.set_yticks(y, table.index)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.set(xlabel="share of the network (%)", title=title)
    ax.legend(loc="lower right", handlelength=1.2)
    return fig


# Lesson 3: losses.

LOSS_LOOKS = {
    "ce": LOOKS["ce"],
    "focal": LOOKS["ce_focal"],
    "tversky": LOOKS["ce_tversky"],
    "dice": LOOKS["ce_dice"],
    "lovasz": LOOKS["ce_lovasz"],
    "0.5*ce + 0.5*lovasz": LOOKS["ce_lovasz_warmup"],
}


@styled
def focal_curves(p: ArrayLike, curves: Mapping[str, Mapping[float, ArrayLike]]) -> Figure:
    """Two panels against the probability of the true class; `curves` {title: {gamma: values}}."""
    fig, axes = panels(2.5, 2)
    for ax, (title, lines) in zip(axes, curves.items(), strict=True):
        for (gamma, values), dash in zip(lines.items(), ("-", "--", "-.", ":"), strict=False):
            ax.plot(p, values, color=DARK, ls=dash, label=f"γ = {gamma:g}" + " (cross-entropy)" * (gamma == 0))
        ax.set(xlabel="probability of the true class", ylabel=title, xlim=(0, 1))
    axes[0].set_ylim(0, 5)
    axes[0].legend()
    return fig


@styled
def ambiguous_edge(x: "np.ndarray | Tensor", truth: ArrayLike, answers: Mapping[str, ArrayLike]) -> Figure:
    """How far an object is claimed: its probability along a line, and the answers {name: p} that losses settle on."""
    fig, ax = panels(2.6, width=7)
    ax.fill_between(x, truth, color="0.88", label="how often the pixel belongs to the object")
    for (name, p), dash in zip(answers.items(), ("-", "--", "-.", ":"), strict=False):
        ax.plot(x, p, color=DARK, ls=dash, lw=1.5, label=name)
    ax.set(xlabel="position (pixels)", ylabel="probability", ylim=(0, 1.03), xlim=(x[0], x[-1]))
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return fig


@styled
def lovasz_stairs(table: pd.DataFrame) -> Figure:
    """The steps of one class: a table with `error`, `foreground`, `jaccard` and `growth`, sorted by error."""
    fig, ax = panels(2.7, width=6.5)
    place = np.arange(1, len(table) + 1)
    for inside, tone, name in ((True, DARK, "of the class"), (False, LIGHT, "of another class")):
        mine = (table["foreground"] == inside).to_numpy()
        ax.bar(place[mine], table["growth"][mine], 0.6, color=tone, edgecolor="0.2", label=f"weight of a pixel {name}")
    ax.step(
        [0.5, *(place + 0.5)], [0, *table["jaccard"]], where="pre", color="black", lw=1.2, label="Jaccard loss so far"
    )
    ax.plot(place, table["error"], "o", color="black", mfc="white", ms=4.5, label="error of the pixel")
    ax.set_xticks(place)
    ax.set(xlabel="pixels, the worst first", ylabel="loss, weight, error", ylim=(0, 1.05))
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    ax.grid(axis="x", visible=False)
    return fig


@styled
def gradient_maps(image: np.ndarray, labels: np.ndarray, maps: Mapping[str, np.ndarray]) -> Figure:
    """A scene, its labels on the grid, and how hard each loss pulls at each cell, `maps` {loss: (h, w)}."""
    rows = math.ceil((2 + len(maps)) / 4)
    fig, axes = panels(1.5 * rows, 4, rows, width=10, squeeze=False)
    places = axes.flat
    picture(next(places), image, "image")
    picture(next(places), colorize(labels), "labels on the grid (black: void)")
    for name, gradient in maps.items():
        ax = next(places)
        drawn = ax.imshow(gradient / gradient.max(), cmap="Greys", norm=PowerNorm(0.5, 0, 1))
        ax.set_title(name)
        bare(ax)
        ax.spines[:].set_visible(True)
    for ax in places:
        ax.set_axis_off()
    fig.colorbar(drawn, ax=axes, shrink=0.7, label="gradient (1 = strongest)", ticks=(0, 0.05, 0.2, 0.5, 1))
    return fig


@styled
def loudness(table: pd.DataFrame, title: str) -> Figure:
    """Share of the gradient (percent) by class and loss, as numbers on grey; the first column is the share of cells."""
    fig, ax = panels(4.2, width=5.6)
    values = table.to_numpy()
    ratio = np.log2(np.maximum(values, 1e-3) / np.maximum(values[:, :1], 1e-3))
    drawn = ax.imshow(ratio, cmap="Greys", vmin=-3, vmax=4, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        dark = ratio[row, column] > 0.9
        ax.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=6.5, color="white" if dark else "black")
    ax.set_xticks(range(table.shape[1]), table.columns)
    ax.set_yticks(range(len(table)), table.index)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    bar = fig.colorbar(drawn, ax=ax, ticks=range(-3, 5), label="share of gradient / share of cells", shrink=0.8)
    bar.ax.set_yticklabels([f"{2.0**power:g}" for power in range(-3, 5)])
    fig.suptitle(title, fontsize=8)
    return fig


@styled
def vanishing(p: ArrayLike, pulls: Mapping[str, ArrayLike]) -> Figure:
    """How hard each loss pulls at a pixel against the probability of its true class; `pulls` {loss: values}."""
    fig, ax = panels(2.6, width=6)
    for name, values in pulls.items():
        look = LOSS_LOOKS[name]
        ax.plot(p, values, color=look.color, ls=look.dash, marker=look.marker, markevery=6, label=name)
    ax.set(xscale="log", yscale="log", ylim=(1e-4, 2))
    ax.set(xlabel="probability of the true class (log scale)", ylabel="pull (1 = its strongest)")
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return fig


@styled
def beliefs(shares: ArrayLike, best: Mapping[str, ArrayLike]) -> Figure:
    """The probability that each loss likes best against the share of pixels that are right; `best` {loss: values}."""
    fig, ax = panels(2.8, width=6)
    ax.plot([0, 1], [0, 1], color="0.6", lw=0.8, ls=":")
    for name, values in best.items():
        look = LOSS_LOOKS[name]
        ax.plot(shares, values, color=look.color, ls=look.dash, marker=look.marker, label=name)
    ax.set(xlabel="share of the doubtful pixels that are of the class", ylabel="probability that the loss likes best")
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return fig


@styled
def escape(margins: np.ndarray, steps: Mapping[str, ArrayLike], cap: float) -> Figure:
    """Steps until a class that was confidently denied is found, against the margin; `steps` {loss: values}."""
    fig, ax = panels(2.6, width=6)
    for name, values in steps.items():
        look, values = LOSS_LOOKS[name], np.array(values, dtype=float)
        found = values < cap
        ax.plot(margins[found], values[found], color=look.color, ls=look.dash, marker=look.marker, label=name)
        ax.plot(margins[~found], values[~found], look.marker, color=look.color, mfc="white")
    ax.axhline(cap, color="0.6", lw=0.8, ls=":")
    ax.annotate(
        "not within this time (open markers)", (margins[0], cap), (0, -9), textcoords="offset points", fontsize=6.5
    )
    ax.set(xlabel="logit margin by which the class is denied at first", ylabel="steps until found")
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return fig


@styled
def schedules(progress: ArrayLike, rates: Mapping[str, Sequence[float]]) -> Figure:
    """Learning rate of every recipe over the training; `rates` {key: values}, `progress` in epochs."""
    fig, ax = panels(2.9)
    for key, values in rates.items():
        look = LOOKS[key]
        alike = [other for other, drawn in rates.items() if drawn == values]  # equal schedules nest, thinner on top
        width = 1.3 * (len(alike) - alike.index(key))
        ax.plot(progress, values, color=look.color, ls=look.dash, lw=width, label=key)
    ax.set(
        xlabel="epochs trained", ylabel="base learning rate (log scale)", yscale="log", xlim=(0, 50), ylim=(1e-6, None)
    )
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return fig
