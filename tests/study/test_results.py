"""Reading runs: names, final values, what may stand together, tables, printed numbers, status."""

import json

import filelock
import numpy as np
import pandas as pd
import pytest
from helpers import synthetic_runs
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_lib.analysis import findings, prose, tables
from deeplab_lib.analysis.numbers import Numbers
from deeplab_lib.labels import CLASS_NAMES
from deeplab_lib.recipes import RECIPES
from deeplab_lib.study import status
from deeplab_lib.study.foreign import REQUIRED, ResultsError, read_table
from deeplab_lib.study.grouping import Scope, methods, require_comparable, schedule, studies
from deeplab_lib.study.results import load_runs, parse_stem, read_run, read_runs


@pytest.fixture
def eight(tmp_path):
    synthetic_runs.write_runs(tmp_path, images=12, epochs=10)
    return tmp_path


@pytest.fixture
def old_csv(tmp_path):
    """One CSV of the original columns, four epochs, ready to be changed: `(path, frame, write)`."""
    synthetic_runs.write_runs(tmp_path, recipes=("ce",), images=12, epochs=4, legacy=True)
    path = tmp_path / "DeepLabV2_ce.csv"
    frame = pd.read_csv(path)
    assert list(frame) == REQUIRED
    return path, frame, lambda: frame.to_csv(path, index=False)


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_stems_of_the_study_name_their_recipe_whatever_the_case(recipe):
    for stem in (recipe.stem, recipe.stem.upper(), recipe.stem.replace("V2", "v2")):
        assert parse_stem(stem) == (recipe.key, "", 0)


@pytest.mark.parametrize(
    ("stem", "parsed"),
    [
        ("DeeplabV2_ce", ("ce", "", 0)),
        ("DeepLabV2_ce_seed3", ("ce", "", 3)),
        ("DeepLabV2_ce_lr0.0001", ("ce", "lr0.0001", 0)),
        ("DeepLabV2_ce07_tv03_seed2_schedule_ce", ("ce_tversky", "schedule_ce", 2)),
        ("DeepLabV2_cv07_di03_lr1e-05_seed4", ("ce_dice", "lr1e-05", 4)),
        ("DeepLabV2_ce07_l03_warnup_lr_0.0002_lr0.001", ("ce_lovasz_warmup", "lr0.001", 0)),
        ("DeepLabV2_ce07_l03_warmup_lr_0.0002", ("ce_lovasz_warmup", "", 0)),
        ("DeepLabV2_ce07_di03", ("ce_dice", "", 0)),
        ("DeepLabV2_0.6ce+0.4dice", (None, "0.6ce+0.4dice", 0)),
        ("DeepLabV2_ce05", (None, "ce05", 0)),
    ],
)
def test_stems_are_parsed(stem, parsed):
    assert parse_stem(stem) == parsed


def test_a_run_is_named_by_its_recipes_stem_whatever_its_files_case(old_csv):
    path, _, _ = old_csv
    run = read_run(path.rename(path.with_name("DeeplabV2_CE.csv")))
    assert (run.stem, run.recipe, run.title, run.label) == ("DeepLabV2_ce", "ce", "CE", "CE")


def test_a_stem_of_no_recipe_names_the_run_once(old_csv):
    path, _, _ = old_csv
    run = read_run(path.rename(path.with_name("my_experiment_seed2.csv")))
    assert (run.label, run.method_label) == ("my_experiment, seed 2", "my_experiment")


@pytest.mark.parametrize(
    ("stem", "loss", "label"),
    [
        ("ours_averaged", "ours_averaged", "Own"),
        ("ours_averaged_ema0.9", "ours_averaged", "Own, ema0.9"),
        ("DeepLabV2_0.6ce_0.4dice_lr0.5_seed1", "0.6*ce + 0.4*dice", "Own, lr0.5, seed 1"),
    ],
)
def test_a_run_of_no_recipe_keeps_what_sets_it_apart(tmp_path, stem, loss, label):
    synthetic_runs.write_runs(tmp_path, recipes=("ce",), images=8)
    record = json.loads((tmp_path / "DeepLabV2_ce.json").read_text())
    record |= {"recipe": None, "title": "Own", "stem": stem}
    record["config"] |= {"loss": loss, "seed": int("seed1" in stem)}
    (tmp_path / f"{stem}.json").write_text(json.dumps(record))
    assert read_run((tmp_path / "DeepLabV2_ce.csv").rename(tmp_path / f"{stem}.csv")).label == label


