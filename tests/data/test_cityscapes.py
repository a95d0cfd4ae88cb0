"""The data set: what belongs together, what a tensor holds, and one clear line for whatever is wrong."""

import os
import pickle
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.refusals import one_line
from helpers.small_city import first, save_png, write_city, zip_city
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deeplab_lib.config import Config
from deeplab_lib.data import archives, cityscapes, label_files, pictures
from deeplab_lib.data.cityscapes import Cityscapes, check, data_root, describe, fingerprint
from deeplab_lib.data.label_files import read_labels
from deeplab_lib.data.normalization import BGR_CAFFE, RGB_IMAGENET
from deeplab_lib.data.pairs import scan
from deeplab_lib.labels import LABELS


@pytest.fixture
def city(tmp_path):
    return write_city(tmp_path / "City")


@pytest.fixture(params=["folder", "zip"])
def either(request, city, tmp_path):
    """The same data unpacked and as downloaded."""
    return city if request.param == "folder" else zip_city(city, tmp_path / "zipped" / "City")


class TestScan:
    def test_pairs_are_sorted_and_belong_together(self, either):
        write_pairs = scan(either, "train")
        assert [pair.name for pair in write_pairs] == [f"ulm_000000_00000{i}" for i in range(3)]
        for pair in write_pairs:
            assert pair.city == "ulm"
            assert pair.image.name == f"{pair.name}_leftImg8bit.png"
            assert pair.label.name == f"{pair.name}_gtFine_labelIds.png"

    def test_cities_with_equal_frame_numbers_do_not_mix(self, city):
        write_city(city, {"train": 2}, city="aachen", seed=1)
        assert [pair.city for pair in scan(city, "train")] == ["aachen"] * 2 + ["ulm"] * 3

    def test_the_other_files_of_the_download_are_passed_over(self, city):
        before = scan(city, "train")
        for file in city.rglob("*.png"):
            file.with_name(f"._{file.name}").write_bytes(b"what macOS leaves on a disk that is not its own")
        for suffix in ("color", "instanceIds"):
            save_png(city / f"gtFine/train/ulm/ulm_000000_000000_gtFine_{suffix}.png", np.zeros((4, 4), np.uint8))
        assert scan(city, "train") == before

    def test_coarse_labels_belong_to_train_extra(self, city):
        write_city(city, {"train_extra": 2}, kind="gtCoarse")
        pairs = scan(city, "train_extra")
        assert [pair.label.name for pair in pairs] == [f"{pair.name}_gtCoarse_labelIds.png" for pair in pairs]
        assert {pair.label.parts[-4] for pair in pairs} == {"gtCoarse"} and len(pairs) == 2

    def test_train_ids_are_used_where_there_are_no_label_ids(self, tmp_path):
        root = write_city(tmp_path, labels="labelTrainIds")
        assert describe(root).labels == "labelTrainIds"
        write_city(tmp_path, labels="labelIds")
        assert describe(root).labels == "labelIds"

    def test_test_images_need_no_labels(self, city):
        write_city(city, {"test": 1})
        shutil.rmtree(city / "gtFine/test")
        [pair] = scan(city, "test")
        assert pair.label is None
        assert (Cityscapes(city, "test")[0][1] == 255).all()

    def test_half_unpacked_downloads(self, city, tmp_path):
        zipped = zip_city(city, tmp_path / "mixed")
        (zipped / "leftImg8bit_trainvaltest.zip").unlink()
        shutil.copytree(city / "leftImg8bit", zipped / "leftImg8bit")
        assert fingerprint(zipped, scan(zipped, "val")) == fingerprint(city, scan(city, "val"))


