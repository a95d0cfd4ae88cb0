"""The one way from images to predictions, whoever asks."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import deeplab_lib
from deeplab_lib.common import devices
from deeplab_lib.models.predictor import Predictor
from deeplab_lib.models.registry import make_model


def test_what_a_predictor_says_is_the_networks_own_in_eval_mode_and_leaves_it_as_it_was():
    torch.manual_seed(0)
    model, images = make_model("deeplabv2_micro").train(), torch.randn(2, 3, 64, 128)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    views = Predictor(model)(images)
    assert model.training and not views.plain.requires_grad
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    with torch.no_grad():
        logits = model.eval().grid_logits(images)
    assert torch.allclose(views.plain, logits, rtol=1e-4, atol=1e-5)
    upsampled = F.interpolate(logits, size=(50, 100), mode="bilinear", align_corners=True)
    assert (views.predict((50, 100)) == upsampled.argmax(1)).double().mean() > 0.9999


def test_a_predictor_is_of_the_network_as_it_is_when_it_is_made():
    model, images = make_model("deeplabv2_micro"), torch.randn(1, 3, 64, 64)
    early = Predictor(model)(images).plain
    with torch.no_grad():
        for branch in model.aspp.branches:
            branch.bias += 1
    assert torch.allclose(Predictor(model)(images).plain, early + 4, rtol=0, atol=1e-4)


@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_logits_are_float32_whatever_the_precision(amp):
    model, images = make_model("deeplabv2_micro"), torch.randn(1, 3, 64, 64)
    plain, seen = Predictor(model)(images).plain, Predictor(model, amp)(images).plain
    assert seen.dtype == torch.float32
    assert torch.equal(seen, plain) == (amp == "off")
    assert np.allclose(seen.numpy(), plain.numpy(), atol=0.02 * plain.abs().max().item())
    with devices.autocast("cpu", amp), torch.no_grad():
        again = model.eval().grid_logits(images).float()
    assert torch.allclose(seen, again, rtol=0, atol=0.02 * plain.abs().max().item())


def test_nothing_else_makes_views_of_images():
    """Evaluation, prediction, lessons and live pictures ask a predictor; beside it networks are run to train them, to
    time them and to check a GPU."""
    root, callers = Path(deeplab_lib.__file__).parent, {"Views": set(), "grid_logits": set()}
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if name in callers:
                    callers[name].add(path.relative_to(root).as_posix())
    assert callers["Views"] == {"models/predictor.py"}
    assert callers["grid_logits"] == {
        "lessons/teach.py",  # trains
        "models/folding.py",  # follows an image
        "models/network.py",  # a network's own forward()
        "study/gpu_check.py",
        "training/pace.py",
        "training/trainer.py",
    }
