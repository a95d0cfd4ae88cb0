"""Figures made of cells and pixels: the per-class heat map, confusion matrices, predictions beside the ground truth."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from deeplab_lib.analysis.plots import Missing
from deeplab_lib.common.types import Size
from deeplab_lib.data.cityscapes import Cityscapes
from deeplab_lib.labels import CLASS_NAMES, IGNORE_INDEX, NUM_CLASSES, PALETTE, colorize
from deeplab_lib.metrics import iou as class_iou
from deeplab_lib.plotting.style import WIDTH, figure, styled
from deeplab_lib.study.run import Run

RIGHT, WRONG = (222, 222, 222), (190, 20, 40)
ONLY_RUN, ONLY_BASE = (36, 110, 200), (200, 60, 50)
SHADES = LinearSegmentedColormap.from_list("errors", np.array([RIGHT, WRONG]) / 255)


@styled
def heat_map(
    iou: pd.DataFrame, titles: Mapping[str, str], baseline: str | None = None, decided: pd.DataFrame | None = None
) -> Figure:
    """Per-class IoU of every run, and under it the difference from the run `baseline`, both with their numbers.

    `iou` is a table run x class name in percent; `titles` maps runs to names. Differences that are true in the
    table `decided` (same shape) are set in bold.
    """
    if iou.empty or not iou.notna().any(axis=None):
        raise Missing("no run has per-class IoU")
    above = baseline is not None and baseline in iou.index
    differences = iou.drop(index=baseline) - iou.loc[baseline] if above else iou.iloc[:0]
    rows = 2 if differences.notna().any(axis=None) else 1
    heights = [len(iou), len(differences)][:rows]
    grid = {"height_ratios": heights, "hspace": 0.05}
    fig, axes = figure(1.0 + 0.2 * sum(heights), rows, 1, squeeze=False, gridspec_kw=grid)
    top = axes[0, 0]
    _cells(top, iou, titles, "{:.0f}".format, cmap="cividis", vmin=0, vmax=100)
    top.xaxis.tick_top()
    top.set_xticks(range(iou.shape[1]), iou.columns, rotation=55, ha="left", rotation_mode="anchor")
    top.set_title("IoU (%)", loc="left", x=-0.01, ha="right", fontsize=8, y=1.03)
    if rows == 2 and baseline is not None:
        reach = max(float(np.nanmax(np.abs(differences.to_numpy(dtype=float)))), 1e-9)
        norm = TwoSlopeNorm(0, -reach, reach)
        _cells(axes[1, 0], differences, titles, _points, decided, cmap="PuOr", norm=norm)
        axes[1, 0].set_xticks([])
        axes[1, 0].set_xlabel(f"difference from {titles[baseline]} (percentage points)", fontsize=8)
    return fig


def _cells(
    ax: Axes,
    table: pd.DataFrame,
    titles: Mapping[str, str],
    form: Callable[[float], str],
    bold: pd.DataFrame | None = None,
    **colors: Any,
) -> None:
    values = table.to_numpy(dtype=float)
    image = ax.imshow(np.ma.masked_invalid(values), aspect="auto", **colors)
    for (row, column), value in np.ndenumerate(values):
        text = form(value).replace("-", "−") if np.isfinite(value) else "–"
        red, green, blue, _ = image.cmap(image.norm(value)) if np.isfinite(value) else (1, 1, 1, 1)
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        strong = bold is not None and bool(bold.loc[table.index[row], table.columns[column]])
        style: dict[str, Any] = {"color": "white" if dark else "black", "weight": "bold" if strong else "normal"}
        ax.text(column, row, text, ha="center", va="center", fontsize=7, **style)
    ax.set_yticks(range(len(table)), [titles[run] for run in table.index])
    _bare(ax)


def _points(value: float) -> str:
    """A difference as it fits into a cell, bold: without decimals from ten up."""
    return f"{value:+.0f}" if abs(value) >= 9.95 else f"{value:+.1f}"


def _bare(ax: Axes) -> None:
    ax.grid(False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


@styled
def confusion(matrix: np.ndarray) -> Figure:
    """A confusion matrix (19, 19), row = label, in percent of each row; from 0.5 % on with numbers."""
    matrix = np.asarray(matrix, dtype=float)
    if matrix.sum() == 0:
        raise Missing("the confusion matrix is empty")
    with np.errstate(invalid="ignore"):
        percent = 100 * matrix / matrix.sum(axis=1, keepdims=True)
    fig, ax = figure(4.5)
    ax.imshow(np.ma.masked_invalid(percent), cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for (row, column), value in np.ndenumerate(percent):
        if value >= 0.5:
            style = {"color": "white" if value > 55 else "black", "weight": "bold" if row == column else "normal"}
            ax.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7, **style)
    ax.set_xticks(range(NUM_CLASSES), CLASS_NAMES, rotation=55, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(NUM_CLASSES), CLASS_NAMES)
    ax.set(xlabel="predicted class", ylabel="labelled class (each row sums to 100 %)")
    _bare(ax)
    return fig


def image_scores(confusions: np.ndarray) -> np.ndarray:
    """Mean IoU in percent of every image, over the classes labelled in it: confusions (N, C, C) -> (N,)."""
    labelled = np.sum(confusions, axis=2) > 0
    return np.nanmean(np.where(labelled, class_iou(confusions), np.nan), axis=1)


def choose_images(arrays: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, str]:
    """The images that are shown, by rule, from the arrays of all runs: {role: image name}.

    Among the images whose predictions every run kept: best, median and worst in IoU (mean over the runs), and, of
    several runs, most disputed, which is the one with the largest share of pixels on which they do not all agree.
    """
    kept = [set(map(str, run["prediction_names"])) for run in arrays.values() if "prediction_names" in run]
    names = sorted(set.intersection(*kept)) if kept else []
    if not names:
        raise Missing("no image whose predictions every run kept (.npz)")
    scores = np.mean([scores_of(run, names) for run in arrays.values()], axis=0)
    order = [names[i] for i in np.argsort(-scores, kind="stable")]
    roles = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    if len(arrays) == 1:
        return roles
    disputes = {name: dispute([prediction(run, name) for run in arrays.values()]) for name in names}
    left = [name for name in order if name not in roles.values()] or order
    return {**roles, "most disputed": max(left, key=disputes.__getitem__)}


def scores_of(run: Mapping[str, np.ndarray], names: Sequence[str]) -> np.ndarray:
    """`image_scores` of the named images `(N,)`, from a run's arrays."""
    rows = {str(name): row for row, name in enumerate(run["names"])}
    return image_scores(run["confusion"][[rows[name] for name in names]])


