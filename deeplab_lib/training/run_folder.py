"""The files of a run: their names, and what is written into them."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplab_lib.common.files import read_json, remove, write_json, write_npz
from deeplab_lib.training import checkpoint, record

if TYPE_CHECKING:
    from deeplab_lib.config import Config

# What a run leaves behind.
WRITTEN = (".config.json", ".json", ".csv", ".npz", ".pt", ".previous.pt", ".best.pt", ".damaged.pt")


@dataclass(frozen=True)
class RunFolder:
    """The files of the run `stem` in `folder`; `runs/README.md` says what each holds."""

    folder: Path
    stem: str

    @classmethod
    def of(cls, config: Config) -> RunFolder:
        """That of the run of `config`."""
        return cls(Path(config.out_dir), config.stem)

    def path(self, ending: str) -> Path:
        """`<folder>/<stem><ending>`; endings: those of `WRITTEN`, .lock, .softlock, .holder and .ipynb."""
        return self.folder / f"{self.stem}{ending}"

    @property
    def config(self) -> Path:
        """Its configuration, written when it starts."""
        return self.path(".config.json")

    @property
    def csv(self) -> Path:
        """A row an epoch."""
        return self.path(".csv")

    @property
    def json(self) -> Path:
        """Its summary, written last: the run is complete where it is there."""
        return self.path(".json")

    @property
    def npz(self) -> Path:
        """Results of every validation image after the last epoch."""
        return self.path(".npz")

    @property
    def checkpoint(self) -> Path:
        """What it continues from."""
        return self.path(".pt")

    @property
    def best(self) -> Path:
        """The weights of its best epoch."""
        return self.path(".best.pt")

    @property
    def summary(self) -> dict[str, Any] | None:
        """What its JSON holds; None before the run is complete."""
        return read_json(self.json)

    @property
    def last_good(self) -> str:
        """Where the last good state lies, as a clause."""
        known = self.checkpoint.exists()
        return f"the last good state is in {self.checkpoint}" if known else "nothing had been saved yet"

    def files(self) -> list[Path]:
        """What its training writes, there or not."""
        return [self.path(ending) for ending in WRITTEN]

    # -- writing -------------------------------------------------------------------------------------------------------

    def start(self, about: dict[str, Any]) -> None:
        """Write what is known when a run starts."""
        write_json(self.config, about)

    def save(self, state: dict[str, Any]) -> None:
        """Write a checkpoint; the one before is kept as `.previous.pt`."""
        checkpoint.save(self.checkpoint, state, keep=self.path(".previous.pt"))

    def save_best(self, state: dict[str, Any]) -> None:
        """Write the best weights so far."""
        checkpoint.save(self.best, state)

    def write_table(self, history: list[dict]) -> None:
        """Write the CSV, which always is the whole history."""
        if history:
            record.write_csv(self.csv, history)

    def write_images(self, content: dict[str, Any]) -> None:
        """Write the per-image results of the last epoch, for the analysis."""
        write_npz(self.npz, **content)

    def finish(self, summary: dict[str, Any]) -> None:
        """Write the summary, last and once."""
        write_json(self.json, summary)

    # -- reading -------------------------------------------------------------------------------------------------------

    def load(self) -> tuple[dict | None, list[str]]:
        """`(state, warnings)`: the checkpoint, else the previous one; `(None, warnings)` when neither is good."""
        warnings: list[str] = []
        for path in (self.checkpoint, self.path(".previous.pt")):
            if path.exists():
                try:
                    return checkpoint.load(path), warnings
                except ValueError as error:
                    warnings.append(str(error))
        return None, warnings

    def has_images(self) -> bool:
        """Whether the per-image results are there, whole."""
        try:
            with np.load(self.npz) as stored:
                return all(len(stored[name]) for name in stored.files)
        except Exception:  # a damaged archive fails in many ways
            return False

    # -- order ---------------------------------------------------------------------------------------------------------

    def move_aside(self) -> str | None:
        """Rename the run's files to `<stem>.old<N>...`; nothing is deleted. Returns the new stem, or None."""
        found = [ending for ending in WRITTEN if self.path(ending).exists()]
        number = 1
        while any(self.folder.glob(f"{self.stem}.old{number}.*")):
            number += 1
        for ending in found:
            os.replace(self.path(ending), self.folder / f"{self.stem}.old{number}{ending}")
        return f"{self.stem}.old{number}" if found else None

    def keep_damaged(self) -> None:
        """Rename a damaged checkpoint to `<stem>.damaged.pt`, so that it cannot replace the good previous one."""
        if self.checkpoint.exists():
            os.replace(self.checkpoint, self.path(".damaged.pt"))

    def sweep(self) -> None:
        """Delete the temporary files that a killed process left; only for the holder of the run's lock."""
        for ending in WRITTEN:
            for temporary in self.folder.glob(f".{glob.escape(self.stem + ending)}.*.tmp"):
                remove(temporary)
