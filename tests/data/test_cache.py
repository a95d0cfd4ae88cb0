"""The cache: the same tensors as the files, made once, whole or not at all."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.small_city import first, save_png, write_city, zip_city

from deeplab_lib.common import progress
from deeplab_lib.common.progress import Progress
from deeplab_lib.data import cache
from deeplab_lib.data.cache import CachedCityscapes, cached, locations, space_needed
from deeplab_lib.data.cityscapes import Cityscapes
from deeplab_lib.data.normalization import BGR_CAFFE, RGB_IMAGENET

SIZE = (8, 24)
PIXELS = 8 * 24
HEADER = 128  # bytes that NumPy puts before an array


@pytest.fixture
def city(tmp_path):
    return write_city(tmp_path / "city", {"train": 5, "val": 2})


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def same(ours, theirs):
    return len(ours) == len(theirs) and all(
        torch.equal(a, b) for i in range(len(ours)) for a, b in zip(ours[i], theirs[i], strict=True)
    )


def never(*arguments):
    raise AssertionError(f"called with {arguments}")


class TestTheSameTensors:
    @pytest.mark.parametrize("normalization", [RGB_IMAGENET, BGR_CAFFE], ids=lambda n: n.name)
    @pytest.mark.parametrize("size", [SIZE, (16, 32), (5, 7), (32, 64)])
    def test_bit_for_bit(self, city, folder, size, normalization):
        dataset = cached(city, "train", size, normalization, folder=folder)
        assert same(dataset, Cityscapes(city, "train", size, normalization))
        image, labels = dataset[0]
        assert (image.dtype, labels.dtype) == (torch.float32, torch.int64)

    def test_straight_from_the_downloads(self, city, folder, tmp_path):
        zipped = zip_city(city, tmp_path / "zipped")
        before = sorted(zipped.rglob("*"))
        dataset = cached(zipped, "train", SIZE, folder=folder)
        assert same(dataset, Cityscapes(city, "train", SIZE))
        assert sorted(zipped.rglob("*")) == before

    def test_arrays_for_loops_of_their_own(self, city, folder):
        dataset, source = cached(city, "val", SIZE, folder=folder), Cityscapes(city, "val", SIZE)
        assert (dataset.images.shape, dataset.images.dtype) == ((2, *SIZE, 3), np.uint8)
        assert (dataset.labels.shape, dataset.labels.dtype) == ((2, *SIZE), np.uint8)
        assert all(np.array_equal(a, b) for a, b in zip(dataset.raw(1), source.raw(1), strict=True))
        assert np.array_equal(dataset.full_labels(1), source.full_labels(1))
        with pytest.raises(ValueError, match="read-only"):
            dataset.images[0] = 0

    def test_a_few_bytes_are_pickled_for_a_worker(self, city, folder):
        dataset = cached(city, "train", (64, 64), folder=folder)
        assert same(dataset, pickle.loads(pickle.dumps(dataset)))
        assert len(pickle.dumps(dataset)) < 5000 < dataset.images.nbytes

    def test_data_loader_workers(self, city, folder):
        dataset = cached(city, "train", SIZE, folder=folder)
        loader = torch.utils.data.DataLoader(dataset, batch_size=2, num_workers=2)
        images = torch.cat([images for images, _ in loader])
        assert torch.equal(images, torch.stack([dataset[i][0] for i in range(5)]))


class TestMadeOnce:
    def test_a_second_run_decodes_nothing(self, city, folder, monkeypatch):
        cached(city, "train", SIZE, folder=folder)
        monkeypatch.setattr(Cityscapes, "read", never)
        again = cached(city, "train", SIZE, folder=folder, say=never)
        assert len([again[i] for i in range(5)]) == 5

    def test_changed_data_other_sizes_and_splits_have_their_own(self, city, folder):
        cached(city, "train", SIZE, folder=folder)
        cached(city, "train", SIZE[::-1], folder=folder)
        cached(city, "val", SIZE, folder=folder)
        save_png(first(city, "leftImg8bit/train/*/*.png"), np.zeros((16, 32, 3), np.uint8))
        changed = cached(city, "train", SIZE, folder=folder)
        assert not changed.raw(0)[0].any()
        assert len([path for path in folder.iterdir() if path.is_dir()]) == 4

    def test_an_unpacked_download_uses_the_cache_made_from_the_zip(self, city, folder, tmp_path):
        cached(zip_city(city, tmp_path / "zipped"), "train", SIZE, folder=folder)
        cached(city, "train", SIZE, folder=folder, say=never)

    def test_a_finished_cache_is_only_read(self, city, folder, monkeypatch):
        """As in another user's folder: no lock is taken and no file touched."""
        made = cached(city, "train", SIZE, folder=folder).folder
        for lock in folder.glob("*.lock"):
            lock.unlink()
        for path in (*made.iterdir(), made, folder):
            path.chmod(0o555 if path.is_dir() else 0o444)
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
        monkeypatch.setattr(cache, "held", never)
        monkeypatch.setenv("DEEPLAB_CACHE", str(folder))
        dataset = cached(city, "train", SIZE, say=never)
        assert same(dataset, Cityscapes(city, "train", SIZE))
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
        for path in (folder, made):
            path.chmod(0o755)

    def test_what_a_shared_folder_lacks_goes_to_ones_own(self, city, tmp_path, monkeypatch):
        shared, own = tmp_path / "shared", tmp_path / "project" / "data" / "cache"
        shared.mkdir()
        monkeypatch.setenv("DEEPLAB_CACHE", str(shared))
        monkeypatch.setenv("DEEPLAB_DATA", str(tmp_path / "project" / "data"))
        monkeypatch.setattr(cache.os, "access", lambda path, mode: path != shared)
        assert locations() == [shared, own]
        assert cached(city, "train", SIZE).folder.parent == own
        monkeypatch.setattr(cache.os, "access", lambda path, mode: False)
        with pytest.raises(ValueError, match="no permission to write there: set DEEPLAB_CACHE"):
            cached(city, "val", SIZE)