class TestTensors:
    def test_label_ids_become_train_ids_by_the_table(self, tmp_path):
        root = write_city(tmp_path, {"train": 1}, size=(1, 35))
        ids = np.array([[*range(34), 255]], dtype=np.uint8)
        save_png(first(root, "gtFine/*/*/*.png"), ids)
        _, labels = Cityscapes(root, "train")[0]
        assert labels.tolist() == [[next(x.train_id for x in LABELS if x.id % 256 == value) for value in ids[0]]]

    def test_a_licence_plate_in_16_bits_is_void(self, tmp_path):
        path = tmp_path / "a_gtFine_labelIds.png"
        Image.fromarray(np.array([[65535, 7]], dtype=np.uint16)).save(path)
        assert read_labels(path).tolist() == [[255, 0]]

    @pytest.mark.parametrize("normalization", [RGB_IMAGENET, BGR_CAFFE], ids=lambda n: n.name)
    def test_image_is_the_normalised_file(self, either, normalization):
        dataset = Cityscapes(either, "val", normalization=normalization)
        image, labels = dataset[0]
        with dataset.pairs[0].image.open("rb") as stream:
            pixels = np.asarray(Image.open(stream))
        assert image.dtype == torch.float32 and image.shape == (3, 16, 32)
        assert labels.dtype == torch.int64 and labels.shape == (16, 32)
        assert torch.equal(image, normalization(pixels))

    def test_size_is_height_by_width(self, city):
        image, labels = Cityscapes(city, "train", size=(8, 24))[0]
        assert image.shape == (3, 8, 24) and labels.shape == (8, 24)

    def test_resized_labels_sit_at_pixel_centres(self):
        labels = np.arange(64, dtype=np.uint8).reshape(8, 8)
        assert cityscapes.resize_labels(labels, (2, 4)).tolist() == [[17, 19, 21, 23], [49, 51, 53, 55]]
        assert cityscapes.resize_labels(labels[:2, :2], (4, 4)).tolist() == [[0, 0, 1, 1]] * 2 + [[8, 8, 9, 9]] * 2

    @given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
    def test_resized_labels_are_nearest_neighbours(self, old_h, old_w, h, w):
        rows = np.arange(old_h, dtype=np.uint8)[:, None].repeat(old_w, 1)
        picked = cityscapes.resize_labels(rows, (h, w)).astype(float)
        assert picked.shape == (h, w)
        centres = (np.arange(h) + 0.5) * old_h / h - 0.5
        assert np.abs(picked - centres[:, None]).max() <= 0.5 + 1e-9

    def test_a_step_edge_shows_that_images_are_antialiased(self):
        image = np.zeros((4, 64, 3), np.uint8)
        image[:, ::8] = 255
        assert np.ptp(cityscapes.resize_image(image, (4, 8))[:, 1:-1]) < 40

    def test_label_ids_and_train_ids_give_the_same_tensors(self, tmp_path):
        by_id, by_train_id = write_city(tmp_path / "a"), tmp_path / "b"
        shutil.copytree(by_id / "leftImg8bit", by_train_id / "leftImg8bit")
        for pair in scan(by_id, "train"):
            name = f"gtFine/train/ulm/{pair.name}_gtFine_labelTrainIds.png"
            save_png(by_train_id / name, read_labels(pair.label))
        ours, theirs = Cityscapes(by_id, "train", (8, 16))[0], Cityscapes(by_train_id, "train", (8, 16))[0]
        assert all(map(torch.equal, ours, theirs))

    def test_worker_processes_read_archives(self, city, tmp_path):
        zipped = Cityscapes(zip_city(city, tmp_path / "z"), "train")
        loader = torch.utils.data.DataLoader(zipped, batch_size=1, num_workers=2)
        for i, (image, labels) in enumerate(loader):
            assert torch.equal(image[0], zipped[i][0]) and torch.equal(labels[0], zipped[i][1])
        assert torch.equal(pickle.loads(pickle.dumps(zipped))[0][0], zipped[0][0])


