"""A trained run at work: predictions for the test server, and photographs of one's own."""

import io
import math
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageOps, UnidentifiedImageError

from deeplab_lib.common.content import article, what_is
from deeplab_lib.common.devices import best_amp, check_device, fast_paths
from deeplab_lib.common.errors import interruptible, short_traceback
from deeplab_lib.common.files import (
    absolute,
    for_project,
    in_project,
    project_root,
    read_json,
    write_atomic,
    write_text,
)
from deeplab_lib.common.parameters import check_parameters, check_texts
from deeplab_lib.common.progress import Progress
from deeplab_lib.common.search import Search, nearest, works
from deeplab_lib.common.types import PathLike, Say, Size
from deeplab_lib.data.archives import Member
from deeplab_lib.data.cityscapes import data_root
from deeplab_lib.data.label_files import read_labels
from deeplab_lib.data.normalization import NORMALIZATIONS, Normalization
from deeplab_lib.data.pairs import Pair, scan
from deeplab_lib.data.pictures import as_rgb, read_image, read_png, resize_image
from deeplab_lib.labels import CLASS_NAMES, ID_OF_TRAIN_ID, NUM_CLASSES, PALETTE, TRAIN_ID_OF_ID, colorize
from deeplab_lib.metrics import ConfusionMatrix
from deeplab_lib.models.network import SegmentationNetwork
from deeplab_lib.models.placement import to_device
from deeplab_lib.models.predictor import Predictor
from deeplab_lib.models.registry import make_model
from deeplab_lib.plotting.run_figures import overlay
from deeplab_lib.plotting.style import figure, styled
from deeplab_lib.training import checkpoint
from deeplab_lib.training.run_folder import WRITTEN

if TYPE_CHECKING:
    import ipywidgets

PHOTOGRAPHS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")
OTHER_PICTURES = (".heic", ".heif", ".avif", ".gif", ".jxl", ".jp2", ".dng", ".cr2", ".cr3", ".nef", ".arw")
LONGEST_SIDE = 2048  # larger photographs are reduced to it: the logits of 12 megapixels would take a gigabyte
LARGE, MOST_MEGAPIXELS = 80, 1000  # decoded, a picture takes three bytes a pixel
READABLE = ("JPEG", "PNG", "WebP", "TIFF", "BMP")
ENDING = ".best.pt"
OVERLAY = "_overlay.jpg"
HIGHEST = 8  # inches of a figure: a tall, narrow picture would need memory without end
EXPORTED = "_pred_labelIds.png"  # the official scripts look for `<city>_<sequence>_<frame>*.png`
OFFICIAL = "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling"
PARAMETERS = ("run", "photographs", "shown", "out_dir", "data", "split", "device")


@dataclass(frozen=True)
class TrainedRun:
    """A network with the preprocessing it was trained with.

    folder: name of the folder of the run's files. size: its training input (height, width). data: root of its data.
    """

    folder: str
    stem: str
    model: SegmentationNetwork
    normalization: Normalization
    size: tuple[int, int]
    data: str = ""
    device: str = "cpu"
    amp: str = "off"
    tta: str = "none"

    @cached_property
    def predictor(self) -> Predictor:
        """What says what the network makes of images, in the precision and views its run is tested with."""
        return Predictor(self.model, self.amp, self.tta)

    def predict(self, image: np.ndarray, size: Size | None = None) -> np.ndarray:
        """Train ids, uint8 `(H, W)`, of an image, uint8 `(H, W, 3)`.

        The network sees the image at `size` (its training input by default); its logits are upsampled to the image.
        """
        pixels = self.normalization(resize_image(image, size or self.size))[None].to(self.device)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        return self.predictor(pixels).predict(image.shape[:2])[0].to(torch.uint8).cpu().numpy()


@short_traceback
def check_settings(namespace: Mapping[str, Any]) -> None:
    """Refuse a parameter that predict.ipynb does not have, and a number of photographs to show that is none."""
    check_parameters(namespace, PARAMETERS)
    check_texts(namespace, (name for name in PARAMETERS if name != "shown"))
    shown = namespace.get("shown", 0)
    if not isinstance(shown, int) or shown < 0:
        raise ValueError(f"shown is {shown!r}; it must be a whole number, 0 or more")


