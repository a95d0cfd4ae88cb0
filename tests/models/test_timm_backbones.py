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
from torch.nn import functional as F

from deeplab_lib.config import Config
from deeplab_lib.data import normalization
from deeplab_lib.models import placement, timm_backbones, weights
from deeplab_lib.models.efficiency import count_macs
from deeplab_lib.models.placement import bfloat16_loses_gradients, is_dilated_depthwise, kept_out, to_device
from deeplab_lib.models.registry import make_model
from deeplab_lib.models.timm_backbones import TIMM, backbone, border, centre, shift_of
from deeplab_lib.predict import load_run
from deeplab_lib.training.loop import fit
from deeplab_lib.training.optimizer import make_optimizer

timm = pytest.importorskip("timm", reason="timm is not installed")
RESNET, CONVNEXT, EFFICIENTNET = SMALL = ("test_resnet", "test_convnext", "test_efficientnet")  # timm's own, for tests
CONV = F.conv2d
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
    """Before, after, the first cell that lies on the side, and how many do."""
    assert [border(pixels, 8) for pixels in (64, 65, 66)] == [(0, 1, 0, 9), (0, 0, 0, 9), (0, 7, 0, 10)]
    assert [border(pixels, 8, 8) for pixels in (64, 65, 66)] == [(4, 4, 0, 9), (4, 3, 0, 9), (4, 10, 0, 10)]
    assert border(64, 16, 16) == (8, 8, 0, 5)


def test_a_grid_that_looks_further_on_gets_its_image_moved_by_as_much():
    """By 3 pixels: three more before. By -3: a whole cell more, which is then left out."""
    assert border(65, 8, shift=3) == (3, 5, 0, 9) and border(65, 8, shift=-3) == (5, 3, 1, 9)
    assert border(64, 8, 8, shift=-4) == (0, 8, 0, 9) and border(64, 8, 8, shift=4) == (8, 0, 0, 9)
    assert border(64, 8, 64, shift=0) == (4, 60, 0, 9), "windows want whole sides"


def looks(*layers, multiple=1):
    """Pixels from where a cell of `layers` is assumed to where it looks, and how far its channels agree."""
    torch.manual_seed(3)
    for layer in layers:
        layer.apply(lambda part: part.reset_parameters() if isinstance(part, nn.Conv2d) else None)
    return centre(nn.Sequential(*layers, Listed()), 8, multiple)


class Listed(nn.Module):
    """Features as the only ones of a list, as timm's extractors give them."""

    def forward(self, features):
        return [features]


class Both(nn.Module):
    """The channels of two branches."""

    def __init__(self, *branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, images):
        return torch.cat([branch(images) for branch in self.branches], 1)


class Gated(nn.Module):
    """Every channel times what its mean over the image says."""

    def forward(self, features):
        return features * features.mean((2, 3), keepdim=True).sigmoid()


class WindowMeans(nn.Module):
    """Every cell half itself, half the mean of the eight in its window, as attention that finds them alike."""

    def forward(self, features):
        means = F.avg_pool2d(features, (1, 8), (1, 8)).repeat_interleave(8, -1)
        return (features + means) / 2


def around(stride=8):
    return nn.Conv2d(3, 16, 3, stride, padding=1)


@pytest.mark.parametrize(
    ("pixels", "layers", "multiple"),
    [
        (0, [around()], 1),
        (0, [nn.Conv2d(3, 8, 7, 4, padding=3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)], 1),
        (3, [nn.ZeroPad2d((-3, 3, 0, 0)), around()], 1),
        (-5, [nn.ZeroPad2d((5, -5, 0, 0)), around()], 1),
        (-0.5, [nn.Conv2d(3, 16, 8, 8)], 8),
        (3.5, [nn.Conv2d(3, 16, 8, 8), nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(16, 16, 2)], 8),
        (2, [nn.ZeroPad2d((-2, 2, 0, 0)), around(), nn.GroupNorm(1, 16), nn.GELU(), Gated()], 1),
        (-4, [around(), WindowMeans()], 64),
    ],
    ids=["convolution", "pool", "further", "back", "patches", "patches-and-next", "gate", "windows"],
)
def test_where_cells_look_by_hand(pixels, layers, multiple):
    """A 3x3 convolution looks around 8i, a patch around 8i + 3.5 where 8i + 4 is assumed, two patches in between.

    Gates, norms and maxima change nothing. Cells that share a window look, on average, as far to the right as to the
    left, from 8i.
    """
    found, agreement = looks(*layers, multiple=multiple)
    assert found == pytest.approx(pixels, abs=0.05) and agreement == pytest.approx(1, abs=0.01)


def test_branches_that_look_at_different_places_count_by_their_power():
    """Of two alike, at 0 and at 10, the cells look at 5: of 256 pixels, 7 degrees to each side, doubled 14."""
    same = around()
    further = nn.Sequential(nn.ZeroPad2d((-10, 10, 0, 0)), same)
    found, agreement = looks(Both(same, further))
    assert found == pytest.approx(5, abs=0.05) and agreement == pytest.approx(np.cos(2 * np.pi * 10 / 256), abs=0.01)


class OnlyFeatures(nn.Module):
    """The features of a network, where labels are taken at 0, 8, 16 ..."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return [self.model.features(images)]


@pytest.mark.parametrize("name", [*SMALL, "test_nfnet", "halonet26t"])
def test_a_grid_moved_by_half_a_cell_is_found(name):
    """Labels are taken where cells look, whatever timm's padding makes of that; moved by half a cell they are not."""
    model = small(name)
    assert abs(centre(OnlyFeatures(model), 8)[0]) < 1
    model.shift += 4
    assert abs(centre(OnlyFeatures(model), 8)[0] + 4) < 1


