"""Costs: the published counts to the digit, fvcore's own sums, a timer that waits, memory that is the allocator's."""

import itertools
import json
import subprocess
import sys
import warnings
from importlib.metadata import version
from types import SimpleNamespace

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn

from deeplab_lib.analysis.tables import efficiency_of, efficiency_table, read_efficiency
from deeplab_lib.models import efficiency, onnx_file
from deeplab_lib.models.deeplabv2 import DeepLabV2, count_parameters
from deeplab_lib.models.efficiency import (
    add_timings,
    count_macs,
    count_operations,
    latency_ms,
    peak_memory_mb,
    time_runs,
)
from deeplab_lib.models.registry import ARCHITECTURES, make_model


@pytest.fixture(scope="module")
def paper():
    return DeepLabV2()


# -- counts ------------------------------------------------------------------------------------------------------


def test_published_parameters_to_the_digit(paper):
    assert count_parameters(paper) == (43_901_068, 43_795_724)
    paper.freeze(("layer1", "layer2", "layer3", "layer4", "bn1"))
    assert count_parameters(paper) == (43_901_068, 1_410_316)
    paper.freeze(("layer3", "layer4"))
    assert count_parameters(paper) == (43_901_068, 2_835_724)
    paper.freeze(())
    assert count_parameters(paper) == (43_901_068, 43_795_724)


def test_published_multiply_adds_to_the_digit_whatever_the_mode_or_frozen_parts(paper):
    paper.train().freeze(("layer1",))
    assert count_macs(paper, (512, 1024)) == 374_664_739_584
    assert paper.training and paper.conv1.weight.device.type == "cpu"
    assert paper.conv1.weight.requires_grad and not paper.layer1[0].conv1.weight.requires_grad
    paper.freeze(())


def test_multiply_adds_of_single_layers_by_hand():
    assert count_macs(nn.Conv2d(3, 4, 3, padding=1), (8, 8)) == 4 * 3 * 3 * 3 * 8 * 8
    assert count_macs(nn.Conv2d(3, 6, 5, stride=2, groups=3, bias=False), (9, 11)) == 6 * 1 * 5 * 5 * 3 * 4
    assert count_macs(nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)), (4, 4)) == 2 * 3 * 16 + 2 * 2 * 16


@pytest.mark.parametrize("name", ["deeplabv2_mini", *efficiency.COMPARED[2:]])
def test_counts_are_those_of_fvcore_on_a_real_pass(name):
    model = make_model(name).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        analysis = FlopCountAnalysis(model, torch.zeros(1, 3, 50, 70))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        macs, uncounted = count_operations(model, (50, 70))
        assert macs == analysis.total()
        assert count_operations(model.to("meta"), (50, 70)) == (macs, uncounted)
        # On a CPU the pyramid's sum is taken apart into more additions of the same kind.
        assert set(uncounted) <= set(analysis.unsupported_ops())
    assert uncounted, "residual additions have no rule and must be listed"


# -- latency -----------------------------------------------------------------------------------------------------


class AsynchronousDevice:
    """Starts a kernel and returns at once, as a GPU does, on a clock of its own: no machine is too busy for it."""

    def __init__(self, monkeypatch):
        self.now, self.idle_at = 0.0, 0.0
        monkeypatch.setattr(efficiency.time, "perf_counter", lambda: self.now)

    def launch(self, seconds=0.02):
        self.now += 0.001
        self.idle_at = max(self.now, self.idle_at) + seconds

    def synchronize(self):
        self.now = max(self.now, self.idle_at)

    def compute(self, seconds):
        """Work that the processor does itself."""
        self.now += seconds


def test_the_timer_waits_for_the_device(monkeypatch):
    device = AsynchronousDevice(monkeypatch)
    hasty = time_runs(device.launch, lambda: None, most=5, seconds=9)
    device.synchronize()
    assert hasty == pytest.approx(5 * [0.001]), "the fake device is not asynchronous: the test proves nothing"
    assert time_runs(device.launch, device.synchronize, most=5, seconds=9) == pytest.approx(5 * [0.021])


def test_work_left_over_from_before_is_not_timed(monkeypatch):
    device = AsynchronousDevice(monkeypatch)
    device.launch(seconds=0.3)
    assert time_runs(lambda: device.compute(0.002), device.synchronize, most=1, seconds=9) == pytest.approx([0.002])


