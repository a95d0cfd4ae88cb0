"""The kit that is handed out: exercises without answers, whatever a lecturer has typed into them."""

import json
import subprocess
import zipfile

import pytest

from deeplab_lib.lessons.hand_out import FOLDER, clean, pack, unanswered

BLANK = "def my_iou(matrix):\n    # your code\n    ...\n\n\nexercises.check_iou(my_iou)"


@pytest.mark.parametrize(
    "source",
    [
        BLANK,
        "def my_iou(matrix):\n    return matrix.diagonal()\n\n\nexercises.check_iou(my_iou)",
        "def my_iou(matrix):\n    # the diagonal\n    x = 1\n    ...\n    return x\n\n\nexercises.check_iou(my_iou)",
        "import numpy as np\n\ndef helper(m):\n    return m\n\ndef my_iou(matrix): return helper(matrix)\n"
        "my_iou(np.eye(2))\nexercises.check_iou(my_iou)",
        'def my_iou(matrix):\n    """TP / (TP + FP + FN)"""\n    ...\n\n\nexercises.check_iou(my_iou)',
    ],
    ids=["blank", "answer", "answer around the dots", "answer in a function of its own", "answer in a docstring"],
)
def test_kind_10_an_exercise_is_handed_out_without_its_answer(source):
    assert unanswered(source) == BLANK


def test_what_is_no_exercise_is_handed_out_as_it_is():
    for source in ("x = 1", "%matplotlib inline\nfrom deeplab_lib.lessons import exercises"):
        assert unanswered(source) == source


def test_kind_10_outputs_of_an_exercise_are_not_handed_out_and_other_cells_are_untouched():
    exercise = {"cell_type": "code", "source": [BLANK.replace("...", "return 1")], "outputs": [1], "execution_count": 3}
    other = {"cell_type": "code", "source": "1 + 1", "outputs": [2], "execution_count": 4}
    content, answers = clean("notebooks/01_x.ipynb", json.dumps({"cells": [exercise, other]}).encode())
    first, second = json.loads(content)["cells"]
    assert "".join(first["source"]) == BLANK and not first["outputs"] and second == other
    assert answers == ["check_iou"]


def test_an_exercise_that_is_no_python_stops_the_packing_and_is_named():
    cell = {"cell_type": "code", "source": "def my_iou(:\nexercises.check_iou(my_iou)"}
    with pytest.raises(SystemExit, match=r"notebooks/01_x\.ipynb: the exercise of check_iou is no Python"):
        clean("notebooks/01_x.ipynb", json.dumps({"cells": [cell]}).encode())


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A small clone on a machine on which git knows nobody."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    kit = tmp_path / "kit"
    kit.mkdir()
    (kit / "README.md").write_text("as committed")
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", *words], cwd=kit, check=True)
    subprocess.run(["git", "config", "user.useConfigOnly", "true"], cwd=kit, check=True)  # as where it cannot guess
    return kit


def test_what_is_not_committed_is_handed_out_and_what_git_does_not_know_is_named(clone, tmp_path):
    (clone / "README.md").write_text("changed")
    (clone / "04 mine.ipynb").write_text("{}")
    out = tmp_path / "build" / "lessons.zip"
    assert pack(clone, out) == ["04 mine.ipynb is left out: git does not know it (git add '04 mine.ipynb')"]
    with zipfile.ZipFile(out) as packed:
        assert packed.read(f"{FOLDER}README.md") == b"changed" and f"{FOLDER}04 mine.ipynb" not in packed.namelist()


def test_a_folder_that_is_no_clone_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"^git ls-files .*: fatal: not a git repository.*$") as raised:
        pack(tmp_path, tmp_path / "lessons.zip")
    assert "\n" not in str(raised.value)