SCRIPT = """
import sys, time
from deeplab_lib.data import cache, cityscapes
root, folder, pause = sys.argv[1:]
slow = cityscapes.Cityscapes.read
def full(self, index):
    print("read", index, flush=True)
    time.sleep(float(pause))
    return slow(self, index)
cityscapes.Cityscapes.read = full
cache.CHUNK = 1
print("done", cache.cached(root, "train", (8, 24), folder=folder).folder, flush=True)
"""


def start(city, folder, pause):
    command = [sys.executable, "-c", SCRIPT, str(city), str(folder), str(pause)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_files_are_on_disk_before_they_get_their_name(city, folder, monkeypatch):
    """After a power cut, a cache that bears its name must be whole: nothing but the name says so."""
    done, replace = [], os.replace
    monkeypatch.setattr(cache, "sync", lambda path: done.append(("sync", path.name)))
    monkeypatch.setattr(
        cache.os, "replace", lambda old, new: (done.append(("name", Path(new).name)), replace(old, new))
    )
    made = cached(city, "train", SIZE, folder=folder).folder
    files = ("images.npy", "labels.npy", "checksums.bin", "cache.json")
    named = done.index(("name", made.name))
    assert {("sync", name) for name in files} <= {*done[:named]}


class TestInterrupted:
    def test_killed_and_continued(self, city, folder):
        process = start(city, folder, 0.05)
        while process.stdout.readline() != "read 3\n":
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        [part] = folder.glob("*.part")
        said = []
        dataset = cached(city, "train", SIZE, folder=folder, say=said.append)
        assert "are there already" in said[0]
        assert same(dataset, Cityscapes(city, "train", SIZE))
        assert not part.exists()

    @pytest.mark.parametrize(
        ("name", "harm", "kept"),
        [
            ("images.npy", lambda content: content[: HEADER + 3 * 3 * PIXELS + 77], 3),
            ("labels.npy", lambda content: content[: HEADER + 1 * PIXELS + 77], 1),
            ("labels.npy", lambda content: b"", 0),
            ("checksums.bin", lambda content: content[: 4 * 4 + 2], 4),
            ("images.npy", lambda content: content[: HEADER + 2 * 3 * PIXELS] + bytes(9 * PIXELS), 2),  # power cut
            ("cache.json", lambda content: content, 5),
        ],
        ids=["part of an image", "part of labels", "no header", "part of a checksum", "zeros", "not yet renamed"],
    )
    def test_whatever_a_kill_leaves_is_cut_back_to_what_holds(self, city, folder, name, harm, kept, monkeypatch):
        finished = cached(city, "train", SIZE, folder=folder).folder
        part = finished.rename(f"{finished}.part")
        (part / name).write_bytes(harm((part / name).read_bytes()))
        read, whole = [], Cityscapes.read
        monkeypatch.setattr(Cityscapes, "read", lambda self, index: (read.append(index), whole(self, index))[1])
        dataset = cached(city, "train", SIZE, folder=folder)
        monkeypatch.undo()
        assert sorted(read) == list(range(kept, 5))
        assert same(dataset, Cityscapes(city, "train", SIZE))

    def test_a_drive_that_blinks_costs_nothing_done(self, city, folder, monkeypatch):
        full = Cityscapes.read

        def blink(self, index):
            if index == 3:
                raise OSError(5, "Input/output error", str(self.pairs[index].image))
            return full(self, index)

        monkeypatch.setattr(cache, "CHUNK", 1)
        monkeypatch.setattr(Cityscapes, "read", blink)
        with pytest.raises(OSError, match="Input/output error"):
            cached(city, "train", SIZE, folder=folder)
        read = []
        monkeypatch.setattr(Cityscapes, "read", lambda self, index: (read.append(index), full(self, index))[1])
        cached(city, "train", SIZE, folder=folder)
        assert read == [3, 4]

    def test_two_processes_make_one_cache(self, city, folder, monkeypatch):
        other = start(city, folder, 0.2)
        while other.stdout.readline() != "read 0\n":
            pass
        monkeypatch.setattr(Cityscapes, "read", never)
        said = []
        dataset = cached(city, "train", SIZE, folder=folder, say=said.append)
        assert len(said) == 1 and said[0].endswith("waiting for it")
        assert other.communicate(timeout=600)[0].endswith(f"done {dataset.folder}\n") and other.returncode == 0
        assert list(folder.glob("*.part")) == []


class TestOneLineForWhatIsWrong:
    def test_a_file_in_place_of_the_folder(self, city, folder, monkeypatch):
        folder.write_text("not a folder")
        monkeypatch.setenv("DEEPLAB_CACHE", str(folder))
        with pytest.raises(ValueError, match=r"\$DEEPLAB_CACHE is .*cache, a file"):
            cached(city, "train", SIZE)

    def test_too_small_a_disk_is_said_first(self, city, folder, monkeypatch):
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: usage(10**9, 10**9, 10**6))
        monkeypatch.setattr(Cityscapes, "read", never)
        with pytest.raises(ValueError, match=r"needs 3\.8 MB, and 1\.0 MB are free: free some space") as error:
            cached(city, "train", (375, 512), folder=folder)
        assert "\n" not in str(error.value)
        assert [path for path in folder.iterdir() if path.is_dir()] == []

    def test_the_space_is_known_exactly(self, city, folder):
        made = cached(city, "train", SIZE, folder=folder).folder
        sizes = [path.stat().st_size for path in made.glob("*.npy")]
        assert sum(sizes) - HEADER * len(sizes) == space_needed(5, SIZE)

    @pytest.mark.parametrize("number", [cache.errno.ENOSPC, cache.errno.EDQUOT])
    def test_a_disk_or_quota_that_fills_up_meanwhile(self, city, folder, monkeypatch, number):
        def full_disk(image, labels):
            raise OSError(number, "No space left on device")

        monkeypatch.setattr(cache, "checksum", full_disk)
        with pytest.raises(ValueError, match="is full: free some space or set DEEPLAB_CACHE"):
            cached(city, "train", SIZE, folder=folder)
        assert list(folder.glob("*.part")) == []

    def test_a_truncated_image_leaves_nothing(self, city, folder):
        path = sorted(city.glob("leftImg8bit/train/*/*.png"))[3]
        path.write_bytes(path.read_bytes()[:500])
        with pytest.raises(ValueError, match="cannot be read as an image") as error:
            cached(city, "train", SIZE, folder=folder)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
        assert [path for path in folder.iterdir() if path.is_dir()] == []

    @pytest.mark.parametrize("name", ["images.npy", "labels.npy", "checksums.bin"])
    @pytest.mark.parametrize("harm", ["cut", "gone"])
    def test_a_half_cache_is_refused(self, city, folder, name, harm):
        made = cached(city, "train", SIZE, folder=folder).folder
        (made / name).unlink() if harm == "gone" else os.truncate(made / name, (made / name).stat().st_size // 2)
        with pytest.raises(ValueError, match=r"damaged .*delete this folder") as error:
            cached(city, "train", SIZE, folder=folder)
        assert str(made) in str(error.value) and "\n" not in str(error.value)
        shutil.rmtree(made)
        assert same(cached(city, "train", SIZE, folder=folder), Cityscapes(city, "train", SIZE))

    def test_a_flipped_bit_is_seen_when_first_read(self, city, folder):
        made = cached(city, "train", SIZE, folder=folder).folder
        content = bytearray((made / "labels.npy").read_bytes())
        content[-1] ^= 1
        (made / "labels.npy").write_bytes(content)
        dataset = cached(city, "train", SIZE, folder=folder)
        assert dataset.raw(3)
        with pytest.raises(ValueError, match="checksum of ulm_000000_000004"):
            dataset.raw(4)


def test_progress_is_one_line_a_tenth(monkeypatch):
    clock = iter(range(0, 10**6, 3))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    said = []
    with Progress(1000, 0, said.append) as bar:
        for _ in range(100):
            bar.update(10)
    assert 5 <= len(said) <= 10
    assert said[0] == "100 of 1,000 images, 3 images/s, 270 s left"


def test_what_lies_in_the_folder_says_what_it_is(city, folder):
    dataset = cached(city, "val", SIZE, folder=folder)
    assert isinstance(dataset, CachedCityscapes) and Path(dataset.folder).name.startswith("val-24x8-")
    about = json.loads((dataset.folder / "cache.json").read_text())
    assert about["names"] == [pair.name for pair in dataset.pairs] and about["size"] == [8, 24]
