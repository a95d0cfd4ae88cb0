"""The report's tables, and the register of the numbers that it prints."""

import json

import numpy as np
import pandas as pd
import pytest
from helpers import synthetic_runs

from deeplab_lib.analysis import findings, tables
from deeplab_lib.analysis.numbers import Numbers
from deeplab_lib.labels import CLASS_NAMES
from deeplab_lib.recipes import RECIPES
from deeplab_lib.study.results import read_runs


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
