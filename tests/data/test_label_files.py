"""Kind 1 of what goes wrong with other people's data: a label is taken for something else, silently."""

import numpy as np
import pytest
from helpers.small_city import save_png, write_city
from PIL import Image

from deeplab_lib.config import Config
from deeplab_lib.data.convert import main
from deeplab_lib.data.dataset import prepare_data
from deeplab_lib.data.label_files import judge, read_label_file, read_labels, shares
from deeplab_lib.data.normalization import RGB_IMAGENET
from deeplab_lib.data.pairs import scan
from deeplab_lib.labels import LABELS, TRAIN_ID_OF_ID, colorize

IDS = np.array([[7, 26, 0], [33, 11, 23]], np.uint8)  # road, car, unlabeled; bicycle, building, sky
TRAIN_IDS = [[0, 13, 255], [18, 2, 10]]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "a_gtFine_labelIds.png"


def palette_image(numbers, palette):
    image = Image.fromarray(np.asarray(numbers, np.uint8))
    image.putpalette(np.asarray(palette, np.uint8).ravel().tolist())
    return image


def colours(ids):
    by_id = {label.id: label.color for label in LABELS}
    return np.array([[by_id[int(value)] for value in row] for row in ids], np.uint8)


def optimised(ids):
    """What a lossless optimiser makes of grey values: numbers of a palette that holds them."""
    values, numbers = np.unique(ids, return_inverse=True)
    return palette_image(numbers.reshape(np.shape(ids)), np.repeat(values[:, None], 3, 1))


def city_colours():
    """A palette of Cityscapes' colours, numbered as nothing else is."""
    used = [label for label in LABELS if label.id in IDS]
    numbers = np.vectorize({label.id: place for place, label in enumerate(used)}.get)(IDS)
    return palette_image(numbers, [label.color for label in used])


CERTAIN = {
    "grey": (lambda: Image.fromarray(IDS), "grey, 8 bits"),
    "a palette of grey values": (lambda: optimised(IDS), "palette, grey"),
    "a palette of Cityscapes' colours": (city_colours, "palette, Cityscapes' colours"),
    "three equal channels": (lambda: Image.fromarray(np.repeat(IDS[..., None], 3, 2)), "three channels, grey"),
    "an opaque alpha channel": (lambda: Image.fromarray(IDS).convert("LA"), "three channels, grey"),
    "four channels": (lambda: Image.fromarray(IDS).convert("RGBA"), "three channels, grey"),
    "Cityscapes' colours": (lambda: Image.fromarray(colours(IDS)), "three channels, Cityscapes' colours"),
    "16 bits": (lambda: Image.fromarray(IDS.astype(np.uint16)), "grey, 16 bits"),
    "8 bits stretched to 16": (lambda: Image.fromarray(IDS.astype(np.uint16) * 257), "grey, 16 bits"),
}


@pytest.mark.parametrize(("make", "form"), CERTAIN.values(), ids=CERTAIN)
def test_kind_1_what_is_certain_is_decoded(make, form, file):
    make().save(file)
    labels = read_label_file(file)
    assert labels.train_ids.tolist() == TRAIN_IDS and labels.form == form
    expected = np.zeros(256, int)
    expected[IDS.ravel()] = 1
    assert labels.values.tolist() == expected.tolist()


def test_kind_1_train_ids_in_cityscapes_colours_too(tmp_path):
    path = tmp_path / "a_gtFine_labelTrainIds.png"
    Image.fromarray(colorize(np.array([[0, 13, 18]], np.uint8))).save(path)
    assert read_labels(path).tolist() == [[0, 13, 18]]


def grey_of_few_bits(bits):
    def save(path):
        import struct
        import zlib

        def chunk(kind, content):
            return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

        head = struct.pack(">IIBBBBB", 2, 1, bits, 0, 0, 0, 0)
        row = bytes([0, 0b0001_0000 if bits == 4 else 0b0100_0000])
        content = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)

    return save


def rgb(*color):
    return lambda path: Image.fromarray(np.array([[color, (128, 64, 128)]], np.uint8)).save(path)


def transparent(path):
    image = Image.fromarray(IDS).convert("RGBA")
    image.putalpha(100)
    image.save(path)


UNCERTAIN = {
    "a palette of a tool's own colours": (
        lambda path: palette_image([[0, 1]], [[0, 0, 0], [224, 0, 0]]).save(path),
        "palette whose colours are neither",
    ),
    "colours of something else": (rgb(1, 2, 3), "1 2 3 in 50.0 % of its pixels"),
    "JPEG": (lambda path: Image.fromarray(IDS).save(path, "JPEG"), "is a JPEG, which blurs numbers"),
    "grey of four bits": (grey_of_few_bits(4), "a stored 1 means 17"),
    "grey of two bits": (grey_of_few_bits(2), "a stored 1 means 85"),
    "transparent pixels": (transparent, "transparent pixels"),
    "instance ids": (
        lambda path: Image.fromarray(np.array([[26001]], np.uint16)).save(path),
        "holds the value 26001, which is no label (label ids 0-33 and 255 are); these look like instance ids",
    ),
    "no label": (lambda path: Image.fromarray(np.array([[77]], np.uint8)).save(path), "holds the value 77"),
}


@pytest.mark.parametrize(("save", "words"), UNCERTAIN.values(), ids=UNCERTAIN)
def test_kind_1_what_is_not_certain_is_refused_by_name(save, words, file):
    save(file)
    with pytest.raises(ValueError) as error:
        read_labels(file)
    assert words in str(error.value) and str(file) in str(error.value) and "\n" not in str(error.value)


