"""Runs at smoke scale: what they leave behind, that they can be stopped and continued anywhere, and what goes wrong."""

import csv
import errno
import gc
import json
import os
import shutil
import signal
import threading
import time
import weakref
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.clock import Clock
from helpers.run_outcome import TIMINGS, assert_same, outcome, same_when_cut_short

from deeplab_lib import recipes, toycity
from deeplab_lib.common import devices, files
from deeplab_lib.common.errors import RunStopped
from deeplab_lib.config import Config
from deeplab_lib.data.normalization import RGB_IMAGENET
from deeplab_lib.labels import NUM_CLASSES
from deeplab_lib.metrics import ConfusionMatrix
from deeplab_lib.models.registry import make_model
from deeplab_lib.training import checkpoint, loop, state, trainer
from deeplab_lib.training.finite import LossTerms
from deeplab_lib.training.lock import run_lock
from deeplab_lib.training.loop import fit
from deeplab_lib.training.run_folder import RunFolder

STEPS, EPOCHS = 10, 5  # of the smoke preset: 20 images in batches of two


def at(step, act):
    """A watcher that calls `act(run)` once the run has taken `step` steps."""
    return lambda event, run: act(run) if (event, run.state.step) == ("step", step) else None


def interrupted(config, step, number=signal.SIGTERM):
    with pytest.raises(RunStopped) as raised:
        fit(config, callback=at(step, lambda run: os.kill(os.getpid(), number)))
    return str(raised.value)


def files_of(config):
    return RunFolder.of(config)


def record_of(config):
    return json.loads(files_of(config).path(".json").read_text())


def table_of(config):
    return pd.read_csv(files_of(config).path(".csv"))


@pytest.fixture(scope="module")
def whole(smoke_city, tmp_path_factory):
    """An undisturbed run of the CE + Focal recipe: its `Config`."""
    folder = tmp_path_factory.mktemp("whole")
    config = Config(loss="ce_focal", preset="smoke", out_dir=str(folder), device="cpu", amp="off")
    fit(config)
    return config


@pytest.fixture
def focal(smoke):
    """The same run to be made anew."""
    return smoke(loss="ce_focal")


# -- what a run leaves behind ------------------------------------------------------------------------------------------


def test_columns_of_the_csv_in_their_order(whole):
    with open(files_of(whole).path(".csv")) as file:
        header = next(csv.reader(file))
    classes = [f"class_{c}_{split}" for split in ("train", "val") for c in range(NUM_CLASSES)]
    assert header == [
        "epoch", "lr", "train_loss", "val_loss", "train_mIoU", "val_mIoU", *classes, "Runtime",
        "val_ce", "val_pixel_accuracy", "loss_ce", "loss_focal", "weighted_ce", "weighted_focal",
        "weight_ce", "weight_focal", "power", "trainable_parameters", "images_per_s", "peak_memory_MB",
        "train_loss_final", "train_mIoU_final", "val_loss_final", "val_ce_final", "val_mIoU_final",
        "val_pixel_accuracy_final",
    ]  # fmt: skip


def test_numbers_of_the_csv_agree_with_each_other(whole):
    table = table_of(whole)
    assert table["epoch"].tolist() == [1, 2, 3, 4, 5]
    for split in ("train", "val"):
        classes = table[[f"class_{c}_{split}" for c in range(NUM_CLASSES)]]
        assert np.allclose(table[f"{split}_mIoU"], classes.mean(axis=1))
        assert classes.max(axis=None) <= 100
    assert np.allclose(table["train_loss"], table["weighted_ce"] + table["weighted_focal"])
    assert np.allclose(table["weighted_focal"], 0.5 * table["loss_focal"])
    assert (table["loss_focal"] < table["loss_ce"]).all()
    assert (table["val_loss"] < table["val_ce"]).all()
    plan = whole.poly(STEPS)
    assert np.allclose(table["lr"], [plan.lr(STEPS * epoch - 1) for epoch in table["epoch"]], rtol=1e-12)
    assert table["power"].tolist() == [0.9, 0.9, 1.2, 1.2, 1.0]
    assert table["trainable_parameters"].nunique() == 2  # frozen in the last epoch
    assert table["train_loss"].iloc[-1] < table["train_loss"].iloc[0]