class TestDescription:
    def test_counts_and_size(self, either):
        info = describe(either)
        assert (info.synthetic, info.label_size, info.label_sizes) == (False, (16, 32), {(16, 32)})
        assert info.counts == {"train": 3, "val": 2}
        assert info.subset == "3 of 2,975 training images, 2 of 500 validation images"

    def test_other_data_is_not_called_a_subset(self, tmp_path):
        assert describe(write_city(tmp_path, city="springfield")).subset.startswith("not Cityscapes: 3 training")

    def test_all_of_cityscapes_is_no_subset(self, city, monkeypatch):
        monkeypatch.setattr(cityscapes, "SPLITS", {"train": 3, "val": 2, "test": 0})
        assert describe(city).subset is None

    def test_a_toy_city_says_that_it_is_synthetic(self, city):
        (city / "toycity.json").write_text("{}")
        info = describe(city)
        assert (info.synthetic, info.subset) == (True, None)

    def test_fingerprint_ignores_where_when_and_how_packed(self, city, tmp_path):
        before = describe(city).fingerprint
        moved = shutil.copytree(city, tmp_path / "elsewhere")
        os.utime(first(moved, "leftImg8bit/*/*/*.png"), (1, 1))
        assert describe(moved).fingerprint == before == describe(zip_city(city, tmp_path / "z")).fingerprint

    @pytest.mark.parametrize("pattern", ["leftImg8bit/train/*/*.png", "gtFine/val/*/*.png"])
    def test_fingerprint_sees_changed_and_renamed_files(self, city, pattern):
        before = describe(city).fingerprint
        path = first(city, pattern)
        path.write_bytes(path.read_bytes() + b" ")
        assert describe(city).fingerprint != before

    def test_fingerprint_sees_a_label_whose_size_in_bytes_stayed(self, city, tmp_path):
        path, values = first(city, "gtFine/train/*/*.png"), (7, 26)
        found = []
        for value in values:
            Image.fromarray(np.full((16, 32), value, np.uint8)).save(path, compress_level=0)
            found += [(path.stat().st_size, fingerprint(city, scan(city, "train")))]
            assert found[-1][1] == fingerprint(city, scan(zip_city(city, tmp_path / str(value)), "train"))
        (size, before), (same_size, after) = found
        assert size == same_size and before != after

    def test_a_toy_city_is_told_by_what_it_was_drawn_from(self, city):
        (city / "toycity.json").write_text('{"version": 1}')
        before = describe(city).fingerprint
        for path in city.rglob("*.png"):
            Image.open(path).save(path, compress_level=9)  # as another version of the compression would
        assert describe(city).fingerprint == before
        (city / "toycity.json").write_text('{"version": 2}')
        assert describe(city).fingerprint != before

    def test_coarse_images_of_other_cities_do_not_make_it_other_data(self, city):
        write_city(city, {"train_extra": 2}, kind="gtCoarse", city="koeln")
        told = describe(city, train="train_extra").subset
        assert told == "2 of 20,000 training images, 2 of 500 validation images"

    def test_data_root_prefers_the_argument_then_the_environment(self, tmp_path, monkeypatch):
        monkeypatch.setenv("CITYSCAPES_DATASET", str(tmp_path / "b"))
        assert data_root(tmp_path / "a") == tmp_path / "a" and data_root() == tmp_path / "b"
        monkeypatch.delenv("CITYSCAPES_DATASET")
        assert data_root() is None

    def test_a_relative_root_may_start_from_the_project(self, tmp_path, monkeypatch):
        (tmp_path / "home" / "data" / "city").mkdir(parents=True)
        monkeypatch.setattr(cityscapes, "project_root", lambda: tmp_path / "home")
        monkeypatch.chdir(tmp_path)
        assert data_root("data/city") == tmp_path / "home" / "data" / "city"
        assert data_root("nowhere") == tmp_path / "nowhere"
        (tmp_path / "data" / "city").mkdir(parents=True)
        assert data_root("data/city") == tmp_path / "data" / "city"

    def test_a_link_is_known_by_its_own_name(self, city, tmp_path):
        (tmp_path / "Cityscapes").symlink_to(city)
        assert Config(data=str(tmp_path / "Cityscapes"), preset="smoke").dataset_name == "cityscapes"
        assert describe(data_root(tmp_path / "Cityscapes")).root == str(tmp_path / "Cityscapes")


