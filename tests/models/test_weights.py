"""Weights: five families load exactly, bring their preprocessing and stride layout, and fail in one line."""

import io
import os
import pickle
import urllib.error

import numpy as np
import pytest
import torch
import torchvision
from helpers.refusals import one_line
from torch import nn
from torch.nn import functional as F

from deeplab_lib import bootstrap
from deeplab_lib.common import files
from deeplab_lib.data.normalization import BGR_CAFFE, RGB_IMAGENET
from deeplab_lib.models import weights
from deeplab_lib.models.deeplabv2 import DeepLabV2
from deeplab_lib.models.registry import make_model
from deeplab_lib.models.weights import find_pretrained, load_pretrained, resolve
from deeplab_lib.training import checkpoint
from deeplab_lib.training.loop import fit

BLOCKS, WIDTH = (1, 2, 1, 1), 8


class PlainBlock(nn.Module):
    """A block as the public DeepLab code has it: the stride in the first 1x1."""

    def __init__(self, inside, planes, stride, dilation, shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(inside, planes, 1, stride, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        if shortcut:
            self.downsample = nn.Sequential(
                nn.Conv2d(inside, 4 * planes, 1, stride, bias=False), nn.BatchNorm2d(4 * planes)
            )

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + (self.downsample(x) if hasattr(self, "downsample") else x))


class PlainHead(nn.Module):
    def __init__(self, inside, classes):
        super().__init__()
        self.conv2d_list = nn.ModuleList(nn.Conv2d(inside, classes, 3, 1, d, d) for d in (6, 12, 18, 24))


class PlainDeepLab(nn.Module):
    """The public two-head network (`layer5` on stage 3, `layer6` on stage 4), all four branches summed."""

    def __init__(self, classes=19):
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTH)
        inside = WIDTH
        plans = zip(BLOCKS, (1, 2, 4, 8), (1, 2, 1, 1), (1, 1, 2, 4), strict=True)
        for stage, (count, factor, stride, dilation) in enumerate(plans, start=1):
            planes = factor * WIDTH
            blocks = [PlainBlock(inside, planes, stride, dilation, True)]
            blocks += [PlainBlock(4 * planes, planes, 1, dilation, False) for _ in range(count - 1)]
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
            inside = 4 * planes
        self.layer5, self.layer6 = PlainHead(inside // 2, classes), PlainHead(inside, classes)

    def forward(self, images):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(images))), 3, 2, 1, ceil_mode=True)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        first, second, third, fourth = (branch(x) for branch in self.layer6.conv2d_list)
        return F.interpolate(first + second + third + fourth, images.shape[-2:], mode="bilinear", align_corners=True)


def shaken(model, seed=0):
    """`model` in eval mode with random statistics, scales and shifts in every batch norm."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.weight, 0.5), (module.bias, -0.5), (module.running_mean, -0.5)):
                tensor.data.uniform_(low, low + 1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return model.eval()


def small(**options):
    return DeepLabV2(19, BLOCKS, WIDTH, **options)


def saved(path, state, **options):
    torch.save(state, path, **options)
    return path


def prefixed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


@pytest.fixture
def images():
    return torch.randn(2, 3, 72, 104, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """A machine without weights and without a network."""

    def offline(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "urlopen", offline)
    for module in (files, weights):
        monkeypatch.setattr(module, "project_root", lambda: tmp_path)
    monkeypatch.setattr(bootstrap, "MOUNTS", (tmp_path / "kaggle", tmp_path / "drive"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("DEEPLAB_PRETRAINED", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# -- preprocessing -----------------------------------------------------------------------------------------------


def test_normalization_of_one_pixel_by_hand():
    pixel = np.array([[[255, 0, 51]]], dtype=np.uint8)  # red, green, blue
    rgb = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    bgr = [51 - 104.00698793, 0 - 116.66876762, 255 - 122.67891434]
    for normalization, expected in ((RGB_IMAGENET, rgb), (BGR_CAFFE, bgr)):
        image = normalization(pixel)
        assert image.shape == (3, 1, 1) and image.dtype == torch.float32 and image.is_contiguous()
        torch.testing.assert_close(image.flatten(), torch.tensor(expected), rtol=1e-6, atol=1e-5)


def test_normalization_leaves_a_read_only_image_as_it_was():
    image = np.full((4, 6, 3), 7, dtype=np.uint8)
    image.flags.writeable = False
    assert BGR_CAFFE(image).shape == (3, 4, 6)
    assert (image == 7).all()


# -- loading -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "module.", "Scale.", "module.Scale."])
@pytest.mark.parametrize("archive", [True, False], ids=["zip", "old format"])
def test_public_checkpoint_gives_the_logits_of_a_plain_network(prefix, archive, tmp_path, images):
    plain = shaken(PlainDeepLab())
    state = prefixed(plain.state_dict(), prefix)
    path = saved(tmp_path / "public.pth", state, _use_new_zipfile_serialization=archive)
    model = small(stride_in="3x3").eval()
    report = load_pretrained(model, path)
    with torch.no_grad():
        torch.testing.assert_close(model(images), plain(images), rtol=1e-4, atol=1e-4)
    assert report.matched == report.total == 5 * (1 + 3 * sum(BLOCKS) + 4) and report.head
    assert (report.normalization, report.stride_in, model.stride_in) == (BGR_CAFFE, "1x1", "1x1")
    assert report.missing == () and all("layer5" in key for key in report.unexpected)
    assert len(report.sha256) == 64 and "\n" not in str(report)


def calibrated(state, normalization):
    """`state` with the variance of conv1's outputs on images under `normalization`, as training leaves it."""
    photographs = np.random.default_rng(0).normal(115, 60, (4, 48, 48, 3)).clip(0, 255).astype(np.uint8)
    seen = F.conv2d(torch.stack([normalization(image) for image in photographs]), state["conv1.weight"], stride=2)
    return state | {"bn1.running_var": seen.var((0, 2, 3))}


