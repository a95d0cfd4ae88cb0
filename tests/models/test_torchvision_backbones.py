"""DeepLabV2 on further backbones is DeepLabV2 in everything but its blocks."""

import sys

import numpy as np
import pytest
import torch
from helpers.network_contract import assert_groups_freezing_and_held_statistics
from helpers.run_outcome import same_when_cut_short
from torchvision import models

from deeplab_lib.config import Config
from deeplab_lib.models import weights
from deeplab_lib.models.deeplabv2 import STAGES
from deeplab_lib.models.registry import make_model
from deeplab_lib.models.torchvision_backbones import RESNETS
from deeplab_lib.predict import load_run

MINI = "deeplabv2_resnext_mini"
NAMED = [name for name in RESNETS if hasattr(models, name.removeprefix("deeplabv2_"))]  # others are ours
TIMINGS = ["Runtime", "images_per_s", "peak_memory_MB"]


@pytest.mark.parametrize("name", NAMED)
def test_the_backbone_is_torchvisions_to_the_last_parameter(name):
    with torch.device("meta"):
        model, original = make_model(name, 5), getattr(models, name.removeprefix("deeplabv2_"))()
    own = {key: value.shape for key, value in model.state_dict().items() if not key.startswith("aspp")}
    assert own == {key: value.shape for key, value in original.state_dict().items() if not key.startswith("fc")}
    with torch.device("meta"):
        logits = model.grid_logits(torch.empty(2, 3, 64, 96))
    assert logits.shape == (2, 5, 9, 13)  # every 8 pixels from corner to corner, as DeepLabV2's own


def test_the_wider_grid_reaches_from_corner_to_corner_too():
    with torch.device("meta"):
        model, own = make_model(NAMED[0], 5, output_stride=16), make_model("deeplabv2_micro", 5, output_stride=16)
        images = torch.empty(2, 3, 128, 96)
        assert model.grid_logits(images).shape == own.grid_logits(images).shape == (2, 5, 9, 7)
    assert [branch.dilation for branch in model.aspp.branches] == [branch.dilation for branch in own.aspp.branches]
    labels = torch.arange(128)[:, None].expand(1, 128, 96)
    assert model.subsample(labels, (9, 7))[0, :, 0].tolist() == [0, 16, 32, 48, 64, 80, 96, 112, 127]


@pytest.mark.parametrize("size", [(64, 96), (50, 75)], ids=str)
def test_features_are_those_of_torchvisions_dilated_network(size):
    torch.manual_seed(0)
    model = make_model("deeplabv2_resnext50_32x4d", 5).eval()
    original = models.resnext50_32x4d(replace_stride_with_dilation=[False, True, True]).eval()
    original.load_state_dict(model.state_dict(), strict=False)
    original.maxpool.ceil_mode = True
    images = torch.randn(1, 3, *size)
    with torch.no_grad():
        x = original.maxpool(original.relu(original.bn1(original.conv1(images))))
        for stage in STAGES:
            x = getattr(original, stage)(x)
        assert torch.equal(model.features(images), x)
        assert model(images).shape == (1, 5, *size)


def test_groups_freezing_and_held_statistics_as_deeplabv2s():
    assert_groups_freezing_and_held_statistics(make_model(MINI, 5))


def test_torchvisions_weights_fill_the_backbone(tmp_path):
    name = "deeplabv2_resnext50_32x4d"
    original = models.resnext50_32x4d()
    torch.save(original.state_dict(), tmp_path / "resnext50_32x4d-7cdf4587.pth")
    found = weights.resolve("auto", name, tmp_path)
    assert found.path.parent == tmp_path and found.stride_in == "3x3"
    model = make_model(name, 5, stride_in=found.stride_in)
    report = weights.load_pretrained(model, found.path)
    assert report.matched == report.total and not report.head
    assert torch.equal(model.layer4[2].conv2.weight, original.layer4[2].conv2.weight)
    with pytest.raises(ValueError, match=r"fills .* of the backbone's"):
        weights.load_pretrained(make_model("deeplabv2_wide_resnet50_2", 5), found.path)


def test_timms_backbones_need_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    for make in (make_model, lambda name: Config(preset="smoke", model=name)):
        with pytest.raises(ValueError, match=r"^models named deeplabv2_timm_\.\.\. need timm: pip install timm"):
            make("deeplabv2_timm_resnet26")


def test_a_layout_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"is torchvision's: its options are bn and output_stride"):
        make_model(MINI, stride_in="1x1")
    with pytest.raises(ValueError, match="bn is 'off'; valid: train, eval"):
        make_model(MINI, bn="off")
    path = tmp_path / "caffe.pth"
    torch.save({f"Scale.{key}": value for key, value in make_model("deeplabv2_micro").state_dict().items()}, path)
    with pytest.raises(ValueError, match="has its stride in the 1x1 convolutions; DeepLabV2OnResNet needs it"):
        weights.load_pretrained(make_model(MINI), path)


@pytest.mark.parametrize("stride", [8, 16])
def test_a_run_cut_short_ends_as_an_undisturbed_one_and_can_be_loaded(stride, smoke, tmp_path):
    parameters = {"model": MINI, "epochs": 2, "output_stride": stride}
    path = same_when_cut_short(smoke, tmp_path, **parameters)
    assert load_run(path.with_suffix("")).predict(np.zeros((40, 80, 3), np.uint8)).shape == (40, 80)
