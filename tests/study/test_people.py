"""Runs of several people in one folder: whose is whose, which files are one run, and what is left out with a reason."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from helpers import synthetic_runs

from deeplab_lib.analysis import evidence as evidence_module
from deeplab_lib.analysis.evidence import Evidence
from deeplab_lib.common.markup import as_plain
from deeplab_lib.study import status
from deeplab_lib.study.folders import run_folders
from deeplab_lib.study.foreign import ResultsError
from deeplab_lib.study.grouping import methods, studies
from deeplab_lib.study.made_of import changes, made_of, write_record
from deeplab_lib.study.people import run_name, whose
from deeplab_lib.study.results import load_runs, read_folder

NAME = "DeepLabV2_ce"


def hand_in(folder, recipes=("ce", "ce_dice"), number=0, **options):
    """The runs of one student; `number` makes them differ from another's."""
    return synthetic_runs.write_runs(folder, recipes, images=12, epochs=4, random_state=number, **options)


def copy_run(folder, name, to):
    """Copy a run's files within or out of `folder` under another name."""
    for suffix in (".csv", ".json", ".npz"):
        shutil.copy(folder / f"{name}{suffix}", to.with_name(to.name + suffix))


def read(folder):
    """`([labels], left_out)` as a reader sees them."""
    runs, left_out = read_folder(folder)
    return [as_plain(run.label) for run in runs], [as_plain(line) for line in left_out]


# --- which folders are read ------------------------------------------------------------------------------------------


def test_kind_3_folders_of_people_are_read_and_drafts_tensorboard_and_hidden_ones_are_not(tmp_path):
    for place in ("anna", "ben/toycity", "claire/deeplab-losses/runs/toycity", "anna/old", "Draft", ".trash", "data/x"):
        hand_in(tmp_path / place, ("ce",))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "events.out.tfevents.1").touch()
    (tmp_path / "logs" / "metrics.csv").write_text("epoch,val_mIoU\n1,2\n")
    (tmp_path / "predictions" / "x").mkdir(parents=True)
    (tmp_path / "predictions" / "x" / "shares.csv").write_text("name,road\n")
    found, not_read = run_folders(tmp_path)
    names = [place.relative_to(tmp_path).as_posix() for place in found]
    assert names == [".", "anna", "ben/toycity", "claire/deeplab-losses/runs/toycity"]
    assert {place.relative_to(tmp_path).as_posix(): why for place, why in not_read.items()} == {
        "Draft": "in a folder called draft", "anna/old": "in a folder called old", "logs": "a TensorBoard folder",
    }  # fmt: skip


def test_kind_3_a_folder_of_runs_that_also_holds_tensorboards_events_is_read(tmp_path):
    hand_in(tmp_path / "anna", ("ce",))
    (tmp_path / "anna" / "events.out.tfevents.1").touch()
    assert read(tmp_path) == (["CE"], [])


def test_kind_3_a_folder_is_not_left_because_another_may_not_be_opened(tmp_path):
    hand_in(tmp_path / "anna", ("ce",))
    (tmp_path / "loop").symlink_to(tmp_path)
    assert read(tmp_path) == (["CE"], [])


@pytest.mark.parametrize(
    ("folder", "person"),
    [
        ("", ""), ("toycity", ""), ("anna", "anna"), ("anna/toycity", "anna"), ("anna/ToyCity", "anna"),
        ("anna/deeplab-losses/runs/toycity", "anna"), ("group 1/anna/toycity", "group 1/anna"),
        ("anna/camvid", "anna/camvid"),
    ],
)  # fmt: skip
def test_whose_runs_lie_in_a_folder(tmp_path, folder, person):
    assert whose(tmp_path / folder, tmp_path, "toycity") == person


# --- one study, or several people's ----------------------------------------------------------------------------------


def test_kind_3_a_team_that_shared_the_work_is_one_study(tmp_path):
    hand_in(tmp_path / "anna", ("ce", "ce_dice"), 1)
    hand_in(tmp_path / "ben", ("ce_focal",), 2)
    hand_in(tmp_path / "ben", ("ce",), 3, seeds=(1,))
    labels, left_out = read(tmp_path)
    assert labels == ["CE", "CE, seed 1", "CE + Dice", "CE + Focal"] and not left_out
    runs, _ = read_folder(tmp_path)
    assert [run.person for run in runs] == ["anna", "ben", "anna", "ben"]
    assert {name: len(seeds) for name, seeds in methods(runs).items()}[NAME] == 2, "two seeds of one configuration"