@pytest.mark.parametrize(
    ("normalization", "stride_in"), [(BGR_CAFFE, "1x1"), (RGB_IMAGENET, "3x3")], ids=["Caffe", "torchvision"]
)
def test_a_resnet_without_its_classifier_is_told_by_the_images_it_saw(normalization, stride_in, tmp_path):
    """Caffe's and torchvision's layers have the same names."""
    state = {key: value for key, value in PlainDeepLab().state_dict().items() if "conv2d_list" not in key}
    report = load_pretrained(small(), saved(tmp_path / "w.pth", calibrated(state, normalization)))
    assert (report.normalization, report.stride_in, report.head) == (normalization, stride_in, False)


def test_checkpoint_without_a_head_and_with_another_number_of_classes(tmp_path):
    plain = shaken(PlainDeepLab(classes=21))
    whole = calibrated(plain.state_dict(), BGR_CAFFE)
    headless = {key: value for key, value in whole.items() if "conv2d_list" not in key}
    for state in (whole, headless, {"epoch": 3, "state_dict": whole}):
        model = small()
        before = [p.clone() for p in model.aspp.parameters()]
        report = load_pretrained(model, saved(tmp_path / "w.pth", state))
        assert report.matched == report.total and not report.head and report.normalization == BGR_CAFFE
        assert all(torch.equal(a, b) for a, b in zip(before, model.aspp.parameters(), strict=True))


def dilated(resnet):
    """torchvision's ResNet with DeepLab's strides and dilations: every block of a stage has the stage's dilation."""
    for stage, dilation in ((resnet.layer3, 2), (resnet.layer4, 4)):
        for block in stage:
            block.conv2.stride, block.conv2.dilation, block.conv2.padding = (1, 1), (dilation,) * 2, (dilation,) * 2
        stage[0].downsample[0].stride = (1, 1)
    return resnet


def torchvision_features(resnet, images):
    x = resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(images))))
    return resnet.layer4(resnet.layer3(resnet.layer2(resnet.layer1(x))))


