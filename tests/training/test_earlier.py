"""Runs that version 0.1 began: they follow the study's text under their old names, and go on or are kept so."""

import os
import shutil
import signal
from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers.run_outcome import TIMINGS

from deeplab_lib.common.errors import RunStopped
from deeplab_lib.common.files import read_json, write_json
from deeplab_lib.config import Config, as_begun
from deeplab_lib.study import planning
from deeplab_lib.study.grouping import schedule
from deeplab_lib.study.results import read_run, read_runs
from deeplab_lib.training import checkpoint
from deeplab_lib.training.loop import fit


def as_version_01_left_it(folder, stem):
    """Take from the files of the run `<stem>_text` what version 0.1 did not write, and give them their old names."""
    for path in sorted(folder.glob(f"{stem}_text.*")):
        path.rename(folder / path.name.replace("_text.", "."))
    for path in (folder / f"{stem}.pt", folder / f"{stem}.previous.pt"):
        if path.exists():
            state = checkpoint.load(path)
            del state["identity"]["follows"]
            checkpoint.save(path, state)
    if summary := read_json(folder / f"{stem}.json"):
        del summary["identity"]["follows"], summary["config"]["follows"]
        write_json(folder / f"{stem}.json", summary | {"stem": stem})
    (folder / f"{stem}.config.json").unlink()


def stop_after_three_epochs(event, run):
    if event == "epoch" and run.state.epoch == 4:
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def text_run(smoke_city, tmp_path_factory):
    """The CSV of the CE recipe as the study's text has it, trained without a stop."""
    config = Config("ce", follows="text", preset="smoke", out_dir=str(tmp_path_factory.mktemp("text")))
    return pd.read_csv(fit(config).csv)


@pytest.fixture(scope="module")
def begun(smoke_city, tmp_path_factory):
    """A folder of version 0.1: CE + Focal finished, CE stopped after three of its five epochs."""
    folder = tmp_path_factory.mktemp("begun")
    fit(Config("ce_focal", follows="text", preset="smoke", out_dir=str(folder)))
    with pytest.raises(RunStopped):
        fit(Config("ce", follows="text", preset="smoke", out_dir=str(folder)), callback=stop_after_three_epochs)
    for stem in ("DeepLabV2_ce05_f05_warnup_lr_0.0003", "DeepLabV2_ce"):
        as_version_01_left_it(folder, stem)
    return folder


@pytest.fixture
def old(begun, tmp_path):
    """The same folder, to be changed."""
    return shutil.copytree(begun, tmp_path / "old")


def test_an_unfinished_one_continues_as_it_began_and_says_so_in_a_line(old, text_run, capsys):
    folder = fit(Config("ce", preset="smoke", out_dir=str(old)))
    told = [line for line in capsys.readouterr().out.splitlines() if "version 0.1" in line]
    assert len(told) == 1 and told[0].startswith(f"DeepLabV2_ce in {old} was begun by version 0.1")
    assert "continues as it began" in told[0]
    assert folder.json == old / "DeepLabV2_ce.json" and folder.summary["finished"]
    pd.testing.assert_frame_equal(pd.read_csv(folder.csv).drop(columns=TIMINGS), text_run.drop(columns=TIMINGS))
    fit(Config("ce", preset="smoke", out_dir=str(old)))  # and it still is that run once it is finished
    assert "is finished and kept" in capsys.readouterr().out


def test_a_finished_one_is_kept(old, capsys):
    files = {path: path.read_bytes() for path in old.glob("DeepLabV2_ce05*.[cjn]*")}
    assert len(files) == 3
    fit(Config("ce_focal", preset="smoke", out_dir=str(old)))
    assert "is finished and kept" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in files} == files


def test_beside_a_new_run_its_schedule_is_its_own(old):
    dice = read_run(fit(Config("ce_dice", preset="smoke", out_dir=str(old))).csv)
    focal = read_run(old / "DeepLabV2_ce05_f05_warnup_lr_0.0003.csv")
    assert (focal.follows, dice.follows) == ("text", "logs") and len(read_runs(old)) == 3
    assert "lr 0.0001; power 0.9" in schedule(dice) and "by the study's text" in schedule(focal)


def test_a_command_that_asks_for_something_else_makes_a_run_of_its_own(old):
    for parameters in ({"follows": "text"}, {"follows": "code"}, {"seed": 1}, {"lr": 0.02}):
        config = Config("ce_focal", preset="smoke", out_dir=str(old), **parameters)
        assert as_begun(config) is config and not Path(config.out_dir, f"{config.stem}.csv").exists()


def test_a_parameter_means_what_it_meant(old, tmp_path, capsys):
    """A value that has become the recipe's own stood in the name of a run of version 0.1."""
    for path in old.glob("DeepLabV2_ce.*"):
        path.rename(old / path.name.replace("DeepLabV2_ce.", "DeepLabV2_ce_batch2_lr0.0001."))
    config = Config("ce", preset="paper", data="/somewhere", lr=0.0001, batch_size=3, out_dir=str(old))
    assert config.stem == "DeepLabV2_ce" and as_begun(config) is config
    summary = old / "DeepLabV2_ce_batch3_lr0.0001.json"
    write_json(summary, {"identity": {"lr": 0.0001}, "config": {}})
    assert as_begun(config).stem == "DeepLabV2_ce_batch3_lr0.0001" and as_begun(config).follows == "text"


def test_a_new_start_follows_the_logs(old, capsys):
    folder = fit(Config("ce_focal", preset="smoke", out_dir=str(old), resume=False))
    assert read_run(folder.csv).follows == "logs"
    kept = old / "DeepLabV2_ce05_f05_warnup_lr_0.0003.old1.json"
    assert "follows" not in read_json(kept)["identity"] and "version 0.1" not in capsys.readouterr().out


def test_the_graph_plans_it_under_its_old_name_and_as_it_began(old, capsys):
    settings = {"preset": "smoke", "runs": str(old), "recipes": ["ce_focal", "ce", "ce_dice"]}
    runs = planning.plan(planning.complete(settings))
    assert list(runs) == ["DeepLabV2_ce05_f05_warnup_lr_0.0003", "DeepLabV2_ce", "DeepLabV2_cv07_di03"]
    planning.check(runs)
    assert [planning.configured(run).follows for run in runs.values()] == ["text", "text", "logs"]
    assert capsys.readouterr().out == ""


def test_a_checkpoint_that_cannot_be_read_says_nothing(tmp_path):
    torch.save({"identity": {"epochs": 5}}, tmp_path / "DeepLabV2_ce.previous.pt")
    config = Config("ce", preset="smoke", out_dir=str(tmp_path))
    assert as_begun(config).follows == "text"
    (tmp_path / "DeepLabV2_ce.previous.pt").write_bytes(b"cut short")
    assert as_begun(config) is config
