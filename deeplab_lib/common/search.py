"""What a search that found nothing has to say: what was looked for, what was turned away and why, and what helps."""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SHOWN = 3  # of what was turned away


@dataclass
class Search:
    """A search for `what` in `where` by the description `wanted`, such as `leftImg8bit/train/<city>/*.png`."""

    what: str
    where: Path | str
    wanted: str
    turned_away: dict[str, str] = field(default_factory=dict)  # reasons by name

    def reject(self, name: str, reason: str) -> None:
        """Note that `name` was seen and is not what is looked for."""
        self.turned_away.setdefault(name, reason)

    def message(self, advice: str | None = None) -> str:
        """One line; those turned away that are nearest to what was wanted come first."""
        parts = [f"no {self.what} in {self.where}: looked for {self.wanted}"]
        if self.turned_away:
            near = sorted(self.turned_away, key=lambda name: -closeness(name, self.wanted))
            listed = ", ".join(f"{name} ({self.turned_away[name]})" for name in near[:SHOWN])
            more = f" and {len(near) - SHOWN:,} more" if len(near) > SHOWN else ""
            parts.append(f"turned away: {listed}{more}")
        return "; ".join([*parts, *([advice] if advice else [])])


def closeness(name: str, wanted: str) -> float:
    """How alike two names are, from 0 to 1."""
    return difflib.SequenceMatcher(None, name.lower(), wanted.lower()).ratio()


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The one of `names` that is most like `name`, None where none is much like it."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.75)
    return close[0] if close else None


def contents(folder: Path) -> str:
    """The first names in a folder: "photos/, notes.txt", "nothing"."""
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    return ", ".join([*names[:8], *(["..."] if names[8:] else [])]) or "nothing"


def works(trial: Callable[..., object], *args: Any, **kwargs: Any) -> bool:
    """Whether what an advice proposes works: `trial(...)` is done, and its error, if any, is the answer no."""
    try:
        trial(*args, **kwargs)
    except (ValueError, OSError):
        return False
    return True
