#!/usr/bin/env bash
# PyTorch 2.14.1, NumPy 2.4.6, ONNX Runtime 1.32.0, OpenVINO 2026.4.1: which class is argmax of logits with a NaN?
#
# One would think the same everywhere. Seen: PyTorch and NumPy give the class whose logit is NaN, ONNX Runtime and
# OpenVINO the largest of the others. A network whose logits overflow for one class (inf - inf in float16) fills
# the label map with that class in PyTorch; exported, it gives a map without it that looks healthy. If all logits are
# NaN, each of the four gives class 0 (road in Cityscapes). Test logits, not label maps, for NaN.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  torch==2.14.1 numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1
cd "$folder"
venv/bin/python - <<'PYTHON'
import numpy as np
import onnxruntime
import openvino
import torch
from onnx import TensorProto, helper, save

nan = float("nan")
pixels = {"finite": [1, 2, 9, 3], "NaN in class 1": [1, nan, 9, 3], "NaN in class 3": [1, 2, 9, nan], "all": [nan] * 4}
logits = np.array(list(pixels.values()), np.float32).T[None]  # (1, 4 classes, pixels)
node = helper.make_node("ArgMax", ["logits"], ["labels"], axis=1, keepdims=0)
given = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 4, 4])
wanted = helper.make_tensor_value_info("labels", TensorProto.INT64, [1, 4])
graph = helper.make_graph([node], "argmax", [given], [wanted])
save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9), "argmax.onnx")
session = onnxruntime.InferenceSession("argmax.onnx", providers=["CPUExecutionProvider"])
labels = {
    "PyTorch": torch.from_numpy(logits).argmax(1),
    "NumPy": logits.argmax(1),
    "ONNX Runtime": session.run(None, {"logits": logits})[0],
    "OpenVINO": openvino.compile_model("argmax.onnx", "CPU")(logits)[0],
}
seen = {name: dict(zip(pixels, np.asarray(values)[0].tolist(), strict=True)) for name, values in labels.items()}
for name, classes in seen.items():
    print(f"{name:13} {classes}")
first = {"finite": 2, "NaN in class 1": 1, "NaN in class 3": 3, "all": 0}
other = {"finite": 2, "NaN in class 1": 2, "NaN in class 3": 2, "all": 0}
assert seen["PyTorch"] == seen["NumPy"] == first and seen["ONNX Runtime"] == seen["OpenVINO"] == other
PYTHON
