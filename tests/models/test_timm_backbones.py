"""DeepLabV2 on timm's backbones: its grid, its groups, its freezing, their weights with the preprocessing of these."""

import copy
import json
import warnings

import numpy as np
import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from helpers.network_contract import assert_groups_freezing_and_held_statistics
from helpers.run_outcome import same_when_cut_short
from torch import nn

from deeplab_lib.config import Config
from deeplab_lib.data import normalization
from deeplab_lib.models import timm_backbones, weights
from deeplab_lib.models.efficiency import count_macs
from deeplab_lib.models.registry import make_model
from deeplab_lib.models.timm_backbones import TIMM, border
from deeplab_lib.predict import load_run

timm = pytest.importorskip("timm", reason="timm is not installed")
RESNET, CONVNEXT, EFFICIENTNET = SMALL = ("test_resnet", "test_convnext", "test_efficientnet")  # timm's own, for tests
TIMINGS = ["Runtime", "images_per_s", "peak_memory_MB"]


def small(name=RESNET, **options):
    torch.manual_seed(0)
    return make_model(TIMM + name, 5, **options)


# -- the grid ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("size", [(64, 96), (65, 129), (50, 75)], ids=str)
def test_cells_lie_from_corner_to_corner(name, stride, size):
    model = small(name, output_stride=stride).eval()
    with torch.no_grad():
        logits = model.grid_logits(torch.randn(1, 3, *size))
        assert model(torch.randn(1, 3, *size)).shape == (1, 5, *size)
    assert logits.shape == (1, 5, *(-(-(pixels - 1) // stride) + 1 for pixels in size))
    columns = model.subsample(torch.arange(size[1]).expand(1, *size), logits.shape[-2:])[0, 0]
    assert columns.tolist() == [min(stride * i, size[1] - 1) for i in range(logits.shape[-1])]


@pytest.mark.parametrize(
    "name", ["resnet18", EFFICIENTNET, "mobilenetv3_small_050", "tf_mobilenetv3_small_minimal_100"]
)
@pytest.mark.parametrize("stride", [8, 16])
def test_a_mirrored_network_sees_the_mirrored_image(name, stride):
    """Which it would not if the cells were nearer to one border than to the other."""
    model, images = small(name, output_stride=stride).eval(), torch.randn(1, 3, 65, 97)
    mirrored = copy.deepcopy(model)
    with torch.no_grad():
        for layer in mirrored.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.copy_(layer.weight.flip(-1))
        assert torch.allclose(mirrored.grid_logits(images.flip(-1)), model.grid_logits(images).flip(-1), atol=1e-4)


def test_what_is_repeated_at_the_borders_by_hand():
    assert [border(pixels, 8, patches=False) for pixels in (64, 65, 66)] == [(0, 1), (0, 0), (0, 7)]
    assert [border(pixels, 8, patches=True) for pixels in (64, 65, 66)] == [(4, 4), (4, 3), (4, 10)]
    assert border(64, 16, patches=True) == (8, 8)


def test_features_are_timms():
    model, images = small().eval(), torch.randn(1, 3, 65, 97)
    original = timm.create_model(RESNET, output_stride=8, num_classes=0, global_pool="").eval()
    original.load_state_dict({key.removeprefix("backbone."): value for key, value in model.state_dict().items()
                              if key.startswith("backbone.")})  # fmt: skip
    with torch.no_grad():
        assert torch.equal(model.features(images), original.forward_features(images))


@pytest.mark.parametrize("name", [RESNET, CONVNEXT])
def test_multiply_adds_are_those_of_a_pass_with_data(name):
    model, image = small(name).eval(), torch.zeros(1, 3, 64, 64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        counted = FlopCountAnalysis(model, image).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        assert count_macs(model, (64, 64)) == counted.total()


# -- groups, freezing, statistics --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_groups_freezing_and_held_statistics_as_deeplabv2s(name):
    assert_groups_freezing_and_held_statistics(small(name))


@pytest.mark.parametrize("bn", ["train", "eval"])
def test_batch_norm_statistics_follow_the_batches_or_stay(bn):
    model = small(bn=bn).train()
    before = {key: value.clone() for key, value in model.state_dict().items() if "running" in key}
    model.grid_logits(torch.randn(2, 3, 64, 64))
    same = {torch.equal(before[key], model.state_dict()[key]) for key in before}
    assert same == {bn == "eval"}


def test_parts_are_what_a_resnet_calls_its_own():
    model = small("resnet18")
    for part, modules in model.parts.items():
        assert all(module.startswith(f"backbone.{part}") for module in modules) and modules


# -- what cannot be ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("resnet50dd", r"^no timm model 'resnet50dd', did you mean 'resnet50d'\?"),
        ("resnet50d.ra2_in1k", r"^no timm model 'resnet50d.ra2_in1k', did you mean 'resnet50d'\?"),
        ("vit_tiny_patch16_224", r"^timm's vit_tiny_patch16_224 gives no features at output stride 8 \(.*\); use anot"),
        ("vgg11", r"^timm's vgg11 gives no features at output stride 8 \(AssertionError\); use another$"),
    ],
)  # fmt: skip
def test_other_names_are_refused_before_anything_is_loaded(name, complaint):
    with pytest.raises(ValueError, match=complaint):
        Config(preset="smoke", model=TIMM + name)
    with pytest.raises(ValueError, match=complaint):
        make_model(TIMM + name)


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"is timm's: its options are bn and output_stride, its stride_in"):
        small(stride_in="1x1")
    with pytest.raises(ValueError, match="bn is 'off'; valid: train, eval"):
        small(bn="off")


def test_several_processes_keep_the_activations_that_timm_puts_into_batch_norms():
    model, images = small("mobilenetv3_small_100").eval(), torch.randn(1, 3, 65, 129)
    with torch.no_grad():
        alone = model.features(images)
        together = model.synchronized().eval().features(images)
    assert any(isinstance(module, nn.SyncBatchNorm) for module in model.synchronized().modules())
    assert torch.allclose(alone, together, atol=1e-5)


def test_the_name_stands_in_the_runs_name():
    assert Config(preset="smoke", model=TIMM + RESNET).stem == "DeepLabV2_ce_deeplabv2_timm_test_resnet"


# -- weights -----------------------------------------------------------------------------------------------------------


def save(folder, name, file, **about):
    """Weights of timm's classifier `name` in `folder`, as the hub's safetensors, settings beside them if given.

    Its batch norms have seen images: their variances are not all 1.
    """
    from safetensors.torch import save_file

    torch.manual_seed(1)
    original = timm.create_model(name)
    for key, value in original.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.9, 1.1)
    save_file({key: value.contiguous() for key, value in original.state_dict().items()}, folder / file)
    if about:
        (folder / "config.json").write_text(json.dumps({"architecture": name, "pretrained_cfg": about}))
    return original.state_dict()


