#!/usr/bin/env bash
# keras 3.15.1: which error does `alpha` of the Tversky loss weigh?
#
# Its documentation says: alpha controls false positives, beta false negatives (as in Salehi et al. 2017, eq. 3).
# Seen: the other way round. A prediction that misses two of three pixels and claims none wrongly (TP 1, FP 0, FN 2)
# loses 2/3 with alpha=1, beta=0, and nothing with alpha=0, beta=1.
# So keras.losses.Tversky(alpha=a, beta=b) is the paper's loss with alpha=b and beta=a.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 torch==2.13.0
KERAS_BACKEND=torch "$folder/venv/bin/python" - <<'PYTHON'
import keras
import numpy as np

labels = np.array([1, 1, 1, 0], np.float32).reshape(1, 1, 4, 1)
probabilities = np.array([1, 0, 0, 0], np.float32).reshape(1, 1, 4, 1)
loss = lambda alpha, beta: float(keras.losses.Tversky(alpha=alpha, beta=beta)(labels, probabilities))
first, second = loss(1.0, 0.0), loss(0.0, 1.0)
print(f"keras {keras.__version__}: two missed pixels cost {first:.4f} by alpha alone, {second:.4f} by beta alone")
assert abs(first - 2 / 3) < 1e-5 and abs(second) < 1e-5
PYTHON
