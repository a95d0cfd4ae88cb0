"""One register for every number that the report prints, so that text, tables and `numbers.json` cannot disagree."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from string import Formatter
from typing import Any

import pandas as pd

from deeplab_lib.common.files import write_text
from deeplab_lib.common.markup import as_plain
from deeplab_lib.common.text import signed
from deeplab_lib.common.types import PathLike

MISSING = "–"


class Numbers:
    """Key -> value and the text under which it was printed.

    >>> numbers = Numbers()
    >>> numbers.put("runs.ce.val_mIoU", 41.236, ".1f")
    '41.2'
    """

    def __init__(self) -> None:
        self._entries: dict[str, dict[str, Any]] = {}

    def put(self, key: str, value: Any, fmt: str | Callable[[Any], str] = ".2f") -> str:
        """Register `value` under `key` and return its text; None and NaN print as `MISSING`.

        `fmt` is a format specification (`".2f"`, `",d"`) or a function of the value. One key holds one number:
        registering another value or text under it raises ValueError.
        """
        value = _plain(value)
        text = MISSING if value is None else fmt(value) if callable(fmt) else format(value, fmt)
        entry = {"value": value, "text": text}
        if self._entries.setdefault(key, entry) != entry:
            raise ValueError(f"number {key!r} is {self._entries[key]} and cannot also be {entry}: choose another key")
        return text

    def say(self, prefix: str, sentence: str, **values: Any) -> str:
        """Fill in a sentence; what has a format in it is a number, registered as `prefix.<name>`.

        >>> Numbers().say("reading.frequency", "{name} covers {share:.1f} %", name="pole", share=1.26)
        'pole covers 1.3 %'
        """
        return _Sentence(self, prefix).format(sentence, **values)

    def table(
        self, prefix: str, frame: pd.DataFrame, formats: Mapping[str, str | Callable[[Any], str]]
    ) -> pd.DataFrame:
        """Register every number of `frame` as `prefix.<row>.<column>`; return the frame of printed texts.

        `formats` maps every column to its format. Columns of text pass through and are not registered.
        """
        printed = frame.astype(object).copy()
        for column in frame.columns:
            printed[column] = [
                value if isinstance(value, str) else self.put(f"{prefix}.{row}.{column}", value, formats[column])
                for row, value in zip(frame.index, frame[column], strict=True)
            ]
        return printed

    def __getitem__(self, key: str) -> float | None:
        return self._entries[key]["value"]

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def text(self, key: str) -> str:
        """The text under which `key` was printed."""
        return self._entries[key]["text"]

    def items(self) -> list[tuple[str, dict[str, Any]]]:
        """`(key, {"value", "text"})` pairs, sorted by key."""
        return sorted(self._entries.items())

    def save(self, path: PathLike) -> None:
        """Write `{key: {"value", "text"}}` as JSON, sorted, so that the same numbers give the same bytes."""
        write_text(
            path, json.dumps({as_plain(key): entry for key, entry in self.items()}, indent=1, ensure_ascii=False) + "\n"
        )


class _Sentence(Formatter):
    """Registers every field that has a format; the format `signed` is `common.text.signed`."""

    def __init__(self, numbers: Numbers, prefix: str) -> None:
        self.numbers, self.prefix = numbers, prefix

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, str]:
        return (field_name, kwargs[field_name]), field_name

    def format_field(self, value: Any, format_spec: str) -> str:
        name, value = value
        form = signed if format_spec == "signed" else format_spec
        return self.numbers.put(f"{self.prefix}.{name}", value, form) if form else str(value)


def _plain(value: Any) -> int | float | None:
    """A JSON number (int, float) or None, from Python's or numpy's."""
    if value is None:
        return None
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"a number is needed, got {value!r}")
    return value if math.isfinite(value) else None
