"""The audit finds every contradiction of the published study: from its tables, its logs and the network."""

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers.study_exports import FROZEN, Export

from deeplab_lib.analysis import audit, published
from deeplab_lib.analysis.audit import changes, network, outcomes, printed, schedules, study_logs
from deeplab_lib.analysis.audit.study_logs import NAMES, STATED, UNREPORTED, Jump, StudyLogs
from deeplab_lib.analysis.numbers import Numbers
from deeplab_lib.analysis.tables import read_efficiency
from deeplab_lib.labels import CLASS_NAMES
from deeplab_lib.recipes import RECIPES, recipe_for

KEYS = ["rows", "lr", "parameters", "powers", "power7", "run8", "run5", "miou", "best", "order", "latency",
        "architectures", "grid", "conventions", "steps", "cost"]  # fmt: skip
BY_NUMBER = {run.number: run for run in published.RUNS.values()}


def made_up(number, **changed):
    """An export of run `number` whose first epoch is the printed last row, and whose results are not the study's."""
    run = BY_NUMBER.get(number)
    printed_row = run is not None and np.isfinite(run.class_val).all()
    options = {
        "lr": {5: 2e-4, 6: 3e-4, 7: 2e-4, 9: 5e-4}.get(number, 1e-4),
        "powers": {
            5: ((1, 0.9), (31, 1.0), (46, 2.0), (48, 1.2)),
            6: ((1, 0.9), (29, 1.2), (44, 1.0)),
            7: ((1, 0.9), (31, 1.1)),
        }.get(number, ((1, 0.9),)),
        "warmup": study_logs.WARMUP_STEPS.get(number, 0),
        "first_classes": run.class_val if printed_row else None,
        "first_train_mIoU": run.last_train_mIoU if printed_row and np.isfinite(run.last_train_mIoU) else 18.0,
        "last_val_mIoU": {5: 43.1, 7: 43.2, 6: 44.5, 9: 46.25}.get(number, 40 + number / 10),
        "parameters": FROZEN if number in (5, 6) else 43_795_724,
        "latency": (100.0 + number, 100.0),
        "jump": {5: (46, 1.2), 8: (46, 2.0)}.get(number),
        "final_columns": number in (1, 3),
    }
    return Export(NAMES[number], **options | changed)


