"""Starting from real weights: two mobile networks' names, files of random weights, rates, and files that are others."""

import argparse
import collections
import json
import pathlib
import pickle
import re
import socket
import threading

import numpy as np
import pytest
import torch
import torchvision
from helpers.refusals import one_line

from deeplab_lib.config import Config
from deeplab_lib.models import mobile_weights, timm_backbones, weights
from deeplab_lib.models.registry import make_model
from deeplab_lib.models.timm_backbones import TIMM
from deeplab_lib.training.loop import fit

timm = pytest.importorskip("timm")
V2, LITE = TIMM + "mobilenetv2_100", TIMM + "tf_efficientnet_lite0"
# The layers of a block as the packages of 2018 number them, from torchvision's of today.
OLD = {"conv.0.0.": "conv.0.", "conv.0.1.": "conv.1.", "conv.1.0.": "conv.3.", "conv.1.1.": "conv.4."}
OLD |= {"conv.2.": "conv.6.", "conv.3.": "conv.7."}
OLD_FIRST = {"conv.0.0.": "conv.0.", "conv.0.1.": "conv.1.", "conv.1.": "conv.3.", "conv.2.": "conv.4."}
LITE_NAMES = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
LITE_INVERTED = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"}
LITE_INVERTED |= {"conv_pwl": "_project_conv", "bn3": "_bn2"}


def trained(state, seed=0):
    """`state` as if its network had seen images: running means and variances that are not 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    for key, value in state.items():
        if key.endswith("running_mean"):
            value.uniform_(-0.5, 0.5, generator=generator)
        elif key.endswith("running_var"):
            value.uniform_(0.5, 2, generator=generator)
    return state


@pytest.fixture(scope="module")
def mobilenet():
    torch.manual_seed(0)
    model = torchvision.models.mobilenet_v2().eval()
    trained(model.state_dict())
    return model


def as_in_2018(state):
    """torchvision's names of MobileNetV2 as they were before its layers were grouped."""
    renamed = {}
    for key, value in state.items():
        table = OLD_FIRST if key.startswith("features.1.") else OLD
        part = next((old for old in table if f".{old}" in key), None)
        renamed[key.replace(part, table[part]) if part else key] = value
    return renamed


def as_lite(state):
    """timm's names of EfficientNet-Lite0 as the first PyTorch version has them."""
    counts, renamed = [1, 2, 2, 3, 3, 4, 1], {}
    for key, value in state.items():
        if match := re.match(r"blocks\.(\d)\.(\d)\.(\w+)\.(.*)", key):
            stage, place, layer, part = match.groups()
            number = sum(counts[: int(stage)]) + int(place)
            key = f"_blocks.{number}.{(LITE_NAMES if stage == '0' else LITE_INVERTED)[layer]}.{part}"
        outside = {"conv_stem.": "_conv_stem.", "bn1.": "_bn0.", "conv_head.": "_conv_head.", "bn2.": "_bn1."}
        start = key.partition(".")[0] + "."
        renamed[key.replace(start, outside.get(start, start), 1).replace("classifier", "_fc")] = value
    return renamed


def saved(path, state):
    torch.save(state, path)
    return path


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [dict, as_in_2018], ids=["torchvision", "2018"])
def test_mobilenet_v2_under_timms_names_computes_what_torchvisions_computes(names, mobilenet):
    state = names(mobilenet.state_dict())
    assert mobile_weights.recognize(state) is mobile_weights.MOBILENET_V2
    renamed = mobile_weights.timm_names(state, mobile_weights.MOBILENET_V2)
    renamed |= {f"classifier.{part}": state[f"classifier.1.{part}"] for part in ("weight", "bias")}
    twin = timm.create_model("mobilenetv2_100").eval()
    twin.load_state_dict({key: value for key, value in renamed.items() if "classifier.1" not in key})
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(twin(images), mobilenet(images), atol=1e-5)


def test_efficientnet_lite_under_timms_names():
    own = {key: torch.tensor([float(place)]) for place, key in enumerate(timm.create_model(LITE[15:]).state_dict())}
    state = as_lite(own)
    assert "_blocks.15._project_conv.weight" in state and "_fc.bias" in state
    assert mobile_weights.recognize(state) is mobile_weights.EFFICIENTNET_LITE0
    back = mobile_weights.timm_names(state, mobile_weights.EFFICIENTNET_LITE0)
    assert {key: value for key, value in back.items() if "_fc" not in key} == {
        key: value for key, value in own.items() if "classifier" not in key
    }


@pytest.mark.parametrize("keys", [["features.0.0.w", "features.1.block.0.0.w"], ["_conv_stem.weight", "a._se_x"]])
def test_other_mobile_networks_are_not_taken_for_them(keys):
    assert mobile_weights.recognize(keys) is None


