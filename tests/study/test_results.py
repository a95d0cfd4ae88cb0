"""Reading runs: names, final values, malformed files, old and unfinished runs."""

import json

import numpy as np
import pandas as pd
import pytest
from helpers import synthetic_runs
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_lib.analysis import prose
from deeplab_lib.analysis.numbers import Numbers
from deeplab_lib.recipes import RECIPES
from deeplab_lib.study.foreign import REQUIRED, ResultsError, read_table
from deeplab_lib.study.grouping import studies
from deeplab_lib.study.results import parse_stem, read_run, read_runs


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