@pytest.mark.parametrize("name", SMALL)
def test_timms_weights_fill_the_backbone_and_bring_their_preprocessing(name, tmp_path):
    original = save(tmp_path, name, f"{name}.r160_in1k.safetensors")
    found = weights.resolve("auto", TIMM + name, tmp_path)
    assert found.path.parent == tmp_path and found.stride_in == "3x3"
    settings = timm.get_pretrained_cfg(name)
    assert (found.normalization.mean, found.normalization.std) == (settings.mean, settings.std)
    model = small(name)
    report = weights.load_pretrained(model, found.path)
    assert report.matched == report.total and not report.head and report.format == f"timm {name}"
    own = {key.replace(".", "_"): value for key, value in model.state_dict().items()}
    shared = {key for key in original if f"backbone_{key.replace('.', '_')}" in own}
    assert len(shared) >= report.total
    assert all(torch.equal(own[f"backbone_{key.replace('.', '_')}"], original[key]) for key in shared)


def test_settings_beside_the_file_win(tmp_path):
    clip = normalization.RGB_CLIP
    save(tmp_path, RESNET, "model.safetensors", mean=clip.mean, std=clip.std)
    assert weights.resolve(tmp_path / "model.safetensors", TIMM + RESNET).normalization == clip
    save(tmp_path, RESNET, "model.safetensors", mean=(0.1, 0.2, 0.3), std=(1, 1, 1))
    with pytest.raises(ValueError, match=r"wants images of mean .* which no preprocessing here gives"):
        weights.resolve(tmp_path / "model.safetensors", TIMM + RESNET)


