"""Where every run stands, and how long the rest takes."""

import filelock
import pandas as pd
import pytest
from helpers import synthetic_runs

from deeplab_lib.recipes import RECIPES
from deeplab_lib.study import status

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
