"""The report's tables, as frames of plain numbers indexed by run; `Numbers.table` prints and registers them.

NaN means not measured or not recorded. Published figures stand in columns of their own, named `published_...`.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from deeplab_lib.analysis import published
from deeplab_lib.labels import CLASS_NAMES
from deeplab_lib.recipes import RECIPES
from deeplab_lib.results import ResultsError, methods, require_comparable

NAN = float("nan")


def read_efficiency(folder):
    """Rows of `<folder>/efficiency.json` as a frame, empty when there is none."""
    path = Path(folder) / "efficiency.json"
    if not path.exists():
        return pd.DataFrame()
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        return pd.DataFrame([{"output_stride": 8} | row for row in rows])  # older rows do not say: the study's
    except (ValueError, KeyError, TypeError) as error:
        raise ResultsError(f"{path}: not readable ({error}); remove it and measure again") from None


def measured_rows(efficiency, model, size, stride=8):
    """The rows, as dicts, of a network at the image size (H, W); `stride`: DeepLabV2's, others have but their own."""
    if efficiency.empty:
        return []
    same = (efficiency.model == model) & (efficiency.height == size[0]) & (efficiency.width == size[1])
    rows = efficiency[same].to_dict("records")
    return [row for row in rows if not model.startswith("deeplabv2") or row.get("output_stride", 8) == stride]


def efficiency_of(run, efficiency, device=None):
    """The measured row for the run's network and image size, as a dict; `{}` when it was not measured.

    Without a device, one that has a latency is preferred, a GPU before a CPU.
    """
    config = run.config
    if efficiency.empty or not config:
        return {}
    size = config["image_height"], config["image_width"]
    rows = measured_rows(efficiency, config["model"], size, config.get("output_stride", 8))
    rows = [row for row in rows if device is None or row["device"] == device]
    timed = lambda row: isinstance(row.get("latency_ms"), dict)  # noqa: E731
    return max(rows, key=lambda row: (timed(row), str(row["device"]).startswith("cuda")), default={})


def results_table(runs, efficiency=None):
    """Run, method, mIoU, latency, cost and parameters, with the published figures beside.

    Columns: number, method, val_mIoU, best_val_mIoU (%), best_epoch, latency_ms, latency_q1, latency_q3, device, GMACs,
    GFLOPs, parameters, trainable, trainable_at_end, published_val_mIoU, published_latency, published_FLOPs_G,
    published_parameters.
    """
    require_comparable(runs)
    efficiency = pd.DataFrame() if efficiency is None else efficiency
    numbers = {key: number for number, key in enumerate(RECIPES, start=1)}
    rows = {}
    for run in runs:
        measured = efficiency_of(run, efficiency)
        latency = measured.get("latency_ms")
        latency = latency if isinstance(latency, dict) else {}
        record = run.record or {}
        parameters, macs = record.get("parameters", {}), measured.get("macs") or record.get("macs")
        epoch, best = run.best
        rows[run.stem] = {
            "number": numbers.get(run.recipe, NAN),
            "method": run.label,
            "val_mIoU": run.final_val_mIoU,
            "best_val_mIoU": best,
            "best_epoch": epoch,
            "latency_ms": latency.get("median", NAN),
            "latency_q1": latency.get("q1", NAN),
            "latency_q3": latency.get("q3", NAN),
            "device": measured.get("device_name") or measured.get("device") or "not measured",
            "GMACs": macs / 1e9 if macs else NAN,
            "GFLOPs": measured["flops"] / 1e9 if measured.get("flops") else NAN,
            "parameters": parameters.get("total", NAN),
            "trainable": parameters.get("trainable", NAN),
            "trainable_at_end": parameters.get("trainable_at_end", NAN),
        } | _published(run)
    return pd.DataFrame.from_dict(rows, orient="index")


def _published(run):
    """The study's figures for an unaltered recipe, NaN for any other run."""
    printed = published.RUNS.get(run.recipe) if not run.variant else None
    return {
        "published_val_mIoU": printed.val_mIoU if printed else NAN,
        "published_latency": printed.latency if printed else NAN,
        "published_FLOPs_G": published.FLOPS_G if printed else NAN,
        "published_parameters": printed.parameters if printed else NAN,
    }


