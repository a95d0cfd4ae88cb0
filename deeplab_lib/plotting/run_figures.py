"""Pictures and tables of a single run, for the notebooks: configuration, data, schedule, curves, predictions."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from deeplab_lib.common.devices import FAST_PATHS
from deeplab_lib.common.markup import as_markdown, as_text
from deeplab_lib.common.text import plan_change
from deeplab_lib.config import DESCRIPTIONS, Config
from deeplab_lib.data import augment
from deeplab_lib.labels import CLASS_NAMES, IGNORE_INDEX, NUM_CLASSES, PALETTE, colorize
from deeplab_lib.plotting.style import LOOKS, Look, styled

if TYPE_CHECKING:
    from deeplab_lib.data.cityscapes import Cityscapes
    from deeplab_lib.data.dataset import Data

GREY = "0.45"


def configuration(config: Config) -> pd.DataFrame:
    """The resolved configuration as a table: every parameter, its value and what it means."""
    from dataclasses import fields

    rows = [(item.name, str(getattr(config, item.name)), DESCRIPTIONS[item.name]) for item in fields(config)]
    rows += [("", name, f"chosen by itself: {FAST_PATHS[name][1]}") for name in config.fast_paths]
    return pd.DataFrame(rows, columns=["parameter", "value", "meaning"]).set_index("parameter")


def about(config: Config) -> Markdown:
    """What is trained, why, and where its files go; an own loss is shown as it is written, asterisks included."""
    title = as_markdown(as_text(config.title))
    what = f"**{title}**: `{config.expression}`\n\n{as_markdown(as_text(config.about))}"
    return Markdown(f"{what}\n\nThe run's files: `{config.out_dir}/{config.stem}.*`")


def whole(table: pd.DataFrame) -> HTML:
    """A table of which no cell is cut and no row left out, and whose text is text: `$x$` in it is no formula."""
    shown = {"display.max_colwidth": None, "display.max_rows": None, "display.html.use_mathjax": False}
    with pd.option_context(*(part for item in shown.items() for part in item)):
        return HTML(table.to_html())


@styled
def samples(dataset: "Cityscapes", numbers: Sequence[int] = (0, 1, 2)) -> Figure:
    """Images of a data set above their labels laid over them, with the names of the classes in sight."""
    numbers = numbers[: len(dataset)]
    height, width = dataset.raw(numbers[0])[1].shape
    fig = Figure(figsize=(3.2 * len(numbers), 6.4 * height / width + 0.9), layout="constrained")
    axes = fig.subplots(2, len(numbers), squeeze=False)
    seen = set()
    for column, number in zip(axes.T, numbers, strict=True):
        image, labels = dataset.raw(number)
        seen |= set(np.unique(labels).tolist()) - {IGNORE_INDEX}
        picture(column[0], image, dataset.pairs[number].name)
        picture(column[1], overlay(image, labels), "labels laid over")
    handles = [Patch(color=PALETTE[i] / 255, label=CLASS_NAMES[i]) for i in sorted(seen)]
    fig.legend(handles=handles, loc="outside lower center", ncols=7, fontsize=8)
    return fig


@styled
def augmented(data: "Data", config: Config, numbers: Sequence[int] = (0, 1, 2), epochs: int = 3) -> Figure:
    """Training images, labels laid over: in each row as they are, then as the first epochs see them."""
    views = [data.train, *(augment.augmented(data, config, epoch) for epoch in range(1, epochs + 1))]
    numbers, (height, width) = numbers[: len(data.train)], config.size
    fig = Figure(figsize=(2.4 * len(views), 2.4 * len(numbers) * height / width + 0.4), layout="constrained")
    axes = fig.subplots(len(numbers), len(views), squeeze=False)
    for row, number in zip(axes, numbers, strict=True):
        for epoch, (ax, view) in enumerate(zip(row, views, strict=True)):
            name = data.train.pairs[number].name
            picture(ax, overlay(*view.raw(number), opacity=0.35), f"epoch {epoch}" if epoch else name)
    return fig


def overlay(image: np.ndarray, labels: np.ndarray, opacity: float = 0.55) -> np.ndarray:
    """Labels `(H, W)` in their colours over `image (H, W, 3)` uint8; void stays the image."""
    shown = np.asarray(labels) != IGNORE_INDEX
    mixed = (1 - opacity * shown[..., None]) * image + opacity * shown[..., None] * colorize(labels)
    return mixed.astype(np.uint8)


def picture(ax: Axes, pixels: np.ndarray, title: str = "") -> None:
    """Show `pixels` in `ax` without frame or ticks."""
    ax.imshow(pixels)
    ax.set_title(title, fontsize=8)
    ax.set_axis_off()


@styled
def schedule(config: Config, steps_per_epoch: int) -> Figure:
    """The learning rate of every step, with the changes of the recipe numbered where they act."""
    plan = config.poly(steps_per_epoch)
    epochs = np.arange(plan.total_steps) / steps_per_epoch
    fig = Figure(figsize=(7, 2.4), layout="constrained")
    ax = fig.subplots()
    ax.plot(epochs, [plan.lr(step) for step in range(plan.total_steps)], color=look(config).color)
    notes = []
    for number, change in enumerate(config.schedule_recipe.changes, 1):
        at = change.first_step(plan.total_steps) / steps_per_epoch
        ax.axvline(at, color=GREY, lw=0.8, ls=":")
        ax.annotate(f"{number}", (at, 1.01), xycoords=("data", "axes fraction"), ha="center", fontsize=8)
        notes.append(f"{number}  {plan_change(change.power, change.weights, change.freeze)}")
    # Where the rate has fallen there is room.
    place: dict[str, Any] = {"transform": ax.transAxes, "ha": "right", "va": "top", "multialignment": "left"}
    ax.text(0.985, 0.93, "\n".join(notes), **place, fontsize=8, backgroundcolor="w")
    ax.set(xlabel="epochs trained", ylabel="base learning rate", xlim=(0, config.epochs), ylim=(0, None))
    ax.locator_params(axis="x", integer=True)
    return fig


def look(config: Config) -> Look:
    """How the run is drawn in every figure, here and in the report."""
    return LOOKS.get(config.loss, LOOKS["ce"])


@styled
def curves(history: Sequence[Mapping[str, Any]], config: Config) -> Figure:
    """Losses and mIoU against the epoch; `history` is the rows of the run's CSV so far."""
    table = pd.DataFrame(history)
    # Laid out by hand: it is drawn after every epoch, and a layout takes as long again.
    fig = Figure(figsize=(8.2, 2.7))
    room = {"left": 0.07, "right": 0.99, "bottom": 0.16, "top": 0.9, "wspace": 0.18}
    color, axes = look(config).color, fig.subplots(1, 2, gridspec_kw=room)
    for ax, column, label in zip(axes, ("loss", "mIoU"), ("loss of this run", "mIoU (%)"), strict=True):
        mark = {"color": color, "marker": "o", "ms": 3}
        ax.plot(table["epoch"], table[f"train_{column}"], ls="--", mfc="white", label="training", **mark)
        ax.plot(table["epoch"], table[f"val_{column}"], label="validation", **mark)
        values = table[[f"train_{column}", f"val_{column}"]].to_numpy(float)
        highest = values[np.isfinite(values)].max(initial=0)
        ax.set(xlabel="epochs trained", ylabel=label, xlim=(0, 1.02 * config.epochs), ylim=(0, 1.08 * highest or 1))
        ax.locator_params(axis="x", integer=True)
    axes[0].legend()
    part, whole = (config.scenes or {}).get("val", (0, 0))
    images = f", validated on the first {part} of {whole} images" if part < whole else ""
    fig.suptitle(f"{config.title}, {config.dataset_name}, {config.preset} scale{images}", fontsize=8, color=GREY)
    return fig


