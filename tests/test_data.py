"""The data of a run: which images train, and what is said of them."""

import shutil
from pathlib import Path

import pytest

from deeplab_lib import record
from deeplab_lib.config import Config
from deeplab_lib.data import prepare_data
from deeplab_lib.train import fit
from deeplab_lib.weights import RGB_IMAGENET


@pytest.fixture
def city(smoke_city, tmp_path):
    """A data folder with fine labels alone."""
    hidden = shutil.ignore_patterns("toycity.json", "gtCoarse", "train_extra")
    return shutil.copytree(smoke_city, tmp_path / "city", ignore=hidden)


@pytest.fixture
def coarse_city(smoke_city, tmp_path):
    """The toy city's folder with its training scenes as coarsely labelled extra ones, beside fine validation."""
    root = tmp_path / "coarse"
    shutil.copytree(smoke_city, root, ignore=shutil.ignore_patterns("toycity.json", "gtCoarse", "train_extra"))
    (root / "leftImg8bit" / "train").rename(root / "leftImg8bit" / "train_extra")
    (root / "gtCoarse").mkdir()
    (root / "gtFine" / "train").rename(root / "gtCoarse" / "train_extra")
    for path in list((root / "gtCoarse").rglob("*.png")):
        path.rename(path.with_name(path.name.replace("gtFine", "gtCoarse")))
    return root


def test_coarse_images_pretrain_a_run_that_fine_ones_continue(coarse_city, smoke):
    coarse = smoke(data=str(coarse_city), split="train_extra", epochs=1)
    assert coarse.stem == "DeepLabV2_ce_epochs1_split_train_extra"
    summary = record.read_json(fit(coarse))
    assert (summary["dataset"]["split"], summary["dataset"]["train"]) == ("train_extra", 20)
    best = Path(coarse.out_dir) / f"{coarse.stem}.best.pt"
    fine = record.read_json(fit(smoke(pretrained=str(best), epochs=1)))
    assert fine["weights"]["matched"] > 0
    assert fine["weights"]["head"]


def test_the_training_split_is_part_of_a_run_only_where_it_is_not_the_usual(smoke):
    assert "split" not in smoke().result_dict()
    assert smoke(split="train").stem == smoke().stem


def test_a_missing_split_is_named(city):
    with pytest.raises(FileNotFoundError, match="looked for leftImg8bit/train_extra"):
        prepare_data(Config(data=str(city), preset="smoke", split="train_extra"), RGB_IMAGENET)
