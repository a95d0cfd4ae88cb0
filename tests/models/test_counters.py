"""Tools that count operations see the whole of a new network, on a CPU as on any device; each by its own convention."""

import warnings

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode
from torchinfo import summary

from deeplab_lib.models.deeplabv2 import ASPP, DeepLabV2
from deeplab_lib.models.efficiency import count_macs
from deeplab_lib.models.placement import PointwiseConv2d, ProductASPP, to_device

CONVOLUTIONS = 373_656_133_632  # multiply-adds of the convolutions alone, of one image of 512x1024
TORCHINFO = 373_656_876_236  # with the bias, once for every weight of a batch norm


def flops(model, image):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    return counter.get_total_flops()


def fvcore(model, image):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        analysis = FlopCountAnalysis(model, image).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        return analysis.total()


@pytest.fixture(scope="module")
def network():
    return DeepLabV2().eval()


def test_every_convolution_of_a_new_network_is_a_plain_one(network):
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 1 + 3 * 33 + 4 + 4
    assert {type(module) for module in convolutions} == {nn.Conv2d} and type(network.aspp) is ASPP


def test_pytorch_and_torchinfo_count_the_paper_s_image_on_a_cpu():
    """On tensors of a CPU that hold no data: what is dispatched is what a CPU would compute."""
    with FakeTensorMode():
        network, image = DeepLabV2().eval(), torch.empty(1, 3, 512, 1024)
        assert image.is_cpu and next(network.parameters()).is_cpu
        assert flops(network, image) == 2 * CONVOLUTIONS
        assert summary(network, input_data=image, verbose=0, device=None).total_mult_adds == TORCHINFO


def test_fvcore_counts_the_same_on_a_cpu_as_without_data(network):
    """A small image with data, at which the shortcut to the published 374.66 G must give what a real pass gives."""
    assert fvcore(network, torch.zeros(1, 3, 64, 128)) == count_macs(network, (64, 128))


def test_fvcore_counts_more_where_batch_norm_follows_the_batch():
    """Two an element where the statistics are held, five where they are the batch's."""
    norm, image = nn.BatchNorm2d(3), torch.zeros(2, 3, 8, 8)
    assert (fvcore(norm.eval(), image), fvcore(norm.train(), image)) == (2 * image.numel(), 5 * image.numel())


def test_placed_on_a_cpu_the_network_is_computed_otherwise_and_only_then():
    """The visible call that makes it fast is what hides work from a counter: count before."""
    network, image = DeepLabV2(blocks=(1, 1, 1, 1), width=4).eval(), torch.zeros(1, 3, 64, 64)
    before, scores = flops(network, image), network(image)
    placed = to_device(network, "cpu", ("matrix_products",))
    assert placed is network and type(network.aspp) is ProductASPP
    assert {type(block.conv1) for block in network.layer4} == {PointwiseConv2d}
    assert type(network.layer2[0].conv1) is nn.Conv2d, "a stride is no matrix product"
    assert flops(network, image) < before
    assert torch.allclose(network(image), scores, atol=1e-5)
    assert fvcore(network, image) == count_macs(network, (64, 64)), "traced, it is the convolutions that it stands for"


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_product_s_values_and_gradients_are_the_convolution_s(kind):
    torch.manual_seed(0)
    plain = nn.Conv2d(16, 8, 1)
    fast = nn.Conv2d(16, 8, 1)
    fast.load_state_dict(plain.state_dict())
    to_device(nn.Sequential(fast), "cpu", ("matrix_products",))
    x = torch.randn(2, 16, 9, 17).to(memory_format=torch.channels_last)
    found = []
    for layer in (plain, fast):
        pixels = x.clone(memory_format=torch.preserve_format).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=kind is torch.bfloat16):
            value = layer(pixels.to(kind))
        found.append((value, *torch.autograd.grad(value.float().square().mean(), [pixels, *layer.parameters()])))
    assert type(fast) is PointwiseConv2d
    tolerance = 1e-6 if kind is torch.float32 else 2e-2
    for one, other in zip(*found, strict=True):
        assert (one - other).float().norm() <= tolerance * one.float().norm()
