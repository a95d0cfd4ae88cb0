"""Coarse labels, then fine, by one call: two runs, of which the second starts from the first's weights."""

import os
import shutil
import signal

import pandas as pd
import pytest
import torch

from deeplab_lib.analysis.beyond import ablation
from deeplab_lib.common.errors import RunStopped
from deeplab_lib.common.files import read_json
from deeplab_lib.config import Config
from deeplab_lib.plotting.live import Live
from deeplab_lib.study import planning
from deeplab_lib.study.grouping import studies
from deeplab_lib.study.results import read_runs
from deeplab_lib.study.status import status
from deeplab_lib.training import checkpoint
from deeplab_lib.training.loop import fit
from deeplab_lib.training.run_folder import RunFolder

TIMINGS = ["Runtime", "images_per_s", "peak_memory_MB"]
PARAMETERS = {"loss": "ours_two_stage", "coarse_epochs": 1, "epochs": 2}


def files(config):
    return RunFolder.of(config)


@pytest.fixture(scope="module")
def undisturbed(smoke_city, tmp_path_factory):
    """The configuration of a run of two stages, made without a stop."""
    folder = tmp_path_factory.mktemp("two_stages")
    config = Config(**PARAMETERS, preset="smoke", device="cpu", amp="off", out_dir=str(folder))
    fit(config)
    return config


def test_the_second_run_starts_from_the_best_weights_of_the_first(undisturbed):
    first, own = undisturbed.first_stage, files(undisturbed)
    assert (first.split, first.epochs, first.coarse_epochs) == ("train_extra", 1, 0)
    coarse, fine = (read_json(files(config).path(".json")) for config in (first, undisturbed))
    assert coarse["dataset"]["split"] == "train_extra" and fine["dataset"]["split"] == "train"
    assert fine["weights"]["path"] == str(files(first).path(".best.pt")) and fine["weights"]["head"]
    assert fine["first_stage"]["stem"] == first.stem and fine["first_stage"]["wall_time_s"] == coarse["wall_time_s"]
    assert "first_stage" not in coarse
    assert len(pd.read_csv(own.path(".csv"))) == 2 and len(pd.read_csv(files(first).path(".csv"))) == 1


def test_named_knobs_make_the_same_of_any_loss(smoke):
    config = smoke(loss="ce", coarse_epochs=3, seed=2)
    assert config.stem == "DeepLabV2_ce_seed2_coarse3"
    assert config.first_stage.stem == "DeepLabV2_ce_seed2_epochs3_split_train_extra"
    assert smoke(coarse_epochs=0).stem == smoke().stem and smoke().first_stage is None
    assert "coarse_epochs" not in smoke().result_dict()
    with pytest.raises(ValueError, match="coarse_epochs is 3, but split is train_extra; use split=train"):
        smoke(coarse_epochs=3, split="train_extra")


def test_what_drawing_took_in_the_first_stage_does_not_count_in_the_second(smoke, capsys):
    live = Live()
    live.drawing = 1e9
    fit(smoke(**PARAMETERS), callback=live)
    assert "min left" in (told := capsys.readouterr().out) or " s left" in told
    assert "unknown" not in told and live.drawing < 1e9


@pytest.mark.parametrize(("split", "step"), [("train_extra", 4), ("train", 4), ("train", 14)])
def test_stopped_anywhere_the_same_command_ends_as_if_undisturbed(undisturbed, smoke, split, step):
    def cut(event, run):
        if event == "step" and run.config.split == split and run.state.step == step:
            run.stop.requested = "SIGTERM"

    again = smoke(**PARAMETERS)
    with pytest.raises(RunStopped):
        fit(again, callback=cut)
    assert not files(again).path(".json").exists()
    fit(again)
    for one, other in ((undisturbed, again), (undisturbed.first_stage, again.first_stage)):
        tables = [pd.read_csv(files(c).path(".csv"), dtype=str).drop(columns=TIMINGS) for c in (one, other)]
        pd.testing.assert_frame_equal(*tables)
        states = [checkpoint.load(files(c).path(".pt"))["model"] for c in (one, other)]
        assert all(torch.equal(states[0][key], value) for key, value in states[1].items())


