"""What all tests share: one thread, repeatable examples, folders of their own, a smoke-scale toy city, eight runs."""

import errno
import itertools
import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; the processes that tests start inherit it

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("kit", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("kit")


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory):
    """Send toy cities and caches to a temporary folder; no data set of the user's is picked up."""
    folder = tmp_path_factory.mktemp("kit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEEPLAB_DATA", str(folder / "data"))
        patch.setenv("DEEPLAB_CACHE", str(folder / "cache"))
        patch.delenv("CITYSCAPES_DATASET", raising=False)
        patch.delenv("DEEPLAB_PRETRAINED", raising=False)
        yield folder


@pytest.fixture(scope="session")
def smoke_city(own_folders):
    """The toy city of the smoke preset, written once, its cache filled; returns its root."""
    from deeplab_lib.config import Config
    from deeplab_lib.data.dataset import prepare_data
    from deeplab_lib.data.normalization import RGB_IMAGENET

    config = Config(preset="smoke")
    prepare_data(config, RGB_IMAGENET)
    return config.data


@pytest.fixture
def smoke(smoke_city, tmp_path):
    """Makes a smoke-scale `Config` whose files go to the test's own folder: `smoke(loss="ce_focal", ...)`."""
    from deeplab_lib.config import Config

    def make(**parameters):
        return Config(
            **({"preset": "smoke", "out_dir": str(tmp_path / "runs"), "device": "cpu", "amp": "off"} | parameters)
        )

    return make


@pytest.fixture
def no_locks(monkeypatch):
    """A file system without locks, and a clock on which every look at a lock takes ten minutes."""
    import fcntl

    from deeplab_lib.common import locks

    monkeypatch.setattr(fcntl, "flock", lambda *given: (_ for _ in ()).throw(OSError(errno.ENOSYS, "no flock")))
    clock = itertools.count(0, 600)
    monkeypatch.setattr(locks, "POLL", 0)
    monkeypatch.setattr(locks.time, "monotonic", lambda: float(next(clock)))


@pytest.fixture
def eight(tmp_path):
    """The test's own folder with eight made-up runs of ten epochs."""
    from helpers import synthetic_runs

    synthetic_runs.write_runs(tmp_path, images=12, epochs=10)
    return tmp_path
