"""Schedules read from a column of rates, on columns made by hand from the formula."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_lib.study.log_schedule import LossChange, infer_schedule, loss_changes

STEPS = 524  # of an epoch


def rate(step, total, lr=2e-4, warmup=0, powers=((1, 0.9),), start=1e-6):
    """The rate after `step` steps: linear over the warm-up, then poly over the steps that are left."""
    if step < warmup:
        return start + (lr - start) * step / warmup
    epoch = -(-step // STEPS)
    power = [power for first, power in powers if first <= max(epoch, 1)][-1]
    return lr * ((total - step) / (total - warmup)) ** power


def log(epochs=50, shift=0, digits=17, **schedule):
    """A table of the rates after each epoch's last step; `shift`: steps before that at which they were logged."""
    rates = [rate(STEPS * e - shift, STEPS * epochs, **schedule) for e in range(1, epochs + 1)]
    return pd.DataFrame({"epoch": range(1, epochs + 1), "lr": [float(f"{r:.{digits - 1}e}") for r in rates]})


# --- what the column determines --------------------------------------------------------------------------------------


def test_one_power_without_warmup():
    found = infer_schedule(log(lr=1e-4))
    assert (found.kind, found.initial_lr, found.powers, found.warmup_epochs) == ("poly", 1e-4, ((1, 0.9),), 0)
    assert not found.inferred


def test_powers_that_change_give_rate_and_warmup():
    found = infer_schedule(log(lr=2e-4, warmup=500, powers=((1, 0.9), (31, 1.0), (46, 2.0), (48, 1.2))))
    assert found.powers == ((1, 0.9), (31, 1.0), (46, 2.0), (48, 1.2))
    assert (found.initial_lr, found.inferred) == (2e-4, False)
    assert found.warmup_epochs == pytest.approx(500 / 524)


def test_a_change_without_warmup():
    found = infer_schedule(log(lr=2e-4, powers=((1, 0.9), (31, 1.1))))
    assert (found.initial_lr, found.powers, found.warmup_epochs) == (2e-4, ((1, 0.9), (31, 1.1)), 0)


def test_a_warmup_of_several_epochs_is_read_from_its_line():
    found = infer_schedule(log(lr=5e-4, warmup=1500))
    assert (found.initial_lr, found.powers, found.inferred) == (5e-4, ((1, 0.9),), False)
    assert found.warmup_epochs == pytest.approx(1500 / 524)


def test_a_warmup_inside_epoch_1_leaves_a_range_and_the_round_rate_in_it_is_inferred():
    found = infer_schedule(log(lr=3e-4, warmup=500))
    low, high = found.lr_range
    assert low < 3e-4 < high < 1.02 * low
    assert (found.initial_lr, found.inferred, found.powers) == (3e-4, True, ((1, 0.9),))
    assert found.warmup_epochs == pytest.approx(500 / 524)


def test_without_a_round_rate_in_the_range_there_is_none():
    found = infer_schedule(log(lr=3.42e-4, warmup=500))
    assert found.initial_lr is None
    assert found.lr_range[0] < 3.42e-4 < found.lr_range[1]
    assert found.warmup_epochs is None
    assert "lr 0.0003" in str(found) and " to " in str(found)


def test_a_power_of_one_epoch_is_known_from_the_rate_and_the_warmup():
    found = infer_schedule(log(powers=((1, 0.9), (20, 1.5), (21, 1.1))))
    assert found.powers == ((1, 0.9), (20, 1.5), (21, 1.1))


@settings(max_examples=30, deadline=None)
@given(
    lr=st.sampled_from([1e-4, 2e-4, 5e-4, 1e-3, 2.5e-3, 0.01]),
    warmup=st.sampled_from([0, 100, 500]),
    powers=st.lists(st.sampled_from([0.8, 0.9, 1.0, 1.2, 1.5, 2.0]), min_size=2, max_size=3, unique=True),
    epochs=st.integers(30, 60),
    data=st.data(),
)
def test_any_two_powers_give_everything(lr, warmup, powers, epochs, data):
    starts = [1]
    for _ in powers[1:]:
        starts.append(data.draw(st.integers(starts[-1] + 5, min(starts[-1] + 12, epochs - 4))))
    path = tuple(zip(starts, powers, strict=True))
    found = infer_schedule(log(epochs, lr=lr, warmup=warmup, powers=path))
    assert found.initial_lr == pytest.approx(lr)
    assert found.powers == path
    assert found.warmup_epochs == pytest.approx(warmup / STEPS, abs=1e-6)


# --- how it was logged -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("digits", [17, 7, 5])
def test_few_digits_are_enough(digits):
    found = infer_schedule(log(lr=1e-4, digits=digits))
    assert (found.initial_lr, found.powers) == (1e-4, ((1, 0.9),))


