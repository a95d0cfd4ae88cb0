"""Cityscapes' own size all the way: zip files, cache, an epoch, native evaluation, the files for the test server.

The scenes are a toy city's, 2048x1024 like the real ones; what is learnt from two of them does not matter here.
"""

import json
import shutil

import numpy as np
import pytest
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official
from helpers.small_city import zip_city
from PIL import Image

from deeplab_lib import toycity
from deeplab_lib.config import Config
from deeplab_lib.data.pairs import scan
from deeplab_lib.labels import CLASS_NAMES
from deeplab_lib.predict import export, load_run
from deeplab_lib.training.loop import fit


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    return toycity.write(tmp_path_factory.mktemp("data") / "city", train=2, val=2, test=1, size=(1024, 2048))


@pytest.fixture(scope="module")
def downloads(city):
    folder = zip_city(city, city.parent / "downloads")
    shutil.copy(city / "toycity.json", folder)
    return folder


@pytest.fixture(scope="module")
def finished(downloads, tmp_path_factory):
    """The JSON of a run trained for one epoch at 256x128, straight from the zip files."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEEPLAB_CACHE", str(folder / "cache"))
        size = {"image_height": 128, "image_width": 256}
        config = Config(data=downloads, preset="smoke", epochs=1, batch_size=1, amp="off", out_dir=folder, **size)
        return fit(config).json


def test_nothing_is_unpacked(downloads, finished):
    names = sorted(path.name for path in downloads.iterdir())
    assert names == ["gtFine_trainvaltest.zip", "leftImg8bit_trainvaltest.zip", "toycity.json"]
    caches = sorted(path.name[:-17] for path in (finished.parent / "cache").iterdir() if path.is_dir())
    assert caches == ["train-256x128", "val-256x128"]


def test_the_run_knows_what_it_was_trained_on(finished):
    dataset = json.loads(finished.read_text())["dataset"]
    assert (dataset["train"], dataset["val"]) == (2, 2)
    assert (dataset["label_height"], dataset["label_width"]) == (1024, 2048)
    assert dataset["synthetic"] is True


def test_native_scores_are_the_official_ones_on_the_export(city, downloads, finished, tmp_path):
    out = export(load_run(finished), downloads, "val", tmp_path / "val")
    args = official.args
    args.predictionPath, args.predictionWalk = str(out), None
    args.evalInstLevelScore, args.JSONOutput, args.quiet = False, False, True
    truth = [str(path) for path in sorted(city.glob("gtFine/val/*/*_gtFine_labelIds.png"))]
    result = official.evaluateImgLists([official.getPrediction(args, path) for path in truth], truth, args)
    native = json.loads(finished.read_text())["final"]["native"]
    ours = [np.nan if value is None else value / 100 for value in native["class_val"]]
    theirs = [result["classScores"][name] for name in CLASS_NAMES]
    assert ours == pytest.approx(theirs, abs=1e-6, nan_ok=True)
    assert native["mIoU"] / 100 == pytest.approx(result["averageScoreClasses"], abs=1e-6)
    assert (native["height"], native["width"]) == (1024, 2048)


def test_the_test_servers_files(downloads, finished, tmp_path):
    out = export(load_run(finished), downloads, "test", tmp_path / "test")
    [path] = out.iterdir()
    [pair] = scan(downloads, "test")
    assert path.name == f"{pair.name}_pred_labelIds.png"
    with Image.open(path) as image:
        assert (image.size, image.mode) == ((2048, 1024), "L")