def test_two_files_of_one_run_are_refused(old_csv):
    path, frame, _ = old_csv
    frame.assign(Runtime=9.0).to_csv(path.with_name("deeplabv2_CE.csv"), index=False)
    with pytest.raises(ResultsError, match=r"DeepLabV2_ce\.csv and deeplabv2_CE\.csv are the same run; move one away"):
        read_runs(path.parent)


def test_what_a_fresh_start_moved_aside_is_no_run(eight):
    (eight / "DeepLabV2_ce.old1.csv").write_bytes((eight / "DeepLabV2_ce.csv").read_bytes())
    assert len(read_runs(eight)) == 8


def test_runs_come_in_the_studys_order(eight):
    assert [run.recipe for run in read_runs(eight)] == list(RECIPES)


# --- final values ----------------------------------------------------------------------------------------------------


def test_final_values_are_the_last_rows(old_csv):
    path, frame, _ = old_csv
    run = read_run(path)
    assert run.final_val_mIoU == frame.val_mIoU.iloc[-1]
    assert run.final_class_val == pytest.approx(frame.iloc[-1][[f"class_{c}_val" for c in range(19)]].to_numpy(float))
    assert run.notes == []


def test_final_columns_win_by_their_last_finite_row(old_csv):
    path, frame, write = old_csv
    frame["val_mIoU_final"] = [np.nan, 33.5, 34.5, np.nan]
    write()
    run = read_run(path)
    assert run.final_val_mIoU == 34.5
    assert run.notes == [
        "val_mIoU: the last finite value of val_mIoU_final is used",
        "val_mIoU_final: the last row is empty, epoch 3 is used",
    ]


def test_a_final_value_is_the_last_finite_one_of_any_column(old_csv):
    path, frame, write = old_csv
    frame["val_ce"] = [0.9, 0.7, 0.8, np.nan]
    write()
    run = read_run(path)
    assert run.final("val_ce") == 0.8 and np.isnan(run.final("val_boundary"))


def test_the_best_epoch_is_chosen_on_the_images_of_every_epoch(old_csv):
    """Two of eight images make the curve: the last epoch's own value there is not the headline, which is of all."""
    path, frame, write = old_csv
    frame["val_mIoU"], frame["val_mIoU_final"] = [10.0, 40.0, 20.0, 30.0], [np.nan, np.nan, np.nan, 34.5]
    write()
    path.with_suffix(".json").write_text(json.dumps({"config": {}, "dataset": {"val": 8, "val_each_epoch": 2}}))
    run = read_run(path)
    assert (run.final_val_mIoU, run.best, run.curve_images) == (34.5, (2, 40.0), (2, 8))
    assert not any("val_mIoU" in note for note in run.notes)


def test_the_best_epoch_is_the_first_of_the_highest(old_csv):
    path, frame, write = old_csv
    frame["val_mIoU"] = [10.0, 40.0, 20.0, 40.0]
    write()
    assert read_run(path).best == (2, 40)


def test_an_empty_final_column_changes_nothing(old_csv):
    path, frame, write = old_csv
    frame["val_mIoU_final"] = np.nan
    write()
    assert read_run(path).final_val_mIoU == frame.val_mIoU.iloc[-1]