def test_the_last_row_alone_has_final_values(whole):
    """For whoever reads the CSV with pandas: as many rows as epochs, and the headline in the last."""
    table = table_of(whole)
    assert table["epoch"].max() == len(table)
    finals = table.filter(regex="_final$")
    assert finals.iloc[:-1].isna().all(axis=None) and len(finals.columns) == 6
    for name, value in finals.iloc[-1].items():  # all images are evaluated after every epoch here
        assert value == table[name.removesuffix("_final")].iloc[-1]


def test_after_the_last_epoch_all_images_are_evaluated(smoke, monkeypatch):
    """A pass over the training images is two epochs; of eight validation images the first three make the curves."""
    scale = replace(recipes.PRESETS["smoke"], epochs_per_pass=2, val_each_epoch=3)
    monkeypatch.setitem(recipes.PRESETS, "smoke", scale)
    config = smoke(epochs=4)
    seen, passes, close_epoch = [], [], loop.close_epoch

    def closing(run, evaluation):
        passes.append(evaluation)
        close_epoch(run, evaluation)

    monkeypatch.setattr(loop, "close_epoch", closing)
    fit(config, callback=lambda event, run: event == "step" and seen.append(run.state.step))
    assert len(seen) == 4 * 5  # 20 images, 10 an epoch, in batches of 2
    table, record = table_of(config), record_of(config)
    assert [len(result.confusion) for result in passes] == [3, 3, 3, 8]
    with np.load(files_of(config).path(".npz")) as arrays:
        counts = arrays["confusion"]
    assert len(counts) == 8
    part, whole = (ConfusionMatrix(matrix=torch.from_numpy(some.sum(0))) for some in (counts[:3], counts))
    last = table.iloc[-1]
    assert (last["val_mIoU"], last["val_mIoU_final"]) == pytest.approx((part.miou(), whole.miou()))
    assert last[[f"class_{c}_val" for c in range(NUM_CLASSES)]].mean() == pytest.approx(last["val_mIoU_final"])
    assert record["final"]["val_mIoU"] == pytest.approx(last["val_mIoU_final"]) != pytest.approx(last["val_mIoU"])
    assert record["final"]["val_loss"] == last["val_loss_final"]
    assert record["best"]["val_mIoU"] == pytest.approx(table["val_mIoU"].max())
    told = {name: record["dataset"][name] for name in ("train", "train_each_epoch", "val", "val_each_epoch")}
    assert told == {"train": 20, "train_each_epoch": 10, "val": 8, "val_each_epoch": 3}


def test_the_epochs_of_a_pass_share_out_its_images(smoke, monkeypatch):
    monkeypatch.setitem(recipes.PRESETS, "smoke", replace(recipes.PRESETS["smoke"], epochs_per_pass=2))
    order, config = {}, smoke(epochs=4)

    def callback(event, run):
        if event == "step":
            order[run.state.epoch] = np.ravel(run.numbers_of(run.state.epoch)).tolist()

    fit(config, callback=callback)
    first, second = order[1] + order[2], order[3] + order[4]
    assert sorted(first) == sorted(second) == list(range(20)) and first != second


def test_a_run_of_an_earlier_version_gains_the_columns_it_lacks(smoke, monkeypatch):
    config = smoke(epochs=2)
    row = loop.epoch_row

    def as_before(*given):
        return {name: value for name, value in row(*given).items() if not name.endswith("_final")}

    with monkeypatch.context() as patch:
        patch.setattr(loop, "epoch_row", as_before)
        interrupted(config, STEPS + 3)
    fit(config)
    finals = table_of(config)["val_mIoU_final"]
    assert np.isnan(finals[0]) and finals[1] == table_of(config)["val_mIoU"][1]


