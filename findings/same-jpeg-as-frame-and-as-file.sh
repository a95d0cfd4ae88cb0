#!/usr/bin/env bash
# OpenCV 5.0.0.93: are the pixels of a Motion-JPEG frame those of the same JPEG bytes opened as a picture?
#
# One would think so: one library, one file format, and JPEG is decoded to within a level everywhere. Seen: more than
# half of all values differ, by up to 30 levels along coloured edges. VideoCapture decodes by FFmpeg, imdecode by
# libjpeg-turbo, and they enlarge the colour, which is stored at half size, in different ways. A network trained on
# frames that were saved as JPEG and applied to the video sees other pictures, and a score on one does not hold for the
# other. (Pillow opens the bytes as imdecode does, to the bit.)
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  opencv-python-headless==5.0.0.93 scikit-image==0.26.0 pillow==13.0.0 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from skimage import data

photograph = np.ascontiguousarray(data.astronaut()[..., ::-1])
height, width = photograph.shape[:2]
writer = cv2.VideoWriter("drive.avi", cv2.VideoWriter_fourcc(*"MJPG"), 10, (width, height))
writer.write(photograph)
writer.release()
read, frame = cv2.VideoCapture("drive.avi").read()
video = Path("drive.avi").read_bytes()
start = video.index(b"\xff\xd8")
jpeg = video[start : video.index(b"\xff\xd9", start) + 2]
picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
pillow = np.asarray(Image.open(io.BytesIO(jpeg)))[..., ::-1]
difference = np.abs(frame.astype(int) - picture)
print(f"frame against picture: {(difference > 0).mean():.0%} of all values differ, by {difference.mean():.1f} levels "
      f"on average, {difference.max()} at most; Pillow against OpenCV's picture: {np.abs(pillow - picture).max()}")
assert read and np.array_equal(pillow, picture)
assert (difference > 0).mean() > 0.4 and difference.max() >= 20
PYTHON
