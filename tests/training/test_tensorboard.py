"""Curves for TensorBoard: those of the CSV and the schedule, each point once however often the run was cut short."""

import multiprocessing
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from helpers import fault_driver
from helpers.run_outcome import assert_same, outcome

from deeplab_lib.common.errors import RunStopped
from deeplab_lib.config import Config
from deeplab_lib.labels import CLASS_NAMES, colorize
from deeplab_lib.training.loop import fit
from deeplab_lib.training.tensorboard import TensorBoard, log_folder, panel, scalars, wait_for_a_later_name

pytest.importorskip("tensorboard", reason="tensorboard is not installed")
STEPS = 10  # an epoch at smoke scale
MACHINE = ("cost/images_per_s", "cost/peak_memory_MB")


def curves(config):
    """`{tag: [(step, value)]}` of a run's scalars, and the steps of its panels, as TensorBoard reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(log_folder(config)), size_guidance={"scalars": 0, "images": 0}).Reload()
    panels = [event.step for event in found.Images("predictions/image_labels_prediction")]
    tags = [tag for tag in found.Tags()["scalars"] if tag not in MACHINE]
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in tags}, panels


@pytest.fixture(scope="module")
def undisturbed(smoke_city, tmp_path_factory):
    """A finished run that changes on the way, its configuration and its curves."""
    folder = tmp_path_factory.mktemp("undisturbed")
    config = Config(loss="ce_focal", preset="smoke", device="cpu", amp="off", out_dir=str(folder), tensorboard=True)
    return fit(config), config, curves(config)


def test_points_are_those_of_the_table_an_epoch_and_of_the_schedule_a_step(undisturbed):
    run, config, (found, panels) = undisturbed
    table = pd.read_csv(run.csv)
    ends = [STEPS * epoch - 1 for epoch in table["epoch"]]
    columns = {"loss/train": "train_loss", "loss/validation": "val_loss", "mIoU/validation": "val_mIoU"}
    columns |= {"loss_terms/focal": "loss_focal", f"validation_IoU/{CLASS_NAMES[0]}": "class_0_val"}
    for tag, column in columns.items():
        assert [step for step, _ in found[tag]] == ends
        assert np.allclose([value for _, value in found[tag]], table[column], rtol=1e-6)
    schedule = config.poly(STEPS)
    steps = range(STEPS * config.epochs)
    for tag, values in {
        "lr": map(schedule.lr, steps),
        "power": map(schedule.power, steps),
        "weight_ce": (schedule.weights(step)["ce"] for step in steps),
        "frozen_parts": (len(schedule.frozen(step)) for step in steps),
    }.items():
        assert [step for step, _ in found[f"schedule/{tag}"]] == list(steps)
        assert np.allclose([value for _, value in found[f"schedule/{tag}"]], list(values), rtol=1e-6)
    assert panels == ends


def test_a_class_without_iou_has_no_point():
    row = {"epoch": 1, "val_mIoU": 5.0, "class_0_val": float("nan"), "class_18_val": 7.0, "lr": 0.1}
    assert dict(scalars(row)) == {"mIoU/validation": 5.0, "validation_IoU/bicycle": 7.0}


def test_the_run_is_to_the_bit_what_it_is_without(undisturbed, smoke):
    plain = smoke(loss="ce_focal")
    fit(plain)
    assert_same(outcome(undisturbed[1]), outcome(plain))
    assert not log_folder(plain).parent.exists(), "off unless asked for"


@pytest.mark.parametrize("step", [STEPS + 3, 2 * STEPS])
def test_a_stopped_run_continues_its_curves(undisturbed, smoke, step):
    config = smoke(loss="ce_focal", tensorboard=True)

    def stop(event, trainer):
        if (event, trainer.state.step) == ("step", step):
            trainer.stop.requested = "SIGTERM"

    with pytest.raises(RunStopped):
        fit(config, callback=stop)
    fit(config)
    (found, panels), (expected, ends) = curves(config), undisturbed[2]
    assert found == expected
    assert sorted({*panels}) == panels and panels[-3:] == ends[-3:]


def test_a_file_begun_in_the_same_second_is_waited_for(tmp_path, monkeypatch):
    """Names of one second are ordered by process, and a file read too early would purge what came after it."""
    slept = []
    monkeypatch.setattr(
        "deeplab_lib.training.tensorboard.time", SimpleNamespace(time=lambda: 100.25, sleep=slept.append)
    )
    assert not wait_for_a_later_name(tmp_path) and not slept
    (tmp_path / "events.out.tfevents.0000000099.host.7.0").touch()
    assert wait_for_a_later_name(tmp_path)
    (tmp_path / "events.out.tfevents.0000000100.host.9.0").touch()
    assert wait_for_a_later_name(tmp_path)
    (tmp_path / "events.out.tfevents.0000009999.host.9.0").touch()  # a clock that was set back: not for ever
    assert wait_for_a_later_name(tmp_path)
    assert slept == [0.0, 0.75, 1.0]


@pytest.mark.parametrize("aim", [("step", 2 * STEPS + 4), ("epoch", 2)], ids=str)
def test_a_killed_run_continues_its_curves_without_a_doubled_or_a_missing_point(undisturbed, tmp_path, aim):
    """Killed between two checkpoints, with steps to do again; between an epoch's checkpoint and its points."""
    parameters = {"loss": "ce_focal", "preset": "smoke", "device": "cpu", "amp": "off", "out_dir": str(tmp_path)}
    parameters |= {"tensorboard": True, "workers": 0}
    process = multiprocessing.get_context("forkserver").Process(
        target=fault_driver.run, args=(parameters, aim, str(tmp_path / "steps"))
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL, f"the run never came to {aim}"
    config = Config(**parameters)
    fit(config)
    (found, panels), (expected, ends) = curves(config), undisturbed[2]
    assert found == expected
    assert sorted({*panels}) == panels and panels[-3:] == ends[-3:]


def test_switched_on_late_it_has_the_whole_curve(undisturbed, smoke):
    def stop(event, trainer):
        if (event, trainer.state.step) == ("step", 3 * STEPS + 1):
            trainer.stop.requested = "SIGTERM"

    with pytest.raises(RunStopped):
        fit(smoke(loss="ce_focal"), callback=stop)
    config = smoke(loss="ce_focal", tensorboard=True)
    fit(config)
    assert curves(config)[0] == undisturbed[2][0]


def test_a_run_that_starts_anew_replaces_its_curve(undisturbed, smoke):
    fit(smoke(loss="ce_focal", tensorboard=True))
    again = smoke(loss="ce_focal", tensorboard=True, resume=False)
    fit(again)
    assert curves(again) == undisturbed[2]


def test_the_panel_shows_image_labels_and_prediction(smoke):
    seen = []

    def look(event, trainer):
        if event == "finish":
            seen.append((panel(trainer), trainer.data.val.raw(0), trainer.config.size))

    fit(smoke(epochs=1), callback=look)
    pixels, (image, labels), (height, width) = seen[0]
    assert pixels.shape == (3 * height, 3 * width, 3) and pixels.dtype == np.uint8
    assert np.array_equal(pixels[:height, :width], image)
    assert np.array_equal(pixels[:height, width : 2 * width], colorize(labels))


def test_a_disk_that_is_full_costs_the_curves_and_not_the_training(undisturbed, smoke, monkeypatch, capsys):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TensorBoard, "_schedule", full)
    config = smoke(loss="ce_focal", tensorboard=True)
    fit(config)
    assert_same(outcome(config), outcome(undisturbed[1]))
    told = [line for line in capsys.readouterr().out.splitlines() if "TensorBoard" in line]
    assert told == [
        "note: TensorBoard's files end here (OSError: [Errno 28] No space left on device); the training goes on"
    ]


def test_it_is_not_imported_unless_asked_for_and_missing_is_one_line_before_anything(smoke_city, tmp_path, monkeypatch):
    program = (
        "import sys\nfrom deeplab_lib import Config, fit\n"
        f"fit(Config(preset='smoke', epochs=1, out_dir={str(tmp_path)!r}))\n"
        "assert not any('tensorboard' in name.split('.')[0] for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    monkeypatch.setattr("deeplab_lib.config.find_spec", lambda name: None)
    with pytest.raises(ValueError) as error:
        Config(tensorboard=True)
    assert str(error.value).startswith("tensorboard is True, but is not installed: pip install tensorboard")
