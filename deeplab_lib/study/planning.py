"""Which runs a study consists of (`workflow/config.yaml`), how they share the machine, and how far they are."""

import json
import multiprocessing
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import torch

from deeplab_lib.common.files import jsonable, project_root, read_json
from deeplab_lib.common.parameters import check_names, coerce
from deeplab_lib.common.text import did_you_mean
from deeplab_lib.common.types import PathLike
from deeplab_lib.config import PARAMETERS, REMOVED, Config, as_begun
from deeplab_lib.data.pairs import scan
from deeplab_lib.models import weights
from deeplab_lib.models.placement import to_device
from deeplab_lib.models.registry import make_model
from deeplab_lib.recipes import RECIPES
from deeplab_lib.training.earlier import UNSAID
from deeplab_lib.training.pace import epoch_seconds
from deeplab_lib.training.record import differences

DEFAULTS: dict[str, Any] = {
    **{"data": None, "preset": "auto", "runs": None, "report": "report", "recipes": "all", "losses": []},
    **{"seeds": [0], "control": False, "models": [None], "parameters": {}},
    **{"author": None, "affiliation": None, "title": None},
}
# Parameters of a run that have a setting of their own, and the one that would start every attempt anew.
TAKEN = {"loss": "recipes and losses", "seed": "seeds", "model": "models", "data": "data", "preset": "preset"}
TAKEN |= {"out_dir": "runs", "resume": "another folder in runs"}
MEMORY_GB = {"smoke": 0.7, "demo": 1.2, "paper": 16.0}  # of a run on the CPU, measured (demo) and rounded up
# Parameters that decide how long a run takes: runs alike in them are timed once.
PACED = ("model", "output_stride", "size", "batch_size", "epochs", "split", "multiscale", "tta")
ON_ITS_MACHINE = ("device", "amp", "gpus", "workers")  # settled where a run is made; no part of its name or numbers
NOTEBOOK_SECONDS = 10  # a kernel's start, the checks and the pictures of one run


