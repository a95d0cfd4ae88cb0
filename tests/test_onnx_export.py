"""A run exported to ONNX: the same picture as the kit's own, without the kit; its card; what is refused."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_lib.config import Config
from deeplab_lib.data.pictures import read_image, resize_image
from deeplab_lib.labels import CLASS_NAMES, PALETTE, colorize
from deeplab_lib.models.onnx_file import session
from deeplab_lib.onnx_export import export_onnx, main, terms
from deeplab_lib.predict import load_run
from deeplab_lib.training.loop import fit

pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
README = Path(__file__).parents[1] / "README.md"


@pytest.fixture(scope="module")
def trained(smoke_city, tmp_path_factory):
    """A finished run in `runs/toycity` of a folder of its own, and an image of its validation data."""
    folder = tmp_path_factory.mktemp("exported") / "runs" / "toycity"
    config = Config(loss="ce", preset="smoke", out_dir=str(folder), device="cpu", amp="off")
    return fit(config), sorted(Path(config.data).glob("leftImg8bit/val/*/*.png"))[0]


def without_kit(program, cwd):
    """Run a program in a Python that must load neither this kit nor PyTorch."""
    after = "\nimport sys; assert not {'torch', 'deeplab_lib'} & set(sys.modules), 'not without them'"
    return subprocess.run([sys.executable, "-c", program + after], cwd=cwd, capture_output=True, text=True)


def readme_lines():
    """The lines of the README that run an exported file."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    return next(block for block in blocks if "onnxruntime" in block)


def test_the_readmes_lines_give_the_kits_own_picture_without_the_kit(trained):
    folder, photograph = trained
    export_onnx(folder.path(""))
    work = folder.folder.parents[1]
    Image.open(photograph).save(work / "photograph.png")
    lines = readme_lines()
    named = re.search(r'"(runs/toycity/\w+\.onnx)"', lines)[1]
    assert work / named == folder.path(".onnx") and len(lines.strip().splitlines()) <= 13
    done = without_kit(lines, work)
    assert done.returncode == 0, done.stderr
    run = load_run(folder.best, device="cpu")
    image = resize_image(read_image(photograph), run.size)
    assert run.amp == "off"
    same = (np.asarray(Image.open(work / "labels.png").convert("RGB")) == colorize(run.predict(image))).all(-1)
    assert same.mean() >= 0.9999


def test_labels_are_the_kits_prediction_and_logits_decide_alike(trained):
    folder, photograph = trained
    run = load_run(folder.best, device="cpu")
    image = resize_image(read_image(photograph), run.size)
    files = [
        export_onnx(folder.path(""), f"{folder.folder}/exports/{kind}.onnx", kind) for kind in ("labels", "logits")
    ]
    labels, logits = (session(file).run(None, {"images": image[None]})[0] for file in files)
    assert (labels[0] == run.predict(image)).mean() >= 0.9999
    assert logits.shape == (1, 19, *run.size) and np.array_equal(logits.argmax(1), labels)


def test_the_card_says_what_the_run_was_and_the_metadata_hold_the_same(trained):
    folder, _ = trained
    file, summary = export_onnx(folder.path("")), folder.summary
    about = {name: json.loads(text) for name, text in session(file).get_modelmeta().custom_metadata_map.items()}
    assert [c["name"] for c in about["classes"]] == list(CLASS_NAMES)
    assert np.array_equal([c["color"] for c in about["classes"]], PALETTE)
    assert about["data"]["fingerprint"] == summary["dataset"]["fingerprint"] and about["data"]["synthetic"] is True
    assert about["mIoU"]["percent"] == summary["best"]["val_mIoU"] and about["mIoU"]["finished"] is True
    assert about["input"] | {"height": 32, "width": 64, "any_size": True, "name": "images"} == about["input"]
    text = Path(f"{file}.md").read_text(encoding="utf-8")
    for fact in (
        f"| `DeepLabV2_ce`: {summary['title']}, `{summary['loss']}` |",
        "toycity, synthetic images, 20 training and 8 validation images",
        "| scale | smoke, 64x32 |",
        f"{summary['best']['val_mIoU']:.2f} % on 8 validation images (the best epoch, {summary['best']['epoch']} of 5",
        "MIT, as the kit",
        "| 18 | bicycle | 33 | 119, 11, 32 |",
    ):
        assert fact in text, fact


def test_a_run_tested_in_several_views_that_has_not_ended_is_said_to_be_so(smoke):
    mirrored = fit(smoke(loss="ce", tta="flip", epochs=1))
    mirrored.json.unlink()
    text = Path(f"{export_onnx(mirrored.path(''))}.md").read_text(encoding="utf-8")
    assert "tested with tta=flip, which is not in this file" in text and "the run has not ended" in text


def test_terms_of_the_data():
    assert "MIT" in terms({"synthetic": True, "subset": None})
    assert "non-commercial" in terms({"synthetic": False, "subset": None})
    unknown = "ask whoever published"
    assert unknown in terms({"synthetic": False, "subset": "not Cityscapes: ..."}) and unknown in terms({})


def test_the_command_writes_beside_the_run_and_takes_the_datas_terms(trained, capsys):
    folder, _ = trained
    main([str(folder.folder), "--licence", "CC BY 4.0"])
    assert "| terms of the data | CC BY 4.0 |" in folder.path(".onnx.md").read_text(encoding="utf-8")
    assert str(folder.path(".onnx")) in capsys.readouterr().out


def test_a_missing_run_is_one_line_and_neither_package_is_imported_before_there_is_one(tmp_path):
    program = (
        "import runpy, sys\n"
        "try:\n"
        "    runpy.run_module('deeplab_lib.onnx_export', run_name='__main__')\n"
        "finally:\n"
        "    import deeplab_lib.models.efficiency\n"
        "    assert not {'onnx', 'onnxruntime'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "none")], capture_output=True, text=True)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "no run" in done.stderr


def test_a_missing_package_is_one_line_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("deeplab_lib.models.onnx_file.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'pip install onnx onnxruntime \(or -e "\.\[onnx\]"\)$'):
        export_onnx(tmp_path)


@pytest.mark.parametrize(("out", "said"), [("{0}", "is a folder: name a file in it"), ("{0}/file/x.onnx", "is a file")])
def test_a_place_that_cannot_hold_the_file_is_one_line_before_the_run_is_read(tmp_path, out, said):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=said) as raised:
        export_onnx(tmp_path / "no run", out.format(tmp_path))
    assert "\n" not in str(raised.value)