def test_a_last_row_of_nan_falls_back_to_the_last_finite_one_and_says_so(old_csv):
    path, frame, write = old_csv
    frame.loc[3, REQUIRED[2:-1]] = np.nan
    write()
    run = read_run(path)
    assert run.final_val_mIoU == frame.val_mIoU[2]
    assert run.final_class_val[0] == frame.class_0_val[2]
    assert run.best == (3, frame.val_mIoU[:3].max()) or run.best[1] == frame.val_mIoU[:3].max()
    assert "val_mIoU: the last row is empty, epoch 3 is used" in run.notes
    assert "per-class validation IoU: the last row is empty, epoch 3 is used" in run.notes


def test_a_column_without_any_value_is_nan_and_noted(old_csv):
    path, frame, write = old_csv
    frame["val_mIoU"] = np.nan
    write()
    run = read_run(path)
    assert np.isnan(run.final_val_mIoU)
    assert "val_mIoU: no finite value" in run.notes


def test_an_absent_class_stays_nan_in_the_last_row(old_csv):
    path, frame, write = old_csv
    frame.loc[3, "class_16_val"] = np.nan
    write()
    assert np.isnan(read_run(path).final_class_val[16])


# --- malformed files -------------------------------------------------------------------------------------------------


def spoil(frame, column, row, value):
    frame[column] = frame[column].astype(object)
    frame.loc[row, column] = value


@pytest.mark.parametrize(
    ("column", "row", "value", "message"),
    [
        ("val_mIoU", 1, "abc", r"column val_mIoU, row 3: 'abc' is not a number"),
        ("class_4_val", 0, "12,5", r"column class_4_val, row 2: '12,5' is not a number"),
        ("train_mIoU", 2, 140, r"column train_mIoU, row 4: 140 is no percentage from 0 to 100"),
        ("val_mIoU", 2, -1, r"column val_mIoU, row 4: -1 is no percentage"),
        ("epoch", 1, -1, r"column epoch, row 3: -1; epochs are 1, 2, \.\.\., whole numbers"),
        ("epoch", 0, 1e9, r"column epoch, row 2: 1e\+09; epochs"),
        ("epoch", 3, 3.5, r"column epoch, row 5: 3\.5; epochs"),
        ("epoch", 3, "", r"column epoch, row 5: nan; epochs"),
    ],
)
def test_a_wrong_cell_is_named_by_file_column_and_row(old_csv, column, row, value, message):
    path, frame, write = old_csv
    spoil(frame, column, row, value)
    write()
    with pytest.raises(ResultsError, match=message) as caught:
        read_table(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_columns_are_named(old_csv):
    path, frame, _ = old_csv
    frame.drop(columns="epoch").to_csv(path, index=False)
    with pytest.raises(ResultsError, match=r"row 1: column epoch is missing"):
        read_table(path)
    frame[["epoch", "lr"]].to_csv(path, index=False)
    with pytest.raises(ResultsError, match=r"column val_mIoU or val_loss is missing; .* Its columns: epoch, lr$"):
        read_table(path)


def test_what_a_table_lacks_beyond_that_is_absent(old_csv):
    path, frame, _ = old_csv
    frame.drop(columns=["lr", "Runtime"]).to_csv(path, index=False)
    run = read_run(path)
    assert run.absent == ["lr", "Runtime"]
    assert list(run.table) == REQUIRED
    assert run.table[["lr", "Runtime"]].isna().all(axis=None)
    assert "the columns lr and Runtime" in run.missing


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\xff\xfe\x00\x01" * 8, "not a comma-separated table|column"),
        (b'epoch,lr\n1,"2\n3', "not a comma-separated table|is missing"),
        (b"PK\x03\x04 not a table", "is missing|not a comma-separated table"),
    ],
)
def test_a_file_that_is_no_table_gives_one_line(tmp_path, content, message):
    path = tmp_path / "DeepLabV2_ce.csv"
    path.write_bytes(content)
    with pytest.raises(ResultsError, match=message) as caught:
        read_table(path)
    assert len(str(caught.value).splitlines()) == 1