@pytest.mark.parametrize("size", [(64, 96), (65, 97)], ids=["pool rounds up", "pool as torchvision's"])
def test_torchvision_weights_give_the_features_of_torchvision_parts(size, tmp_path):
    bottleneck = torchvision.models.resnet.Bottleneck
    reference = dilated(shaken(torchvision.models.ResNet(bottleneck, list(BLOCKS), num_classes=10)))
    reference.maxpool.ceil_mode = size == (64, 96)
    model = DeepLabV2(19, BLOCKS, 64).eval()
    report = load_pretrained(model, saved(tmp_path / "resnet.pth", reference.state_dict()))
    images = torch.randn(1, 3, *size)
    with torch.no_grad():
        expected = torchvision_features(reference, images)
        torch.testing.assert_close(model.features(images), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    assert (report.normalization, report.stride_in, model.stride_in) == (RGB_IMAGENET, "3x3", "3x3")
    assert report.unexpected == ("fc.weight", "fc.bias") and not report.head


@pytest.fixture(scope="module")
def resnet101(tmp_path_factory):
    torch.manual_seed(0)
    reference = torchvision.models.resnet101(weights=None).eval()
    path = saved(tmp_path_factory.mktemp("full") / "resnet101-00000000.pth", reference.state_dict())
    yield reference, path
    path.unlink()


def test_full_size_resnet101_into_deeplabv2_and_into_torchvision_networks(resnet101):
    reference, path = resnet101
    model, other = DeepLabV2().eval(), make_model("fcn_resnet101").eval()
    reports = load_pretrained(model, path), load_pretrained(other, path)
    assert [(report.matched, report.total) for report in reports] == [(520, 520)] * 2
    images = torch.randn(1, 3, 65, 65)
    with torch.no_grad():
        expected = torchvision_features(dilated(reference), images)
        found = model.features(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    assert torch.equal(other.backbone.layer4[2].conv3.weight, reference.layer4[2].conv3.weight)


def test_mobilenet_weights_fill_a_torchvision_network(tmp_path):
    source = torchvision.models.mobilenet_v3_large(weights=None)
    path = saved(tmp_path / "mobilenet.pth", source.state_dict())
    model = make_model("lraspp_mobilenet_v3_large")
    report = load_pretrained(model, path)
    assert report.matched == report.total > 200 and not report.head and report.normalization == RGB_IMAGENET
    assert torch.equal(model.backbone["16"][0].weight, source.features[16][0].weight)


@pytest.mark.parametrize("name", ["deeplabv2_micro", "lraspp_mobilenet_v3_large"])
def test_own_best_weights_come_back_whole_with_their_settings(name, tmp_path, images):
    model = shaken(make_model(name, stride_in="3x3"))
    settings = weights.Pretrained(None, BGR_CAFFE, "3x3", "some file")
    path = tmp_path / "DeepLabV2_ce.best.pt"
    checkpoint.save(path, {"model": model.state_dict(), "config": {"model": name}, "weights": settings.as_dict()})
    again = make_model(name).eval()
    report = load_pretrained(again, path)
    with torch.no_grad():
        assert torch.equal(again(images), model(images))
    assert report.head and (report.normalization, report.stride_in) == (BGR_CAFFE, "3x3")


def test_a_runs_two_files_are_read_alike_and_give_what_was_tested(smoke, tmp_path):
    """Weights that came with Caffe's preprocessing go on with it, whichever file of the run they are taken from."""
    start, settings = tmp_path / "start.best.pt", weights.Pretrained(None, BGR_CAFFE, "3x3", "some file")
    state = make_model("deeplabv2_micro", stride_in="3x3").state_dict()
    checkpoint.save(start, {"model": state, "weights": settings.as_dict()})
    folder = fit(smoke(pretrained=str(start), epochs=1, ema=0.9))
    best, last = (folder.best, folder.checkpoint)
    for file in (best, last):
        found = resolve(str(file), "deeplabv2_micro")
        assert (found.normalization, found.stride_in) == (BGR_CAFFE, "3x3")
    best, last = weights.read_weights(best)[0], weights.read_weights(last)[0]
    assert best.keys() == last.keys() and all(torch.equal(best[key], last[key]) for key in best)


@pytest.mark.parametrize("name", ["deeplabv2_micro", "lraspp_mobilenet_v3_large"])
def test_own_weights_without_their_settings_are_refused(name, tmp_path):
    state = {"model": make_model(name).state_dict(), "identity": {}}
    with pytest.raises(ValueError, match=r"preprocessing and stride layout are not in the file; give .*\.best\.pt"):
        load_pretrained(make_model(name), saved(tmp_path / "w.pt", state))


def test_half_precision_weights_load_as_float32(tmp_path):
    state = {key: value.half() for key, value in small().state_dict().items() if value.is_floating_point()}
    model, settings = small(), weights.Pretrained(None, RGB_IMAGENET, "1x1", "none").as_dict()
    load_pretrained(model, saved(tmp_path / "half.pth", {"model": state, "weights": settings}))
    assert model.conv1.weight.dtype == torch.float32
    assert torch.equal(model.conv1.weight, state["conv1.weight"].float())


# -- refusals ----------------------------------------------------------------------------------------------------


def test_below_99_percent_is_refused_with_counts_and_names_and_the_model_is_untouched(tmp_path):
    state = PlainDeepLab().state_dict()
    for key in ("layer4.0.conv1.weight", "layer4.0.bn1.weight"):
        del state[key]
    model = small()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError) as error:
        load_pretrained(model, saved(tmp_path / "w.pth", state))
    one_line(error, "fills 98 of the backbone's 100", "layer4.0.conv1.weight, layer4.0.bn1.weight", "w.pth")
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    report = load_pretrained(model, tmp_path / "w.pth", minimum=0.98)
    assert report.missing == ("layer4.0.conv1.weight", "layer4.0.bn1.weight") and report.matched == 98


def test_another_width_and_another_depth_are_refused(tmp_path):
    path = saved(tmp_path / "w.pth", PlainDeepLab().state_dict())
    with pytest.raises(ValueError) as error:
        load_pretrained(DeepLabV2(19, BLOCKS, 4), path)
    one_line(error, "fills 0 of")
    with pytest.raises(ValueError) as error:
        load_pretrained(DeepLabV2(19, (1, 1, 1, 1), WIDTH), path)
    one_line(error, "deeper backbone", "layer2.1.conv1.weight")
    with pytest.raises(ValueError) as error:
        load_pretrained(DeepLabV2(19, (1, 2, 2, 1), WIDTH), path)
    one_line(error, "missing", "layer3.1.conv1.weight")


def test_caffe_layout_is_refused_where_the_stride_sits_in_the_3x3(tmp_path):
    path = saved(tmp_path / "w.pth", PlainDeepLab().state_dict())
    for attempt in (
        lambda: load_pretrained(make_model("lraspp_mobilenet_v3_large"), path),
        lambda: resolve(path, "fcn_resnet101"),
    ):
        with pytest.raises(ValueError) as error:
            attempt()
        one_line(error, "stride in the 1x1")


class Payload:
    """What an attacker pickles: a call."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def whole(path):
    return saved(path, PlainDeepLab().state_dict()).read_bytes()


def old_format(path):
    return saved(path, PlainDeepLab().state_dict(), _use_new_zipfile_serialization=False).read_bytes()


def payload(path, **options):
    buffer = io.BytesIO()
    torch.save({"layer4.0.conv1.weight": Payload(path.with_name("owned"))}, buffer, **options)
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda path: b"<!DOCTYPE html>\n<html><title>Sign in</title></html>", ("web page", "log in")),
        (lambda path: b"\n <html>quota exceeded</html>", ("web page",)),
        (lambda path: whole(path)[:-5000], ("cut short",)),
        (lambda path: old_format(path)[:-5000], ("cut short",)),
        (lambda path: b"", ("cut short", "(0 bytes)")),
        (lambda path: b"version https://git-lfs.github.com/spec/v1", ("no PyTorch file",)),
        (payload, ("run code",)),
        (lambda path: payload(path, _use_new_zipfile_serialization=False), ("run code",)),
        (lambda path: pickle.dumps(Payload(path.with_name("owned"))), ("w.pth",)),
    ],
    ids=["html", "html in blanks", "cut zip", "cut old", "empty", "pointer", "code", "code old", "bare pickle"],
)
def test_what_is_no_weights_file_says_so_in_one_line(content, words, tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(content(path))
    for attempt in (lambda: load_pretrained(small(), path), lambda: resolve(str(path))):
        with pytest.raises(ValueError) as error:
            attempt()
        one_line(error, str(path), *words)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("state", [{}, [1, 2], torch.zeros(3), {"encoder.weight": torch.zeros(2)}, {"epoch": 3}])
def test_tensors_of_no_known_network_are_refused(state, tmp_path):
    with pytest.raises(ValueError) as error:
        load_pretrained(small(), saved(tmp_path / "w.pth", state))
    one_line(error, "no weights of a network known here", "torchvision ResNet")


def test_missing_file_is_named(alone):
    for attempt in (lambda: load_pretrained(small(), "nowhere.pth"), lambda: resolve("nowhere.pth")):
        with pytest.raises(FileNotFoundError) as error:
            attempt()
        one_line(error, "nowhere.pth")


# -- choosing ----------------------------------------------------------------------------------------------------

TORCHVISION_KEYS = {"conv1.weight": torch.zeros(1), "fc.weight": torch.zeros(1)}
COURSE_KEYS = {"Scale.conv1.weight": torch.zeros(1)}


@pytest.mark.parametrize("wish", ["none", "None", False, "false", None])
def test_none_means_from_scratch(wish, alone):
    plan = resolve(wish)
    assert (plan.path, plan.normalization, plan.stride_in, plan.warning) == (None, RGB_IMAGENET, "1x1", None)
    assert resolve(wish, "fcn_resnet101").stride_in == "3x3"


@pytest.mark.parametrize("wish", ["auto", True, "true"])
def test_auto_offline_trains_from_scratch_and_warns(wish, alone):
    plan = resolve(wish)
    assert plan.path is None and "no route to host" in plan.warning and "\n" not in plan.warning
    assert not list(alone.rglob("*.pth*")), "an interrupted download left something behind"


def test_auto_for_a_network_without_published_weights_is_quietly_from_scratch(alone):
    assert resolve("auto", "deeplabv2_mini") == resolve("none", "deeplabv2_mini")
    with pytest.raises(ValueError) as error:
        resolve("torchvision", "deeplabv2_mini")
    one_line(error, "deeplabv2_mini")


def test_torchvision_offline_says_where_to_put_the_file(alone):
    with pytest.raises(ConnectionError) as error:
        resolve("torchvision")
    one_line(error, "resnet101-63fe2227.pth", str(alone / "torch" / "hub" / "checkpoints"))


def test_auto_takes_the_course_file_before_the_cache_and_never_for_another_depth(alone):
    cache = alone / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    cached = saved(cache / "resnet101-cd907fc2.pth", TORCHVISION_KEYS)
    deeper = saved(cache / "resnet152-394f9c45.pth", TORCHVISION_KEYS)
    assert find_pretrained() == cached and find_pretrained(model="deeplabv2_resnet152") == deeper
    assert (resolve("auto").normalization, resolve("auto").stride_in) == (RGB_IMAGENET, "3x3")
    (alone / "data").mkdir()
    course = saved(alone / "data" / "DeepLab_resnet_pretrained_imagenet.pth", COURSE_KEYS)
    plan = resolve("auto")
    assert (plan.path, plan.normalization, plan.stride_in) == (course, BGR_CAFFE, "1x1")
    assert find_pretrained(model="fcn_resnet101") == cached
    assert find_pretrained(model="deeplabv2_resnet50") is None


@pytest.mark.parametrize("place", ["drive", "drive/course", "kaggle/weights", "project", "elsewhere"])
def test_the_usual_places_are_searched(place, alone, monkeypatch):
    monkeypatch.setattr(weights, "project_root", lambda: alone / "project")
    (alone / place).mkdir(parents=True)
    course = saved(alone / place / "DeepLab_resnet_pretrained_imagenet (1).pth", COURSE_KEYS)
    extra = [alone / "elsewhere"] if place == "elsewhere" else []
    assert find_pretrained(*extra) == course


def test_the_variable_names_a_file_or_a_folder_or_is_an_error(alone, monkeypatch):
    (alone / "mine").mkdir()
    path = saved(alone / "mine" / "resnet101-0.pth", TORCHVISION_KEYS)
    for value in (path, path.parent):
        monkeypatch.setenv("DEEPLAB_PRETRAINED", str(value))
        assert find_pretrained() == path
    monkeypatch.setenv("DEEPLAB_PRETRAINED", str(alone / "gone"))
    with pytest.raises(FileNotFoundError) as error:
        resolve("auto")
    one_line(error, "$DEEPLAB_PRETRAINED", "gone")


def test_the_variables_file_is_for_the_network_that_its_name_says(alone, monkeypatch):
    cache = alone / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    course = saved(alone / "DeepLab_resnet_pretrained_imagenet.pth", COURSE_KEYS)
    own = saved(cache / "resnet50-0.pth", TORCHVISION_KEYS)
    monkeypatch.setenv("DEEPLAB_PRETRAINED", str(course))
    assert find_pretrained() == course and find_pretrained(model="deeplabv2_resnet50") == own
    assert find_pretrained(model="fcn_resnet101") is None
    monkeypatch.setenv("DEEPLAB_PRETRAINED", str(saved(alone / "mine.pth", TORCHVISION_KEYS)))
    assert find_pretrained() == find_pretrained(model="deeplabv2_resnet50") == alone / "mine.pth"


def test_a_path_is_found_from_the_project_root_too(alone, monkeypatch):
    saved(alone / "w.pth", COURSE_KEYS)
    (alone / "notebooks").mkdir()
    monkeypatch.chdir(alone / "notebooks")
    plan = resolve("w.pth")
    assert plan.path == alone / "w.pth" and plan.as_dict()["normalization"] == "bgr_caffe"