@pytest.fixture(scope="module")
def findings():
    return {finding.key: finding for finding in audit.audit()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Exports of all nine runs."""
    folder = tmp_path_factory.mktemp("study")
    for number in NAMES:
        made_up(number).write(folder)
    return folder


@pytest.fixture(scope="module")
def logs(folder):
    return audit.read_logs(folder)


def figure(findings, key, name):
    return findings[key].figures[name][0]


def test_published_runs_are_the_recipes_in_their_order():
    assert list(published.RUNS) == list(RECIPES)
    for key, run in published.RUNS.items():
        assert run.name == RECIPES[key].stem
        assert run.lr == recipe_for(key, "text").lr
        assert len(run.class_val) == len(CLASS_NAMES)


def test_what_is_stated_of_the_logs_is_what_the_recipes_follow():
    for run in published.RUNS.values():
        recipe, stated = RECIPES[run.recipe], STATED[run.number]
        changed = [(change.epoch, change.power) for change in recipe.changes if change.power is not None]
        assert (recipe.lr, ((1, recipe.power), *changed)) == (stated.initial_lr, stated.powers)
        assert recipe.warmup_steps == study_logs.WARMUP_STEPS.get(run.number, 0)
        assert stated.last[1] == pytest.approx(run.val_mIoU, abs=0.005)
        assert stated.latency[1] == pytest.approx(run.latency, abs=0.005)
        assert stated.parameters == run.parameters


def test_every_point_stands_in_its_order(findings):
    assert list(findings) == KEYS


def test_multiply_adds_are_those_of_the_measured_costs_or_counted(tmp_path, findings):
    row = {"model": "deeplabv2_resnet101", "height": 512, "width": 1024, "output_stride": 8, "stride_in": "1x1",
           "device": "cpu", "device_name": "X", "threads": 1, "parameters": 9, "flops": 1}  # fmt: skip
    others = [row | {"stride_in": "3x3", "macs": 1}, row | {"height": 256, "macs": 2}, row | {"model": "x", "macs": 3}]
    counted = figure(findings, "cost", "macs")
    for rows, macs in (([], None), (others, None), ([*others, row | {"macs": 5 * 10**9}], 5)):
        (tmp_path / "efficiency.json").write_text(json.dumps({"rows": rows}))
        finding = network.computational_cost(read_efficiency(tmp_path))
        assert finding.figures["macs"][0] == (macs or counted)


def test_only_layer3_and_layer4_give_the_printed_parameters():
    table = audit.freezing_table()
    assert list(table.trainable) == [43_795_724, 1_410_316, 2_835_724]
    assert set(table.total) == {43_901_068}
    assert list(table.matches) == ["no", "no", "yes"]


def test_the_printed_flops_are_multiply_adds(findings):
    assert figure(findings, "cost", "macs") == pytest.approx(374.664739584, abs=1e-9)
    assert figure(findings, "cost", "flops") == pytest.approx(749.329479168, abs=1e-9)
    assert "the printed figure is the number of multiply-adds" in findings["cost"].found


@pytest.mark.parametrize(
    ("printed", "words"), [(749.33, "the number of floating-point operations"), (500.0, "neither")]
)
def test_other_flops_would_be_named_as_what_they_are(monkeypatch, printed, words):
    monkeypatch.setattr(published, "FLOPS_G", printed)
    assert network.computational_cost().found.endswith(f"the printed figure is {words}")


def test_other_numbers_of_parameters_would_be_compared(monkeypatch):
    runs = {key: replace(run, parameters=1_410_316) for key, run in published.RUNS.items()}
    monkeypatch.setattr(published, "RUNS", runs)
    assert list(audit.freezing_table().matches) == ["no", "yes", "no"]
    assert changes.trainable_parameters(StudyLogs()).filled(Numbers())[0].startswith("1,410,316 parameters")


def test_all_networks_of_the_results_are_named(monkeypatch, findings):
    assert findings["architectures"].filled(Numbers())[1].endswith("results table: 1, DeepLabV2")
    other = replace(published.RUNS["ce"], name="FCN_ce")
    monkeypatch.setattr(published, "RUNS", published.RUNS | {"fcn": other})
    assert printed.other_architectures().filled(Numbers())[1].endswith("results table: 2, DeepLabV2 and FCN")


def test_the_last_rows_miou_is_the_mean_of_its_classes(findings):
    table = audit.means_table()
    by_hand = (71.2810 + 35.6969 + 66.2086 + 4.3969 + 6.0815 + 6.0073 + 1.2510 + 7.2177 + 68.7607 + 11.4301 + 60.4205
               + 31.0377 + 2.1039 + 67.4115 + 3.2488 + 3.3560 + 5.1122 + 0.0393 + 21.2743) / 19  # fmt: skip
    assert table.mean_of_classes["DeepLabV2_ce07_tv03"] == pytest.approx(by_hand)
    assert table.last_row_difference.abs().max() <= 0.00005, "printed to four places"
    assert table.results_difference.min() > 24
    assert np.isnan(table.mean_of_classes["DeepLabV2_ce"])
    assert table.mean_of_classes["DeepLabV2_ce05_lv05"] == pytest.approx(23.9463, abs=5e-5), (
        "its own mean is not printed"
    )
    assert figure(findings, "miou", "runs") == 6


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("DeepLabV2_ce", ({"ce": 1.0}, None, None)),
        ("DeepLabV2_ce07_tv03", ({"ce": 0.7, "tversky": 0.3}, None, None)),
        ("DeepLabV2_cv07_di03", ({"ce": 0.7, "dice": 0.3}, None, None)),
        ("DeepLabV2_ce07_l03_warnup_lr_0.0002", ({"ce": 0.7, "lovasz": 0.3}, 0.0002, True)),
        (
            "DeepLabV2_ce05_l0.25_di0.25_no_warnup_lr_0.0002",
            ({"ce": 0.5, "lovasz": 0.25, "dice": 0.25}, 0.0002, False),
        ),
        ("DeepLabV2_ce06_l0.2_fo0.2_no_warnup_lr_0.0001", ({"ce": 0.6, "lovasz": 0.2, "focal": 0.2}, 0.0001, False)),
    ],
)
def test_names_say_losses_weights_rate_and_warmup(name, parsed):
    assert printed.parse_name(name) == parsed


def test_shifted_rows_are_matched_to_the_names_they_fit():
    table = audit.matched_rows()
    assert dict(table.fits_run) == {1: 1, 2: 3, 3: 2, 4: 4, 5: 8, 6: 5, 7: 7, 8: 6}
    assert table.remarks[6] == "gamma 2 without Focal"
    assert table.remarks[8] == "2 terms, 3 weights"
    assert set(table.remarks.drop([6, 8])) == {"–"}


def test_lovasz_is_not_the_best_of_its_own_table(findings):
    assert figure(findings, "best", "gap") == pytest.approx(53.79 - 53.9948)
    assert "contradicts the statement" in findings["best"].found
    assert "cannot be decided without intervals" in findings["best"].found


def test_one_network_has_one_latency(findings):
    assert figure(findings, "latency", "ratio") == pytest.approx(304.54 / 141.06)


# --- what the logs settle --------------------------------------------------------------------------------------------


def lr_finding(logs):
    return schedules.learning_rates(logs)


def test_the_rates_of_runs_1_to_4_are_those_of_the_table(findings):
    assert STATED[1].first_lr == pytest.approx(1e-4 * 0.98**0.9, rel=1e-9)
    printed_words, found = findings["lr"].filled(Numbers())
    assert printed_words.startswith("for runs 1, 2, 3 and 4, 0.0001 in the table")
    assert "0.001 in the details" in printed_words
    assert "a rate of 0.000098198 after epoch 1, which is 0.0001 × (1 − 1/50)^0.9, and runs 2, 3 and 4 begin" in found
    assert found.endswith("The rate of the details is a misprint")
    assert findings["lr"].source == "stated from the study's logs"


@pytest.mark.parametrize(
    ("rate", "words"),
    [(1e-3, "The rate of the table is a misprint"), (4e-4, "Neither is the rate of all these runs")],
)
def test_other_logs_decide_otherwise(tmp_path, rate, words):
    for number in (1, 2, 3, 4):
        made_up(number, lr=rate).write(tmp_path)
    finding = lr_finding(audit.read_logs(tmp_path))
    assert finding.found.endswith(words)
    assert finding.figures["logged"][0] == pytest.approx(rate)
    assert finding.source == "computed from the study's logs"


def test_a_rate_that_differs_among_the_runs_is_not_said_of_all(tmp_path):
    made_up(1).write(tmp_path)
    made_up(2, lr=3e-4).write(tmp_path)
    finding = lr_finding(audit.read_logs(tmp_path))
    assert "begin at the same rate" not in finding.found
    assert finding.found.endswith("Neither is the rate of all these runs")
    assert finding.source == "computed from the logs of runs 1 and 2, for the others stated from the study's logs"


def test_the_text_exchanges_the_powers_of_runs_5_and_6(logs):
    for given in (StudyLogs(), logs):
        finding = schedules.powers(given)
        words, found = finding.filled(Numbers())
        assert (
            words
            == "run 5: power 0.9, 1.2 from epoch 29, 2.0 from 46, 1.2 from 47; run 6: power 0.9, 1.0 from epoch 31"
        )
        assert found.startswith(
            "run 5: power 0.9, 1.0 from epoch 31, 2.0 from 46, 1.2 from 48; "
            "run 6: power 0.9, 1.2 from epoch 29, 1.0 from 44. The text exchanges the two"
        )


def test_powers_that_agree_or_differ_otherwise_are_named_so(tmp_path):
    text = {n: ((1, 0.9), *((c.epoch, c.power) for c in recipe_for(key, "text").changes if c.power)) for n, key in
            ((5, "ce_lovasz_warmup"), (6, "ce_focal"))}  # fmt: skip
    for number, powers in text.items():
        made_up(number, powers=powers).write(tmp_path)
    assert schedules.powers(audit.read_logs(tmp_path)).found.endswith("The text agrees")
    made_up(6, powers=((1, 0.9), (20, 1.25))).write(tmp_path)
    differs = schedules.powers(audit.read_logs(tmp_path))
    assert differs.found.endswith("The text differs")
    assert "1.25 from epoch 20" in differs.filled(Numbers())[1]


def test_run_7_changes_its_power_at_epoch_31(logs, tmp_path):
    for given in (StudyLogs(), logs):
        assert schedules.power_of_run_7(given).filled(Numbers()) == (
            "power 1.1, without an epoch",
            "power 0.9, 1.1 from epoch 31",
        )
    made_up(7, powers=((1, 0.9), (21, 1.3))).write(tmp_path)
    assert schedules.power_of_run_7(audit.read_logs(tmp_path)).filled(Numbers())[1] == "power 0.9, 1.3 from epoch 21"


def test_the_logs_hold_the_count_of_layer3_and_layer4_frozen(findings, logs):
    assert figure(findings, "parameters", "log5") == figure(findings, "parameters", "log6") == 2_835_724
    assert "ptflops and calflops, print the trainable parameters" in findings["parameters"].found
    given = changes.trainable_parameters(logs)
    assert given.figures["log6"][0] == FROZEN
    assert given.source == "counted on the network; counts of the last epoch computed from the study's logs"


def test_the_loss_of_run_8_was_changed_on_the_way(findings, logs):
    assert STATED[8].jumps == (Jump(46, (0.2415, 0.4566), (0.3214, 0.6329), (50.58932, 50.62095)),)
    _, found = findings["run8"].filled(Numbers())
    assert found.startswith(
        "from epoch 45 to 46 the training loss goes from 0.2415 to 0.4566 and the validation loss from 0.3214 to "
        "0.6329. The validation mIoU hardly moves, from 50.59 to 50.62 %"
    )
    assert found.endswith("to what is not recorded")
    computed = changes.loss_change(logs)
    before, after = (row["train_loss"] for row in list(made_up(8).rows())[44:46])
    assert after > 1.9 * before
    assert computed.figures["train_loss_before"][0] == pytest.approx(before)
    assert computed.figures["train_loss_after"][0] == pytest.approx(after)
    assert computed.figures["val_loss_after"][0] == pytest.approx(1.1 * after)


def test_a_loss_without_a_jump_was_not_changed(tmp_path):
    made_up(8, jump=None).write(tmp_path)
    made_up(5, jump=(40, 1.5)).write(tmp_path)
    given = audit.read_logs(tmp_path)
    assert changes.loss_change(given).found == "no epoch in which the losses jump and mIoU does not"
    assert changes.loss_weights(given).found.endswith("not confirmed")


def test_the_weights_of_run_5_change_where_the_text_says(findings, logs):
    assert findings["run5"].filled(Numbers())[0] == "weights 0.5/0.5 from epoch 46 on"
    for finding in (findings["run5"], changes.loss_weights(logs)):
        assert finding.figures["epoch"][0] == 46
        assert finding.found.endswith("This confirms that the loss was changed at this epoch")


def test_the_last_rows_are_epoch_1(findings, logs):
    assert "The last rows are those of epoch 1" in findings["miou"].found
    assert figure(findings, "miou", "epoch_1_values") == 6 * 21 + 19
    assert (figure(findings, "miou", "first1"), figure(findings, "miou", "first3")) == (27.3214, 23.9463)
    given = outcomes.two_columns_of_miou(logs)
    assert "The last rows are those of epoch 1" in given.found
    assert given.figures["epoch_1_values"][0] == 6 * 21 + 19
    assert given.figures["epoch_1_gap"][0] <= 0.00005
    assert given.figures["first1"][0] == pytest.approx(25.0), "the mean of 10 to 40, in place of the empty cell"


def test_last_rows_of_another_epoch_are_not_taken_for_the_first(tmp_path):
    moved = [value + 1 for value in BY_NUMBER[2].class_val]
    made_up(2, first_classes=tuple(moved)).write(tmp_path)
    finding = outcomes.two_columns_of_miou(audit.read_logs(tmp_path))
    assert "The last rows are not epoch 1 of the logs: they differ by up to {epoch_1_gap} points" in finding.found
    assert finding.figures["epoch_1_gap"][0] == pytest.approx(1, abs=1e-4)


def test_the_order_follows_the_rate_and_the_five_runs_of_one_schedule_do_not_differ(findings):
    _, found = findings["order"].filled(Numbers())
    assert "0.0001: 50.10 to 50.82 % (runs 1, 2, 3, 4 and 8); 0.0002: 53.31 to 53.79 % (runs 5 and 7)" in found
    assert "0.0003: 53.99 % (run 6); 0.0005: 56.00 % (run 9, by its name CE + Focal, which is in no table" in found
    assert "Every run lies above all runs of lower rates" in found
    assert "Runs 1, 2, 3, 4 and 8 share one schedule: their final mIoUs differ by at most 0.72 points" in found
    assert "Each moves by 0.35 to 1.06 points within its last ten epochs (standard deviation 0.13 to 0.31)" in found
    assert found.endswith("so no difference between these losses is visible")


def test_the_order_is_computed_from_the_logs(logs):
    finding = outcomes.order_by_rate(logs)
    assert finding.figures["spread"][0] == pytest.approx(40.8 - 40.1)
    assert finding.figures["low4"][0] == pytest.approx(46.25)
    late = made_up(1).classes().mean(axis=1)[-10:]
    assert finding.figures["moved_low"][0] <= late.max() - late.min() <= finding.figures["moved_high"][0]
    assert finding.figures["sd_low"][0] <= late.std(ddof=1) <= finding.figures["sd_high"][0]
    assert finding.source == "computed from the study's logs"


def test_another_order_and_a_visible_difference_are_named_so(tmp_path):
    made_up(UNREPORTED, last_val_mIoU=30.0).write(tmp_path)
    made_up(2, last_val_mIoU=60.0).write(tmp_path)
    found = outcomes.order_by_rate(audit.read_logs(tmp_path)).found
    assert "The order does not follow the rate" in found
    assert "no difference" not in found


def test_latencies_agree_within_a_run_and_differ_between_runs(findings, logs):
    assert figure(findings, "latency", "within") == pytest.approx(100 * (248.606 / 245.004 - 1))
    assert "({worst} % in run 6)" in findings["latency"].found
    given = outcomes.latencies(logs)
    assert given.figures["worst"][0] == pytest.approx(8) and "in run 8" in given.found
    assert given.figures["within"][0] == pytest.approx(7)


def test_the_warm_up_fits_524_steps_an_epoch(findings, tmp_path):
    _, found = findings["steps"].filled(Numbers())
    assert "fit 524 steps an epoch only, which at batch size 3 are about 1,572 images: a part of the training" in found
    for number in (5, 6, 9):
        made_up(number, steps=992).write(tmp_path)
    given = schedules.steps_per_epoch(audit.read_logs(tmp_path))
    assert given.figures["steps"][0] == pytest.approx(992, abs=0.01)
    assert "a part of" not in given.found
    made_up(9, steps=600).write(tmp_path)
    assert "give {steps} to {most} steps" in schedules.steps_per_epoch(audit.read_logs(tmp_path)).found


def test_what_the_code_does_is_said_beside_what_the_kit_does(findings, tmp_path):
    assert "upsampled to the input size" in findings["grid"].found and "-p follows code" in findings["grid"].remedy
    assert "MONAI" in findings["conventions"].found and figure(findings, "conventions", "zeros") == 0
    made_up(2, zeros=1).write(tmp_path)
    given = printed.conventions_of_code(audit.read_logs(tmp_path))
    assert given.figures["zeros"][0] == 50
    assert given.source.startswith("read in the study's code; zeros computed from the logs of run 2, for the others")


# --- which logs ------------------------------------------------------------------------------------------------------


def test_logs_are_known_by_their_names_in_any_case(tmp_path):
    path = made_up(1).write(tmp_path)
    path.rename(tmp_path / "DeeplabV2_CE.csv")
    assert list(audit.read_logs(tmp_path).read) == [1]


def test_what_a_log_does_not_say_is_stated(tmp_path):
    """A table of mIoU alone: it has no rates, losses, latencies and counts."""
    (tmp_path / "DeepLabV2_ce.csv").write_text("epoch,val_mIoU\n1,10\n2,20\n")
    logs = audit.read_logs(tmp_path)
    assert [finding.key for finding in audit.audit(logs)] == KEYS
    assert logs.value(1, "initial_lr") == 1e-4
    assert logs.value(1, "jumps") == ()
    assert logs.source([1], "initial_lr") == "stated from the study's logs"


def test_files_that_are_no_logs_of_the_study_are_named(tmp_path):
    made_up(2).write(tmp_path)
    (tmp_path / "mine.csv").write_text("epoch,val_mIoU\n1,10\n")
    (tmp_path / "DeepLabV2_ce.csv").write_text("name,mark\nAnn,1\n")
    logs = audit.read_logs(tmp_path)
    assert list(logs.read) == [2]
    told = audit.left_out(logs)
    assert "mine.csv is no run of the study." in told and "DeepLabV2_ce.csv" in told and str(tmp_path) not in told
    assert audit.left_out(StudyLogs()) == ""


@pytest.mark.parametrize("content", [None, "epoch,val_mIoU\n1,10\n"])
def test_a_folder_without_any_log_is_refused(tmp_path, content):
    if content:
        (tmp_path / "mine.csv").write_text(content)
    with pytest.raises(ValueError, match=r"audit_logs: no log of the study in .*DeepLabV2_ce.csv"):
        audit.read_logs(tmp_path)


def test_the_table_of_logs_is_what_they_hold(logs):
    table = audit.log_table(logs)
    assert list(table.index) == list(NAMES.values())
    assert table.val_mIoU[NAMES[9]] == pytest.approx(46.25)
    assert table.initial_lr[NAMES[6]] == pytest.approx(3e-4)
    stated = audit.log_table(StudyLogs())
    assert stated.loc["DeepLabV2_ce"].tolist() == [1e-4, 27.3214, 50.5006, 1.0586, 0.3079]


# --- the rules -------------------------------------------------------------------------------------------------------


def test_a_study_without_contradictions_gets_none(monkeypatch):
    """The same rules, fed figures that agree, find nothing: they are not written for one answer."""
    consistent = {}
    for key, run in published.RUNS.items():
        classes = np.full(19, 20.0) if np.isnan(run.class_val).any() else np.array(run.class_val)
        classes = np.minimum(classes + 20 * (key == "ce_lovasz"), 100)
        mean = float(classes.mean())
        consistent[key] = replace(run, latency=100.0, val_mIoU=mean, last_val_mIoU=mean, class_val=tuple(classes))
    monkeypatch.setattr(published, "RUNS", consistent)
    rows = []
    for row in published.INITIAL_TABLE:
        losses, lr, warmup = printed.parse_name(row.name)
        lr = lr or next(run.lr for run in consistent.values() if run.name == row.name)
        rows.append(replace(row, losses=tuple(losses), weights=tuple(losses.values()), lr=lr, gamma=None,
                            warmup_steps=500 if warmup else 0))  # fmt: skip
    monkeypatch.setattr(published, "INITIAL_TABLE", tuple(rows))
    stated = StudyLogs()
    told = [
        outcomes.two_columns_of_miou(stated),
        printed.shifted_rows(),
        schedules.learning_rates(stated),
        printed.best_loss(),
        outcomes.latencies(stated),
    ]
    miou, rows, rates, best, latency = [finding.filled(Numbers())[1] for finding in told]
    assert "It lies 0.00 to 0.00 points below the results table's" in miou
    assert (
        rows.startswith("0 rows fit another run's name better than their own")
        and "Impossible in themselves: 0 rows" in rows
    )
    assert rates == "the rates agree"
    assert "The order of the values agrees with the statement" in best
    assert "differ by a factor of 1.00" in latency


@pytest.mark.parametrize("given", [False, True])
def test_every_number_that_is_printed_is_registered(logs, given):
    numbers = Numbers()
    findings = {finding.key: finding for finding in audit.audit(logs if given else None)}
    texts = {key: " ".join(finding.filled(numbers)) for key, finding in findings.items()}
    assert numbers.text("audit.parameters.column") == "2,835,724"
    assert audit.details(findings.values(), numbers).count("*Found*") == len(KEYS)
    for key, finding in findings.items():
        for name in finding.figures:
            assert numbers.text(f"audit.{key}.{name}") in texts[key]
    assert not [text for text in texts.values() if "{" in text or "nan" in text]
