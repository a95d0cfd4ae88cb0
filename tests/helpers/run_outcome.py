"""What of a finished run must not depend on how it came about, and whether two runs agree in it to the last bit."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from deeplab_lib.common.errors import RunStopped
from deeplab_lib.training import checkpoint
from deeplab_lib.training.loop import fit
from deeplab_lib.training.run_folder import RunFolder

TIMINGS = ["Runtime", "images_per_s", "peak_memory_MB"]


def outcome(config):
    """Everything of a finished run that must not depend on how it came about."""
    run = RunFolder.of(config)
    state, best = checkpoint.load(run.path(".pt")), checkpoint.load(run.path(".best.pt"))
    with np.load(run.path(".npz")) as stored:
        arrays = dict(stored)
    record = json.loads(run.path(".json").read_text())
    told = {key: record[key] for key in ("final", "best", "parameters", "changes", "identity", "macs", "finished")}
    table = pd.read_csv(run.path(".csv"), dtype=str).drop(columns=TIMINGS)
    weights = {
        f"{name}.{key}": tensor
        for name, part in (("last", state), ("best", best))
        for key, tensor in part["model"].items()
    }
    momentum = [entry["momentum_buffer"] for entry in state["optimizer"]["state"].values()]
    return {"table": table, "weights": weights, "momentum": momentum, "arrays": arrays, "record": told}


def assert_same(got, expected):
    pd.testing.assert_frame_equal(got["table"], expected["table"])
    assert got["weights"].keys() == expected["weights"].keys()
    assert all(torch.equal(got["weights"][key], tensor) for key, tensor in expected["weights"].items())
    assert all(torch.equal(a, b) for a, b in zip(got["momentum"], expected["momentum"], strict=True))
    assert got["arrays"].keys() == expected["arrays"].keys()
    assert all(
        np.array_equal(got["arrays"][k], v, equal_nan=v.dtype.kind == "f") for k, v in expected["arrays"].items()
    )
    assert got["record"] == expected["record"]


def same_when_cut_short(make, folder, step=7, **parameters):
    """Assert that a run stopped after `step` and continued ends as an undisturbed one; the path of the latter's JSON.

    make: the fixture `smoke`. folder: where the stopped run's files go.
    """
    whole, stopped = make(**parameters), make(**parameters, out_dir=str(folder / "again"))
    path = fit(whole).json
    with pytest.raises(RunStopped):
        fit(
            stopped,
            callback=lambda event, run: (
                (event, run.state.step) == ("step", step) and setattr(run.stop, "requested", "SIGTERM")
            ),
        )
    fit(stopped)
    assert_same(outcome(stopped), outcome(whole))
    return path
