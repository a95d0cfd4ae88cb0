"""A figure in words, for readers who cannot see it: what its axes measure, and what its curves, rows and cells hold.

The words are read off the drawn figure, so that they say what it shows, whatever it shows.
"""

from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator


def describe(fig: Figure) -> str:
    """The alternative text of a figure: a sentence a panel, one for all its pictures."""
    panels = [_table(ax) if ax.images else _plot(ax) for ax in fig.axes if ax.axison]
    titles = [" ".join(ax.get_title().split()) for ax in fig.axes if not ax.axison and ax.get_title()]
    panels += [f"pictures: {', '.join(titles)}"] * bool(titles)
    return " ".join(f"{panel[0].upper()}{panel[1:]}." for panel in panels if panel)


def _plot(ax: Axes) -> str:
    """Title, what is measured, then every row with its numbers, or every curve with its ends; "" without either."""
    contents = _rows(ax) or _curves(ax)
    measured = " against ".join(filter(None, (_label(ax, "ylabel"), _label(ax, "xlabel"))))
    return ": ".join(filter(None, [ax.get_title("left"), measured, "; ".join(contents)])) if contents else ""


def _label(ax: Axes, name: Literal["xlabel", "ylabel"]) -> str:
    """What an axis measures; where the panels of a figure have one label between them, that one."""
    return next(filter(None, (getattr(one, f"get_{name}")() for one in (ax, *ax.figure.axes))), "")


def _rows(ax: Axes) -> list[str]:
    """`["CE + Dice 46.2", ...]`: the names beside the axes, each with what is printed in its row; [] without names."""
    if not isinstance(ax.yaxis.get_major_locator(), FixedLocator):
        return []
    printed = [(getattr(text, "xy", text.get_position())[1], " ".join(text.get_text().split())) for text in ax.texts]
    names = zip(ax.get_yticks(), _names(ax.yaxis), strict=True)
    rows = {name: [text for height, text in printed if height == place] for place, name in names}
    return [" ".join([name, *texts]) for name, texts in rows.items() if texts]


def _curves(ax: Axes) -> list[str]:
    """`["CE from 24.2 to 44.4", ...]`: the named curves with their ends, and their peak where that is neither."""
    curves = {str(line.get_label()): np.asarray(line.get_ydata()) for line in ax.lines}
    curves = {name: values for name, values in curves.items() if not name.startswith("_")}
    return [f"{name} {_course(values)}" for name, values in curves.items()]


def _course(values: np.ndarray) -> str:
    first, peak, last = (f"{value:.3g}" for value in (values[0], max(values), values[-1]))
    over = f" over {peak}" if peak not in (first, last) else ""
    return f"from {first}{over} to {last}" if len(values) > 1 else first


def _table(ax: Axes) -> str:
    """The rows of a coloured table, how many columns it has, and the span of its numbers."""
    values: np.ndarray = np.ma.asarray(ax.images[0].get_array())
    title = next(filter(None, (ax.get_title("left"), ax.get_ylabel(), ax.get_xlabel())), "table")
    size = f"{values.shape[0]} rows ({', '.join(_names(ax.yaxis))}), {values.shape[1]} columns"
    return f"{title}: {size}, from {values.min():.3g} to {values.max():.3g}"


def _names(axis: Axis) -> list[str]:
    """What stands at the ticks, hidden where panels share an axis or not."""
    return axis.get_major_formatter().format_ticks(list(axis.get_majorticklocs()))
