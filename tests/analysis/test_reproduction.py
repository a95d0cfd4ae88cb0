"""How a report is made again, and where it belongs."""

import json
import shlex
from dataclasses import fields, replace
from functools import partial

import pytest
from helpers import synthetic_runs

from deeplab_lib.analysis import reproduction, setup_text
from deeplab_lib.config import Config
from deeplab_lib.recipes import PRESETS, RECIPES
from deeplab_lib.study.results import read_runs


def edit(folder, stem, **changes):
    path = folder / f"{stem}.json"
    record = json.loads(path.read_text())
    record["config"] |= changes
    path.write_text(json.dumps(record))


def given(line):
    """The parameters of a papermill command."""
    words = shlex.split(line)
    return dict(zip(words[4::3], words[5::3], strict=True))


def test_the_commands_give_the_runs_again(tmp_path):
    """What `Config` makes of a command is what the record holds, whatever was changed."""
    changes = {"seed": 3, "epochs": 7, "lr": 0.005, "batch_size": 8, "bn": "eval", "follows": "logs"}
    synthetic_runs.write_runs(tmp_path, ["ce", "ce_focal"], images=4, epochs=PRESETS["demo"].epochs)
    edit(tmp_path, "DeepLabV2_ce", **changes)
    for run in read_runs(tmp_path):
        parameters = given(reproduction.command(run, "runs/mine"))
        assert parameters.pop("out_dir") == "runs/mine"
        config = Config(**parameters)
        for name in (item.name for item in fields(Config) if item.metadata["result"]):
            recorded = run.config.get(name)
            assert recorded is None or getattr(config, name) == recorded, name
        assert set(parameters) == (
            {"loss", "preset", *changes} - {"follows"} if run.recipe == "ce" else {"loss", "preset"}
        )


def test_data_and_weights_are_named_without_their_folders(tmp_path):
    synthetic_runs.write_runs(tmp_path, ["ce"], images=4, epochs=2)
    edit(tmp_path, "DeepLabV2_ce", data="/home/ann/cityscapes", pretrained="/home/ann/w.pth")
    record = json.loads((tmp_path / "DeepLabV2_ce.json").read_text())
    record["dataset"]["synthetic"] = False
    (tmp_path / "DeepLabV2_ce.json").write_text(json.dumps(record))
    (run,) = read_runs(tmp_path)
    text = reproduction.again([run], tmp_path)
    assert "-p data path/to/cityscapes" in text and "ann" not in text and str(tmp_path) not in text
    assert f"-p runs runs/{tmp_path.name}" in text


@pytest.mark.parametrize("changes", [{"loss": "no_such_loss"}, {"bn": "`rm`\n```"}, {"epochs": "$(x)"}])
def test_a_record_that_no_command_can_follow_is_named(tmp_path, changes):
    synthetic_runs.write_runs(tmp_path, ["ce", "ce_dice"], images=4, epochs=2)
    run, other = read_runs(tmp_path)
    run.record["config"] |= changes
    text = reproduction.again([run, other], tmp_path)
    assert f"How these were trained is not recorded, so no command is given: {run.label}." in text
    assert text.count("train.ipynb") == 1 and "$(x)" not in text
    assert reproduction.again([run], tmp_path) == ""


def test_the_usual_studies_are_made_by_make_report_and_make_study(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduction, "Config", partial(Config, out_dir=str(tmp_path / "toycity")))
    synthetic_runs.write_runs(tmp_path / "toycity", images=4, epochs=PRESETS["demo"].epochs)
    runs = read_runs(tmp_path / "toycity")
    assert reproduction.usual_target(runs, tmp_path / "toycity") == "report"
    assert reproduction.usual_target(runs[:-1], tmp_path / "toycity") == ""
    assert reproduction.usual_target(runs, tmp_path) == ""
    controls = ("ce_lovasz_warmup", "ce_focal", "ce_lovasz_dice")
    study = [replace(run, stem=Config(loss=run.recipe, seed=seed).stem) for run in runs for seed in range(3)]
    assert reproduction.usual_target(study, tmp_path / "toycity") == ""
    study += [
        replace(run, stem=Config(loss=run.recipe, seed=seed, schedule="ce").stem)
        for run in runs for seed in range(3) if run.recipe in controls
    ]  # fmt: skip
    assert len(study) == 33
    assert reproduction.usual_target(study, tmp_path / "toycity") == "study"


def test_kind_9_numbers_of_other_runs_have_a_folder_of_their_own(tmp_path):
    usual = reproduction.report_folder(Config().out_dir)
    assert usual.name == "report"
    assert reproduction.report_folder(tmp_path / "mine") == usual / "mine"


def test_a_draft_names_what_is_not_finished_and_what_is_not_begun(tmp_path):
    synthetic_runs.write_runs(tmp_path, ["ce", "ce_focal"], images=4, epochs=4)
    runs = read_runs(tmp_path)
    planned = [RECIPES[key].stem for key in ("ce", "ce_focal", "ce_dice")]
    assert setup_text.draft(runs) == ""
    assert setup_text.draft(runs, planned[:2]).startswith("This is a draft. All planned runs are finished")
    next(run for run in runs if run.recipe == "ce_focal").record["finished"] = False
    assert setup_text.draft(runs, planned) == (
        "This is a draft. Not finished: CE + Focal (epoch 4 of 4). Not begun: CE + Dice."
    )
    assert setup_text.draft(runs) == "This is a draft. Not finished: CE + Focal (epoch 4 of 4)."
