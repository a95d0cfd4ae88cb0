"""A run's JSON and NPZ as somebody handed them in: bounded, checked, their strings text (`common.markup`).

Nothing in them is executed: JSON is parsed, arrays are read without pickles. What does not fit what a run writes is a
`ResultsError` of one line that names the file and the field.
"""

import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from numbers import Real
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from deeplab_lib.common.markup import all_text, as_plain, as_text
from deeplab_lib.labels import NUM_CLASSES
from deeplab_lib.losses import parse_expression
from deeplab_lib.metrics import iou, mean_iou
from deeplab_lib.recipes import EXTRA_RECIPES, RECIPES
from deeplab_lib.study.foreign import ResultsError

MAX_JSON, MAX_NPZ = 16_000_000, 8_000_000_000  # bytes, of an NPZ unpacked
HAND_IN, MEASURE = "hand in the file as the run wrote it", "remove it and measure again"
AGREE = 0.05  # points of mIoU by which files of one run may differ
KINDS: dict[type | tuple, str] = {
    dict: "an object", list: "a list", str: "text", int: "a whole number", Real: "a number", bool: "true or false",
}  # fmt: skip
# What the fields of a record are, where they are there and not null.
FIELDS: dict[str, type] = {
    "config": dict, "config.seed": int, "config.epochs": int, "config.image_height": int, "config.image_width": int,
    "config.lr": Real, "config.lr_factor": Real, "config.power": Real, "config.batch_size": int, "config.preset": str,
    "config.model": str, "config.loss": str, "config.schedule": str, "config.follows": str, "config.warmup_steps": Real,
    "dataset": dict, "dataset.name": str, "dataset.fingerprint": str, "dataset.train": int, "dataset.val": int,
    "dataset.train_each_epoch": int, "dataset.val_each_epoch": int, "dataset.synthetic": bool,
    "parameters": dict, "parameters.total": int, "parameters.trainable": int, "parameters.trainable_at_end": int,
    "final": dict, "final.val_mIoU": Real, "identity": dict, "weights": dict, "sessions": list, "changes": list,
    "warnings": list, "macs": Real, "wall_time_s": Real, "title": str, "recipe": str, "loss": str, "stem": str,
    "started": str, "ended": str, "finished": bool,
}  # fmt: skip
ITEMS = {"sessions": dict, "changes": dict, "warnings": str}
POSITIVE = ("config.epochs", "config.image_height", "config.image_width", "dataset.train", "dataset.val", "config.lr")
CHOICES = {
    "recipe": {*RECIPES},
    "config.schedule": {*RECIPES, *EXTRA_RECIPES},
    "config.follows": {"logs", "text"},
}


def _read_json(path: Path | str) -> Any:
    """What a JSON file holds, its strings `as_text`, but for losses' expressions. Raises ResultsError."""
    path = Path(path)
    try:
        if (size := path.stat().st_size) > MAX_JSON:
            raise ValueError(f"{size / 1e6:,.0f} MB; a run's JSON needs a few kilobytes")
        return all_text(json.loads(path.read_text(encoding="utf-8")), frozenset({"loss"}))
    except (ValueError, OSError, RecursionError) as error:
        raise ResultsError(f"{path}: not readable ({error}); remove it and run the training again") from None


def read_record(path: Path | str) -> dict[str, Any]:
    """A run's record. Raises ResultsError where it is none, or where a field is not what a run writes there."""
    record = _read_json(path)
    if not isinstance(record, dict) or not isinstance(record.get("config"), dict):
        problem = "no run's record: it has no 'config'"
        raise ResultsError(f"{path}: not readable ({problem}); remove it and run the training again")
    for name, value, wanted in _misfits(record, FIELDS):
        _refuse(path, name, value, wanted)
    for name in POSITIVE:
        if (value := _at(record, name)) is not None and value <= 0:
            _refuse(path, name, value, "more than 0")
    for name, choices in CHOICES.items():
        if (value := _at(record, name)) is not None and value not in choices:
            _refuse(path, name, value, f"one of {', '.join(sorted(choices))}")
    for name, kind in ITEMS.items():
        for item in record.get(name) or ():
            if not isinstance(item, kind):
                _refuse(path, f"{name}: an item", item, KINDS[kind])
    return _with_losses(record, path)


# What the fields of a row of efficiency.json are; those that are not REQUIRED may be missing or null.
COSTS: dict[str, type] = {
    "model": str, "height": int, "width": int, "device": str, "device_name": str, "threads": int, "parameters": int,
    "macs": Real, "flops": Real, "output_stride": int, "latency_ms": dict, "other_cores": Real, "peak_memory_MB": Real,
    "note": str, "latency_ms.median": Real, "latency_ms.q1": Real, "latency_ms.q3": Real, "latency_ms.n": int,
    "onnx_runtime": dict, "onnx_runtime.version": str, "onnx_runtime.latency_ms": dict,
    "onnx_runtime.latency_ms.median": Real, "onnx_runtime.latency_ms.q1": Real, "onnx_runtime.latency_ms.q3": Real,
}  # fmt: skip
REQUIRED = ("model", "height", "width", "device", "device_name", "threads", "parameters", "macs", "flops")


