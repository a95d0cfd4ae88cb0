"""One point of the audit, with its figures and its source."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from deeplab_lib.analysis.numbers import Numbers

NETWORK = "counted on the network"
TABLES = "computed from the printed tables"
CODE = "read in the study's code"

Figure = tuple[Any, str | Callable[[Any], str]]
Figures = dict[str, Figure]
Said = tuple[str, Figures]  # a template, and the figures that fill it


# The tables that show a point, by its key.
TABLES_OF = {"rows": "@tbl-rows", "parameters": "@tbl-freezing", "miou": "@tbl-published-classes, @tbl-means"}
TABLES_OF |= {"order": "@tbl-study-logs"}


@dataclass(frozen=True)
class AuditFinding:
    """One point: what the study prints, what is found, from which source, and what this kit does about it.

    `printed` and `found` hold `{name}` where `figures[name]`, a `(value, format)` pair, is to be printed.
    """

    key: str
    topic: str
    printed: str
    found: str
    remedy: str
    source: str
    figures: Mapping[str, Figure] = field(default_factory=dict)

    def filled(self, numbers: Numbers) -> tuple[str, str]:
        """`(printed, found)` with their figures, which are registered under `audit.<key>.<name>`."""
        texts = {name: numbers.put(f"audit.{self.key}.{name}", *figure) for name, figure in self.figures.items()}
        return self.printed.format(**texts), self.found.format(**texts)


def details(findings: Iterable[AuditFinding], numbers: Numbers) -> str:
    """Every point of the audit as a paragraph of Markdown."""
    paragraphs = []
    for finding in findings:
        printed, found = finding.filled(numbers)
        shown = f" ({TABLES_OF[finding.key]})" if finding.key in TABLES_OF else ""
        paragraphs.append(
            f"**{finding.topic}**{shown}. *Printed*: {printed}. *Found* ({finding.source}): {found}. "
            f"*Here*: this kit {finding.remedy}."
        )
    return "\n\n".join(paragraphs)