class TestOneLineForWhatIsWrong:
    def test_good_data_passes(self, either):
        check(either)

    def test_missing_folder_and_empty_folder(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="does not exist") as error:
            check(tmp_path / "nowhere")
        one_line(error)
        (tmp_path / "photos").mkdir()
        with pytest.raises(FileNotFoundError, match=r"looked for leftImg8bit/train/.*found photos/") as error:
            check(tmp_path)
        one_line(error)

    @pytest.mark.parametrize("nested", ["cityscapes", "download/cityscapes", "leftImg8bit_trainvaltest"])
    def test_one_folder_too_high_or_too_low(self, tmp_path, nested):
        home = write_city(tmp_path / nested)
        with pytest.raises(FileNotFoundError, match="looked for leftImg8bit/train") as error:
            check(tmp_path)
        assert f"give {home}" in one_line(error)
        for below in ("leftImg8bit", "leftImg8bit/train"):
            with pytest.raises(FileNotFoundError) as error:
                check(home / below)
            assert f"give {home}" in one_line(error)

    def test_a_file_instead_of_its_folder(self, city, tmp_path):
        archive = zip_city(city, tmp_path / "z") / "gtFine_trainvaltest.zip"
        with pytest.raises(FileNotFoundError, match="data must be a folder") as error:
            check(archive)
        assert str(archive.parent) in one_line(error)

    def test_a_missing_label_is_named(self, city):
        first(city, "gtFine/val/*/*.png").unlink()
        with pytest.raises(FileNotFoundError) as error:
            check(city)
        assert "gtFine/val/ulm/ulm_000001_000000_gtFine_labelIds.png is missing" in one_line(error)

    @pytest.mark.parametrize("beside", [False, True], ids=["alone", "archives beside"])
    def test_a_label_whose_image_is_missing_is_named(self, city, beside):
        if beside:
            zip_city(city, city)
        for image in sorted(city.glob("leftImg8bit/train/*/*.png"))[:2]:
            image.unlink()
        with pytest.raises(FileNotFoundError) as error:
            check(city)
        assert "ulm_000000_000000_gtFine_labelIds.png has no image" in one_line(error)
        assert "nor have 1 other labels" in str(error.value)
        advice = "delete leftImg8bit/train, and the archive itself is read" if beside else "leave out its label too"
        assert advice in str(error.value)

    def test_a_subset_lacks_images_and_labels_alike(self, city):
        for path in city.glob("*/train/*/ulm_000000_000000_*.png"):
            path.unlink()
        check(city)
        assert describe(city).subset.startswith("2 of 2,975 training images")

    def test_test_images_may_be_fewer_than_their_labels(self, city):
        write_city(city, {"test": 2}, city="bonn")
        first(city, "leftImg8bit/test/*/*.png").unlink()
        check(city, ("train", "val", "test"))

    def test_a_name_twice_needs_a_label_in_each_folder(self, city):
        image = first(city, "leftImg8bit/train/*/*.png")
        copy = save_png(city / "leftImg8bit/train/copies" / image.name, np.zeros((16, 32, 3), np.uint8))
        with pytest.raises(FileNotFoundError, match="no label for") as error:
            check(city)
        assert str(copy) in one_line(error)

    def test_a_scene_in_two_splits(self, city):
        for top in ("leftImg8bit", "gtFine"):
            shutil.copy(first(city, f"{top}/train/*/*.png"), city / top / "val" / "ulm")
        with pytest.raises(ValueError, match="ulm_000000_000000 is in more than one of the splits") as error:
            check(city)
        one_line(error)

    def test_image_and_label_of_different_size(self, city):
        label = save_png(first(city, "gtFine/train/*/*.png"), np.zeros((8, 20), np.uint8))
        with pytest.raises(ValueError, match="differ in size") as error:
            check(city)
        assert f"{label} is 20x8" in one_line(error) and "is 32x16" in one_line(error)
        with pytest.raises(ValueError, match="differ in size"):
            Cityscapes(city, "train", (8, 16))[0]

    def test_an_unknown_split(self, city):
        with pytest.raises(ValueError, match="one of train, val"):
            scan(city, "validation")

    @pytest.mark.parametrize(("labels", "value"), [("labelIds", 77), ("labelTrainIds", 20)])
    def test_an_illegal_label_value_at_first_read(self, tmp_path, labels, value):
        root = write_city(tmp_path, labels=labels)
        path = save_png(first(root, "gtFine/train/*/*.png"), np.full((16, 32), value, np.uint8))
        with pytest.raises(ValueError, match=f"holds the value {value}") as error:
            Cityscapes(root, "train", (8, 16))[0]
        assert str(path) in one_line(error)

    def test_road_and_void_in_one_bit(self, tmp_path):
        path = tmp_path / "a_gtFine_labelTrainIds.png"
        Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).convert("1").save(path)
        assert read_labels(path).tolist() == [[0, 255]]

    def test_an_illegal_label_value_in_16_bits(self, tmp_path):
        path = tmp_path / "a_gtFine_labelIds.png"
        Image.fromarray(np.array([[26001, 7]], dtype=np.uint16)).save(path)
        with pytest.raises(ValueError, match="holds the value 26001"):
            read_labels(path)

    def test_a_colour_picture_as_label(self, city):
        colours = np.tile(np.array([1, 2, 3], np.uint8), (16, 32, 1))
        path = save_png(first(city, "gtFine/train/*/*.png"), colours)
        with pytest.raises(ValueError, match="colours, not label ids") as error:
            Cityscapes(city, "train")[0]
        assert str(path) in one_line(error)

    @pytest.mark.parametrize("keep", [0, 20, 60, 0.5, 0.95])
    def test_a_truncated_png_at_first_read(self, city, keep):
        path = first(city, "leftImg8bit/train/*/*.png")
        content = path.read_bytes()
        path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
        with pytest.raises(ValueError, match="copy or download it again") as error:
            Cityscapes(city, "train")[0]
        assert str(path) in one_line(error)

    def test_not_a_png_is_seen_in_its_header(self, city):
        path = first(city, "leftImg8bit/val/*/*.png")
        path.write_bytes(b"<html>not an image, but long enough for a header</html>")
        with pytest.raises(ValueError, match="not a PNG file") as error:
            check(city)
        assert str(path) in one_line(error)