@styled
def class_iou(summary: Mapping[str, Any]) -> Figure:
    """Validation IoU of every class after the last epoch, as bars; classes that do not occur are named as absent."""
    values = np.array([np.nan if v is None else v for v in summary["final"]["class_val"]], dtype=float)
    fig = Figure(figsize=(7, 2.8), layout="constrained")
    ax = fig.subplots()
    ax.bar(range(NUM_CLASSES), np.nan_to_num(values), color=PALETTE / 255, edgecolor="0.2", linewidth=0.4)
    for place, value in enumerate(values):
        text, height = ("absent", 1) if np.isnan(value) else (f"{value:.0f}", value + 1)
        ax.text(place, height, text, ha="center", va="bottom", fontsize=7, rotation=90 * np.isnan(value))
    ax.axhline(summary["final"]["val_mIoU"], color="0.2", lw=0.8, ls="--")
    ax.set_xticks(range(NUM_CLASSES), CLASS_NAMES, rotation=60, ha="right")
    ax.set(ylabel="validation IoU (%)", ylim=(0, 105))
    ax.set_title(f"mIoU {summary['final']['val_mIoU']:.2f} % (dashed), {where(summary)}", fontsize=8)
    ax.grid(axis="x", visible=False)
    return fig


def where(summary: Mapping[str, Any]) -> str:
    """Data set and scale of a run, to stand on every picture of it."""
    made = " (synthetic)" if summary["dataset"]["synthetic"] else ""
    return f"{summary['dataset']['name']}{made}, {summary['config']['preset']} scale"


@styled
def predictions(
    dataset: "Cityscapes", names: Sequence[str] | np.ndarray, predicted: np.ndarray, count: int = 4
) -> Figure:
    """Images, ground truth, predictions `(K, H, W)` and where they differ, for `count` evenly spaced images."""
    place = {pair.name: number for number, pair in enumerate(dataset.pairs)}
    chosen = np.linspace(0, len(names) - 1, min(count, len(names))).astype(int)
    height, width = predicted.shape[1:]
    rows, side, title = len(chosen), 2.37 * height / width, 0.2  # inches: height of a picture, and of what is above it
    fig = Figure(figsize=(9.6, rows * (side + title)))
    room = {"left": 0, "right": 1, "bottom": 0, "top": 1 - title / fig.get_figheight(), "wspace": 0.012}
    axes = fig.subplots(rows, 4, squeeze=False, gridspec_kw=room | {"hspace": title / side})
    for row, number in zip(axes, chosen, strict=True):
        image, labels = dataset.raw(place[str(names[number])])
        errors = np.where(labels == IGNORE_INDEX, 200, np.where(predicted[number] == labels, 255, 0)).astype(np.uint8)
        picture(row[0], image, str(names[number]))
        picture(row[1], colorize(labels), "ground truth")
        picture(row[2], colorize(predicted[number]), "prediction")
        picture(row[3], np.repeat(errors[..., None], 3, axis=2), "errors (black), void (grey)")
    return fig
