"""Which runs may stand in one table: data sets, lengths, variants, weights, schedules."""

import json

import numpy as np
import pandas as pd
import pytest
from helpers import synthetic_runs

from deeplab_lib.analysis import tables
from deeplab_lib.study.foreign import ResultsError
from deeplab_lib.study.grouping import Scope, methods, require_comparable, schedule, studies
from deeplab_lib.study.results import load_runs, read_runs


def test_one_frame_holds_all_runs(eight):
    frame = load_runs(eight)
    assert len(frame) == 8 * 10
    assert list(frame)[:8] == ["run", "recipe", "title", "variant", "seed", "finished", "dataset", "preset"]
    one = frame[frame.run == "DeepLabV2_cv07_di03"]
    assert list(one.epoch) == list(range(1, 11))
    assert set(one.recipe) == {"ce_dice"}
    own = pd.read_csv(eight / "DeepLabV2_cv07_di03.csv")
    np.testing.assert_array_equal(one.val_mIoU.to_numpy(), own.val_mIoU.to_numpy())


@pytest.mark.parametrize("different", [{"epochs": 12}, {"preset": "smoke"}, {"dataset": "streets"}])
def test_data_sets_presets_and_epochs_are_never_mixed(eight, different):
    synthetic_runs.write_runs(eight, recipes=("ce",), seeds=(9,), images=12, **different)
    runs = read_runs(eight)
    first, second = studies(runs)
    assert [len(first.runs), len(second.runs)] == [8, 1]
    with pytest.raises(ResultsError, match="may not stand in one table"):
        require_comparable(runs)
    with pytest.raises(ResultsError, match="may not stand in one table"):
        tables.results_table(runs)
    assert len(tables.results_table(first.runs)) == 8


def test_a_scope_says_what_it_is(eight):
    (study,) = studies(read_runs(eight))
    assert str(study.scope) == "synthetic toy city, demo scale, 10 epochs, 256 × 128"
    assert str(Scope(None, None, None, 50, None)) == "data set not recorded, 50 epochs"


def test_old_csvs_stand_beside_ours_not_among_them(eight, tmp_path_factory):
    old = tmp_path_factory.mktemp("old")
    synthetic_runs.write_runs(old, recipes=("ce",), images=12, epochs=10, legacy=True)
    (eight / "DeepLabV2_ce_seed1.csv").write_bytes((old / "DeepLabV2_ce.csv").read_bytes())
    ours, theirs = studies(read_runs(eight))
    assert len(ours.runs) == 8
    assert [run.legacy for run in theirs.runs] == [True]


def test_ablations_are_told_from_recipes_and_seeds_are_one_method(eight):
    synthetic_runs.write_runs(eight, recipes=("ce",), seeds=(1, 2), images=12)
    synthetic_runs.write_runs(eight, recipes=("ce",), suffix="lr0.0001", images=12)
    (study,) = studies(read_runs(eight))
    assert [run.label for run in study.ablations] == ["CE, lr0.0001"]
    assert len(study.recipes) == 10
    assert [run.seed for run in methods(study.recipes)["DeepLabV2_ce"]] == [0, 1, 2]


def started_from(path, weights, **recorded):
    """Rewrite a run's JSON as if it had started from the `weights`."""
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"identity": {"weights": weights}} | recorded))


def test_runs_that_found_other_weights_than_the_rest_are_no_recipes_as_they_are(eight):
    for path in eight.glob("*.json"):
        started_from(path, "63fe2227" + "0" * 56)
    started_from(eight / "DeepLabV2_cv07_di03.json", "from scratch")
    synthetic_runs.write_runs(eight, recipes=("ce",), seeds=(1,), images=12)
    started_from(eight / "DeepLabV2_ce_seed1.json", "cd907fc2" + "0" * 56)
    (study,) = studies(read_runs(eight))
    assert len(study.recipes) == 7
    assert [run.label for run in study.ablations] == ["CE, weights cd907fc2, seed 1", "CE + Dice, weights from scratch"]
    assert [run.seed for run in methods(study.runs)["DeepLabV2_ce"]] == [0]


def test_weights_that_are_recorded_elsewhere_or_not_at_all_set_no_run_apart(eight):
    """A run's own first stage, a file that the stem names, and JSONs that say nothing of weights."""
    for number, path in enumerate(sorted(eight.glob("*.json"))[:4]):
        started_from(path, f"{number:064}", first_stage={"stem": "DeepLabV2_ce_split_train_extra"})
    synthetic_runs.write_runs(eight, recipes=("ce",), suffix="pretrainednone", images=12)
    started_from(eight / "DeepLabV2_ce_pretrainednone.json", "from scratch")
    (study,) = studies(read_runs(eight))
    assert len(study.recipes) == 8 and [run.label for run in study.ablations] == ["CE, pretrainednone"]


def test_what_all_recipes_depart_in_makes_no_ablation_of_any(tmp_path):
    """It is told of the study; what a run departs in besides stays with the run, the unfinished ones included."""
    synthetic_runs.write_runs(tmp_path, recipes=("ce", "ce_dice"), suffix="batch4_lr0.5", images=12)
    synthetic_runs.write_runs(tmp_path, recipes=("ce",), suffix="batch4_lr0.5_ema0.9", images=12)
    synthetic_runs.write_runs(tmp_path, recipes=("ce_focal",), suffix="batch4_lr0.5", images=12, unfinished_at=3)
    (study,) = studies(read_runs(tmp_path))
    assert [run.label for run in study.recipes] == ["CE", "CE + Dice"]
    assert [run.label for run in study.ablations] == ["CE, ema0.9"]
    assert [run.label for run in study.unfinished] == ["CE + Focal"]
    assert str(study) == "synthetic toy city, demo scale, 10 epochs, 256 × 128, all with batch4 lr0.5"


def test_a_length_of_their_own_is_told_by_the_epochs_alone(tmp_path):
    synthetic_runs.write_runs(tmp_path, recipes=("ce", "ce_dice"), suffix="epochs12", epochs=12, images=12)
    (study,) = studies(read_runs(tmp_path))
    assert len(study.recipes) == 2 and str(study) == str(study.scope)


def test_recipes_as_they_are_come_before_recipes_that_all_depart(eight):
    synthetic_runs.write_runs(eight, suffix="epochs12", epochs=12, images=12)
    synthetic_runs.write_runs(eight, ("ce",), suffix="epochs12_ema0.9", epochs=12, images=12)
    assert [study.scope.epochs for study in studies(read_runs(eight))] == [10, 12]


def test_the_control_shares_the_baselines_schedule(eight):
    synthetic_runs.write_runs(eight, recipes=("ce_focal",), schedule="ce", images=12)
    runs = {run.stem: run for run in read_runs(eight)}
    control = runs["DeepLabV2_ce05_f05_warnup_lr_0.0003_schedule_ce"]
    assert control.label == "CE + Focal, schedule of CE"
    assert schedule(control) == schedule(runs["DeepLabV2_ce"])
    assert schedule(runs["DeepLabV2_ce05_f05_warnup_lr_0.0003"]) != schedule(runs["DeepLabV2_ce"])
