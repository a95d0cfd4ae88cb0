"""Kind 2 of what goes wrong with other people's data: what was turned away is not said, or advice does not help."""

import shutil
import unicodedata
import zipfile

import numpy as np
import pytest
from helpers.small_city import first, save_png, write_city, zip_city
from PIL import Image

from deeplab_lib.common.search import Search, nearest
from deeplab_lib.data.cityscapes import Cityscapes, check, fingerprint
from deeplab_lib.data.convert import main
from deeplab_lib.data.pairs import scan


@pytest.fixture
def city(tmp_path):
    return write_city(tmp_path / "City")


def named(root, old, new, pattern="*/*/*/*"):
    """Rename the files whose names hold `old`."""
    for path in sorted(root.glob(pattern)):
        if old in path.name:
            path.rename(path.with_name(path.name.replace(old, new)))


def refusal(root):
    with pytest.raises((FileNotFoundError, ValueError)) as error:
        check(root)
    assert "\n" not in str(error.value)
    return str(error.value)


def as_jpeg(root):
    for path in root.glob("leftImg8bit/*/*/*.png"):
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()


def as_jpeg_called_png(root):
    for path in root.glob("leftImg8bit/*/*/*.png"):
        Image.open(path).save(path.with_suffix(".jpg"))
        path.with_suffix(".jpg").rename(path)


def apart(root):
    """Each zip unpacked into a folder of its own."""
    for top in ("leftImg8bit", "gtFine"):
        (root / f"{top}_trainvaltest").mkdir()
        (root / top).rename(root / f"{top}_trainvaltest" / top)


def imgs_fine(root):
    (root / "imgsFine").mkdir()
    (root / "leftImg8bit").rename(root / "imgsFine" / "leftImg8bit")


def decomposed(root):
    """Images from a Mac, whose names hold letters in two parts; labels from elsewhere."""
    for top, form in (("leftImg8bit", "NFD"), ("gtFine", "NFC")):
        named(root / top, "ulm", unicodedata.normalize(form, "köln"), "*/*/*")
        for folder in root.glob(f"{top}/*/ulm"):
            folder.rename(folder.with_name(unicodedata.normalize(form, "köln")))


READ = {
    "JPEG images": as_jpeg,
    "JPEG called PNG": as_jpeg_called_png,
    "capital endings": lambda root: named(root, ".png", ".PNG"),
    "labelids in lower case": lambda root: named(root, "_labelIds", "_labelids"),
    "leftimg8bit in lower case": lambda root: named(root, "_leftImg8bit", "_leftimg8bit"),
    "each zip in a folder of its own": apart,
    "imgsFine": imgs_fine,
    "one name in two Unicode forms": decomposed,
}


@pytest.mark.parametrize("change", READ.values(), ids=READ)
def test_kind_2_what_can_be_read_without_doubt_is_read(change, city):
    before = [labels.tolist() for _, labels in (Cityscapes(city, "train")[i] for i in range(3))]
    change(city)
    check(city)
    assert [Cityscapes(city, "train")[i][1].tolist() for i in range(3)] == before


def repack(root, name, rename):
    """The archives again, their members renamed; returns their folder."""
    for path in sorted(root.glob("*.zip")):
        with zipfile.ZipFile(path) as old:
            content = {info.filename: old.read(info) for info in old.infolist()}
        path.unlink()
        with zipfile.ZipFile(path.with_name(name(path)), "w") as new:
            for member, data in content.items():
                info = zipfile.ZipInfo()
                info.filename = rename(member)  # as it stands, which the constructor would not leave
                new.writestr(info, data)
    return root


ARCHIVES = {
    "a name with (1)": (lambda path: f"{path.stem} (1).zip", str),
    "another name": (lambda path: f"my {path.name[:2]}.zip", str),
    "a capital ending": (lambda path: f"{path.stem}.ZIP", str),
    "one more folder": (lambda path: path.name, lambda member: f"download/{member}"),
    "backslashes": (lambda path: path.name, lambda member: member.replace("/", "\\")),
}


@pytest.mark.parametrize(("name", "rename"), ARCHIVES.values(), ids=ARCHIVES)
def test_kind_2_archives_are_told_by_what_is_in_them(name, rename, city, tmp_path):
    root = repack(zip_city(city, tmp_path / "z"), name, rename)
    check(root)
    assert fingerprint(root, scan(root, "train")) == fingerprint(city, scan(city, "train"))
    assert [pair.city for pair in scan(root, "train")] == ["ulm"] * 3


def test_kind_2_the_same_frame_in_two_cities_is_two_images(city):
    for top in ("leftImg8bit", "gtFine"):
        shutil.copytree(city / top / "train" / "ulm", city / top / "train" / "copies")
    path = first(city, "gtFine/train/copies/*.png")
    save_png(path, np.full((16, 32), 7, np.uint8))
    check(city)
    pairs = scan(city, "train")
    assert len(pairs) == 6 and pairs[0].name == "copies/ulm_000000_000000" and pairs[3].name.startswith("ulm/")
    assert (Cityscapes(city, "train")[0][1] == 0).all()


def foggy(root):
    named(root, "_leftImg8bit.png", "_leftImg8bit_foggy_beta_0.02.png")


def flat(root):
    for path in sorted(root.glob("leftImg8bit/train/ulm/*")):
        path.rename(path.parents[1] / path.name)


def too_deep(root):
    for path in sorted(root.glob("leftImg8bit/train/ulm/*")):
        (path.parent / "a").mkdir(exist_ok=True)
        path.rename(path.parent / "a" / path.name)


def webp(root):
    for path in root.glob("leftImg8bit/*/*/*.png"):
        path.rename(path.with_suffix(".webp"))