def test_summary_agrees_with_csv_and_arrays(whole):
    record, table = record_of(whole), table_of(whole)
    with np.load(files_of(whole).path(".npz")) as arrays:
        counts, names = arrays["confusion"], arrays["names"]
        assert counts.shape == (8, NUM_CLASSES, NUM_CLASSES) and len(names) == len(arrays["boundary_f"]) == 8
        assert arrays["predictions"].shape == (8, 32, 64) and arrays["predictions"].dtype == np.uint8
        assert arrays["confusion_native"].sum() > counts.sum() * 3.5  # labels are 64x128, the input 32x64
    tp, total = np.diagonal(counts.sum(0)), counts.sum((0, 1)) + counts.sum((0, 2))
    iou = [None if not union else 100 * hits / union for hits, union in zip(tp, total - tp, strict=True)]
    assert record["final"]["class_val"] == pytest.approx(iou)
    assert record["final"]["val_mIoU"] == pytest.approx(table["val_mIoU"].iloc[-1])
    assert record["best"]["val_mIoU"] == pytest.approx(table["val_mIoU"].max())
    assert record["parameters"]["trainable_at_end"] == table["trainable_parameters"].iloc[-1]
    assert record["parameters"]["trainable"] == table["trainable_parameters"].iloc[0]
    assert record["recipe"] == "ce_focal" and record["finished"] is True and record["dataset"]["synthetic"] is True
    assert [session["reason"] for session in record["sessions"]] == ["finished"]


def test_best_weights_are_those_of_the_best_epoch(whole):
    record = record_of(whole)
    best = checkpoint.load(files_of(whole).path(".best.pt"))
    last = checkpoint.load(files_of(whole).path(".pt"))
    assert best["best"]["epoch"] == record["best"]["epoch"]
    alike = all(torch.equal(best["model"][key], value) for key, value in last["model"].items())
    assert alike == (record["best"]["epoch"] == EPOCHS)


def test_of_equal_epochs_the_first_is_the_best(smoke, monkeypatch):
    monkeypatch.setattr(ConfusionMatrix, "miou", lambda counts: 40.0)
    config = smoke(epochs=2)
    fit(config)
    assert record_of(config)["best"] == {"epoch": 1, "val_mIoU": 40.0}


def test_what_is_shown_takes_none_of_an_epochs_time(smoke, monkeypatch):
    """On the run's clock a step takes a second and showing it a thousand."""
    clock, config, logits = Clock(), smoke(epochs=2, checkpoint_minutes=1e6), trainer.Trainer.grid_logits
    monkeypatch.setattr(state, "time", clock)
    monkeypatch.setattr(trainer.Trainer, "grid_logits", lambda run, images: clock.sleep(1) or logits(run, images))
    fit(config, callback=lambda event, run: clock.sleep(1000))
    assert clock.now > 1000 * 2 * STEPS and table_of(config)["Runtime"].tolist() == [STEPS, STEPS]


def test_a_warm_up_that_outlasts_the_training_is_told(smoke, smoke_city):
    small = {"model": "deeplabv2_micro", "image_height": 32, "image_width": 64, "batch_size": 2, "pretrained": "none"}
    config = smoke(loss="ce_focal", preset="paper", data=smoke_city, epochs=1, **small)
    fit(config)
    told = "the warm-up takes 500 steps, the whole training 10: the initial learning rate is never reached"
    assert record_of(config)["warnings"] == [told]


def test_the_optimiser_is_the_studys():
    backbone, head = trainer.make_optimizer(make_model("deeplabv2_micro"), 1e-3).param_groups
    assert all((group["momentum"], group["weight_decay"]) == (0.9, 5e-4) for group in (backbone, head))
    assert not backbone["nesterov"] and (backbone["factor"], head["factor"]) == (1, 10)


def test_a_loss_by_class_frequency_validates_with_the_weights_it_trains_with(smoke):
    seen = []
    fit(smoke(loss="median_ce", epochs=1), callback=lambda event, run: seen.append(run) if event == "start" else None)
    trained, validated = (loss.losses["median_ce"].weights for loss in (seen[0].loss, seen[0].validation_loss))
    assert torch.equal(trained, validated) and len(set(trained.tolist())) > 2


def test_a_step_that_is_still_to_be_looked_at_is_so_before_anything_is_saved(smoke):
    def save_too_early(event, run):
        if (event, run.state.step) == ("step", 3):
            run.finite.pending.append(LossTerms(devices.Copy(torch.tensor([float("nan")])), 1, 3, [0, 1]))
            loop.save(run)

    config = smoke(epochs=1)
    with pytest.raises(RunStopped, match="not finite at epoch 1, step 3: ce = nan"):
        fit(config, callback=save_too_early)
    assert not files_of(config).path(".pt").exists()