def final_table(runs):
    """Final train mIoU, val mIoU and the 19 per-class validation IoUs in percent."""
    require_comparable(runs)
    rows = {
        run.stem: {"train_mIoU": run.final_train_mIoU, "val_mIoU": run.final_val_mIoU}
        | dict(zip(CLASS_NAMES, run.final_class_val, strict=True))
        for run in runs
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def published_final_table():
    """The study's last-row table, in the columns of `final_table`."""
    rows = {
        run.name: {"train_mIoU": run.last_train_mIoU, "val_mIoU": run.last_val_mIoU}
        | dict(zip(CLASS_NAMES, run.class_val, strict=True))
        for run in published.RUNS.values()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def seeds_table(runs):
    """Per method: n seeds, mean and standard deviation (n - 1) of the final val mIoU; sd is NaN with one seed."""
    rows = {}
    for method, members in methods(runs).items():
        values = np.array([run.final_val_mIoU for run in members])
        spread = float(values.std(ddof=1)) if len(values) > 1 else NAN
        rows[method] = {"method": members[0].title, "n": len(values), "mean": float(values.mean()), "sd": spread}
    return pd.DataFrame.from_dict(rows, orient="index")


def class_shares(runs):
    """Share of every class in the labelled validation pixels, in percent, by class name; None without an NPZ."""
    confusion = next((run.arrays["confusion"] for run in runs if run.arrays), None)
    if confusion is None:
        return None
    pixels = confusion.sum((0, 2)).astype(float)
    return pd.Series(100 * pixels / pixels.sum(), index=CLASS_NAMES)


def configuration_table(runs):
    """What each run was trained with, and why: loss, lr, power, warmup_steps, changes, batch_size, seed, motivation.

    For a run without JSON, what its recipe says; its batch size is NaN.
    """
    rows = {}
    for run in runs:
        plan = RECIPES.get(run.config.get("schedule") or run.recipe or "ce")
        config = {"lr": plan.lr, "power": plan.power, "warmup_steps": plan.warmup_steps} | run.config
        rows[run.stem] = {
            "method": run.label,
            "loss": (run.record or {}).get("loss") or (RECIPES[run.recipe].loss if run.recipe else "not recorded"),
            "lr": config["lr"],
            "power": config["power"],
            "warmup_steps": config["warmup_steps"],
            "changes": "; ".join(_change(change) for change in (run.record or {}).get("changes", ())) or "–",
            "batch_size": config.get("batch_size", NAN),
            "seed": run.seed,
            "motivation": RECIPES[run.recipe].motivation if run.recipe else "–",
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _change(change):
    """One mid-training change of a record as text."""
    parts = [f"power {change['power']:g}"] if change.get("power") is not None else []
    parts += ["weights " + ", ".join(f"{k} {v:g}" for k, v in change["weights"].items())] if change["weights"] else []
    parts += ["frozen: " + ", ".join(change["freeze"])] if change.get("freeze") else []
    return f"from epoch {change['epoch']:.3g}: " + ", ".join(parts)


def provenance_table(runs):
    """Everything recorded of where each run came from: one column a run, one row a field, all text."""
    return pd.DataFrame({run.stem: _provenance(run) for run in runs}).fillna("not recorded")


def _provenance(run):
    if run.record is None:
        return {"files": run.path.name, "lacks": "; ".join(run.missing), "notes": "; ".join(run.notes) or "none"}
    record, sessions = run.record, run.record.get("sessions", [])
    last = sessions[-1] if sessions else {}
    broken = [session for session in sessions if session.get("reason") != "finished"]
    fields = {f"configuration: {key}": _text(value) for key, value in sorted(run.config.items())}
    fields |= {f"data: {key}": _text(value) for key, value in record.get("dataset", {}).items()}
    fields |= {f"version: {key}": _text(value) for key, value in last.get("versions", {}).items()}
    fields |= {f"weights: {key}": _text(value) for key, value in record.get("weights", {}).items()}
    fields |= {
        "device": f"{last.get('device', '')} ({last.get('device_name', '')})",
        "commit": ", ".join(dict.fromkeys(_text(session.get("commit")) for session in sessions)),
        "wall time (s)": f"{record['wall_time_s']:.0f}" if record.get("wall_time_s") is not None else "not recorded",
        "started": _text(record.get("started")),
        "ended": _text(record.get("ended")),
        "sessions": str(len(sessions)),
        "interruptions": "; ".join(f"{s.get('reason')} at {s.get('ended')}" for s in broken) or "none",
        "warnings": "; ".join(record.get("warnings", [])) or "none",
        "notes": "; ".join(run.notes) or "none",
    }
    return fields


def _text(value):
    return "–" if value is None else ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
