"""The audit reproduces every contradiction of the published study, from its own figures and from the network."""

import json
from dataclasses import replace

import numpy as np
import pytest

from deeplab_lib.analysis import audit, published
from deeplab_lib.analysis.numbers import Numbers
from deeplab_lib.analysis.tables import read_efficiency
from deeplab_lib.labels import CLASS_NAMES
from deeplab_lib.recipes import RECIPES, recipe_for


@pytest.fixture(scope="module")
def findings():
    return {finding.key: finding for finding in audit.audit()}


def figure(findings, key, name):
    return findings[key].figures[name][0]


def test_published_runs_are_the_recipes_in_their_order():
    assert list(published.RUNS) == list(RECIPES)
    for key, run in published.RUNS.items():
        assert run.name == RECIPES[key].stem
        assert run.lr == recipe_for(key, "text").lr
        assert len(run.class_val) == len(CLASS_NAMES)


def test_every_point_is_told_in_its_order(findings):
    assert list(findings) == ["parameters", "cost", "miou", "rows", "lr", "best", "latency", "architectures"]


def test_multiply_adds_are_those_of_the_measured_costs_or_counted(tmp_path, findings):
    row = {"model": "deeplabv2_resnet101", "height": 512, "width": 1024, "output_stride": 8, "stride_in": "1x1"}
    others = [row | {"stride_in": "3x3", "macs": 1}, row | {"height": 256, "macs": 2}, {"model": "x", "macs": 3}]
    counted = figure(findings, "cost", "macs")
    for rows, macs in (([], None), (others, None), ([*others, row | {"macs": 5 * 10**9}], 5)):
        (tmp_path / "efficiency.json").write_text(json.dumps({"rows": rows}))
        finding = audit.computational_cost(read_efficiency(tmp_path))
        assert finding.figures["macs"][0] == (macs or counted)


def test_only_layer3_and_layer4_give_the_printed_parameters():
    table = audit.freezing_table()
    assert list(table.trainable) == [43_795_724, 1_410_316, 2_835_724]
    assert set(table.total) == {43_901_068}
    assert list(table.matches) == ["no", "no", "yes"]


def test_the_printed_flops_are_multiply_adds(findings):
    assert figure(findings, "cost", "macs") == pytest.approx(374.664739584, abs=1e-9)
    assert figure(findings, "cost", "flops") == pytest.approx(749.329479168, abs=1e-9)
    assert "the printed figure is the number of multiply-adds" in findings["cost"].computed


@pytest.mark.parametrize(
    ("printed", "words"), [(749.33, "the number of floating-point operations"), (500.0, "neither")]
)
def test_other_flops_would_be_told_as_what_they_are(monkeypatch, printed, words):
    monkeypatch.setattr(published, "FLOPS_G", printed)
    assert audit.computational_cost().computed.endswith(f"the printed figure is {words}")


def test_other_numbers_of_parameters_would_be_compared(monkeypatch):
    runs = {key: replace(run, parameters=1_410_316) for key, run in published.RUNS.items()}
    monkeypatch.setattr(published, "RUNS", runs)
    assert list(audit.freezing_table().matches) == ["no", "yes", "no"]
    assert audit.trainable_parameters().filled(Numbers())[0].startswith("1,410,316 parameters")


def test_all_networks_of_the_results_are_named(monkeypatch, findings):
    assert findings["architectures"].filled(Numbers())[1].endswith("results table: 1, DeepLabV2")
    other = replace(published.RUNS["ce"], name="FCN_ce")
    monkeypatch.setattr(published, "RUNS", published.RUNS | {"fcn": other})
    assert audit.other_architectures().filled(Numbers())[1].endswith("results table: 2, DeepLabV2 and FCN")


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
    assert audit.parse_name(name) == parsed


def test_shifted_rows_are_matched_to_the_names_they_fit():
    table = audit.matched_rows()
    assert dict(table.fits_run) == {1: 1, 2: 3, 3: 2, 4: 4, 5: 8, 6: 5, 7: 7, 8: 6}
    assert table.remarks[6] == "gamma 2 without Focal"
    assert table.remarks[8] == "2 terms, 3 weights"
    assert set(table.remarks.drop([6, 8])) == {"–"}


def test_the_rates_of_runs_1_to_4_are_in_doubt(findings):
    assert findings["lr"].computed.startswith("runs 1, 2, 3 and 4 have another rate")
    assert figure(findings, "lr", "miou_wrong") == pytest.approx((50.50 + 50.10 + 50.82 + 50.17) / 4)
    assert figure(findings, "lr", "miou_same") == 50.37
    assert figure(findings, "lr", "miou_other") == pytest.approx((53.79 + 53.9948 + 53.31) / 3)
    assert "nearer to that of run 8" in findings["lr"].computed


def test_lovasz_is_not_the_best_of_its_own_table(findings):
    assert figure(findings, "best", "gap") == pytest.approx(53.79 - 53.9948)
    assert "contradicts the statement" in findings["best"].computed
    assert "is not known without intervals" in findings["best"].computed


def test_one_network_has_one_latency(findings):
    assert figure(findings, "latency", "ratio") == pytest.approx(304.54 / 141.06)


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
        losses, lr, warmup = audit.parse_name(row.name)
        lr = lr or next(run.lr for run in consistent.values() if run.name == row.name)
        rows.append(replace(row, losses=tuple(losses), weights=tuple(losses.values()), lr=lr, gamma=None,
                            warmup_steps=500 if warmup else 0))  # fmt: skip
    monkeypatch.setattr(published, "INITIAL_TABLE", tuple(rows))
    told = [
        audit.two_columns_of_miou(),
        audit.shifted_rows(),
        audit.learning_rates(),
        audit.best_loss(),
        audit.latencies(),
    ]
    miou, rows, rates, best, latency = [finding.filled(Numbers())[1] for finding in told]
    assert miou.endswith("and lies 0.00 to 0.00 points below the results table's")
    assert rows.startswith("0 rows fit another run's name better than their own") and "0 rows are impossible" in rows
    assert rates == "the rates agree"
    assert "the order of the values agrees with the statement" in best
    assert "differ by a factor of 1.00" in latency


def test_every_number_that_is_printed_is_registered(findings):
    numbers = Numbers()
    texts = {key: " ".join(finding.filled(numbers)) for key, finding in findings.items()}
    assert numbers.text("audit.parameters.column") == "2,835,724"
    for key, finding in findings.items():
        for name in finding.figures:
            assert numbers.text(f"audit.{key}.{name}") in texts[key]
    assert not [text for text in texts.values() if "{" in text or "nan" in text]
