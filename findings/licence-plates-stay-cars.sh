#!/usr/bin/env bash
# cityscapesscripts 2.3.0: which label has a licence plate in a label map?
#
# One would think void: the class has trainId -1 and is ignored in the evaluation. Seen: the label of what lies below
# it, nearly always car (id 26, train id 13). Polygons of a negative id are not drawn at all, neither in labelIds nor in
# labelTrainIds, so the plates of Cityscapes train and count as cars. A trailer, which is ignored too but has a positive
# id, is void. Whoever draws label maps from the polygons by another tool gets more void pixels than the official maps.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check cityscapesscripts==2.3.0 pillow==13.0.0 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import json

import numpy as np
from cityscapesscripts.helpers.labels import name2label
from cityscapesscripts.preparation.json2labelImg import json2labelImg
from PIL import Image

box = lambda left, top, right, bottom: [[left, top], [right, top], [right, bottom], [left, bottom]]
objects = {"road": box(0, 0, 39, 19), "car": box(5, 5, 30, 15), "license plate": box(10, 10, 15, 12),
           "trailer": box(32, 5, 38, 15)}
polygons = [{"label": label, "polygon": polygon} for label, polygon in objects.items()]
with open("street_polygons.json", "w") as file:
    json.dump({"imgHeight": 20, "imgWidth": 40, "objects": polygons}, file)
seen = {}
for encoding in ("ids", "trainIds"):
    json2labelImg("street_polygons.json", "labels.png", encoding)
    labels = np.asarray(Image.open("labels.png"))
    seen[encoding] = {"car": int(labels[7, 7]), "license plate": int(labels[11, 12]), "trailer": int(labels[10, 35])}
    print(f"{encoding:8} {seen[encoding]}")
plate = name2label["license plate"]
print(f"its entry in the table: id {plate.id}, trainId {plate.trainId}, ignoreInEval {plate.ignoreInEval}")
assert plate.ignoreInEval and plate.trainId == -1
assert seen == {"ids": {"car": 26, "license plate": 26, "trailer": 30},
                "trainIds": {"car": 13, "license plate": 13, "trailer": 255}}
PYTHON
