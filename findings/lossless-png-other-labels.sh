#!/usr/bin/env bash
# pyoxipng 9.1.1, zopflipy 1.14, Pillow 13.0.0: are label maps the same after a lossless PNG optimiser?
#
# One would think so: lossless. Seen: a grey label map of eight values becomes a palette PNG, and np.asarray(Image.open)
# gives the places in the palette: class 255 is read as a number below 8, and most others change too. Each optimiser
# sorts the palette in its own way. A label map that has a palette already (as those of VOC) gets a new order too, and
# only its colours lead back. The colours are the same throughout; numbers that are read as classes are not.
# For grey maps Image.open(...).convert("L") gives the classes again. Pillow's own optimize=True changes nothing.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  pyoxipng==9.1.1 zopflipy==1.14 pillow==13.0.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import io

import numpy as np
import oxipng
from PIL import Image
from zopfli import ZopfliPNG

classes = [0, 1, 2, 8, 10, 11, 13, 255]
random = np.random.default_rng(0)
labels = np.kron(random.choice(classes, (16, 32)), np.ones((8, 8))).astype(np.uint8)
grey = Image.fromarray(labels)
palette = Image.fromarray(labels)
palette.putpalette(random.integers(0, 256, 768).astype(np.uint8).tobytes())


def encoded(image, **options):
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


optimisers = {
    "Pillow optimize": lambda data: encoded(Image.open(io.BytesIO(data)), optimize=True),
    "oxipng": lambda data: oxipng.optimize_from_memory(data, level=4),
    "zopfli": lambda data: ZopfliPNG().optimize(data),
}
changed, same_colours = {}, []
for kind, image in (("grey", grey), ("palette", palette)):
    for name, optimise in optimisers.items():
        out = Image.open(io.BytesIO(optimise(encoded(image))))
        read = np.asarray(out)
        changed[kind, name] = sorted({int(label) for label in classes if (read[labels == label] != label).any()})
        assert kind == "palette" or np.array_equal(np.asarray(out.convert("L")), labels)
        same_colours.append(np.array_equal(np.asarray(out.convert("RGB")), np.asarray(image.convert("RGB"))))
        print(f"{kind:7} by {name:15} mode {out.mode}: classes read as another {changed[kind, name]}")
assert all(same_colours)
assert changed["grey", "Pillow optimize"] == changed["palette", "Pillow optimize"] == []
assert all(len(changed[kind, name]) >= 4 for kind in ("grey", "palette") for name in ("oxipng", "zopfli"))
PYTHON
