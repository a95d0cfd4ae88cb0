"""Augmentation: image and labels move together, by chance that hangs on (seed, epoch, image) alone."""

import colorsys
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torchvision import tv_tensors

from deeplab_lib.data.augment import augmented, class_rarity, count_classes, padding_colour
from deeplab_lib.data.dataset import prepare_data
from deeplab_lib.data.normalization import BGR_CAFFE, RGB_IMAGENET
from deeplab_lib.data.transforms import RandomScaleCrop, make_transform
from deeplab_lib.labels import IGNORE_INDEX
from deeplab_lib.training.loop import fit

SIZE = (24, 40)
FILL = (1, 2, 3)


def scene(labels):
    """An image whose red is its label, as tv_tensors."""
    labels = torch.as_tensor(labels, dtype=torch.uint8)
    return tv_tensors.Image(torch.stack([labels, labels // 2, 255 - labels])), tv_tensors.Mask(labels)


@pytest.fixture(scope="module")
def blocks():
    rng = np.random.default_rng(0)
    return rng.integers(0, 19, (3, 5)).repeat(8, 0).repeat(8, 1)


# -- scale and crop ----------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**31 - 1), st.sampled_from(((24, 40), (17, 33), (64, 32))))
def test_size_types_and_values_are_kept_whatever_is_drawn(seed, size):
    labels = np.random.default_rng(seed).integers(0, 19, SIZE, dtype=np.uint8)
    labels[0, 0] = IGNORE_INDEX
    for level in ("standard", "strong"):
        torch.manual_seed(seed)
        image, labels_seen = make_transform(level, size, FILL)(np.repeat(labels[..., None], 3, 2), labels)
        assert (image.shape, labels_seen.shape) == ((*size, 3), size)
        assert image.dtype == labels_seen.dtype == np.uint8
        assert {*np.unique(labels_seen)} <= {*np.unique(labels), IGNORE_INDEX}


def test_a_flip_mirrors_half_of_the_images_and_their_labels_and_changes_nothing_else():
    labels = np.random.default_rng(0).integers(0, 19, SIZE, dtype=np.uint8)
    image, seen = np.repeat(labels[..., None], 3, 2), []
    for seed in range(40):
        torch.manual_seed(seed)
        image_seen, labels_seen = make_transform("flip", SIZE, FILL)(image, labels)
        mirrored = not np.array_equal(labels_seen, labels)
        assert np.array_equal(labels_seen, labels[:, ::-1] if mirrored else labels)
        assert np.array_equal(image_seen[..., 0], labels_seen)
        seen.append(mirrored)
    assert 10 < sum(seen) < 30


def test_the_whole_image_at_scale_one_is_the_image(blocks):
    image, labels = scene(blocks)
    crop = RandomScaleCrop(SIZE, FILL)
    assert torch.equal(crop.cut(image, (0, 0, *SIZE)), image)
    assert torch.equal(crop.cut(labels, (0, 0, *SIZE)), labels)


def test_a_quarter_at_twice_the_size_by_hand(blocks):
    image, labels = scene(blocks)
    crop = RandomScaleCrop(SIZE, FILL)
    box = (8, 16, SIZE[0] // 2, SIZE[1] // 2)
    assert np.array_equal(crop.cut(labels, box), blocks[8:20, 16:36].repeat(2, 0).repeat(2, 1))
    middle = crop.cut(image, box)[0, 6:10, 6:10]  # well inside one block, where bilinear changes nothing
    assert (middle == blocks[8 + 4, 16 + 4]).all()


def test_outside_the_image_is_void_and_of_the_padding_colour(blocks):
    image, labels = scene(blocks)
    crop = RandomScaleCrop(SIZE, FILL)
    box = (-24, -40, 48, 80)  # the image is the lower right quarter, at half its size
    assert (crop.cut(labels, box)[:12] == IGNORE_INDEX).all() and (crop.cut(labels, box)[:, :20] == IGNORE_INDEX).all()
    assert np.array_equal(crop.cut(labels, box)[12:, 20:], blocks[1::2, 1::2])
    assert crop.cut(image, box)[:, 3, 3].tolist() == list(FILL)


@given(st.integers(0, 2**31 - 1))
def test_labels_lie_where_the_image_shows_them(seed):
    """Two halves: wherever all of a pixel's neighbourhood is of one label, the image has that label's colour."""
    labels = np.zeros((64, 64), np.uint8)
    labels[:, 32:] = 18
    torch.manual_seed(seed)
    image, mask = RandomScaleCrop((64, 64), (0, 0, 0))(*scene(labels))
    for label in (0, 18):
        share = F.avg_pool2d((mask[None] == label).float(), 5, 1, 2, count_include_pad=False)[0]
        assert (image[0][share == 1] == label).all()


@given(st.integers(0, 2**31 - 1))
def test_scales_and_places_drawn_stay_in_their_range(seed):
    torch.manual_seed(seed)
    top, left, height, width = RandomScaleCrop((128, 256), FILL).draw((128, 256))
    assert 64 <= height <= 256 and 128 <= width <= 512
    assert min(0, 128 - height) <= top <= max(0, 128 - height)
    assert min(0, 256 - width) <= left <= max(0, 256 - width)


# -- chance ------------------------------------------------------------------------------------------------------------


def drawn(level, image, labels, count=200, fill=FILL):
    """`count` draws of the transform `level` to the image's own size: `(image, labels)` each."""
    torch.manual_seed(0)
    transform = make_transform(level, labels.shape, fill)
    return [transform(image, labels) for _ in range(count)]


def uniform(colour):
    """An image of one colour and its labels, large enough for a crop to lie inside."""
    return np.full((*SIZE, 3), colour, np.uint8), np.full(SIZE, 5, np.uint8)


@pytest.mark.parametrize("level", ["standard", "strong"])
def test_half_of_the_images_are_mirrored(level):
    labels = np.full(SIZE, 3, np.uint8)
    labels[:, SIZE[1] // 2 :] = 7
    sides = [[np.nonzero(seen == label)[1] for label in (3, 7)] for _, seen in drawn(level, uniform(9)[0], labels)]
    mirrored = [left.mean() > right.mean() for left, right in sides if left.size and right.size]
    assert len(mirrored) > 150 and 0.4 < np.mean(mirrored) < 0.6


@pytest.mark.parametrize("level", ["standard", "strong"])
def test_what_the_image_does_not_reach_is_void_and_no_class(level):
    """A rotation's corners too: a class of number 0 would be road."""
    image, labels = uniform(9)
    seen = [seen for _, seen in drawn(level, image, labels)]
    assert {*np.unique(seen)} == {5, IGNORE_INDEX}


def test_a_strong_rotation_leaves_corners_and_a_standard_one_is_none():
    """Inside a large image a crop at twice the size has no void of its own."""
    labels = np.full((240, 400), 5, np.uint8)
    image = np.repeat(labels[..., None], 3, 2)
    void = {}
    for level in ("standard", "strong"):
        torch.manual_seed(0)
        transform = make_transform(level, SIZE, FILL)
        void[level] = np.mean([(transform(image, labels)[1] == IGNORE_INDEX).any() for _ in range(200)])
    assert void["standard"] == 0 and 0.35 < void["strong"] < 0.6


def test_images_are_shown_smaller_and_larger():
    torch.manual_seed(0)
    crop = RandomScaleCrop((128, 256), FILL)
    scales = np.array([128 / crop.draw((128, 256))[2] for _ in range(200)])
    assert 0.5 <= scales.min() < 0.6 and 1.8 < scales.max() <= 2.0
    assert 1.1 < scales.mean() < 1.4


@pytest.mark.parametrize(("level", "brightness"), [("standard", 0.125), ("strong", 0.4)])
def test_brightness_changes_within_its_bounds_and_all_of_them(level, brightness):
    """Of a uniform grey neither contrast nor saturation nor hue change anything."""
    image, labels = uniform(120)
    change = np.array([seen.mean() / 120 - 1 for seen, _ in drawn(level, image, labels, fill=(120, 120, 120))])
    assert np.abs(change).max() < brightness + 0.03  # each step rounds to whole levels
    assert change.min() < -0.8 * brightness and change.max() > 0.8 * brightness and abs(change.mean()) < 0.05


@pytest.mark.parametrize(("level", "hue"), [("standard", 0.05), ("strong", 0.1)])
def test_hue_changes_within_its_bounds_and_all_of_them(level, hue):
    red = (100, 40, 40)
    image, labels = uniform(red)
    pixels = [seen[12, 20] / 255 for seen, _ in drawn(level, image, labels, fill=red)]
    hues = np.array([colorsys.rgb_to_hsv(*pixel)[0] for pixel in pixels if np.ptp(pixel) > 0.05])
    turned = (hues + 0.5) % 1 - 0.5  # red is at 0, which is 1
    assert np.abs(turned).max() < hue + 0.02
    assert turned.min() < -0.8 * hue and turned.max() > 0.8 * hue


# -- rare classes ------------------------------------------------------------------------------------------------------


def test_rarity_by_hand():
    counts = np.zeros((2, 19), int)
    counts[0, 0], counts[1, 0], counts[1, 7] = 6, 1, 1
    rarity = class_rarity(counts)
    assert rarity[0] == pytest.approx(-np.log(7 / 8)) and rarity[7] == pytest.approx(np.log(8))
    assert rarity[IGNORE_INDEX] == 0


def test_the_crop_with_the_rare_class_is_chosen():
    labels = np.zeros((64, 64), np.uint8)
    labels[:16, :16] = 7
    counts = np.array([np.bincount(labels.ravel(), minlength=19)])
    share = {}
    for tries in (1, 10):
        torch.manual_seed(0)
        crop = RandomScaleCrop((64, 64), FILL, tries, class_rarity(counts))
        drawn = torch.stack([crop(*scene(labels))[1] for _ in range(40)])
        share[tries] = (drawn == 7).float().mean().item()
    assert share[10] > 1.5 * share[1]


def test_what_a_crop_shows_of_nothing_counts_for_nothing():
    rarity = np.zeros(256)
    rarity[7] = 2.0
    crop = RandomScaleCrop((4, 4), FILL, 2, rarity)
    labels = torch.full((8, 8), 7)
    labels[:, 4:] = IGNORE_INDEX
    assert crop.worth(labels, (0, 0, 4, 4)) == 2 and crop.worth(labels, (0, 2, 4, 4)) == 1  # half of it void
    assert crop.worth(labels, (-3, 0, 4, 4)) == 0.5  # three rows of four lie outside the image


# -- in training -------------------------------------------------------------------------------------------------------


def test_padding_becomes_zero_under_the_weights_own_normalization():
    for normalization in (RGB_IMAGENET, BGR_CAFFE):
        image = np.full((2, 2, 3), padding_colour(normalization), np.uint8)
        half_a_level = 0.5 * normalization.scale / min(normalization.std)
        assert normalization(image).abs().max() <= half_a_level + 1e-6


def test_an_epoch_is_its_own_and_always_the_same(smoke):
    config = smoke(augment="standard", crops=3)
    data = prepare_data(config, RGB_IMAGENET)
    assert np.array_equal(data.class_counts, count_classes(data.train))
    first, again, second = (augmented(data, config, epoch) for epoch in (1, 1, 2))
    before = torch.get_rng_state()
    for index in (3, 0):
        image, labels = first[index]
        torch.rand(5)
        same_image, same_labels = again[index]
        assert torch.equal(image, same_image) and torch.equal(labels, same_labels)
        assert not torch.equal(image, second[index][0])
        assert image.shape == (3, *config.size) and labels.dtype == torch.int64
    torch.set_rng_state(before)
    first[1]
    assert torch.equal(torch.get_rng_state(), before)  # nobody else's chance is touched


def test_without_augmentation_the_data_set_itself_is_used(smoke):
    config = smoke()
    data = prepare_data(config, RGB_IMAGENET)
    assert augmented(data, config, 1) is data.train and data.class_counts is None


def test_loader_processes_see_what_the_first_process_sees(smoke):
    config = smoke(augment="strong")
    dataset = augmented(prepare_data(config, RGB_IMAGENET), config, 4)
    loaded = torch.utils.data.DataLoader(dataset, batch_size=5, num_workers=2)
    for number, (images, labels) in enumerate(loaded):
        for i in range(5):
            image, expected = dataset[5 * number + i]
            assert torch.equal(images[i], image) and torch.equal(labels[i], expected)


def test_a_run_of_its_own_whose_name_says_so(smoke):
    plain, run = smoke(epochs=1), smoke(epochs=1, augment="standard", crops=2)
    assert run.stem == plain.stem + "_augment_standard_crops2"
    assert "augment" not in plain.result_dict() and run.result_dict()["augment"] == "standard"
    path = fit(run).json
    assert path.stem == run.stem and path.with_suffix(".npz").exists()


def test_what_makes_no_sense_is_refused(smoke):
    with pytest.raises(ValueError, match="crops is 4, but augment is none"):
        smoke(crops=4)
    with pytest.raises(
        ValueError, match="augment is 'srong', did you mean 'strong'\\?; valid: none, flip, standard, strong"
    ):
        smoke(augment="srong")
    assert smoke(augment="None").augment == "none"


def test_the_heavy_library_is_loaded_only_when_it_is_needed():
    code = "import sys, deeplab_lib.training.loop; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
