"""Paths as others may read them."""

import pytest

from deeplab_lib.common import files
from deeplab_lib.common.files import portable, without_paths


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "project_root", lambda: tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("{root}/runs/toycity", "runs/toycity"),
        ("/home/ann/data/cityscapes", "…/cityscapes"),
        (r"C:\Users\Ann\cityscapes", "…/cityscapes"),
        ("runs/toycity", "runs/toycity"),
        ("none", "none"),
        ("0.5*ce + 0.5*focal", "0.5*ce + 0.5*focal"),
    ],
)
def test_kind_9_a_path_says_nothing_of_the_folders_of_its_author(root, path, shown):
    assert portable(path.format(root=root)) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("read {root}/runs/a.csv.", "read runs/a.csv."),
        ("weights '/home/ann/w.pth' (sha 1)", "weights '…/w.pth' (sha 1)"),
        (r"in D:\work\ann\runs, row 3", "in …/runs, row 3"),
        ("/mnt/x/a.csv: row 1", "…/a.csv: row 1"),
        ("see https://example.org/a/b", "see https://example.org/a/b"),
        ("runs/toycity/a.csv at 3/4 of 1/8, TP / (TP + FP)", "runs/toycity/a.csv at 3/4 of 1/8, TP / (TP + FP)"),
        ("<b>no</b> path", "<b>no</b> path"),
    ],
)
def test_kind_9_paths_in_a_sentence_are_shortened_and_nothing_else(root, text, shown):
    assert without_paths(text.format(root=root)) == shown