def test_the_file_fills_the_backbone_and_brings_its_preprocessing(mobilenet, tmp_path):
    path = saved(tmp_path / "v2.pt", as_in_2018(mobilenet.state_dict()))
    found = weights.prepare_weights(Config(model=V2, pretrained=str(path), preset="smoke", lr=0.001))
    assert (found.normalization.name, found.stride_in, found.warning) == ("rgb_imagenet", "3x3", None)
    report = weights.load_pretrained(make_model(V2), path)
    assert report.matched == report.total and "MobileNetV2" in report.format
    assert "without a place here: backbone.conv_head.weight" in str(report)


@pytest.mark.parametrize("model", ["deeplabv2_mini", LITE])
def test_a_network_that_is_not_the_files_is_told_which_is(model, mobilenet, tmp_path):
    path = saved(tmp_path / "v2.pt", mobilenet.state_dict())
    with pytest.raises(ValueError) as error:
        weights.prepare_weights(Config(model=model, pretrained=str(path), preset="smoke"))
    one_line(error, "MobileNetV2", "features.0.0.weight", f"model={V2}")


# -- before the data are prepared --------------------------------------------------------------------------------------


def test_random_weights_are_refused_before_data_are_cached(tmp_path, smoke):
    path = saved(tmp_path / "random.pt", timm.create_model("test_resnet").state_dict())
    config = smoke(model=TIMM + "test_resnet", pretrained=str(path), data=str(tmp_path / "no data yet"))
    with pytest.raises(ValueError) as error:
        fit(config)
    one_line(error, "random weights (running means all 0, variances all 1)", "pretrained=none")


def test_found_by_itself_a_random_file_is_passed_over_with_a_warning(tmp_path, monkeypatch):
    saved(tmp_path / "test_resnet.x.pth", timm.create_model("test_resnet").state_dict())
    monkeypatch.setenv("DEEPLAB_PRETRAINED", str(tmp_path))
    found = weights.prepare_weights(Config(model=TIMM + "test_resnet", pretrained="auto", preset="smoke"))
    assert found.path is None and "random weights" in found.warning and "from scratch" in found.warning


def test_weights_of_another_layout_are_refused_before_data_are_cached_and_keys_are_named(tmp_path, smoke):
    state = trained(timm.create_model("test_resnet").state_dict())
    state["strange.weight"] = torch.zeros(2)
    path = saved(tmp_path / "other.pt", state)
    config = smoke(model=TIMM + "test_convnext", pretrained=str(path), data=str(tmp_path / "no data yet"))
    with pytest.raises(ValueError) as error:
        fit(config)
    one_line(error, "of the backbone's", "missing or of another shape:", "without a place here: backbone.conv1")


def test_a_rate_that_suits_weights_is_proposed_at_the_demos_factor(tmp_path):
    path = saved(tmp_path / "w.pt", trained(timm.create_model("test_resnet").state_dict()))
    options = {"model": TIMM + "test_resnet", "pretrained": str(path)}
    told = weights.prepare_weights(Config(preset="demo", lr=0.01, **options)).warning
    assert told == "lr is 0.01, set for networks from scratch; if the training loss rises, try lr=0.001"
    assert weights.prepare_weights(Config(preset="demo", lr=0.001, **options)).warning is None
    assert weights.prepare_weights(Config(preset="paper", data=str(tmp_path), lr=0.01, **options)).warning is None


def test_a_hub_that_does_not_answer_is_given_up_within_seconds(monkeypatch):
    """Nobody listens; the look-up of the name itself hangs."""
    monkeypatch.setattr(timm_backbones, "getproxies", dict)
    never = threading.Event()
    monkeypatch.setattr(socket, "create_connection", lambda *_: never.wait() or pytest.fail("answered"))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_: pytest.fail("was asked"))
    assert not timm_backbones.reachable(patience=0.1)
    with pytest.raises(ConnectionError) as error:
        timm_backbones.download("test_resnet")
    one_line(error, "no connection to the hub", "name a file of https://huggingface.co/timm/test_resnet")


def test_behind_a_proxy_the_hubs_own_library_finds_out(monkeypatch):
    monkeypatch.setattr(timm_backbones, "getproxies", lambda: {"https": "proxy:1"})
    assert timm_backbones.reachable()


# -- kind 6: what a weights file is, and the way ---------------------------------------------------------------------


def small_state():
    return trained(timm.create_model("test_resnet").state_dict())


def load_test_resnet(path):
    return weights.read_weights(path, TIMM + "test_resnet")[0]


BESIDE = {
    "a numpy number": {"best": np.float64(0.5)},
    "a numpy integer": {"epoch": np.int64(3)},
    "a numpy array": {"classes": np.arange(3)},
    "arguments": {"args": argparse.Namespace(lr=0.1, out=pathlib.PurePosixPath("runs"))},
    "a counter": {"seen": collections.Counter("abc")},
    "an ordered dictionary": {"options": collections.OrderedDict(lr=0.1)},
    "text and nothing": {"note": "mine", "scheduler": None},
}


