#!/usr/bin/env bash
# ONNX Runtime 1.32.0 (CPU): does the operator Resize round a uint8 picture as image libraries do?
#
# One would think so, or that it gives what the ONNX reference gives. Seen: 0 and 255, made four pixels wide by mode
# "linear", are 0, 63, 191, 255: the fraction of 63.75 is cut off. Pillow and OpenCV give 0, 64, 191, 255, and the same
# operator on float32 0, 63.75, 191.25, 255. A preprocessing step inside the model that resizes before it converts to
# float makes every picture up to one level darker, half a level on average. Convert first.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 \
  pillow==13.0.0 opencv-python-headless==5.0.0.93
"$folder/venv/bin/python" - <<'PYTHON'
import cv2
import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from PIL import Image


def resized(kind, dtype):
    node = helper.make_node("Resize", ["picture", "", "", "size"], ["out"], mode="linear")
    picture = helper.make_tensor_value_info("picture", kind, [1, 1, 1, 2])
    out = helper.make_tensor_value_info("out", kind, None)
    size = helper.make_tensor("size", TensorProto.INT64, [4], [1, 1, 1, 4])
    graph = helper.make_graph([node], "resize", [picture], [out], [size])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"picture": np.array([[[[0, 255]]]], dtype)})[0].ravel().tolist()


pair = np.array([[0, 255]], np.uint8)
seen = {
    "ONNX Runtime, uint8": resized(TensorProto.UINT8, np.uint8),
    "ONNX Runtime, float32": resized(TensorProto.FLOAT, np.float32),
    "Pillow": np.asarray(Image.fromarray(pair).resize((4, 1), Image.Resampling.BILINEAR))[0].tolist(),
    "OpenCV": cv2.resize(pair, (4, 1), interpolation=cv2.INTER_LINEAR)[0].tolist(),
}
for name, values in seen.items():
    print(f"{name:22} {values}")
assert seen["ONNX Runtime, uint8"] == [0, 63, 191, 255] and seen["ONNX Runtime, float32"] == [0, 63.75, 191.25, 255]
assert seen["Pillow"] == seen["OpenCV"] == [0, 64, 191, 255]
PYTHON