def test_ten_calls_warm_up_and_a_hundred_are_timed_when_fast(monkeypatch):
    device, calls = AsynchronousDevice(monkeypatch), itertools.count()
    found = latency_ms(lambda: device.compute(0.001 if next(calls) >= 10 else 0.008), device.synchronize, budget=9)
    assert next(calls) == 110 and found == pytest.approx({"median": 1.0, "q1": 1.0, "q3": 1.0, "n": 100})


def test_slow_calls_stay_within_the_budget_but_a_few_are_always_timed(monkeypatch):
    device = AsynchronousDevice(monkeypatch)
    assert latency_ms(lambda: device.compute(0.1), device.synchronize, budget=0.01)["n"] == 4
    assert device.now == pytest.approx(0.5), "one more warms up"
    found = latency_ms(lambda: device.compute(0.02), device.synchronize, budget=0.21)
    assert found == pytest.approx({"median": 20.0, "q1": 20.0, "q3": 20.0, "n": 10})


def test_quartiles_by_hand():
    expected = {"median": 3000.0, "q1": 2000.0, "q3": 4000.0, "n": 5}
    assert efficiency.quartiles([5, 1, 4, 2, 3]) == pytest.approx(expected)


# -- memory ------------------------------------------------------------------------------------------------------


def test_peak_memory_counts_what_is_held_at_once_and_the_weights():
    def one_after_the_other():
        for _ in range(2):
            torch.zeros(2**21)  # 8 MB

    def together():
        return [torch.zeros(2**21) for _ in range(2)]

    weights = nn.Linear(1024, 1024, bias=False)  # 4 MB
    assert peak_memory_mb(weights, one_after_the_other, "cpu") == pytest.approx(12, abs=0.1)
    assert peak_memory_mb(weights, together, "cpu") == pytest.approx(20, abs=0.1)
    assert peak_memory_mb(nn.Identity(), lambda: None, "cpu") == pytest.approx(0, abs=0.1)


# -- rows and file -----------------------------------------------------------------------------------------------

KEYS = {"model", "height", "width", "device", "device_name", "dtype", "threads", "stride_in", "parameters", "trainable"}
KEYS |= {
    "output_stride",
    "frozen",
    "macs",
    "flops",
    "uncounted_ops",
    "latency_ms",
    "peak_memory_MB",
    "note",
    "other_cores",
    "onnx_runtime",
}


class Witness(nn.Module):
    """Remembers how it is called."""

    def __init__(self):
        super().__init__()
        self.layer, self.seen = nn.Conv2d(3, 1, 1), []

    def forward(self, images):
        self.seen.append((tuple(images.shape), self.training, torch.is_inference_mode_enabled(), images.dtype))
        return self.layer(images)


def row(**values):
    return {"height": 8, "width": 16, "device": "cpu", "latency_ms": None, "peak_memory_MB": None, "note": ""} | values


def test_one_image_in_inference_and_eval_mode(monkeypatch):
    witness, found = Witness().train(), row()
    monkeypatch.setattr(efficiency, "ATTEMPTS", 1)
    add_timings(found, witness, budget=9, expected=0, device="cpu")
    assert set(witness.seen) == {((1, 3, 8, 16), False, True, torch.float32)}
    assert found["latency_ms"]["n"] == 100 and len(witness.seen) == 111  # one for memory, ten to warm up


@pytest.mark.parametrize(
    ("loads", "kept", "attempts"), [([0.0], 0.0, 1), ([3.0, 0.1], 0.1, 2), ([3.0, 2.0, 4.0], 2.0, 3)]
)
def test_a_latency_beside_other_programs_is_measured_again_and_says_so(monkeypatch, loads, kept, attempts):
    """The quietest of three attempts is kept; where that is not quiet, the note says so."""
    left = iter(loads)

    class Work(efficiency.OtherWork):
        def __exit__(self, *_):
            self.cores = next(left)

    monkeypatch.setattr(efficiency, "OtherWork", Work)
    witness, found = Witness(), row()
    add_timings(found, witness, budget=9, expected=0, device="cpu")
    assert found["other_cores"] == kept and len(witness.seen) == 1 + 110 * attempts
    assert ("other programs kept 2.0 cores busy" in found["note"]) == (kept > efficiency.BUSY)


def test_the_work_of_others_is_that_of_other_processes():
    """A child that counts for half a second is at work beside this process, which only waits."""
    with efficiency.OtherWork() as other:
        subprocess.run(
            [
                sys.executable,
                "-c",
                "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass",
            ]
        )
    assert other.cores > 0.1