def test_frozen_weights_stay_and_rates_are_those_of_the_plan(focal):
    plan, seen = focal.poly(STEPS), {}

    def callback(event, run):
        if event != "step":
            return
        step = run.state.step - 1
        backbone, head = (group["lr"] for group in run.optimizer.param_groups)
        assert (backbone, head) == (plan.lr(step), 10 * plan.lr(step))
        if plan.frozen(step):
            now = {k: v.clone() for k, v in run.model.state_dict().items() if k.split(".")[0] in plan.frozen(step)}
            assert all(torch.equal(now[key], value) for key, value in seen.setdefault("frozen", now).items())

    fit(focal, callback=callback)
    assert len(seen["frozen"]) > 20


def test_every_epoch_sees_every_image_once_in_another_order(focal):
    orders = []
    fit(
        focal,
        callback=lambda event, run: (
            orders.append(np.ravel(run.numbers_of(run.state.epoch))) if event == "epoch" else None
        ),
    )
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert len({tuple(order) for order in orders}) == len(orders)


# -- what the loss sees ------------------------------------------------------------------------------------------------


@pytest.fixture
def seen(monkeypatch):
    """Everything that a loss is given: logits and labels."""
    pairs, terms = [], trainer.WeightedLoss.terms

    def keep(loss, logits, labels):
        pairs.append((logits, labels))
        return terms(loss, logits, labels)

    monkeypatch.setattr(trainer.WeightedLoss, "terms", keep)
    return pairs


@pytest.mark.parametrize(("stride", "grid"), [(0, (5, 9)), (8, (5, 9)), (4, (9, 17)), (1, (33, 65))])
def test_the_loss_sees_labels_as_fine_as_asked_for(smoke, seen, stride, grid):
    record = fit(smoke(epochs=1, label_stride=stride)).json
    logits, labels = seen[0]
    assert (logits.shape, labels.shape) == ((2, NUM_CLASSES, *grid), (2, *grid))
    assert pd.read_csv(record.with_suffix(".csv"))["val_ce"].gt(0).all()


def test_a_multiscale_loss_sees_the_images_at_three_scales_and_their_maximum(smoke, seen):
    fit(smoke(epochs=1, multiscale=True))
    logits, labels = seen[0]
    assert (logits.shape, labels.shape) == ((8, NUM_CLASSES, 5, 9), (8, 5, 9))
    whole, *smaller, highest = logits.chunk(4)
    assert torch.equal(highest, torch.stack([whole, *smaller]).amax(0))
    assert not torch.equal(whole, smaller[0]) and not torch.equal(*smaller)
    assert all(torch.equal(part, labels[:2]) for part in labels.chunk(4))


def test_finer_labels_and_scales_go_on_as_they_began(smoke, tmp_path):
    parameters = {"loss": "ce_dice", "epochs": 2, "label_stride": 2, "multiscale": True, "ema": 0.9}
    same_when_cut_short(smoke, tmp_path, step=STEPS + 3, **parameters)


# -- the same command, the same numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_runs_are_bit_equal_whatever_the_number_of_workers(whole, smoke, workers):
    config = smoke(loss="ce_focal", workers=workers)
    fit(config)
    assert_same(outcome(config), outcome(whole))


def test_another_seed_is_another_run(whole, smoke):
    config = smoke(loss="ce_focal", seed=1)
    fit(config)
    assert config.stem == whole.stem + "_seed1"
    assert table_of(config)["train_loss"].tolist() != table_of(whole)["train_loss"].tolist()


def test_a_finished_run_is_recognised_and_left_alone(whole):
    before = {path: path.stat().st_mtime_ns for path in Path(whole.out_dir).glob("*.[cjnp]*")}
    fit(whole, callback=lambda event, run: pytest.fail(f"trained again: {event}"))
    assert before == {path: path.stat().st_mtime_ns for path in Path(whole.out_dir).glob("*.[cjnp]*")}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("step", [3, STEPS, 44])
