"""Networks as ONNX files: ONNX Runtime computes what PyTorch does, for every kind of network and any size of image."""

from collections import Counter
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deeplab_lib.common.devices import fast_paths
from deeplab_lib.data.normalization import BGR_CAFFE, RGB_IMAGENET
from deeplab_lib.models import onnx_file
from deeplab_lib.models.network import SegmentationNetwork
from deeplab_lib.models.onnx_file import checked_onnx, onnx_bytes, session, with_metadata
from deeplab_lib.models.placement import to_device
from deeplab_lib.models.registry import make_model

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
SIZE, OTHERS = (64, 96), [(64, 96), (65, 129), (72, 40)]
NETWORKS = [
    *(("deeplabv2_micro", {"stride_in": kind, "output_stride": cells}) for kind in ("1x1", "3x3") for cells in (8, 16)),
    ("deeplabv2_timm_test_resnet", {}),
    ("deeplabv2_timm_test_convnext", {}),
]


def network(name="deeplabv2_micro", **options):
    """A network whose batch norms and head are as different from their first values as training makes them."""
    if "timm" in name:
        pytest.importorskip("timm", reason="timm is not installed")
    torch.manual_seed(0)
    model = make_model(name, **options)
    for layer in model.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.1)
            layer.running_mean.normal_(std=0.1)
            layer.running_var.uniform_(0.5, 1.5)
    for parameter in getattr(model, model.head).parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model.eval()


def pictures(size, count=1):
    """Smooth noise, uint8 `(N, H, W, 3)`."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 255, (count, 3, 5, 7)).astype(np.float32))
    return F.interpolate(coarse, size=size, mode="bilinear").round().byte().permute(0, 2, 3, 1).numpy()


@torch.inference_mode()
def logits_of(model, normalization, images):
    return model(torch.stack([normalization(image) for image in images]))


@pytest.mark.parametrize(("name", "options"), NETWORKS, ids=str)
def test_logits_and_labels_are_those_of_pytorch_at_any_size(name, options):
    model = network(name, **options)
    logits, any_size = checked_onnx(model, RGB_IMAGENET, SIZE, "logits")
    assert any_size
    runs = session(logits), session(onnx_bytes(model, RGB_IMAGENET, SIZE, "labels"))
    seen = set()
    for size in OTHERS:
        images = pictures(size, count=2)
        expected = logits_of(model, RGB_IMAGENET, images)
        found, classes = (run.run(None, {"images": images})[0] for run in runs)
        assert found.shape == (2, 19, *size) and found.dtype == np.float32
        assert np.abs(found - expected.numpy()).max() <= 1e-3 * expected.abs().max()
        assert classes.shape == (2, *size) and classes.dtype == np.uint8
        assert (classes == expected.argmax(1).numpy()).mean() >= 0.9999
        seen |= set(classes.flat)
    assert len(seen) > 1, "of one class everywhere: the test proves nothing"


def test_batch_norms_are_folded_into_the_convolutions():
    model = network("deeplabv2_mini")
    graph = onnx.load_from_string(onnx_bytes(model, RGB_IMAGENET, SIZE)).graph
    kinds = Counter(node.op_type for node in graph.node)
    convolutions = sum(isinstance(layer, nn.Conv2d) for layer in model.modules())
    assert kinds["Conv"] == convolutions and "BatchNormalization" not in kinds


def test_channels_in_the_order_and_scale_that_the_weights_want():
    model = network()
    (model_bytes, _), images = checked_onnx(model, BGR_CAFFE, SIZE, "logits"), pictures(SIZE)
    (found,) = session(model_bytes).run(None, {"images": images})
    expected, other = (logits_of(model, kind, images).numpy() for kind in (BGR_CAFFE, RGB_IMAGENET))
    assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max() < np.abs(found - other).max()


def test_a_network_made_fast_for_this_machine_gives_the_same_file():
    plain = network("deeplabv2_mini")
    placed = to_device(network("deeplabv2_mini"), "cpu", fast_paths("cpu"))
    images = pictures(SIZE)
    found = [
        session(onnx_bytes(model, RGB_IMAGENET, SIZE, "logits")).run(None, {"images": images})[0]
        for model in (plain, placed)
    ]
    assert np.array_equal(*found)


def test_the_network_is_left_in_its_mode():
    model = network().train()
    onnx_bytes(model, RGB_IMAGENET, SIZE)
    assert model.training and model.layer1.training


class SizeBound(SegmentationNetwork):
    """Its logits are those of 8x12 cells whatever the image: traced as a constant."""

    stride, head = 8, "layer"

    def __init__(self):
        super().__init__()
        self.layer, self.bn, self.frozen = nn.Conv2d(3, 19, 1), "train", ()

    def grid_logits(self, images):
        return self.layer(F.adaptive_avg_pool2d(images, [int(side) // 8 for side in images.shape[-2:]]))

    def upsample(self, logits, size):
        return F.interpolate(logits, size=[int(side) for side in size], mode="bilinear", align_corners=True)


def test_a_network_that_cannot_follow_the_size_is_written_for_its_own():
    model, images = SizeBound().eval(), pictures(SIZE, count=2)
    content, any_size = checked_onnx(model, RGB_IMAGENET, SIZE, "logits")
    (found,) = session(content).run(None, {"images": images})
    assert not any_size and np.allclose(found, logits_of(model, RGB_IMAGENET, images).numpy(), atol=1e-4)
    shape = onnx.load_from_string(content).graph.input[0].type.tensor_type.shape
    assert [axis.dim_value or axis.dim_param for axis in shape.dim] == ["n", *SIZE, 3]


def test_a_file_that_computes_something_else_is_not_written():
    model, other = network(), network(stride_in="3x3")
    wrong = onnx_bytes(other, RGB_IMAGENET, SIZE, "logits")
    with mock.patch.object(onnx_file, "onnx_bytes", lambda *args: wrong), pytest.raises(ValueError) as error:
        checked_onnx(model, RGB_IMAGENET, SIZE)
    assert str(error.value).startswith("no ONNX file of this network: ONNX Runtime's logits differ from PyTorch's by ")


def test_a_network_that_cannot_be_expressed_is_refused_in_one_line(capsys):
    model = network()
    model.aspp.forward = lambda x: torch.linalg.eigvals(x[..., :5, :5]).real
    with pytest.raises(ValueError, match=r"^no ONNX file of this network: it cannot be expressed \(.*\)$") as error:
        checked_onnx(model, RGB_IMAGENET, SIZE)
    assert "\n" not in str(error.value) and not capsys.readouterr().out


def test_metadata_come_back_and_the_graph_is_as_it_was():
    about = {"classes": [{"name": "road", "color": [128, 64, 128]}], "scale": "demo"}
    content, images = onnx_bytes(network(), RGB_IMAGENET, SIZE), pictures(SIZE)
    described = session(with_metadata(content, about))
    assert described.get_modelmeta().custom_metadata_map == {
        "classes": '[{"name": "road", "color": [128, 64, 128]}]',
        "scale": '"demo"',
    }
    results = [run.run(None, {"images": images})[0] for run in (described, session(content))]
    assert np.array_equal(*results)
