"""Curves, bars and intervals of the report.

Every function takes runs (`study.run.Run`) or a table made of them and returns a matplotlib `Figure`, drawn at the size
at which it is printed. Where the runs lack what a figure needs, the function raises `Missing`, so that the report can
leave the figure out and say why. Figures made of cells and pixels are in `pictures`.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import ArrayLike

from deeplab_lib.analysis.tables import changes, efficiency_of, timing
from deeplab_lib.common.text import signed
from deeplab_lib.plotting.style import FALLBACK_STYLES, Look, figure, looks, styled
from deeplab_lib.recipes import PLAN_EPOCHS, Change
from deeplab_lib.study.log_schedule import LogSchedule
from deeplab_lib.study.run import Run
from deeplab_lib.training.schedule import PolyLR

COSTS = {
    "gmacs": "multiply-adds per image (G)",
    "latency_ms": "latency per image (ms)",
    "parameters_m": "parameters (millions)",
}


NONE = pd.Series(dtype=float)
# What stands in a legend for the diamonds on the curves.
CHANGED = Line2D([], [], linestyle="none", marker="D", mfc="none", mec="0.3", markersize=5.5, label="training changed")


class Missing(ValueError):
    """The runs lack what a figure is drawn from; the message names it."""


def _each(runs: Sequence[Run], *columns: str) -> list[tuple[Look, Run, pd.DataFrame]]:
    """[(look, run, table)] of the runs that hold finite values in every one of `columns`, of those epochs."""
    look = looks(runs)
    parts = []
    for run in runs:
        if set(columns) <= set(run.table):
            table = run.table.dropna(subset=list(columns))
            parts += [(look[run.stem], run, table)] * bool(len(table))
    if not parts:
        raise Missing(f"no run has values of {' and '.join(columns)}")
    return parts


def state(run: Run) -> str:
    """A run's label, with the epoch it has reached when it is not finished."""
    planned = f" of {run.epochs}" if run.epochs else ""
    return run.label if run.finished else f"{run.label} (epoch {run.epoch}{planned})"


