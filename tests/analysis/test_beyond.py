"""What changes beyond the study are worth: planted gains are found, and what was not changed is not taken for one."""

import json

import pandas as pd
import pytest
from helpers.synthetic_runs import write_runs

from deeplab_lib.analysis.beyond import ablation, introduction
from deeplab_lib.analysis.verdicts import CONTRADICTED, SUPPORTED
from deeplab_lib.recipes import RECIPES
from deeplab_lib.study.results import read_runs

FAST = 2000


def edit(folder, stems, **config):
    """Say in the runs' JSON what they were trained with."""
    for stem in stems:
        path = folder / f"{stem}.json"
        record = json.loads(path.read_text())
        record["config"] |= config
        path.write_text(json.dumps(record))


@pytest.fixture
def folder(tmp_path):
    """CE, CE + Dice, and CE with mirrored views, of which the last is planted 6 points better: three seeds each."""
    everything = {"seeds": (0, 1, 2), "random_state": 3, "images": 60}
    write_runs(tmp_path, ("ce", "ce_dice"), **everything)
    stems = write_runs(tmp_path, ("ce",), suffix="tta_flip", effects={"ce": 6}, **everything)
    edit(tmp_path, stems, tta="flip")
    return tmp_path


def test_a_planted_gain_is_found_and_its_cost_stands_beside(folder):
    table = ablation(read_runs(folder), FAST)
    assert list(table.index) == ["DeepLabV2_ce_tta_flip", "DeepLabV2_ce"]
    gain, base = table.iloc[0], table.iloc[1]
    assert (gain.change, base.change) == ("tta flip", "none: the study's CE")
    assert gain.seeds == base.seeds == 3
    assert gain.difference == pytest.approx(gain.mIoU - base.mIoU)
    assert 0 < gain.low < gain.difference < gain.high and gain.p < 0.05
    assert (gain.verdict, base.verdict) == (SUPPORTED, "–")
    assert base[["difference", "low", "high", "p"]].isna().all()
    assert gain.tested_GMACs == pytest.approx(2 * base.tested_GMACs)
    assert introduction(table).endswith("Of these changes, significantly above CE: tta flip.")


def test_without_anything_beyond_the_study_there_is_no_table(tmp_path):
    write_runs(tmp_path, ("ce", "ce_dice"))
    stems = write_runs(tmp_path, ("ce",), suffix="lr0.5")
    edit(tmp_path, stems, lr=0.5)
    assert ablation(read_runs(tmp_path), FAST) is None


def test_where_all_changes_lose_they_are_said_to_lie_below_ce():
    table = pd.DataFrame({"change": ["none", "ema 0.9"], "difference": [None, -3.0], "low": [None, -4.0],
                          "high": [None, -2.0], "verdict": ["–", CONTRADICTED]})  # fmt: skip
    assert introduction(table).endswith("Of these changes, significantly below CE: ema 0.9.")


def test_without_ce_there_is_nothing_to_compare_with(tmp_path):
    edit(tmp_path, write_runs(tmp_path, ("ce_dice",), suffix="ema0.9"), ema=0.9)
    assert ablation(read_runs(tmp_path), FAST) is None


def test_of_several_ce_runs_the_one_trained_as_long_is_the_base(folder):
    longer = write_runs(folder, ("ce",), suffix="epochs20", epochs=20, images=60, random_state=3)
    for path in [folder / f"{stem}.json" for stem in longer] + list(folder.glob("*tta_flip*.json")):
        record = json.loads(path.read_text())
        record["wall_time_s"] = 1e6
        path.write_text(json.dumps(record))
    table = ablation(read_runs(folder), FAST)
    assert list(table.index[table.difference.isna()]) == ["DeepLabV2_ce_epochs20"]
    assert table.attrs["scope"].startswith("synthetic toy city, ") and "epochs" not in table.attrs["scope"]


def test_a_change_to_another_recipe_names_its_schedule_too(folder):
    stems = write_runs(folder, ("ce_lovasz_warmup",), suffix="tta_flip", images=60, random_state=3)
    edit(folder, stems, tta="flip")
    row = ablation(read_runs(folder), FAST).loc[stems[0]]
    assert row.change.startswith("loss ") and row.change.endswith(f"schedule of {RECIPES['ce_lovasz_warmup'].title}")


def test_other_data_stay_apart(folder):
    for stem in write_runs(folder, ("ce_focal",), suffix="ema0.9", random_state=4):
        path = folder / f"{stem}.json"
        record = json.loads(path.read_text())
        record["config"]["ema"], record["dataset"]["fingerprint"] = 0.9, "another"
        path.write_text(json.dumps(record))
    assert list(ablation(read_runs(folder), FAST).index) == ["DeepLabV2_ce_tta_flip", "DeepLabV2_ce"]