@settings(max_examples=40)
@given(data=st.data())
def test_a_damaged_csv_is_read_as_meant_or_refused_in_one_line(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("fuzz")
    synthetic_runs.write_runs(folder, recipes=("ce",), images=8, epochs=3, legacy=True)
    path = folder / "DeepLabV2_ce.csv"
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    path.write_bytes(bytes(content))
    try:
        run = read_run(path)
    except ResultsError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)
    else:
        assert np.isnan(run.final_val_mIoU) or 0 <= run.final_val_mIoU <= 100


def test_extra_columns_and_an_index_column_do_no_harm(old_csv):
    path, frame, _ = old_csv
    frame.assign(score=1.5, remark="first try").to_csv(path)
    table = read_table(path).frame
    assert list(table) == [*REQUIRED, "score"]
    pd.testing.assert_frame_equal(table[REQUIRED], frame[REQUIRED], check_dtype=False)


def test_rows_are_counted_as_an_editor_counts(old_csv):
    path, frame, write = old_csv
    spoil(frame, "lr", 2, "x")
    write()
    path.write_text(path.read_text().replace("\n", "\n\n", 1))
    with pytest.raises(ResultsError, match=r"column lr, row 5: 'x'"):
        read_table(path)


def test_a_decimal_comma_and_a_doubled_column_are_explained(old_csv):
    path, _, _ = old_csv
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], lines[2].replace(".", ",", 1), *lines[3:]]))
    with pytest.raises(ResultsError, match=r"row 3: 46 values for 45 columns; is a comma used as decimal point"):
        read_table(path)
    path.write_text(lines[0].replace("val_loss", "train_loss") + "\n" + lines[1])
    with pytest.raises(ResultsError, match="column train_loss stands twice"):
        read_table(path)


def test_a_damaged_json_or_npz_gives_one_line(eight):
    (eight / "DeepLabV2_ce.npz").write_bytes(b"PK but no archive")
    run = read_run(eight / "DeepLabV2_ce.csv")
    with pytest.raises(ResultsError, match=r"DeepLabV2_ce\.npz: not a readable NPZ"):
        _ = run.arrays
    (eight / "DeepLabV2_ce.json").write_text('{"config": ')
    with pytest.raises(ResultsError, match=r"DeepLabV2_ce\.json: not readable"):
        read_run(eight / "DeepLabV2_ce.csv")


def test_an_empty_folder_says_what_to_do_and_an_absent_one_that_it_is_none(tmp_path):
    with pytest.raises(ResultsError, match="no run's CSV here; train one"):
        read_runs(tmp_path)
    (tmp_path / "toycity").mkdir()
    with pytest.raises(ResultsError, match="there is no such folder; the nearest there is toycity"):
        read_runs(tmp_path / "toycitty")
    with pytest.raises(ResultsError, match=r"there is no such folder$"):
        read_runs(tmp_path / "nowhere" / "at all")


def test_kind_2_runs_in_a_sub_folder_that_is_not_read_are_pointed_to_and_the_advice_works(tmp_path):
    synthetic_runs.write_runs(tmp_path / "old", recipes=("ce",), images=12, epochs=4)
    with pytest.raises(ResultsError, match="there are some in ") as error:
        read_runs(tmp_path)
    folder = str(error.value).partition("there are some in ")[2].partition(": name that folder")[0]
    assert [run.recipe for run in read_runs(folder)] == ["ce"]


# --- old and unfinished runs -----------------------------------------------------------------------------------------


def test_an_old_csv_says_what_is_missing_and_counts_as_finished(old_csv):
    path, _, _ = old_csv
    run = read_run(path)
    assert run.legacy
    assert run.finished
    assert (run.epoch, run.epochs) == (4, 4)
    assert [phrase.partition(" (")[2] for phrase in run.missing] == ["no JSON)", "no NPZ)", "no val_ce column)"]


