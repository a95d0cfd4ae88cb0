#!/usr/bin/env bash
# pandas 3.1.1, typst 0.15.2: does a table of Styler.to_typst print what its cells say?
#
# One would think so, as a cell is text. Seen: cells are read as Typst markup. The two stars of "62.0**" are gone
# without a word (an empty strong text), as are the plus sign of "+ 0.4" (item 1 of a list), "<0.05>" (a label), the
# number sign of "#1" (code) and the backslashes of a path. One star, "61.2*", is an error, "unclosed delimiter".
# Styler.format knows escape="html" and "latex", but not "typst" (ValueError). Escape the text first: a backslash before
# each of \ * _ # $ @ <.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  pandas==3.1.1 jinja2==3.1.6 typst==0.15.2 pypdf==7.1.1
"$folder/venv/bin/python" - <<'PYTHON'
import io
import re

import pandas as pd
import pypdf
import typst


def printed(cell):
    """What stands on the page for one cell, or the error."""
    table = pd.DataFrame({"mIoU": [cell]}).style.hide(axis="index").hide(axis="columns").to_typst()
    try:
        page = pypdf.PdfReader(io.BytesIO(typst.compile(table.encode(), format="pdf"))).pages[0]
        return page.extract_text().strip()
    except typst.TypstError as error:
        return f"error: {error}"


cells = ["62.0**", "+ 0.4", "<0.05>", "#1", r"C:\runs\ce", "61.2*", "ce_focal"]
seen = {cell: printed(cell) for cell in cells}
for cell, text in seen.items():
    print(f"{cell:12} is printed as {text!r}")
escaped = re.sub(r"([\\*_#$@<])", r"\\\1", "62.0**")
print(f"{escaped:12} is printed as {printed(escaped)!r}")
assert [seen[cell] for cell in cells[:5]] == ["62.0", "1. 0.4", "", "1", "C:runsce"]
assert seen["61.2*"] == "error: unclosed delimiter" and seen["ce_focal"] == "ce_focal"
assert printed(escaped) == "62.0**"
try:
    pd.DataFrame({"mIoU": ["62.0**"]}).style.format(escape="typst").to_typst()
except ValueError as error:
    print(error)
else:
    raise SystemExit("escape='typst' is accepted now")
PYTHON
