"""Reports on logs alone: made-up run tables, newest epoch first, as the study's own logs are."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest

from deeplab_lib.analysis import findings, from_logs, plots, prose, setup_text, tables
from deeplab_lib.analysis.captions import FIGURES
from deeplab_lib.analysis.gallery import drawn_runs
from deeplab_lib.analysis.numbers import Numbers
from deeplab_lib.study.foreign import CLASS_TRAIN, CLASS_VAL
from deeplab_lib.study.grouping import schedule, studies
from deeplab_lib.study.results import read_folder

ROOT = Path(__file__).parents[2]
EPOCHS = 30
# Name: initial rate, final validation mIoU, powers by first epoch, trained parameters, epoch of another loss.
LOGS = {
    "DeepLabV2_ce": (1e-4, 50.0, {1: 0.9}, 43_795_724, None),
    "DeepLabV2_ce05_lv05": (1e-4, 50.4, {1: 0.9}, 43_795_724, None),
    "DeepLabV2_ce06_l0.2_fo0.2_no_warnup_lr_0.0001": (1e-4, 50.2, {1: 0.9}, 43_795_724, 20),
    "DeepLabV2_ce05_l0.25_di0.25_no_warnup_lr_0.0002": (2e-4, 53.0, {1: 0.9, 15: 1.1}, 43_795_724, None),
    "DeepLabV2_ce05_f05_warnup_lr_0.0003": (3e-4, 54.0, {1: 0.9}, 2_835_724, None),
    "DeepLabV2_ce05_f05_warmup1500_lr_0.0005": (5e-4, 56.0, {1: 0.9}, 43_795_724, None),
}


def log(rng, lr, final, powers, parameters, other_loss):
    e = np.arange(1, EPOCHS + 1)
    power = np.array([powers[max(first for first in powers if first <= epoch)] for epoch in e])
    frame = pd.DataFrame({"epoch": e, "lr": lr * (1 - e / EPOCHS) ** power})
    factor = np.where(e >= other_loss, 1.8, 1.0) if other_loss else 1.0
    for column, level in (("train_loss", 0.2), ("val_loss", 0.3)):
        frame[column] = factor * (level + np.exp(-e / 4)) * np.exp(0.003 * rng.standard_normal(EPOCHS))
    classes = final - 30 * np.exp(-e / 4)[:, None] + np.linspace(-9, 9, 19) + 0.3 * rng.standard_normal((EPOCHS, 1))
    classes[-1] += final - classes[-1].mean()
    for columns, values in ((CLASS_VAL, classes), (CLASS_TRAIN, classes + 8)):
        frame[columns] = values
    frame["train_mIoU"], frame["val_mIoU"] = frame[CLASS_TRAIN].mean(axis=1), frame[CLASS_VAL].mean(axis=1)
    frame["Runtime"], frame["Created"] = 1800.0, [f"2025-05-{day:02d}T10:00:00.000Z" for day in e]
    last = {"val_latency": 141.0, "val_flops": 374.66, "val_params": parameters}
    for column, value in last.items():
        frame[column] = [np.nan] * (EPOCHS - 1) + [value]
    return frame.iloc[::-1]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("logs"), np.random.default_rng(0)
    for name, facts in LOGS.items():
        log(rng, *facts).to_csv(folder / f"{name}.csv", index=False)
    (study,) = studies(read_folder(folder, dataset="Cityscapes")[0])
    return study


def test_the_data_set_is_named_by_whoever_makes_the_report(study, tmp_path):
    assert str(study) == findings.scope(study) == "Cityscapes, 30 epochs"
    assert setup_text.data(study.runs, Numbers()).endswith("Whoever made this report names them: Cityscapes.")
    study.runs[0].table.to_csv(tmp_path / "DeepLabV2_ce.csv", index=False)
    (unnamed,) = studies(read_folder(tmp_path)[0])
    assert findings.scope(unnamed) == "data set not recorded, 30 epochs"


def test_schedules_are_those_of_the_rates_and_not_of_the_recipes(study):
    alike = from_logs.one_schedule(study.recipes)
    assert [run.label for run in alike] == ["CE", "CE + Lovász", "CE + Lovász + Focal"]
    table = tables.configurations(study.runs)
    focal = table.loc["DeepLabV2_ce05_f05_warnup_lr_0.0003"]
    # The recipe of this name has a warm-up and three powers; this log shows none of them.
    assert (focal.lr, focal.power, focal.warmup_steps) == (3e-4, 0.9, "none")
    assert "power" not in focal.changes
    assert focal.changes.endswith("layer3 and layer4 frozen †")  # which its parameters confirm
    assert table.loc["DeepLabV2_ce05_l0.25_di0.25_no_warnup_lr_0.0002"].changes == "after 14: power 1.1"
    assert table.loc["DeepLabV2_ce"].changes == "–"


def test_frozen_parameters_make_another_schedule(study):
    one = next(run for run in study.runs if run.recipe == "ce_focal")
    assert schedule(one).endswith("; 2,835,724 parameters")


def test_costs_are_what_was_logged_last(study):
    table = tables.results_table(study.finished)
    row = table.loc["DeepLabV2_ce"]
    assert (row.latency_ms, row.GMACs, row.trainable_at_end, row.device) == (141, 374.66, 43_795_724, "not recorded")
    assert "on a device that is not recorded" in setup_text.latency_note(table)


def test_a_loss_that_jumps_is_said_to_be_changed_and_not_read_as_overfitting(study):
    text = prose.losses(study.recipes, Numbers())
    assert re.search(r"changed in CE \+ Lovász \+ Focal at epoch 20 \(training loss × 1\.[78]\d, validation", text)
    assert "No validation loss ended more than 5 % above its minimum" in text
    assert "overfitting" not in text
    table = tables.configurations(study.runs)
    assert re.fullmatch(r"after 19: another loss: training × 1\.\d\d", table.loc[list(LOGS)[2]].changes)


def test_an_unreported_run_is_shown_and_takes_no_part(study):
    (outside,) = from_logs.unreported(study)
    assert outside.label == "0.5 CE + 0.5 Focal, lr 0.0005"
    assert (outside.loss, outside.initial_lr) == ("0.5*ce + 0.5*focal", 5e-4)
    assert outside not in study.recipes
    text = from_logs.outside_the_eight([outside])
    assert "in no table of the study, is 0.5 CE + 0.5 Focal, lr 0.0005 (`DeepLabV2_ce05_f05_warmup1500" in text


def test_the_order_by_rate_is_said_with_its_values(study):
    numbers = Numbers()
    text = from_logs.by_rate(study.recipes, from_logs.unreported(study), numbers)
    assert "0.0001: 50.00 to 50.40 % (three runs); 0.0002: 53.00 % (one run); 0.0003: 54.00 % (one run)" in text
    assert "0.0005: 56.00 % (one run, one outside the eight)" in text
    assert "Every run at a higher rate ends above every run at a lower one." in text
    assert numbers["logs.rate.gain"] == pytest.approx(5.6)
    assert numbers["logs.rate.within"] == pytest.approx(0.4)


def test_an_order_that_is_none_is_not_claimed(study):
    assert from_logs.by_rate(from_logs.one_schedule(study.recipes), [], Numbers()) == ""  # one rate alone
    runs = [changed(run, initial_lr=rate) for run, rate in zip(study.recipes, (3e-4, 2e-4, 1e-4, 1e-4), strict=False)]
    text = from_logs.by_rate(runs, [], Numbers())
    assert text.endswith("Runs at a lower rate are not all below those at a higher one.")


def test_movement_within_the_last_ten_epochs_stands_beside_the_differences(study):
    alike = from_logs.one_schedule(study.recipes)
    table = from_logs.late_movement(alike)
    for run in alike:
        last = run.table.val_mIoU.to_numpy()[-10:]
        assert table.loc[run.stem, "range"] == pytest.approx(last.max() - last.min())
        assert table.loc[run.stem, "deviation"] == pytest.approx(np.std(last, ddof=1))
    numbers = Numbers()
    text = from_logs.movement(study.recipes, numbers)
    assert numbers["logs.late.apart"] == pytest.approx(0.4)
    assert numbers["logs.late.range.high"] == pytest.approx(table["range"].max())
    shown = "show no difference between the losses" in text
    assert shown == (table["range"].max() >= numbers["logs.late.apart"])


def test_short_curves_say_nothing_of_movement(study):
    assert from_logs.late_movement([replace(run, table=run.table.iloc[:19]) for run in study.recipes]).empty


def changed(run, initial_lr):
    """The run, with other rates in its log."""
    return replace(run, table=run.table.assign(lr=run.table.lr * initial_lr / run.initial_lr))


def test_the_rates_are_drawn_as_logged(study):
    runs = [*drawn_runs(study), *from_logs.unreported(study)]
    epochs, values = plots.rates(runs[0])
    assert (epochs[0], values[0]) == (0, 1e-4)  # determined: no warm-up
    np.testing.assert_allclose(values[1:], 1e-4 * (1 - np.arange(1, EPOCHS) / EPOCHS) ** 0.9)
    figure = plots.learning_rates(runs)
    assert figure.axes[0].get_legend().get_texts()[0].get_text().endswith("0.0005")
    assert plots.accuracy_against_rate(runs).axes[0].get_xlabel() == "initial learning rate (log scale)"
    assert {"rate", "lr"} <= set(FIGURES)


def test_the_report_is_dated_by_its_logs(study):
    assert from_logs.logged_on(study.runs) == "2025-05-30"
    assert from_logs.logged_on([]) is None


def test_the_notebook_makes_a_report_of_logs(study, tmp_path):
    folder = tmp_path / "logs"
    shutil.copytree(study.runs[0].path.parent, folder)
    (folder / "board.csv").write_text("Wall time,Step,Value\n1747.5,1,0.3\n")
    parameters = {"runs": str(folder), "dataset": "Cityscapes", "report_dir": str(tmp_path / "report")}
    executed = tmp_path / "analysis.ipynb"
    papermill.execute_notebook(
        ROOT / "notebooks/analysis.ipynb", executed, parameters, cwd=ROOT, progress_bar=False, log_output=False
    )
    outputs = [output for cell in nbformat.read(executed, as_version=4).cells for output in cell.get("outputs", ())]
    text = "\n".join(f"{output.get('metadata')} {list(output.get('data', {}).values())}" for output in outputs)
    assert "reads logs of runs that this kit did not train" in text
    assert "Every run at a higher rate ends above every run at a lower one." in text
    assert "changed in CE + Lovász + Focal at epoch 20" in text
    assert "Left out: board.csv: row 1: column epoch and val_mIoU or val_loss is missing" in text
    assert "fig-rate" in text and "tbl-late" in text and "fig-ranking" not in text
    assert "trained again from one code base" not in text
    assert "logs.rate.gain" in json.loads((tmp_path / "report" / "numbers.json").read_text())