def test_a_csv_of_ours_without_json_is_unfinished(tmp_path):
    synthetic_runs.write_runs(tmp_path, images=12, epochs=10)
    synthetic_runs.write_runs(tmp_path, recipes=("ce",), seeds=(5,), unfinished_at=4, images=12)
    runs = read_runs(tmp_path)
    open_run = next(run for run in runs if run.seed == 5)
    assert not open_run.finished
    assert open_run.epoch == 4
    assert "not finished" in open_run.notes[0]
    (study,) = studies(runs)
    assert study.unfinished == [open_run]
    assert open_run not in study.finished
    assert "CE, seed 5 at epoch 4." in prose.unfinished(study.runs, Numbers())


# --- what may stand together -----------------------------------------------------------------------------------------


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


# --- tables ----------------------------------------------------------------------------------------------------------


def test_results_table_holds_ours_and_the_published_beside(eight):
    efficiency = {"rows": [{"model": "deeplabv2_mini", "height": 128, "width": 256, "device": "cpu", "device_name": "X",
                            "threads": 1, "parameters": 9, "macs": 512_000_000, "flops": 1_024_000_000,
                            "latency_ms": {"median": 9.5, "q1": 9.0, "q3": 11.0, "n": 100}}]}  # fmt: skip
    (eight / "efficiency.json").write_text(json.dumps(efficiency))
    runs = read_runs(eight)
    table = tables.results_table(runs, tables.read_efficiency(eight))
    row = table.loc["DeepLabV2_ce05_f05_warnup_lr_0.0003"]
    record = json.loads((eight / "DeepLabV2_ce05_f05_warnup_lr_0.0003.json").read_text())
    assert row.val_mIoU == pytest.approx(record["final"]["val_mIoU"])
    assert (row.latency_ms, row.GMACs, row.parameters) == (9.5, 0.512, 210_000)
    assert (row.published_val_mIoU, row.published_parameters) == (53.9948, 2_835_724)
    assert list(table.index) == [recipe.stem for recipe in RECIPES.values()]


def test_what_was_not_measured_is_nan_and_prints_as_such(eight):
    numbers = Numbers()
    table = tables.results_table(read_runs(eight))
    assert table.latency_ms.isna().all()
    printed = numbers.table("results", table[["latency_ms"]], {"latency_ms": ".1f"})
    assert set(printed.latency_ms) == {"–"}
    assert numbers["results.DeepLabV2_ce.latency_ms"] is None


def test_ablations_and_custom_losses_have_no_published_figures(eight):
    synthetic_runs.write_runs(eight, recipes=("ce",), suffix="lr0.0001", images=12)
    table = tables.results_table(read_runs(eight))
    assert np.isnan(table.published_val_mIoU["DeepLabV2_ce_lr0.0001"])


def test_final_table_is_the_confusion_matrices_iou(eight):
    table = tables.final_table(read_runs(eight))
    for stem in table.index:
        with np.load(eight / f"{stem}.npz") as arrays:
            iou = synthetic_runs.iou(arrays["confusion"].sum(0))
        assert table.loc[stem, list(CLASS_NAMES)].to_numpy(float) == pytest.approx(iou, nan_ok=True)
        assert table.val_mIoU[stem] == pytest.approx(np.nanmean(iou))


def test_published_final_table_is_the_studys():
    table = tables.published_final_table()
    assert table.loc["DeepLabV2_ce07_tv03", "road"] == 71.2810
    assert table.loc["DeepLabV2_ce06_l0.2_fo0.2_no_warnup_lr_0.0001", "bicycle"] == 25.0476
    assert table.loc["DeepLabV2_ce"].isna().all()


def test_seeds_and_shares_by_hand(eight):
    synthetic_runs.write_runs(eight, recipes=("ce",), seeds=(1,), images=12)
    runs = read_runs(eight)
    a, b = (run.final_val_mIoU for run in runs[:2])
    assert findings.seed_deviations(runs) == pytest.approx({"CE": abs(a - b) / 2**0.5}), "the others have one seed"
    shares = tables.class_shares(runs)
    assert shares.sum() == pytest.approx(100)
    confusion = np.load(eight / "DeepLabV2_ce.npz")["confusion"]
    assert shares["car"] == pytest.approx(100 * confusion[:, 13].sum() / confusion.sum())


