"""Rates, powers and steps: the study's texts against its logs."""

from collections.abc import Sequence

import numpy as np

from deeplab_lib.analysis import published
from deeplab_lib.analysis.audit.finding import TABLES, AuditFinding, Figures, Said
from deeplab_lib.analysis.audit.printed import matched_rows
from deeplab_lib.analysis.audit.study_logs import WARMUP_START, WARMUP_STEPS, Powers, StudyLogs, runs
from deeplab_lib.common.text import listing
from deeplab_lib.recipes import recipe_for

BATCH_SIZE = 3  # of the study
KEYS = {run.number: run.recipe for run in published.RUNS.values()}


def learning_rates(logs: StudyLogs) -> AuditFinding:
    """Initial rates of the table, its rows put right, against the per-run details; the logs decide."""
    fits = matched_rows().fits_run
    table = {int(fits[row.number]): row.lr for row in published.INITIAL_TABLE}
    details = {run.number: run.lr for run in published.RUNS.values()}
    doubtful = [number for number in sorted(table) if table[number] != details[number]]
    topic, remedy = (
        "Initial learning rates",
        "trains at the rate of the logs, and with `-p follows text` at that of the details",
    )
    if not doubtful:
        printed = "one initial rate a run in the table of initial configurations, one in the details of the runs"
        return AuditFinding("lr", topic, printed, "the rates agree", remedy, TABLES)
    found, figures = _logged_rates(logs, doubtful)
    logged = logs.values("initial_lr", doubtful)
    misprints = {"details": table, "table": details}
    wrong = [name for name, right in misprints.items() if all(_close(logged[n], right[n]) for n in doubtful)]
    verdict = f"The rate of the {wrong[0]} is a misprint" if wrong else "Neither is the rate of all these runs"
    return AuditFinding(
        "lr",
        topic,
        f"for {runs(doubtful)}, {{table}} in the table of initial configurations and {{details}} in the details",
        f"{found}. {verdict}",
        remedy,
        logs.source(doubtful, "initial_lr", "first_lr", "powers"),
        {"table": (table[doubtful[0]], "g"), "details": (details[doubtful[0]], "g")} | figures,
    )


def _logged_rates(logs: StudyLogs, numbers: Sequence[int]) -> Said:
    """With which rate the runs begin, how it is seen in the first of them, and the figures for both."""
    first, *others = numbers
    initial, after, epochs = (logs.value(first, name) for name in ("initial_lr", "first_lr", "epochs"))
    power = logs.value(first, "powers")[0][1]
    figures: Figures = {"logged": (initial, "g"), "after": (after, ".9f")}
    text = f"the log of run {first} holds a rate of {{after}} after epoch 1"
    if _close(after, initial * (1 - 1 / epochs) ** power):
        text += f", which is {{logged}} × (1 − 1/{epochs})^{{power}}"
        figures["power"] = (power, _power)
    else:
        text += " and begins at {logged}"
    alike = others and all(_close(logs.value(n, "initial_lr"), initial) for n in others)
    return text + (f", and {runs(others)} begin{'s' * (len(others) == 1)} at the same rate" if alike else ""), figures


def _close(one: float, other: float) -> bool:
    return bool(np.isclose(one, other, rtol=1e-4))


def powers(logs: StudyLogs) -> AuditFinding:
    """Changes of power in runs 5 and 6: the text's against the logs'."""
    text = {number: _powers_in_text(number) for number in (5, 6)}
    logged = logs.values("powers", (5, 6))
    figures: dict = {}
    printed = "; ".join(f"run {n}: power {_path(path, f'text{n}', figures)}" for n, path in text.items())
    found = "; ".join(f"run {n}: power {_path(path, f'log{n}', figures)}" for n, path in logged.items())
    if all(same_path(text[n], logged[n]) for n in text):
        verdict = "The text agrees"
    elif _first_change(text[5]) == _first_change(logged[6]) and _first_change(text[6]) == _first_change(logged[5]):
        verdict = "The text exchanges the two: it gives each run the first change of the other"
    else:
        verdict = "The text differs"
    return AuditFinding(
        "powers",
        "Power of the schedule in runs 5 and 6",
        printed,
        f"{found}. {verdict}",
        "follows the logs, and with `-p follows text` the text",
        logs.source((5, 6), "powers"),
        figures,
    )


