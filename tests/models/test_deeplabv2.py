"""DeepLabV2: its exact size, its grid, its four branches, and what frozen means."""

from collections import Counter
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from deeplab_lib.models.deeplabv2 import ASPP, FREEZABLE, STAGES, DeepLabV2, count_parameters
from deeplab_lib.models.efficiency import peak_memory_mb
from deeplab_lib.models.placement import ProductASPP, to_device
from deeplab_lib.training.optimizer import make_optimizer


def micro(**options):
    torch.manual_seed(0)
    return DeepLabV2(**({"num_classes": 5, "blocks": (1, 2, 1, 1), "width": 2} | options))


def convolutions(module):
    return [m for m in module.modules() if isinstance(m, nn.Conv2d)]


def take_steps(model, count=10, lr=0.1):
    """Train on noise, with momentum and weight decay, as the training loop does."""
    optimizer = make_optimizer(model, lr)
    model.train()
    for _ in range(count):
        F.cross_entropy(model.grid_logits(torch.randn(2, 3, 32, 32)), torch.randint(0, 5, (2, 5, 5))).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return optimizer


def state(model, prefix=""):
    return {k: v.clone() for k, v in model.state_dict().items() if k.startswith(prefix)}


def same(before, after):
    return [torch.equal(before[key], after[key]) for key in before]


# -- the network of the study ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def full():
    with torch.device("meta"):
        return DeepLabV2()


def test_parameters_of_the_full_network(full):
    assert count_parameters(full) == (43_901_068, 43_795_724)  # the second is the study's "parameters"
    affine = sum(p.numel() for m in full.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters())
    assert affine == 105_344


@pytest.mark.parametrize(
    ("names", "trainable"),
    [
        ((*STAGES, "bn1"), 1_410_316),  # conv1 and ASPP
        (("layer3", "layer4"), 2_835_724),  # the count in the study's table
        (FREEZABLE, 1_400_908),  # ASPP: 4 x (2048 x 19 x 9 + 19)
        ((), 43_795_724),
    ],
)
def test_parameters_left_after_freezing(full, names, trainable):
    full.freeze(names)
    assert count_parameters(full)[1] == trainable


def test_parameter_groups_are_all_that_trains_each_once(full):
    full.freeze(())
    groups = [*full.backbone_parameters(), *full.aspp_parameters()]
    assert len({id(p) for p in groups}) == len(groups)
    assert {id(p) for p in groups} == {id(p) for p in full.parameters() if p.requires_grad}
    assert sum(p.numel() for p in full.aspp_parameters()) == 1_400_908


def test_features_and_logits_of_the_full_network(full):
    images = torch.empty(1, 3, 512, 1024, device="meta")
    assert full.features(images).shape == (1, 2048, 65, 129)
    assert full.grid_logits(images).shape == (1, 19, 65, 129)
    assert full(images).shape == (1, 19, 512, 1024)


def test_strides_and_dilations(full):
    for stage, dilation, stride in zip(STAGES, (1, 1, 2, 4), (1, 2, 1, 1), strict=True):
        blocks = full.get_submodule(stage)
        assert {block.conv2.dilation for block in blocks} == {(dilation, dilation)}
        assert [block.conv1.stride[0] for block in blocks] == [stride] + [1] * (len(blocks) - 1)
        assert {block.conv2.stride for block in blocks} == {(1, 1)}
    assert [c.dilation[0] for c in full.aspp.branches] == [c.padding[0] for c in full.aspp.branches] == [6, 12, 18, 24]


def test_strides_and_dilations_of_the_wider_grid():
    with torch.device("meta"):
        model = DeepLabV2(output_stride=16)
    for stage, dilation, stride in zip(STAGES, (1, 1, 1, 2), (1, 2, 2, 1), strict=True):
        blocks = model.get_submodule(stage)
        assert {block.conv2.dilation for block in blocks} == {(dilation, dilation)}
        assert [block.conv1.stride[0] for block in blocks] == [stride] + [1] * (len(blocks) - 1)
    assert [c.dilation[0] for c in model.aspp.branches] == [c.padding[0] for c in model.aspp.branches] == [3, 6, 9, 12]
    assert count_parameters(model) == (43_901_068, 43_795_724)
    assert model.grid_logits(torch.empty(1, 3, 512, 1024, device="meta")).shape == (1, 19, 33, 65)


def test_torchvisions_stride_layout():
    block = micro(stride_in="3x3").layer2[0]
    assert (block.conv1.stride, block.conv2.stride) == ((1, 1), (2, 2))


@pytest.mark.parametrize("parameter", [{"stride_in": "5x5"}, {"bn": "frozen"}, {"output_stride": 32}])
def test_unknown_options_are_refused(parameter):
    with pytest.raises(ValueError, match="valid:"):
        DeepLabV2(**parameter)


