#!/usr/bin/env bash
# pandas 3.1.1, DuckDB 2.0.1, Polars 2.1.0: which epoch of a CSV log is the best if the loss diverged once?
#
# One would think that all read "nan", as Python and NumPy write it, as a number that is missing, and agree on the
# largest mIoU of the others. Seen: only pandas does. In DuckDB NaN is the largest number, so that arg_max names the
# epoch that diverged, and "where miou > 10" keeps it. In Polars the column becomes text, and the order is that of
# letters: "nan", "9.5", "12.5", "10.5". ("NaN" would be a number, and so would a "nan" that first comes after row 100.)
# No tool warns. In Polars null_values="nan" helps, in DuckDB nullstr='nan'.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  pandas==3.1.1 duckdb==2.0.1 polars==2.1.0 numpy==2.4.6
cd "$folder"
venv/bin/python -W error - <<'PYTHON'
import csv

import duckdb
import pandas as pd
import polars as pl

with open("log.csv", "w", newline="") as file:
    csv.writer(file).writerows([("epoch", "miou"), (1, 9.5), (2, 10.5), (3, float("nan")), (4, 12.5)])
log = pd.read_csv("log.csv")
seen = {
    "pandas": int(log.epoch[log.miou.idxmax()]),
    "DuckDB": duckdb.sql("select arg_max(epoch, miou) from 'log.csv'").fetchall()[0][0],
    "Polars": pl.read_csv("log.csv").sort("miou", descending=True)["epoch"][0],
}
order = pl.read_csv("log.csv").sort("miou", descending=True)["miou"].to_list()
kept = [epoch for epoch, in duckdb.sql("select epoch from 'log.csv' where miou > 10").fetchall()]
print(f"best epoch: {seen}; over 10 in DuckDB: {kept}; order in Polars: {order}")
named = {
    "DuckDB": duckdb.sql("select arg_max(epoch, miou) from read_csv('log.csv', nullstr='nan')").fetchall()[0][0],
    "Polars": pl.read_csv("log.csv", null_values="nan").sort("miou", descending=True, nulls_last=True)["epoch"][0],
}
print(f"best epoch when nan is named as missing: {named}")
assert seen == {"pandas": 4, "DuckDB": 3, "Polars": 3} and named == {"DuckDB": 4, "Polars": 4}
assert kept == [2, 3, 4] and order == ["nan", "9.5", "12.5", "10.5"]
late = "miou\n" + "9.5\n" * 101 + "nan\n"
assert pl.read_csv(late.encode())["miou"].dtype == pl.read_csv(b"miou\n9.5\nNaN\n")["miou"].dtype == pl.Float64
PYTHON