def test_provenance_tells_where_a_run_comes_from(eight, tmp_path_factory):
    runs = read_runs(eight)
    table = tables.provenance_table(runs)
    column = table["DeepLabV2_ce"]
    assert column["configuration: batch_size"] == "2"
    assert column["data: fingerprint"] == "ab" * 32
    assert column["version: torch"] == "2.8.0"
    assert column["interruptions"] == "none"
    runs[0].record["sessions"].insert(0, {"reason": "interrupted", "ended": "2026-01-01T09:00:00"})
    assert "interrupted at 2026-01-01T09:00:00" in tables.provenance_table(runs).loc["interruptions", "DeepLabV2_ce"]


def test_configurations_tell_changes(eight):
    table = tables.configurations(read_runs(eight))
    assert table.lr["DeepLabV2_ce"] == pytest.approx(0.006)
    assert table.weights["DeepLabV2_ce05_lv05"] == "0.5/0.5"
    assert table.changes["DeepLabV2_ce05_f05_warnup_lr_0.0003"].endswith("power 1, layer3 and layer4 frozen")
    assert table.changes["DeepLabV2_ce"] == "–"


def test_seeds_of_one_schedule_share_a_row_and_a_seed_that_departs_has_its_own(tmp_path):
    synthetic_runs.write_runs(tmp_path, ["ce", "ce_dice"], seeds=(0, 1), images=4, epochs=2)
    runs = read_runs(tmp_path)
    assert list(tables.configurations(runs).index) == ["DeepLabV2_ce", "DeepLabV2_cv07_di03"]
    changed = next(run for run in runs if run.stem == "DeepLabV2_ce_seed1")
    changed.record["config"]["lr"] = 0.5
    table = tables.configurations(runs)
    assert list(table.index) == ["DeepLabV2_ce", "DeepLabV2_ce_seed1", "DeepLabV2_cv07_di03"]
    assert table.lr["DeepLabV2_ce_seed1"] == 0.5


# --- printed numbers -------------------------------------------------------------------------------------------------


def test_numbers_register_what_they_print(tmp_path):
    numbers = Numbers()
    assert numbers.put("a.b", 41.236, ".1f") == "41.2"
    assert numbers.put("a.c", np.float64("nan")) == "–"
    assert numbers.put("a.d", np.int64(43901068), ",d") == "43,901,068"
    numbers.save(tmp_path / "numbers.json")
    assert json.loads((tmp_path / "numbers.json").read_text()) == {
        "a.b": {"value": 41.236, "text": "41.2"},
        "a.c": {"value": None, "text": "–"},
        "a.d": {"value": 43901068, "text": "43,901,068"},
    }


def test_one_key_holds_one_number():
    numbers = Numbers()
    numbers.put("x", 1.0)
    assert numbers.put("x", 1.0) == "1.00"
    with pytest.raises(ValueError, match="choose another key"):
        numbers.put("x", 2.0)
    with pytest.raises(ValueError, match="a number is needed"):
        numbers.put("y", "1.0")


def test_a_table_of_numbers_keeps_its_words():
    numbers = Numbers()
    frame = pd.DataFrame({"method": ["CE"], "mIoU": [41.236]}, index=["ce"])
    printed = numbers.table("results", frame, {"mIoU": ".1f"})
    assert printed.loc["ce"].tolist() == ["CE", "41.2"]
    assert dict(numbers.items()) == {"results.ce.mIoU": {"value": 41.236, "text": "41.2"}}


# --- status ----------------------------------------------------------------------------------------------------------


STEMS = [recipe.stem for recipe in RECIPES.values()]


