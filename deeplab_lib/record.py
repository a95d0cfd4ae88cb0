"""What a run leaves behind: the rows of its CSV, its summary JSON, and where they came from."""

import csv
import hashlib
import io
import json
import math
import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from deeplab_lib.files import write_text
from deeplab_lib.labels import NUM_CLASSES

PACKAGES = ("torch", "torchvision", "numpy", "pillow", "papermill", "deeplab-losses")


def now():
    """The time as ISO text, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def percent_columns(split, classes):
    """Per-class columns `class_<i>_<split>` of an IoU vector `(19,)`."""
    return {f"class_{i}_{split}": float(classes[i]) for i in range(NUM_CLASSES)}


def write_csv(path, rows):
    """Write the rows (dicts of one shape) atomically; numbers to the last digit, NaN as an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()})
    write_text(path, text.getvalue())


def write_json(path, content):
    """Write `content` as readable JSON, atomically; NaN as null."""
    write_text(path, json.dumps(plain(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path):
    """The object in a JSON file, None if there is no file; ValueError naming a file that is not JSON."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("no object at its top")
        return content
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(
            f"{path} is not a readable JSON file ({error}); move it away, and the same command writes it anew"
        ) from None


def plain(value):
    """`value` with arrays as lists, paths as text and NaN as None, ready for JSON."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, os.PathLike) else value


def differences(old, new):
    """`["epochs: 5 -> 50", ...]`: where two records of what decides a run's numbers do not agree."""
    return [f"{k}: {old.get(k)} -> {new.get(k)}" for k in {**old, **new} if old.get(k) != new.get(k)]


def session(config, from_epoch):
    """One stretch of a run on one machine: when, where and with what."""
    return {
        "started": now(),
        "ended": now(),
        "from_epoch": from_epoch,
        "reason": "running",
        "device": config.device,
        "device_name": device_name(config.device),
        "amp": config.amp,
        "choices": list(config.automatic),
        "gpus": config.gpus,
        "workers": config.workers,
        "threads": torch.get_num_threads(),
        "commit": commit(),
        "code": code_sha256(),
        "versions": versions(),
    }


def versions():
    """Versions of Python and of the packages that decide the numbers."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit():
    """Git commit of the kit's source, with `-dirty` when it was changed, or `unknown` outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def code_sha256():
    """Hash of the library's source, so that a run continued with other code can say so."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def device_name(device):
    """The processor's or the GPU's own name."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.split(':', 1)[1].strip()} (CPU, {os.cpu_count()} cores)"
    return f"{platform.processor() or platform.machine()} (CPU, {os.cpu_count()} cores)"


def peak_memory_mb(device):
    """Peak memory so far in MB: of the GPU's allocator, or of this whole process on a CPU; NaN if unknown."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:  # Linux; its getrusage counts what the parent held when it started this program
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
        return int(found[1]) / 2**10
    except (OSError, TypeError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
