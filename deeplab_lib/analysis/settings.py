"""The parameters of analysis.ipynb, checked before anything is read."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from deeplab_lib.common.errors import short_traceback
from deeplab_lib.common.files import for_project
from deeplab_lib.common.parameters import check_parameters, check_texts, coerce

TEXTS = ("runs", "dataset", "audit_logs", "report_dir", "title", "author", "affiliation", "course", "date")
PARAMETERS = (*TEXTS, "planned", "margin")


@short_traceback
def check_settings(namespace: Mapping[str, Any]) -> None:
    """Refuse, with a ValueError of one line, a parameter that analysis.ipynb does not have and a value that is none."""
    check_parameters(namespace, PARAMETERS)
    check_texts(namespace, TEXTS)
    for_project(namespace.get("report_dir") or "report", "report_dir")
    margin = coerce("margin", namespace.get("margin"), float)
    if not 0 < margin <= 100:
        raise ValueError(f"margin is {margin:g}; it must lie above 0 and not above 100 points of mIoU")
    planned, day = namespace.get("planned"), namespace.get("date")
    if planned is not None and not (isinstance(planned, list) and all(isinstance(name, str) for name in planned)):
        raise ValueError(f"planned is {planned!r}; it must be a list of runs' names, or None")
    try:
        date.fromisoformat(day or "2026-01-01")
    except ValueError:
        raise ValueError(f"date is {day!r}; it must be a day as YYYY-MM-DD") from None