class TestDownloads:
    def test_a_login_page_saved_as_zip(self, city, tmp_path):
        zipped = zip_city(city, tmp_path / "z")
        (zipped / "gtFine_trainvaltest.zip").write_text("\n<!DOCTYPE html><html><title>Login</title></html>")
        with pytest.raises(ValueError, match="web page") as error:
            check(zipped)
        assert "csDownload gtFine_trainvaltest.zip" in one_line(error)

    @pytest.mark.parametrize(
        ("content", "problem"), [(None, "incomplete"), (b"\0" * 99, "not a zip"), (b"", "not a zip")]
    )
    def test_a_truncated_or_foreign_zip(self, city, tmp_path, content, problem):
        path = zip_city(city, tmp_path / "z") / "leftImg8bit_trainvaltest.zip"
        path.write_bytes(path.read_bytes()[:-3000] if content is None else content)
        with pytest.raises(ValueError, match=problem) as error:
            check(path.parent)
        assert str(path) in one_line(error)

    def test_a_download_repeated_while_the_kernel_lives(self, city, tmp_path):
        path = zip_city(city, tmp_path / "z") / "leftImg8bit_trainvaltest.zip"
        whole = path.read_bytes()
        path.write_bytes(whole[:-3000])
        with pytest.raises(ValueError, match="incomplete"):
            check(path.parent)
        path.write_bytes(whole)
        check(path.parent)

    def test_a_damaged_image_inside_an_archive(self, city, tmp_path):
        path = zip_city(city, tmp_path / "z") / "leftImg8bit_trainvaltest.zip"
        with zipfile.ZipFile(path) as packed:
            info = packed.getinfo("leftImg8bit/train/ulm/ulm_000000_000000_leftImg8bit.png")
        content = bytearray(path.read_bytes())
        content[info.header_offset + 300 : info.header_offset + 400] = bytes(100)
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"ulm_000000_000000_leftImg8bit\.png cannot be read") as error:
            Cityscapes(path.parent, "train")[0]
        assert str(path) in one_line(error)
        content[info.header_offset : info.header_offset + 400] = bytes(400)
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"leftImg8bit\.png cannot be read") as error:
            check(path.parent)
        assert str(path) in one_line(error)

    @pytest.mark.parametrize(("byte", "value", "problem"), [(10, 9, "compression method"), (8, 1, "encrypted")])
    def test_an_archive_packed_in_a_way_that_cannot_be_read(self, city, tmp_path, byte, value, problem):
        path = zip_city(city, tmp_path / "z") / "leftImg8bit_trainvaltest.zip"
        content = path.read_bytes()
        for entry, offset in ((b"PK\1\2", byte), (b"PK\3\4", byte - 2)):  # in the archive's list and before each file
            parts = content.split(entry)
            content = entry.join(
                [parts[0], *(part[: offset - 4] + bytes([value]) + part[offset - 3 :] for part in parts[1:])]
            )
        path.write_bytes(content)
        with pytest.raises(ValueError, match=problem) as error:
            check(path.parent)
        assert str(path) in one_line(error) and "unpack the archive" in str(error.value)

    def test_an_archive_beside_an_empty_folder_is_read(self, city, tmp_path):
        zipped = zip_city(city, tmp_path / "z")
        (zipped / "leftImg8bit" / "train").mkdir(parents=True)
        check(zipped)

    def test_folders_win_over_archives(self, city):
        zip_city(city, city)
        assert all(not isinstance(pair.image, archives.Member) for pair in scan(city, "train"))


def test_cityscapes_in_full_is_checked_by_names_and_headers(tmp_path, monkeypatch):
    """Each file is opened once, an image for the 24 bytes that hold its size: seconds even for all of Cityscapes."""
    [image, label] = [save_png(tmp_path / f"{k}.png", np.zeros((8, 8), np.uint8)) for k in ("image", "label")]
    for split, count in (("train", 2975), ("val", 500)):
        for top, suffix, file in (("leftImg8bit", "leftImg8bit", image), ("gtFine", "gtFine_labelIds", label)):
            folder = tmp_path / "all" / top / split / "ulm"
            folder.mkdir(parents=True)
            for i in range(count):
                os.link(file, folder / f"ulm_{split == 'val':06d}_{i:06d}_{suffix}.png")
    read, open_file = Counter(), Path.open
    for module in (pictures, label_files):
        monkeypatch.setattr(module, "decode_picture", lambda content, file: pytest.fail(f"{file} was decoded"))

    def counting(file, *mode):
        read[file] += 1
        return open_file(file, *mode)

    monkeypatch.setattr(Path, "open", counting)
    assert describe(tmp_path / "all").subset is None
    assert len(read) == 2 * 3475 and set(read.values()) == {1}
