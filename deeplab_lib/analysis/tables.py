"""The report's tables, as frames of plain numbers indexed by run; `Numbers.table` prints and registers them.

With them what tables, figures and paragraphs alike read: measured costs, and where a run's training changed.

NaN means not measured or not recorded. Published figures stand in columns of their own, named `published_...`.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deeplab_lib.analysis import published
from deeplab_lib.common.errors import short_traceback
from deeplab_lib.common.files import portable
from deeplab_lib.common.markup import as_plain, as_text
from deeplab_lib.common.text import listing, plan_change
from deeplab_lib.common.types import PathLike, Size
from deeplab_lib.labels import CLASS_NAMES
from deeplab_lib.losses import parse_expression
from deeplab_lib.recipes import RECIPES, recipe_for
from deeplab_lib.study.folders import run_folders
from deeplab_lib.study.foreign import CLASS_VAL, ResultsError
from deeplab_lib.study.grouping import methods, require_comparable
from deeplab_lib.study.hand_in import read_costs
from deeplab_lib.study.log_schedule import LogSchedule, loss_changes
from deeplab_lib.study.run import Run

NAN = float("nan")


@short_traceback
def read_efficiency(folder: PathLike) -> pd.DataFrame:
    """Rows of the folder's efficiency.json, and of those of the people collected in it, with `folder` of each.

    Empty when there is none. Raises ResultsError where the folder's own is not what it should be; a damaged one of
    somebody else is left out (`results.read_folder` says so).
    """
    rows, root = [], Path(folder)
    for place in run_folders(root)[0]:
        path = place / "efficiency.json"
        try:
            rows += [row | {"folder": str(place)} for row in (read_costs(path) if path.exists() else ())]
        except ResultsError:
            if place == root:
                raise
    return pd.DataFrame(rows)


def measured_rows(efficiency: pd.DataFrame, model: str, size: Size, stride: int = 8) -> list[dict[str, Any]]:
    """The rows, as dicts, of a network at the image size (H, W); `stride`: DeepLabV2's, others have but their own."""
    if efficiency.empty:
        return []
    same = (efficiency.model == model) & (efficiency.height == size[0]) & (efficiency.width == size[1])
    rows = efficiency[same].to_dict("records")
    return [row for row in rows if not model.startswith("deeplabv2") or row.get("output_stride", 8) == stride]


def efficiency_of(run: Run, efficiency: pd.DataFrame) -> dict[str, Any]:
    """The measured row for the run's network and image size, as a dict; `{}` when it was not measured.

    One measured where the run lies is preferred, then one that has a latency, then a GPU before a CPU.
    """
    config = run.config
    if efficiency.empty or not all(config.get(name) for name in ("image_height", "image_width", "model")):
        return {}
    size = config["image_height"], config["image_width"]
    rows = measured_rows(efficiency, config["model"], size, config.get("output_stride", 8))
    here = str(run.path.parent)
    return max(
        rows,
        key=lambda row: (row.get("folder") == here, bool(timing(row)), str(row["device"]).startswith("cuda")),
        default={},
    )


def timing(row: Mapping[str, Any]) -> dict[str, float]:
    """The latencies of a measured row in ms, `{"median", "q1", "q3", "n"}`; `{}` where it was not timed."""
    latency = row.get("latency_ms")
    return latency if isinstance(latency, dict) else {}


def changes(run: Run, join: float = 0.03) -> list[tuple[float, str]]:
    """Mid-training changes of a run as [(position on the epoch axis, words)].

    Those not farther apart than the share `join` of the training are one, so that their marks can be distinguished.
    """
    return _joined(_changes(run), join * (run.epochs or 1), ", then ")


def _joined(found: Iterable[tuple[float, str]], within: float, by: str) -> list[tuple[float, str]]:
    """[(place, words)], the words of what lies within a distance of the first put together."""
    places: dict[float, list[str]] = {}
    for at, words in found:
        near = next((place for place in places if abs(place - at) <= within), at)
        places.setdefault(near, []).append(words)
    return [(place, by.join(words)) for place, words in places.items()]