def test_kind_3_where_two_people_hold_the_same_run_every_run_says_whose_it_is_and_none_is_a_seed(tmp_path):
    hand_in(tmp_path / "anna" / "toycity", ("ce", "ce_dice"), 1)
    hand_in(tmp_path / "ben", ("ce",), 2)
    hand_in(tmp_path, ("ce",), 3)
    labels, left_out = read(tmp_path)
    assert labels == ["CE", "CE (anna)", "CE (ben)", "CE + Dice (anna)"] and not left_out
    runs, _ = read_folder(tmp_path)
    assert all(len(seeds) == 1 for seeds in methods(runs).values())
    assert [run.stem for run in runs] == [NAME, f"anna/{NAME}", f"ben/{NAME}", "anna/DeepLabV2_cv07_di03"]
    evidence = Evidence.of(studies(runs)[0], resamples=200)
    assert not evidence.several_seeds and len(evidence.pairs()) == 6
    frame = load_runs(tmp_path)
    assert set(frame.person) == {"", "anna", "ben"} and set(frame.run) == {NAME, "DeepLabV2_cv07_di03"}


def test_kind_3_each_persons_seeds_are_that_persons(tmp_path):
    hand_in(tmp_path / "anna", ("ce",), 1, seeds=(0, 1))
    hand_in(tmp_path / "ben", ("ce",), 2, seeds=(0, 1))
    runs, _ = read_folder(tmp_path)
    assert {name: [run.seed for run in seeds] for name, seeds in methods(runs).items()} == {
        f"anna/{NAME}": [0, 1], f"ben/{NAME}": [0, 1],
    }  # fmt: skip
    assert read(tmp_path)[0] == ["CE (anna)", "CE (ben)", "CE (anna), seed 1", "CE (ben), seed 1"]


def test_a_class_too_large_to_compare_all_with_all_is_refused_in_a_line(tmp_path, monkeypatch):
    for number, student in enumerate(("anna", "ben")):
        hand_in(tmp_path / student, ("ce", "ce_dice"), number)
    (study,) = studies(read_folder(tmp_path)[0])
    monkeypatch.setattr(evidence_module, "MOST_COMPARED", 3)
    with pytest.raises(ResultsError, match=r"^4 runs of 2 people are too many to compare all with all; up to 3 are"):
        Evidence.of(study)
    assert len(load_runs(tmp_path)) == 4 * 4


def test_the_status_of_a_student_is_that_of_the_folders_below(tmp_path, capsys):
    hand_in(tmp_path / "anna" / "toycity", ("ce",))
    status.main([tmp_path / "anna"])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()][2:] == [NAME]


def test_kind_8_runs_collected_under_prefixes_are_told_apart_by_them(tmp_path):
    (tmp_path / "all").mkdir()
    for number, student in enumerate(("anna", "ben", "claire")):
        hand_in(tmp_path / student, ("ce",), number)
        copy_run(tmp_path / student, NAME, tmp_path / "all" / f"{student}_{NAME}")
    assert read(tmp_path / "all") == (["CE (anna)", "CE (ben)", "CE (claire)"], [])


def test_other_data_sets_of_one_person_stand_apart(tmp_path):
    hand_in(tmp_path / "toycity", ("ce", "ce_dice"), 1)
    synthetic_runs.write_runs(tmp_path / "streets", ("ce",), images=12, epochs=4, dataset="streets", random_state=2)
    record = json.loads((tmp_path / "streets" / f"{NAME}.json").read_text())
    record["config"]["data"] = "data/streets"
    (tmp_path / "streets" / f"{NAME}.json").write_text(json.dumps(record))
    main, other = studies(read_folder(tmp_path)[0])
    assert [run.label for run in main.runs] == ["CE", "CE + Dice"] and [run.label for run in other.runs] == ["CE"]
    assert other.scope.dataset == "streets"


# --- one run, however its files are called ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "recorded", "found"),
    [
        (NAME, NAME, (NAME, "")), (f"{NAME} (1)", NAME, (NAME, "")), (f"{NAME} - Copy", NAME, (NAME, "")),
        (f"Kopie von {NAME}", NAME, (NAME, "Kopie von")), (f"anna_{NAME}", NAME, (NAME, "anna")),
        (f"{NAME}-ben (2)", NAME, (NAME, "ben")), ("mine", NAME, (NAME, "mine")),
        (f"{NAME} (1)", None, (NAME, "")), (f"{NAME}_lr0.001", None, (f"{NAME}_lr0.001", "")),
        ("copy", None, ("copy", "")),
    ],
)  # fmt: skip
def test_a_run_is_called_as_its_record_says(file, recorded, found):
    assert run_name(file, recorded) == found


