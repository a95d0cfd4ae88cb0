"""The toy city: what its files are, what its scenes hold, and that writing it is safe."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deeplab_lib import toycity
from deeplab_lib.labels import CLASS_NAMES, IGNORE_INDEX, LABELS, NUM_CLASSES, TRAIN_ID_OF_ID
from deeplab_lib.toycity.canvas import Canvas
from deeplab_lib.toycity.street import RARE_OBJECTS, rare_objects_of
from deeplab_lib.toycity.things import car

SIZE = (64, 128)


def files_of(root):
    """Every file below `root` with its bytes."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def leftovers(folder):
    """What lies in `folder`, apart from lock files."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


@pytest.fixture(scope="module")
def validation():
    """Pixels of each train id, `(120, 256)`, over the 120 validation scenes of the demo at its own size."""
    scenes = (toycity.scene(0, "val", index, (128, 256))[1] for index in range(120))
    return np.stack([np.bincount(TRAIN_ID_OF_ID[label_ids].ravel(), minlength=256) for label_ids in scenes])


# --- A scene


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(sorted(toycity.CITIES)), st.integers(0, 10**6), st.booleans())
def test_scene_is_a_picture_and_legal_labels_of_the_same_size(seed, split, index, wide):
    size = (32, 96) if wide else (64, 64)
    picture, label_ids = toycity.scene(seed, split, index, size)
    assert picture.shape == (*size, 3) and picture.dtype == np.uint8
    assert label_ids.shape == size and label_ids.dtype == np.uint8
    assert (TRAIN_ID_OF_ID[label_ids] >= 0).all()


def test_scene_depends_on_seed_split_and_index_alone():
    def scene(*key):
        return toycity.scene(*key, SIZE)

    picture, label_ids = scene(0, "val", 3)
    for other in ((1, "val", 3), (0, "train", 3), (0, "val", 4)):
        scene(*other)
        assert not np.array_equal(scene(*other)[0], picture)
    again = scene(0, "val", 3)
    assert np.array_equal(again[0], picture) and np.array_equal(again[1], label_ids)


@pytest.mark.parametrize("index", [0, 5, 8])
def test_a_scene_is_the_same_at_any_size(index):
    small, small_ids = toycity.scene(0, "val", index, (128, 256))
    large, large_ids = toycity.scene(0, "val", index, (512, 1024))
    assert np.mean(large_ids[2::4, 2::4] == small_ids) > 0.94
    shrunk = Image.fromarray(large).resize((256, 128), Image.Resampling.BOX)
    assert np.abs(np.asarray(shrunk, dtype=float) - small).mean() < 12


def test_labels_match_the_picture_to_the_pixel():
    canvas = Canvas((128, 256), random.Random(0))
    canvas.disc(0.2, 1.9, 9, 0.6, "traffic sign", (255, 0, 0), glow=True)
    canvas.disc(0.9, 1.9, 7, 0.4, "traffic light", (0, 255, 0), glow=True)
    picture, label_ids = canvas.render()
    redness = picture[..., 0].astype(int) - picture[..., 1]
    red, green = redness > 100, redness < -100
    names = np.array(CLASS_NAMES)[TRAIN_ID_OF_ID[label_ids]]
    assert min(red.sum(), green.sum()) > 100
    assert np.array_equal(red, names == "traffic sign") and np.array_equal(green, names == "traffic light")
    assert set(names[~red & ~green]) == {"sky"}


def test_perspective():
    def pixels(x, z):
        canvas = Canvas((128, 256), random.Random(0))
        car(canvas, random.Random(1), x, z, oncoming=False)
        return canvas.render()[1] == 26

    near, far = pixels(0, 8), pixels(0, 16)
    assert 3 < near.sum() / far.sum() < 5  # the area goes with the square of the distance
    assert np.flatnonzero(near.any(1)).max() > np.flatnonzero(far.any(1)).max()
    assert np.flatnonzero(pixels(-3, 12).any(0)).max() < np.flatnonzero(pixels(3, 12).any(0)).min()


def test_void_is_the_bonnet_below_and_static_things():
    void = {label.id: label.name for label in LABELS if label.train_id == IGNORE_INDEX}
    found = set()
    for index in range(12):
        label_ids = toycity.scene(0, "val", index, SIZE)[1]
        assert label_ids[-1, SIZE[1] // 2] == 1
        found |= {void[value] for value in np.unique(label_ids) if value in void}
    assert found == {"ego vehicle", "static"}


# --- Class frequencies


def test_every_class_occurs_in_eight_validation_scenes(validation):
    occurrences = (validation[:, :NUM_CLASSES] > 20).sum(0)
    assert dict(zip(CLASS_NAMES, occurrences >= 8, strict=True)) == dict.fromkeys(CLASS_NAMES, True)


def test_any_hundred_scenes_expect_each_guest_eight_times():
    for start in (0, 7, 250):
        expected = [name for index in range(start, start + 100) for name in rare_objects_of(index)]
        assert min(expected.count(name) for name in RARE_OBJECTS) >= 8
    assert all(len(set(rare_objects_of(index))) == 2 for index in range(2000))


def test_frequent_classes_are_as_frequent_as_in_cityscapes_and_rare_ones_rare(validation):
    share = dict(zip(CLASS_NAMES, 100 * validation[:, :NUM_CLASSES].sum(0) / validation.sum(), strict=True))
    assert 25 < share["road"] < 40
    assert 15 < share["building"] < 30
    assert 8 < share["vegetation"] < 20
    assert 4 < share["car"] < 10
    assert sorted(share.values())[9] < 1.5
    assert max(share["rider"], share["motorcycle"], share["traffic light"]) < 0.8
    assert 0 < share["rider"] + share["person"] < share["car"]


# --- Files


def test_layout_and_names_are_those_of_cityscapes(tmp_path):
    root = toycity.write(tmp_path / "city", train=4, val=3, test=1, size=SIZE)
    names = set(files_of(root))
    assert "leftImg8bit/train/attrappenheim/attrappenheim_000000_000019_leftImg8bit.png" in names
    assert "gtFine/val/spielhausen/spielhausen_000001_000019_gtFine_labelIds.png" in names
    pictures = {name for name in names if name.endswith("_leftImg8bit.png")}
    assert len(pictures) == 8 and len(names) == 17
    for name in pictures:
        label = name.replace("_leftImg8bit", "_gtFine_labelIds").replace("leftImg8bit", "gtFine", 1)
        with Image.open(root / name) as image, Image.open(root / label) as label_image:
            assert image.mode == "RGB" and label_image.mode == "L"
            assert image.size == label_image.size == (128, 64)
    cities = [set(towns) for towns in toycity.CITIES.values()]
    assert sum(map(len, cities)) == len(set.union(*cities))
    written = json.loads((root / "toycity.json").read_text())
    assert written["synthetic"] is True and written["size"] == [64, 128] and written["val"] == 3


def test_files_hold_the_scene(tmp_path):
    root = toycity.write(tmp_path / "city", train=0, val=2, size=SIZE, seed=5)
    picture, label_ids = toycity.scene(5, "val", 1, SIZE)
    stem = "val/spielhausen/spielhausen_000001_000019_"
    assert np.array_equal(np.asarray(Image.open(root / f"leftImg8bit/{stem}leftImg8bit.png")), picture)
    assert np.array_equal(np.asarray(Image.open(root / f"gtFine/{stem}gtFine_labelIds.png")), label_ids)


def test_same_seed_same_bytes_whatever_the_number_of_scenes(tmp_path):
    few = files_of(toycity.write(tmp_path / "few", train=2, val=1, size=SIZE))
    again = files_of(toycity.write(tmp_path / "again", train=2, val=1, size=SIZE))
    many = files_of(toycity.write(tmp_path / "many", train=5, val=3, test=1, size=SIZE))
    other = files_of(toycity.write(tmp_path / "other", train=2, val=1, size=SIZE, seed=1))
    assert few == again
    images = {name for name in few if name.endswith(".png")}
    assert all(few[name] == many[name] for name in images)
    assert not any(few[name] == other[name] for name in images)


def test_several_processes_draw_what_one_draws(tmp_path):
    one = toycity.write(tmp_path / "one", train=2, val=1, size=SIZE)
    two = toycity.write(tmp_path / "two", train=2, val=1, size=SIZE, workers=2)
    assert files_of(one) == files_of(two)


# --- Safe writing


def test_writing_again_does_nothing(tmp_path):
    root = toycity.write(tmp_path / "city", train=1, val=1, size=SIZE)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert toycity.write(str(root), train=1, val=1, size=SIZE) == root
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "seed 0, not 1"),
        ({"seed": 1, "val": 2}, "seed 0, not 1"),
        ({"size": (32, 64)}, r"size \[64, 128\], not"),
    ],
)
def test_another_toy_city_in_the_folder_is_refused_in_one_line(tmp_path, change, words):
    root = toycity.write(tmp_path / "city", train=1, val=1, size=SIZE)
    before = files_of(root)
    with pytest.raises(FileExistsError, match=words) as error:
        toycity.write(root, **{"train": 1, "val": 1, "size": SIZE} | change)
    assert str(root) in str(error.value) and "\n" not in str(error.value)
    assert files_of(root) == before


def test_a_city_grows_and_keeps_what_it_has(tmp_path):
    """Files are neither written again nor moved, and what was drawn in two turns is what one turn draws."""
    root = toycity.write(tmp_path / "city", train=3, val=2, size=SIZE)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.png")}
    assert toycity.write(root, train=2, val=5, size=SIZE, workers=2) == root
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert files_of(root) == files_of(toycity.write(tmp_path / "whole", train=3, val=5, size=SIZE))
    assert leftovers(tmp_path) == ["city", "whole"]
    toycity.write(root, train=1, val=1, size=SIZE)
    assert len(list(root.glob("leftImg8bit/val/*/*.png"))) == 5


def test_a_city_whose_growing_was_cut_short_grows_on(tmp_path, monkeypatch):
    root, replace, moved = toycity.write(tmp_path / "city", train=1, val=1, size=SIZE), toycity.os.replace, []

    def stop_at_second(source, target):
        moved.append(target)
        if len(moved) == 2:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(toycity.os, "replace", stop_at_second)
        toycity.write(root, train=1, val=3, size=SIZE)
    assert json.loads((root / "toycity.json").read_text())["val"] == 1 and len(files_of(root)) == 6
    toycity.write(root, train=1, val=3, size=SIZE)
    assert files_of(root) == files_of(toycity.write(tmp_path / "whole", train=1, val=3, size=SIZE))


def test_other_peoples_files_are_refused_and_kept(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.txt").write_text("sea")
    with pytest.raises(FileExistsError, match="holds other files"):
        toycity.write(tmp_path / "photos", train=1, val=1, size=SIZE)
    with pytest.raises(FileExistsError, match="is a file"):
        toycity.write(tmp_path / "photos" / "holiday.txt", train=1, val=1, size=SIZE)
    assert files_of(tmp_path) == {"photos/holiday.txt": b"sea"}


def test_an_unreadable_parameters_file_is_refused(tmp_path):
    (tmp_path / "city").mkdir()
    (tmp_path / "city" / "toycity.json").write_text("{")
    with pytest.raises(FileExistsError, match="is damaged"):
        toycity.write(tmp_path / "city", train=1, val=1, size=SIZE)


def test_a_toy_city_that_lost_a_picture_is_refused(tmp_path):
    root = toycity.write(tmp_path / "city", train=2, val=1, size=SIZE)
    next(root.glob("leftImg8bit/train/*/*.png")).unlink()
    with pytest.raises(FileExistsError, match="has 1 of the 2 pictures of the split train; delete the folder"):
        toycity.write(root, train=2, val=1, size=SIZE)


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "city").mkdir()
    toycity.write(tmp_path / "city", train=1, val=0, size=SIZE)
    assert leftovers(tmp_path) == ["city"] and (tmp_path / "city" / "toycity.json").is_file()


@pytest.mark.parametrize("size", [(1025, 2048), (1024, 2049), (8, 64)])
def test_sizes_out_of_range_are_refused(tmp_path, size):
    with pytest.raises(ValueError, match=f"size is {size[0]}x{size[1]}.*1024x2048"):
        toycity.write(tmp_path / "city", train=1, val=1, size=size)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("counts", [{"train": 0, "val": 0}, {"train": -1, "val": 2}])
def test_impossible_numbers_of_scenes_are_refused(tmp_path, counts):
    with pytest.raises(ValueError, match="at least one scene"):
        toycity.write(tmp_path / "city", size=SIZE, **counts)


def test_the_largest_size_works():
    picture, label_ids = toycity.scene(0, "val", 0, toycity.MAX_SIZE)
    assert picture.shape == (1024, 2048, 3) and label_ids.shape == (1024, 2048)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError])
def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch, interruption):
    write_scene, calls = toycity.write_scene, []

    def stop_at_third(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise interruption("stop")
        write_scene(*arguments)

    monkeypatch.setattr(toycity, "write_scene", stop_at_third)
    with pytest.raises(interruption):
        toycity.write(tmp_path / "city", train=4, val=1, size=SIZE)
    assert leftovers(tmp_path) == []
    monkeypatch.undo()
    assert len(files_of(toycity.write(tmp_path / "city", train=4, val=1, size=SIZE))) == 11


def test_what_a_killed_process_left_does_not_matter(tmp_path):
    rest = tmp_path / ".city.partial" / "leftImg8bit" / "train"
    rest.mkdir(parents=True)
    (rest / "half.png").write_bytes(b"\x89PNG")
    root = toycity.write(tmp_path / "city", train=1, val=0, size=SIZE)
    assert leftovers(tmp_path) == ["city"]
    assert len(files_of(root)) == 3


def _write_and_report(root, queue):
    toycity.write(root, train=3, val=1, size=SIZE)
    queue.put((os.getpid(), len(files_of(Path(root)))))


def test_two_processes_at_once_write_one_city(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    writers = [context.Process(target=_write_and_report, args=(str(tmp_path / "city"), queue)) for _ in range(2)]
    for writer in writers:
        writer.start()
    reports = [queue.get(timeout=600) for _ in writers]
    for writer in writers:
        writer.join()
    assert [count for _, count in reports] == [9, 9]
    assert leftovers(tmp_path) == ["city"]


# --- Coarse labels


def test_coarse_labels_are_the_fine_ones_in_blocks_away_from_boundaries(tmp_path):
    root = toycity.write(tmp_path / "city", 1, 1, size=SIZE)
    before = files_of(root)
    toycity.write_coarse(root, 4)
    assert {name: content for name, content in files_of(root).items() if name in before} == before
    labels = sorted((root / "gtCoarse" / "train_extra").rglob("*_gtCoarse_labelIds.png"))
    images = sorted((root / "leftImg8bit" / "train_extra").rglob("*_leftImg8bit.png"))
    assert len(labels) == len(images) == 4
    assert not {path.parent.name for path in images} & {city for cities in toycity.CITIES.values() for city in cities}
    for path in labels:
        index = int(path.name.split("_")[1])
        coarse, fine = np.asarray(Image.open(path)), toycity.scene(0, "train_extra", index, SIZE)[1]
        assert np.array_equal(coarse[coarse > 0], fine[coarse > 0])
        assert 0.4 < (coarse > 0).mean() < 0.95 and (fine > 0).mean() > 0.99
        edges = np.argwhere(fine[:, 1:] != fine[:, :-1])
        assert np.mean([coarse[y, x] == 0 or coarse[y, x + 1] == 0 for y, x in edges]) > 0.4
    written = files_of(root)
    assert files_of(toycity.write_coarse(root, 4)) == written, "what is there stays"
    assert toycity.write(root, 1, 1, size=SIZE) == root, "and is no other toy city"


def test_a_block_is_labelled_where_it_holds_one_class_alone():
    labels = np.full((64, 64), 7, np.uint8)
    labels[0, 0], labels[10:12, 20:22] = 8, 9
    expected = np.full((64, 64), 7, np.uint8)
    expected[0:2, 0:2], expected[10:12, 20:22] = 0, 9
    assert np.array_equal(toycity.coarsened(labels), expected)


STOPPED = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what runs in its background ignore it
from deeplab_lib.common.errors import RunStopped
from deeplab_lib.config import Config
from deeplab_lib.data.dataset import prepare_data
try:
    prepare_data(Config(preset="demo", data=None), None)
except RunStopped as stop:
    print(stop, flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="no process groups")
def test_kind_7_a_stop_while_the_city_is_drawn_is_one_line_of_all_processes(tmp_path):
    environment = os.environ | {"DEEPLAB_DATA": str(tmp_path)}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen([sys.executable, "-c", STOPPED], env=environment, start_new_session=True, **streams)
    while not any(tmp_path.rglob("*_labelIds.png")) and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate()
    assert said.startswith("stopped while the data were prepared: run it again") and said.count("\n") == 1
    assert not any(tmp_path.rglob("*.png"))