def _changes(run: Run) -> list[tuple[float, str]]:
    """[(epochs trained before it, words)] as recorded; of a CSV alone, changes of its rates and jumps of its losses."""
    if run.record:
        recorded = run.record.get("changes", ())
        return [
            (change["at"] * run.epochs, plan_change(change.get("power"), change.get("weights"), change.get("freeze")))
            for change in recorded
        ]
    found: dict[int, list[str]] = {}
    if run.legacy:
        for epoch, power in run.log.powers[1:]:
            found.setdefault(epoch - 1, []).append(f"power {power:g}")
        for change in loss_changes(run.table):
            found.setdefault(change.epoch - 1, []).append(f"another loss: training × {change.train:.2f}")
    return [(place, ", ".join(words)) for place, words in sorted(found.items())]


def recipes_table() -> pd.DataFrame:
    """The eight configurations as the study describes them, all text, indexed by number."""
    rows = {}
    for number, recipe in enumerate(RECIPES.values(), 1):
        warmup = f"warm-up over {recipe.warmup_steps} steps" if recipe.warmup_steps else ""
        later = [f"from epoch {c.epoch}: {plan_change(c.power, c.weights, c.freeze)}" for c in recipe.changes]
        power = [f"power {recipe.power:g} throughout"] if recipe.power != 0.9 else []
        rows[number] = {
            "run": recipe.title,
            "weights": weights(recipe.loss),
            "initial rate": f"{recipe.lr:g}",
            "other settings": "; ".join([*([warmup] if warmup else []), *power, *later]) or "–",
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def weights(expression: str) -> str:
    """The weights of an expression's terms in their order: "0.7/0.3"; text that is no expression stays as it is."""
    try:
        return "/".join(f"{weight:g}" for weight, _, _ in parse_expression(expression))
    except ValueError:
        return expression


def results_table(runs: Sequence[Run], efficiency: pd.DataFrame | None = None) -> pd.DataFrame:
    """mIoU, latency, cost and parameters, with the published figures beside.

    Costs of a CSV alone are what it logged last: `val_latency` in ms, `val_flops` in billions, `val_params` trained.

    One row a method: with several seeds their means, `seeds` how many, and `sd` the standard deviation of the mIoU.

    Columns: val_mIoU, sd, best_val_mIoU (%), best_epoch, seeds, latency_ms, device, other_cores, GMACs, parameters,
    trainable_at_end, published_val_mIoU, published_latency, published_FLOPs_G, published_parameters.
    """
    require_comparable(runs)
    efficiency = pd.DataFrame() if efficiency is None else efficiency
    rows = {}
    for members in methods(runs).values():
        run = members[0]
        measured = efficiency_of(run, efficiency)
        record = run.record or {}
        parameters, macs = record.get("parameters", {}), measured.get("macs") or record.get("macs")
        finals, best = [member.final_val_mIoU for member in members], [member.best for member in members]
        several = len(members) > 1
        rows[run.method if several else run.stem] = {
            "val_mIoU": float(np.mean(finals)),
            "sd": float(np.std(finals, ddof=1)) if several else NAN,
            "best_val_mIoU": float(np.mean([value for _, value in best])),
            "best_epoch": NAN if several else best[0][0],
            "seeds": len(members) if several else NAN,
            "latency_ms": timing(measured).get("median", run.last_logged("val_latency")),
            "device": measured.get("device_name") or measured.get("device") or "not recorded",
            "other_cores": NAN if measured.get("other_cores") is None else measured["other_cores"],
            "GMACs": macs / 1e9 if macs else run.last_logged("val_flops"),
            "parameters": parameters.get("total", NAN),
            "trainable_at_end": parameters.get("trainable_at_end", run.last_logged("val_params")),
        } | _published(run)
    return pd.DataFrame.from_dict(rows, orient="index")


def _published(run: Run) -> dict[str, float]:
    """The study's figures for an unaltered recipe, NaN for any other run."""
    printed = published.RUNS.get(run.recipe or "") if not run.variant else None
    return {
        "published_val_mIoU": printed.val_mIoU if printed else NAN,
        "published_latency": printed.latency if printed else NAN,
        "published_FLOPs_G": published.FLOPS_G if printed else NAN,
        "published_parameters": printed.parameters if printed else NAN,
    }


def final_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Final train mIoU, val mIoU and the 19 per-class validation IoUs in percent; of several seeds the means."""
    require_comparable(runs)
    rows = {}
    for members in methods(runs).values():
        classes = np.mean([member.final_class_val for member in members], axis=0)
        means = {name: float(np.mean([getattr(member, f"final_{name}") for member in members]))
                 for name in ("train_mIoU", "val_mIoU")}  # fmt: skip
        name = members[0].method if len(members) > 1 else members[0].stem
        rows[name] = means | dict(zip(CLASS_NAMES, classes, strict=True))
    return pd.DataFrame.from_dict(rows, orient="index")


def earlier_classes(runs: Sequence[Run]) -> str:
    """Of which runs the class values are not those of the last epoch, in a sentence; "" when all are."""
    found: dict[int, list[str]] = {}
    for run in runs:
        known = run.table["epoch"][run.table[CLASS_VAL].notna().any(axis=1)]
        if len(known) and known.iloc[-1] != run.epoch:
            found.setdefault(int(known.iloc[-1]), []).append(run.label)
    parts = [f"{listing(labels)}: epoch {epoch}" for epoch, labels in found.items()]
    return f"Class values of an earlier epoch, where the last has none: {'; '.join(parts)}." if parts else ""


def published_final_table() -> pd.DataFrame:
    """The study's last-row table, in the columns of `final_table`."""
    rows = {
        run.name: {"train_mIoU": run.last_train_mIoU, "val_mIoU": run.last_val_mIoU}
        | dict(zip(CLASS_NAMES, run.class_val, strict=True))
        for run in published.RUNS.values()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def class_shares(runs: Sequence[Run]) -> pd.Series | None:
    """Share of every class in the labelled validation pixels, in percent, by class name; None without an NPZ."""
    confusion = next((run.arrays["confusion"] for run in runs if run.arrays), None)
    if confusion is None:
        return None
    pixels = confusion.sum((0, 2)).astype(float)
    return pd.Series(100 * pixels / pixels.sum(), index=CLASS_NAMES)


def efficiency_table(efficiency: pd.DataFrame) -> pd.DataFrame:
    """What each architecture costs, one row a measurement; what ONNX Runtime takes for it stands in a row below."""
    rows = {}
    for row in efficiency.to_dict("records"):
        stride = ", stride 16" if row["model"].startswith("deeplabv2") and row.get("output_stride") == 16 else ""
        name = f"{row['model']}{stride}, {row['width']}×{row['height']}"
        name = name if name not in rows else f"{name}, {row['device']}"
        counts = {"parameters": row["parameters"], "GMACs": row["macs"] / 1e9, "GFLOPs": row["flops"] / 1e9}
        rows[name] = counts | _latency(row) | {"memory": row.get("peak_memory_MB")}
        if isinstance(row.get("onnx_runtime"), dict):
            rows[f"{name}, ONNX Runtime"] = _latency(row["onnx_runtime"])
    return pd.DataFrame.from_dict(rows, orient="index", dtype=float)


def _latency(row: Mapping[str, Any]) -> dict[str, Any]:
    latency = timing(row)
    return {"latency": latency.get("median"), "q1": latency.get("q1"), "q3": latency.get("q3")}


def configurations(runs: Sequence[Run]) -> pd.DataFrame:
    """The schedule that each run was trained with: weights, lr, power, warmup_steps, changes.

    Of a CSV alone, what its rates show, as text; of a run that is not finished, what its recipe says. The seeds of one
    method share the row of its seed 0 where they agree.
    """
    rows: dict[str, dict[str, Any]] = {}
    for seeds in methods(runs).values():
        each = {run.stem: _configuration(run) for run in seeds}
        first = each[seeds[0].stem]
        alike = seeds[0].seed == 0 and all(row == first for row in each.values())
        rows |= {seeds[0].stem: first} if alike else each
    return pd.DataFrame.from_dict(rows, orient="index")


def _configuration(run: Run) -> dict[str, Any]:
    row = {"weights": weights(run.loss or "not recorded")}
    if run.legacy:
        found = sorted(_changes(run) + _from_the_text(run), key=lambda change: change[0])
        changed = [f"after {place:.3g}: {words}" for place, words in _joined(found, 0, ", ")]
        return row | _logged_schedule(run.log) | {"changes": "; ".join(changed) or "–"}
    changed = [f"after {place:.3g}: {words}" for place, words in changes(run, join=0)]
    plan = recipe_for(run.config.get("schedule") or run.recipe or "ce", run.follows)
    config = {"lr": plan.lr, "power": plan.power, "warmup_steps": plan.warmup_steps} | run.config
    row |= {name: config[name] for name in ("lr", "power", "warmup_steps")}
    return row | {"changes": "; ".join(changed) or ("–" if run.record else "not recorded")}


def _logged_schedule(log: LogSchedule) -> dict[str, Any]:
    """Rate, power and warm-up that a log shows, numbers where it determines them and words where it does not."""
    if log.kind == "absent":
        return dict.fromkeys(("lr", "power", "warmup_steps"), "not recorded")
    rate = "not determined" if log.initial_lr is None else log.initial_lr
    if log.inferred:
        rate = f"{rate:g} (inferred)"
    elif log.initial_lr is None and log.lr_range:
        rate = "{:.4g} to {:.4g}".format(*log.lr_range)
    power = {"other": "no poly decay", "constant": "constant"}.get(log.kind) or log.powers[0][1]
    warmup = "not determined" if log.warmup_epochs is None else f"{log.warmup_epochs:.2f} epochs"
    return {"lr": rate, "power": power, "warmup_steps": "none" if log.warmup_epochs == 0 else warmup}


def _from_the_text(run: Run) -> list[tuple[float, str]]:
    """[(epochs trained before it, words)] of changes that the log shows and only the study's text names, with a †."""
    printed = published.RUNS.get(run.recipe or "") if not run.variant else None
    if printed is None:
        return []
    said = []
    for change in RECIPES[printed.recipe].changes:
        if change.weights and change.epoch in run.loss_starts:
            said.append((change.epoch - 1, f"{plan_change(weights=change.weights)} †"))
        if change.freeze and run.last_logged("val_params", "train_params") == printed.parameters:
            said.append((change.epoch - 1, f"{plan_change(freeze=change.freeze)} †"))
    return said


def provenance_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Everything that the records of `runs` say of their origin: one column a run, one row a field, all text."""
    return pd.DataFrame({run.stem: _provenance(run) for run in runs}).fillna("not recorded")


def _provenance(run: Run) -> dict[str, str]:
    record, sessions = run.recorded, run.recorded.get("sessions", [])
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


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, dict):  # counts by value or by form are for the program that reads the record
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items() if item and not isinstance(item, dict))
    return ", ".join(map(_text, value)) if isinstance(value, list | tuple) else as_text(portable(as_plain(str(value))))


def provenance(runs: Sequence[Run]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What was recorded of the runs' origin, two tables of text: what all share, grouped, and runs by what differs."""
    recorded = [run for run in runs if run.record]
    fields = provenance_table(recorded).rename(columns={run.stem: run.label for run in recorded})
    shown = [f"configuration: {name}" for name in ("loss", "lr", "power", "warmup_steps", "recipe_warmup_steps")]
    fields = fields.drop(index=[name for name in shown if name in fields.index])
    fields = fields.replace(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d).*", r"\1 \2", regex=True)
    alike = fields.nunique(axis=1) == 1
    shared = fields[alike].iloc[:, 0] if recorded else pd.Series(dtype=object)
    return _grouped(shared), fields[~alike].T


def _grouped(fields: Mapping[str, str]) -> pd.DataFrame:
    """Fields ("version: numpy") as one row a group ("version"), those without a value left out."""
    groups: dict[str, list[str]] = {}
    for name, value in fields.items():
        group, _, field = name.rpartition(": ")
        if value not in ("–", ""):
            groups.setdefault(group or field, []).append(f"{field} {value}" if group else value)
    rows = {group: "; ".join(values) for group, values in groups.items()}
    return pd.DataFrame({"all runs": rows}) if rows else pd.DataFrame()