@short_traceback
def results_folder(out_dir: PathLike | None, run: TrainedRun) -> Path:
    """The folder `out_dir` of the results of `run`; None: `runs/predictions/<its folder>/<its stem>` in the project.

    ValueError for a file.
    """
    usual = project_root() / "runs" / "predictions" / run.folder / run.stem
    return for_project(out_dir, "out_dir") if out_dir else usual


def find_runs(folder: str | Path | None = None) -> list[Path]:
    """The `.best.pt` files below `folder` (None: the project's `runs/`), the latest first."""
    folder = Path(folder) if folder else project_root() / "runs"
    return sorted(folder.rglob(f"*{ENDING}"), key=lambda path: path.stat().st_mtime, reverse=True)


def best_run(found: Sequence[Path]) -> tuple[Path, str]:
    """The `.best.pt` to predict with of those `found`, the latest first, and in words why it is this one.

    It is that of the highest validation mIoU in the last epoch among the finished runs on the latest run's data set and
    preset; the latest where none of them is finished.
    """
    latest, *_ = found
    kind = _kind(_record(latest) or checkpoint.load(latest))
    scores = {}
    for path in found:
        record = _record(path)
        miou = _final_miou(record) if record and record.get("finished") is True and _kind(record) == kind else None
        if miou is not None:
            scores[path] = miou
    name, preset = kind
    data = f"the data set {name}" + (f", preset {preset}" if preset else "")
    if not scores:
        return latest, f"the latest run; none on {data} is finished"
    best = max(scores, key=lambda path: scores[path])
    if len(scores) == 1:
        return best, f"the only finished run on {data}"
    return best, f"at {scores[best]:.2f} % validation mIoU the best of {len(scores)} finished runs on {data}"


def _record(path: Path) -> dict[str, Any] | None:
    """The JSON of the run whose `.best.pt` is `path`; None where there is none that can be read."""
    try:
        return read_json(path.with_name(f"{path.name.removesuffix(ENDING)}.json"))
    except (OSError, ValueError):
        return None


def _kind(state: Mapping[str, Any]) -> tuple[str, str]:
    """Name of the data set and preset that a record or checkpoint says it was made with."""
    config = state.get("config")
    config = config if isinstance(config, dict) else {}
    return Path(str(config.get("data") or "")).name.lower(), str(config.get("preset") or "")


def _final_miou(record: Mapping[str, Any]) -> float | None:
    """Validation mIoU of the last epoch in percent; None where the record holds no number."""
    final = record.get("final")
    value = final.get("val_mIoU") if isinstance(final, dict) else None
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def weights_file(path: str | Path | None = None, say: Say = print) -> Path:
    """The `.best.pt` of a run's stem with folder, of any of its files, or of the best run in a folder; None: `runs/`.

    Paths start here or in the project; `say` hears which run of a folder is taken and why. Raises FileNotFoundError
    when there is none.
    """
    roots = [project_root()] if path is None else [Path(), project_root()]
    path = Path(path or "runs").expanduser()
    ending = max((e for e in (*WRITTEN, ".ipynb") if path.name.endswith(e)), key=len, default="")
    file = path.with_name(path.name.removesuffix(ending) + ENDING)
    for root in roots:
        if (root / file).is_file():
            return root / file
        if found := find_runs(root / path):
            chosen, reason = best_run(found)
            say(f"{chosen.name.removesuffix(ENDING)} in {chosen.parent.name}/: {reason}")
            return chosen
    folder = next((root / path for root in roots if (root / path).is_dir()), roots[0] / path)
    if len(roots) == 1 or folder.is_dir():
        raise FileNotFoundError(f"no trained run in {folder}: train one by notebooks/train.ipynb")
    if not ending and any((root / path).is_file() for root in roots):
        raise FileNotFoundError(f"{path} is no file of a run: give a run's .json or .best.pt, or a folder of runs")
    endings = (*WRITTEN, ".ipynb", ".lock")
    traces = [path, *(file.with_name(file.name.removesuffix(ENDING) + ending) for ending in endings)]
    if any((root / trace).exists() for root in roots for trace in traces):
        raise FileNotFoundError(f"no weights {file}: a run writes them at the end of its first epoch")
    raise FileNotFoundError(f"no run {path}: there is no such file or folder")


