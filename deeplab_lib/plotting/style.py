"""How figures look: their type, their width, and one colour, dash and marker for every run."""

from collections.abc import Callable, Collection
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

import matplotlib.style
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter

from deeplab_lib.common.markup import as_label

if TYPE_CHECKING:
    from deeplab_lib.study.run import Run

P = ParamSpec("P")
T = TypeVar("T")

WIDTH = 6.3  # inches: the text width of an A4 page, so that 9 pt here are 9 pt on paper
HIGHEST = 8.8  # inches: what such a page holds above a caption

# The type of the PDF's text, drawn for small sizes; what it lacks (other scripts) is set in matplotlib's own.
for _file in sorted((Path(__file__).parent / "fonts").glob("*.otf")):
    font_manager.fontManager.addfont(_file)

STYLE: dict[str, Any] = {
    "font.family": ["Latin Modern Roman", "DejaVu Sans"],
    "mathtext.fontset": "cm",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.handlelength": 3.4,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.6,
    "figure.dpi": 150,
    "savefig.dpi": 150,
    "svg.hashsalt": "deeplab-losses",  # the same runs give the same bytes
    "image.interpolation": "nearest",
    "figure.autolayout": False,
    "figure.constrained_layout.use": False,
}


class Look(NamedTuple):
    """How one run is drawn in every figure: colour, dash pattern, marker."""

    color: str
    dash: str | tuple
    marker: str


# Lightness rises by about 8 (CIE L*) from one colour to the next, so the eight stay apart in greyscale; hues were
# chosen to stay apart under protanopia, deuteranopia and tritanopia too. Dashes and markers say it a third time.
LOOKS = {
    "ce": Look("#1b1b1b", "-", "o"),
    "ce_tversky": Look("#72270f", (0, (5, 1.2)), "s"),
    "ce_lovasz": Look("#703897", (0, (1.2, 1)), "^"),
    "ce_dice": Look("#4851ea", (0, (5, 1.2, 1.2, 1.2)), "D"),
    "ce_lovasz_warmup": Look("#d2447c", (0, (12, 1)), "v"),
    "ce_focal": Look("#7d9747", (0, (8, 1.5)), "P"),
    "ce_lovasz_dice": Look("#24adf1", (0, (5, 1, 1.2, 1, 1.2, 1)), "X"),
    "ce_lovasz_focal": Look("#f8a924", (0, (2.5, 1)), "<"),
}
GREYS = ("0.25", ">"), ("0.5", "h"), ("0.7", "d")
# Of runs without a recipe.
FALLBACK_STYLES = tuple(Look(grey, (0, (1, 0.6 * n)), marker) for n, (grey, marker) in enumerate(GREYS, 1))


def styled(draw: Callable[P, T]) -> Callable[P, T]:
    """Draw in the report's style over matplotlib's defaults, whatever the reader's own matplotlibrc says."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> T:
        with matplotlib.style.context(["default", STYLE]):
            return draw(*args, **kwargs)

    return drawn


def looks(runs: "Collection[Run]") -> dict[str, Look]:
    """{stem: Look} by recipe; runs without a recipe are drawn in grey. Seeds and variants share their recipe's look."""
    fallbacks = iter(FALLBACK_STYLES * len(runs))
    return {run.stem: LOOKS.get(run.recipe or "") or next(fallbacks) for run in runs}


@styled
def figure(height: float, rows: int = 1, columns: int = 1, **subplots: Any) -> tuple[Figure, Any]:
    """A figure of the report's width, `height` inches high, or as high as a page takes, and its axes."""
    fig = Figure(figsize=(WIDTH, min(height, HIGHEST)), layout="constrained")
    return fig, fig.subplots(rows, columns, **subplots)


@styled
def add_scope(fig: Figure, text: str) -> Figure:
    """Name data set, preset and length of training in the figure's corner, so that it says so wherever it is pasted."""
    fig.suptitle(text, x=0.995, ha="right", fontsize=7, color="0.35")
    return fig


@styled
def as_labels(fig: Figure) -> Figure:
    """Show text of runs' files (`common.markup.as_text`) in a figure as it stands."""
    for ax in fig.axes:
        for formatter in (ax.xaxis.get_major_formatter(), ax.yaxis.get_major_formatter()):
            if isinstance(formatter, FixedFormatter):
                formatter.seq = [as_label(str(text)) for text in formatter.seq]
        for line in ax.lines:
            line.set_label(as_label(str(line.get_label())))
    for text in fig.findobj(Text):
        if (shown := as_label(text.get_text())) != text.get_text():
            text.set_text(shown)
    return fig


@styled
def freeze_layout(fig: Figure) -> Figure:
    """Lay a figure out once and for all; with a layout engine left, every saving would draw it twice."""
    if engine := fig.get_layout_engine():
        engine.execute(fig)
    fig.set_layout_engine(None)
    return fig
