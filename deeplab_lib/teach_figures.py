"""Figures of the lessons. Each takes what the lesson has just computed and returns a matplotlib `Figure`."""

import numpy as np
from matplotlib.figure import Figure

from .labels import CLASS_NAMES, IGNORE_INDEX, NUM_CLASSES, PALETTE, colorize
from .plots import styled
from .show import picture

DARK, LIGHT = "#1b1b1b", "0.72"  # two tones that stay apart on any printer


def panels(height, columns=1, rows=1, width=8.0, **subplots):
    """A figure for the screen, `width` x `height` inches, and its axes."""
    fig = Figure(figsize=(width, height), layout="constrained", dpi=110)
    return fig, fig.subplots(rows, columns, **subplots)


# Lesson 1: labels and metrics.


@styled
def one_patch(image, ids, train_ids, size=(7, 9)):
    """A few pixels as colours, as label ids and as train ids: where most labels meet, void among them if possible."""
    top, left = _busiest(ids, train_ids, size)
    window = np.s_[top : top + size[0], left : left + size[1]]
    fig, axes = panels(2.3, 3)
    picture(axes[0], image[window], "image")
    for ax, numbers, title in ((axes[1], ids, "label ids (the file)"), (axes[2], train_ids, "train ids (the network)")):
        picture(ax, 255 - (255 - colorize(train_ids[window]).astype(int)) // 2, title)
        for (row, column), value in np.ndenumerate(numbers[window]):
            void = train_ids[window][row, column] == IGNORE_INDEX
            ax.text(column, row, value, ha="center", va="center", fontsize=6.5, color="white" if void else "black")
    return fig


def _busiest(ids, train_ids, size):
    """Corner of the window of `size` with the most different labels; one with void comes before any without."""
    best, corner = (-1, -1), (0, 0)
    for top in range(0, ids.shape[0] - size[0], 3):
        for left in range(0, ids.shape[1] - size[1], 3):
            window = np.s_[top : top + size[0], left : left + size[1]]
            void = np.mean(train_ids[window] == IGNORE_INDEX)
            if (score := (0.05 < void < 0.4, len(np.unique(ids[window])))) > best:
                best, corner = score, (top, left)
    return corner


def class_axis(ax):
    """Class names down the left side, the first on top."""
    ax.set_yticks(range(NUM_CLASSES), CLASS_NAMES)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)


@styled
def imbalance(pixels, images, title):
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
def erased(drops, title):
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
def outline_cost(sides, lost):
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
def sampling(labels, ours, nearest, attainable, shown=48):
    """Where two rules take a picture's labels: in a part of it, along a row, and what a perfect network then scores.

    labels: colours `(H, W, 3)`. ours, nearest: columns `(w,)`, in a row of pixels. attainable: {rule: mIoU in percent}.
    """
    fig, axes = panels(2.5, 3, width=9.5, gridspec_kw={"width_ratios": (1.2, 1.2, 1)})
    height, width = labels.shape[:2]
    axes[0].imshow(labels, alpha=0.45)
    for row in range(0, height, 8):
        ends = np.array([ours, nearest])[:, ::2]  # every other column, so that the pairs stay apart
        heights = np.full(ends.shape, row)
        axes[0].plot(ends, heights, color="black", lw=0.8)
        axes[0].plot(ends[0], heights[0], "o", color="black", mfc="white", ms=4.5, label="feature" * (row == 0))
        axes[0].plot(ends[1], heights[1], "x", color="black", ms=4, label="its label (nearest)" * (row == 0))
    left, top = int(0.62 * width), int(0.4 * height)
    axes[0].set(xlim=(left, left + shown), ylim=(top + 0.75 * shown, top))
    axes[0].set(xlabel="column (px)", ylabel="row (px)", title="right of the middle")
    axes[0].grid(visible=False)
    axes[0].legend(loc="upper left", frameon=True, framealpha=0.9, fontsize=6, handlelength=1)
    axes[1].step(range(len(ours)), ours - nearest, where="mid", color=DARK)
    axes[1].set(xlabel="column of the grid", ylabel="too far left by (px)", title="drift of nearest interpolation")
    bars = axes[2].bar(list(attainable), list(attainable.values()), color=[DARK, LIGHT], edgecolor="0.2", width=0.6)
    axes[2].bar_label(bars, fmt="%.1f", fontsize=7)
    axes[2].set(ylabel="attainable mIoU (%)", ylim=(0, 100), title="a perfect network's score")
    axes[2].grid(axis="x", visible=False)
    return fig