def complete(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with defaults for what is left out or null; ValueError for one that does not exist or fit."""
    for name in settings:
        if name not in DEFAULTS:
            known = f"{did_you_mean(name, DEFAULTS)}; settings: {', '.join(DEFAULTS)}"
            own = TAKEN.get(name, f"parameters={{{name}: {settings[name]}}}") if name in PARAMETERS else None
            raise ValueError(f"no setting {name!r}" + (f": a run's own parameter; use {own}" if own else known))
    settings = DEFAULTS | {name: value for name, value in settings.items() if value is not None}
    for name in ("recipes", "losses", "seeds", "models"):
        value = settings[name]
        if not isinstance(value, list) and (name, value) != ("recipes", "all"):
            raise ValueError(f"{name} is {value!r}; it must be a list: {name}: [{value}]")
    settings["control"] = coerce("control", settings["control"], bool)
    for name in ("author", "affiliation"):
        if isinstance(settings[name], list):
            settings[name] = "; ".join(map(str, settings[name]))
    for name in ("data", "preset", "runs", "report", "author", "affiliation", "title"):
        if isinstance(settings[name], list | dict | bool):
            raise ValueError(f"{name} is {settings[name]!r}; it must be text")
        settings[name] = settings[name] if settings[name] is None else str(settings[name])
    settings["report"] = str(Path(settings["report"]).expanduser())
    _check_parameters(settings["parameters"])
    return settings


def _check_parameters(parameters: object) -> None:
    if not isinstance(parameters, dict):
        raise ValueError(f"parameters is {parameters!r}; it must name values: {{epochs: 20}}")
    check_names(parameters, PARAMETERS, REMOVED)
    for name in parameters:
        if name in TAKEN:
            raise ValueError(f"parameters sets {name}; use {TAKEN[name]} instead")
    device = str(parameters.get("device", ""))
    if device.startswith("cuda:"):
        raise ValueError(f"parameters sets device {device}; set CUDA_VISIBLE_DEVICES={device[5:]} instead")


def plan(settings: Mapping[str, Any], here: bool = True) -> dict[str, dict[str, Any]]:
    """`{stem: parameters of train.ipynb}` of every run; ValueError for a value that is not valid.

    here: the runs are made on this machine, so what they ask of it is checked, too.
    """
    runs: dict[str, dict[str, Any]] = {}
    for parameters in combinations(settings):
        given = {name: value for name, value in parameters.items() if value is not None}
        runs.setdefault(configured(given, here).stem, given)
    if not runs:
        raise ValueError("recipes, losses, seeds or models leave no run to make")
    return runs


def configured(parameters: Mapping[str, Any], here: bool = False) -> Config:
    """The `Config` of a run; unless it is made `here`, without what it asks of its machine.

    A cluster's login node has no GPU, and can plan and look at runs on many all the same.
    """
    config = Config(**{name: value for name, value in parameters.items() if here or name not in ON_ITS_MACHINE})
    return as_begun(config, say=lambda line: None)


def check(runs: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise ValueError where the data of a run to be made are not there, or its summary is of another run or alone.

    A run says so itself when it starts; but all of them would, and one whose summary is there would not be started.
    """
    for stem, parameters in runs.items():
        config = configured(parameters)
        path = Path(config.out_dir) / f"{stem}.json"
        if path.exists() and not path.with_suffix(".csv").exists():
            raise ValueError(f"{path} is there without {stem}.csv, its table: copy that too, or move the JSON away")
        if not finished(config.out_dir, stem) and not config.toycity:
            for split in (config.split, "val"):
                count_images(str(config.data), split)
        found = (read_json(path) or {}).get("identity", {})
        found = found and UNSAID | found
        known = {name: value for name, value in jsonable(config.result_dict()).items() if name in found}
        if changed := differences({name: found[name] for name in known}, known):
            raise ValueError(
                f"{path} is of a run that differs in {'; '.join(changed)}: name another folder in runs, or move it away"
            )


@cache
def count_images(data: str, split: str) -> int:
    """How many images with labels the split has, of which none is opened; ValueError where it has none."""
    if not Path(data).exists():
        raise ValueError(f"data is {data}: there is no such folder")
    try:
        return len(scan(data, split))
    except FileNotFoundError as error:
        raise ValueError(f"data: {error}") from None


def fetch_weights(runs: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Have the pretrained weights of `runs` at hand before any of them starts, so that all start from the same.

    Yields what there is to say. Here there may be internet, and on the nodes of a cluster none.
    """
    for wish, model in dict.fromkeys((config.pretrained, config.model) for config in map(configured, runs.values())):
        try:
            if found := weights.resolve(wish, model).warning:
                yield f"{model}: {found}"
        except (OSError, ValueError) as error:  # the runs that need them will say it again
            yield f"{model}: {error}"


def in_folder(path: PathLike) -> str:
    """A folder as the notebooks find it: relative to the project, so that no document shows whose machine it was."""
    path, root = Path(path).resolve(), project_root().resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def combinations(settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Parameters of every run: losses x models x seeds, then the control runs."""
    recipes = list(RECIPES) if settings["recipes"] == "all" else settings["recipes"]
    common = {"data": settings["data"], "preset": settings["preset"], "out_dir": settings["runs"]}
    common |= settings["parameters"]
    for seed in settings["seeds"]:
        for model in settings["models"]:
            for loss in (*recipes, *settings["losses"]):
                yield common | {"loss": loss, "seed": seed, "model": model}
        if settings["control"]:
            for loss in RECIPES:
                yield common | {"loss": loss, "seed": seed, "schedule": "ce"}


def label(parameters: Mapping[str, Any]) -> str:
    """A short name of a run for progress lines: its loss, and whatever else was asked of it."""
    asked = {name: parameters.get(name) for name in ("model", "schedule", "seed")}
    rest = [f"{name} {value}" for name, value in asked.items() if str(value) not in ("None", "null", "0")]
    return ", ".join([parameters["loss"], *rest])


# -- sharing the machine -----------------------------------------------------------------------------------------


def gpu_slots(config: Config) -> list[str]:
    """What each run at a time may see as CUDA_VISIBLE_DEVICES: one slot per `config.gpus` devices; none on a CPU.

    Only devices that are visible here are shared out. `$DEEPLAB_GPUS` states their number instead of PyTorch.
    """
    stated, visible = os.environ.get("DEEPLAB_GPUS"), os.environ.get("CUDA_VISIBLE_DEVICES")
    if stated is None and config.device == "cpu":
        return []
    if stated is None and config.device == "mps":
        return ["0"]
    count = torch.cuda.device_count() if stated is None else int(stated)
    devices = visible.split(",")[:count] if visible else [str(number) for number in range(count)]
    groups = range(0, len(devices) - config.gpus + 1, config.gpus)
    return [",".join(devices[first : first + config.gpus]) for first in groups]


def side_by_side(count: int, config: Config, cores: int) -> tuple[int, int]:
    """`(runs at a time, cores of each)` for `count` runs: one a slot, or on the CPU what cores and memory allow."""
    memory = psutil.virtual_memory().total / 2**30
    room = len(gpu_slots(config)) or min(cores // config.gpus, int(memory / MEMORY_GB[config.preset]))
    at_once = max(1, min(count, cores, room))
    return at_once, max(1, cores // at_once)


# -- how far it is -------------------------------------------------------------------------------------------------


def epochs_done(folder: PathLike, stem: str) -> int:
    """Epochs that a run has recorded, all of them when it is finished."""
    path = Path(folder) / f"{stem}.csv"
    return max(0, len(path.read_text().splitlines()) - 1) if path.exists() else 0


def finished(folder: PathLike, stem: str) -> bool:
    """Whether the run is complete."""
    return (Path(folder) / f"{stem}.json").exists()


def where(folder: PathLike, stem: str, parameters: Mapping[str, Any]) -> str:
    """The state of a run in a few words."""
    config = configured(parameters)
    done, epochs, first = epochs_done(folder, stem), config.epochs, config.first_stage
    if finished(folder, stem):
        return "finished"
    if first and not done and (coarse := epochs_done(folder, first.stem)):
        return f"stopped after epoch {coarse} of {first.epochs} on coarse labels"
    return f"stopped after epoch {done} of {epochs}" if done else "not started"


def overview(runs: Mapping[str, Mapping[str, Any]], folder: PathLike) -> list[str]:
    """One line a run, `label: state`."""
    width = max(len(label(parameters)) for parameters in runs.values())
    return [f"{label(parameters):{width}}  {where(folder, stem, parameters)}" for stem, parameters in runs.items()]


def estimate(runs: Mapping[str, Mapping[str, Any]], *arguments: Any) -> float | None:
    """`expected(runs, ...)`, or None where that fails: whatever is wrong, the runs themselves will say it.

    A GPU is asked by a process of its own: this one would hold some of its memory for as long as it lives.
    """
    try:
        if all(Config(**parameters).device == "cpu" for parameters in runs.values()):
            return expected(runs, *arguments)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(expected, runs, *arguments).result()
    except Exception:
        return None


def expected(runs: Mapping[str, Mapping[str, Any]], folder: PathLike, at_once: int, threads: int) -> float:
    """Seconds that the unfinished runs should take together, from a few steps of each network on this machine."""
    timed: dict[tuple[Any, ...], float] = {}
    total = longest = 0.0
    for stem, parameters in runs.items():
        if finished(folder, stem):
            continue
        config, seconds = Config(**parameters), float(NOTEBOOK_SECONDS)
        for stage in filter(None, (config.first_stage, config)):
            kind = tuple(getattr(stage, name) for name in PACED)
            timed[kind] = timed.get(kind) or _seconds(stage, threads)
            seconds += timed[kind] * (1 - min(1, epochs_done(folder, stage.stem) / stage.epochs))
        total, longest = total + seconds, max(longest, seconds)
    return max(longest, total / at_once)


def _seconds(config: Config, threads: int) -> float:
    if config.toycity:
        counts = config.scale.toycity
        train, val = counts[config.split] // config.epochs_per_pass, config.val_each_epoch or counts["val"]
    else:
        train, val = (count_images(str(config.data), split) for split in (config.split, "val"))
    model = to_device(make_model(config.model, output_stride=config.output_stride), config.device, config.fast_paths)
    steps = max(1, train // config.batch_size)  # fewer images than a batch: the run itself will say so
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return config.epochs * epoch_seconds(config, model, steps, val)
    finally:
        torch.set_num_threads(before)


def failures(runs: Mapping[str, Mapping[str, Any]], folder: PathLike) -> Iterator[str]:
    """What to tell of each run that is not finished: where it stands, why, and the notebook that shows it."""
    for stem, parameters in runs.items():
        if not finished(folder, stem):
            notebook = Path(folder) / f"{stem}.ipynb"
            reason = describe_failure(notebook)
            yield f"{label(parameters)}: {where(folder, stem, parameters)}" + (f"; {reason}" if reason else "")
            if reason:
                yield f"    the notebook, as far as it came: {notebook}"


def describe_failure(notebook: PathLike) -> str | None:
    """The last line of the traceback in an executed notebook; None where there is no notebook."""
    try:
        cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError):
        return None
    for output in (output for cell in cells for output in cell.get("outputs", [])):
        if output["output_type"] == "error":
            words = (output["evalue"].strip().splitlines() or [""])[-1]
            return words if output["ename"] == "RunStopped" else f"{output['ename']}: {words}"
    return "its notebook ended without a word: stopped, or killed (often: out of memory)"