@pytest.mark.parametrize("shift", [1, STEPS])
def test_rates_logged_at_the_last_step_or_at_the_start_of_an_epoch(shift):
    found = infer_schedule(log(lr=1e-4, shift=shift))
    assert (found.initial_lr, found.powers, found.warmup_epochs) == (1e-4, ((1, 0.9),), pytest.approx(0, abs=2e-3))


def test_a_log_that_breaks_off_and_zero_rates_do_no_harm():
    whole = log(lr=1e-4)
    assert infer_schedule(whole.iloc[:20]).powers == ((1, 0.9),)
    assert infer_schedule(whole.iloc[:20]).initial_lr == 1e-4
    holes = whole.assign(lr=whole.lr.mask(whole.epoch.isin([7, 8]), 0))
    assert infer_schedule(holes).powers == ((1, 0.9),)
    missing = whole.drop(index=[10, 11])
    assert infer_schedule(missing).powers == ((1, 0.9),)


def test_other_schedules_are_not_called_poly():
    e = np.arange(1, 51)
    cosine = pd.DataFrame({"epoch": e, "lr": 5e-5 * (1 + np.cos(np.pi * e / 50))})
    assert infer_schedule(cosine).kind == "other"
    exponential = pd.DataFrame({"epoch": e, "lr": 1e-3 * 0.9**e})
    assert infer_schedule(exponential).kind == "other"
    steps = pd.DataFrame({"epoch": e, "lr": 1e-3 * 0.1 ** (e // 20)})
    assert infer_schedule(steps).kind == "other"
    constant = infer_schedule(pd.DataFrame({"epoch": e, "lr": 1e-3}))
    assert (constant.kind, constant.initial_lr, constant.powers) == ("constant", 1e-3, ((1, 0.0),))
    assert infer_schedule(pd.DataFrame({"epoch": e, "lr": np.nan})).kind == "absent"
    assert infer_schedule(pd.DataFrame({"epoch": [], "lr": []})).kind == "absent"


def test_equal_columns_give_equal_texts_and_others_do_not():
    one, other = infer_schedule(log(lr=1e-4)), infer_schedule(log(lr=2e-4))
    assert str(one) == str(infer_schedule(log(lr=1e-4, digits=9))) == "lr 0.0001; power 0.9; warm-up 0 epochs"
    assert str(one) != str(other)


# --- a loss that was changed -----------------------------------------------------------------------------------------


def curves(factor=1.0, epoch=46, gain=0.0):
    """Noisy curves of 50 epochs; from `epoch` on the losses are `factor` times as high, and mIoU `gain` higher."""
    rng, e = np.random.default_rng(0), np.arange(1, 51)
    after = e >= epoch
    frame = pd.DataFrame({"epoch": e})
    for column, level in (("train_loss", 0.2), ("val_loss", 0.3)):
        frame[column] = (level + np.exp(-e / 5)) * np.exp(0.005 * rng.standard_normal(50)) * np.where(after, factor, 1)
    for column, level in (("train_mIoU", 60), ("val_mIoU", 50)):
        frame[column] = level - 40 * np.exp(-e / 8) + 0.2 * rng.standard_normal(50) + gain * after
    return frame


@pytest.mark.parametrize("factor", [1.9, 1.18, 0.6])
def test_losses_that_jump_alone_were_changed(factor):
    (change,) = loss_changes(curves(factor))
    assert change == LossChange(46, pytest.approx(factor, rel=0.03), pytest.approx(factor, rel=0.03))


def test_other_curves_show_no_change():
    assert loss_changes(curves()) == []
    assert loss_changes(curves(1.02)) == []
    assert loss_changes(curves(1.5, gain=-10)) == []  # a collapse: mIoU falls as well
    assert loss_changes(curves(1.9).drop(columns="train_mIoU").assign(train_mIoU=np.nan)) == []
    rising = curves().assign(val_loss=lambda t: t.val_loss * np.where(t.epoch >= 30, 1.03 ** (t.epoch - 30), 1))
    assert loss_changes(rising) == []  # overfitting rises step by step, in validation alone


def test_a_start_that_is_no_warmup_leaves_the_rate_open():
    frame = log(lr=1e-4)
    frame.loc[:2, "lr"] = [5e-5, 2e-5, 4e-5]
    found = infer_schedule(frame)
    assert (found.powers, found.initial_lr, found.lr_range, found.warmup_epochs) == (((1, 0.9),), None, None, None)
    assert str(found).startswith("rates 1:5e-05 2:2e-05")  # equal only where all rates are