def read_costs(path: Path | str) -> list[dict[str, Any]]:
    """The rows of an efficiency.json, with nothing that breaks `COSTS`. Raises ResultsError naming row and field."""
    content = _read_json(path)
    rows = content.get("rows") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise ResultsError(f"{path}: not readable (it has no list 'rows'); {MEASURE}")
    found = []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            _refuse(path, f"row {number}: it", row, KINDS[dict], MEASURE)
        if missing := next((name for name in REQUIRED if row.get(name) is None), None):
            raise ResultsError(f"{path}: row {number} has no {missing}; remove the file and measure again")
        for name, value, wanted in _misfits(row, COSTS):
            _refuse(path, f"row {number}: {name}", value, wanted, MEASURE)
        # Rows of version 0.1 do not say the stride: it was the study's.
        found.append({"output_stride": 8, "note": "", "latency_ms": None, "other_cores": None} | row)
    return found


def _misfits(record: dict[str, Any], fields: Mapping[str, type]) -> Iterator[tuple[str, Any, str]]:
    """`(name, value, what it must be)` of each of the `fields` that is there and is not of its kind."""
    for name, kind in fields.items():
        value = _at(record, name)
        if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
            yield name, value, KINDS[kind]
        elif isinstance(value, Real) and not (math.isfinite(value) and float(value) >= 0):
            yield name, value, "a number, 0 or more"


def _with_losses(record: dict[str, Any], path: Path | str) -> dict[str, Any]:
    """The record, whose losses are expressions or, in the configuration, names of recipes; anything else is refused."""
    for name, holder in (("loss", record), ("config.loss", record["config"])):
        loss = holder.get("loss")
        if loss is None or loss in RECIPES or loss in EXTRA_RECIPES:
            continue
        try:
            parse_expression(loss)
        except ValueError:
            _refuse(path, name, loss, "a loss")
    return record


def _at(record: Any, name: str) -> Any:
    """The value under "config.seed", None where there is none."""
    for key in name.split("."):
        record = record.get(key) if isinstance(record, dict) else None
    return record


def _refuse(path: Path | str, name: str, value: object, wanted: str, advice: str = HAND_IN) -> NoReturn:
    shown = as_plain(as_text(value))
    shown = shown if len(shown) <= 60 else f"{shown[:60]}…"
    raise ResultsError(f"{path}: {name} is {shown!r}, it must be {wanted}; {advice}")


def read_arrays(path: Path | str, without: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """The arrays of a run's NPZ but those called `without`, names of images `as_text`.

    Raises ResultsError where it cannot be read without running code, where it is too large, and where an array has not
    the shape, kind or range that a run writes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MAX_NPZ:
            raise ValueError(f"{size / 1e9:,.0f} GB unpacked")
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files if name not in without}
    except Exception as error:  # a damaged archive fails in many ways
        raise ResultsError(f"{path}: not a readable NPZ file ({error}); remove it or train the run again") from None
    _check_arrays(path, arrays)
    for name in ("names", "prediction_names"):
        if name in arrays:
            arrays[name] = np.array([as_text(text) for text in arrays[name]], dtype=str)
    return arrays


def _check_arrays(path: Path | str, arrays: Mapping[str, np.ndarray]) -> None:
    if missing := {"names", "confusion"} - arrays.keys():
        raise ResultsError(f"{path}: no array {sorted(missing)[0]}; {HAND_IN}")
    images, classes = len(np.atleast_1d(arrays["names"])), (NUM_CLASSES, NUM_CLASSES)
    shapes = {"names": (images,), "confusion": (images, *classes), "boundary_f": (images,), "log_loss": (images,)}
    for name, shape in shapes.items():
        if name in arrays and arrays[name].shape != shape:
            _refuse(path, f"the shape of {name}", arrays[name].shape, f"{shape}")
    for name, array in arrays.items():
        if name.startswith("calibration_") and array.shape[:1] != (images,):
            _refuse(path, f"the shape of {name}", array.shape, f"({images}, bins)")
    confusion = arrays["confusion"]
    if not np.issubdtype(confusion.dtype, np.integer):
        _refuse(path, "the type of confusion", confusion.dtype, "whole numbers")
    if confusion.size and confusion.min() < 0:
        _refuse(path, "the least count in confusion", confusion.min(), "0 or more")
    if not confusion.sum():
        _refuse(path, "the sum of confusion", 0, "more than 0: no pixel is counted")
    if not set(map(str, arrays.get("prediction_names", ()))) <= set(map(str, arrays["names"])):
        raise ResultsError(f"{path}: prediction_names holds images that names lacks; hand in the file as it was")
    if len(arrays.get("predictions", ())) != len(arrays.get("prediction_names", ())) and "predictions" in arrays:
        raise ResultsError(f"{path}: predictions and prediction_names differ in length; hand in the file as it was")


def check_agreement(csv: Path, val_mIoU: float, epochs: int, record: dict[str, Any], npz: Path | None) -> None:
    """Raise ResultsError where the files of one run tell different results, in a line that names both.

    val_mIoU: the CSV's final value in percent. epochs: the last epoch in it.
    """
    planned, final = _at(record, "config.epochs"), _at(record, "final.val_mIoU")
    results = {f"{csv.stem}.json": final}
    if npz is not None:
        total = read_arrays(npz, without=("predictions", "confusion_native"))["confusion"].sum(0)
        results[npz.name] = mean_iou(iou(total))
    for name, other in results.items():
        if other is not None and abs(other - val_mIoU) > AGREE:
            raise ResultsError(
                f"{csv}: {csv.name} says {val_mIoU:.2f} % mIoU after the last epoch, {name} {other:.2f} %: these are "
                "not files of one run; hand in all three as the run wrote them"
            )
    if planned is not None and record.get("finished") and planned != epochs:
        raise ResultsError(
            f"{csv}: {csv.name} ends with epoch {epochs}, but {csv.stem}.json says that the run finished {planned}; "
            "hand in both as the run wrote them"
        )
