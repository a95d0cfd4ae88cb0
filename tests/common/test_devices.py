"""What a process tells PyTorch about the machine, and that nothing waits for a device inside a step."""

import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from deeplab_lib import toycity
from deeplab_lib.common import devices
from deeplab_lib.common.errors import RunStopped
from deeplab_lib.data.dataset import prepare_data
from deeplab_lib.data.normalization import RGB_IMAGENET
from deeplab_lib.losses import TERMS, make_loss
from deeplab_lib.metrics import ConfusionMatrix
from deeplab_lib.models.deeplabv2 import ASPP, DeepLabV2
from deeplab_lib.models.registry import make_model
from deeplab_lib.plotting import run_figures
from deeplab_lib.training import pace, summary
from deeplab_lib.training.finite import FiniteCheck
from deeplab_lib.training.loop import fit
from deeplab_lib.training.pace import epoch_seconds
from deeplab_lib.training.run_folder import RunFolder


@pytest.fixture
def switches():
    """Leaves the switches as other tests expect them."""
    yield
    devices.set_up("cpu", devices.fast_paths("cpu"), deterministic=False)


@pytest.mark.parametrize("deterministic", [True, False])
def test_deterministic_gives_up_what_varies(switches, deterministic):
    devices.set_up("cuda", devices.fast_paths("cuda", deterministic), deterministic)
    assert torch.are_deterministic_algorithms_enabled() is deterministic
    allowed = torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    assert allowed == (not deterministic,) * 3


def test_sums_are_float64_where_the_device_has_it():
    assert (
        devices.precise("cpu") is devices.precise("cuda:1") is torch.float64 and devices.precise("mps") is torch.float32
    )


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system says nothing else")
def test_peak_memory_is_of_this_program_and_not_of_the_one_that_started_it():
    held = bytearray(b"x") * 2**30
    program = "from deeplab_lib.common.devices import peak_memory_mb; print(peak_memory_mb('cpu'))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert 50 < float(told) < 1000 < len(held)


def test_a_run_does_not_load_the_compiler(smoke, tmp_path):
    """It takes 2 s of every start; a run that continues does without it too."""
    program = f"""
import sys
from deeplab_lib.config import Config
from deeplab_lib.training.loop import fit
config = Config("ce", preset="smoke", data={str(smoke(loss="ce").data)!r}, epochs=1, out_dir={str(tmp_path)!r})
folder = fit(config)
folder.json.unlink()
assert fit(config) == folder and folder.summary
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_time_a_run_should_take_by_hand(monkeypatch):
    """Half a second an image at 1.25 times its pixels; 12 are tested, mirrored too, at 1 + 9/16 + 25/16 times."""
    monkeypatch.setattr(pace, "trial_batch", lambda config: torch.zeros(4, 3, 8, 8))
    monkeypatch.setattr(pace, "pass_seconds", lambda config, model, images: 2.0)
    monkeypatch.setattr(pace, "training_views", lambda images, *how: [images, images[..., ::2, ::2]])
    config, model = SimpleNamespace(gpus=1, tta="multiscale", batch_size=4, multiscale=True), torch.nn.Identity()
    model.stride = 8
    validation = 12 * 0.5 / 3 * 2 * (1 + 9 / 16 + 25 / 16) / 1.25
    assert epoch_seconds(config, model, steps=10, validated=12) == pytest.approx(40 * 0.5 + validation)


def test_pictures_of_fewer_images_than_usual(smoke, tmp_path):
    toycity.write(tmp_path / "city", 2, 1, size=(32, 64))
    config = smoke(data=str(tmp_path / "city"), augment="flip")
    data = prepare_data(config, RGB_IMAGENET)
    assert (
        len(run_figures.samples(data.train).axes) == 4 and len(run_figures.augmented(data, config, epochs=1).axes) == 4
    )


@pytest.mark.parametrize(
    ("device", "deterministic", "without", "expected"),
    [
        ("cpu", False, (), ("channels_last", "fused", "kept_memory", "recomputed_norms", "matrix_products")),
        ("cpu", True, ("fused",), ("channels_last", "kept_memory", "recomputed_norms", "matrix_products")),
        ("cuda", False, (), ("channels_last", "fused", "tf32", "autotune", "pinned")),
        ("cuda:1", True, (), ("channels_last", "fused", "pinned")),
        ("cuda", False, ("tf32", "pinned"), ("channels_last", "fused", "autotune")),
        ("mps", False, (), ("channels_last",)),
    ],
)
def test_choices_of_each_device_and_what_bars_them(device, deterministic, without, expected):
    assert devices.fast_paths(device, deterministic, without) == expected


def test_choices_can_be_left_off_and_are_shown(smoke):
    config = smoke(fast=False)
    assert config.fast_paths == () and config.stem == smoke().stem
    shown = run_figures.configuration(smoke()).loc[[""], "value"].tolist()
    assert shown == list(smoke().fast_paths) and "" not in run_figures.configuration(config).index


def test_choices_change_a_step_by_rounding_at_most(smoke):
    """Two steps with all of them and with none: the second one's loss shows what the first has done to the weights."""
    sums = []
    for fast in (True, False):
        config = smoke(epochs=1, out_dir=f"{smoke().out_dir}{fast}", fast=fast)
        fit(
            config,
            callback=lambda event, run: (
                sums.append(run.state.loss_sums[-1].item()) if (event, run.state.step) == ("step", 2) else None
            ),
        )
    assert sums[0] == pytest.approx(sums[1], rel=1e-4)