@pytest.mark.parametrize(
    ("name", "pixels"),
    [("resnet18", 0), ("tf_mobilenetv3_small_minimal_100", 0), ("convnext_pico", 4), ("convnext_atto_ols", 2),
     ("test_nfnet", 10), ("resnet50d", 5), ("halonet26t", -4), ("lambda_resnet26t", 0), ("repvgg_a0", 0),
     ("efficientnet_cc_b0_4e", 0)],
)  # fmt: skip
def test_shifts_by_hand(name, pixels):
    """ConvNeXt's last 2x2 convolution without a stride takes a cell and the next; NFNet's three shortcuts pool 2x2 at
    4, 8 and 8 pixels a cell, which is 2 + 4 + 4; ResNet-D's too, but half of the power goes through its blocks, which
    look at 0; HaloNet's windows want sides as patches do, its cells look around 8i.
    """
    assert shift_of(name) == pixels


def test_where_cells_look_is_measured_for_a_network_without_data_as_well():
    shift_of.cache_clear()
    with torch.device("meta"):
        assert small(CONVNEXT).shift == 4
    assert small(CONVNEXT).shift == 4


def test_every_stride_8_grid_is_accepted_and_what_has_none_refused_in_a_line():
    assert backbone("cspnext_tiny").multiple == 1 and backbone("mobilevitv2_050").multiple == 16
    assert backbone("halonet26t").multiple == 64, "windows of 8 cells"
    with pytest.raises(
        ValueError, match=r"^timm's vgg11 gives no .* \(AssertionError: assert output_stride == 32\); use"
    ):
        backbone("vgg11")


def test_scales_that_would_stay_0_start_at_1():
    """Else a residual block adds nothing for ever, and its convolutions have no gradient."""
    model = small(RESNET).train()
    model.grid_logits(torch.randn(2, 3, 64, 64)).square().mean().backward()
    convolutions = [layer for layer in model.backbone.modules() if isinstance(layer, nn.Conv2d)]
    assert all(layer.weight.grad.abs().max() > 0 for layer in convolutions)
    scales = [module.weight for module in timm.create_model(RESNET).modules() if isinstance(module, nn.BatchNorm2d)]
    assert any(scale.eq(0).all() for scale in scales), "timm itself starts some at 0"


# -- bfloat16 ----------------------------------------------------------------------------------------------------------


def steps_in(kind, name, count):
    """Losses of `count` steps of a new network on one batch, in mixed precision `kind` or None, as a CPU trains."""
    model = to_device(small(name), "cpu", ("channels_last", "matrix_products")).train()
    optimizer = make_optimizer(model, 0.01)
    draw = torch.Generator().manual_seed(1)
    images, labels = torch.randn(2, 3, 128, 256, generator=draw), torch.randint(0, 5, (2, 128, 256), generator=draw)
    images, losses = images.to(memory_format=torch.channels_last), []
    for _ in range(count):
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == "bf16"):
            logits = model.grid_logits(images).float()
        loss = F.cross_entropy(logits, model.subsample(labels, logits.shape[-2:]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses, [p.grad.clone() for p in model.backbone_parameters()]


def test_gradients_in_bfloat16_are_those_of_float32():
    """A dilated depthwise convolution's would be noise: 1.4 times as far from the right one as that is long."""
    (model, _, exact), (_, _, found) = (steps_in(kind, "mobilenetv3_small_050", 1) for kind in (None, "bf16"))
    off = {tuple(p.shape): float((a - b).norm() / a.norm()) for p, a, b in zip(
        model.backbone_parameters(), exact, found, strict=True) if a.norm() > 1e-6}  # fmt: skip
    assert sorted(off.values())[len(off) // 2] < 0.2
    depthwise = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d) and is_dilated_depthwise(layer)]
    told = kept_out(model, "bf16")
    assert depthwise and told.startswith(f"{len(depthwise)} dilated" if bfloat16_loses_gradients() else "")
    assert not kept_out(model, "off")


def test_the_probe_tells_a_wrong_gradient_from_a_right_one(monkeypatch):
    """With a convolution that is right in both, nothing is kept out and the speed is back."""
    monkeypatch.setattr(placement.F, "conv2d", lambda x, *rest, **options: CONV(x.float(), rest[0].float(), **options))
    bfloat16_loses_gradients.cache_clear()
    assert not bfloat16_loses_gradients()
    monkeypatch.undo()
    bfloat16_loses_gradients.cache_clear()


def test_features_are_timms():
    model, images = small("resnet18").eval(), torch.randn(1, 3, 65, 97)
    original = timm.create_model("resnet18", output_stride=8, num_classes=0, global_pool="").eval()
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
        ("vgg11", r"^timm's vgg11 gives no features at output stride 8 \(AssertionError: assert .*\); use another$"),
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


def test_a_part_that_a_backbone_has_none_of_is_named_where_the_schedule_freezes_it(smoke):
    """NFNets normalise nothing."""
    run = fit(smoke(loss="ce_focal", follows="text", epochs=1, model=TIMM + "test_nfnet", lr=0.001))
    assert run.summary["warnings"] == [f"{TIMM}test_nfnet has no bn1: to freeze that changes nothing"]
