"""The comparison with segmentation_models_pytorch: both sides alike, continued where it stopped, an interval told."""

import sys

import numpy as np
import pytest
import torch

from benchmarks import beyond, rival
from benchmarks.beyond import Stopwatch
from deeplab_lib.common.files import read_json
from deeplab_lib.data.normalization import RGB_IMAGENET

TINY = {"preset": "smoke", "device": "cpu", "amp": "off", "batch_size": "4"}


@pytest.fixture
def command(smoke_city, tmp_path):
    words = [f"{name}={value}" for name, value in TINY.items()]
    return ["--minutes", "0.001", "--seeds", "0", "1", "--out", str(tmp_path / "rival"), "--set", *words]


def fake(command, monkeypatch, confusion):
    """Have the rival predict `confusion` of its validation images; returns the list of its trainings."""
    trained = []

    def train(config, optimizer, lr, callback=rival.silent):
        trained.append((optimizer, lr, config.seed, config.epochs, config.size, config.batch_size))
        for _ in range(config.epochs):
            callback("epoch", None)
        if lr == 0.1:
            raise rival.RunStopped("the loss is not finite at epoch 1")
        return confusion

    monkeypatch.setattr(rival, "train_rival", train)
    monkeypatch.setattr(rival, "library", lambda: None)
    monkeypatch.setattr(rival, "TRIALS", rival.TRIALS | {"ours": (1, 2)})
    monkeypatch.setattr(Stopwatch, "epochs_within", lambda self, seconds: 2)
    return trained


def test_tuned_on_one_seed_then_trained_on_all_and_told_once(command, monkeypatch, capsys, tmp_path):
    perfect = np.zeros((8, 19, 19), np.int64)
    perfect[:, range(19), range(19)] = 100
    trained = fake(command, monkeypatch, perfect)
    rival.main(command)
    timing, *trials, last, other = trained
    assert timing[3] == 3 and {seed for *_, seed, _, _, _ in [timing, *trials]} == {0}
    assert [(optimizer, lr) for optimizer, lr, *_ in trials] == list(rival.TRIALS["rival"])
    assert {epochs for _, _, _, epochs, *_ in trials} == {1}
    assert [last[2:4], other[2:4]] == [(0, 2), (1, 2)] and last[:2] == ("sgd", 0.01)
    assert {about[4:] for about in trained} == {((32, 64), 4)}
    notes = read_json(tmp_path / "rival" / "rival.json")
    assert notes["rival"]["trials"]["('sgd', 0.1)"] == -1, "a training that breaks down is a trial that loses"
    assert len(notes["ours"]["trials"]) == 2
    said = capsys.readouterr().out
    assert "rival: 100.00 % mIoU (setting ('sgd', 0.01), 2 epochs)" in said
    assert "(2 seeds and 2 tuning trials each)" in said and "ours is below the rival" in said
    rival.main(command)
    assert len(trained) == 7, "what is finished is not trained again"
    assert capsys.readouterr().out.splitlines()[-1] == said.splitlines()[-1]
    with pytest.raises(ValueError, match="is of another comparison"):
        rival.main([*command, "bn=eval"])
    with pytest.raises(ValueError, match="--set lr: the comparison itself decides on lr"):
        rival.main([*command, "lr=0.5"])
    with pytest.raises(ValueError, match="the rival's loop does not scale its loss"):
        rival.main([*command, "amp=fp16"])


def test_an_unknown_arm_is_refused_and_the_valid_ones_named(command):
    with pytest.raises(ValueError, match=r"no variant 'colour'; variants: the study's CE, class weights, "):
        beyond.main([*command, "--variants", "colour"])


def test_without_smp_it_says_what_to_install(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(ValueError, match=r"^the rival is segmentation_models_pytorch's: pip install segm"):
        rival.main(command)


def test_the_rival_learns_in_the_plain_loop(smoke):
    pytest.importorskip("segmentation_models_pytorch", reason="segmentation_models_pytorch is not installed")
    config = smoke(epochs=3, batch_size=4)
    callback = Stopwatch("cpu")
    confusion = rival.train_rival(config, "adam", 1e-3, callback)
    data = rival.prepare_data(config, RGB_IMAGENET)
    labels = torch.stack([data.val[i][1] for i in range(len(data.val))])
    assert confusion.sum() == (labels != 255).sum() and len(callback.marks) == 3 and callback.seconds > 0
    assert np.trace(confusion.sum(0)) / confusion.sum() > 0.25, "better than the commonest class is by chance"
