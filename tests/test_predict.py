"""Predictions: the official evaluator agrees, photographs keep their shape, and nothing half-written stays."""

import errno
import io
import itertools
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
import torch
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official
from helpers.refusals import one_line
from helpers.small_city import first, save_png, write_city
from PIL import Image
from torch.nn import functional as F

from deeplab_lib import predict, toycity
from deeplab_lib.common import files
from deeplab_lib.data.cityscapes import Cityscapes
from deeplab_lib.data.label_files import read_labels
from deeplab_lib.data.normalization import BGR_CAFFE, RGB_IMAGENET
from deeplab_lib.data.pairs import scan
from deeplab_lib.data.pictures import read_image
from deeplab_lib.labels import CATEGORIES, CLASS_NAMES, ID_OF_TRAIN_ID, PALETTE, colorize
from deeplab_lib.metrics import ConfusionMatrix
from deeplab_lib.models.registry import make_model
from deeplab_lib.predict import Segmentation, export, load_run, score_export, segment, segment_all
from deeplab_lib.training import checkpoint
from deeplab_lib.training.loop import fit

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "predict.ipynb"


def saved_run(folder, data="", normalization=RGB_IMAGENET, stem="DeepLabV2_ce", size=(32, 64)):
    """The `.best.pt` of a run that has learnt nothing, but decides differently from place to place."""
    torch.manual_seed(0)
    model = make_model("deeplabv2_micro")
    for parameter in model.aspp.parameters():
        torch.nn.init.normal_(parameter)
    config = {"model": "deeplabv2_micro", "image_height": size[0], "image_width": size[1], "amp": "off"}
    config |= {"device": "cpu", "data": str(data)}
    weights = {"normalization": normalization.name, "stride_in": "1x1"}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}.best.pt"
    checkpoint.save(path, {"model": model.state_dict(), "config": config, "weights": weights})
    return path


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    return toycity.write(tmp_path_factory.mktemp("data") / "city", train=1, val=4, test=2, size=(64, 128))


@pytest.fixture(scope="module")
def run(tmp_path_factory, city):
    return load_run(saved_run(tmp_path_factory.mktemp("runs"), city))


def official_result(out, root, split="val"):
    """What `csEvalPixelLevelSemanticLabeling` computes, finding the predictions by their names as it does."""
    args = official.args
    args.predictionPath, args.predictionWalk = str(out), None
    args.evalInstLevelScore, args.JSONOutput, args.quiet = False, False, True
    truth = [str(path) for path in sorted(root.glob(f"gtFine/{split}/*/*_gtFine_labelIds.png"))]
    return official.evaluateImgLists([official.getPrediction(args, path) for path in truth], truth, args)


def assert_same_scores(confusion, result):
    ours = dict(zip(CLASS_NAMES, confusion.iou() / 100, strict=True))
    theirs = {name: result["classScores"][name] for name in CLASS_NAMES}
    assert ours == pytest.approx(theirs, abs=1e-9, nan_ok=True)
    assert confusion.miou() / 100 == pytest.approx(result["averageScoreClasses"], abs=1e-9)
    categories = {name: value / 100 for name, value in confusion.category_iou().items()}
    theirs = {name: result["categoryScores"][name] for name in CATEGORIES}
    assert categories == pytest.approx(theirs, abs=1e-9, nan_ok=True)


def write_instances(root):
    """Instance ids beside every label file of val: cars are the first of their kind, the rest has its label id."""
    for path in root.glob("gtFine/val/*/*_gtFine_labelIds.png"):
        ids = np.asarray(Image.open(path)).astype(np.int32)
        file = path.with_name(path.name.replace("labelIds", "instanceIds"))
        Image.fromarray(np.where(ids == 26, 26_001, ids).astype(np.uint16)).save(file)


