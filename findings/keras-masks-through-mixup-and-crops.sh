#!/usr/bin/env bash
# keras 3.15.1: what becomes of "segmentation_masks" in MixUp, CutMix, CenterCrop and RandomCrop?
#
# These layers take {"images", "segmentation_masks"}, so one would think that a label map of classes 0 and 18 stays one.
# Seen: MixUp of four maps (4, 8, 8, 1) gives (4, 8, 8, 4): it takes single pixels, not maps, and adds one to every
# pixel. CutMix gives each map as many channels as the image. A crop larger than the picture enlarges the picture to
# fit, and its label map by bilinear interpolation: between classes 0 and 18 stand 3 and 15. (RandomRotation, Resizing
# and others take the nearest pixel and are right.) Nothing warns.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 jax==0.10.2 numpy==2.4.6
KERAS_BACKEND=jax "$folder/venv/bin/python" - <<'PYTHON'
import keras
import numpy as np

images = np.random.default_rng(0).random((4, 8, 8, 3)).astype(np.float32)
masks = np.zeros((4, 8, 8, 1), np.float32)
masks[:, :, 4:] = 18
batch = {"images": images, "segmentation_masks": masks}
layers = {
    "MixUp": keras.layers.MixUp(alpha=1.0, seed=0),
    "CutMix": keras.layers.CutMix(seed=0),
    "CenterCrop(12, 12)": keras.layers.CenterCrop(12, 12),
    "RandomCrop(12, 12)": keras.layers.RandomCrop(12, 12),
    "Resizing(12, 12)": keras.layers.Resizing(12, 12),
}
seen = {}
for name, layer in layers.items():
    mixes = {"labels": np.eye(4, dtype=np.float32)} if name in ("MixUp", "CutMix") else {}
    out = layer({**batch, **mixes}, training=True) if "Resizing" not in name else layer(batch)
    mask = keras.ops.convert_to_numpy(out["segmentation_masks"])
    seen[name] = mask.shape, np.unique(mask.astype(float).round(2)).tolist()
    print(f"{name:19} (4, 8, 8, 1) becomes {mask.shape}, classes {seen[name][1]}")
assert seen["MixUp"][0] == (4, 8, 8, 4) and seen["CutMix"][0] == (4, 8, 8, 3)
assert seen["CenterCrop(12, 12)"] == seen["RandomCrop(12, 12)"] == ((4, 12, 12, 1), [0.0, 3.0, 15.0, 18.0])
assert seen["Resizing(12, 12)"] == ((4, 12, 12, 1), [0.0, 18.0])
PYTHON