def _line(
    ax: Axes, look: Look, x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray, **kwargs: Any
) -> Line2D:
    every = max(1, len(x) // 8)
    start = sum(map(ord, look.marker)) % every  # staggered, so that markers of equal curves do not hide each other
    style = {"color": look.color, "linestyle": look.dash, "marker": look.marker, "markevery": (start, every)}
    return ax.plot(x, y, **{**style, "markeredgecolor": "white", "markeredgewidth": 0.4, **kwargs})[0]


def _epochs(ax: Axes, runs: Sequence[Run]) -> None:
    ax.set_xlabel("epochs trained")
    ax.set_xlim(0, max(run.epoch for run in runs) * 1.02)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def _mark(ax: Axes, run: Run, line: Line2D) -> bool:
    """An open diamond on the run's curve wherever its training changed; True if there is one."""
    x, y = (np.asarray(values) for values in line.get_data())
    places = [place for place, _ in changes(run) if place <= x[-1]]
    to_axis = ax.yaxis.get_transform()  # on the curve is where it is drawn: on a log axis not where the values meet
    heights = to_axis.inverted().transform(np.interp(places, x, to_axis.transform(y)))
    ax.plot(places, heights, "D", markersize=5.5, mfc="none", mec=line.get_color(), mew=1.1, zorder=5)
    return bool(places)


def _beside_key(height: float, curves: int) -> float:
    """The height of a figure, enough for a legend of so many curves beside the axes (`_key`)."""
    return max(height, 0.75 + 0.155 * curves)


def _key(ax: Axes, lines: Sequence[Line2D], values: Sequence[float], form: str, title: str, marked: bool) -> None:
    """Legend right of the axes, in the order in which the curves end."""
    order = np.argsort([-value for value in values], kind="stable")
    handles = [lines[i] for i in order]
    labels = [f"{lines[i].get_label()}  {values[i]:{form}}" for i in order]
    if marked:
        handles.append(CHANGED)
        labels.append(str(CHANGED.get_label()))
    ax.legend(handles, labels, loc="center left", bbox_to_anchor=(1.01, 0.5), title=title, title_fontsize=8)


def rates(run: Run, points: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Epochs trained and base learning rate, two arrays: of every few steps, changes among them.

    Where the run's record does not tell its schedule, or another than its table shows, those at the ends of its epochs.
    """
    table, config = run.table[run.table["lr"] > 0], run.config
    ends = table["epoch"].to_numpy(), table["lr"].to_numpy()
    if run.legacy:
        return _with_peak(*ends, run.log)
    if not {"lr", "power", "warmup_steps", "epochs", "steps_per_epoch"} <= set(config):
        return ends
    an_epoch, total = config["steps_per_epoch"], config["steps_per_epoch"] * config["epochs"]
    plan = [
        Change(1 + round(PLAN_EPOCHS * change["at"]), change["power"]) for change in run.recorded.get("changes", ())
    ]
    base_lr, power, warmup_steps = (config[name] for name in ("lr", "power", "warmup_steps"))
    schedule = PolyLR(base_lr, total, power, warmup_steps, changes=plan, follows=run.follows)
    if not np.allclose([schedule.lr(epoch * an_epoch - 1) for epoch in ends[0]], ends[1], rtol=1e-3, atol=0):
        return ends
    jumps = [change.first_step(total) - before for change in plan for before in (1, 0)]
    steps = np.union1d(np.linspace(0, total - 1, points, dtype=int), jumps)
    return steps / an_epoch, np.array([schedule.lr(step) for step in steps])


def _with_peak(epochs: np.ndarray, values: np.ndarray, log: LogSchedule) -> tuple[np.ndarray, np.ndarray]:
    """Logged rates with the initial rate where the decay begins, if the log determines both."""
    if log.initial_lr is None or log.warmup_epochs is None:
        return epochs, values
    place = np.searchsorted(epochs, log.warmup_epochs)
    return np.insert(epochs.astype(float), place, log.warmup_epochs), np.insert(values, place, log.initial_lr)


@styled
def learning_rates(runs: Sequence[Run]) -> Figure:
    """Base learning rate over the training; runs with the same schedule lie as nested lines, thinner on top."""
    fig, ax = figure(_beside_key(2.7, len(runs)))
    ax.set_yscale("log")
    curves: list[np.ndarray] = []
    lines, marked = [], False
    parts = [(look, run, *rates(run)) for look, run, _ in _each(runs, "lr")]
    for look, run, epochs, values in parts:
        alike = sum(len(other) == len(values) and np.allclose(other, values) for *_, other in parts)
        below = sum(len(other) == len(values) and np.allclose(other, values) for other in curves)
        curves.append(values)
        lines.append(_line(ax, look, epochs, values, lw=1.3 * (alike - below), zorder=2 + below, label=state(run)))
        marked |= _mark(ax, run, lines[-1])
    # The very last steps fall without a bottom; they would take half the axis from all the others.
    ax.set_ylim(bottom=0.7 * min(values[epochs <= 0.99 * epochs[-1]].min() for _, _, epochs, values in parts))
    ax.set_ylabel("base learning rate (log scale)")
    _epochs(ax, runs)
    _key(ax, lines, [values.max() for values in curves], ".2g", "run, highest rate", marked)
    return fig


@styled
def curves(runs: Sequence[Run], column: str, label: str, log: bool = False) -> Figure:
    """One column of all runs against the epoch, in one pair of axes; `log`: on a logarithmic axis."""
    fig, ax = figure(_beside_key(2.9, len(runs)))
    lines, marked = _column(ax, runs, column, label, log)
    last = [float(np.asarray(line.get_ydata())[-1]) for line in lines]
    _key(ax, lines, last, ".3f" if max(last) < 10 else ".1f", "run, last epoch", marked)
    return fig


@styled
def curve_pair(runs: Sequence[Run], columns: Mapping[str, str], log: bool = False) -> Figure:
    """Columns of all runs, `{column: label}`, against the epoch, each in axes of its own; those that no run has not."""
    known = [column for column in columns if any(run.table.get(column, NONE).notna().any() for run in runs)]
    if not known:
        raise Missing(f"no run has values of {' and '.join(columns)}")
    fig, axes = figure(3.1, 1, len(known), squeeze=False)
    for ax, column in zip(axes[0], known, strict=True):
        lines, marked = _column(ax, runs, column, columns[column], log)
    handles = [*lines, *([CHANGED] if marked else [])]
    labels = [str(handle.get_label()) for handle in handles]
    fig.legend(handles, labels, loc="outside lower center", ncols=3, handlelength=2.8, columnspacing=1.4)
    return fig


def _column(ax: Axes, runs: Sequence[Run], column: str, label: str, log: bool) -> tuple[list[Line2D], bool]:
    """One column of all runs against the epoch: their curves, and whether a change of the training is marked."""
    if log:
        ax.set_yscale("log")
        ax.yaxis.set(major_locator=LogLocator(subs=(1, 2, 3, 5)), minor_locator=NullLocator())
        ax.yaxis.set_major_formatter("{x:g}")
    lines, marked = [], False
    for look, run, table in _each(runs, column):
        lines.append(_line(ax, look, table["epoch"].to_numpy(), table[column].to_numpy(), label=state(run)))
        marked |= _mark(ax, run, lines[-1])
    ax.set_ylabel(f"{label} (log scale)" if log else label)
    _epochs(ax, runs)
    return lines, marked


@styled
def curve_grid(runs: Sequence[Run], train: str, validation: str, label: str, share: bool = False) -> Figure:
    """Training and validation column of every run in a panel of its own, two panels a row, three of many runs.

    With three panels a row there is no room to say at a change of the training what changed.
    """
    parts = _each(runs, train, validation)
    columns = 2 if len(parts) <= 8 else 3
    rows = -(-len(parts) // columns)
    fig, axes = figure(0.5 + 1.25 * rows, rows, columns, sharex=True, sharey=share, squeeze=False)
    for ax, (look, run, table) in zip(axes.flat, parts, strict=False):
        ax.plot(table["epoch"], table[train], color="0.45", linestyle=(0, (2, 1)), label="training")
        _line(ax, look, table["epoch"], table[validation], linestyle="-", label="validation")
        _annotate(ax, run, said=columns == 2)
        ax.legend(loc="best", handlelength=2.2)
    for ax in axes.flat[len(parts) :]:
        ax.axis("off")
    for ax in axes[:, 0]:
        ax.set_ylabel(label)
    for ax in axes[-1]:
        _epochs(ax, runs)
    return fig


def _annotate(ax: Axes, run: Run, said: bool) -> None:
    """Title of a panel, a dotted line at each change of that run, and, if `said`, what changed, lettered."""
    words = []
    for letter, (place, text) in zip("abcdef", changes(run), strict=False):
        ax.axvline(place, color="0.3", linewidth=0.8, linestyle=(0, (1, 1.5)))
        if said:
            ax.text(place, 0.02, f" {letter}", transform=ax.get_xaxis_transform(), fontsize=7.5)
            words.append(f"{letter}: {text}")
    ax.set_title(state(run), loc="left", pad=4 + 8.5 * len(words), fontsize=9 if said else 7.5)
    ax.text(0, 1.02, "\n".join(words), transform=ax.transAxes, fontsize=7, va="bottom")


def _bars(
    ax: Axes,
    names: Sequence[str] | pd.Series,
    values: ArrayLike,
    colors: Sequence[str] | pd.Series,
    form: str,
    spans: np.ndarray | None = None,
) -> None:
    """Horizontal bars, first name on top, each with its value; `spans` (n, 2) are intervals drawn as whiskers."""
    values = np.asarray(values, dtype=float)
    places = np.arange(len(names))
    ax.barh(places, values, color=colors, height=0.68)
    ends = values if spans is None else np.fmax(values, np.asarray(spans)[:, 1])
    if spans is not None:
        ax.hlines(places, *np.asarray(spans).T, color="white", linewidth=2.4)
        ax.hlines(places, *np.asarray(spans).T, color="0.2", linewidth=1)
    for place, value, end in zip(places, values, ends, strict=True):
        ax.annotate(f"{value:{form}}", (end, place), (3, 0), textcoords="offset points", va="center", fontsize=8)
    ax.set_yticks(places, names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlim(0, np.nanmax(ends) * 1.18)
    ax.grid(False, axis="y")


def duration_unit(seconds: float) -> tuple[int, str]:
    """The unit in which a duration reads best, as (seconds in one, name)."""
    return next((unit for unit in ((3600, "h"), (60, "min")) if seconds >= 2 * unit[0]), (1, "s"))


@styled
def durations(runs: Sequence[Run]) -> Figure:
    """Total duration of every run, and the mean time of one of its epochs with the standard deviation between them."""
    parts = _each(runs, "Runtime")
    fig, (left, right) = figure(0.6 + 0.22 * max(len(parts), 3), 1, 2, sharey=True)
    colors, names = [look.color for look, _, _ in parts], [state(run) for _, run, _ in parts]
    total = np.array([table["Runtime"].sum() for _, _, table in parts])
    mean = np.array([table["Runtime"].mean() for _, _, table in parts])
    deviation = np.array([np.std(table["Runtime"], ddof=len(table) > 1) for _, _, table in parts])
    seconds, unit = duration_unit(total.max())
    _bars(left, names, total / seconds, colors, ".1f")
    left.set_xlabel(f"all epochs ({unit})")
    _bars(right, names, mean, colors, ".1f", np.stack([mean - deviation, mean + deviation], 1))
    right.set_xlabel("mean of an epoch ± sd (s)")
    return fig


@styled
def iou_against_frequency(iou: pd.DataFrame, share: pd.Series | None, runs: Sequence[Run]) -> Figure:
    """IoU of every class and method, a column a class, from the rarest to the most frequent.

    `iou` is a table method x class name in percent, `share` a series class name -> percent of the pixels.
    """
    if share is None or iou.empty:
        raise Missing("no finished run has confusion matrices (.npz) to count the classes' pixels in")
    known = [name for name in share.sort_values(kind="stable").index if share[name] > 0 and iou[name].notna().any()]
    fig, ax = figure(3.5)
    look, titles = _by_method(runs)
    x, low, high = np.arange(len(known)), iou[known].min(), iou[known].max()
    ax.bar(x, high - low, bottom=low, width=0.9, color="0.92")
    for run, offset in zip(iou.index, np.linspace(-0.35, 0.35, len(iou) + 2)[1:-1], strict=True):
        style = {"color": look[run].color, "marker": look[run].marker, "linestyle": "none", "mec": "white", "mew": 0.3}
        ax.plot(x + offset, iou.loc[run, known], markersize=4.2, label=titles[run], **style)
    ax.set_xticks(x, [f"{share[name]:{'.2f' if share[name] < 1 else '.2g'}}" for name in known])
    ax.set(xlabel="share of the labelled validation pixels (%)", ylabel="validation IoU (%)")
    ax.set(xlim=(-0.6, len(known) - 0.4), ylim=(0, 100))
    ax.grid(False, axis="x")
    names = ax.secondary_xaxis("top")
    names.set_xticks(x, known, rotation=55, ha="left", rotation_mode="anchor")
    names.tick_params(length=0)
    names.spines[:].set_visible(False)
    handles, labels = ax.get_legend_handles_labels()
    columns = 4 if max(map(len, labels)) < 24 else 3
    fig.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=1)
    return fig


@styled
def boundary(table: pd.DataFrame, differences: pd.DataFrame | None = None) -> Figure:
    """Boundary F-score as bars; `table` has name, color, estimate, low, high (percent).

    Beside them, for the rows of `differences` (points), how far each is from CE, as `forest` shows it.
    """
    if table.empty or table["estimate"].isna().all():
        raise Missing("no finished run of the eight recipes has boundary F-scores (.npz)")
    table = table.dropna(subset=["estimate"])
    both = differences is not None and len(differences) > 0
    fig, axes = figure(0.6 + 0.22 * max(len(table), 3), 1, 1 + both, squeeze=False, sharey=True)
    left, *right = axes[0]
    _bars(left, table["name"], table["estimate"], table["color"], ".1f", table[["low", "high"]].to_numpy(dtype=float))
    left.set_xlabel("boundary F-score (%)")
    if differences is not None and right:
        _spans(right[0], table[["color", "marker"]].join(differences[["estimate", "low", "high"]]))
        _name_rows(right[0], table["name"], "difference from CE (points)")
    return fig


def with_looks(table: pd.DataFrame, runs: Sequence[Run]) -> pd.DataFrame:
    """A table of methods with name, color and marker of each row, and `value`, `ties` as figures call them."""
    look, titles = _by_method(runs)
    rows = table[[method in look for method in table.index]].rename(columns={"value": "estimate", "ties": "tie"})
    rows["name"] = [titles[method] for method in rows.index]
    rows["color"] = [look[method].color for method in rows.index]
    rows["marker"] = [look[method].marker for method in rows.index]
    return rows


def _by_method(runs: Sequence[Run]) -> tuple[dict[str, Look], dict[str, str]]:
    """`({method: Look}, {method: display name})`."""
    look = looks(runs)
    return {run.method: look[run.stem] for run in runs}, {run.method: run.method_label for run in runs}


def _name_rows(ax: Axes, names: Sequence[str] | pd.Series, label: str) -> None:
    """One row a name, the first on top; `label` is what the x axis measures."""
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlabel(label)
    ax.grid(False, axis="y")


@styled
def forest(table: pd.DataFrame, label: str) -> Figure:
    """Estimates with intervals, one a row: `table` has name, estimate, low, high and may have color, marker.

    Rows whose interval holds zero are drawn hollow.
    """
    if table.empty:
        raise Missing("it takes a finished CE run and another one to compare with it")
    fig, ax = figure(0.65 + 0.22 * max(len(table), 2))
    _spans(ax, table)
    _name_rows(ax, table["name"], label)
    return fig


def _spans(ax: Axes, table: pd.DataFrame) -> None:
    """Each row's estimate and interval about zero, and both as numbers on the right; nothing for a row without one."""
    ax.axvline(0, color="0.3", linewidth=0.8)
    for place, row in enumerate(table.to_dict("records")):
        if not np.isfinite(row["estimate"]):
            continue
        color, filled = row.get("color", "0.2"), row["low"] > 0 or row["high"] < 0
        ax.plot([row["low"], row["high"]], [place, place], color=color, linewidth=1.6, solid_capstyle="butt")
        ax.plot(row["estimate"], place, row.get("marker", "o"), color=color, mfc=color if filled else "white", ms=5)
        span = f"[{signed(row['low'])}, {signed(row['high'])}]" if np.isfinite(row["low"]) else "no interval"
        ax.text(
            1.02,
            place,
            f"{signed(row['estimate'])}  {span}",
            transform=ax.get_yaxis_transform(),
            va="center",
            fontsize=8,
        )


@styled
def ranking(table: pd.DataFrame, label: str) -> Figure:
    """Runs by estimate, best on top, with intervals; a bar right of them, thin past others, joins those of every tie.

    `table` has name, estimate, low, high, color, marker and tie: the set of groups a row belongs to, as letters
    (`"a"`, `"ab"`, ...): rows that share a letter cannot be distinguished.
    """
    if table.empty:
        raise Missing("no finished run of the eight recipes to rank")
    table = table.sort_values("estimate", ascending=False, kind="stable").reset_index(drop=True)
    fig, ax = figure(0.6 + 0.24 * max(len(table), 2))
    for place, row in enumerate(table.to_dict("records")):
        if np.isfinite(row["low"]):
            ax.plot([row["low"], row["high"]], [place, place], color=row["color"], linewidth=1.6)
        ax.plot(row["estimate"], place, row["marker"], color=row["color"], ms=6, mec="white", mew=0.5)
        text = f"{row['estimate']:.2f}"
        ax.text(1.02, place, text, transform=ax.get_yaxis_transform(), va="center", fontsize=8)
    for column, letter in enumerate(sorted(set("".join(table["tie"])))):
        rows = [place for place, tie in enumerate(table["tie"]) if letter in tie]
        if len(rows) < 2:
            continue
        breaks = np.flatnonzero(np.diff(rows) > 1) + 1
        spans = [y for part in np.split(rows, breaks) for y in (part[0] - 0.3, part[-1] + 0.3, np.nan)]
        style = {"transform": ax.get_yaxis_transform(), "color": "0.25", "clip_on": False, "solid_capstyle": "butt"}
        for heights, width in ((spans, 2.4), ([rows[0], rows[-1]], 0.6)):
            ax.plot(np.full(len(heights), 1.11 + 0.02 * column), heights, linewidth=width, **style)
    _name_rows(ax, table["name"], label)
    return fig


@styled
def reliability(frames: Mapping[str, pd.DataFrame], shown: Sequence[Run]) -> Figure:
    """Reliability diagrams, a panel a method: accuracy against confidence in 15 bins; bars as heavy as their pixels.

    `frames` is that of `calibration.reliability`: {method: pixels (share), confidence, accuracy (percent)}.
    """
    if not frames:
        raise Missing("the runs' NPZ files hold no counts by confidence; runs made with version 0.2 or later do")
    look, titles = _by_method(shown)
    columns = min(4, len(frames))
    rows = -(-len(frames) // columns)
    fig, axes = figure(0.5 + 1.45 * rows, rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax, (name, table) in zip(axes.flat, frames.items(), strict=False):
        known = table.dropna()
        ax.plot([0, 100], [0, 100], color="0.5", linewidth=0.8, linestyle=(0, (2, 1)))
        ax.vlines(known["confidence"], known["accuracy"], known["confidence"], color="0.75", linewidth=2)
        style = {"color": look[name].color, "linewidth": 0.9} if name in look else {"color": "0.2"}
        ax.plot(known["confidence"], known["accuracy"], **style)
        ax.scatter(known["confidence"], known["accuracy"], s=4 + 60 * known["pixels"], color=style["color"], zorder=3)
        ax.set_title(titles.get(name, name), loc="left", fontsize=7.5)
        ax.set(xlim=(0, 102), ylim=(0, 102))
    for ax in axes.flat[len(frames) :]:
        ax.axis("off")
    fig.supxlabel("mean confidence of a bin (%)", fontsize=8)
    fig.supylabel("pixels that are right (%)", fontsize=8)
    return fig


@styled
def accuracy_against_rate(runs: Sequence[Run]) -> Figure:
    """Final validation mIoU against the initial learning rate, on a logarithmic axis; a mark a run."""
    known = [run for run in runs if run.initial_lr and np.isfinite(run.final_val_mIoU)]
    if len({run.initial_lr for run in known}) < 3:
        raise Missing("it takes runs at three initial rates or more")
    fig, ax = figure(_beside_key(2.7, len(known)))
    look = looks(runs)
    marks = {"linestyle": "none", "markersize": 5, "markeredgewidth": 0}
    lines = [
        _line(ax, look[run.stem], [rate], [run.final_val_mIoU], **marks, label=state(run))
        for run in known
        if (rate := run.initial_lr)
    ]
    ax.set_xscale("log")
    ax.set_xticks(sorted({run.initial_lr for run in known if run.initial_lr}))
    ax.xaxis.set(major_formatter="{x:g}", minor_locator=NullLocator())
    ax.set(xlabel="initial learning rate (log scale)", ylabel="final validation mIoU (%)")
    ax.margins(0.1)
    _key(ax, lines, [run.final_val_mIoU for run in known], ".2f", "run, last epoch", False)
    return fig


@styled
def accuracy_against_time(runs: Sequence[Run]) -> Figure:
    """Validation mIoU against the time trained so far (training and validation)."""
    parts = _each(runs, "Runtime", "val_mIoU")
    seconds, unit = duration_unit(max(table["Runtime"].sum() for _, _, table in parts))
    fig, ax = figure(_beside_key(2.9, len(parts)))
    lines = [
        _line(ax, look, table["Runtime"].cumsum() / seconds, table["val_mIoU"], label=state(run))
        for look, run, table in parts
    ]
    ax.set(xlabel=f"time trained ({unit})", ylabel="validation mIoU (%)", xlim=(0, None))
    _key(ax, lines, [table["val_mIoU"].iloc[-1] for _, _, table in parts], ".1f", "run, last epoch", False)
    return fig


@styled
def accuracy_against_cost(table: pd.DataFrame) -> Figure:
    """Accuracy against cost, one panel a measure; `table` has name, mIoU, color, marker and any of the COSTS.

    A row without mIoU, an architecture that was measured and not trained, is a dotted line at its cost.
    """
    measured = [column for column in COSTS if column in table and table[column].notna().any()]
    if not measured:
        raise Missing("no cost was measured: neither efficiency.json nor the runs' own counts are there")
    if len(table) > 1 and all(table[column].nunique() == 1 for column in measured):
        raise Missing("all runs share one network, so cost tells none of them apart; train another (-p model ...)")
    fig, axes = figure(3.1, 1, len(measured), sharey=True, squeeze=False)
    for ax, column in zip(axes[0], measured, strict=True):
        costs = table.dropna(subset=[column])
        for row in costs.to_dict("records"):
            style = {"color": row["color"], "mec": "white", "mew": 0.5, "ms": 6, "linestyle": "none"}
            if np.isfinite(row["mIoU"]):
                ax.plot(row[column], row["mIoU"], row["marker"], label=row["name"], **style)
            else:
                ax.axvline(row[column], color="0.6", linestyle=(0, (1, 1.5)), linewidth=0.9)
                ax.text(row[column], 0.02, row["name"], rotation=90, fontsize=7, ha="right",
                        transform=ax.get_xaxis_transform())  # fmt: skip
        if costs[column].max() > 8 * costs[column].min():
            ax.set_xscale("log")
        ax.set_xlabel(COSTS[column])
        ax.margins(0.15)
    axes[0, 0].set_ylabel("validation mIoU (%)")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, handlelength=1)
    return fig


def cost_points(runs: Sequence[Run], efficiency: pd.DataFrame) -> pd.DataFrame:
    """The table of `accuracy_against_cost`: every finished run at its cost, then what was measured and not trained.

    `efficiency` is the frame of `tables.read_efficiency`; of each model the rows at the runs' image size count. Of
    DeepLabV2 itself only what was trained: its many backbones stand in a table.
    """
    finished = [run for run in runs if run.finished and run.config]
    others = [run for run in finished if run.config["model"] != finished[0].config["model"]]
    look, rows = looks(runs) | dict(zip([run.stem for run in others], cycle(FALLBACK_STYLES), strict=False)), []
    for run in finished:
        measured, record = efficiency_of(run, efficiency), run.recorded
        macs = record.get("macs") or measured.get("macs")
        parameters = record.get("parameters", {}).get("total")
        rows.append(
            {
                "name": run.label,
                "mIoU": run.final_val_mIoU,
                "color": look[run.stem].color,
                "marker": look[run.stem].marker,
                "gmacs": macs / 1e9 if macs else np.nan,
                "latency_ms": timing(measured).get("median", np.nan),
                "parameters_m": parameters / 1e6 if parameters else np.nan,
            }
        )
    sizes = {(run.config["image_height"], run.config["image_width"]) for run in finished}
    trained = {run.config["model"] for run in finished}
    for row in efficiency.to_dict("records"):
        shown = row["model"] not in trained and not row["model"].startswith("deeplabv2")
        if shown and (row["height"], row["width"]) in sizes:
            cost = {"gmacs": row["macs"] / 1e9, "parameters_m": row["parameters"] / 1e6}
            cost["latency_ms"] = timing(row).get("median", np.nan)
            rows.append({"name": row["model"], "mIoU": np.nan, "color": "0.4", "marker": "o"} | cost)
    return pd.DataFrame(rows)
