"""Every line of the benchmarks beside the same line at another commit: in turn, each run a process of its own.

Both sides are worktrees in a temporary folder, this one with what is not committed yet, and both run their own
`python -m benchmarks`: of the other commit nothing is asked but that, and what it writes to results.json.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from benchmarks.timing import quartiles
from deeplab_lib.common.git import git, working_tree

PROJECT = Path(__file__).parent.parent
HEAD = f"{'':58} {'this tree':>10} {'commit':>10}"


@contextmanager
def trees(commit, project=PROJECT):
    """Folders with this tree, uncommitted changes of known files included, and with `commit`; removed afterwards."""
    commits = {"this tree": working_tree(project), "commit": commit}
    with tempfile.TemporaryDirectory() as folder:
        places = {side: Path(folder, side.replace(" ", "_")) for side in commits}
        try:
            for side, place in places.items():
                git("worktree", "add", "--detach", str(place), commits[side], cwd=project)
            yield places
        finally:
            for place in places.values():
                if place.exists():
                    git("worktree", "remove", "--force", str(place), cwd=project)


def measured(place, arguments):
    """The lines that `python -m benchmarks` writes in the tree at `place`, `{name: line}`."""
    environment = os.environ | {"PYTHONPATH": str(place)}
    command = [sys.executable, "-m", "benchmarks", *arguments]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"{' '.join(command)} in {place} failed: {done.stderr.strip().splitlines()[-1]}")
    lines = json.loads((place / "benchmarks" / "results" / "results.json").read_text())["lines"]
    return {line["name"]: line for line in lines}


def amounts(line):
    """What our side of a line takes, by its unit: seconds, processor seconds or MB; nothing where it is another kind.

    On a machine that others use as well, processor seconds say more.
    """
    if "ratio" in line:
        return {"s": line["ours"]["median"]} | ({"CPU s": line["ours"]["cpu"]} if "cpu" in line["ours"] else {})
    if "ours" in line.get("peak_MB", {}):
        return {"MB": line["peak_MB"]["ours"]}
    return {line["unit"]: line["value"]} if line["unit"] in ("s", "CPU s", "MB") else {}


def compare(commit, arguments, turns, project=PROJECT, say=print):
    """Measure both trees `turns` times, the order turned round every time; a line a quantity that both have.

    `ratio`: quartiles of how many times as much the commit takes, turn by turn.
    """
    found = {}
    with trees(commit, project) as places:
        for turn in range(turns):
            for side in sorted(places, reverse=turn % 2 == 0):
                begun = time.monotonic()
                for name, line in measured(places[side], arguments).items():
                    for unit, taken in amounts(line).items():
                        found.setdefault((name, unit), {}).setdefault(side, []).append(taken)
                say(f"turn {turn + 1} of {turns}, {side}: {time.monotonic() - begun:.0f} s")
    for (name, unit), sides in found.items():
        if sides.keys() == places.keys():
            ours, theirs = sides["this tree"], sides["commit"]
            ratio = quartiles([other / own for own, other in zip(ours, theirs, strict=True)])
            yield {"name": name, "unit": unit, "this tree": ours, "commit": theirs, "ratio": ratio}
        else:
            say(f"only in {', '.join(sides)}: {name}")


def row(line):
    """A line as text: medians of both sides and how many times as much the commit takes."""
    factor, unit = (1000, "ms") if line["unit"] == "s" else (1, line["unit"])
    ours, theirs = (f"{factor * quartiles(line[side])['median']:.4g}" for side in ("this tree", "commit"))
    ratio = line["ratio"]
    spread = f"{ratio['median']:6.2f}x ({ratio['q1']:.2f} to {ratio['q3']:.2f}, n {ratio['n']})"
    return f"{line['name']:58} {ours:>10} {theirs:>10} {unit:5} {spread}"