def test_a_cold_first_pass_does_not_say_how_fast_the_machine_is(monkeypatch):
    """On a GPU it loads the kernels, which can take longer than all passes that follow."""
    device, forward, calls = AsynchronousDevice(monkeypatch), torch.nn.Conv2d.forward, []

    def cold(layer, x):
        calls.append(device.compute(0.125 if calls else 1.25))
        return forward(layer, x)

    monkeypatch.setattr(torch.nn.Conv2d, "forward", cold)
    assert efficiency.macs_per_second("cpu") == 256 * 256 * 9 * 64 * 128 / 0.125 and len(calls) >= 3


def test_a_network_is_not_timed_where_the_budget_would_not_hold_a_few_passes():
    witness, found = Witness(), row()
    add_timings(found, witness, budget=4, expected=1, device="cpu")
    assert found["latency_ms"]["n"] >= 4 and witness.seen
    witness, found = Witness(), row()
    add_timings(found, witness, budget=4, expected=1.1, device="cpu")
    assert found["latency_ms"] is None and found["peak_memory_MB"] is None and not witness.seen
    assert found["note"] == "not timed: an image takes about 1.1 s here, too long for 4 s of passes"


def test_float32_is_meant_where_it_is_said(monkeypatch):
    """Newer GPUs would compute a convolution in TF32, and older ones would not."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    [measured] = efficiency.measure(["deeplabv2_micro"], [(32, 64)], "cpu", budget=0.01, say=lambda text: None)
    assert measured["dtype"] == "float32" and not torch.backends.cudnn.allow_tf32


def test_a_measured_row_holds_every_figure():
    said = []
    (found,) = efficiency.measure(["deeplabv2_micro"], [(32, 64)], "cpu", budget=0.2, say=said.append)
    assert set(found) == KEYS
    assert found["flops"] == 2 * found["macs"] == 2 * count_macs(make_model("deeplabv2_micro"), (32, 64))
    assert found["frozen"] + found["trainable"] == found["parameters"] == 120_624
    assert found["device"] == "cpu" and found["dtype"] == "float32" and found["threads"] == torch.get_num_threads()
    assert found["peak_memory_MB"] > 4 * found["parameters"] / 2**20
    assert said[0].startswith("1/1 deeplabv2_micro 64x32: 0.01 GMACs, about ")


def test_onnx_runtime_is_timed_like_pytorch_on_as_many_threads(monkeypatch):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    threads, session = [], onnx_file.session
    monkeypatch.setattr(onnx_file, "session", lambda model, count: threads.append(count) or session(model, count))
    (found,) = efficiency.measure(["deeplabv2_micro"], [(32, 64)], "cpu", budget=9, say=lambda text: None)
    there = found["onnx_runtime"]
    assert there["version"] == version("onnxruntime") and threads == [found["threads"]] == [torch.get_num_threads()]
    assert there["latency_ms"]["n"] == found["latency_ms"]["n"] == 100
    assert 0 < there["latency_ms"]["q1"] <= there["latency_ms"]["median"] <= there["latency_ms"]["q3"]
    assert there["other_cores"] >= 0


def test_without_onnx_runtime_there_is_no_row_of_it(monkeypatch):
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: None)
    (found,) = efficiency.measure(["deeplabv2_micro"], [(32, 64)], "cpu", budget=0.1, say=lambda text: None)
    assert found["onnx_runtime"] is None and found["latency_ms"]


def test_an_unknown_network_is_refused_before_anything_is_measured():
    with pytest.raises(ValueError, match="no model 'resnet'"):
        list(efficiency.measure(["resnet"], [(32, 64)], "cpu", budget=0.1, say=lambda text: None))


@pytest.fixture
def alone(monkeypatch):
    """Nothing is measured but the networks of the runs, and those in PyTorch alone."""
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: None)
    monkeypatch.setattr(efficiency, "COMPARED", ())
    monkeypatch.setattr(efficiency, "BACKBONES", ())


def measured(path):
    return json.loads(path.read_text())["rows"]


def test_the_command_merges_by_network_size_and_device(tmp_path, alone):
    path = tmp_path / "runs" / "toycity" / "efficiency.json"
    arguments = ["--out", str(path), "--preset", "smoke", "--budget", "0.1", "--device", "cpu"]
    efficiency.main(arguments)
    other = measured(path)[0] | {"device": "cuda", "note": "elsewhere"}
    efficiency.merge(path, other)
    efficiency.merge(path, measured(path)[0] | {"note": "old"})
    efficiency.main(arguments)
    assert [(r["model"], r["height"], r["width"], r["device"]) for r in measured(path)] == [
        ("deeplabv2_micro", 32, 64, "cuda"),
        ("deeplabv2_micro", 32, 64, "cpu"),
    ]
    assert measured(path)[0] == other and measured(path)[1]["note"] != "old"
    assert [file.name for file in path.parent.iterdir()] == ["efficiency.json"]


def test_the_command_measures_the_network_of_the_runs_beside_the_file(tmp_path, alone):
    config = {"model": "deeplabv2_micro", "image_height": 48, "image_width": 80}
    for stem in ("DeepLabV2_ce", "DeepLabV2_ce05_lv05"):
        (tmp_path / f"{stem}.json").write_text(json.dumps({"config": config, "weights": {"stride_in": "3x3"}}))
    path = tmp_path / "efficiency.json"
    efficiency.main(["--out", str(path), "--budget", "0.1", "--device", "cpu"])
    efficiency.main(["--out", str(path), "--budget", "0.1", "--device", "cpu"])
    assert [(r["model"], r["height"], r["width"], r["stride_in"]) for r in measured(path)] == [
        ("deeplabv2_micro", 48, 80, "3x3")
    ]


def test_runs_on_the_wider_grid_have_a_row_of_their_own(tmp_path, alone):
    config = {"model": "deeplabv2_micro", "image_height": 64, "image_width": 128}
    for stem, stride in (("a", {}), ("b", {"output_stride": 16})):
        (tmp_path / f"{stem}.json").write_text(json.dumps({"config": config | stride}))
    path = tmp_path / "efficiency.json"
    efficiency.main(["--out", str(path), "--budget", "0.1", "--device", "cpu"])
    macs = {row["output_stride"]: row["macs"] for row in measured(path)}
    assert set(macs) == {8, 16} and macs[16] < macs[8] / 2
    for stride in (8, 16):
        run = SimpleNamespace(config=config | {"output_stride": stride}, path=tmp_path / "a.csv")
        assert efficiency_of(run, read_efficiency(tmp_path))["macs"] == macs[stride]
    assert len(efficiency_table(read_efficiency(tmp_path))) == 2


def test_the_paper_row_keeps_the_published_layout_beside_runs_of_another(tmp_path, monkeypatch):
    monkeypatch.setattr(efficiency, "COMPARED", ("deeplabv2_micro",))
    monkeypatch.setattr(efficiency, "BACKBONES", ())
    config = {"model": "deeplabv2_micro", "image_height": 48, "image_width": 80}
    (tmp_path / "a.json").write_text(json.dumps({"config": config, "weights": {"stride_in": "3x3"}}))
    efficiency.main(["--out", str(tmp_path / "efficiency.json"), "--budget", "0.1", "--device", "cpu"])
    rows = {(r["height"], r["width"]): r["stride_in"] for r in measured(tmp_path / "efficiency.json")}
    assert rows == {(48, 80): "3x3", efficiency.PAPER_SIZE: "1x1"}


def test_backbones_are_counted_and_timed_where_they_may_be(tmp_path, alone, monkeypatch):
    monkeypatch.setattr(efficiency, "BACKBONES", ("deeplabv2_resnext50_32x4d", "deeplabv2_micro"))
    monkeypatch.setattr(efficiency, "TIMED", 2)
    arguments = ["--out", str(tmp_path / "e.json"), "--preset", "smoke", "--budget", "9", "--device", "cpu"]
    efficiency.main([*arguments, "--models", "deeplabv2_micro"])
    rows = {(row["model"], row["width"]): row for row in measured(tmp_path / "e.json")}
    assert set(rows) == {("deeplabv2_micro", 64), ("deeplabv2_micro", 1024), ("deeplabv2_resnext50_32x4d", 1024)}
    counted = rows["deeplabv2_resnext50_32x4d", 1024]
    assert counted["macs"] > 1e11 and counted["latency_ms"] is None and counted["note"] == "not timed: counted only"
    assert rows["deeplabv2_micro", 1024]["latency_ms"]


def test_every_backbone_has_a_place_in_the_table():
    listed = {*efficiency.COMPARED, *efficiency.BACKBONES}
    assert {name for name in ARCHITECTURES if not name.endswith(("_mini", "_micro"))} == listed


def test_a_damaged_file_is_named_and_kept(tmp_path, alone):
    path = tmp_path / "efficiency.json"
    path.write_text("{half a")
    with pytest.raises(ValueError, match=r"efficiency\.json is not a readable JSON file"):
        efficiency.main(["--out", str(path), "--budget", "0.1", "--device", "cpu"])
    assert path.read_text() == "{half a"