@short_traceback
def load_run(path: str | Path | None = None, device: str = "auto", say: Say = print) -> TrainedRun:
    """`TrainedRun` of what `weights_file` finds at `path`; `say` hears which run of a folder that is.

    Raises FileNotFoundError when there is none, ValueError when the file is damaged or holds no run.
    """
    path = weights_file(path, say)
    device = check_device(device)
    state = checkpoint.load(path)
    try:
        config, weights = state["config"], state["weights"]
        options = {"stride_in": weights["stride_in"], "output_stride": config.get("output_stride", 8)}
        model = make_model(config["model"], **options)
        model.load_state_dict(state["model"])
        size, normalization = (config["image_height"], config["image_width"]), NORMALIZATIONS[weights["normalization"]]
        data, amp = config["data"], "off" if config["amp"] == "off" else best_amp(device)
    except (KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} holds no run of this kit ({type(error).__name__}: {reason})") from None
    to_device(model.eval(), device, fast_paths(device))
    tta = config.get("tta", "none")
    folder, stem = path.absolute().parent.name, path.name.removesuffix(ENDING)
    return TrainedRun(folder, stem, model, normalization, size, data, device, amp, tta)


# -- the test server -----------------------------------------------------------------------------------------------


@short_traceback
@interruptible("the predictions were exported: an earlier export is untouched")
def export(run: TrainedRun, root: PathLike, split: str, out: PathLike, say: Say = print) -> Path:
    """Write what the Cityscapes test server and its evaluation script read: label ids at the images' own size.

    One 8-bit PNG an image, `<city>_<sequence>_<frame>_pred_labelIds.png`. The folder `out` gets them when all are
    made; an earlier export there is replaced. Raises ValueError if `out` holds anything else. Returns `out`.
    """
    pairs, out = scan(root, split), Path(out).expanduser().resolve()
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: name a folder for the predictions")
    if out.exists() and any(not path.name.endswith(EXPORTED) for path in out.iterdir()):
        raise ValueError(f"{out} holds other files: name a new folder for the predictions")
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # what a killed process left
    part.mkdir(parents=True)
    try:
        with Progress(len(pairs), 0, say) as progress:
            for pair in pairs:
                label_ids = ID_OF_TRAIN_ID[run.predict(read_image(pair.image))]
                Image.fromarray(label_ids).save(part / exported_name(pair))
                progress.update(1)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    try:
        _move(part, out)
    except OSError as error:
        raise OSError(f"predictions not moved to {out} ({error.strerror or error}): they are in {part}") from None
    return out


@short_traceback
def export_root(run: TrainedRun, data: PathLike | None, split: str | None) -> Path | None:
    """The root of `data`, None: of the run's own, whose `split` is to be exported; None where no split is.

    Raises what `scan` does for a split that is not there: before all photographs are looked at, not after.
    """
    root = data_root(data or run.data) if split else None
    if root and split:
        scan(root, split)
    return root


def exported_name(pair: Pair) -> str:
    """Name of the file of an image's prediction; of images that share a name, with their folder's."""
    return pair.name.replace("/", "_") + EXPORTED


def _move(part: Path, out: Path) -> None:
    """Move the files of `part` into `out` in place of those there; `out` itself, if a mount or in use, stays."""
    out.mkdir(exist_ok=True)
    for old in out.iterdir():
        old.unlink()
    for new in part.iterdir():
        shutil.move(new, out)
    part.rmdir()


@short_traceback
def score_export(out: PathLike, root: PathLike, split: str = "val") -> ConfusionMatrix:
    """`ConfusionMatrix` of exported predictions against the labels' own pixels, as the official script scores them.

    Raises ValueError naming a file that differs in size from its label, or that holds a label id of no class: the
    official script would count such a pixel as missed.
    """
    confusion = ConfusionMatrix()
    for pair in scan(root, split):
        if pair.label is None:
            raise ValueError(f"{pair.name} has no labels; the test server alone can score the split {split}")
        file = Path(out) / exported_name(pair)
        label_ids = np.asarray(read_png(file))
        wrong = np.setdiff1d(label_ids, ID_OF_TRAIN_ID[:NUM_CLASSES])
        if len(wrong):
            raise ValueError(f"{file} holds the label id {wrong[0]}, which is no class: export the predictions again")
        try:
            confusion.update(read_labels(pair.label), TRAIN_ID_OF_ID[label_ids])
        except ValueError as error:
            raise ValueError(f"{file}: {error}; export the predictions again") from None
    return confusion