def test_a_stop_finishes_the_step_saves_and_says_how_to_continue(whole, focal, step, number):
    message = interrupted(focal, step, number)
    epoch, inside = (step - 1) // STEPS + 1, (step - 1) % STEPS + 1
    assert message.startswith(f"stopped by {number.name} at epoch {epoch}, step {inside}; the last good state is in ")
    assert message.endswith("run it again to continue")
    assert not files_of(focal).path(".json").exists()
    steps = []
    fit(focal, callback=lambda event, run: steps.append(run.state.step) if event == "step" else None)
    assert steps == list(range(step + 1, EPOCHS * STEPS + 1))
    assert_same(outcome(focal), outcome(whole))
    assert [session["reason"] for session in record_of(focal)["sessions"]] == [
        f"interrupted by {number.name}",
        "finished",
    ]


def test_a_stop_in_validation_repeats_only_the_validation(whole, focal):
    """In the last epoch, where layers are frozen: weights, counts and pace reported must be those in force."""
    seconds = []

    def stop(event, run):
        if (event, run.state.step) == ("validate", 50):
            seconds.append(run.state.training_seconds)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(RunStopped, match="stopped by SIGTERM at epoch 5, step 10"):
        fit(focal, callback=stop)
    fit(focal, callback=lambda event, run: pytest.fail("a step was repeated") if event == "step" else None)
    assert_same(outcome(focal), outcome(whole))
    assert table_of(focal)["images_per_s"].iloc[-1] == round(20 / seconds[0], 3)


def test_dropout_too_resumes_exactly(smoke, monkeypatch):
    """FCN and DeepLabV3 have dropout; here a small network gets it."""

    def with_dropout(*args, **options):
        model = make_model(*args, **options)
        model.relu = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Dropout(0.5))
        return model

    monkeypatch.setattr(trainer, "make_model", with_dropout)
    straight, broken = smoke(epochs=2), smoke(epochs=2, out_dir=smoke().out_dir + "2")
    fit(straight)
    torch.rand(7)  # the state of the global generator is no part of a run
    interrupted(broken, 7)
    fit(broken)
    assert_same(outcome(broken), outcome(straight))


def test_parts_of_a_batch_give_the_gradient_of_the_batch(smoke):
    """Cross-entropy of a batch in two parts, weighted by their valid pixels; batch norm held, for it sees the parts."""
    whole, parts = (smoke(bn="eval", batch_size=4, epochs=1, accumulate=n) for n in (1, 2))
    fit(whole)
    fit(parts)
    a, b = (checkpoint.load(files_of(config).path(".pt"))["model"] for config in (whole, parts))
    assert all(torch.allclose(a[key].float(), b[key].float(), atol=1e-5) for key in a)
    scores = [table_of(config).filter(regex="_train$|train_mIoU") for config in (whole, parts)]
    assert np.allclose(*scores, equal_nan=True, atol=0.2)  # in percent; a pixel may tip, images may not be mixed up


# -- one run, one configuration ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("finished", [True, False])
def test_changed_data_is_refused_with_what_changed_and_both_ways_out(smoke, tmp_path, finished):
    one, other = tmp_path / "a" / "city", tmp_path / "b" / "city"
    for folder, seed in ((one, 1), (other, 2)):
        toycity.write(folder, 4, 2, size=(32, 64), seed=seed)
    config = smoke(data=str(one), epochs=1, out_dir=str(tmp_path / "runs"))
    fit(config) if finished else interrupted(config, 1)
    changed = smoke(data=str(other), epochs=1, out_dir=str(tmp_path / "runs"))
    before = files_of(config).path(".pt").read_bytes()
    with pytest.raises(
        ValueError, match=r"differs in dataset: \w+ -> \w+\. .*another out_dir, .*, or resume=False"
    ) as raised:
        fit(changed)
    assert "\n" not in str(raised.value) and files_of(config).path(".pt").read_bytes() == before
    fit(smoke(data=str(other), epochs=1, out_dir=str(tmp_path / "runs"), resume=False))
    assert files_of(config).path(".old1.pt").read_bytes() == before


def test_a_run_whose_data_were_told_in_another_way_is_refused_saying_so(smoke):
    """Its fingerprint cannot be compared, and two hashes alone would look like changed data."""
    config = smoke(epochs=1)
    path = fit(config).json
    summary = files.read_json(path)
    del summary["identity"]["dataset_told_by"]
    files.write_json(path, summary | {"identity": summary["identity"] | {"dataset": "0" * 64}})
    with pytest.raises(ValueError, match=r"dataset: 0+ -> \w+; dataset_told_by: None -> names, sizes of images, "):
        fit(config)


