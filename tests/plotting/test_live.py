"""What is shown of a run while it trains: a figure that fails, or has nothing finite to show, costs no training."""

import math

import pandas as pd
import pytest

from deeplab_lib.common.errors import RunStopped
from deeplab_lib.models.predictor import Predictor
from deeplab_lib.plotting import live, run_figures
from deeplab_lib.plotting.live import Live
from deeplab_lib.training.loop import fit

NUMBERS = {"epoch": 1, "train_loss": 1.0, "val_loss": 1.0, "train_mIoU": 10.0, "val_mIoU": 5.0}


class Place:
    """Stands for a place in a notebook."""

    def update(self, shown):
        """Show nothing."""


@pytest.mark.parametrize(
    "numbers",
    [
        {"val_loss": math.inf},
        {"val_loss": math.nan, "train_loss": math.nan},
        {"val_mIoU": math.nan, "train_mIoU": math.nan},
    ],
)
def test_curves_of_numbers_that_are_not_finite(smoke, numbers):
    for ax in run_figures.curves([NUMBERS | numbers], smoke()).axes:
        assert ax.get_ylim()[0] == 0 and math.isfinite(ax.get_ylim()[1])


@pytest.mark.parametrize("broken", ["curves", "predictions"])
def test_a_picture_that_fails_is_one_line_and_the_training_goes_on(smoke, monkeypatch, capsys, broken):
    def fail(*args):
        raise RuntimeError("no such font\nand more")

    expected = fit(smoke(epochs=2, out_dir=smoke().out_dir + "_undisturbed"))
    monkeypatch.setattr(live, "place", Place)
    monkeypatch.setattr(live, "DRAWING_SHARE", 1)
    monkeypatch.setattr(run_figures, broken, fail)
    capsys.readouterr()
    path = fit(smoke(epochs=2), callback=Live())
    told = capsys.readouterr().out.splitlines()
    assert told.count("note: not drawn (RuntimeError: no such font); the training goes on") == 2
    losses = [pd.read_csv(folder.csv)["train_loss"].tolist() for folder in (expected, path)]
    assert losses[0] == losses[1]


def test_the_time_to_go_is_of_the_epochs_that_are_left(smoke, monkeypatch, capsys):
    """Stopped in the middle of the second of four epochs, two and a half of 30 s each are left."""
    monkeypatch.setattr(live, "epoch_seconds", lambda config, model, steps, validated: 30.0)
    config = smoke(epochs=4)

    def stop(event, run):
        if event == "step" and run.state.step == 3 * run.steps_per_epoch // 2:
            run.stop.requested = "SIGTERM"

    with pytest.raises(RunStopped):
        fit(config, callback=stop)
    capsys.readouterr()
    folder = fit(config, callback=Live())
    assert "continues at epoch 2, step 5; about 75 s to go on this machine (cpu)" in capsys.readouterr().out
    folder.json.unlink()
    fit(config, callback=Live())
    assert "is trained; what is left is its summary" in capsys.readouterr().out


def test_a_network_that_fails_in_a_picture_is_left_in_training_mode(smoke, monkeypatch):
    modes = []

    def callback(event, run):
        if event == "epoch" and run.state.step:
            monkeypatch.setattr(Predictor, "__call__", lambda predictor, images: 1 / 0)
            run.eval_model.train()
            with pytest.raises(ZeroDivisionError):
                Live()._predictions(run)
            modes.append(run.eval_model.training)

    fit(smoke(epochs=1), callback=callback)
    assert modes == [True]
