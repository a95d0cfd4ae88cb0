"""A claim of speed is one command: two trees in turn, by hand on a project that only writes down numbers."""

import subprocess

import pytest

from benchmarks import __main__, against

# What the benchmarks of the small project print and write: a number of its own, and how often it has run.
PROGRAM = """
import json, sys
from pathlib import Path
folder = Path("benchmarks/results")
folder.mkdir(exist_ok=True)
runs = folder / "runs"
turn = len(runs.read_text()) if runs.exists() else 0
runs.write_text("x" * (turn + 1))
seconds = (SECONDS)[turn]
side = {"median": seconds, "cpu": 2 * seconds}
lines = [
    {"name": "a step", "unit": "s", "ratio": 9, "ours": side, "plain": {"median": 100}},
    {"name": "memory", "unit": "% of plain", "value": 50, "peak_MB": {"ours": 10 * seconds, "plain": 1}},
    {"name": "the job", "unit": "s", "value": seconds},
    {"name": "share", "unit": "%", "value": 3},
    {"name": " ".join(sys.argv[1:]), "unit": "s", "value": 1},
] + [{"name": "EXTRA", "unit": "s", "value": 1}] * len("EXTRA")
(folder / "results.json").write_text(json.dumps({"lines": lines}))
"""


def write(project, seconds, extra=""):
    program = PROGRAM.replace("SECONDS", seconds).replace("EXTRA", extra)
    (project / "benchmarks" / "__main__.py").write_text(program)


@pytest.fixture
def project(tmp_path):
    """Committed: 2, 3 and 8 seconds. As it lies there: 1, 2 and 2, and a line of its own."""
    project = tmp_path / "project"
    (project / "benchmarks").mkdir(parents=True)
    (project / "benchmarks" / "__init__.py").touch()
    write(project, "2, 3, 8")
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", *words], cwd=project, check=True)
    for name, value in (("user.name", "a"), ("user.email", "a@b.c")):
        subprocess.run(["git", "config", name, value], cwd=project, check=True)
    write(project, "1, 2, 2", extra="new")
    return project


def state(project):
    asked = ("worktree", "list"), ("status", "--short"), ("stash", "list")
    return [against.git(*words, cwd=project) for words in asked]


def test_ratios_are_of_runs_beside_each_other_and_nothing_is_left_behind(project):
    """2/1, 3/2 and 8/2: quartiles 1.75, 2 and 3. The order turns round, so that neither side is always the warm one."""
    before, told = state(project), []
    lines = list(against.compare("HEAD", ["--only", "data"], 3, project, told.append))
    names = ["a step", "a step", "memory", "the job", "--only data"]
    assert [line["name"] for line in lines] == names, "a share is no quantity to be saved"
    assert [line["unit"] for line in lines] == ["s", "CPU s", "MB", "s", "s"] and lines[1]["commit"] == [4, 6, 16]
    found = {line["name"]: line for line in reversed(lines)}
    for name in ("a step", "memory", "the job"):
        assert found[name]["ratio"] == {"q1": 1.75, "median": 2, "q3": 3, "n": 3}
    assert found["memory"]["this tree"] == [10, 20, 20] and found["a step"]["commit"] == [2, 3, 8]
    sides = [text.partition(", ")[2].partition(":")[0] for text in told[:6]]
    assert sides == ["this tree", "commit", "commit", "this tree", "this tree", "commit"]
    assert told[6:] == ["only in this tree: new"]
    assert "2.00x (1.75 to 3.00, n 3)" in against.row(found["a step"]) and " 2000 " in against.row(found["a step"])
    assert state(project) == before


def test_a_run_that_fails_is_one_line_and_nothing_is_left_behind(project):
    before = state(project)
    with pytest.raises(ValueError, match=r"failed: IndexError: tuple index out of range$"):
        list(against.compare("HEAD", [], 4, project, lambda text: None))
    assert state(project) == before


def test_a_commit_that_is_not_there_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(__main__, "RESULTS", tmp_path / "results")
    with pytest.raises(SystemExit, match=r"^git worktree add .*no-such-commit"):
        __main__.main(["--against", "no-such-commit", "--only", "data"])
    assert not (tmp_path / "results").exists()