def test_a_checkpoint_without_the_settings_of_its_weights_is_continued(smoke):
    config = smoke(epochs=2)
    interrupted(config, 3)
    path = files_of(config).path(".pt")
    state = checkpoint.load(path)
    del state["weights"]
    checkpoint.save(path, state)
    assert fit(config).summary["finished"]


def test_resume_false_starts_anew_and_keeps_the_old_files(whole, smoke):
    config = smoke(loss="ce_focal")
    interrupted(config, 25)
    half = table_of(config)
    fit(smoke(loss="ce_focal", resume=False))
    assert_same(outcome(config), outcome(whole))
    assert pd.read_csv(files_of(config).path(".old1.csv")).equals(half)
    assert len(record_of(config)["sessions"]) == 1


def test_resume_false_moves_nothing_before_the_rest_is_in_order(whole, smoke, tmp_path):
    folder = shutil.copytree(whole.out_dir, tmp_path / "copy")
    with pytest.raises(FileNotFoundError, match="missing"):
        fit(smoke(loss="ce_focal", resume=False, data=str(tmp_path / "missing"), out_dir=str(folder)))
    assert {path.name for path in folder.iterdir()} >= {path.name for path in Path(whole.out_dir).iterdir()}


def test_a_stopped_run_that_would_start_anew_says_what_continues_it(smoke):
    assert interrupted(smoke(resume=False), 3).endswith("run it again with resume=True to continue")


@pytest.mark.parametrize(("first", "then"), [("off", "fp16"), ("fp16", "off"), ("bf16", "fp16")])
def test_a_run_goes_on_in_the_precision_of_another_machine(smoke, first, then):
    interrupted(smoke(epochs=2, amp=first), 7)
    fit(smoke(epochs=2, amp=then))
    assert [session["amp"] for session in record_of(smoke(epochs=2))["sessions"]] == [first, then]


def test_a_first_step_that_overflows_in_fp16_leaves_no_momentum(smoke, monkeypatch):
    momenta, huge = [], partial(torch.amp.GradScaler, init_scale=2.0**40)
    monkeypatch.setattr(torch.amp, "GradScaler", huge)

    def callback(event, run):
        if (event, run.state.step) == ("step", 1):
            momenta.extend(state["momentum_buffer"] for state in run.optimizer.state.values())

    fit(smoke(epochs=1, amp="fp16"), callback=callback)
    assert momenta and not any(momentum.any() for momentum in momenta)


@pytest.mark.parametrize(("first", "then"), [(True, False), (False, True)])
def test_momentum_lies_in_memory_as_its_weight_does_whatever_the_run_began_with(smoke, first, then):
    interrupted(smoke(epochs=1, fast=first), 3)
    strides = []

    def callback(event, run):
        strides.extend((p.stride(), state["momentum_buffer"].stride()) for p, state in run.optimizer.state.items())

    fit(smoke(epochs=1, fast=then), callback=callback)
    assert strides and all(weight == momentum for weight, momentum in strides)


def test_what_is_left_off_stays_off_when_a_run_goes_on(smoke):
    interrupted(smoke(epochs=1), 3)
    fused = []
    fit(
        smoke(epochs=1, fast=False),
        callback=lambda event, run: fused.append(run.optimizer.param_groups[0]["fused"]),
    )
    assert not any(fused)


def test_warnings_are_told_once_however_often_a_run_is_stopped(smoke, monkeypatch):
    resolve, config = loop.weights.resolve, smoke(epochs=1)
    monkeypatch.setattr(loop.weights, "resolve", lambda *given: replace(resolve(*given), warning="no weights"))
    for step in (2, 4, 6):
        interrupted(config, step)
    fit(config)
    assert record_of(config)["warnings"] == ["no weights"]


def test_an_older_csv_without_a_checkpoint_is_not_overwritten(whole, focal):
    path = files_of(focal).path(".csv")
    path.parent.mkdir(parents=True)
    path.write_text("epoch,val_mIoU\n1,50.0\n")
    fit(focal)
    assert files_of(focal).path(".old1.csv").read_text() == "epoch,val_mIoU\n1,50.0\n"
    assert "kept as DeepLabV2_ce05_f05_warnup_lr_0.0003.old1.*" in " ".join(record_of(focal)["warnings"])
    assert_same(outcome(focal), outcome(whole))


