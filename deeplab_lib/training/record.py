"""What a run leaves behind: the rows of its CSV, its summary JSON, and where they came from."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from deeplab_lib.common.devices import device_name
from deeplab_lib.common.files import write_text
from deeplab_lib.common.types import PathLike
from deeplab_lib.labels import NUM_CLASSES

if TYPE_CHECKING:
    from deeplab_lib.config import Config

PACKAGES = ("torch", "torchvision", "numpy", "pillow", "papermill", "deeplab-losses")


def now() -> str:
    """The time as ISO text, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def percent_columns(split: str, classes: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Per-class columns `class_<i>_<split>` of an IoU vector `(19,)`."""
    return {f"class_{i}_{split}": float(classes[i]) for i in range(NUM_CLASSES)}


def write_csv(path: PathLike, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows (dicts) atomically; numbers to the last digit, NaN and what a row lacks as an empty cell."""
    text = io.StringIO()
    names = dict.fromkeys(name for row in rows for name in row)  # rows that an earlier version wrote have fewer
    writer = csv.DictWriter(text, fieldnames=list(names), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()})
    write_text(path, text.getvalue())


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """`["epochs: 5 -> 50", ...]`: where two records of what decides a run's numbers do not agree."""
    return [f"{k}: {old.get(k)} -> {new.get(k)}" for k in {**old, **new} if old.get(k) != new.get(k)]


def session(config: Config, from_epoch: int) -> dict[str, Any]:
    """One stretch of a run on one machine: when, where and with what."""
    return {
        "started": now(),
        "ended": now(),
        "from_epoch": from_epoch,
        "reason": "running",
        "device": config.device,
        "device_name": device_name(config.device),
        "amp": config.amp,
        "choices": list(config.fast_paths),
        "gpus": config.gpus,
        "workers": config.workers,
        "threads": torch.get_num_threads(),
        "commit": commit(),
        "code": code_sha256(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the numbers."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit() -> str:
    """Git commit of the kit's source, with `-dirty` when it was changed, or `unknown` outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"


# What decides a run's numbers; plots, analysis, report and lessons only read them.
CODE = ("*.py", "common/*.py", "data/*.py", "losses/*.py", "models/*.py", "toycity/*.py", "training/*.py")


def code_files() -> list[Path]:
    """The source files that decide a run's numbers, in order."""
    package = Path(__file__).parents[1]
    return sorted(path for pattern in CODE for path in package.glob(pattern))


def code_sha256() -> str:
    """Hash of the source of a run, so that one continued with other code can say so; the report's is not among it."""
    digest = hashlib.sha256()
    for path in code_files():
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