def own_environment():
    """Like a shell in which this Python is the first that is found."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


class TestOfficialScores:
    def test_a_network_on_a_toy_city(self, run, city, tmp_path):
        out = export(run, city, "val", tmp_path / "out", say=print)
        assert_same_scores(score_export(out, city), official_result(out, city))

    def test_the_official_command_is_told_where_its_files_are(self, tmp_path):
        root = write_city(tmp_path / "my city", {"val": 1}, size=(8, 8))
        assert predict.official_command(tmp_path / "out", root) is None
        write_instances(root)
        words = shlex.split(predict.official_command(tmp_path / "out", root))
        assert words[:2] == [f"CITYSCAPES_DATASET={root}", f"CITYSCAPES_RESULTS={tmp_path / 'out'}"]

    def test_the_official_command_runs_as_it_is_printed(self, run, tmp_path):
        """In a shell, with the packages that are installed, instance scores included, which are its default."""
        root = toycity.write(tmp_path / "my city", train=1, val=2, size=(64, 128))
        write_instances(root)
        out = export(run, root, "val", tmp_path / "out", say=print)
        subprocess.run(predict.official_command(out, root), shell=True, check=True, env=own_environment())
        result = json.loads((root / "evaluationResults" / "resultPixelLevelSemanticLabeling.json").read_text())
        assert_same_scores(score_export(out, root), result)
        assert np.isfinite(result["classInstScores"]["car"])

    @pytest.mark.parametrize("tta", ["none", "flip", "multiscale"])
    def test_what_is_exported_is_what_the_run_has_measured(self, smoke, tmp_path, tta):
        config = smoke(epochs=1, tta=tta)
        path = fit(config).json
        out = export(load_run(path), config.data, "val", tmp_path / "out")
        measured = json.loads(path.read_text())["final"]["native"]["mIoU"]
        assert score_export(out, config.data).miou() == pytest.approx(measured, abs=1e-9)

    @pytest.mark.parametrize("right", [0.0, 0.5, 0.9, 1.0])
    def test_predictions_of_any_quality(self, tmp_path, right):
        """Random label ids, every class and every void one; the prediction lies in the image's red channel."""
        rng = np.random.default_rng(int(10 * right))
        root = write_city(tmp_path / "city", {"val": 3}, size=(48, 96))
        for pair in scan(root, "val"):
            blocks = rng.integers(0, 34, (12, 24), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
            save_png(pair.label, blocks)
            labels = read_labels(pair.label)
            prediction = np.where(
                (labels < 19) & (rng.random(labels.shape) < right), labels, rng.integers(0, 19, (48, 96))
            )
            save_png(pair.image, np.stack([prediction.astype(np.uint8)] * 3, axis=2))
        fake = SimpleNamespace(predict=lambda image: image[..., 0])
        out = export(fake, root, "val", tmp_path / "out")
        confusion = score_export(out, root)
        assert_same_scores(confusion, official_result(out, root))
        if right == 1.0:
            assert confusion.miou() == 100.0

    def test_absent_classes_are_left_out_alike(self, tmp_path):
        root = write_city(tmp_path / "city", {"val": 1}, size=(8, 8))
        [pair] = scan(root, "val")
        save_png(pair.label, np.array([[7, 7, 11, 0]] * 8, dtype=np.uint8))
        save_png(pair.image, np.full((8, 4, 3), (0, 1, 2), dtype=np.uint8))
        fake = SimpleNamespace(predict=lambda image: np.array([[0, 1, 1, 2]] * 8, dtype=np.uint8))
        out = export(fake, root, "val", tmp_path / "out")
        confusion = score_export(out, root)
        assert_same_scores(confusion, official_result(out, root))
        assert np.flatnonzero(np.isfinite(confusion.iou())).tolist() == [0, 1, 2]
        assert confusion.iou()[:3].tolist() == [50.0, 0.0, 0.0]

    def test_what_is_no_prediction_is_refused_by_name_and_value(self, tmp_path):
        root = write_city(tmp_path / "city", {"val": 1}, size=(8, 8))
        [pair] = scan(root, "val")
        path = tmp_path / "out" / f"{pair.name}_pred_labelIds.png"
        for value in (0, 30, 77, 255):
            save_png(path, np.array([[7, 7, 11, value]] * 8, dtype=np.uint8))
            with pytest.raises(
                ValueError, match=rf"{path.name} holds the label id {value}, which is no class"
            ) as error:
                score_export(path.parent, root)
            one_line(error)
        save_png(path, np.full((4, 8), 7, dtype=np.uint8))
        with pytest.raises(ValueError, match=rf"{path.name}: labels \(8, 8\) and predictions \(4, 8\) differ") as error:
            score_export(path.parent, root)
        one_line(error)

    def test_neither_batch_size_nor_order_matters(self, run, city):
        dataset = Cityscapes(city, "val")
        labels = np.stack([dataset.full_labels(i) for i in range(4)])
        predicted = np.stack([run.predict(dataset.full(i)[0]) for i in range(4)])
        whole = ConfusionMatrix().update(labels, predicted).matrix
        for order in itertools.permutations(range(4)):
            single, pairs = ConfusionMatrix(), ConfusionMatrix()
            for i in order:
                single.update(labels[i], predicted[i])
            for two in (order[:2], order[2:]):
                pairs.update(labels[list(two)], predicted[list(two)])
            assert np.array_equal(single.matrix, whole) and np.array_equal(pairs.matrix, whole)


class TestExport:
    def test_official_names_types_and_values_at_the_images_own_size(self, run, city, tmp_path):
        out = export(run, city, "test", tmp_path / "out")
        names = sorted(path.name for path in out.iterdir())
        assert names == [f"{pair.name}_pred_labelIds.png" for pair in scan(city, "test")]
        for path in out.iterdir():
            with Image.open(path) as image:
                assert (image.mode, image.size) == ("L", (128, 64))
                assert set(np.unique(image)) <= set(ID_OF_TRAIN_ID[:19])

    def test_logits_are_upsampled_not_decisions(self, run, city):
        image, _ = Cityscapes(city, "val").full(0)
        small = np.asarray(Image.fromarray(image).resize((64, 32), Image.Resampling.BILINEAR))
        with torch.inference_mode():
            logits = run.model.grid_logits(run.normalization(small)[None])
            logits = F.interpolate(logits, size=(64, 128), mode="bilinear", align_corners=True)
        assert np.array_equal(run.predict(image), logits.argmax(1)[0].numpy())

    def test_an_earlier_export_is_replaced_whole(self, run, city, tmp_path):
        out = export(run, city, "val", tmp_path / "out")
        (tmp_path / ".out.part").mkdir()  # as a killed process leaves it
        (tmp_path / ".out.part" / "stale.png").touch()
        export(run, city, "test", out)
        assert {path.name[:-18] for path in out.iterdir()} == {pair.name for pair in scan(city, "test")}
        assert list(tmp_path.iterdir()) == [out]

    def test_a_folder_with_other_files_is_refused_untouched(self, run, city, tmp_path):
        (tmp_path / "thesis.tex").write_text("precious")
        with pytest.raises(ValueError, match="holds other files"):
            export(run, city, "val", tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]

    def test_a_linked_folder_and_the_current_one_are_filled(self, run, city, tmp_path, monkeypatch):
        drive, link = tmp_path / "drive", tmp_path / "out"
        drive.mkdir()
        link.symlink_to(drive)
        assert export(run, city, "val", link) == drive and link.is_symlink()
        assert len(list(link.iterdir())) == 4
        monkeypatch.chdir(drive)
        export(run, city, "test", ".")
        assert len(os.listdir(".")) == 2 and sorted(os.listdir(tmp_path)) == ["drive", "out"]

    def test_a_file_is_refused_before_anything_is_computed(self, city, tmp_path):
        (tmp_path / "out").write_text("precious")
        with pytest.raises(ValueError, match="is a file: name a folder") as error:
            export(None, city, "val", tmp_path / "out")
        one_line(error)
        assert (tmp_path / "out").read_text() == "precious"

    def test_predictions_that_cannot_be_moved_are_kept_and_their_place_is_told(self, run, city, tmp_path, monkeypatch):
        def full(*names):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(predict.shutil, "move", full)
        with pytest.raises(OSError, match=r"not moved to .*out \(No space left.*they are in .*\.out\.part") as error:
            export(run, city, "val", tmp_path / "out")
        one_line(error)
        assert len(list((tmp_path / ".out.part").iterdir())) == 4

    def test_a_truncated_image_leaves_nothing(self, run, tmp_path):
        root = write_city(tmp_path / "city")
        path = first(root, "leftImg8bit/val/*/*1_leftImg8bit.png")
        path.write_bytes(path.read_bytes()[:400])
        with pytest.raises(ValueError, match="cannot be read as an image") as error:
            export(run, root, "val", tmp_path / "out")
        assert str(path) in one_line(error)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["city"]


class TestLoadRun:
    def test_by_any_of_its_names(self, tmp_path, monkeypatch):
        path = saved_run(tmp_path, normalization=BGR_CAFFE, stem="DeepLabV2_ce07_l03_warnup_lr_0.0002", size=(40, 72))
        (tmp_path / "DeepLabV2_ce07_l03_warnup_lr_0.0002.json").write_text("{}")
        stem = tmp_path / "DeepLabV2_ce07_l03_warnup_lr_0.0002"
        monkeypatch.setenv("HOME", str(tmp_path))
        endings = (".json", ".pt", ".previous.pt", ".csv", ".npz", ".ipynb")
        for name in (path, str(path), stem, f"~/{path.name}", *(f"{stem}{ending}" for ending in endings)):
            run = load_run(name)
            assert (run.stem, run.size, run.normalization) == (stem.name, (40, 72), BGR_CAFFE)
            assert not run.model.training

    def test_kind_9_the_best_finished_run_on_the_latest_data_is_the_default(self, tmp_path, monkeypatch):
        """Not the latest of the runs, which may be its worst; not a better one on other data or at another scale."""
        monkeypatch.setattr(predict, "project_root", lambda: tmp_path)
        runs = [  # in the order in which they were made
            ("elsewhere", "cityscapes", "demo", 80.0, True),
            ("large", "toycity", "paper", 70.0, True),
            ("good", "toycity", "demo", 45.678, True),
            ("stopped", "toycity", "demo", 60.0, False),
            ("lost", "toycity", "demo", None, True),
            ("worst", "toycity", "demo", 31.0, True),
        ]
        for time, (stem, data, preset, miou, finished) in enumerate(runs):
            path = saved_run(tmp_path / "runs" / data, data=f"/data/{data}", stem=stem)
            record = {"finished": finished, "config": {"data": f"/data/{data}", "preset": preset}}
            path.with_name(f"{stem}.json").write_text(json.dumps(record | {"final": {"val_mIoU": miou}}))
            os.utime(path, (time, time))
        said = []
        assert load_run(say=said.append).stem == "good"
        assert said == ["good in toycity/: at 45.68 % validation mIoU the best of 2 finished runs on the data set "
                        "toycity, preset demo"]  # fmt: skip
        assert load_run("runs/cityscapes", say=said.append).stem == "elsewhere"
        assert said[1] == "elsewhere in cityscapes/: the only finished run on the data set cityscapes, preset demo"
        assert load_run("runs/toycity/worst.json", say=said.append).stem == "worst" and len(said) == 2

    @pytest.mark.parametrize("record", ["{", "[]", "{}", '{"finished": "yes", "config": 3, "final": 1}'])
    def test_a_record_that_says_nothing_is_no_finished_run(self, tmp_path, record):
        path = saved_run(tmp_path, data="/data/toycity")
        path.with_name("DeepLabV2_ce.json").write_text(record)
        said = []
        assert load_run(tmp_path, say=said.append).stem == "DeepLabV2_ce"
        assert "the latest run; none on the data set" in said[0]

    def test_the_latest_run_is_the_default_where_none_is_finished(self, tmp_path, monkeypatch):
        monkeypatch.setattr(predict, "project_root", lambda: tmp_path)
        with pytest.raises(FileNotFoundError, match=r"no trained run in .*train one") as error:
            load_run()
        one_line(error)
        os.utime(saved_run(tmp_path / "runs" / "toycity", stem="a"), (2, 2))
        os.utime(saved_run(tmp_path / "runs" / "cityscapes", stem="b"), (1, 1))
        assert load_run().stem == "a" and [path.name for path in predict.find_runs()] == ["a.best.pt", "b.best.pt"]
        assert load_run("runs/cityscapes").stem == load_run(tmp_path / "runs" / "cityscapes").stem == "b"
        (tmp_path / "empty").mkdir()
        with pytest.raises(FileNotFoundError, match=r"no trained run in .*empty: train one"):
            load_run(tmp_path / "empty")

    def test_mixed_precision_is_the_best_here_for_a_run_that_was_trained_in_one(self, tmp_path, monkeypatch):
        path = saved_run(tmp_path)
        state = checkpoint.load(path)
        monkeypatch.setattr(predict, "best_amp", lambda device: f"the best on {device}")
        for trained_in, amp in (("bf16", "the best on cpu"), ("fp16", "the best on cpu"), ("off", "off")):
            state["config"] |= {"amp": trained_in}
            checkpoint.save(path, state)
            assert load_run(path, "cpu").amp == amp

    def test_what_is_no_run_is_refused_in_one_line(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no run .*nothing: there is no such file or folder$") as error:
            load_run(tmp_path / "nothing")
        one_line(error)
        path = saved_run(tmp_path)
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(ValueError, match="damaged") as error:
            load_run(path)
        one_line(error)
        checkpoint.save(path, {"model": {"conv1.weight": torch.zeros(1)}, "config": {"model": "deeplabv2_micro"}})
        with pytest.raises(ValueError, match="holds no run of this kit") as error:
            load_run(path)
        assert str(path) in one_line(error)

    def test_a_run_in_its_first_epoch_is_told_from_a_misspelt_one(self, tmp_path, monkeypatch):
        monkeypatch.setattr(predict, "project_root", lambda: tmp_path)
        (tmp_path / "runs").mkdir()
        (tmp_path / "runs" / "a.lock").touch()
        for name in ("runs/a", "runs/a.json", tmp_path / "runs" / "a"):
            with pytest.raises(FileNotFoundError, match=r"no weights .*a\.best\.pt: a run writes them at the end"):
                load_run(name)
        with pytest.raises(FileNotFoundError, match=r"no run runs/b\.json: there is no such file or folder") as error:
            load_run("runs/b.json")
        one_line(error)
        (tmp_path / "README.md").touch()
        with pytest.raises(FileNotFoundError, match=r"README\.md is no file of a run: give a run's \.json") as error:
            load_run(tmp_path / "README.md")
        one_line(error)


class TestPhotographs:
    def test_a_portrait_photograph_keeps_its_shape(self):
        assert predict.input_size((480, 360), (512, 1024)) == (832, 624)
        assert predict.input_size((1024, 2048), (512, 1024)) == (512, 1024)
        for photograph in ((3000, 4000), (4000, 3000), (1080, 1920), (100, 100)):
            h, w = predict.input_size(photograph, (512, 1024))
            assert h % 8 == w % 8 == 0
            assert h / w == pytest.approx(photograph[0] / photograph[1], rel=0.02)
            assert h * w == pytest.approx(512 * 1024, rel=0.02)

    def test_the_network_sees_a_portrait_upright(self, run, tmp_path, monkeypatch):
        """32 x 64 pixels in training; a portrait has as many, in its own shape."""
        Image.new("RGB", (300, 600)).save(tmp_path / "portrait.jpg")
        network = run.predictor.model
        seen, logits = [], network.grid_logits
        monkeypatch.setattr(network, "grid_logits", lambda images: seen.append(images.shape) or logits(images))
        assert segment(run, tmp_path / "portrait.jpg").train_ids.shape == (600, 300)
        assert seen == [(1, 3, 64, 32)]

    def test_turned_by_its_exif_and_bounded_in_size(self, run, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera was held upright
        Image.new("RGB", (3000, 1500), (90, 90, 90)).save(tmp_path / "phone.jpg", exif=exif)
        result = segment(run, tmp_path / "phone.jpg")
        assert result.image.shape == (2048, 1024, 3) and result.train_ids.shape == (2048, 1024)
        assert result.name == "phone.jpg"

    @pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
    def test_any_mode_of_picture(self, run, tmp_path, mode):
        path = tmp_path / f"a.{'jpg' if mode == 'CMYK' else 'png'}"
        Image.new(mode, (64, 48)).save(path)
        assert segment(run, path).image.shape == (48, 64, 3)

    @pytest.mark.parametrize("ending", ["png", "tif"])
    def test_16_bit_grey_keeps_its_greys(self, tmp_path, ending):
        grey = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
        path = tmp_path / f"scan.{ending}"
        Image.fromarray(grey).save(path)
        for image in (predict.read_photograph(path), *([read_image(path)] if ending == "png" else [])):
            assert image.shape == (48, 64, 3) and np.abs(image[..., 0] - grey / 257).max() <= 0.5

    @pytest.mark.parametrize(("kind", "mode"), [(np.float32, "F"), (np.int32, "I")])
    def test_numbers_without_a_range_are_refused(self, tmp_path, kind, mode):
        path = tmp_path / "depth.tif"
        Image.fromarray(np.full((4, 4), 70000, kind)).save(path)
        for read in (predict.read_photograph, read_image):
            with pytest.raises(
                ValueError, match=rf"depth.tif holds numbers of no known range \(mode {mode}\)"
            ) as error:
                read(path)
            one_line(error)

    @pytest.mark.parametrize("white", [255, 1023, 4095, 65535])
    def test_kind_6_fewer_bits_in_a_file_of_16_are_not_black(self, tmp_path, white):
        grey = np.linspace(0, white, 64 * 48).reshape(48, 64).astype(np.uint16)
        Image.fromarray(grey).save(tmp_path / "camera.png")
        assert np.abs(predict.read_photograph(tmp_path / "camera.png")[..., 0] - grey / white * 255).max() <= 0.51

    @pytest.mark.parametrize("ending", ["jpg", "png"])
    def test_kind_6_a_panorama_is_read(self, tmp_path, monkeypatch, ending):
        """What Pillow takes for a bomb, here at a smaller limit."""
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
        Image.new("RGB", (5000, 200), (9, 99, 199)).save(tmp_path / f"wide.{ending}")
        image = predict.read_photograph(tmp_path / f"wide.{ending}")
        assert image.shape == (82, 2048, 3) and np.abs(image - (9, 99, 199)).max() <= 2
        assert Image.MAX_IMAGE_PIXELS == 10_000

    def test_kind_6_a_picture_too_large_says_how_large(self, tmp_path, monkeypatch):
        monkeypatch.setattr(predict, "MOST_MEGAPIXELS", 1)
        Image.new("L", (2000, 1000)).save(tmp_path / "huge.png")
        with pytest.raises(ValueError, match=r"2000x1000 pixels \(2 megapixels\), more than 1") as error:
            predict.read_photograph(tmp_path / "huge.png")
        one_line(error)

    @pytest.mark.parametrize(
        ("content", "kind"),
        [
            *((b"%PDF-1.4 and more", "a PDF"), (b"<html>not found</html>", "a web page"), (b"", "an empty file")),
            *((b"PK\3\4" + bytes(99), "a zip archive"), (b"version https://git-lfs.github.com", "a Git LFS pointer")),
        ],
    )
    def test_kind_6_what_is_no_photograph_is_named(self, tmp_path, content, kind):
        (tmp_path / "a.jpg").write_bytes(content)
        with pytest.raises(ValueError, match=f"{kind}, no picture in a format known here") as error:
            predict.read_photograph(tmp_path / "a.jpg")
        one_line(error)

    def test_kind_2_photographs_without_an_ending_are_told_by_their_content(self, tmp_path):
        Image.new("RGB", (64, 32)).save(tmp_path / "a.png")
        (tmp_path / "a.png").rename(tmp_path / "IMG_0001")
        (tmp_path / "notes").write_text("no picture")
        assert predict.find_photographs(tmp_path) == [tmp_path / "IMG_0001"]

    def test_kind_2_photographs_in_a_sub_folder_are_pointed_to_and_the_advice_works(self, tmp_path):
        (tmp_path / "walks" / "monday").mkdir(parents=True)
        (tmp_path / "walks" / "empty").mkdir()
        (tmp_path / "walks" / "clip.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
        Image.new("RGB", (64, 32)).save(tmp_path / "walks" / "monday" / "a.png")
        with pytest.raises(FileNotFoundError) as error:
            predict.find_photographs(tmp_path / "walks")
        message = one_line(error)
        assert "turned away: clip.mp4 (video (MP4))" in message
        folder = message.rpartition("there are some in ")[2].removesuffix(": give that folder")
        assert predict.find_photographs(folder) == [tmp_path / "walks" / "monday" / "a.png"]

    def test_kind_2_a_look_alike_of_a_missing_photograph_is_named(self, tmp_path):
        (tmp_path / "street_1.jpg").touch()
        with pytest.raises(FileNotFoundError, match=r"the nearest there is street_1\.jpg"):
            predict.find_photographs(tmp_path / "street1.jpg")

    def test_overlay_and_shares(self):
        image = np.full((2, 4, 3), 100, np.uint8)
        result = Segmentation("a", image, np.array([[0, 0, 0, 13], [0, 0, 10, 13]], np.uint8))
        assert np.array_equal(result.overlay(0), image)
        assert np.array_equal(result.overlay(1)[0, 3], PALETTE[13])
        assert np.array_equal(result.side_by_side(0.5)[:, :2], image[:, :2])
        assert np.array_equal(result.side_by_side(0.5)[0, 2:], PALETTE[[0, 13]])
        assert result.shares() == {"road": 62.5, "car": 25.0, "sky": 12.5}

    def test_a_folder_of_them(self, run, tmp_path):
        folder = tmp_path / "photographs"
        folder.mkdir()
        for name in ("b.JPG", "a.png", "c.jpeg"):
            Image.effect_noise((80, 60), 50).save(folder / name)
        (folder / "broken.png").write_text("not a picture")
        (folder / "notes.txt").write_text("passed over")
        said = []
        table = segment_all(run, predict.find_photographs(folder), tmp_path / "out", said.append)
        assert len(said) == 1 and "broken.png cannot be read" in said[0]
        assert list(table.index) == ["a.png", "b.JPG", "c.jpeg"] and list(table.columns) == list(CLASS_NAMES)
        assert table.sum(axis=1).tolist() == pytest.approx([100, 100, 100])
        written = pd.read_csv(tmp_path / "out" / "shares.csv", index_col="photograph")
        pd.testing.assert_frame_equal(written, table.round(3))
        names = sorted(path.name for path in (tmp_path / "out").iterdir())
        assert names == ["a.png_overlay.jpg", "b.JPG_overlay.jpg", "c.jpeg_overlay.jpg", "shares.csv"]

    @pytest.mark.skipif(os.name == "nt", reason="names of files are text there")
    def test_kind_7_a_name_that_is_no_utf_8_costs_neither_table_nor_overlays(self, run, tmp_path):
        folder = tmp_path / "photographs"
        folder.mkdir()
        for name in (b"a\xe9.png", b"a\xe8.png"):
            Image.new("RGB", (64, 32)).save(os.path.join(os.fsencode(folder), name).decode(errors="surrogateescape"))
        with open(os.path.join(os.fsencode(folder), b"\xff.png"), "w") as file:
            file.write("not a picture")
        said = []
        table = segment_all(run, predict.find_photographs(folder), tmp_path / "out", said.append)
        assert list(table.index) == ["a%E8.png", "a%E9.png"]
        assert list(pd.read_csv(tmp_path / "out" / "shares.csv").photograph) == list(table.index)
        assert (tmp_path / "out" / "a%E9.png_overlay.jpg").exists()
        assert "%FF.png cannot be read" in said[0] and said[0].encode()

    def test_what_a_folder_holds_besides_is_passed_over_and_pictures_are_counted(self, tmp_path):
        for name in ("._b.jpg", "b.jpg", "IMG_1.HEIC", "IMG_2.heic", "notes.txt"):
            (tmp_path / name).touch()
        said = []
        assert predict.find_photographs(tmp_path, say=said.append) == [tmp_path / "b.jpg"]
        assert len(said) == 1 and "passed over: IMG_1.HEIC and 1 more, in a format" in said[0]
        (tmp_path / "IMG_2.heic").unlink()
        predict.find_photographs(tmp_path, say=said.append)
        assert "passed over: IMG_1.HEIC, in a format" in said[1]

    def test_a_folder_that_ends_like_a_photograph_is_none(self, tmp_path):
        (tmp_path / "album.jpg").mkdir()
        with pytest.raises(FileNotFoundError, match=r"no photograph in "):
            predict.find_photographs(tmp_path)
        (tmp_path / "album.jpg" / "b.jpg").touch()
        assert predict.find_photographs(tmp_path / "album.jpg") == [tmp_path / "album.jpg" / "b.jpg"]

    def test_when_none_can_be_read_what_was_written_before_stays(self, run, tmp_path):
        (tmp_path / "broken.png").write_text("not a picture")
        (tmp_path / "shares.csv").write_text("precious")
        with pytest.raises(ValueError, match=r"no photograph could be read: nothing is written to ") as error:
            segment_all(run, [tmp_path / "broken.png"], tmp_path, lambda text: None)
        one_line(error)
        assert (tmp_path / "shares.csv").read_text() == "precious"

    def test_overlays_of_other_photographs_are_kept_and_told(self, run, tmp_path):
        for name in ("a.png", "b.png"):
            Image.new("RGB", (64, 32)).save(tmp_path / name)
        said = []
        for name in ("a.png", "b.png"):
            segment_all(run, [tmp_path / name], tmp_path / "out", said.append)
        assert len(said) == 1 and "also holds overlays of other photographs, such as a.png_overlay.jpg" in said[0]

    def test_where_photographs_are_looked_for(self, run, city, tmp_path, monkeypatch):
        monkeypatch.setattr(predict, "project_root", lambda: tmp_path)
        validation = predict.find_photographs(None, run)
        assert validation == [pair.image for pair in scan(city, "val")]
        assert predict.find_photographs(str(validation[0])) == validation[:1]
        (tmp_path / "photographs").mkdir()
        with pytest.raises(FileNotFoundError, match=r"no photograph in .*\.jpg") as error:
            predict.find_photographs(None, run)
        one_line(error)
        (tmp_path / "photographs" / "a.jpg").touch()
        monkeypatch.setattr(files, "project_root", lambda: tmp_path)
        for path in (None, "photographs", "photographs/a.jpg", Path("photographs")):
            assert predict.find_photographs(path, run) == [tmp_path / "photographs" / "a.jpg"]

    @pytest.mark.parametrize(
        ("path", "complaint"),
        [
            ("walks", "no photographs in walks: there is no such file or folder"),
            (["a.jpg", "b.jpg"], r"photographs is \['a.jpg', 'b.jpg'\]; it must be one path"),
        ],
    )
    def test_what_is_no_place_of_photographs_is_told_in_one_line(self, path, complaint):
        with pytest.raises((ValueError, FileNotFoundError), match=complaint) as error:
            predict.find_photographs(path)
        one_line(error)

    def test_the_figure_names_the_classes_it_shows(self, run, city):
        result = segment(run, scan(city, "val")[0].image)
        texts = {text.get_text() for text in predict.show(result).axes[2].get_yticklabels()}
        assert texts == {name for name, percent in result.shares().items() if percent >= 0.05}

    def test_a_name_of_any_kind_stands_above_the_figure(self, city):
        def title(name):
            image = np.zeros((8, 16, 3), np.uint8)
            fig = predict.show(Segmentation(name, image, image[..., 0]))
            fig.canvas.draw()
            return fig.axes[0].get_title(loc="left")

        assert title("10$ and 20$_x^.jpg") == "10$ and 20$_x^.jpg"
        assert title("a" * 90 + "_0017.jpg") == "a" * 20 + "…" + "a" * 10 + "_0017.jpg"

    def test_a_picture_like_a_thread_makes_no_endless_figure(self):
        image = np.zeros((2048, 1, 3), np.uint8)
        assert predict.show(Segmentation("a", image, image[..., 0])).get_figheight() < 9

    def test_the_slider_has_all_photographs_of_a_folder(self, run, tmp_path):
        for name in ("a.jpg", "a.png"):
            Image.new("RGB", (64, 32)).save(tmp_path / name)
        photograph = predict.slider(predict.segment_readable(run, predict.find_photographs(tmp_path))).children[0]
        assert photograph.options == ("a.jpg", "a.png")

    def test_the_slider_uncovers_the_photograph(self, run, city):
        first, second = (segment(run, pair.image) for pair in scan(city, "val")[:2])
        photograph, cut, picture = predict.slider([first, second]).children

        def seen():
            return np.asarray(Image.open(io.BytesIO(picture.value))).astype(int)

        for chosen in (first, second):
            photograph.value = chosen.name
            for cut.value, pixels in ((0, colorize(chosen.train_ids)), (1, chosen.image)):
                assert np.abs(seen() - pixels).mean() < 6  # what JPEG loses


class TestNotebook:
    def test_runs_from_its_folder_on_validation_images(self, city, tmp_path):
        path, out = saved_run(tmp_path, city), tmp_path / "executed.ipynb"
        parameters = {"run": str(path), "out_dir": str(tmp_path / "out"), "split": "val", "shown": 1, "device": "cpu"}
        papermill.execute_notebook(NOTEBOOK, out, parameters, cwd=NOTEBOOK.parent, progress_bar=False)
        outputs = [output for cell in nbformat.read(out, 4).cells for output in cell.get("outputs", ())]
        kinds = [kind for output in outputs for kind in output.get("data", ())]
        assert kinds.count("image/png") == 1 and "application/vnd.jupyter.widget-view+json" in kinds
        said = "".join(output.text for output in outputs if output.output_type == "stream")
        confusion = score_export(tmp_path / "out" / "val_labelIds", city)
        assert f"mIoU {confusion.miou():.2f} %" in said
        assert len(list((tmp_path / "out").glob("*_overlay.jpg"))) == 4
        assert "csEval" not in said  # it reads instance ids, of which a toy city has none

    def test_a_photograph_that_cannot_be_read_is_named_and_left_out(self, city, tmp_path):
        path, out, folder = saved_run(tmp_path, city), tmp_path / "executed.ipynb", tmp_path / "photographs"
        folder.mkdir()
        (folder / "a.jpg").write_text("not a picture")
        Image.effect_noise((80, 60), 50).save(folder / "b.jpg")
        parameters = {"run": str(path), "out_dir": str(tmp_path / "out"), "photographs": str(folder), "device": "cpu"}
        papermill.execute_notebook(NOTEBOOK, out, parameters, cwd=NOTEBOOK.parent, progress_bar=False)
        outputs = [output for cell in nbformat.read(out, 4).cells for output in cell.get("outputs", ())]
        said = "".join(output.text for output in outputs if output.output_type == "stream")
        assert f"left out: {folder / 'a.jpg'} cannot be read" in said
        assert [p.name for p in (tmp_path / "out").glob("*_overlay.jpg")] == ["b.jpg_overlay.jpg"]

    def test_a_misspelt_split_is_told_before_any_photograph_is_segmented(self, city, tmp_path):
        path, out = saved_run(tmp_path, city), tmp_path / "executed.ipynb"
        parameters = {"run": str(path), "out_dir": str(tmp_path / "out"), "split": "vall", "device": "cpu"}
        with pytest.raises(papermill.PapermillExecutionError, match="unknown split 'vall'"):
            papermill.execute_notebook(NOTEBOOK, out, parameters, cwd=NOTEBOOK.parent, progress_bar=False)
        assert not (tmp_path / "out").exists()

    def test_a_misspelt_parameter_is_refused(self):
        cell = "# Parameters\nphotograph = '/home/me'"
        with pytest.raises(ValueError, match="no parameter 'photograph', did you mean 'photographs'") as error:
            predict.check_settings({"In": ["", cell]})
        one_line(error)
        cells = nbformat.read(NOTEBOOK, 4).cells
        source = next(cell.source for cell in cells if "parameters" in cell.metadata.get("tags", ()))
        predict.check_settings({"In": [source], "shown": 0})
        assert all(f"\n{name} = " in source for name in predict.PARAMETERS)

    @pytest.mark.parametrize("shown", [-1, 1.5, "all", None])
    def test_a_number_of_pictures_that_is_none_is_refused(self, shown):
        with pytest.raises(ValueError, match=r"shown is .*; it must be a whole number, 0 or more") as error:
            predict.check_settings({"shown": shown})
        one_line(error)

    def test_results_lie_where_they_are_wanted_but_in_no_file(self, tmp_path, monkeypatch):
        monkeypatch.setattr(predict, "project_root", lambda: tmp_path)
        run = SimpleNamespace(folder="toycity", stem="DeepLabV2_ce")
        assert predict.results_folder(None, run) == tmp_path / "runs" / "predictions" / "toycity" / "DeepLabV2_ce"
        assert predict.results_folder(str(tmp_path / "new"), run) == tmp_path / "new"
        (tmp_path / "notes.txt").touch()
        for out_dir in (tmp_path / "notes.txt", tmp_path / "notes.txt" / "below"):
            with pytest.raises(ValueError, match=r"notes\.txt is a file: name a folder as out_dir") as error:
                predict.results_folder(out_dir, run)
            one_line(error)