def power_of_run_7(logs: StudyLogs) -> AuditFinding:
    """Run 7's power, for which the text names no epoch."""
    figures: dict = {"printed": (_powers_in_text(7)[0][1], _power)}
    path = _path(logs.value(7, "powers"), "log", figures)
    return AuditFinding(
        "power7",
        "Power of the schedule in run 7",
        "power {printed}, without an epoch",
        f"power {path}",
        "follows the logs, and with `-p follows text` takes the printed power from the start",
        logs.source([7], "powers"),
        figures,
    )


def _powers_in_text(number: int) -> Powers:
    """(first epoch, power) as the text of the study gives them."""
    recipe = recipe_for(KEYS[number], "text")
    changes = [(change.epoch, change.power) for change in recipe.changes if change.power is not None]
    return ((1, recipe.power), *changes)


def same_path(one: tuple, other: tuple) -> bool:
    """Whether two schedules have the same powers from the same epochs on."""
    return len(one) == len(other) and bool(np.allclose(one, other, rtol=1e-3))


def _first_change(path: Powers) -> tuple[int, float] | None:
    """Epoch and power of the first change, None where nothing changes."""
    return (path[1][0], round(path[1][1], 3)) if len(path) > 1 else None


def _path(path: Powers, name: str, figures: Figures) -> str:
    """Powers with their epochs as a template: `0.9, 1.0 from epoch 31, 2.0 from 46`; adds to `figures`."""
    words = [f"{{{name}_power0}}"]
    figures[f"{name}_power0"] = (path[0][1], _power)
    for place, (epoch, power) in enumerate(path[1:], 1):
        figures |= {f"{name}_epoch{place}": (epoch, "d"), f"{name}_power{place}": (power, _power)}
        words.append(f"{{{name}_power{place}}} from {'epoch ' if place == 1 else ''}{{{name}_epoch{place}}}")
    return ", ".join(words)


def _power(value: float) -> str:
    """A power with one decimal, or as many as it has."""
    return f"{value:.1f}" if abs(value - round(value, 1)) < 1e-3 else f"{value:.3g}"


def steps_per_epoch(logs: StudyLogs) -> AuditFinding:
    """How many steps an epoch has, from the rate after an epoch that a warm-up is part of."""
    steps = {number: _steps(logs, number) for number in WARMUP_STEPS}
    low, high = min(steps.values()), max(steps.values())
    figures = {"printed": (published.TRAIN_IMAGES, ",d"), "steps": (low, ".0f")}
    if high - low < 0.5:
        images = low * BATCH_SIZE
        figures |= {"images": (images, ",.0f"), "batch": (BATCH_SIZE, "d")}
        warmups = listing(map(str, WARMUP_STEPS.values()))
        found = (
            f"{runs(steps)} warm up over {warmups} steps. Their rates after epoch 1 fit {{steps}} steps an epoch only, "
            "which at batch size {batch} are about {images} images"
            + (": a part of the training images (inferred)" if images < 0.99 * published.TRAIN_IMAGES else "")
        )
    else:
        figures["most"] = (high, ".0f")
        found = "the rates after epoch 1 of the runs with a warm-up give {steps} to {most} steps an epoch"
    return AuditFinding(
        "steps",
        "Training images",
        "{printed} training images; the batch size is not given",
        found,
        "trains on every training image that it is given, and prints how many these are",
        logs.source(steps, "initial_lr", "first_lr", "powers"),
        figures,
    )


def _steps(logs: StudyLogs, number: int) -> float:
    """Steps an epoch: of a linear warm-up that outlasts epoch 1, else of the poly rule after it, solved for them."""
    warmup, initial = WARMUP_STEPS[number], logs.value(number, "initial_lr")
    first, epochs = logs.value(number, "first_lr"), logs.value(number, "epochs")
    # The share of the steps after the warm-up that is done: (steps - warmup) / (epochs * steps - warmup).
    done = 1 - (first / initial) ** (1 / logs.value(number, "powers")[0][1])
    if done * epochs < 1 and (steps := warmup * (1 - done) / (1 - epochs * done)) >= warmup:
        return steps
    return (first - WARMUP_START) / (initial - WARMUP_START) * warmup