def moved(old, new):
    return lambda root: (root / old).rename(root / new)


SAID = {
    "foggy": (foggy, "ulm_000000_000000_leftImg8bit_foggy_beta_0.02.png (not named <name>_leftImg8bit.png)"),
    "without cities": (flat, "ulm_000000_000000_leftImg8bit.png (not in a folder of its city)"),
    "one folder more": (too_deep, "ulm_000000_000000_leftImg8bit.png (not in a folder of its city)"),
    "WebP": (webp, "ulm_000000_000000_leftImg8bit.webp (no PNG or JPEG)"),
    "another split": (moved("leftImg8bit/train", "leftImg8bit/training"), "leftImg8bit/training/ (not train/)"),
    "another folder": (moved("leftImg8bit", "leftImg8bits"), "leftImg8bits/ (not leftImg8bit/)"),
}


@pytest.mark.parametrize(("change", "words"), SAID.values(), ids=SAID)
def test_kind_2_what_was_turned_away_is_said_with_the_reason(change, words, city):
    change(city)
    said = refusal(city)
    assert words in said and "looked for leftImg8bit/train/<city>/*_leftImg8bit.png" in said


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "an incomplete zip archive"), (b"<html>log in</html>", "web page"), (b"Rar!\x1a\x07", "RAR archive")],
)
def test_kind_2_archives_that_are_none_are_named_with_what_they_are(content, reason, city, tmp_path):
    root = zip_city(city, tmp_path / "z")
    path = root / "leftImg8bit_trainvaltest.zip"
    broken = path.rename(root / "leftImg8bit_trainvaltest (1).zip")
    broken.write_bytes(broken.read_bytes()[:-3000] if content is None else content)
    assert f"leftImg8bit_trainvaltest (1).zip ({reason})" in refusal(root)


def test_kind_2_an_archive_of_something_else_is_named(city, tmp_path):
    root = zip_city(city, tmp_path / "z")
    (root / "leftImg8bit_trainvaltest.zip").unlink()
    assert "gtFine_trainvaltest.zip (no leftImg8bit/train/ in it)" in refusal(root)


@pytest.mark.parametrize(
    ("old", "new"), [("_gtFine_labelIds", "_gtFine_labelId"), ("000000_gtFine", "00000_gtFine"), (".png", ".tif")]
)
def test_kind_2_a_look_alike_of_a_missing_label_is_named(old, new, city):
    path = first(city, "gtFine/train/ulm/*.png")
    path.rename(path.with_name(path.name.replace(old, new)))
    said = refusal(city)
    assert "ulm_000000_000000_gtFine_labelIds.png is missing" in said
    assert f"the nearest there is {path.name.replace(old, new)}" in said


def test_kind_2_two_files_of_one_name_are_both_named(city):
    path = first(city, "leftImg8bit/train/*/*.png")
    Image.open(path).save(path.with_suffix(".jpg"))
    said = refusal(city)
    assert str(path) in said and str(path.with_suffix(".jpg")) in said


def test_kind_2_polygons_alone_are_answered_with_a_command_that_works(city, tmp_path, monkeypatch):
    for path in city.glob("gtFine/*/*/*.png"):
        road = {"label": "road", "polygon": [[0, 0], [31, 0], [31, 15], [0, 15]]}
        polygons = path.with_name(path.name.replace("labelIds.png", "polygons.json"))
        polygons.write_text(f'{{"imgHeight": 16, "imgWidth": 32, "objects": [{road}]}}'.replace("'", '"'))
        path.unlink()
    said = refusal(city)
    assert "Cityscapes' polygons" in said
    monkeypatch.chdir(tmp_path)
    assert main(said.split("`")[1].split()[3:]) == 0
    assert (Cityscapes(tmp_path / "data" / "polygons", "train")[0][1] == 0).all()


def test_kind_2_advice_is_tried_before_it_is_printed(city, tmp_path):
    """The folder below holds images and no labels: to name it would not help."""
    (tmp_path / "outer").mkdir()
    shutil.copytree(city / "leftImg8bit", tmp_path / "outer" / "a" / "b" / "leftImg8bit")
    assert "give" not in refusal(tmp_path / "outer")
    shutil.copytree(city / "gtFine", tmp_path / "outer" / "a" / "b" / "gtFine")
    said = refusal(tmp_path / "outer")
    check(said.rpartition("give ")[2])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer; the picture itself is"),
        (b"<html>too many requests</html>" * 9, "web page; a login page was saved in its place"),
        (b"", "an empty file; copy or download it again"),
        (bytes(500), "a file of zeros; copy or download it again"),
        (b"II*\0" + bytes(99), "a TIFF; save it as PNG"),
        (b"%PDF-1.5" + bytes(99), "a PDF; save it as PNG"),
    ],
)
def test_kind_2_a_file_is_told_by_its_content(content, words, city):
    path = first(city, "leftImg8bit/val/*/*.png")
    path.write_bytes(content)
    said = refusal(city)
    assert str(path) in said and words in said


def test_a_search_names_the_nearest_first():
    search = Search("images", "here", "a/<city>/*_left.png")
    assert search.message() == "no images in here: looked for a/<city>/*_left.png"
    for name in ("zzz.txt", "b_left.tif", "notes.md", "c_left.gif"):
        search.reject(name, "not so")
    said = search.message("give up")
    assert said.index("_left") < said.index(" and 1 more; give up")
    assert "_left.tif (not so)" in said and "_left.gif (not so)" in said


def test_nearest_is_none_where_nothing_is_near():
    assert nearest("labelIds", ["labelids", "x"]) == "labelids" and nearest("labelIds", ["zebra"]) is None