# -- the grid ----------------------------------------------------------------------------------------------------------


def corner_cells(pixels, stride=8):
    """Cells along one side: a halving of the convolution, of the pool (up), of stage 2, at stride 16 of stage 3."""
    half = (pixels + 2 * 3 - 7) // 2 + 1
    quarter = -(-(half + 2 - 3) // 2) + 1
    eighth = (quarter - 1) // 2 + 1
    return eighth if stride == 8 else (eighth - 1) // 2 + 1


with torch.device("meta"):
    SHAPES = {stride: DeepLabV2(blocks=(1, 1, 1, 1), width=1, output_stride=stride) for stride in (8, 16)}


@settings(max_examples=25)
@given(st.integers(17, 200), st.integers(17, 200), st.sampled_from((8, 16)))
def test_grid_of_any_input_size(height, width, stride):
    images, model = torch.empty(1, 3, height, width, device="meta"), SHAPES[stride]
    logits = model.grid_logits(images)
    assert logits.shape[-2:] == (corner_cells(height, stride), corner_cells(width, stride))
    assert model.upsample(logits, (height, width)).shape == (1, 19, height, width)


@pytest.mark.parametrize("pixels", [512, 1024, 256, 128, 64, 32, 33, 97])
@pytest.mark.parametrize("stride", [8, 16])
def test_a_cell_every_stride_from_corner_to_corner(pixels, stride):
    assert stride * (corner_cells(pixels, stride) - 1) in (pixels, pixels - 1)


@given(st.integers(17, 120), st.integers(17, 120), st.integers(1, 3), st.sampled_from((8, 16)))
def test_labels_are_subsampled_where_the_features_sit(height, width, count, stride):
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    labels = (1000 * rows + columns).expand(count, -1, -1)
    size = corner_cells(height, stride), corner_cells(width, stride)
    rows, columns = ([min(stride * i, n - 1) for i in range(k)] for k, n in zip(size, (height, width), strict=True))
    expected = [[1000 * row + column for column in columns] for row in rows]
    assert SHAPES[stride].subsample(labels, size).tolist() == [expected] * count


@pytest.mark.parametrize("stride", [8, 16])
def test_a_feature_responds_to_the_pixel_its_label_is_taken_from(stride):
    """The centre of a cell's receptive field, seen in the gradient, is pixel 8 i, or 16 i."""
    model = micro(blocks=(1, 1, 1, 1), output_stride=stride).eval()
    for part in convolutions(model):
        nn.init.constant_(part.weight, 1.0)  # no cancellation: the gradient shows the field itself
    images = torch.ones(1, 3, 129, 129, requires_grad=True)
    features = model.layer2(model.layer1(model.maxpool(model.relu(model.bn1(model.conv1(images))))))
    features = features if stride == 8 else model.layer3(features)
    features[0, 0, 64 // stride, 64 // stride].backward()
    reached = images.grad[0].sum(0).nonzero()
    assert torch.allclose(reached.float().mean(0), torch.tensor(64.0), atol=4)
    assert reached.min() <= 64 <= reached.max()


def test_upsampling_keeps_the_corners():
    logits = torch.randn(1, 2, 5, 9)
    up = micro().upsample(logits, (33, 65))
    assert torch.allclose(up[:, :, ::8, ::8], logits, atol=1e-5)


@pytest.mark.parametrize("stride", [8, 4, 2, 1])
def test_a_finer_grid_holds_the_grid_and_the_labels_of_its_own_pixels(stride):
    """Every 8th pixel keeps its logit and its label; between two cells logits are interpolated."""
    model, every = micro(), 8 // stride
    logits, labels = torch.randn(1, 2, 5, 9), torch.arange(32)[:, None] * 100 + torch.arange(64)[None]
    finer = model.finer(logits, stride)
    assert finer.shape == (1, 2, 4 * every + 1, 8 * every + 1)
    assert torch.allclose(finer[:, :, ::every, ::every], logits, atol=1e-5)
    assert torch.allclose(finer[0, 0, 0, every // 2], logits[0, 0, 0, :2] @ torch.tensor(LEANING[stride]), atol=1e-5)
    seen = model.subsample(labels[None], finer.shape[-2:], stride)[0]
    assert torch.equal(seen[::every, ::every], model.subsample(labels[None], (5, 9))[0])
    assert seen[1].tolist() == [min(stride, 31) * 100 + min(stride * i, 63) for i in range(8 * every + 1)]


LEANING = {8: (1.0, 0.0), 4: (0.5, 0.5), 2: (0.5, 0.5), 1: (0.5, 0.5)}  # of the cell half-way between two


# -- the pyramid -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("branch", range(4))
def test_every_branch_acts(branch):
    model, images = micro(), torch.randn(2, 3, 64, 64)
    model.eval()
    before = model(images)
    before.square().mean().backward()
    assert model.aspp.branches[branch].weight.grad.abs().max() > 0
    with torch.no_grad():
        model.aspp.branches[branch].weight.zero_()
    assert not torch.allclose(model(images), before)


def test_branches_are_summed():
    model, x = micro().eval(), torch.randn(1, 64, 9, 9)
    assert torch.allclose(model.aspp(x), torch.stack([branch(x) for branch in model.aspp.branches]).sum(0), atol=1e-6)


@settings(max_examples=20)
@given(st.integers(1, 40), st.integers(1, 40))
def test_as_one_product_it_is_the_sum_of_the_branches_on_any_grid(height, width):
    """Value and every gradient, in float64, offsets that leave the grid included."""
    torch.manual_seed(0)
    aspp, x = ProductASPP(4, 3).double(), torch.randn(2, 4, height, width, dtype=torch.float64, requires_grad=True)
    for branch in aspp.branches:
        nn.init.normal_(branch.weight), nn.init.normal_(branch.bias)
    inputs = [x, *aspp.parameters()]
    product, branches = aspp(x), ASPP.forward(aspp, x)
    assert torch.allclose(product, branches, atol=1e-4)
    gradients = (torch.autograd.grad(value.square().mean(), inputs) for value in (product, branches))
    assert all(torch.allclose(ours, theirs, atol=1e-4) for ours, theirs in zip(*gradients, strict=True))


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("images", [1, 3])
def test_the_gradient_that_is_written_out_is_pytorchs_own_to_the_bit(images, kind):
    """So that a run begun by a version that left it to PyTorch ends with the same numbers."""
    torch.manual_seed(0)
    aspp = ProductASPP(32, 5)
    x = torch.randn(images, 32, 9, 14).to(kind, memory_format=torch.channels_last).requires_grad_()
    taps = aspp.taps(9, 14)
    parts = F.linear(x.permute(0, 2, 3, 1), torch.cat(list(taps.values())).to(kind)).permute(0, 3, 1, 2).float()
    planes = parts.contiguous().view(images, len(taps), 5, 9, 14).unbind(1)
    moved = sum(F.pad(plane, (-dx, dx, -dy, dy)) for plane, (dy, dx) in zip(planes, taps, strict=True))
    theirs = moved + sum(branch.bias for branch in aspp.branches)[:, None, None]
    ours, inputs, pull = aspp(x), [x, *aspp.parameters()], torch.randn_like(theirs)
    assert torch.equal(ours, theirs)
    for one, other in zip(*(torch.autograd.grad(value, inputs, pull) for value in (ours, theirs)), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("size", "count"), [((17, 33), 21), ((65, 129), 33), ((6, 6), 1)])
def test_only_taps_that_stay_on_the_grid_are_computed(size, count):
    """Nine of each of four branches, their centres one; of 18 and 24 no row above or below stays on 17 rows."""
    assert len(ProductASPP(4, 3).taps(*size)) == count


# -- batch norm and freezing -------------------------------------------------------------------------------------------


def statistics(model):
    return {k: v for k, v in state(model).items() if "running" in k or "num_batches" in k}


def test_batch_norm_scale_and_shift_never_train():
    model = micro()
    affine = {name for name, p in model.named_parameters() if not p.requires_grad}
    before = state(model)
    take_steps(model)
    assert affine == {
        name
        for name, _ in model.named_parameters()
        if ".bn" in name or name.startswith("bn1") or "downsample.1" in name
    }
    assert all(torch.equal(before[name], model.state_dict()[name]) for name in affine)


def test_statistics_follow_the_batches_or_are_held():
    for bn, held in (("train", False), ("eval", True)):
        model = micro(bn=bn)
        before = statistics(model)
        take_steps(model)
        assert set(same(before, statistics(model))) == {held}, bn


@given(st.lists(st.sampled_from(FREEZABLE), unique=True), st.sampled_from(("train", "eval")))
def test_batch_norm_modes_hold_after_every_call_of_train(names, bn):
    model = micro(bn=bn)
    model.freeze(names)
    for mode in (True, False, True):
        model.train(mode)
        for name, module in model.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                frozen = bn == "eval" or name.split(".")[0] in names
                assert module.training == (mode and not frozen), name


@pytest.mark.parametrize("names", [("layer3", "layer4"), (*STAGES, "bn1"), ("conv1",)])
def test_frozen_weights_and_statistics_do_not_move_by_one_bit(names):
    """With momentum from before the freeze and weight decay on."""
    model = micro()
    optimizer = take_steps(model, 3)
    model.freeze(names)
    frozen = {k: v for k, v in state(model).items() if k.split(".")[0] in names}
    free = {k: v for k, v in state(model, "aspp").items()}
    for _ in range(10):
        model.train()
        F.cross_entropy(model.grid_logits(torch.randn(2, 3, 32, 32)), torch.randint(0, 5, (2, 5, 5))).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    assert frozen and all(same(frozen, model.state_dict()))
    assert not any(same(free, model.state_dict()))


def test_a_freeze_drops_gradients_and_a_thaw_restores_training():
    model = micro()
    model.grid_logits(torch.randn(2, 3, 32, 32)).mean().backward()
    model.freeze(("layer1",))
    assert all(p.grad is None for p in model.layer1.parameters())
    model.freeze(())
    before = state(model, "layer1")
    take_steps(model, 1)
    moved = [name for name, equal in zip(before, same(before, model.state_dict()), strict=True) if not equal]
    assert "layer1.0.conv1.weight" in moved


def test_a_freeze_in_the_middle_of_an_epoch_holds_the_statistics_at_once():
    model = micro().train()
    model.freeze(("layer1",))
    assert not model.layer1[0].bn1.training and model.layer2[0].bn1.training and model.training
    model.freeze(())
    assert model.layer1[0].bn1.training


def test_a_freeze_replaces_the_earlier_one():
    model = micro()
    model.freeze(("layer1",))
    model.freeze(("layer2",))
    assert model.layer1[0].conv1.weight.requires_grad
    assert not model.layer2[0].conv1.weight.requires_grad


def test_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match="cannot freeze 'layer5'; parts: conv1, bn1, layer1"):
        micro().freeze(("layer1", "layer5"))


# -- activations computed again for the backward pass ------------------------------------------------------------------


class Calls(TorchDispatchMode):
    """Counts the operators that are computed."""

    def __init__(self):
        super().__init__()
        self.made = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.made[function.overloadpacket.__name__] += 1
        return function(*args, **(kwargs or {}))


def passed(recompute, kind=None, **options):
    """A network after a forward and a backward pass, and what was computed."""
    model = micro(**options).train()
    to_device(model, "cpu", ("channels_last", "matrix_products", *(["recomputed_norms"] if recompute else [])))
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with Calls() as calls, torch.autocast("cpu", kind, enabled=kind is not None):
        model.grid_logits(images).float().square().mean().backward()
    return model, calls.made


@pytest.mark.parametrize("options", [{}, {"bn": "eval"}, {"stride_in": "3x3"}])
@pytest.mark.parametrize("kind", [None, torch.bfloat16, torch.float16])
def test_recomputing_changes_no_bit_of_gradients_and_statistics(monkeypatch, options, kind):
    monkeypatch.setattr("deeplab_lib.models.deeplabv2.LARGE", 0)
    (kept, once), (again, twice) = passed(False, kind, **options), passed(True, kind, **options)
    assert all(same(state(kept), state(again)))
    gradients = [[p.grad for p in model.parameters() if p.requires_grad] for model in (kept, again)]
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))
    made = {name: twice[name] - once[name] for name in ("native_batch_norm", "relu_", "convolution", "addmm", "mm")}
    assert made["native_batch_norm"] == made["relu_"] == 2 * 5, "the first two norms of five blocks"
    assert made["convolution"] == made["addmm"] == made["mm"] == 0, "only what is cheap is computed twice"


def test_recomputing_keeps_less(monkeypatch):
    monkeypatch.setattr("deeplab_lib.models.deeplabv2.LARGE", 0)
    images, peaks = torch.randn(2, 3, 256, 256), []
    for chosen in ((), ("recomputed_norms",)):
        model = to_device(micro(blocks=(1, 1, 23, 1), width=16).train(), "cpu", chosen)
        peaks.append(peak_memory_mb(model, lambda model=model: model.grid_logits(images), "cpu"))
    assert 0.8 < peaks[1] / peaks[0] < 0.87, "two of a block's twelve parts, and the stem's are kept"


@pytest.mark.parametrize("side, found", [(512, True), (256, False)])
def test_only_large_activations_are_recomputed_and_only_for_a_backward_pass_to_come(side, found):
    model = to_device(micro(width=16).train(), "cpu", ("recomputed_norms",))
    images = torch.randn(2, 3, side, side)
    with mock.patch(
        "deeplab_lib.models.deeplabv2.checkpoint", side_effect=lambda function, x, **options: function(x)
    ) as calls:
        with torch.no_grad():
            model.grid_logits(images)
        model.eval().grid_logits(images)
        assert not calls.called
        model.train().grid_logits(images)
    assert calls.called is found
