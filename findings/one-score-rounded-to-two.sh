#!/usr/bin/env bash
# pandas 3.1.1, NumPy 2.4.6, Polars 2.1.0, DuckDB 2.0.1: what is a mIoU of 61.45 % to one digit?
#
# One would think the same in a table that is rounded and in a table that is printed. Seen: DataFrame.round(1), np.round
# and Polars' round give 61.4, while Styler.format(precision=1), an f-string, round() of Python and DuckDB give 61.5.
# (The number is stored as a little more than 61.45; the first three multiply by ten, where that is lost, and then round
# 614.5 to even.) For 66.25, a true half, all give 66.2 but DuckDB, whose round gives 66.3 and whose format gives 66.2.
# Two tables of one report can thus differ by 0.1 in one score. Round once, where the number is printed.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  pandas==3.1.1 jinja2==3.1.6 numpy==2.4.6 polars==2.1.0 duckdb==2.0.1
"$folder/venv/bin/python" - <<'PYTHON'
import re

import duckdb
import numpy as np
import pandas as pd
import polars as pl


def styled(score):
    html = pd.DataFrame({"mIoU": [score]}).style.format(precision=1).to_html()
    return re.search(r"data row0 col0\D*?>([\d.]+)<", html)[1]


query = lambda text: str(duckdb.sql(f"select {text}").fetchall()[0][0])
ways = {
    "DataFrame.round(1)": lambda score: str(pd.DataFrame({"mIoU": [score]}).round(1).mIoU[0]),
    "np.round": lambda score: str(np.round(score, 1)),
    "Polars round": lambda score: str(pl.Series([score]).round(1)[0]),
    "Styler precision=1": styled,
    "f-string": lambda score: f"{score:.1f}",
    "round() of Python": lambda score: str(round(score, 1)),
    "DuckDB round": lambda score: query(f"round({score}::double, 1)"),
    "DuckDB format": lambda score: query(f"format('{{:.1f}}', {score}::double)"),
}
seen = {name: (way(61.45), way(66.25)) for name, way in ways.items()}
for name, (first, second) in seen.items():
    print(f"{name:19} 61.45 is {first}, 66.25 is {second}")
first, second = zip(*seen.values(), strict=True)
assert first == ("61.4", "61.4", "61.4", "61.5", "61.5", "61.5", "61.5", "61.5")
assert second == ("66.2", "66.2", "66.2", "66.2", "66.2", "66.2", "66.3", "66.2")
PYTHON
