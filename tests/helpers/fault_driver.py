"""A training process that kills itself at a chosen instant, without the library knowing: what test_resume.py starts.

An instant is `(event, n)`: the n-th time in this process that `event` happens. Events are those of `train.fit`'s
`callback` ("step", "validate", "epoch"), "changed" (a freeze, a weight or a power has just changed) and, for every file
of a run by its ending, "torn .pt" (half of the temporary file is written), "written .pt" (whole, not yet synced),
"renaming .pt" and "renamed .pt"; "linking" and "linked" around the keeping of the previous checkpoint.
"""

import contextlib
import os
import re
import signal

import deeplab_lib.plotting.live  # noqa: F401  imported here, so that the fork server has it
from deeplab_lib.common import files
from deeplab_lib.config import Config
from deeplab_lib.training import checkpoint, loop, summary

ENDING = re.compile(r"(\.best|\.previous)?\.(pt|csv|npz|json)$")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def run(parameters, aim, log):
    """Train as `parameters` say, appending every finished step's number to `log`; die at `aim`."""
    seen = 0

    def due(event):
        nonlocal seen
        seen += bool(aim) and event == aim[0]
        return bool(aim) and (event, seen) == tuple(aim)

    def happen(event):
        if due(event):
            die()

    def callback(event, run):
        if event == "step":
            with open(log, "a") as steps:
                steps.write(f"{run.state.step}\n")
        happen(event)

    watch_writes(due, happen)
    watch_plan(happen)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        loop.fit(Config(**parameters), callback=callback)


def watch_writes(due, happen):
    """Make every atomic write tell how far it is."""
    write_atomic, replace, link = files.write_atomic, os.replace, os.link

    def telling_write(path, write, **options):
        def telling(temporary):
            write(temporary)
            if due(f"torn {ending(path)}"):
                os.truncate(temporary, os.path.getsize(temporary) // 2)
                die()
            happen(f"written {ending(path)}")

        return write_atomic(path, telling, **options)

    def telling_replace(source, target):
        happen(f"renaming {ending(target)}")
        replace(source, target)
        happen(f"renamed {ending(target)}")

    def telling_link(source, target):
        happen("linking")
        link(source, target)
        happen("linked")

    for module in (files, checkpoint, summary):
        module.write_atomic = telling_write
    os.replace, os.link = telling_replace, telling_link


def watch_plan(happen):
    """Make the loop tell when the plan has just changed something."""
    apply_schedule, powers = loop.apply_schedule, []

    def telling_plan(now, optimizer, loss, model):
        before = powers[-1:], loss.weights, model.frozen
        apply_schedule(now, optimizer, loss, model)
        if powers and before != ([now.power], loss.weights, model.frozen):
            happen("changed")
        powers.append(now.power)

    loop.apply_schedule = telling_plan


def ending(path):
    match = ENDING.search(str(path))
    return match[0] if match else ""
