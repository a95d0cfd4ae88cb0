"""What other libraries mean by the same word: recorded values are what the installed libraries give."""

import json
import math

import pytest
import torch

from benchmarks import elsewhere as script
from deeplab_lib.labels import IGNORE_INDEX
from deeplab_lib.lessons import elsewhere
from deeplab_lib.losses import make_loss
from deeplab_lib.metrics import ConfusionMatrix

OWN = {"torch", "torchvision", "fvcore", "torchinfo"}  # of the kit's own environment: in every version


def measurable():
    """Entries of a library that is installed here, in the version whose value is recorded."""
    for section in elsewhere.SECTIONS:
        for entry in elsewhere.entries(section):
            here = elsewhere.installed(entry["library"])
            if (
                here
                and entry["library"] in script.KINDS[section]
                and (entry["library"] in OWN or here == entry["version"])
            ):
                yield pytest.param(section, entry, id=f"{section}: {entry['library']}: {entry['name']}")


@pytest.mark.parametrize(("section", "entry"), measurable())
def test_what_is_recorded_is_what_the_library_gives(section, entry):
    for key, value in script.measured(section, entry).items():
        assert script.same(value, entry[key]), f"{key}: {value}, recorded {entry[key]}"


def test_every_entry_has_a_value_a_version_and_a_reason():
    for section in elsewhere.SECTIONS:
        for entry in elsewhere.entries(section):
            assert entry["value"] is not None and entry["version"] and entry["reason"], entry
            assert entry["date"].count("-") == 2


@pytest.mark.parametrize(
    "entry", elsewhere.entries("conversions"), ids=lambda entry: f"{entry['library']}-{entry['name']}"
)
def test_conversions_are_exact(entry):
    assert math.isclose(entry["value"], entry["textbook"], rel_tol=1e-5)


@pytest.mark.parametrize("entry", elsewhere.entries("losses"), ids=lambda entry: f"{entry['library']}-{entry['name']}")
def test_what_is_called_equal_is_equal_and_nothing_else(entry):
    """The textbook is recomputed: the kit's own loss on the batch that is named."""
    textbook = script.textbook(entry["loss"], entry["batch"])
    assert textbook == pytest.approx(entry["textbook"], rel=1e-5)
    same = entry["value"] != "error" and math.isclose(entry["value"], textbook, rel_tol=1e-5)
    assert same == (entry["reason"] == "equal")


def test_the_mean_iou_of_the_pair_is_the_official_one():
    labels, predictions = elsewhere.miou_pair()
    ours = ConfusionMatrix().update(labels, predictions).miou() / 100
    official = [entry["value"] for entry in elsewhere.entries("miou") if entry["library"] == "cityscapesscripts"]
    assert official == pytest.approx([ours])


def test_the_batches_are_as_described():
    _, clean = elsewhere.loss_batch("clean")
    assert all(len(picture.unique()) == 19 for picture in clean) and (clean != IGNORE_INDEX).all()
    _, street = elsewhere.loss_batch("street")
    assert (street[:, :7] == IGNORE_INDEX).all() and not torch.isin(torch.tensor([16, 18]), street).any()
    assert [bool((picture == 5).any()) for picture in street] == [True, False]
    assert (elsewhere.loss_batch("void")[1] == IGNORE_INDEX).all()
    labels, predictions = elsewhere.miou_pair()
    assert (predictions[labels == IGNORE_INDEX] == 18).all() and (labels == IGNORE_INDEX).sum() == 1024
    assert not torch.isin(torch.tensor([14, 15]), torch.cat([labels, predictions])).any()
    assert (predictions == 16).sum() == 128 and not (labels == 16).any()


def test_a_value_that_moved_is_marked_and_what_is_not_installed_stays(monkeypatch, tmp_path):
    rows = {section: [] for section in elsewhere.SECTIONS}
    entry = next(entry for entry in elsewhere.entries("losses") if entry["name"] == "cross_entropy")
    away = entry | {"library": "no-such-package", "version": "1.0", "value": 0.5}
    rows["losses"] = [entry | {"value": 0.5}, away]
    file = tmp_path / "elsewhere.json"
    file.write_text(json.dumps(rows))
    monkeypatch.setattr(elsewhere, "FILE", file)
    said = []
    found = script.measure_again(said.append)["losses"]
    assert found[1] == away and any(line.startswith("no-such-package") and "not installed" in line for line in said)
    textbook = float(make_loss("ce")(*elsewhere.loss_batch("street")))
    assert found[0]["value"] == pytest.approx(textbook) and found[0]["version"] == torch.__version__.partition("+")[0]
    assert next(line for line in said if line.startswith("MOVED")).startswith("MOVED losses: torch ")


@pytest.mark.parametrize(
    ("value", "word"), [(lambda: float("nan"), "NaN"), (lambda: 1 / 0, "error"), (lambda: torch.zeros(0, 19), "empty")]
)
def test_what_is_no_number_is_told_in_a_word(value, word):
    assert script.outcome(value) == word
