"""A handful of random scenes in Cityscapes' layout, on disk or zipped as the official downloads are."""

import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

LEGAL_IDS = np.array([*range(34), 255], dtype=np.uint8)
COUNTS = {"train": 3, "val": 2}


def save_png(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def write_city(root, counts=COUNTS, size=(16, 32), labels="labelIds", city="ulm", kind="gtFine", seed=0):
    """Random pixels and blocks of random label ids; returns `root`."""
    rng, (h, w) = np.random.default_rng(seed), size
    for split, count in counts.items():
        for i in range(count):
            name = f"{city}_{list(counts).index(split):06d}_{i:06d}"
            image = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
            save_png(root / f"leftImg8bit/{split}/{city}/{name}_leftImg8bit.png", image)
            ids = LEGAL_IDS if labels == "labelIds" else np.array([*range(19), 255], dtype=np.uint8)
            blocks = rng.choice(ids, (-(-h // 4), -(-w // 4))).repeat(4, 0).repeat(4, 1)[:h, :w]
            save_png(root / f"{kind}/{split}/{city}/{name}_{kind}_{labels}.png", blocks)
    return root


def zip_city(root, target):
    """The two downloads, made of an unpacked data set; returns the folder that holds them."""
    target.mkdir(parents=True, exist_ok=True)
    for top, archive in (("leftImg8bit", "leftImg8bit_trainvaltest.zip"), ("gtFine", "gtFine_trainvaltest.zip")):
        with zipfile.ZipFile(target / archive, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("README", "as in the official archives")
            for path in sorted(Path(root, top).rglob("*.png")):
                packed.write(path, path.relative_to(root))
    return target


def first(root, pattern):
    """The first file that matches, by name."""
    return sorted(Path(root).glob(pattern))[0]
