#!/usr/bin/env bash
# papermill 2.7.0: do `-p lr 1e-4` and `-y "lr: 1e-4"` give a notebook the same parameter?
#
# One would think so: both read a value. Seen: -p gives the number 0.0001, -y (and -f, a file) the text "1e-4", because
# YAML 1.1 wants a dot in such a number. It is the other way round for true: -y gives True, -p the text "true", which
# is true in every `if`, as is "false". A sweep that moves from the command line to a YAML file changes types.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check papermill==2.7.0 ipykernel
cd "$folder"
cat > in.ipynb <<'NOTEBOOK'
{"cells": [{"cell_type": "code", "execution_count": null, "id": "a", "metadata": {"tags": ["parameters"]}, "outputs": [],
 "source": ["value = 0"]}], "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python",
 "name": "python3"}}, "nbformat": 4, "nbformat_minor": 5}
NOTEBOOK
injected() {
  venv/bin/papermill in.ipynb out.ipynb --prepare-only --log-level ERROR "$@" 2>/dev/null
  venv/bin/python -c 'import json; print(json.load(open("out.ipynb"))["cells"][1]["source"][1].strip())'
}
seen=$(injected -p value 1e-4; injected -y "value: 1e-4"; injected -p value false; injected -y "value: false")
echo "$seen"
[ "$seen" = 'value = 0.0001
value = "1e-4"
value = "false"
value = False' ]
