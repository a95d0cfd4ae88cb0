"""The `#|` lines at the top of a code cell: Quarto's `#| key: value`, nbdev's `#| hide`."""

from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from nbformat import NotebookNode

# nbdev's words that say what is shown; its others (export, default_exp, test) say what becomes of the code.
NBDEV = {
    "hide": {"include": False},
    "hide_input": {"echo": False},
    "hide_output": {"output": False},
}


def cell_options(cell: "NotebookNode") -> tuple[dict[str, Any], str]:
    """`#| key: value` lines at the top of a code cell, over the cell's metadata; and the source without them."""
    metadata = cell.get("metadata") or {}
    kind = "tbl" if str(metadata.get("label", "")).startswith("tbl-") else "fig"
    named = {"label": "label", "caption": f"{kind}-cap", "alt": f"{kind}-alt"}
    options = {named[key]: metadata[key] for key in named if key in metadata}
    source = cell.get("source") or ""
    lines = (source if isinstance(source, str) else "".join(source)).split("\n")
    count = next((i for i, line in enumerate(lines) if not line.startswith("#|")), len(lines))
    block = [line[2:].removeprefix(" ") for line in lines[:count]]
    return options | _read(block), "\n".join(lines[count:])


def _read(block: list[str]) -> dict[str, Any]:
    """The lines as YAML; where they are none, such as a caption with a colon in it or a lone word, one by one."""
    try:
        options = yaml.safe_load("\n".join(block))
    except (yaml.YAMLError, ValueError):
        options = None
    if isinstance(options, dict):
        return {str(key): value for key, value in options.items()}
    options = {}
    for line in block:
        key, colon, value = (part.strip() for part in line.partition(":"))
        if colon and key:
            options[key] = value == "true" if value in ("true", "false") else value.strip(" \"'")
        else:
            options |= NBDEV.get(key, {})
    return options
