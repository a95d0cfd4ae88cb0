"""The names that a notebook's parameters cell sets, and the cell that papermill injects after it."""

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from deeplab_lib.common.errors import short_traceback
from deeplab_lib.common.text import did_you_mean


@short_traceback
def check_parameters(namespace: Mapping[str, Any], valid: Collection[str]) -> None:
    """Refuse, with a ValueError, a parameter that is none of `valid`; `namespace` is the notebook's `globals()`."""
    cells = [cell for cell in namespace.get("In", ()) if cell.lower().startswith("# parameters")]
    check_names([name for cell in cells for name in assigned(cell)], valid)


def check_names(names: Iterable[str], valid: Collection[str]) -> None:
    """Raise ValueError for the first of `names` that is none of `valid`."""
    for name in names:
        if name not in valid:
            raise ValueError(f"no parameter {name!r}{did_you_mean(name, valid)}; parameters: {', '.join(valid)}")


def assigned(source: str) -> Iterator[str]:
    """Names that a cell of plain assignments sets."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