# -- damage ------------------------------------------------------------------------------------------------------------


def cut(path):
    path.write_bytes(path.read_bytes()[:1000])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut, flip])
def test_a_damaged_checkpoint_falls_back_to_the_previous_one_and_says_so(whole, focal, damage):
    interrupted(focal, 25)
    damage(files_of(focal).path(".pt"))
    first = []
    fit(focal, callback=lambda event, run: first.append(run.state.step) if event == "start" else None)
    assert first == [20]
    assert_same(outcome(focal), outcome(whole))
    assert (
        ".pt is damaged: its content does not match its hash; continuing from the previous"
        in record_of(focal)["warnings"][0]
    )


def test_two_damaged_checkpoints_start_over_and_say_so(whole, focal):
    interrupted(focal, 25)
    for ending in (".pt", ".previous.pt"):
        cut(files_of(focal).path(ending))
    fit(focal)
    assert_same(outcome(focal), outcome(whole))
    warnings = record_of(focal)["warnings"]
    assert [("starting over" in w, "kept as" in w) for w in warnings] == [(True, False), (True, False), (False, True)]
    assert len(pd.read_csv(files_of(focal).path(".old1.csv"))) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '"finished"', "\x00\xff"])
def test_a_damaged_summary_is_refused_by_name(whole, focal, content):
    shutil.copytree(whole.out_dir, focal.out_dir)
    files_of(focal).path(".json").write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=r"0003.json is not a readable JSON file .*; move it away, and") as raised:
        fit(focal)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("arrays", ["lost", "damaged", "whole"])
def test_a_lost_summary_and_lost_arrays_are_made_again_without_training(whole, focal, arrays):
    shutil.copytree(whole.out_dir, focal.out_dir)
    files_of(focal).path(".json").unlink()
    if arrays != "whole":
        {"lost": os.remove, "damaged": cut}[arrays](files_of(focal).path(".npz"))
    fit(focal, callback=lambda event, run: pytest.fail("trained again") if event == "step" else None)
    assert_same(outcome(focal), outcome(whole))


def test_changed_code_is_noted(focal, monkeypatch):
    interrupted(focal, 5)
    monkeypatch.setattr(loop.record, "code_sha256", lambda: "other")
    fit(focal)
    assert "the library's code changed before epoch 1" in record_of(focal)["warnings"][0]


# -- trouble on the way ------------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_at_that_step_and_names_term_step_and_images(whole, focal):
    def poison(run):
        with torch.no_grad():
            run.model.aspp.branches[2].bias[4] = float("nan")

    batches = []
    callback = lambda event, run: (batches.append(run.numbers_of(run.state.epoch)), at(12, poison)(event, run))  # noqa: E731
    with pytest.raises(RunStopped) as raised:
        fit(focal, callback=callback)
    message = str(raised.value)
    assert message.startswith("the loss is not finite at epoch 2, step 3: ce = nan, focal = nan; images ")
    names = message.split("images ")[1].split(". ")[0].split(", ")
    pairs = loop.prepare_data(focal, RGB_IMAGENET).train.pairs
    assert names == [pairs[i].name for i in batches[-1][2]]
    assert checkpoint.load(files_of(focal).path(".pt"))["position"]["epoch"] == 2
    fit(focal)
    assert_same(outcome(focal), outcome(whole))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore lines"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 17179869184 bytes."),
        MemoryError(),
    ],
)
def test_exhausted_memory_says_what_to_try(focal, monkeypatch, error):
    monkeypatch.setattr(trainer.Trainer, "grid_logits", lambda run, images: (_ for _ in ()).throw(error))
    with pytest.raises(RunStopped) as raised:
        fit(focal)
    assert str(raised.value) == (
        "out of memory at epoch 1, step 0: try accumulate=2 (the same batch of 2 in 2 parts) or a smaller batch_size; "
        "nothing had been saved yet"
    )


