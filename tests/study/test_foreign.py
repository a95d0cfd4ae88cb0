"""Tables of runs as other tools write them: each small export here is made up, in the form that the tool gives it."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_lib.study.foreign import CLASS_TRAIN, CLASS_VAL, REQUIRED, NoRunTable, ResultsError, canonical, read_table
from deeplab_lib.study.results import read_folder, read_run

EPOCHS = 4


def ours(epochs=EPOCHS):
    """What every export of this run must be read as: `REQUIRED` for epochs 1, 2, ..."""
    e = np.arange(1, epochs + 1)
    columns = {"epoch": e, "lr": 1e-4 * (1 - e / epochs) ** 0.9, "train_loss": 1 / e, "val_loss": 1.5 / e}
    columns |= {
        f"class_{c}_{split}": 10.5 + 2 * c + e + (split == "val") for split in ("train", "val") for c in range(19)
    }
    frame = pd.DataFrame(columns | {"Runtime": 100.0 + e})
    frame["train_mIoU"], frame["val_mIoU"] = frame[CLASS_TRAIN].mean(axis=1), frame[CLASS_VAL].mean(axis=1)
    return frame[REQUIRED]


def written(tmp_path, text, name="run.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


def assert_read_as(table, expected, columns=REQUIRED):
    pd.testing.assert_frame_equal(table.frame[list(columns)], expected[list(columns)], check_dtype=False)


def run_table(frame):
    """A run table exported from Weights & Biases, one run an epoch, newest first, with lists and all."""
    frame = frame.copy()
    frame["val_mIoU_per_class"] = [json.dumps(row) for row in frame[CLASS_VAL].to_numpy().tolist()]
    frame.insert(0, "Name", [f"epoch_{e}" for e in frame.epoch])
    frame.insert(1, "State", "finished")
    frame.insert(2, "Notes", "-")
    frame.insert(3, "Created", [f"2025-05-{e:02d}T10:00:00.000Z" for e in frame.epoch])
    frame["val_latency"] = [np.nan] * (len(frame) - 1) + [141.06]
    return frame[[*sorted(frame.columns[:4]), *sorted(frame.columns[4:])]].iloc[::-1]


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("val_mIoU", "val_mIoU"),
        ("val_miou", "val_mIoU"),
        ("val_mIoU_epoch", "val_mIoU"),
        ("val/mIoU", "val_mIoU"),
        ("val/val_mIoU", "val_mIoU"),
        ("train/loss_epoch", "train_loss"),
        ("train/lr", "lr"),
        ("val/class_7", "class_7_val"),
        ("class_7_train", "class_7_train"),
        ("val/mIoU_per_class", "val_mIoU_per_class"),
        ("my run - val_mIoU", "val_mIoU"),
        ("my run - val_mIoU__MAX", None),
        ("lr-SGD", "lr"),
        ("lr-SGD/pg1", "lr"),
        ("lr-SGD/pg2", None),
        ("lr-SGD-momentum", None),
        ("train_loss_step", None),
        ("loss", None),
        ("test/loss", None),
        ("Epoch", "epoch"),
        ("", None),
    ],
)
def test_names_are_accepted_with_prefix_and_suffix(name, meant):
    assert canonical(name) == meant


# --- Weights & Biases ------------------------------------------------------------------------------------------------


def test_a_run_table_is_put_in_order(tmp_path):
    run_table(ours()).to_csv(tmp_path / "run.csv", index=False)
    table = read_table(tmp_path / "run.csv")
    assert_read_as(table, ours())
    assert list(table.frame) == [*REQUIRED, "Created", "val_latency"]
    assert table.frame.val_latency.iloc[-1] == 141.06
    assert table.frame.Created.iloc[0] == pd.Timestamp("2025-05-01 10:00", tz="UTC")
    assert (table.notes, table.absent) == (["rows newest first, put in order"], [])


def test_what_only_a_list_or_a_final_column_holds_is_filled_in(tmp_path):
    frame = run_table(ours())
    frame.loc[frame.epoch <= 2, CLASS_VAL] = np.nan
    last = frame.epoch == EPOCHS
    for column in ("train_mIoU", "val_mIoU", "train_loss", "val_loss"):
        frame[f"{column}_final"] = frame[column].where(last)
        frame.loc[last, column] = np.nan
    frame.to_csv(tmp_path / "run.csv", index=False)
    table = read_table(tmp_path / "run.csv")
    assert_read_as(table, ours())
    assert table.notes[1:] == [
        "train_loss, val_loss, train_mIoU and val_mIoU of epoch 4 from *_final",
        "class values of epochs 1 and 2 from val_mIoU_per_class",
    ]
    run = read_run(tmp_path / "run.csv")
    assert run.best == (4, run.final_val_mIoU)
    assert len(run.notes) == 1


def test_lists_serve_where_there_is_no_class_column(tmp_path):
    frame = run_table(ours()).drop(columns=CLASS_VAL)
    frame["val_mIoU_per_class"] = frame["val_mIoU_per_class"].str.replace(",", " ")  # as numpy prints them
    frame.to_csv(tmp_path / "run.csv", index=False)
    assert_read_as(read_table(tmp_path / "run.csv"), ours())


def test_lists_of_another_length_are_left_out(tmp_path):
    frame = run_table(ours())
    frame.iloc[1, list(frame).index("val_mIoU_per_class")] = "[1, 2]"
    frame.to_csv(tmp_path / "run.csv", index=False)
    table = read_table(tmp_path / "run.csv")
    assert_read_as(table, ours())
    assert "val_mIoU_per_class is left out: not every cell is a list of 19 numbers" in table.notes


def test_a_history_has_several_rows_an_epoch(tmp_path):
    """Losses of single steps without an epoch, training and validation in rows of their own, `_step` beside."""
    frame, rows = ours(), []
    for e in frame.epoch:
        row, step = frame.iloc[e - 1], 100 * e
        rows.append({"_step": step - 50, "train/step_loss": 9.0, "train/lr": 1.0})
        rows.append(
            {"_step": step, "epoch": e, "train/loss": row.train_loss, "train/mIoU": row.train_mIoU, "train/lr": row.lr}
        )
        rows[-1] |= {f"train/class_{c}": row[f"class_{c}_train"] for c in range(19)}
        rows.append(
            {"_step": step + 1, "epoch": e, "val/loss": row.val_loss, "val/mIoU": row.val_mIoU, "_runtime": 7.0 * e}
        )
        rows[-1] |= {f"val/class_{c}": row[f"class_{c}_val"] for c in range(19)}
    pd.DataFrame(rows).to_csv(tmp_path / "run.csv")
    table = read_table(tmp_path / "run.csv")
    assert_read_as(table, frame, REQUIRED[:-1])
    assert table.absent == ["Runtime"]
    assert table.notes == ["under our names: train/lr, train/loss, val/loss and 40 more"]


def test_a_chart_of_one_run_over_epochs_is_its_table_and_one_of_two_is_not(tmp_path):
    header = ["epoch", *(f"DeepLabV2_ce - val_mIoU{more}" for more in ("", "__MIN", "__MAX"))]
    one = ",".join(f'"{name}"' for name in header) + '\n"1","20","20","20"\n"2","30","30","30"\n'
    table = read_table(written(tmp_path, one))
    assert list(table.frame.val_mIoU) == [20, 30]
    two = one.replace('"DeepLabV2_ce - val_mIoU__MIN"', '"DeepLabV2_cv07_di03 - val_mIoU"')
    with pytest.raises(NoRunTable, match=r"curves of 2 runs \(DeepLabV2_ce, DeepLabV2_cv07_di03, \.\.\.\)"):
        read_table(written(tmp_path, two))


def test_a_table_of_finished_runs_is_no_runs_table(tmp_path):
    text = "Name,State,epoch,val_mIoU\nrun_a,finished,50,50.5\nrun_b,finished,50,50.1\nrun_c,crashed,12,30\n"
    with pytest.raises(NoRunTable, match=r"rows are runs \(run_a and run_b, \.\.\.\), not epochs of one"):
        read_table(written(tmp_path, text))


# --- Lightning -------------------------------------------------------------------------------------------------------


def lightning(frame):
    """`metrics.csv`: epochs from 0; the rate, the validation and then the training of an epoch in rows of their own."""
    rows = []
    for e, row in enumerate(frame.itertuples()):
        rows.append({"lr-SGD": row.lr, "step": 100 * e})
        rows.append({"epoch": e, "step": 100 * e + 49, "train_loss_step": 5.0})
        rows.append({"epoch": e, "step": 100 * e + 99, "val_loss": row.val_loss, "val_mIoU": row.val_mIoU})
        rows.append(
            {"epoch": e, "step": 100 * e + 99, "train_loss_epoch": row.train_loss, "train_mIoU": row.train_mIoU}
        )
    return pd.DataFrame([*rows, {"epoch": len(frame), "step": 100 * len(frame), "test_loss": 3.0}])


def test_lightnings_rows_are_joined_and_its_epochs_counted_from_one(tmp_path):
    lightning(ours()).to_csv(tmp_path / "metrics.csv", index=False)
    table = read_table(tmp_path / "metrics.csv")
    columns = ["epoch", "lr", "train_loss", "val_loss", "train_mIoU", "val_mIoU"]
    assert_read_as(table, ours(), columns)
    assert table.notes == ["epochs counted from 0", "under our names: lr-SGD, train_loss_epoch"]
    assert table.absent == [*CLASS_TRAIN, *CLASS_VAL, "Runtime"]
    assert len(table.frame) == EPOCHS


def test_an_evaluation_before_training_is_no_epoch(tmp_path):
    text = "epoch,train_loss,val_loss\n0,,3\n1,2,2.5\n2,1,2\n"
    table = read_table(written(tmp_path, text))
    assert list(table.frame.epoch) == [1, 2]
    assert list(table.frame.val_loss) == [2.5, 2]
    assert table.notes == ["epoch 0, which was evaluated before training, is left out"]


# --- resumed runs ----------------------------------------------------------------------------------------------------

RESUMED = [(1, 10), (2, 20), (3, 30), (2, 21), (3, 31), (4, 40)]


@pytest.mark.parametrize("reverse", [False, True])
def test_of_a_repeated_epoch_the_later_row_counts_in_the_files_own_direction(tmp_path, reverse):
    rows = RESUMED[::-1] if reverse else RESUMED
    table = read_table(written(tmp_path, "epoch,val_mIoU\n" + "".join(f"{e},{v}\n" for e, v in rows)))
    assert list(table.frame.val_mIoU) == [10, 21, 31, 40]
    assert "several values of val_mIoU in epochs 2 and 3: the later counts, by the order of the rows" in table.notes


@pytest.mark.parametrize(
    ("column", "stamps"),
    [
        ("Created", [f"2025-05-0{day}T10:00:00.000Z" for day in (1, 2, 3, 4, 5, 6)]),
        ("_timestamp", [1747e6 + 1, 1747e6 + 2, 1747e6 + 3, 1747e6 + 4, 1747e6 + 5, 1747e6 + 6]),
        ("_step", [0, 1, 2, 3, 4, 5]),
    ],
)
@given(order=st.permutations(range(6)))
@settings(max_examples=12, deadline=None)
def test_of_a_repeated_epoch_the_later_row_counts_by_its_time(tmp_path_factory, column, stamps, order):
    rows = [f"{RESUMED[i][0]},{RESUMED[i][1]},{stamps[i]}\n" for i in order]
    path = written(tmp_path_factory.mktemp("resumed"), f"epoch,val_mIoU,{column}\n" + "".join(rows))
    table = read_table(path)
    assert list(table.frame.val_mIoU) == [10, 21, 31, 40]
    assert any(note.endswith(f"the later counts, by {column}") for note in table.notes)


def test_an_equal_row_twice_is_one(tmp_path):
    assert read_table(written(tmp_path, "epoch,val_mIoU\n1,10\n2,20\n2,20\n")).notes == []


def test_a_missing_epoch_is_said(tmp_path):
    assert read_table(written(tmp_path, "epoch,val_mIoU\n1,10\n2,20\n5,20\n")).notes == ["no row for epochs 3 and 4"]


# --- spreadsheets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("separator", "decimal", "encoding", "line"),
    [
        (";", ",", "utf-8-sig", "\r\n"),
        (";", ",", "cp1252", "\r\n"),
        (";", ".", "utf-8", "\n"),
        ("\t", ",", "utf-16", "\r\n"),
        ("\t", ".", "utf-8", "\n"),
        (",", ",", "utf-8", "\n"),
        (",", ".", "utf-8-sig", "\r"),
    ],
)
def test_what_a_spreadsheet_makes_of_a_table_is_read_the_same(tmp_path, separator, decimal, encoding, line):
    frame = ours().assign(remark="für später")
    path = tmp_path / "run.csv"
    frame.to_csv(path, index=False, sep=separator, decimal=decimal, encoding=encoding, lineterminator=line)
    assert_read_as(read_table(path), ours())


def test_a_line_that_declares_the_separator_is_understood(tmp_path):
    table = read_table(written(tmp_path, "sep=;\r\nepoch;val_mIoU\r\n1;10,5\r\n2;11,5\r\n"))
    assert list(table.frame.val_mIoU) == [10.5, 11.5]
    assert table.notes == ["columns separated by semicolons", "decimal commas"]


def test_epochs_as_floats_words_for_nothing_and_an_index_column(tmp_path):
    text = ',epoch,lr,val_mIoU,val_loss,comment\n0,1.0,"1e-4","20",NaN,a\n1,2.0,null,None,0.5,b\n\n2,3.0,,22,-,\n'
    table = read_table(written(tmp_path, text))
    assert list(table.frame.epoch) == [1, 2, 3]
    np.testing.assert_array_equal(table.frame.val_mIoU, [20, np.nan, 22])
    np.testing.assert_array_equal(table.frame.val_loss, [np.nan, 0.5, np.nan])
    assert list(table.frame) == REQUIRED


# --- shares of 1 -----------------------------------------------------------------------------------------------------


def test_kind_3_shares_of_one_become_percentages(tmp_path):
    frame = ours()
    shares = frame.copy()
    percentages = ["train_mIoU", "val_mIoU", *CLASS_TRAIN, *CLASS_VAL]
    shares[percentages] /= 100
    shares.to_csv(tmp_path / "run.csv", index=False)
    table = read_table(tmp_path / "run.csv")
    assert_read_as(table, frame)
    assert table.notes == ["mIoU and IoU are shares of 1, multiplied by 100"]


def test_one_class_above_one_makes_all_of_them_percentages(tmp_path):
    table = read_table(written(tmp_path, "epoch,val_mIoU,class_0_val\n1,0.3,1.5\n"))
    assert table.frame.val_mIoU[0] == 0.3


def test_a_table_of_this_kit_holds_percentages_however_small(tmp_path):
    table = read_table(written(tmp_path, "epoch,val_mIoU,trainable_parameters\n1,0.3,5\n"))
    assert table.frame.val_mIoU[0] == 0.3


# --- what is no run's table ------------------------------------------------------------------------------------------

OTHERS = {
    "tensorboard": ("Wall time,Step,Value\n1747.5,1,0.3\n", "column epoch and val_mIoU or val_loss is missing"),
    "results": ("run,mIoU\na,50\n", "column epoch and val_mIoU or val_loss is missing"),
    "training_only": ("epoch,train_loss\n1,2\n", "column val_mIoU or val_loss is missing"),
    "page": ("<!DOCTYPE html><html></html>", "is missing"),
    "empty": ("", "the file is empty"),
    "picture": (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "not a comma-separated table"),
    "fractions": ("epoch,val_loss\n0.25,2\n0.5,1\n", r"column epoch, row 2: 0\.25; epochs are 1, 2"),
}


@pytest.mark.parametrize(("content", "message"), OTHERS.values(), ids=OTHERS)
def test_what_is_no_runs_table_is_said_in_a_line(tmp_path, content, message):
    with pytest.raises(NoRunTable, match=message) as caught:
        read_table(written(tmp_path, content))
    assert str(tmp_path / "run.csv") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


def test_a_million_rows_are_refused(tmp_path):
    with pytest.raises(NoRunTable, match="more than 200,000 rows"):
        read_table(written(tmp_path, "epoch,val_loss\n" + "1,2\n" * 1_000_000))


def test_what_is_no_runs_table_is_left_out_of_a_folder_and_does_not_stop_the_others(tmp_path):
    ours().to_csv(tmp_path / "DeepLabV2_ce.csv", index=False)
    for name, (content, _) in OTHERS.items():
        written(tmp_path, content, f"{name}.csv")
    runs, left_out = read_folder(tmp_path)
    assert [run.stem for run in runs] == ["DeepLabV2_ce"]
    assert sorted(line.partition(":")[0] for line in left_out) == sorted(f"{name}.csv" for name in OTHERS)
    (tmp_path / "DeepLabV2_ce.csv").unlink()
    with pytest.raises(ResultsError, match=r"no run's CSV here; .*tensorboard\.csv: row 1: column epoch"):
        read_folder(tmp_path)


# --- any form of one table -------------------------------------------------------------------------------------------


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_order_of_rows_and_columns_never_matters(tmp_path_factory, data):
    frame = ours()
    rows = data.draw(st.permutations(range(EPOCHS)))
    columns = data.draw(st.permutations(list(frame)))
    path = tmp_path_factory.mktemp("order") / "run.csv"
    frame.loc[rows, columns].to_csv(path, index=False)
    assert_read_as(read_table(path), frame)
