"""The benchmark: its arithmetic by hand, and that what it compares is the same."""

import json
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

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
    predicted = [function() for function in lines.passes("smoke", amp="off").values()]
    assert (predicted[0] == predicted[1]).float().mean() > 0.999
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
    labels, prediction = torch.tensor([[0, 0, 1, 255]]), torch.tensor([[0, 1, 1, 1]])
    assert plain.iou(labels, prediction)[:3] == [50, 50, pytest.approx(np.nan, nan_ok=True)]


def test_the_memory_of_a_step_is_measured_in_the_precision_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "autocast", lambda device, kind, enabled: asked.append(kind) or nullcontext())
    assert jobs.memory_of_step("ours", "bf16", "smoke")["peak_MB"] > 0
    assert asked == [torch.bfloat16] * 2


def test_the_job_is_split_by_what_its_notebooks_say_of_themselves(monkeypatch):
    """Two runs side by side from 6 to 106 and 110 s, the report from 130 to 170, an end at 180; 180 s of training."""
    clock = iter((1000.0, 1180.0))
    monkeypatch.setattr(jobs.time, "time", lambda: next(clock))
    monkeypatch.setattr(jobs.os, "cpu_count", lambda: 2)

    def make(command, **options):
        runs = Path(next(word for word in command if word.startswith("runs=")).removeprefix("runs=").strip('"'))
        runs.mkdir()
        for name, *times in (("DeepLab_a", 6, 106), ("DeepLab_b", 6, 110), ("analysis", 130, 170)):
            told = (datetime.fromtimestamp(1000 + seconds, UTC).isoformat() for seconds in times)
            about = dict(zip(("start_time", "end_time"), told, strict=True))
            (runs / f"{name}.ipynb").write_text(json.dumps({"metadata": {"papermill": about}}))
        for name in "ab":
            (runs / f"DeepLab_{name}.json").write_text('{"config": {"preset": "demo"}, "wall_time_s": 90}')
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(jobs.subprocess, "run", make)
    job, beside, *parts = jobs.measure_job()
    assert (job["value"], beside["value"]) == (180, 90) and not reached(beside | {"target": 89}) and reached(job)
    assert [part["value"] for part in parts] == pytest.approx([6, 14, 20, 40, 10])


def test_a_job_that_fails_is_no_measurement(monkeypatch):
    failed = SimpleNamespace(returncode=1, stdout="out of memory\\n")
    monkeypatch.setattr(jobs.subprocess, "run", lambda *args, **options: failed)
    with pytest.raises(RuntimeError, match="the job failed: out of memory"):
        list(jobs.measure_job())
