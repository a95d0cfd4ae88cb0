"""Batch norms folded into convolutions: the same logits, the network untouched, nothing folded that must not be."""

import math

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from deeplab_lib.common import devices
from deeplab_lib.models.folding import foldable, folded
from deeplab_lib.models.network import SegmentationNetwork
from deeplab_lib.models.placement import in_float32, to_device
from deeplab_lib.models.registry import make_model


class Small(SegmentationNetwork):
    """A network of a few layers, `how(layers, images)` says in which order."""

    bn, frozen, parts = "train", (), {}

    def __init__(self, how, **layers):
        super().__init__()
        self.how = how
        for name, layer in layers.items():
            self.add_module(name, layer)

    def grid_logits(self, images):
        return self.how(self, images)


def norms(model):
    return [name for name, module in model.named_modules() if isinstance(module, _BatchNorm)]


def lived_in(model, passes=10, size=(64, 128)):
    """`model` with batch norms as after a training: statistics of its own features, scales and shifts of all sizes."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.3)
        for _ in range(passes):
            model.train().grid_logits(torch.randn(2, 3, *size))
        for branch in getattr(getattr(model, "aspp", None), "branches", ()):
            branch.weight.normal_(0, 0.05)
    return model.eval()


def test_by_hand():
    """2x + 1, less the mean 3, by the deviation sqrt(3 + 1), times 5, plus 7: 5x + 2."""
    convolution, norm = nn.Conv2d(3, 1, 1), nn.BatchNorm2d(1, eps=1.0)
    with torch.no_grad():
        convolution.weight.copy_(torch.tensor([2.0, 0, 0]).view(1, 3, 1, 1))
        convolution.bias.fill_(1)
        norm.running_mean.fill_(3)
        norm.running_var.fill_(3)
        norm.weight.fill_(5)
        norm.bias.fill_(7)
    model = Small(lambda layers, images: layers.norm(layers.convolution(images)), convolution=convolution, norm=norm)
    result = folded(model)
    assert norms(result) == []
    assert result.convolution.weight.flatten().tolist() == [5, 0, 0] and result.convolution.bias.tolist() == [2]
    assert convolution.weight.flatten().tolist() == [2, 0, 0] and isinstance(model.norm, nn.BatchNorm2d)


@pytest.mark.parametrize(
    "name",
    [
        "deeplabv2_mini",
        "deeplabv2_resnext_mini",
        "lraspp_mobilenet_v3_large",
        "deeplabv3_mobilenet_v3_large",
        "deeplabv2_timm_resnet18",
        "deeplabv2_timm_mobilenetv3_small_050",
    ],
)
def test_every_batch_norm_is_folded_and_the_logits_stay(name):
    if "timm" in name:
        pytest.importorskip("timm")
    torch.manual_seed(0)
    model, images = lived_in(make_model(name), passes=2), torch.randn(2, 3, 64, 96)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.train()
    result = folded(model)
    assert norms(result) == [] and norms(model)
    assert model.training and all(module.training for module in model.modules())
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())
    with torch.inference_mode():
        expected = model.eval().grid_logits(images)
        assert (result.grid_logits(images) - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_norms_before_convolutions_stay():
    """ResNetV2's blocks normalise what was added up, which is no single convolution's."""
    pytest.importorskip("timm")
    torch.manual_seed(0)
    model, images = lived_in(make_model("deeplabv2_timm_resnetv2_50"), passes=2), torch.randn(1, 3, 64, 96)
    result = folded(model)
    assert 0 < len(norms(result)) < len(norms(model))
    with torch.inference_mode():
        expected = model.grid_logits(images)
        assert (result.grid_logits(images) - expected).abs().max() <= 1e-4 * expected.abs().max()


class Standardised(nn.Conv2d):
    """A convolution that does more with its weights than others: scaled, it would do the same."""

    def forward(self, x):
        return nn.functional.conv2d(x, self.weight / self.weight.norm(), self.bias)


NOT_TO_FOLD = {
    "output used twice": lambda m, x: m.norm(y := m.convolution(x)) + y,
    "convolution used twice": lambda m, x: m.norm(m.convolution(x)) + m.convolution(x),
    "norm used twice": lambda m, x: m.norm(m.norm(m.convolution(x))),
    "something between": lambda m, x: m.norm(m.convolution(x).relu()),
    "changed in place": lambda m, x: m.norm(m.convolution(x).mul_(2)),
}


@pytest.mark.parametrize("how", NOT_TO_FOLD.values(), ids=NOT_TO_FOLD)
def test_what_would_come_out_otherwise_is_left_alone(how):
    torch.manual_seed(0)
    model, images = (
        lived_in(Small(how, convolution=nn.Conv2d(3, 3, 1), norm=nn.BatchNorm2d(3))),
        torch.randn(1, 3, 8, 8),
    )
    assert foldable(model) == [] and norms(folded(model)) == ["norm"]
    with torch.inference_mode():
        assert torch.equal(folded(model).grid_logits(images), model.grid_logits(images))


@pytest.mark.parametrize(
    "layers",
    [
        {"convolution": Standardised(3, 3, 1), "norm": nn.BatchNorm2d(3)},
        {"convolution": nn.Conv2d(3, 3, 1), "norm": nn.BatchNorm2d(3, track_running_stats=False)},
        {"convolution": nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 1)), "norm": nn.BatchNorm2d(3)},
    ],
    ids=["a convolution of another kind", "no statistics", "weights made anew at every pass"],
)
def test_layers_that_do_something_else_are_left_alone(layers):
    model = Small(lambda m, x: m.norm(m.convolution(x)), **layers).eval()
    assert foldable(model) == [] and norms(folded(model)) == ["norm"]


def test_frozen_parts_averages_synchronised_norms_and_fast_paths():
    torch.manual_seed(0)
    model = lived_in(make_model("deeplabv2_mini"))
    images = torch.randn(1, 3, 64, 128).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = model.grid_logits(images)
    model.freeze(("conv1", "bn1", "layer1"))
    for network in (model, model.synchronized(), to_device(model, "cpu", devices.fast_paths("cpu"))):
        result = folded(network.train())
        assert norms(result) == [] and result.frozen == ("conv1", "bn1", "layer1")
        with torch.inference_mode():
            assert (result.grid_logits(images) - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_layers_kept_out_of_bfloat16_stay_so(monkeypatch):
    """Their weights are the folded ones, not those of the network that they were copied from."""
    monkeypatch.setattr("deeplab_lib.models.placement.bfloat16_loses_gradients", lambda: True)
    torch.manual_seed(0)
    model = make_model("deeplabv3_mobilenet_v3_large")
    to_device(model, "cpu", devices.fast_paths("cpu")).eval()
    result, kinds = folded(model), [torch.float32, torch.bfloat16]
    kept = {m: vars(m)["forward"] for m in result.modules() if "forward" in vars(m)}
    assert kept and all(bound.__func__ is in_float32 and bound.__self__ is m for m, bound in kept.items())
    images = torch.randn(1, 3, 64, 64)
    for kind in kinds:
        with torch.inference_mode(), torch.autocast("cpu", kind, enabled=kind is torch.bfloat16):
            expected, seen = model.grid_logits(images).float(), result.grid_logits(images).float()
        assert (seen - expected).abs().max() <= (0.05 if kind is torch.bfloat16 else 1e-4) * expected.abs().max()


def test_rounding_to_bfloat16_costs_no_more_than_before():
    """Against float32, over twelve networks: mean and largest error, and how many cells keep their class."""
    mean, largest, same = (torch.zeros(2) for _ in range(3))
    for seed in range(12):
        torch.manual_seed(seed)
        model = lived_in(to_device(make_model("deeplabv2_mini"), "cpu", devices.fast_paths("cpu")))
        images = torch.randn(2, 3, 64, 128).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            exact = model.grid_logits(images)
            for place, network in enumerate((model, folded(model))):
                with torch.autocast("cpu", torch.bfloat16):
                    logits = network.grid_logits(images).float()
                error = (logits - exact).abs()
                mean[place] += error.mean() / 12
                largest[place] += error.max() / 12
                same[place] += (logits.argmax(1) == exact.argmax(1)).float().mean() / 12
    assert mean[1] <= 1.1 * mean[0] and largest[1] <= 1.1 * largest[0] and same[1] >= same[0] > 0.9
    assert math.isfinite(mean.sum())