def test_settings_of_another_network_or_tag_are_passed_over(tmp_path):
    save(tmp_path, RESNET, f"{RESNET}.mine.safetensors")
    another = {"architecture": "another", "pretrained_cfg": {"mean": [1, 1, 1], "std": [1, 1, 1]}}
    (tmp_path / "config.json").write_text(json.dumps(another))
    found = weights.resolve("auto", TIMM + RESNET, tmp_path)
    settings = timm.get_pretrained_cfg(RESNET)
    assert (found.normalization.mean, found.normalization.std) == (settings.mean, settings.std)


def test_layers_that_timm_calls_features_keep_their_names(tmp_path):
    save(tmp_path, "rexnet_100", "rexnet_100.safetensors")
    report = weights.load_pretrained(small("rexnet_100"), tmp_path / "rexnet_100.safetensors")
    assert report.matched == report.total


def test_other_or_damaged_files_are_refused(tmp_path):
    save(tmp_path, "test_resnet", "other.safetensors")
    with pytest.raises(ValueError, match=r"fills .* of the backbone's"):
        weights.load_pretrained(small(CONVNEXT), tmp_path / "other.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "other.safetensors").read_bytes()[:1000])
    with pytest.raises(ValueError, match="is cut short or no safetensors file"):
        weights.load_pretrained(small(), tmp_path / "cut.safetensors")
    with pytest.raises(ValueError, match="torchvision has no weights for deeplabv2_timm_test_resnet"):
        weights.resolve("torchvision", TIMM + RESNET)


def test_auto_asks_the_hub_and_goes_on_without(tmp_path, monkeypatch):
    asked = []

    def hub(repository, name):
        asked.append((repository, name))
        return str(tmp_path / name)

    save(tmp_path, RESNET, "model.safetensors")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", hub)
    monkeypatch.setattr(timm_backbones, "reachable", lambda: True)
    assert weights.resolve("auto", TIMM + RESNET).path == tmp_path / "model.safetensors"
    assert asked == [("timm/test_resnet.r160_in1k", name) for name in ("config.json", "model.safetensors")]

    def offline(repository, name):
        raise FileNotFoundError("no connection\nat all")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    found = weights.resolve("auto", TIMM + RESNET)
    assert found.path is None and "timm's test_resnet weights could not be downloaded (no connection)" in found.warning


# -- a run -------------------------------------------------------------------------------------------------------------


def test_a_run_cut_short_ends_as_an_undisturbed_one_and_can_be_loaded(smoke, tmp_path):
    save(tmp_path, RESNET, "start.safetensors")
    parameters = {"model": TIMM + RESNET, "epochs": 2, "pretrained": str(tmp_path / "start.safetensors")}
    path = same_when_cut_short(smoke, tmp_path, **parameters)
    run = load_run(path.with_suffix(""))
    assert run.predict(np.zeros((40, 80, 3), np.uint8)).shape == (40, 80)
    assert run.normalization == normalization.RGB_HALF
    report = weights.load_pretrained(small(), path.with_suffix(".best.pt"))
    assert report.matched == report.total and report.format == "this kit's DeepLabV2"
