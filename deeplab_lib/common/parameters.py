"""Parameters as notebooks and shells give them: their names, and what is meant by their text."""

import ast
import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import Field
from typing import Any

from deeplab_lib.common.errors import short_traceback
from deeplab_lib.common.text import did_you_mean


@short_traceback
def check_parameters(namespace: Mapping[str, Any], valid: Collection[str], also: Collection[str] = ()) -> None:
    """As `check_names`, of the parameters that a notebook sets; `namespace` is its `globals()`."""
    cells = [cell for cell in namespace.get("In", ()) if cell.lower().startswith("# parameters")]
    last = {cell.splitlines()[0]: cell for cell in cells}  # of the notebook's cell and papermill's, as run last
    check_names([name for cell in last.values() for name in assigned(cell)], valid, also)


# What other programs call these parameters.
OTHER_NAMES = {
    "amp": ("mixed_precision", "precision", "fp16", "bf16", "half"),
    "batch_size": ("batch", "bs", "samples_per_gpu"),
    "data": ("dataset", "data_dir", "data_root", "data_path", "root", "cityscapes"),
    "device": ("cuda", "accelerator"),
    "epochs": ("num_epochs", "n_epochs", "max_epochs", "epoch"),
    "image_height": ("height", "crop_height", "img_h"),
    "image_width": ("width", "crop_width", "img_w"),
    "loss": ("criterion", "loss_fn", "loss_function", "recipe"),
    "lr": ("learning_rate", "initial_lr", "base_lr", "eta", "lr0"),
    "model": ("network", "backbone", "arch", "architecture", "net"),
    "out_dir": ("output", "output_dir", "out", "save_dir", "work_dir", "log_dir"),
    "preset": ("scale", "size", "mode"),
    "pretrained": ("pretrain", "weights", "checkpoint"),
    "photographs": ("images", "pictures", "input", "folder"),
    "run": ("weights", "checkpoint", "model"),
    "runs": ("folder", "run_dir", "results"),
    "seed": ("random_state", "random_seed", "manual_seed"),
    "workers": ("num_workers", "n_workers"),
}


def check_names(names: Iterable[str], valid: Collection[str], also: Collection[str] = ()) -> None:
    """Raise ValueError for the first of `names` that is none of `valid`; what it probably means is named.

    also: names that are accepted and not offered.
    """
    for name in names:
        if name not in valid and name not in also:
            ours = (known for known in valid if name.lower() in OTHER_NAMES.get(known, ()))
            hint = next((f", did you mean {known!r}?" for known in ours), did_you_mean(name, valid))
            raise ValueError(f"no parameter {name!r}{hint}; parameters: {', '.join(valid)}")


def check_texts(namespace: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raise ValueError for the first of the parameters `names` that is neither text with a letter in it nor None."""
    for name in names:
        value = namespace.get(name)
        if isinstance(value, str) and not value.strip():
            raise ValueError(f"{name} is {value!r}, an empty text; name one, or leave the parameter out")
        if value is not None and not isinstance(value, str | os.PathLike):
            raise ValueError(f"{name} is {value!r}; it must be text (by papermill: -r {name} {value})")


def assigned(source: str) -> Iterator[str]:
    """Names that a cell of plain assignments sets."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                names = (part for part in ast.walk(target) if isinstance(part, ast.Name))
                yield from (name.id for name in names if isinstance(name.ctx, ast.Store))


def read_parameters(given: dict, parameters: dict[str, Field]) -> dict:
    """`{name: value}` of all `parameters`, those of `given` as their type and within their range; else their default.

    Raises TypeError for a name that is no parameter and ValueError for a value that is none of its.
    """
    for name in given:
        if name not in parameters:
            raise TypeError(f"no parameter {name!r}{did_you_mean(name, parameters)}")
    return {name: checked(item, given.get(name)) for name, item in parameters.items()}


def checked(item: Field, value: Any) -> Any:
    """`value` of parameter `item` as its type and within its range, or ValueError."""
    about = item.metadata
    words, choices = about["words"] or {}, about["choices"] or ()
    known = (*words, *choices)
    if isinstance(value, str) and not value.strip() and about["kind"] is str and not words and item.default != "":
        raise ValueError(f"{item.name} is {value!r}, an empty text; name one, or leave the parameter out")
    if isinstance(value, str) and value.strip().lower() in {"none", "null", ""} - set(known):
        value = None
    if value is None:
        return item.default
    if value is False and about["kind"] is str:  # YAML reads off and no as false
        value = next((word for word in ("off", "none") if word in known), value)
    value = coerce(item.name, value, about["kind"])
    if words:
        return words.get(value.lower(), value)
    if choices:
        value = value.lower() if isinstance(value, str) else value
        if value not in choices and not (about["also"] and value.startswith(about["also"])):
            hint = did_you_mean(value, map(str, choices))
            raise ValueError(f"{item.name} is {value!r}{hint}; valid: {', '.join(map(str, choices))}")
    if about["low"] is not None and not about["low"] <= value <= about["high"]:
        form = ".15g" if about["kind"] is float else "d"
        low, high = (f"{about[end]:{form}}" for end in ("low", "high"))
        raise ValueError(f"{item.name} is {value:{form}}; it must lie between {low} and {high}")
    if item.name == "lr" and value == 0:
        raise ValueError("lr is 0; it must be positive")
    return value


def coerce(name: str, value: Any, kind: type) -> Any:
    """Read `value`, perhaps text from a command line, as `kind`; ValueError when it does not mean one."""
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    try:
        if kind is bool and not isinstance(value, float):
            return words[str(value).strip().lower()]
        if kind is str and isinstance(value, str | os.PathLike):
            return str(value).strip()
        if kind in (int, float) and isinstance(value, int | float | str) and not isinstance(value, bool):
            number = float(value)
            if math.isfinite(number) and (kind is float or number == int(number)):
                return kind(number)
    except (KeyError, ValueError, OverflowError):
        pass
    want = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[kind]
    raise ValueError(f"{name} is {value!r}; it must be {want}")
