"""One run as its files tell it: the table, what was recorded, and what follows from both.

A run is `<stem>.csv`, with `<stem>.json` and `<stem>.npz` once it is finished. CSVs that predate this kit (the same
columns, no JSON, no NPZ) are runs too: everything that a CSV alone can show is read, and `Run.missing` lists the rest.
"""

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deeplab_lib.common.text import listing
from deeplab_lib.labels import NUM_CLASSES
from deeplab_lib.recipes import RECIPES, Follows
from deeplab_lib.study.folders import sibling
from deeplab_lib.study.foreign import CLASS_VAL
from deeplab_lib.study.hand_in import read_arrays
from deeplab_lib.study.log_schedule import LogSchedule, infer_schedule, loss_changes
from deeplab_lib.study.names import loss_by_name
from deeplab_lib.training.earlier import UNSAID

# A column that this kit writes and older files lack: a CSV with it and without a JSON is a run that is not finished.
KIT_COLUMN = "trainable_parameters"
SEED = re.compile(r"_seed(\d+)(?=_|$)", re.IGNORECASE)
COARSE = re.compile(r"_split_train_extra(?=_|$)", re.IGNORECASE)


@dataclass
class Run:
    """One run: `table` has a row an epoch, `record` is its JSON or None, `notes` go into the report.

    started: what was written down when it began, or None.
    weights: what it started from, in words, where that is not what most runs of its kind did; part of the variant.
    absent: columns of `foreign.REQUIRED` that the CSV lacks; they are NaN in `table`. dataset_name: what whoever makes
    the report calls the data set of a run without a record. person: whose it is, by its folder below the one that was
    read, "" in that folder itself; named: whether its stem and labels say so, since somebody else holds the same run.
    """

    path: Path
    stem: str
    recipe: str | None
    title: str
    seed: int
    variant: str
    table: pd.DataFrame = field(repr=False)
    record: dict | None = field(default=None, repr=False)
    started: dict | None = field(default=None, repr=False)
    planned_epochs: int | None = None
    notes: list[str] = field(default_factory=list)
    weights: str = ""
    absent: list[str] = field(default_factory=list)
    dataset_name: str | None = None
    person: str = ""
    named: bool = False

    @property
    def recorded(self) -> dict[str, Any]:
        """Its record, `{}` when there is none."""
        return self.record or {}

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration, `{}` when it was not recorded."""
        return (self.record or self.started or {}).get("config", {})

    @property
    def follows(self) -> Follows:
        """The version of the study that was followed; the logs' for a CSV alone, which is a log."""
        return (UNSAID | self.config)["follows"] if self.config else "logs"

    @property
    def legacy(self) -> bool:
        """True for a CSV that predates this kit."""
        return self.record is None and KIT_COLUMN not in self.table

    @property
    def finished(self) -> bool:
        """True when the run reached its last epoch; a CSV that predates the kit is taken as finished."""
        return self.legacy or bool(self.record and self.record.get("finished"))

    @property
    def epoch(self) -> int:
        """The last epoch in the CSV, 0 when there is none."""
        return int(self.table["epoch"].iloc[-1]) if len(self.table) else 0

    @property
    def epochs(self) -> int | None:
        """The epochs planned; for an old CSV those it holds; None when nothing says."""
        return self.config.get("epochs") or (self.epoch if self.legacy else self.planned_epochs)

    @property
    def dataset(self) -> dict[str, Any]:
        """`{"name", "synthetic", "fingerprint", ...}`; where it was not recorded the name it was given, or `{}`."""
        given = {"name": self.dataset_name} if self.dataset_name else {}
        return (self.record or self.started or {}).get("dataset", given)

    @property
    def loss(self) -> str | None:
        """The expression of its loss: as recorded, else by its name; None when neither says."""
        recorded = (self.record or self.started or {}).get("loss")
        return recorded or (RECIPES[self.recipe].loss if self.recipe else loss_by_name(self.stem))

    @cached_property
    def log(self) -> LogSchedule:
        """The schedule that its column of rates shows."""
        return infer_schedule(self.table)

    @property
    def initial_lr(self) -> float | None:
        """The rate it began with: as recorded, for a CSV alone as its rates show; None when they do not."""
        return self.config.get("lr", self.log.initial_lr if self.legacy else None)

    @cached_property
    def loss_starts(self) -> list[int]:
        """The epochs from which on it was trained with another loss: by its weights, for a CSV alone by its curves."""
        weights = self.table[[column for column in self.table if column.startswith("weight_")]]
        if len(weights.columns):
            return [int(epoch) for epoch in self.table["epoch"][(weights.diff().abs() > 0).any(axis=1)]]
        return [change.epoch for change in loss_changes(self.table)] if self.legacy else []

    def last_logged(self, *columns: str) -> float:
        """The last finite value of the first of `columns` that has one, NaN when none has."""
        finite = [self.table[column].dropna() for column in columns if column in self.table]
        return next((float(values.iloc[-1]) for values in finite if len(values)), float("nan"))

    @property
    def stage(self) -> bool:
        """Whether it was trained on coarse labels: the first stage of another run, with which nothing is compared."""
        return bool(COARSE.search(self.stem))

    @property
    def method(self) -> str:
        """What is compared: the stem without its seed, and other weights. Runs of one method are replicates."""
        return " ".join(filter(None, [SEED.sub("", self.stem), self.weights]))

    @property
    def found_weights(self) -> str | None:
        """SHA-256 of what it started from, or "from scratch"; None for its own first stage's, or not recorded."""
        return self.recorded.get("identity", {}).get("weights") if "first_stage" not in self.recorded else None

    @property
    def label(self) -> str:
        """The name under which figures show the run: its method's, and its seed when that is not 0."""
        return f"{self.method_label}, seed {self.seed}" if self.seed else self.method_label

    @property
    def method_label(self) -> str:
        """The name under which figures show the run's method: title, and what makes it differ from its recipe."""
        variant = COARSE.sub("", f"_{self.variant}").strip("_")
        if variant.removeprefix("schedule_") in RECIPES:
            variant = f"schedule of {RECIPES[variant.removeprefix('schedule_')].title}"
        label = ", ".join(filter(None, [self.title, variant, "coarse labels" * self.stage]))
        return f"{label} ({self.person})" if self.named else label

    @cached_property
    def final_train_mIoU(self) -> float:
        return self.final("train_mIoU")

    @cached_property
    def final_val_mIoU(self) -> float:
        """The headline, in percent: the last epoch's validation mIoU."""
        return self.final("val_mIoU")

    def final(self, column: str) -> float:
        """The last finite value, NaN without one; a `<column>_final` column, when present and finite anywhere, wins."""
        for name in (f"{column}_final", column):
            finite = self.table[name].dropna() if name in self.table else None
            if finite is not None and len(finite):
                return float(finite.iloc[-1])
        return float("nan")

    @cached_property
    def final_class_val(self) -> np.ndarray:
        """Validation IoU of the 19 classes in percent `(19,)`, from the last epoch that has any; NaN where absent."""
        rows = self.table[CLASS_VAL].dropna(how="all")
        return rows.iloc[-1].to_numpy(float) if len(rows) else np.full(NUM_CLASSES, np.nan)

    @property
    def best(self) -> tuple[int | None, float]:
        """`(epoch, val_mIoU)` of the epoch with the highest validation mIoU, on the images of every epoch.

        `(None, nan)` when there is none, or when the headline is measured otherwise than the epochs' values and nothing
        says how.
        """
        values = self.table["val_mIoU"].dropna()
        if values.empty or not (self.curve_images or np.isclose(values.iloc[-1], self.final_val_mIoU)):
            return None, float("nan")
        return int(self.table["epoch"].loc[values.idxmax()]), float(values.max())

    @property
    def curve_images(self) -> tuple[int, int] | None:
        """`(120, 400)`: curves are of the first 120 of 400 validation images; None where every epoch evaluates all."""
        part, whole = self.dataset.get("val_each_epoch"), self.dataset.get("val")
        return (part, whole) if part and whole and part != whole else None

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays of `<stem>.npz` (names, confusion, boundary_f, predictions, ...), `{}` when there is none."""
        path = sibling(self.path, ".npz")
        return read_arrays(path) if path else {}

    @property
    def missing(self) -> list[str]:
        """What this run's files cannot tell, as a list of phrases."""
        lacks = []
        if self.record is None:
            lacks.append("configuration, dataset, versions, device and parameters (no JSON)")
        if not self.arrays:
            lacks.append("intervals, confusion matrices, boundary F-score and predictions (no NPZ)")
        if "val_ce" not in self.table:
            lacks.append("validation cross-entropy, which compares across losses (no val_ce column)")
        classes = [
            f"class_0_{split} to class_18_{split}" for split in ("train", "val") if f"class_0_{split}" in self.absent
        ]
        if absent := [column for column in self.absent if not column.startswith("class_")] + classes:
            lacks.append(f"the column{'s' * (len(absent) > 1)} {listing(absent)}")
        return lacks