def test_exhausted_memory_is_given_back_though_the_error_is_kept(smoke, monkeypatch):
    """A notebook keeps the last error, so that its next run would begin with the memory of this one."""
    scores, made = trainer.Trainer.grid_logits, []

    def remembered(run, images):
        logits = scores(run, images)
        made.append(weakref.ref(logits))
        return logits

    monkeypatch.setattr(trainer.Trainer, "grid_logits", remembered)
    monkeypatch.setattr(trainer.WeightedLoss, "total", lambda loss, terms: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(RunStopped) as kept:
        fit(smoke())
    gc.collect()
    assert kept.tb is not None and made and all(logits() is None for logits in made)


@pytest.fixture
def failing_disk(monkeypatch):
    """Makes every sync to disk fail, after the first `sound` ones, `times` times with error `number`."""

    def fail(number, sound, times):
        sync, done = files.sync, [0]

        def failing(path):
            done[0] += 1
            if sound < done[0] <= sound + times:
                raise OSError(number, os.strerror(number), str(path))
            sync(path)

        monkeypatch.setattr(files, "sync", failing)
        monkeypatch.setattr(files.time, "sleep", lambda seconds: None)

    return fail


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("sound", [0, 6, 9, 21])
def test_a_disk_that_fails_for_good_stops_the_run_with_its_last_state_intact(
    whole, focal, failing_disk, monkeypatch, number, sound
):
    failing_disk(number, sound, 10**6)
    with pytest.raises(
        RunStopped, match=rf"cannot use .* \({os.strerror(number)}\) at epoch .* run it again to continue"
    ) as raised:
        fit(focal)
    assert "\n" not in str(raised.value)
    assert not list(Path(focal.out_dir).glob(".*"))
    monkeypatch.undo()
    fit(focal)
    assert_same(outcome(focal), outcome(whole))


def test_a_disk_that_fails_twice_is_waited_for(whole, focal, failing_disk):
    failing_disk(errno.EIO, 7, 2)
    fit(focal)
    assert_same(outcome(focal), outcome(whole))
    assert len(record_of(focal)["sessions"]) == 1


def test_a_stop_on_a_full_disk_is_told_in_one_line(focal, failing_disk):
    def fill(run):
        failing_disk(errno.ENOSPC, 0, 10**6)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(RunStopped, match=r"No space left on device\) at epoch 2, step 4; the last good state is in"):
        fit(focal, callback=at(14, fill))


def test_a_folder_that_vanishes_is_made_again(focal, whole):
    fit(focal, callback=at(15, lambda run: shutil.rmtree(focal.out_dir)))
    got, expected = (table_of(config).drop(columns=TIMINGS) for config in (focal, whole))
    pd.testing.assert_frame_equal(got, expected)


def test_two_processes_on_one_run_train_it_once(whole, focal, capsys):
    steps, results = [], []

    def second():
        results.append(fit(focal, callback=lambda event, run: steps.append("second") if event == "step" else None))

    thread = threading.Thread(target=second)

    def first(event, run):
        if (event, run.state.step) == ("step", 3):
            thread.start()
            while "is being trained by process" not in capsys.readouterr().out:
                time.sleep(0.01)
        steps.extend(["first"] * (event == "step"))

    results.append(fit(focal, callback=first))
    thread.join()
    assert steps == ["first"] * STEPS * EPOCHS
    assert results[0] == results[1]
    assert_same(outcome(focal), outcome(whole))


def test_a_held_run_may_be_given_up_on(focal, monkeypatch):
    monkeypatch.setenv("DEEPLAB_LOCK_SECONDS", "0.1")
    with run_lock(files_of(focal)), pytest.raises(TimeoutError, match=r"is still held by process \d+ on"):
        fit(focal)


def test_more_images_a_batch_than_there_are_is_refused(smoke):
    with pytest.raises(ValueError, match="batch_size 21 exceeds the 20 training images"):
        fit(smoke(batch_size=21))


def test_a_program_in_place_of_the_checkpoint_is_not_run(focal, tmp_path):
    class Trojan:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    checkpoint.save(files_of(focal).path(".pt"), {"model": Trojan(), "identity": {}})
    fit(focal)
    assert not (tmp_path / "owned").exists()
    assert "holds more than tensors and plain values; not loaded" in record_of(focal)["warnings"][0]
