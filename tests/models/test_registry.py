"""Every network answers to DeepLabV2's interface, and its loss looks at the pixels its upsampling speaks for."""

import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torchvision.models import segmentation

from deeplab_lib.config import Config
from deeplab_lib.models.network import is_affine
from deeplab_lib.models.registry import DEEPLABV2_SIZES, TORCHVISION_NETWORKS, make_model
from deeplab_lib.recipes import RECIPES

QUICK = ("deeplabv2_micro", "deeplabv2_mini", *TORCHVISION_NETWORKS)
STATISTICS = ("running_mean", "running_var")


@functools.cache
def kept(name):
    """One network of each name for the tests that do not change it."""
    return make_model(name, 5).eval()


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("size", [(64, 96), (50, 75)], ids=str)
def test_forward_is_the_upsampled_grid_and_labels_fit_the_grid(name, size):
    model, images = kept(name), torch.randn(2, 3, *size)
    with torch.no_grad():
        logits, grid = model(images), model.grid_logits(images)
    assert logits.shape == (2, 5, *size)
    assert torch.equal(logits, model.upsample(grid, size))
    labels = torch.randint(0, 5, (2, *size))
    assert model.subsample(labels, grid.shape[-2:]).shape == (2, *grid.shape[-2:])
    if size == (64, 96):
        step, extra = model.stride, int(name in DEEPLABV2_SIZES)  # DeepLabV2's pool rounds up
        assert grid.shape[-2:] == (64 // step + extra, 96 // step + extra)


@pytest.mark.parametrize("name", TORCHVISION_NETWORKS)
def test_logits_are_torchvisions_own(name):
    model, images = kept(name), torch.randn(1, 3, 64, 96)
    original = getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=5).eval()
    original.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(model(images), original(images)["out"])


@given(st.sampled_from(QUICK), st.integers(2, 12), st.integers(2, 12), st.integers(0, 2**31 - 1))
def test_labels_drawn_on_the_grid_survive_upsampling_and_subsampling(name, height, width, seed):
    """A cell's label sits where the upsampled logits are that cell's: one map of classes goes round unharmed."""
    model = kept(name)
    generator = torch.Generator().manual_seed(seed)
    grid = torch.randint(0, 5, (1, height, width), generator=generator)
    extra = 1 if name in DEEPLABV2_SIZES else 0  # its cells reach from corner to corner
    size = (model.stride * (height - extra) + extra, model.stride * (width - extra) + extra)
    logits = model.upsample(F.one_hot(grid, 5).permute(0, 3, 1, 2).float(), size)
    assert torch.equal(model.subsample(logits.argmax(1), (height, width)), grid)


def test_torchvision_labels_come_from_the_middle_of_their_cell_by_hand():
    labels = torch.arange(32).expand(1, 16, 32)
    assert kept("fcn_resnet101").subsample(labels, (2, 4)).tolist() == [[[4, 12, 20, 28]] * 2]
    assert kept("deeplabv3_mobilenet_v3_large").subsample(labels, (1, 2)).tolist() == [[[8, 24]]]


@pytest.mark.parametrize("name", QUICK)
def test_two_groups_hold_every_parameter_that_trains_and_each_gets_a_gradient(name):
    model = make_model(name, 5)
    backbone, head = model.backbone_parameters(), model.aspp_parameters()
    trainable = {id(p) for p in model.parameters() if p.requires_grad}
    assert {id(p) for p in backbone} | {id(p) for p in head} == trainable
    assert len(backbone) + len(head) == len(trainable)
    assert {key for key, p in model.named_parameters() if not p.requires_grad} == {
        key for key, _ in model.named_parameters() if is_affine(model, key)
    }
    grid = model.grid_logits(torch.randn(2, 3, 64, 64))
    F.cross_entropy(grid, torch.randint(0, 5, (2, *grid.shape[-2:]))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in [*backbone, *head])


@pytest.mark.parametrize("name", ["deeplabv2_micro", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"])
def test_freezing_the_residual_stages_leaves_stem_and_head(name):
    model = make_model(name, 5)
    stages = ("layer1", "layer2", "layer3", "layer4", "bn1")
    model.freeze(stages)
    model.train()
    assert model.frozen == stages
    assert sum(p.requires_grad for p in model.backbone_parameters()) == 1
    assert all(p.requires_grad for p in model.aspp_parameters())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model.grid_logits(torch.randn(2, 3, 64, 64)).square().mean().backward()
        optimizer.step()
    head = "aspp" if name in DEEPLABV2_SIZES else "classifier"
    stem = "conv1" if name in DEEPLABV2_SIZES else "backbone.0.0"
    moved = {key for key, value in model.state_dict().items() if not torch.equal(before[key], value)}
    assert moved and all(key.startswith((head, stem)) for key in moved)
    model.freeze(())
    assert all(p.requires_grad for p in model.backbone_parameters())


@pytest.mark.parametrize("name", QUICK)
def test_every_recipe_can_freeze_what_it_wants_and_nothing_else_is_a_part(name):
    model = make_model(name, 5)
    for recipe in RECIPES.values():
        for change in recipe.changes:
            model.freeze(change.freeze)
    with pytest.raises(ValueError, match="cannot freeze 'layer9'; parts: conv1, bn1, layer1, layer2, layer3, layer4"):
        model.freeze(("layer9",))


@pytest.mark.parametrize("name", ["deeplabv2_micro", "lraspp_mobilenet_v3_large"])
@pytest.mark.parametrize("bn", ["train", "eval"])
def test_batch_norm_statistics_follow_the_batches_or_stay(name, bn):
    model = make_model(name, 5, bn=bn).train()
    before = {key: value.clone() for key, value in model.state_dict().items() if key.endswith(STATISTICS)}
    model.grid_logits(torch.randn(2, 3, 64, 64))
    same = [torch.equal(before[key], model.state_dict()[key]) for key in before]
    assert all(same) if bn == "eval" else not any(same)


def test_deeplabv3_refuses_to_train_on_one_image_unless_statistics_stay():
    parameters = {"model": "deeplabv3_mobilenet_v3_large", "batch_size": 2, "accumulate": 2}
    with pytest.raises(ValueError, match=r"its batches are of one image .*; use two images or bn=eval"):
        Config(**parameters)
    assert Config(**parameters, bn="eval") and Config(**parameters | {"accumulate": 1})
    make_model("deeplabv3_mobilenet_v3_large", bn="eval").train().grid_logits(torch.randn(1, 3, 64, 64))


def test_unknown_names_and_options_are_refused_in_one_line():
    with pytest.raises(
        ValueError, match=r"^no model 'deeplabv3_resnet10', did you mean 'deeplabv3_resnet101'\?; models:"
    ):
        make_model("deeplabv3_resnet10")
    for options in ({"width": 16}, {"stride_in": "1x1"}):
        with pytest.raises(ValueError, match=r"^fcn_resnet101 is torchvision's: its options are bn and output_stride"):
            make_model("fcn_resnet101", **options)
    for name in ("deeplabv2_micro", "lraspp_mobilenet_v3_large"):
        with pytest.raises(ValueError, match=r"^bn is 'off'; valid: train, eval"):
            make_model(name, bn="off")
