"""The names that a notebook's parameters cell sets, and the cell that papermill injects after it."""

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from deeplab_lib.common.errors import short_traceback
from deeplab_lib.common.text import did_you_mean


@short_traceback
def check_parameters(namespace: Mapping[str, Any], valid: Collection[str]) -> None:
    """Refuse, with a ValueError, a parameter that is none of `valid`; `namespace` is the notebook's `globals()`."""
    cells = [cell for cell in namespace.get("In", ()) if cell.lower().startswith("# parameters")]
    check_names([name for cell in cells for name in assigned(cell)], valid)


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
    "runs": ("folder", "run_dir", "results"),
    "seed": ("random_state", "random_seed", "manual_seed"),
    "workers": ("num_workers", "n_workers"),
}


def check_names(names: Iterable[str], valid: Collection[str]) -> None:
    """Raise ValueError for the first of `names` that is none of `valid`; what it probably means is named."""
    for name in names:
        if name not in valid:
            ours = (known for known in valid if name.lower() in OTHER_NAMES.get(known, ()))
            hint = next((f", did you mean {known!r}?" for known in ours), did_you_mean(name, valid))
            raise ValueError(f"no parameter {name!r}{hint}; parameters: {', '.join(valid)}")


def assigned(source: str) -> Iterator[str]:
    """Names that a cell of plain assignments sets."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