def prediction(run: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Predicted train ids (H, W) of one image, from a run's arrays."""
    return run["predictions"][list(map(str, run["prediction_names"])).index(name)]


def dispute(predictions: Sequence[np.ndarray]) -> float:
    """Share of the pixels, 0 to 1, on which the predictions (a list of (H, W)) do not all agree."""
    first, *rest = predictions
    return float(np.any([first != other for other in rest], axis=0).mean()) if rest else 0.0


def shades(wrong: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Picture RGB (H, W, 3) of how wrong pixels are, 0 to 1 or false and true: from grey to red, void black."""
    picture = SHADES(np.asarray(wrong, dtype=float), bytes=True)[..., :3]
    picture[labels == IGNORE_INDEX] = 0
    return picture


@styled
def predictions(
    image: np.ndarray, labels: np.ndarray, predicted: Mapping[str, np.ndarray], titles: Mapping[str, str]
) -> Figure:
    """One scene, four pictures a row: photograph, ground truth, where runs are wrong, then every run's prediction.

    Large enough that a pole is seen, and low enough that two scenes share a page. `image` is (H, W, 3) uint8, `labels`
    (H, W) train ids; `predicted` maps runs to train ids (H, W), `titles` to what stands above them.
    """
    share = shades(np.mean([prediction != labels for prediction in predicted.values()], axis=0), labels)
    shown = [(image, "image"), (colorize(labels), "ground truth"), (share, "share of runs that are wrong")]
    present = [i for i in np.union1d(labels, list(predicted.values())) if i < NUM_CLASSES]
    rows, each = 1 + -(-len(predicted) // 4), WIDTH / 4 * labels.shape[0] / labels.shape[1]
    fig, axes = figure(0.25 + rows * (each + 0.18) + 0.18 * -(-len(present) // 7), rows, 4, squeeze=False)
    fig.set_layout_engine("constrained", w_pad=0.01, h_pad=0.03, wspace=0.01, hspace=0.0)
    for ax in axes.flat:
        ax.axis("off")
    below = [(colorize(prediction), titles[run]) for run, prediction in predicted.items()]
    for ax, (picture, title) in [*zip(axes[0], shown, strict=False), *zip(axes[1:].flat, below, strict=False)]:
        _show(ax, picture, title)
    _scale(axes[0, 3])
    swatches = [Patch(color=PALETTE[train_id] / 255, label=CLASS_NAMES[train_id]) for train_id in present]
    fig.legend(handles=swatches, loc="outside lower center", ncols=7, handlelength=1, labelspacing=0.45)
    return fig


def predicted_scene(runs: Sequence[Run], name: str, titles: Mapping[str, str]) -> Figure:
    """`predictions` of the image `name`, read from the data set that the runs were trained on."""
    predicted = {run.stem: prediction(run.arrays, name) for run in runs if "predictions" in run.arrays}
    stem = next(iter(predicted))
    image, labels = read_scene(next(run for run in runs if run.stem == stem), name, predicted[stem].shape)
    scores = {run.stem: scores_of(run.arrays, [name])[0] for run in runs if run.stem in predicted}
    return predictions(image, labels, predicted, {run: f"{titles[run]}: {scores[run]:.1f} %" for run in predicted})


def read_scene(run: Run, name: str, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Image (H, W, 3) uint8 and labels (H, W) of a validation image at `size` (H, W), from where a run's data are."""
    root = run.config.get("data")
    try:
        data = Cityscapes(str(root), "val", size)
        return data.raw([pair.name for pair in data.pairs].index(name))
    except (TypeError, ValueError, OSError):
        raise Missing(f"the validation images are no longer at {root}") from None


@styled
def differing_scenes(run: Run, base: Run, names: Sequence[str], titles: Mapping[str, str]) -> Figure:
    """Where two runs differ: for each image of `names` image, ground truth, both predictions, and who alone is right.

    Blue where `run` alone is right, red where `base` alone is; void black, both or neither white.
    """
    fig, axes = figure(0.35 + 0.85 * len(names), len(names), 5, squeeze=False)
    fig.set_layout_engine("constrained", w_pad=0.01, h_pad=0.02, wspace=0.01, hspace=0.01)
    for row, name in zip(axes, names, strict=True):
        ours, theirs = prediction(run.arrays, name), prediction(base.arrays, name)
        image, labels = read_scene(run, name, ours.shape)
        who = np.full((*labels.shape, 3), 255, np.uint8)
        who[(ours == labels) & (theirs != labels)] = ONLY_RUN
        who[(ours != labels) & (theirs == labels)] = ONLY_BASE
        who[labels == IGNORE_INDEX] = 0
        scores = [scores_of(one.arrays, [name])[0] for one in (run, base)]
        heads = [f"{titles[one.method]}: {score:.1f} %" for one, score in zip((run, base), scores, strict=True)]
        heads = ["image", "ground truth", *heads, "who alone is right"]
        shown = (image, colorize(labels), colorize(ours), colorize(theirs), who)
        for ax, picture, head in zip(row, shown, heads, strict=True):
            ax.axis("off")
            _show(ax, picture, head)
    return fig


def _show(ax: Axes, picture: np.ndarray, title: str) -> None:
    ax.imshow(picture, aspect="auto")
    ax.set_title(title, fontsize=7, pad=2)


def _scale(ax: Axes) -> None:
    """What the shades mean in which `shades` paints."""
    for x, width, picture in ((0.1, 0.5, SHADES(np.linspace(0, 1, 64)[None])), (0.75, 0.15, np.zeros((1, 1, 3)))):
        ax.imshow(picture, extent=(x, x + width, 0.6, 0.8), aspect="auto")
    for x, text in ((0.1, "none"), (0.6, "all"), (0.825, "void")):
        ax.text(x, 0.52, text, fontsize=7.5, ha="center", va="top")
    ax.set(xlim=(0, 1), ylim=(0, 1))
