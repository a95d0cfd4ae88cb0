#!/usr/bin/env bash
# statsmodels 0.15.0: what does one p-value that is NaN do to the others in multipletests?
#
# A class that no validation image has gives NaN. One would think that it stays NaN and the others are corrected as if
# it were not there, or that NaN is refused. Seen: with "holm" it counts as one more test, and two of four differences
# are no longer significant. With "fdr_bh" every corrected p-value is NaN, while the decisions beside them say that four
# are significant; with "hommel" all are NaN and none is. No warning by any. Drop NaN before correcting.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check statsmodels==0.15.0 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" -W error - <<'PYTHON'
import numpy as np
from statsmodels.stats.multitest import multipletests

four = np.array([0.001, 0.01, 0.02, 0.04])
five = np.append(four, np.nan)
significant, missing = {}, {}
for method in ("holm", "fdr_bh", "hommel"):
    for values in (four, five):
        rejected, corrected, *_ = multipletests(values, method=method)
        significant[method, len(values)] = int(rejected.sum())
        missing[method, len(values)] = int(np.isnan(corrected).sum())
        print(f"{method:7} {len(values)} p-values: {rejected.sum()} significant, corrected {corrected.round(3)}")
assert all(significant[method, 4] == 4 and missing[method, 4] == 0 for method in ("holm", "fdr_bh", "hommel"))
assert significant["holm", 5] == 2 and missing["holm", 5] == 1
assert significant["fdr_bh", 5] == 4 and missing["fdr_bh", 5] == 5
assert significant["hommel", 5] == 0 and missing["hommel", 5] == 5
PYTHON