def test_a_stop_as_the_first_stage_ends_does_not_begin_the_second(smoke):
    config, trained = smoke(**PARAMETERS), []

    def callback(event, run):
        trained.extend([run.config.split] * (event == "step"))
        if (event, run.config.split) == ("finish", "train_extra"):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(RunStopped, match="stopped by SIGTERM between the two stages; the first is complete"):
        fit(config, callback=callback)
    assert set(trained) == {"train_extra"} and files(config.first_stage).path(".json").exists()
    fit(config, callback=lambda event, run: trained.append(run.config.split) if event == "start" else None)
    assert trained[-1] == "train"


def test_other_weights_of_the_first_stage_make_another_run(undisturbed, tmp_path):
    folder = shutil.copytree(undisturbed.out_dir, tmp_path / "copy")
    moved = Config(**PARAMETERS, preset="smoke", device="cpu", amp="off", out_dir=str(folder))
    assert fit(moved).folder == folder, "a finished run is found finished wherever it lies"
    best = files(moved.first_stage).path(".best.pt")
    checkpoint.save(best, checkpoint.load(best) | {"best": {"epoch": 9, "val_mIoU": 0.0}})
    with pytest.raises(ValueError, match="holds a run that differs in weights: "):
        fit(moved)


def test_data_that_lack_one_of_the_two_are_refused_before_anything_is_trained(smoke, smoke_city, tmp_path):
    fit_nothing = {"callback": lambda event, run: pytest.fail("training began")}
    bare = shutil.ignore_patterns("toycity.json", "gtCoarse", "train_extra")
    city = shutil.copytree(smoke_city, tmp_path / "fine", ignore=bare)
    with pytest.raises(FileNotFoundError, match="looked for leftImg8bit/train_extra"):
        fit(smoke(**PARAMETERS, data=str(city)), **fit_nothing)
    (city / "leftImg8bit" / "train").rename(city / "leftImg8bit" / "train_extra")
    (city / "gtFine" / "train").rename(city / "gtFine" / "elsewhere")
    with pytest.raises(FileNotFoundError, match="looked for leftImg8bit/train/"):
        fit(smoke(**PARAMETERS, data=str(city)), **fit_nothing)


def test_status_and_report_know_a_stage_from_a_run(undisturbed, smoke, tmp_path):
    folder = shutil.copytree(undisturbed.out_dir, tmp_path / "copy")
    fit(smoke(loss="ce", epochs=2, out_dir=str(folder)))
    rows = status(folder).set_index("run").state
    assert rows[undisturbed.stem] == rows[undisturbed.first_stage.stem] == "finished"
    assert len(rows) == 3
    runs = read_runs(folder)
    main, *others = studies(runs)
    assert not any(run.stage for run in main.runs)
    assert [run.stage for other in others for run in other.runs] == [True]
    assert "coarse labels" in others[0].runs[0].label
    table = ablation(runs, resamples=200)
    assert set(table.index) == {"DeepLabV2_ce_epochs2", undisturbed.stem}
    fine, coarse = (read_json(files(c).path(".json")) for c in (undisturbed, undisturbed.first_stage))
    assert table.seconds[undisturbed.stem] == pytest.approx(fine["wall_time_s"] + coarse["wall_time_s"])


def test_an_unfinished_stage_stands_apart_too(undisturbed, tmp_path):
    folder = shutil.copytree(undisturbed.out_dir, tmp_path / "copy")
    first, own = RunFolder(folder, undisturbed.first_stage.stem), RunFolder(folder, undisturbed.stem)
    for path in (first.path(".json"), own.path(".json"), own.path(".csv")):
        path.unlink()
    (only,) = studies(read_runs(folder))
    assert [run.stage for run in only.runs] == [True] and not only.recipes
    parameters = PARAMETERS | {"preset": "smoke", "out_dir": str(folder)}
    assert planning.where(folder, undisturbed.stem, parameters) == "stopped after epoch 1 of 1 on coarse labels"