def test_kind_1_label_ids_called_train_ids_say_so(tmp_path):
    path = tmp_path / "a_gtFine_labelTrainIds.png"
    Image.fromarray(IDS).save(path)
    with pytest.raises(ValueError, match=r"if these are label ids, name them \*_labelIds.png"):
        read_labels(path)


# -- a whole data set --------------------------------------------------------------------------------------------------


def prepare(root):
    said = []
    config = Config(preset="smoke", data=str(root), batch_size=1)
    return prepare_data(config, RGB_IMAGENET, say=said.append), said


def relabel(root, change):
    for path in root.glob("gtFine/*/*/*.png"):
        save_png(path, change(np.asarray(Image.open(path))).astype(np.uint8))


def test_kind_1_train_ids_called_label_ids_are_refused_with_both_readings_and_the_way_works(tmp_path):
    """BDD100K's masks in Cityscapes' names: road would become void."""
    root = write_city(tmp_path / "city", {"train": 2, "val": 1})
    relabel(root, lambda ids: np.where(np.arange(32) < 16, 0, 8) + 0 * ids)
    with pytest.raises(ValueError) as error:
        prepare(root)
    message = str(error.value)
    assert "\n" not in message and "no value above 18" in message
    assert "read as label ids: void 50.0 %, sidewalk 50.0 %" in message
    assert "as train ids: void 0.0 %, road 50.0 %, vegetation 50.0 %" in message
    for path in root.glob("gtFine/*/*/*.png"):  # as the message says
        path.rename(path.with_name(path.name.replace("labelIds", "labelTrainIds")))
    data, _ = prepare(root)
    assert data.about["labels"] == "labelTrainIds" and set(np.unique(data.train[0][1])) == {0, 8}


def test_kind_1_a_data_set_of_few_classes_goes_through_a_table(tmp_path):
    """Road and sidewalk alone, as label ids: they look like train ids; the table says what they are."""
    root = write_city(tmp_path / "city", {"train": 2, "val": 1})
    relabel(root, lambda ids: np.where(np.arange(32) < 16, 7, 8) + 0 * ids)
    with pytest.raises(ValueError, match="kind `table`"):
        prepare(root)
    (root / "classes.csv").write_text("value,class\n7,road\n8,sidewalk\n")
    assert main(["table", str(root), str(tmp_path / "new")]) == 0
    data, _ = prepare(tmp_path / "new")
    assert set(np.unique(data.train[0][1])) == {0, 1}


def test_kind_1_a_tools_own_numbers_are_refused_and_the_printed_command_works(tmp_path, monkeypatch):
    root = write_city(tmp_path / "export", {"train": 2, "val": 1})
    relabel(root, lambda ids: ids % 3)
    (root / "label_colors.txt").write_text("0 0 0 background\n1 1 1 road\n2 2 2 car\n")
    with pytest.raises(ValueError) as error:
        prepare(root)
    message = str(error.value)
    assert "1 is road there, and ego vehicle in Cityscapes" in message and "% are void" in message
    monkeypatch.chdir(tmp_path)
    command = message.split("`")[1].split()
    assert main(command[3:]) == 0
    data, _ = prepare(tmp_path / "data" / "cvat")
    assert set(np.unique(data.train[0][1])) == {0, 13, 255}


def test_kind_1_mostly_void_is_a_warning_with_the_shares(tmp_path):
    root = write_city(tmp_path / "city", {"train": 2, "val": 1})
    relabel(root, lambda ids: np.where(np.arange(32) < 24, 0, 26) + 0 * ids)
    data, said = prepare(root)
    assert "mostly void (void 75.0 %, car 25.0 %)" in said[-1]
    assert data.about["label_files"]["warning"] in said[-1]


def test_kind_1_the_decision_stands_in_the_record(tmp_path):
    root = write_city(tmp_path / "city", {"train": 2, "val": 1})
    pairs = scan(root, "train")
    optimised(np.asarray(Image.open(pairs[0].label))).save(pairs[0].label)
    data, _ = prepare(root)
    about = data.about["label_files"]
    assert about["read_as"] == "labelIds" and about["forms"] == {"palette, grey": 1, "grey, 8 bits": 2}
    counted = {split: sum(values.values()) for split, values in about["values"].items()}
    assert counted == {"train": 2 * 16 * 32, "val": 16 * 32}  # at the labels' own size
    ids = np.asarray(Image.open(scan(root, "val")[0].label))
    assert about["values"]["val"] == {str(v): int(n) for v, n in zip(*np.unique(ids, return_counts=True), strict=True)}


def test_kind_1_a_cache_that_was_there_says_the_same(tmp_path):
    root = write_city(tmp_path / "city", {"train": 2, "val": 1})
    assert prepare(root)[0].about == prepare(root)[0].about


def test_kind_1_train_ids_that_could_be_nothing_else_pass(tmp_path):
    values = {"train": np.bincount([0, 1, 18, 255], minlength=256)}
    verdict = judge(values, {}, "labelTrainIds", tmp_path, str)
    assert verdict.warning is None and verdict.about["read_as"] == "labelTrainIds"


def test_shares_by_hand():
    values = np.bincount([7, 7, 26, 0], minlength=256)
    assert shares(values, TRAIN_ID_OF_ID) == {"void": 25.0, "road": 50.0, "car": 25.0}