def official_command(out: PathLike, root: PathLike) -> str | None:
    """The shell command by which cityscapesScripts scores an export of val in `out`, of the data set in `root`.

    None where the data set has not all the files that it reads: beside the label ids, the instance ids. Its release
    2.3.0 calls `numpy.in1d`, which NumPy 2.4 has no more: there the command gives it the same function's new name.
    """
    if not any(Path(root).glob("gtFine/val/*/*_gtFine_instanceIds.png")):
        return None
    data, results = (shlex.quote(str(absolute(path))) for path in (root, out))
    script = "csEvalPixelLevelSemanticLabeling"
    if not hasattr(np, "in1d"):
        program = f"import numpy; numpy.in1d = numpy.isin; from {OFFICIAL} import main; main()"
        script = shlex.join([sys.executable, "-c", program])
    return f"CITYSCAPES_DATASET={data} CITYSCAPES_RESULTS={results} {script}"


# -- photographs ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Segmentation:
    """A photograph, uint8 `(H, W, 3)`, and its predicted train ids, uint8 `(H, W)`; `name` is its file's."""

    name: str
    image: np.ndarray
    train_ids: np.ndarray

    def overlay(self, opacity: float = 0.55) -> np.ndarray:
        """The class colours laid over the photograph, uint8 `(H, W, 3)`; `opacity` from 0 to 1."""
        return overlay(self.image, self.train_ids, opacity)

    def side_by_side(self, cut: float) -> np.ndarray:
        """The photograph left of column `cut` (a share from 0 to 1), the class colours right of it."""
        column = round(cut * self.image.shape[1])
        return np.hstack([self.image[:, :column], colorize(self.train_ids)[:, column:]])

    def shares(self) -> dict[str, float]:
        """Percent of the pixels by class, `{class name: percent}`, the largest first, absent classes left out."""
        counts = np.bincount(self.train_ids.ravel(), minlength=NUM_CLASSES)
        order = [i for i in np.argsort(-counts, kind="stable") if counts[i]]
        return {CLASS_NAMES[i]: float(100 * counts[i] / self.train_ids.size) for i in order}


