"""How often a run reads what takes long to read, before it trains."""

import builtins
from collections import Counter
from pathlib import Path

import pytest
import torch

from deeplab_lib import toycity
from deeplab_lib.config import Config
from deeplab_lib.data.dataset import prepare_data
from deeplab_lib.data.normalization import RGB_IMAGENET
from deeplab_lib.data.pairs import scan
from deeplab_lib.models import weights
from deeplab_lib.models.registry import make_model
from deeplab_lib.training.loop import fit


@pytest.fixture
def opened(monkeypatch):
    """How often each file was opened to be read, by whatever way Python has."""
    counts, builtin = Counter(), builtins.open

    def count(path, mode):
        if isinstance(path, str | Path) and "w" not in mode and "a" not in mode:
            counts[str(path)] += 1

    def counting(path, mode="r", *args, **kwargs):
        count(path, mode)
        return builtin(path, mode, *args, **kwargs)

    def counting_path(path, mode="r", *args, **kwargs):
        count(path, mode)
        return builtin(path, mode, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", counting)
    monkeypatch.setattr(Path, "open", counting_path)
    return counts


def test_labels_and_weights_are_read_once(tmp_path, smoke, opened):
    """With the images in the cache: by the notebook's own steps, hashing included, until the first step is taken."""
    city = toycity.write(tmp_path / "streets", train=4, val=2, test=0, size=(64, 128))
    (city / "toycity.json").unlink()  # a toy city is known by what it was drawn from; these are to be looked at
    start = tmp_path / "start.pt"
    settings = {"normalization": RGB_IMAGENET.name, "stride_in": "1x1"}
    torch.save({"model": make_model("deeplabv2_micro").state_dict(), "weights": settings}, start)
    config = smoke(data=str(city), epochs=1, pretrained=str(start))
    prepare_data(config, RGB_IMAGENET)
    labels = [str(pair.label) for split in ("train", "val") for pair in scan(city, split)]
    opened.clear()

    found, before = weights.resolve(config.pretrained, config.model), {}
    data = prepare_data(config, found.normalization)

    def callback(event, trainer):
        if event == "start":
            before.update(opened)

    fit(config, data, callback)
    assert {name: before.get(name) for name in labels} == dict.fromkeys(labels, 1)
    assert before[str(start)] == 1


def test_data_of_another_run_are_refused(tmp_path, smoke):
    config = smoke(epochs=1)
    data = prepare_data(config, RGB_IMAGENET)
    other = Config(**config.given | {"image_height": 64, "image_width": 128})
    with pytest.raises(ValueError, match="data are at 64x32, but the run wants 128x64; prepare them with its config"):
        fit(other, data)
