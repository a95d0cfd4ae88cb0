"""The data of a run: which images train, and what is said of them."""

import errno
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.small_city import save_png
from PIL import Image

from deeplab_lib import recipes, toycity
from deeplab_lib.config import Config
from deeplab_lib.data.dataset import prepare_data
from deeplab_lib.data.normalization import RGB_IMAGENET
from deeplab_lib.training.loop import fit


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
    summary = fit(coarse).summary
    assert (summary["dataset"]["split"], summary["dataset"]["train"]) == ("train_extra", 20)
    best = Path(coarse.out_dir) / f"{coarse.stem}.best.pt"
    fine = fit(smoke(pretrained=str(best), epochs=1)).summary
    assert fine["weights"]["matched"] > 0
    assert fine["weights"]["head"]


def test_the_training_split_is_part_of_a_run_only_where_it_is_not_the_usual(smoke):
    assert "split" not in smoke().result_dict()
    assert smoke(split="train").stem == smoke().stem


def void(root, pattern):
    for path in root.glob(pattern):
        save_png(path, np.zeros((64, 128), np.uint8))


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_a_valid_pixel_is_refused(city, split, smoke):
    void(city, f"gtFine/{split}/*/*.png")
    with pytest.raises(ValueError, match=f"all labels of the split {split} of .* are void"):
        prepare_data(smoke(data=str(city), loss="median_ce" if split == "train" else "ce"), RGB_IMAGENET)


def test_labels_of_mixed_sizes_are_evaluated_at_their_own(city, smoke):
    """Whichever comes first: one label of another size than the input's is enough."""
    config = smoke(data=str(city), image_height=64, image_width=128)
    assert not prepare_data(config, RGB_IMAGENET).native
    [image, label] = [sorted(city.glob(f"{top}/val/*/*.png"))[-1] for top in ("leftImg8bit", "gtFine")]
    for path in (image, label):
        save_png(path, np.asarray(Image.open(path)).repeat(2, 0).repeat(2, 1))
    assert prepare_data(config, RGB_IMAGENET).native


def test_a_folder_that_cannot_be_written_is_told_with_its_variable(smoke, tmp_path, monkeypatch):
    def read_only(*arguments, **options):
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path))

    monkeypatch.setattr(toycity, "write", read_only)
    with pytest.raises(ValueError, match="set DEEPLAB_DATA to a folder that can be written") as error:
        prepare_data(smoke(), RGB_IMAGENET)
    assert "\n" not in str(error.value)


def test_a_missing_split_is_named(city):
    with pytest.raises(FileNotFoundError, match="looked for leftImg8bit/train_extra"):
        prepare_data(Config(data=str(city), preset="smoke", split="train_extra"), RGB_IMAGENET)


class TestFirstScenes:
    """A run on the built-in toy city uses its first scenes, whatever else has been drawn into the folder."""

    @pytest.fixture
    def grown(self, monkeypatch, tmp_path):
        """A smoke-scale `Config` on a city of its own, and that city with more scenes than the preset asks for."""
        monkeypatch.setenv("DEEPLAB_DATA", str(tmp_path / "data"))
        config = Config(preset="smoke", out_dir=str(tmp_path / "runs"), device="cpu")
        toycity.write(config.data, train=23, val=13, size=config.scale.toycity_size)
        return config

    def test_they_are_the_same_data_as_a_city_that_has_no_more(self, grown, smoke):
        small, large = (prepare_data(config, RGB_IMAGENET) for config in (smoke(), grown))
        for split in ("train", "val"):
            mine, theirs = getattr(small, split), getattr(large, split)
            assert [pair.name for pair in mine.pairs] == [pair.name for pair in theirs.pairs]
            assert np.array_equal(mine.images, theirs.images) and np.array_equal(mine.labels, theirs.labels)
        assert large.about | {"root": small.about["root"]} == small.about
        assert (len(large.train), len(large.val)) == (20, 8)

    def test_those_of_every_epoch_come_first(self, grown, monkeypatch):
        monkeypatch.setitem(recipes.PRESETS, "smoke", replace(grown.scale, val_each_epoch=3))
        data = prepare_data(grown, RGB_IMAGENET)
        numbers = [int(pair.name.split("_")[1]) for pair in data.val.pairs]
        assert (data.val_each_epoch, numbers) == (3, [0, 2, 1, 4, 6, 3, 5, 7])  # pappenburg has the even ones
        assert grown.result_dict()["val_each_epoch"] == 3

    def test_other_data_is_used_whole(self, grown):
        moved = shutil.copytree(grown.data, Path(grown.data).with_name("elsewhere"))
        other = prepare_data(replace(grown, data=str(moved)), RGB_IMAGENET)
        assert (len(other.train), other.val_each_epoch, other.train_each_epoch) == (23, 13, 23)