def test_nothing_in_a_step_is_read_back_from_the_device():
    """On the meta device there are no values: whatever asked for one would fail."""
    images, labels = (torch.empty(shape, device="meta") for shape in ((2, 3, 64, 128), (2, 64, 128)))
    model = make_model("deeplabv2_micro").to("meta")
    logits, labels = model.finer(model.grid_logits(images), 4), labels.long()
    seen = model.subsample(labels, logits.shape[-2:], 4)
    loss = make_loss(" + ".join(TERMS))
    loss.total(loss.terms(logits, seen)).backward()
    counts = ConfusionMatrix(matrix=torch.zeros(19, 19, dtype=torch.int64, device="meta"))
    assert counts.update(seen, logits.max(1).indices).counts.is_meta


def test_compiling_is_torch_compile_and_nothing_else(smoke, monkeypatch):
    """What trains is the compiled network; evaluation, copies and what is saved know nothing of it."""
    compiled = []

    def compiler(function, **options):
        assert options == {"dynamic": False}
        return lambda images: compiled.append(torch.is_grad_enabled()) or function(images)

    plain = pd.read_csv(fit(smoke(epochs=1)).csv)
    monkeypatch.setattr(torch, "compile", compiler)
    config = smoke(epochs=1, compile=True, out_dir=smoke().out_dir + "/compiled")
    table = pd.read_csv(fit(config).csv)
    assert compiled and all(compiled)
    assert (table.train_loss == plain.train_loss).all() and (table.val_mIoU == plain.val_mIoU).all()


def check_of(device, folder):
    """The check of a run on `device` that trains on two images with cross-entropy."""
    pairs = [SimpleNamespace(name=name) for name in ("ulm_1", "ulm_2")]
    return FiniteCheck(["ce"], device == "cuda", pairs, RunFolder(folder, "run"))


def test_a_cpu_stops_at_once_when_the_loss_is_not_finite(tmp_path):
    told = r"epoch 3, step 7: ce = nan; images ulm_2. nothing had been saved yet"
    with pytest.raises(RunStopped, match=told):
        check_of("cpu", tmp_path).check(torch.tensor([float("nan")]), 3, 7, [1])


def test_a_gpu_stops_a_step_later_naming_the_step_that_was_bad(tmp_path):
    check = check_of("cuda", tmp_path)
    check.check(torch.tensor([float("inf")]), 3, 7, [0])
    with pytest.raises(RunStopped, match=r"epoch 3, step 7: ce = inf; images ulm_1"):
        check.check(torch.tensor([1.0]), 3, 8, [1])


def test_a_gpu_stops_before_bad_weights_are_saved(tmp_path):
    check = check_of("cuda", tmp_path)
    check.check(torch.tensor([float("nan")]), 3, 7, [0])
    with pytest.raises(RunStopped, match=r"step 7: ce = nan"):
        check.check_pending()
    check.check_pending()


def test_a_gpu_asked_for_by_number_is_the_only_one_touched(switches, monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for device in ("cpu", "cuda", "cuda:1"):
        devices.set_up(device, devices.fast_paths(device))
    assert chosen == ["cuda:1"]


def test_bf16_is_refused_where_a_gpu_only_imitates_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert devices.check_amp("auto", "cuda") == devices.check_amp("fp16", "cuda") == "fp16"
    with pytest.raises(ValueError, match=r"^amp is 'bf16', for which cuda is too old; use amp=fp16 or auto$"):
        devices.check_amp("bf16", "cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert devices.check_amp("auto", "cuda") == devices.check_amp("bf16", "cuda") == "bf16"


@pytest.mark.parametrize(("cores", "gpus", "workers"), [(2, 1, 2), (16, 1, 4), (16, 8, 2), (2, 4, 1)])
def test_loaders_share_the_cores_of_the_job(smoke, monkeypatch, cores, gpus, workers):
    monkeypatch.setattr(devices, "cores", lambda: cores)
    for name, value in (("is_available", True), ("device_count", 8), ("get_device_capability", (8, 0))):
        monkeypatch.setattr(torch.cuda, name, lambda *device, value=value: value)
    assert smoke(device="cuda", gpus=gpus, batch_size=8).workers == workers


def test_logits_leave_mixed_precision_as_float32(smoke, monkeypatch):
    """Interpolation, and its gradient above all, would lose what they add up; on a GPU nothing else widens them."""
    kinds, aspp = [], ASPP.forward
    monkeypatch.setattr(ASPP, "forward", lambda part, x: aspp(part, x).bfloat16())
    upsample = DeepLabV2.upsample
    monkeypatch.setattr(DeepLabV2, "upsample", lambda model, *how: kinds.append(how[0].dtype) or upsample(model, *how))
    monkeypatch.setattr(summary, "count_macs", lambda *network: 0)  # counts a pass of its own
    fit(smoke(epochs=1, amp="bf16", label_stride=4))
    assert set(kinds) == {torch.float32}