def test_status_tells_every_run(tmp_path):
    synthetic_runs.write_runs(tmp_path, recipes=("ce", "ce_dice"), images=12)
    synthetic_runs.write_runs(tmp_path, recipes=("ce_focal", "ce_lovasz"), images=12, unfinished_at=4)
    with filelock.FileLock(tmp_path / f"{RECIPES['ce_focal'].stem}.lock"):
        table = status.status(tmp_path, STEMS).set_index("run")
    state = {key: table.state[RECIPES[key].stem] for key in RECIPES}
    assert state == {
        "ce": "finished", "ce_tversky": "not started", "ce_lovasz": "stopped after epoch 4", "ce_dice": "finished",
        "ce_lovasz_warmup": "not started", "ce_focal": "running", "ce_lovasz_dice": "not started",
        "ce_lovasz_focal": "not started",
    }  # fmt: skip
    stopped = table.loc[RECIPES["ce_lovasz"].stem]
    runtime = pd.read_csv(tmp_path / f"{RECIPES['ce_lovasz'].stem}.csv").Runtime
    assert (stopped.epoch, stopped.epochs) == (4, 10)
    assert stopped.seconds_left == pytest.approx(6 * runtime.tail(3).mean())
    assert 90 < table.seconds_left["DeepLabV2_ce07_tv03"] < 150, "an unstarted run takes as long as the others"


def test_status_of_a_folder_where_nothing_may_be_locked(tmp_path, monkeypatch):
    for recipe in ("ce", "ce_dice"):
        synthetic_runs.write_runs(tmp_path, recipes=(recipe,), images=12, unfinished_at=4)
        (tmp_path / f"{RECIPES[recipe].stem}.lock").touch()
    (tmp_path / f"{RECIPES['ce'].stem}.holder").write_text("process 1 on another machine")
    monkeypatch.setattr(
        filelock.FileLock, "acquire", lambda *given, **options: (_ for _ in ()).throw(PermissionError())
    )
    state = status.status(tmp_path).set_index("run").state
    assert [state[RECIPES[recipe].stem] for recipe in ("ce", "ce_dice")] == ["running", "stopped after epoch 4"]


def test_status_survives_nothing_and_damage(tmp_path):
    assert set(status.status(tmp_path / "nowhere", STEMS).state) == {"not started"}
    assert list(status.render(status.status(tmp_path / "nowhere"))) == ["no runs"]
    (tmp_path / "DeepLabV2_ce.csv").write_text("epoch,lr\n")
    assert "not readable" in set(status.status(tmp_path).state)


def test_what_cannot_be_known_is_not_told_as_zero(tmp_path):
    nothing = status.status(tmp_path, STEMS)
    assert nothing.seconds_left.isna().all()
    assert not [line for line in status.render(nothing) if " 0 s" in line]


def test_status_shows_folders_of_runs_alone_and_refuses_what_is_none(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(status, "project_root", lambda: tmp_path)
    (tmp_path / "workflow").mkdir()
    (tmp_path / "workflow" / "config.yaml").write_text(f"preset: smoke\nrecipes: [ce]\nruns: {tmp_path / 'planned'}\n")
    (tmp_path / "runs" / "predictions").mkdir(parents=True)
    synthetic_runs.write_runs(tmp_path / "runs" / "mine", recipes=("ce",), images=12, epochs=4)
    status.main([])
    shown = capsys.readouterr().out
    assert "mine:" in shown and "predictions" not in shown
    assert [line.split()[0] for line in shown.splitlines() if "not started" in line] == ["DeepLabV2_ce"]
    with pytest.raises(SystemExit, match="nowhere is no folder of runs"):
        status.main([tmp_path / "nowhere"])
    (tmp_path / "workflow" / "config.yaml").write_text("seeds: 3\n")
    with pytest.raises(SystemExit, match=r"workflow/config.yaml: seeds is 3; it must be a list"):
        status.main([])


def test_status_prints_a_line_a_run(eight, capsys):
    status.main([eight])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 8
    assert lines[2].split()[:2] == ["DeepLabV2_ce", "10/10"]
    assert lines[2].endswith("finished")


@pytest.mark.parametrize(
    ("seconds", "text"), [(50, "50 s"), (720, "12 min"), (11_100, "3 h 05 min"), (float("nan"), "unknown")]
)
def test_durations_read_well(seconds, text):
    assert status.duration(seconds) == text