@pytest.mark.parametrize("name", [f"{NAME} (1)", f"{NAME} - Kopie", "other name"])
def test_kind_3_a_copy_is_named_and_left_out_whatever_it_is_called(tmp_path, name):
    hand_in(tmp_path, ("ce", "ce_dice"))
    copy_run(tmp_path, NAME, tmp_path / name)
    labels, left_out = read(tmp_path)
    assert labels == ["CE", "CE + Dice"]
    assert left_out == [f"{name}.csv is a copy: it holds the values of {NAME}.csv"]


def test_kind_3_a_table_saved_anew_by_a_spreadsheet_is_still_a_copy(tmp_path):
    hand_in(tmp_path, ("ce",))
    pd.read_csv(tmp_path / f"{NAME}.csv").to_csv(tmp_path / f"{NAME} (1).csv", index=False, lineterminator="\r\n")
    assert read(tmp_path) == (["CE"], [f"{NAME} (1).csv is a copy: it holds the values of {NAME}.csv"])


def test_kind_3_one_student_s_run_in_another_s_folder_is_named(tmp_path):
    hand_in(tmp_path / "anna", ("ce",))
    (tmp_path / "ben").mkdir()
    copy_run(tmp_path / "anna", NAME, tmp_path / "ben" / NAME)
    record = json.loads((tmp_path / "ben" / f"{NAME}.json").read_text())
    (tmp_path / "ben" / f"{NAME}.json").write_text(json.dumps(record | {"started": "2026-02-02T10:00:00"}))
    assert read(tmp_path) == (
        ["CE"],
        [f"ben/{NAME}.csv holds the values of anna/{NAME}.csv; their JSONs differ: one is a copy, "
         f"and only anna/{NAME}.csv is shown"],
    )  # fmt: skip


def test_kind_3_of_two_equal_runs_the_one_that_lies_where_it_was_trained_is_shown(tmp_path):
    hand_in(tmp_path / "x" / "anna" / "toycity", ("ce",))
    (tmp_path / "x" / "ada").mkdir()
    place = tmp_path / "x" / "anna" / "toycity" / f"{NAME}.json"
    record = json.loads(place.read_text())
    record["config"]["out_dir"] = "/home/anna/kit/runs/toycity"
    place.write_text(json.dumps(record))
    copy_run(place.parent, NAME, tmp_path / "x" / "ada" / NAME)
    _, (line,) = read(tmp_path / "x")
    assert line.endswith(f"only anna/toycity/{NAME}.csv is shown")


def test_kind_3_a_run_under_a_false_seed_is_a_copy(tmp_path):
    hand_in(tmp_path, ("ce",))
    copy_run(tmp_path, NAME, tmp_path / f"{NAME}_seed1")
    record = json.loads((tmp_path / f"{NAME}.json").read_text()) | {"stem": f"{NAME}_seed1"}
    record["config"]["seed"] = 1
    (tmp_path / f"{NAME}_seed1.json").write_text(json.dumps(record))
    labels, (line,) = read(tmp_path)
    assert labels == ["CE"] and line.startswith(f"{NAME}_seed1.csv is a copy")


def test_kind_3_a_copy_alone_is_its_run_and_says_what_its_files_are_called(tmp_path):
    hand_in(tmp_path / "x", ("ce",))
    copy_run(tmp_path / "x", NAME, tmp_path / f"{NAME} (1)")
    shutil.rmtree(tmp_path / "x")
    (run,), left_out = read_folder(tmp_path)
    assert (run.stem, run.label, left_out) == (NAME, "CE", [])
    assert as_plain(run.notes[0]) == f"its files are called {NAME} (1)"


def test_kind_3_of_two_versions_of_one_run_the_one_of_its_name_is_used(tmp_path):
    hand_in(tmp_path, ("ce", "ce_dice"))
    hand_in(tmp_path / "x", ("ce",), 7)
    copy_run(tmp_path / "x", NAME, tmp_path / f"{NAME} (1)")
    shutil.rmtree(tmp_path / "x")
    labels, left_out = read(tmp_path)
    assert labels == ["CE", "CE + Dice"]
    assert left_out == [f"{NAME} (1).csv and {NAME}.csv claim to be one run and differ: only {NAME}.csv is used"]


