"""The benchmark: its arithmetic by hand, and that what it compares is the same."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from benchmarks import __main__, jobs, lines, plain
from benchmarks.timing import alternate, compared, figure, quartiles, reached, sign_flip_p
from deeplab_lib import metrics


def test_pairs_are_called_in_turn_and_the_warm_up_is_not_counted():
    calls = []
    seconds = alternate({"ours": lambda: calls.append("o"), "plain": lambda: calls.append("p")}, repeats=3)
    assert "".join(calls) == "po" + "op" + "po" + "op"
    assert {name: len(taken["wall"]) for name, taken in seconds.items()} == {"ours": 3, "plain": 3}


def test_ratio_of_medians_by_hand():
    seconds = {"ours": {"wall": [1, 2, 9], "cpu": [1, 1, 1]}, "plain": {"wall": [6, 8, 7], "cpu": [4, 3, 5]}}
    line = compared("x", seconds, target=3.4)
    assert (line["ratio"], line["cpu_ratio"], line["ours"]["median"]) == (3.5, 4, 2)
    assert reached(line) and not reached(line | {"target": 3.6}) and reached(line | {"target": None}) is None


def test_quartiles_by_hand():
    assert quartiles([4, 1, 2, 3, 5]) == {"q1": 2, "median": 3, "q3": 4, "n": 5}


def test_an_upper_bound_is_reached_from_below():
    assert reached(figure("memory", 54, "%", 55, at_most=True)) and not reached(figure("rate", 54, "%", 55))


def test_quick_refuses_what_it_does_not_measure_and_keeps_the_results(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(__main__, "RESULTS", tmp_path / "results")
    with pytest.raises(SystemExit):
        __main__.main(["--quick", "--only", "losses", "network"])
    assert "does not measure network, only losses, data, growth" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_sign_flips_by_hand():
    """Of the eight signings of 1, 2, 3 only the two with equal signs have a mean as far from 0."""
    assert sign_flip_p([1, 2, 3]) == 2 / 8
    assert sign_flip_p([1, 2, -3]) == 1
    assert sign_flip_p([0.5] * 10) == 2 / 1024


@pytest.mark.parametrize("name", ["ce", "focal", "tversky", "dice", "lovasz"])
def test_both_losses_and_gradients_agree(name):
    (ours, gradient), (other, expected) = (function() for function in lines.losses(name, (33, 65)).values())
    assert ours.item() == pytest.approx(other.item(), abs=1e-6)
    assert torch.allclose(gradient, expected, atol=1e-6)


def test_both_steps_learn_and_the_networks_agree(monkeypatch):
    monkeypatch.setattr(lines, "AMP", None)
    guesses = [function() for function in lines.passes("smoke").values()]
    assert (guesses[0] == guesses[1]).float().mean() > 0.999
    for step in lines.steps("smoke").values():
        values = [step().item() for _ in range(8)]
        assert values[-1] < values[0]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    return lines.city(folder, size=(64, 128), images=1), folder


def test_every_way_of_loading_gives_the_same_labels_and_nearly_the_same_image(scenes):
    images, labels = zip(*(load() for load in lines.loading(*scenes, size=(32, 64)).values()), strict=True)
    assert torch.equal(labels[0], labels[1]) and torch.equal(images[0], images[1])
    assert (labels[0] == labels[2]).float().mean() > 0.95  # the plain one's nearest neighbour is PIL's
    assert (images[0] - images[2]).abs().mean() < 0.1


def test_all_evaluations_agree(scenes):
    memory, files, official = (count() for count in lines.evaluation(*scenes).values())
    assert torch.equal(memory, files)
    assert np.allclose(metrics.iou(memory), lines.official_iou(official), equal_nan=True)


def test_both_ways_of_scoring_agree():
    ours, other = (score() for score in lines.scoring((20, 30)).values())
    assert np.allclose(ours, other)


def test_plain_iou_by_hand():
    labels, guess = torch.tensor([[0, 0, 1, 255]]), torch.tensor([[0, 1, 1, 1]])
    assert plain.iou(labels, guess)[:3] == [50, 50, pytest.approx(np.nan, nan_ok=True)]


def test_the_memory_of_a_step_is_measured_in_the_precision_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "autocast", lambda device, kind, enabled: asked.append(kind) or nullcontext())
    assert jobs.memory_of_step("ours", "bf16", "smoke")["peak_MB"] > 0
    assert asked == [torch.bfloat16] * 2
