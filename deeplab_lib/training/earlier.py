"""Runs that version 0.1 began: what their records do not say, and where they lie."""

from pathlib import Path
from typing import Any

import torch

from deeplab_lib.common.files import read_json

UNSAID = {"follows": "text"}  # what a run is whose record does not say it


def began_earlier(folder: str | Path, stem: str) -> bool:
    """Whether the run `stem` in `folder`, finished or not, is one of version 0.1.

    `stem` is its name there, which said nothing of the version of the study: what is of that name now follows the logs.
    """
    identity = stored_identity(Path(folder) / stem)
    return bool(identity) and (UNSAID | identity)["follows"] == "text"


def stored_identity(path: Path) -> dict[str, Any]:
    """What decides the numbers of the run whose files begin with `path`, as far as they tell; `{}` where none does.

    Version 0.1 wrote no configuration when a run started: there the checkpoint says.
    """
    if known := read_json(f"{path}.json") or read_json(f"{path}.config.json"):
        return known.get("identity", {})
    for ending in (".pt", ".previous.pt"):
        try:
            return torch.load(f"{path}{ending}", map_location="cpu", weights_only=True, mmap=True)["identity"]
        except Exception:  # there is none, or it is damaged: the reader's errors have no common type
            continue
    return {}
