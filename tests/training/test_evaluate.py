"""What is validated, recomputed the plain way over all images at once, whatever the batches."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from deeplab_lib import recipes, toycity
from deeplab_lib.common.errors import Stop
from deeplab_lib.data.dataset import prepare_data
from deeplab_lib.models import weights
from deeplab_lib.training.evaluate import evaluate_run
from deeplab_lib.training.loop import identify, silent
from deeplab_lib.training.run_folder import RunFolder
from deeplab_lib.training.trainer import Trainer


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    return toycity.write(tmp_path_factory.mktemp("data") / "city", train=6, val=8, test=0, size=(64, 128))


def made(config):
    """A run of `config` as it begins."""
    pretrained = weights.resolve(config.pretrained, config.model)
    data = prepare_data(config, pretrained.normalization)
    files = RunFolder.of(config)
    return Trainer(config, files, data, pretrained, identify(config, data, pretrained), silent, Stop())


def test_the_labels_own_size_is_scored_image_by_image_whatever_the_batch(smoke, city):
    results = [evaluate_run(made(smoke(data=str(city), batch_size=size)), full=True) for size in (1, 3)]
    assert np.array_equal(results[0].native, results[1].native)


@pytest.mark.parametrize("tta", ["none", "flip"])
def test_losses_are_means_over_the_images_as_they_are(smoke, city, tta):
    """Eight images in batches of three, three and two; the views of the test change the answers, not the losses."""
    config = smoke(loss="0.5*ce + 0.5*focal", data=str(city), batch_size=3, tta=tta)
    run = made(config)
    result = evaluate_run(run)
    images, labels = (torch.stack(tensors) for tensors in zip(*(run.data.val[i] for i in range(8)), strict=True))
    with torch.inference_mode():
        logits = run.model.eval().grid_logits(images)
    grid = run.model.subsample(labels, logits.shape[-2:])
    # Each batch is a mean over its pixels, each image counts for the mean of its batch.
    batches = [slice(0, 3), slice(3, 6), slice(6, 8)]
    means = [F.cross_entropy(logits[batch], grid[batch], ignore_index=255).item() for batch in batches]
    assert result.losses["ce"] == pytest.approx((3 * means[0] + 3 * means[1] + 2 * means[2]) / 8, rel=1e-5)
    assert len(result.confusion) == 8


@pytest.mark.parametrize("tta", ["none", "flip"])
def test_what_is_believed_is_the_probability_of_the_prediction(smoke, city, tta):
    """Against the whole split at once: softmax of the upsampled logits, or its mean over the views."""
    run = made(smoke(data=str(city), batch_size=3, tta=tta))
    result = evaluate_run(run, full=True).calibration
    images, labels = (torch.stack(tensors) for tensors in zip(*(run.data.val[i] for i in range(8)), strict=True))
    model = run.model.eval()
    with torch.inference_mode():
        p = model.upsample(model.grid_logits(images), labels.shape[-2:]).softmax(1)
        if tta == "flip":
            p = (p + model.upsample(model.grid_logits(images.flip(-1)), labels.shape[-2:]).softmax(1).flip(-1)) / 2
    valid = labels != 255
    assert (result["calibration_count"].sum(1) == valid.sum((1, 2)).numpy()).all()
    assert result["calibration_confidence"].sum() == pytest.approx(p.amax(1)[valid].sum().item(), rel=1e-5)
    assert abs(result["calibration_hits"].sum() - (p.argmax(1) == labels)[valid].sum().item()) <= 2
    lost = F.nll_loss(p.log(), labels, ignore_index=255, reduction="none").sum((1, 2)) / valid.sum((1, 2))
    assert result["log_loss"] == pytest.approx(lost.numpy(), rel=1e-4)


def test_the_part_of_every_epoch_is_what_an_epoch_evaluates(smoke, city):
    """Eight images, five of them every epoch, in batches of three: all of them hold the same five, to the bit."""
    run = made(smoke(loss="0.5*ce + 0.5*dice", data=str(city), batch_size=3))
    run.data.about["val_each_epoch"] = 5
    part, whole = evaluate_run(run), evaluate_run(run, full=True)
    assert part.first is None and len(part.confusion) == 5 and len(whole.confusion) == 8
    assert np.array_equal(part.confusion, whole.confusion[:5]) and np.array_equal(part.confusion, whole.first.confusion)
    assert part.losses == whole.first.losses
    assert whole.losses["dice"] != pytest.approx(part.losses["dice"], rel=1e-6)
    assert len(whole.boundary) == 8 and whole.kept == list(range(8))


def test_several_batches_at_once_change_no_loss(smoke, smoke_city, monkeypatch):
    """Dice depends on which images are seen together: as many as in training, however many pass at once."""
    config = smoke(loss="0.5*ce + 0.5*dice", batch_size=2)
    one = evaluate_run(made(config), full=True)
    monkeypatch.setitem(recipes.PRESETS, "smoke", replace(recipes.PRESETS["smoke"], val_at_once=3))
    run = made(config)
    assert [len(batch) for batch in run.validation_batches(full=True)] == [6, 2]
    several = evaluate_run(run, full=True)
    assert several.losses == pytest.approx(one.losses, rel=1e-5) and several.kept == one.kept
    assert np.abs(several.confusion - one.confusion).sum() < 0.001 * one.confusion.sum()
