"""A run killed anywhere and started again ends with the numbers of an undisturbed one.

Real training processes at smoke scale, of the two recipes that change on the way, are killed by SIGKILL: by themselves
at a chosen instant (fault_driver.py), or from outside at a random one. Then the same command runs again.
"""

import multiprocessing
import os
import random
import shutil
import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest
from helpers import fault_driver
from helpers.run_outcome import assert_same, outcome

from deeplab_lib.config import Config

RECIPES = ("ce_lovasz_warmup", "ce_focal")
EVERY_STEP, EVERY_EPOCH = 0, 5  # minutes between checkpoints; an epoch here takes a fraction of a second
STEPS_PER_EPOCH = 10

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    ["deeplab_lib.training.loop", "deeplab_lib.plotting.live"]
)  # so that each process starts at once


def start(parameters, aim=None):
    """Start a training process that dies at `aim`."""
    process = processes.Process(target=fault_driver.run, args=(parameters, aim, f"{parameters['out_dir']}.steps"))
    process.start()
    return process


def finish(parameters):
    """Run to the end; returns what the run left behind."""
    process = start(parameters)
    process.join()
    assert process.exitcode == 0
    return outcome(Config(**parameters))


@pytest.fixture(scope="module")
def undisturbed(smoke_city, tmp_path_factory):
    """What an undisturbed run of each recipe leaves behind, and how long it takes."""
    found = {}

    def get(recipe):
        if recipe not in found:
            begun = time.monotonic()
            result = finish(parameters_of(recipe, tmp_path_factory.mktemp("undisturbed") / recipe))
            found[recipe] = result, time.monotonic() - begun
        return found[recipe]

    return get


def parameters_of(recipe, folder, minutes=EVERY_EPOCH, **more):
    base = {"loss": recipe, "preset": "smoke", "device": "cpu", "amp": "off", "workers": 0}
    return base | {"out_dir": str(folder), "checkpoint_minutes": minutes} | more


def kill(parameters, aim, seconds, rng):
    """Start the run and have it killed at `aim`: an instant, or a random time below that share of its duration."""
    if isinstance(aim, tuple):
        process = start(parameters, aim)
        process.join()
        assert process.exitcode == -signal.SIGKILL, f"the run never came to {aim}"
        return
    for _ in range(10):
        process = start(parameters)
        process.join(rng.uniform(0.02, aim) * seconds)
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        if process.exitcode == -signal.SIGKILL:
            return
        shutil.rmtree(parameters["out_dir"])  # it was done before it could be killed
        os.remove(f"{parameters['out_dir']}.steps")
        seconds *= 0.8
    pytest.fail("the run was always done before it could be killed")


def assert_little_recomputed(parameters):
    """After every kill the run went on at most an epoch (with checkpoints at every step: a step) behind."""
    path = Path(f"{parameters['out_dir']}.steps")
    steps = [int(line) for line in path.read_text().split()]
    behind = [before - after + 1 for before, after in pairwise(steps) if after <= before]
    assert max(behind, default=0) <= (1 if parameters["checkpoint_minutes"] == EVERY_STEP else STEPS_PER_EPOCH)
    assert set(steps) == set(range(1, 5 * STEPS_PER_EPOCH + 1))


def endure(undisturbed, folder, recipe, minutes, aims, seed=0):
    """Kill one run at each of `aims`, one after the other, then let it finish: it must match the undisturbed one."""
    expected, seconds = undisturbed(recipe)
    parameters, rng = parameters_of(recipe, folder, minutes), random.Random(seed)
    for aim in aims:
        kill(parameters, aim, seconds, rng)
    assert_same(finish(parameters), expected)
    assert_little_recomputed(parameters)
    assert not list(folder.glob(".*")), "temporary files were left behind"
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("recipe", "minutes", "aims"),
    [
        ("ce_lovasz_warmup", EVERY_EPOCH, [("torn .pt", 2), ("validate", 6), ("changed", 2), ("renaming .csv", 1)]),
        ("ce_focal", EVERY_STEP, [0.4, ("linked", 2), ("validate", 3), ("changed", 1)]),
    ],
)
def test_eight_kills(undisturbed, tmp_path, recipe, minutes, aims):
    endure(undisturbed, tmp_path / "run", recipe, minutes, aims)


WRITES = [
    *((f"{moment} .pt", n) for moment in ("torn", "written", "renaming", "renamed") for n in (1, 3)),
    *((f"{moment} .csv", n) for moment in ("torn", "written", "renaming", "renamed") for n in (1, 4)),
    ("linking", 2), ("linked", 3), ("torn .best.pt", 1), ("renamed .best.pt", 2), ("torn .npz", 1),
    ("renamed .npz", 1), ("torn .json", 1), ("renaming .json", 1),
]  # fmt: skip
EVALUATIONS = [("validate", n) for n in (1, 2, 4, 5, 8, 9, 12, 16, 17, 19, 20)]
CHANGES = [("changed", n) for n in (1, 2, 1, 2)]
AIMS = [*WRITES, *EVALUATIONS, *CHANGES, *[0.95] * 12]


@pytest.mark.torture
@pytest.mark.parametrize("number", range(len(AIMS)))
def test_fifty_kills(undisturbed, tmp_path, number):
    recipe = RECIPES[number % 2]
    endure(
        undisturbed, tmp_path / "run", recipe, (EVERY_EPOCH, EVERY_STEP)[number // 2 % 2], [AIMS[number]], seed=number
    )


def test_there_are_as_many_kills_of_each_kind_as_promised():
    assert (len(AIMS), len(WRITES) >= 10, len(EVALUATIONS) >= 10, 2 * len(CHANGES) >= 5) == (51, True, True, True)