def test_kind_3_a_table_without_a_record_claims_the_run_of_its_name(tmp_path):
    hand_in(tmp_path, ("ce", "ce_dice"))
    rows = pd.read_csv(tmp_path / "DeepLabV2_cv07_di03.csv").assign(Runtime=1.0)
    rows.to_csv(tmp_path / "DeepLabV2_ce07_di03.csv", index=False)
    with pytest.raises(ResultsError, match=r"DeepLabV2_ce07_di03\.csv and DeepLabV2_cv07_di03\.csv are the same run"):
        read(tmp_path)


def test_kind_8_files_of_a_student_that_claim_one_run_cost_only_themselves(tmp_path):
    hand_in(tmp_path / "anna", ("ce", "ce_dice"), 1)
    hand_in(tmp_path / "ben", ("ce_dice", "ce_focal"), 2)
    hand_in(tmp_path / "ben" / "toycity", ("ce_focal",), 3)
    focal = "DeepLabV2_ce05_f05_warnup_lr_0.0003.csv"
    labels, left_out = read(tmp_path)
    assert labels == ["CE (anna)", "CE + Dice (anna)", "CE + Dice (ben)"]
    assert left_out == [f"ben/{focal} and ben/toycity/{focal} claim to be one run and differ: none is used"]


# --- what does not fit ------------------------------------------------------------------------------------------------


def test_kind_8_a_damaged_hand_in_costs_itself_and_is_named_with_its_folder(tmp_path):
    hand_in(tmp_path / "anna", ("ce", "ce_dice"), 1)
    hand_in(tmp_path / "ben", ("ce", "ce_dice"), 2)
    (tmp_path / "ben" / f"{NAME}.json").write_text("{")
    (tmp_path / "ben" / "efficiency.json").write_text('{"rows": [{"model": 3}]}')
    (tmp_path / "claire").mkdir()
    (tmp_path / "claire" / "notes.csv").write_text("a;b\n1;2\n")
    labels, left_out = read(tmp_path)
    assert labels == ["CE (anna)", "CE + Dice (anna)", "CE + Dice (ben)"]
    assert [line.partition(":")[0] for line in left_out] == [
        f"ben/{NAME}.json", "claire/notes.csv", "ben/efficiency.json",
    ]  # fmt: skip


def test_kind_8_images_of_other_names_cost_only_the_run_that_has_them(tmp_path):
    for number, student in enumerate(("anna", "ben", "claire")):
        hand_in(tmp_path / student, ("ce",), number)
    with np.load(tmp_path / "ben" / f"{NAME}.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    others = {name: np.char.add("x", arrays[name]) for name in ("names", "prediction_names")}
    np.savez_compressed(tmp_path / "ben" / f"{NAME}.npz", **arrays | others)
    labels, (line,) = read(tmp_path)
    assert labels == ["CE (anna)", "CE (claire)"]
    assert line.startswith(f"ben/{NAME}.csv: validated on other images than anna/{NAME}.csv")


def test_kind_3_an_absent_folder_and_one_without_runs_are_told_apart(tmp_path):
    (tmp_path / "runs" / "anna").mkdir(parents=True)
    with pytest.raises(ResultsError, match="no run's CSV here; train one"):
        read_folder(tmp_path / "runs")
    with pytest.raises(ResultsError, match="there is no such folder; the nearest there is runs"):
        read_folder(tmp_path / "run")


def test_kind_3_a_report_is_made_of_all_folders_that_are_read(tmp_path):
    hand_in(tmp_path / "anna", ("ce",), 1)
    (tmp_path / "notebook.ipynb").write_text("{}")
    now = lambda: made_of(tmp_path / "notebook.ipynb", {"runs": str(tmp_path)})  # noqa: E731
    (tmp_path / "report").mkdir()
    write_record(tmp_path / "report", now())
    assert sorted(now()["files"]) == [f"anna/{NAME}.csv", f"anna/{NAME}.json", f"anna/{NAME}.npz"]
    assert changes(tmp_path / "report", now()) == ""
    hand_in(tmp_path / "ben" / "toycity", ("ce",), 2)
    hand_in(tmp_path / "drafts", ("ce",), 3)
    assert changes(tmp_path / "report", now()) == f"new: ben/toycity/{NAME}"
