"""A study that grows: what is to be made follows from the plan and from what the runs' records say, not from dates."""

import json
import os
import re
import shutil

import pytest
from helpers.graph import ROOT, call
from helpers.synthetic_runs import write_runs

from deeplab_lib.study.made_of import changes, made_of, write_record

NOTEBOOK = ROOT / "notebooks" / "analysis.ipynb"
TWO, OLD = {"recipes": "[ce,ce_focal]"}, (1e9, 1e9)
NETWORK = {"model": "deeplabv2_micro", "height": 32, "width": 64, "device": "cpu", "dtype": "float32"}


def backdate(folder):
    for path in folder.rglob("*"):
        os.utime(path, OLD)


@pytest.fixture
def study(tmp_path):
    """A finished study of two runs with its report; every file is of one old date."""
    return finished(tmp_path)


def finished(folder, seeds=(0,)):
    write_runs(folder / "runs", recipes=("ce", "ce_focal"), seeds=seeds, preset="smoke", epochs=5)
    (folder / "runs" / "efficiency.json").write_text(json.dumps({"rows": [NETWORK]}))
    (folder / "report").mkdir()
    for name in ("report.html", "report.pdf"):
        (folder / "report" / name).write_text("made")
    write_record(folder / "report", made_of(NOTEBOOK, {"runs": str(folder / "runs")}))
    backdate(folder)
    return folder


def planned(folder, *arguments, **config):
    """`({rule: jobs} of a dry run, what it said)`."""
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    code, shown = call(folder, "-n", "--quiet", "host", *arguments, **TWO | config)
    assert code == 0, shown
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    jobs = dict(re.findall(r"^(train|costs|report) +(\d+)$", shown, re.MULTILINE))
    return {rule: int(number) for rule, number in jobs.items()}, shown


# -- the plan ------------------------------------------------------------------------------------------------------


def test_kind_10_of_a_finished_study_nothing_is_made_whatever_the_dates_and_the_report_is_named(study):
    for path in (study / "runs").iterdir():
        os.utime(path)
    jobs, shown = planned(study)
    assert jobs == {}
    where = f"{study}/report/report.html and {study}/report/report.pdf"
    assert f"[study] Nothing to be done: {where} are up to date" in shown


@pytest.mark.parametrize(
    ("config", "runs"),
    [
        ({"seeds": "[0,1,2]", "control": "true"}, 4 + 7 * 3),  # all losses but CE itself on the schedule of CE
        ({"recipes": "[ce,ce_focal,ce_lovasz_warmup]", "losses": "[0.6*ce + 0.4*dice]"}, 2),
        ({"models": "[null,deeplabv2_resnet50]"}, 2),
    ],
    ids=["seeds and control", "recipes and losses", "models"],
)
def test_kind_10_a_larger_plan_leads_to_the_missing_runs_and_a_new_report(study, config, runs):
    jobs, shown = planned(study, **config)
    assert jobs == {"train": runs, "costs": 1, "report": 1}
    states = re.findall(r"^ce.*  (finished|not started)$", shown, re.MULTILINE)
    assert "Nothing to be done" not in shown and states[:2] == ["finished"] * 2 and "not started" in states


def test_kind_10_an_edited_configuration_file_counts_as_the_command_line_does(study):
    settings = study / "mine.yaml"
    settings.write_text("seeds: [0, 1]\n")
    assert planned(study, "--configfile", str(settings))[0] == {"train": 2, "costs": 1, "report": 1}


# -- the records ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [{}, {"seeds": "[0,1]"}], ids=["not planned", "planned"])
def test_kind_10_runs_copied_in_with_an_old_date_lead_to_a_new_report_alone(study, tmp_path_factory, config):
    elsewhere = finished(tmp_path_factory.mktemp("elsewhere"), seeds=(1,))
    for path in (elsewhere / "runs").glob("DeepLab*"):
        shutil.copy2(path, study / "runs")
    jobs, shown = planned(study, **config)
    assert jobs == {"report": 1}
    assert "the report is made again; new: DeepLabV2_ce05_f05_warnup_lr_0.0003_seed1 and DeepLabV2_ce_seed1" in shown


def test_kind_10_costs_are_measured_again_for_a_network_that_they_lack(study):
    (study / "runs" / "efficiency.json").write_text(json.dumps({"rows": [NETWORK | {"height": 64}]}))
    write_record(study / "report", made_of(NOTEBOOK, {"runs": str(study / "runs")}))
    backdate(study)
    assert planned(study)[0] == {"costs": 1, "report": 1}


# -- what a report was made of -------------------------------------------------------------------------------------


def now(study, **parameters):
    return made_of(NOTEBOOK, {"runs": str(study / "runs")} | parameters)


def test_a_record_holds_the_digest_of_every_file_and_no_folder_of_its_author(study):
    record = json.loads((study / "report" / "made_of.json").read_text())
    assert len(record["files"]) == 7 and all(
        re.fullmatch("[0-9a-f]{64}", digest) for digest in record["files"].values()
    )
    assert str(study) not in (study / "report" / "made_of.json").read_text()
    assert changes(study / "report", now(study)) == ""
    assert changes(study / "report", now(study, report_dir="elsewhere")) == ""


def test_what_changed_is_said_in_a_few_words(study):
    runs = study / "runs"
    assert changes(study / "report", now(study, author="Ada", title="T")) == "changed: author and title"
    (runs / "DeepLabV2_ce.csv").write_text("epoch\n")
    (runs / "DeepLabV2_ce05_f05_warnup_lr_0.0003.npz").unlink()
    (runs / "other.csv").touch()
    assert changes(study / "report", now(study)) == (
        "new: other; changed: DeepLabV2_ce; gone: DeepLabV2_ce05_f05_warnup_lr_0.0003"
    )
    for number in range(6):
        (runs / f"z{number}.csv").touch()
    assert changes(study / "report", now(study)).startswith("new: other, z0, z1, z2 and 3 more; ")


def test_another_notebook_is_a_change(study, tmp_path):
    (tmp_path / "mine.ipynb").write_text("{}")
    assert changes(study / "report", made_of(tmp_path / "mine.ipynb", {"runs": str(study / "runs")})) == (
        "changed: the notebook"
    )


@pytest.mark.parametrize("content", [None, "", "[]", '{"files": 3}'], ids=["none", "empty", "list", "foreign"])
def test_a_report_without_a_readable_record_is_made_again(study, content):
    record = study / "report" / "made_of.json"
    record.unlink() if content is None else record.write_text(content)
    assert changes(study / "report", now(study)) == "nothing says what it was made of"