@short_traceback
def find_photographs(
    path: PathLike | None = None, run: TrainedRun | None = None, say: Say = print
) -> Sequence[Path | Member]:
    """The photograph `path`, or those in the folder `path`, sorted; `say` tells of pictures in formats unknown here.

    A path starts here or in the project. None looks in the project's `photographs/`, then takes eight validation images
    of the data `run` was trained on. Raises FileNotFoundError when there is none, ValueError for what is no path.
    """
    if not (path is None or isinstance(path, str | os.PathLike)):
        raise ValueError(f"photographs is {path!r}; it must be one path, of a photograph or of a folder of them")
    own = project_root() / "photographs"
    if path is None and run is not None and not own.is_dir():
        pairs = scan(run.data, "val")
        return [pair.image for pair in pairs[:: -(-len(pairs) // 8)]]
    given, path = path, own if path is None else in_project(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        near = nearest(path.name, [other.name for other in path.parent.glob("*")]) if path.parent.is_dir() else None
        hint = f"; the nearest there is {near}" if near else ""
        raise FileNotFoundError(f"no photographs in {given or path}: there is no such file or folder{hint}")
    # A Mac leaves a `._IMG.jpg` without a picture beside every file on a foreign drive.
    files = sorted(p for p in path.glob("*") if not p.name.startswith("."))
    found = [p for p in files if p.is_file() and _is_photograph(p)]
    others = [p.name for p in files if p.suffix.lower() in OTHER_PICTURES and p not in found]
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        say(f"passed over: {others[0]}{more}, in a format that is not known here; save as JPEG")
    if not found:
        raise FileNotFoundError(_no_photograph(path, files, say))
    return found


def _is_photograph(path: Path) -> bool:
    """Whether a file is a picture that can be read, by its ending or, where that says nothing, by its content."""
    ending = path.suffix.lower()
    return ending in PHOTOGRAPHS or (ending not in OTHER_PICTURES and what_is(path) in READABLE)


def _no_photograph(folder: Path, files: Sequence[Path], say: Say) -> str:
    """One line: what the folder holds instead of photographs, and the sub-folder that has some."""
    search = Search("photograph", folder, f"files that end in {' '.join(PHOTOGRAPHS)}")
    for path in files:
        if path.is_file():
            search.reject(path.name, what_is(path))
    for inside in (path for path in files if path.is_dir()):
        if works(find_photographs, inside, say=lambda text: None):
            return search.message(f"there are some in {inside}: give that folder")
    return search.message()


def read_photograph(path: Path | Member) -> np.ndarray:
    """uint8 RGB `(H, W, 3)`, upright and at most 2048 pixels long; ValueError when it cannot be read."""
    try:
        with _any_size(), path.open("rb") as stream:
            image: Image.Image = Image.open(stream)
            if _megapixels(image, path) > LARGE:  # of such a JPEG only what is kept is decoded
                image.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))
            image = ImageOps.exif_transpose(image)
            image.load()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        if "megapixels" in str(error):
            raise
        kind = what_is(path)
        unknown = f"{article(kind)}, no picture in a format known here"
        reason = unknown if isinstance(error, UnidentifiedImageError) else str(error)
        raise ValueError(f"{path} cannot be read ({reason}); save it as JPEG or PNG") from None
    image = as_rgb(image, path)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image)


@contextmanager
def _any_size() -> Iterator[None]:
    """Let Pillow open what it takes for a decompression bomb: panoramas are as large, and the size is checked here."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _megapixels(image: Image.Image, path: object) -> float:
    """Millions of pixels of a picture; ValueError for more than can be decoded."""
    megapixels = image.width * image.height / 1e6
    if megapixels > MOST_MEGAPIXELS:
        size = f"{image.width}x{image.height} pixels ({megapixels:,.0f} megapixels)"
        raise ValueError(f"{path} has {size}, more than {MOST_MEGAPIXELS}; reduce it or cut it into parts")
    return megapixels


def input_size(photograph: Size, trained: Size) -> Size:
    """Size (height, width) at which a network trained at size `trained` sees a photograph of size `photograph`.

    As many pixels as in training, so that things appear about as large, but the photograph's own aspect: a portrait
    squeezed to 2:1 would show people unlike any in training. Both sides are multiples of 16, so that the cells of every
    grid reach from corner to corner.
    """
    scale = (trained[0] * trained[1] / (photograph[0] * photograph[1])) ** 0.5
    return tuple(max(32, 16 * round(side * scale / 16)) for side in photograph)


def segment(run: TrainedRun, photograph: str | Path | Member) -> Segmentation:
    """`Segmentation` of one photograph, a path."""
    photograph = Path(photograph) if isinstance(photograph, str) else photograph
    image = read_photograph(photograph)
    train_ids = run.predict(image, input_size(image.shape[:2], run.size))
    return Segmentation(printable(photograph.name), image, train_ids)


def printable(name: str) -> str:
    """A file's name with what is no UTF-8 in it as `%E9`, so that tables, figures and JSON can hold it."""
    return re.sub("[\udc80-\udcff]", lambda match: f"%{ord(match[0]) - 0xDC00:02X}", name)


def segment_readable(
    run: TrainedRun, photographs: Iterable[str | Path | Member], say: Say = print
) -> Iterator[Segmentation]:
    """`Segmentation` of each of the `photographs` (paths) in turn; one that cannot be read is named through `say`."""
    for photograph in photographs:
        try:
            yield segment(run, photograph)
        except ValueError as error:
            say(printable(f"left out: {error}"))


@short_traceback
@interruptible("the photographs were segmented: the overlays made so far are kept, the table is not written")
def segment_all(
    run: TrainedRun, photographs: Sequence[str | Path | Member], out: PathLike, say: Say = print
) -> pd.DataFrame:
    """Segment the `photographs` (paths) into the folder `out`: `<name>_overlay.jpg`, and `shares.csv` in percent.

    A file that cannot be read is named through `say` and left out. Overlays of other photographs stay in `out`; one
    line tells of them. Returns the table of `shares.csv`, one row a photograph and one column a class. Raises
    ValueError when no photograph can be read; nothing is written then.
    """
    rows, out = {}, Path(out)
    with Progress(len(photographs), 0, say) as progress:
        for photograph in photographs:
            for result in segment_readable(run, [photograph], say):
                rows[result.name] = result.shares()
                _save_jpeg(out / f"{result.name}{OVERLAY}", result.overlay())
            progress.update(1)
    if not rows:
        raise ValueError(f"no photograph could be read: nothing is written to {out}")
    others = sorted(path.name for path in out.glob(f"*{OVERLAY}") if path.name.removesuffix(OVERLAY) not in rows)
    if others:
        say(f"{out} also holds overlays of other photographs, such as {others[0]}; shares.csv has none of them")
    table = pd.DataFrame(rows.values(), index=rows, columns=CLASS_NAMES).fillna(0.0).rename_axis("photograph")
    write_text(out / "shares.csv", table.round(3).to_csv(lineterminator="\n"))
    return table


def _save_jpeg(path: Path, pixels: np.ndarray) -> None:
    write_atomic(path, lambda temporary: Image.fromarray(pixels).save(temporary, "JPEG", quality=92))


# -- figures -------------------------------------------------------------------------------------------------------


@styled
def show(segmentation: Segmentation) -> Figure:
    """Photograph, overlay, and the classes found as bars in their colours: legend and shares in one."""
    height, width = segmentation.train_ids.shape
    shares = {name: percent for name, percent in segmentation.shares().items() if percent >= 0.05}
    inches = min(HIGHEST, max(2.6 * height / width, 0.13 * len(shares)))
    fig, axes = figure(0.3 + inches, 1, 3, width_ratios=(2, 2, 1))
    for ax, picture in zip(axes, (segmentation.image, segmentation.overlay()), strict=False):
        ax.imshow(picture, interpolation="antialiased")
        ax.axis("off")
    axes[0].set_title(abridged(segmentation.name), loc="left", parse_math=False)  # a $ is only a $
    colors = [PALETTE[CLASS_NAMES.index(name)] / 255 for name in shares]
    bars = axes[2].barh(list(shares), list(shares.values()), color=colors, edgecolor="0.5", linewidth=0.3)
    axes[2].bar_label(bars, fmt="%.1f", padding=2, fontsize=7)
    axes[2].tick_params(labelsize=5.5)
    axes[2].invert_yaxis()
    axes[2].set_title("% of the pixels", loc="left")
    axes[2].set_xlim(0, 1.25 * max(shares.values()))
    axes[2].xaxis.set_visible(False)
    axes[2].grid(False)
    return fig


def abridged(name: str, length: int = 40) -> str:
    """`name`, its middle left out where it is longer than `length`: beginning and ending tell files apart."""
    return name if len(name) <= length else f"{name[: length // 2]}…{name[-(length // 2 - 1) :]}"


def slider(segmentations: Iterable[Segmentation]) -> "ipywidgets.VBox":
    """Widget that wipes between photograph and prediction and chooses the photograph; needs a live kernel."""
    import ipywidgets

    by_name = {result.name: result for result in segmentations}
    photograph = ipywidgets.Dropdown(options=list(by_name), description="photograph")
    cut = ipywidgets.FloatSlider(0.5, min=0, max=1, step=0.02, readout=False, description="wipe")
    # An image that is sent anew: what is captured by an output widget does not reach every front end.
    picture = ipywidgets.Image(
        format="jpeg", layout={"max_width": "100%", "max_height": "480px", "align_self": "flex-start"}
    )

    def draw(_: object = None) -> None:
        buffer = io.BytesIO()
        Image.fromarray(by_name[photograph.value].side_by_side(cut.value)).save(buffer, "JPEG", quality=92)
        picture.value = buffer.getvalue()

    for control in (photograph, cut):
        control.observe(draw, "value")
    draw()
    return ipywidgets.VBox([photograph, cut, picture])