@pytest.mark.parametrize("beside", BESIDE.values(), ids=BESIDE)
def test_kind_6_what_stands_beside_tensors_does_no_harm(beside, tmp_path):
    path = saved(tmp_path / "w.pth", {"state_dict": small_state()} | beside)
    assert load_test_resnet(path).keys() == load_test_resnet(saved(tmp_path / "bare.pth", small_state())).keys()


@pytest.mark.parametrize("key", ["net", "network", "params_ema", "generator"])
def test_kind_6_tensors_are_found_under_any_name(key, tmp_path):
    path = saved(tmp_path / "w.pth", {"epoch": 3, key: small_state()})
    assert "conv1.weight" in load_test_resnet(path) or load_test_resnet(path)


def test_kind_6_arrays_in_the_place_of_tensors_are_weights(tmp_path):
    path = saved(tmp_path / "w.pth", {key: value.numpy() for key, value in small_state().items()})
    assert all(torch.is_tensor(value) for value in load_test_resnet(path).values())


class Mine(torch.nn.Module):
    """A class of the author's own."""


def test_kind_6_a_pickled_network_is_named_and_the_way_out_works(tmp_path):
    network = timm.create_model("test_resnet")
    trained(network.state_dict())
    path = saved(tmp_path / "w.pth", network)
    with pytest.raises(ValueError) as error:
        load_test_resnet(path)
    one_line(error, "wants to run code when opened (timm.", "torch.load(..., weights_only=False)", "state_dict()")
    state = torch.load(path, weights_only=False).state_dict()  # as the message says
    assert load_test_resnet(saved(tmp_path / "alone.pth", state))


def test_kind_6_torchscript_is_named_and_the_way_out_works(tmp_path):
    network = timm.create_model("test_resnet").eval()
    trained(network.state_dict())
    path = tmp_path / "w.pt"
    torch.jit.trace(network, torch.zeros(1, 3, 32, 32)).save(path)
    with pytest.raises(ValueError) as error:
        load_test_resnet(path)
    one_line(error, "is a TorchScript program", "torch.jit.load(path).state_dict()")
    torch.save(torch.jit.load(path).state_dict(), tmp_path / "new.pt")  # as the message says
    assert load_test_resnet(tmp_path / "new.pt")


def test_kind_6_a_pickle_of_arrays_is_named_and_the_way_out_works(tmp_path):
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps({key: value.numpy() for key, value in small_state().items()}))
    with pytest.raises(ValueError) as error:
        load_test_resnet(path)
    one_line(error, "pickle", "no PyTorch file", "torch.as_tensor(array)")
    arrays = pickle.loads(path.read_bytes())  # as the message says
    assert load_test_resnet(saved(tmp_path / "new.pt", {key: torch.as_tensor(array) for key, array in arrays.items()}))


def packed(path):
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("download/model.pth", b"...")


OTHERS = {
    "keras": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "is an HDF5 file (Keras)"),
    "one array": (lambda path: np.save(path.open("wb"), np.zeros(3)), "is a NumPy array"),
    "a zip around it": (packed, "is a zip archive, no PyTorch file: unpack it and name download/model.pth"),
    "an index": (lambda path: path.write_text(json.dumps({"weight_map": {}})), "is a JSON file"),
    "a picture": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99)), "is a PNG"),
    "gzip": (lambda path: path.write_bytes(b"\x1f\x8b" + bytes(99)), "is a gzip archive"),
}


@pytest.mark.parametrize(("write", "words"), OTHERS.values(), ids=OTHERS)
def test_kind_6_a_file_of_another_kind_is_named(write, words, tmp_path):
    path = tmp_path / "w.pth"
    write(path)
    with pytest.raises(ValueError) as error:
        load_test_resnet(path)
    one_line(error, str(path), words)
    assert "download it again" not in str(error.value)


def test_kind_6_safetensors_are_told_by_content(tmp_path):
    from safetensors.torch import save_file

    save_file({key: value.contiguous() for key, value in small_state().items()}, tmp_path / "w.pth")
    assert load_test_resnet(tmp_path / "w.pth")


def test_kind_2_a_look_alike_of_a_missing_file_is_named(tmp_path):
    saved(tmp_path / "best_model.pth", {})
    with pytest.raises(FileNotFoundError) as error:
        weights.resolve(str(tmp_path / "best-model.pth"))
    one_line(error, "no such file, the nearest there is best_model.pth")


def test_kind_2_a_folder_in_the_place_of_a_file_names_its_files(tmp_path):
    saved(tmp_path / "best_model.pth", {})
    with pytest.raises(FileNotFoundError) as error:
        weights.resolve(str(tmp_path))
    one_line(error, "a folder; name a file in it: best_model.pth")
