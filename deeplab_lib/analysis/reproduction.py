"""How this report is made again: the commands for its own runs, read from their records."""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from deeplab_lib.common.files import ELSEWHERE, portable, project_root
from deeplab_lib.common.text import listing
from deeplab_lib.config import Config
from deeplab_lib.study import planning
from deeplab_lib.study.run import Run

PLACE = "path/to/"  # stands for where the reader keeps data or weights


def report_folder(runs: str | Path) -> Path:
    """Where the numbers of a report on the folder `runs` belong: `report/`, or a folder in it for other runs.

    So an analysis of another folder never replaces the numbers of this project's report.
    """
    usual = Path(Config().out_dir).resolve() == Path(runs).resolve()
    return project_root() / "report" / ("" if usual else Path(runs).resolve().name)


def again(runs: Sequence[Run], folder: str | Path) -> str:
    """Markdown: how the report on `runs`, of `folder`, is made again; nothing where no run has a record."""
    shown = portable(folder)
    shown = f"runs/{Path(folder).resolve().name}" if shown.startswith(ELSEWHERE) else shown
    lines = {run.label: command(run, shown) for run in runs}
    unknown = [label for label, line in lines.items() if line is None]
    known = [line for line in lines.values() if line]
    if not unknown and (target := usual_target(runs, folder)):
        return f"`make {target}` makes all of it: the data, the runs, the analysis and this document."
    if not known:
        return ""
    parts = ["The runs, from the folder of the kit:\n\n" + _block(known)]
    if unknown:
        parts.append(f"How these were trained is not recorded, so no command is given: {listing(unknown)}.")
    render = "python -c \"from deeplab_lib.report import make_report; make_report('again.ipynb', 'again')\""
    analysis = [f"papermill notebooks/analysis.ipynb again.ipynb -p runs {shlex.quote(shown)}", render]
    return "\n\n".join(
        [
            *parts,
            "Then the analysis and the report, into the folder `again`:",
            _block(analysis),
        ]
    )


def usual_target(runs: Sequence[Run], folder: str | Path) -> str:
    """The target of make whose runs these are, all of them and no other, "" where they are others.

    `report`: the eight recipes on the toy city, once each. `study`: three seeds, and the control.
    """
    usual = Path(Config().out_dir)
    plain = {run.config.get("preset") for run in runs} == {"demo"} and Path(folder).resolve() == usual.resolve()
    if not plain or usual.name != "toycity" or any(run.person for run in runs):
        return ""
    own = {run.stem for run in runs}
    targets: dict[str, dict[str, Any]] = {"report": {}, "study": {"seeds": [0, 1, 2], "control": True}}
    return next((name for name, settings in targets.items() if own == planned(settings)), "")


def planned(settings: Mapping[str, Any]) -> set[str]:
    """The stems of the runs that the workflow makes with these settings."""
    return set(planning.plan(planning.complete(settings), here=False))


def command(run: Run, folder: str) -> str | None:
    """The papermill command that trains `run` again into `folder`; None where its record does not say how."""
    given = parameters(run)
    if given is None:
        return None
    words = [f"-p {name} {shlex.quote(str(value))}" for name, value in (given | {"out_dir": folder}).items()]
    return " ".join(["papermill notebooks/train.ipynb out.ipynb", *words])


def parameters(run: Run) -> dict[str, object] | None:
    """The parameters of train.ipynb by which a recorded run differs from what loss and preset say by themselves."""
    config = {"follows": "text"} | run.config  # what a record without it followed
    given = {name: config[name] for name in ("loss", "preset", "follows", "schedule", "model") if config.get(name)}
    try:
        usual = Config(**given)
    except (TypeError, ValueError):
        return None
    own_model = config.get("model") != Config(**given | {"model": None}).model
    given = {name: value for name, value in given.items() if name != "model" or own_model}
    if not run.dataset.get("synthetic"):
        given["data"] = PLACE + Path(str(config.get("data") or "data")).name
    for name in (item.name for item in fields(Config) if item.metadata["result"]):
        value = config.get(name)
        if name not in given and value is not None and value != getattr(usual, name):
            given[name] = portable(value).replace(ELSEWHERE, PLACE) if name == "pretrained" else value
    given = {name: value for name, value in given.items() if name != "follows" or value != "logs"}
    return given if "loss" in given and all(map(_plain, given.values())) else None


def _plain(value: object) -> bool:
    """Whether a recorded value can stand in a command: no text that would end its line or its block."""
    return not isinstance(value, str) or re.fullmatch(r"[\w .,:=+*/()-]+", value) is not None


def _block(lines: Iterable[str]) -> str:
    return "```\n" + "\n".join(lines) + "\n```"
