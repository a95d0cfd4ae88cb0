"""Tables of runs as other tools write them, read as this kit's own.

Known are this kit's CSVs and older ones of the same columns, run tables and histories exported from Weights & Biases,
Lightning's `metrics.csv`, and what a spreadsheet makes of any of them. `Table.notes` says what was done to a file; what
is no run's table at all is a `NoRunTable`.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deeplab_lib.common.text import listing
from deeplab_lib.labels import NUM_CLASSES

CLASS_TRAIN = [f"class_{c}_train" for c in range(NUM_CLASSES)]
CLASS_VAL = [f"class_{c}_val" for c in range(NUM_CLASSES)]
LOSSES = ["train_loss", "val_loss"]
MEANS = ["train_mIoU", "val_mIoU"]
PERCENTAGES = [*MEANS, *CLASS_TRAIN, *CLASS_VAL]
FINALS = [f"{column}_final" for column in [*MEANS, *LOSSES]]
REQUIRED = ["epoch", "lr", *LOSSES, *PERCENTAGES, "Runtime"]
LISTS = ["train_mIoU_per_class", "val_mIoU_per_class"]
# Columns that only this kit writes: their percentages are percentages, however small.
KIT_COLUMNS = ["trainable_parameters", "val_ce", "images_per_s", "peak_memory_MB"]
TIMES = ["Created", "_timestamp", "_step"]
STEPS = ["_step", "step", "trainer/global_step", "global_step"]
KNOWN = {name.lower(): name for name in [*REQUIRED, *FINALS, *LISTS, *TIMES]}
EMPTY = ["", "nan", "none", "null", "na", "n/a", "-"]
MAX_BYTES, MAX_ROWS, MAX_EPOCH = 64_000_000, 200_000, 1_000_000


class ResultsError(ValueError):
    """A run's file that cannot be used, in one line: which file, where in it, what to do."""


class NoRunTable(ResultsError):
    """A CSV that holds something else than the epochs of one run, in one line: which file, what it lacks."""


@dataclass
class Table:
    """The epochs of one run.

    frame: a row an epoch, in order, each once. First `REQUIRED` (`epoch` int, percentages 0-100, NaN where the file has
    nothing), then every other column of numbers under its own name (`val_latency`, `val_params`, ...) and `Created`
    (UTC), where the file has them. notes: what was done to the file, a phrase each. absent: columns of `REQUIRED` that
    the file has in no form.
    """

    path: Path
    frame: pd.DataFrame
    notes: list[str]
    absent: list[str]


def read_table(path: Path | str) -> Table:
    """Read one run's CSV, whichever tool wrote it.

    Needed are `epoch` and one of `val_mIoU` and `val_loss`. Raises NoRunTable for a file that cannot be a run's table,
    ResultsError naming column and row (as an editor counts) for a wrong value in one that is.
    """
    path = Path(path)
    notes: list[str] = []
    header, rows, lines = _read_cells(path, notes)
    sources = _sources(path, header)
    rows = _full_rows(path, header, rows, lines)
    values = _numbers(path, header, rows, lines, sources, notes)
    values = _scaled(path, values, sources, lines, notes)
    values = _with_epochs(path, values.assign(line=lines), sources, notes)
    frame = _one_row_an_epoch(path, values, sources, notes)
    frame = _under_our_names(frame, sources, notes)
    absent = [column for column in REQUIRED if column not in frame]
    more = [column for column in frame if column not in REQUIRED]
    return Table(path, frame.reindex(columns=[*REQUIRED, *more]), notes, absent)


# --- cells -----------------------------------------------------------------------------------------------------------


def _read_cells(path: Path, notes: list[str]) -> tuple[list[str], list[list[str]], list[int]]:
    """`(header, rows, line of each row)` as text; blank lines are skipped."""
    text, skipped = _decode(path, notes), 0
    separator = _separator(text)
    if declared := re.match(r'"?sep=(.)"?\r?\n', text):  # a first line that Excel writes and understands
        text, separator, skipped = text[declared.end() :], declared[1], 1
    reader, found = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True), []
    try:
        for row in reader:
            if row:
                found.append(([cell.strip() for cell in row], reader.line_num + skipped))
            if len(found) > MAX_ROWS:
                raise NoRunTable(f"{path}: more than {MAX_ROWS:,} rows; a run's table has one an epoch")
    except csv.Error as error:
        raise NoRunTable(f"{path}: not a comma-separated table ({error}); repair it") from None
    if not found:
        raise NoRunTable(f"{path}: the file is empty; remove it or train the run again")
    if separator != ",":
        notes.append(f"columns separated by {'tabs' if separator == chr(9) else 'semicolons'}")
    (header, _), *found = found
    rows = _with_points([row for row, _ in found], separator, notes)
    return header, rows, [line for _, line in found]


def _decode(path: Path, notes: list[str]) -> str:
    """The file's text. UTF-8 with or without a byte-order mark, UTF-16, else the encoding of Western Windows."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise NoRunTable(f"{path}: {size / 1e6:,.0f} MB; a run's table has one row an epoch and needs a few kilobytes")
    content = path.read_bytes()
    marked = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    for encoding in ("utf-16" if marked else "utf-8-sig", "cp1252"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if not re.search(r"[\x00-\x08\x0e-\x1f]", text):
            if encoding != "utf-8-sig":
                notes.append(f"text in {encoding.upper()}")
            return text
    raise NoRunTable(f"{path}: not a comma-separated table in UTF-8; repair it")


def _separator(text: str) -> str:
    """The separator that cuts the header into most columns; a comma when none cuts it."""
    header = found[0] if (found := re.search(r"[^\r\n]{1,100000}", text)) else ""
    return max(",;\t", key=lambda separator: len(next(csv.reader([header], delimiter=separator), [])))


def _full_rows(path: Path, header: list[str], rows: list[list[str]], lines: list[int]) -> list[list[str]]:
    """The rows with empty cells where they were cut short; raises ResultsError for one that is too long."""
    for row, line in zip(rows, lines, strict=True):
        if any(row[len(header) :]):
            raise ResultsError(
                f"{path}: row {line}: {len(row)} values for {len(header)} columns; is a comma used as decimal point?"
            )
    return [(row + [""] * len(header))[: len(header)] for row in rows]


def _with_points(rows: list[list[str]], separator: str, notes: list[str]) -> list[list[str]]:
    """The cells with decimal commas as points: where commas separate nothing, or no number in the file has a point."""
    comma = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")
    cells = [cell for row in rows for cell in row]
    pointed = any(re.fullmatch(r"[+-]?\d*\.\d+([eE][+-]?\d+)?", cell) for cell in cells)
    if (separator == "," and pointed) or not any(comma.fullmatch(cell) for cell in cells):
        return rows
    notes.append("decimal commas")
    return [[cell.replace(",", ".") if comma.fullmatch(cell) else cell for cell in row] for row in rows]


# --- names -----------------------------------------------------------------------------------------------------------


def canonical(name: str) -> str | None:
    """Our name of a column: `val/mIoU`, `val_mIoU_epoch`, `Val_miou` and `my run - val_mIoU` are `val_mIoU`; else None.

    The lists `val_mIoU_per_class` and `train_mIoU_per_class` are names of ours as well.
    """
    plain = name.rpartition(" - ")[2].lower().removesuffix("_epoch")
    if re.fullmatch(r"lr-[a-z]+(/pg1)?", plain):  # Lightning's LearningRateMonitor
        return "lr"
    split, _, rest = plain.rpartition("/")
    forms = [plain]
    if split in ("train", "val"):
        forms = [rest, f"{split}_{rest}", f"{rest}_{split}"]
    return next((KNOWN[form] for form in forms if form in KNOWN), None)


def _sources(path: Path, header: list[str]) -> dict[str, list[str]]:
    """`{our name: [columns of the file that hold it, best first]}`; raises NoRunTable where a needed one is missing."""
    sources: dict[str, list[str]] = {}
    for column in header:
        if (name := canonical(column)) is not None:
            sources.setdefault(name, []).append(column)
    ours = [column for columns in sources.values() for column in columns]
    if twice := next((column for column in ours if header.count(column) > 1), None):
        raise ResultsError(f"{path}: row 1: column {twice} stands twice; remove one")
    runs = list(dict.fromkeys(column.rpartition(" - ")[0] for column in ours if " - " in column))
    if len(runs) > 1:
        raise NoRunTable(
            f"{path}: it holds curves of {len(runs)} runs ({runs[0]}, {runs[1]}, ...); export one run a file"
        )
    lacks = [] if "epoch" in sources else ["epoch"]
    lacks += (
        [] if {"val_mIoU", "val_loss", "val_mIoU_final", "val_loss_final"} & set(sources) else ["val_mIoU or val_loss"]
    )
    if lacks:
        shown = ", ".join(filter(None, header))[:80] or "none"
        raise NoRunTable(
            f"{path}: row 1: column {' and '.join(lacks)} is missing; is this a run's table? Its columns: {shown}"
        )
    return {name: sorted(columns, key=lambda column: column != name) for name, columns in sources.items()}


# --- numbers ---------------------------------------------------------------------------------------------------------


def _numbers(
    path: Path,
    header: list[str],
    rows: list[list[str]],
    lines: list[int],
    sources: dict[str, list[str]],
    notes: list[str],
) -> pd.DataFrame:
    """The cells as numbers, under the file's names; lists as columns `list/class_<c>_<split>`, words left out."""
    ours = {column: name for name, columns in sources.items() for column in columns}
    table: dict[str, Any] = {}
    for position, column in enumerate(header):
        cells, name = [row[position] for row in rows], ours.get(column)
        if column == "Name":
            table[column] = cells
        elif name == "Created":
            table[column] = pd.to_datetime(pd.Series(cells, dtype=object), errors="coerce", utc=True, format="ISO8601")
        elif name in LISTS:
            table |= _lists(column, cells, sources, name, notes)
        elif column:
            numbers = [_number(cell) for cell in cells]
            words = [row for row, number in enumerate(numbers) if number is None]
            if words and name is not None and name not in TIMES:
                where = f"column {column}, row {lines[words[0]]}: {cells[words[0]]!r}"
                raise ResultsError(f"{path}: {where} is not a number; correct it")
            if (
                name is not None
                or not rows
                or not (words or all(number is None or np.isnan(number) for number in numbers))
            ):
                table[column] = np.array([np.nan if number is None else number for number in numbers], dtype=float)
    return pd.DataFrame(table, index=range(len(rows)))


def _number(cell: str) -> float | None:
    """The number in a cell, NaN for none, None for a word."""
    if cell.lower() in EMPTY:
        return np.nan
    try:
        return float(cell) if "_" not in cell else None
    except ValueError:
        return None


def _lists(
    column: str, cells: list[str], sources: dict[str, list[str]], name: str, notes: list[str]
) -> dict[str, np.ndarray]:
    """The columns of a column of lists `[72.9, 42.6, ...]`, 19 values each in the classes' order."""
    split = name.partition("_")[0]
    values = np.full((len(cells), NUM_CLASSES), np.nan)
    for row, cell in enumerate(cells):
        parts = re.split(r"[,;\s]+", re.sub(r"^\W*array|[()\[\]]", "", cell).strip(" ,;"))
        numbers = [_number(part) for part in parts]
        if len(numbers) == NUM_CLASSES and None not in numbers:
            values[row] = numbers
        elif cell.lower() not in EMPTY:
            notes.append(f"{column} is left out: not every cell is a list of {NUM_CLASSES} numbers")
            return {}
    names = [f"class_{c}_{split}" for c in range(NUM_CLASSES)]
    for ours in names:
        sources.setdefault(ours, []).append(f"list/{ours}")
    return {f"list/{ours}": values[:, c] for c, ours in enumerate(names)}


def _scaled(
    path: Path, values: pd.DataFrame, sources: dict[str, list[str]], lines: list[int], notes: list[str]
) -> pd.DataFrame:
    """The numbers with shares of 1 as percentages; raises ResultsError for what is no percentage from 0 to 100."""
    names = [*PERCENTAGES, "train_mIoU_final", "val_mIoU_final"]
    columns = [column for name in names for column in sources.get(name, ())]
    if columns and 0 < values[columns].max(axis=None) <= 1 and not set(KIT_COLUMNS) & set(values):
        values[columns] *= 100
        notes.append("mIoU and IoU are shares of 1, multiplied by 100")
    for row, place in np.argwhere(((values[columns] < 0) | (values[columns] > 100 + 1e-6)).to_numpy())[:1]:
        where = f"column {columns[place].removeprefix('list/')}, row {lines[row]}: {values[columns[place]].iloc[row]:g}"
        raise ResultsError(f"{path}: {where} is no percentage from 0 to 100")
    return values


# --- epochs ----------------------------------------------------------------------------------------------------------


def _with_epochs(path: Path, values: pd.DataFrame, sources: dict[str, list[str]], notes: list[str]) -> pd.DataFrame:
    """The rows that say something, each with its epoch, counted from 1."""
    ours = [column for name, columns in sources.items() if name not in (*TIMES, "epoch") for column in columns]
    ours = [column for column in ours if column in values and column not in LISTS]
    epoch = values[sources["epoch"]].bfill(axis=1).iloc[:, 0]
    values = values.drop(columns=sources["epoch"]).assign(epoch=epoch)
    values = values[values[ours].notna().any(axis=1)]
    values = _epochs_by_step(values)
    epochs = values["epoch"].to_numpy()
    wrong = ~((epochs >= 0) & (epochs <= MAX_EPOCH) & (epochs == np.round(epochs)))
    if wrong.any():
        row = values.iloc[int(np.flatnonzero(wrong)[0])]
        where = f"column epoch, row {row['line']:.0f}: {row['epoch']:g}"
        raise NoRunTable(f"{path}: {where}; epochs are 1, 2, ..., whole numbers")
    values["epoch"] = values["epoch"].astype(int)
    if len(values) and values["epoch"].min() == 0:
        values = _counted_from_one(values, sources, notes)
    return values


def _epochs_by_step(values: pd.DataFrame) -> pd.DataFrame:
    """Rows that name a step and no epoch get that of the next row in steps that names one; others stay as they are."""
    step = next((column for column in STEPS if column in values), None)
    lacking = values["epoch"].isna()
    if step is None or not lacking.any():
        return values
    known = values[~lacking & values[step].notna()].sort_values(step, kind="stable")
    place = np.searchsorted(known[step].to_numpy(), values.loc[lacking, step].to_numpy(), side="left")
    found = np.append(known["epoch"].to_numpy(), np.nan)[np.minimum(place, len(known))]
    values.loc[lacking, "epoch"] = found
    return values[~(lacking & values["epoch"].isna() & values[step].notna())].copy()


def _counted_from_one(values: pd.DataFrame, sources: dict[str, list[str]], notes: list[str]) -> pd.DataFrame:
    """Epochs 0, 1, ... as 1, 2, ...; a row 0 without training, where the others have it, was before the first epoch."""
    training = [column for name in ("train_loss", "train_mIoU") for column in sources.get(name, ())]
    trained = values[training].notna().any(axis=1).groupby(values["epoch"]).any()
    if training and not trained[0] and trained[trained.index > 0].all() and len(trained) > 1:
        notes.append("epoch 0, which was evaluated before training, is left out")
        return values[values["epoch"] > 0].copy()
    notes.append("epochs counted from 0")
    return values.assign(epoch=values["epoch"] + 1)


def _one_row_an_epoch(
    path: Path, values: pd.DataFrame, sources: dict[str, list[str]], notes: list[str]
) -> pd.DataFrame:
    """The rows of each epoch joined, epochs in order; where two rows disagree, the later counts."""
    _refuse_many_runs(path, values)
    if _newest_first(values["epoch"].to_numpy()):
        values = values.iloc[::-1]
        notes.append("rows newest first, put in order")
    by = next((name for name in TIMES if name in sources and values[sources[name][0]].notna().all()), None)
    if by is not None:
        values = values.sort_values(sources[by][0], kind="stable")
    columns = [column for name in (*LOSSES, *PERCENTAGES) for column in sources.get(name, ())]
    groups = values.groupby("epoch")
    several = groups[columns].max() > groups[columns].min()
    if several.any(axis=None):
        found = list(several.columns[several.any()])
        which = listing(found) if len(found) < 4 else f"{len(found)} columns"
        how = f"by {by}" if by else "by the order of the rows"
        notes.append(
            f"several values of {which} in {ranges(several.index[several.any(axis=1)])}: the later counts, {how}"
        )
    frame = groups.last().reset_index().drop(columns=["line", "Name"], errors="ignore")
    if gaps := sorted(set(range(1, frame["epoch"].max() + 1)) - set(frame["epoch"]) if len(frame) else ()):
        notes.append(f"no row for {ranges(gaps)}")
    return frame


def _refuse_many_runs(path: Path, values: pd.DataFrame) -> None:
    """Raise NoRunTable for a list of runs, one a row, as Weights & Biases exports it of a project."""
    shared = values["epoch"].duplicated(keep=False)
    if "Name" in values and shared.sum() > len(values) / 2 and values["Name"].nunique() == len(values):
        names = listing(values["Name"].iloc[:2])
        raise NoRunTable(f"{path}: its rows are runs ({names}, ...), not epochs of one; export the history of a run")


def _newest_first(epochs: np.ndarray) -> bool:
    """Whether the epochs fall more often than they rise from row to row."""
    return bool((np.diff(epochs) < 0).sum() > (np.diff(epochs) > 0).sum())


def ranges(epochs: Iterable[int]) -> str:
    """Epochs in words, e.g. "epoch 4" or "epochs 1 to 3 and 7"."""
    epochs = {int(epoch) for epoch in epochs}
    starts = sorted(epoch for epoch in epochs if epoch - 1 not in epochs)
    ends = sorted(epoch for epoch in epochs if epoch + 1 not in epochs)
    joint = {0: "", 1: " and "}
    parts = [f"{a}" if a == b else f"{a}{joint.get(b - a, ' to ')}{b}" for a, b in zip(starts, ends, strict=True)]
    parts = [*parts[:5], f"{len(parts) - 5} more stretches"] if len(parts) > 6 else parts
    return f"epoch{'s' * (len(epochs) > 1)} {listing(parts)}"


# --- our names -------------------------------------------------------------------------------------------------------


def _under_our_names(frame: pd.DataFrame, sources: dict[str, list[str]], notes: list[str]) -> pd.DataFrame:
    """The columns under our names: each filled from its further columns where it is empty, by `*_final` last of all."""
    table: dict[str, pd.Series] = {"epoch": frame["epoch"]}
    filled: dict[str, dict[str, pd.Series]] = {}
    for name in KNOWN.values():
        columns = [*sources.get(name, ()), *sources.get(f"{name}_final", ())]
        if name in ("epoch", *LISTS) or not columns:
            continue
        table[name] = frame[columns[0]]
        for column in columns[1:]:
            new = table[name].isna() & frame[column].notna()
            table[name] = table[name].mask(new, frame[column])
            filled.setdefault(_origin(column), {})[name] = frame["epoch"][new]
        if columns[0].startswith("list/"):
            filled.setdefault(_origin(columns[0]), {})[name] = frame["epoch"][table[name].notna()]
    notes += [note for origin, parts in filled.items() if (note := _filled_note(origin, parts))]
    taken = {column for columns in sources.values() for column in columns}
    renamed = [column for name in table for column in sources.get(name, ())[:1] if not column.startswith("list/")]
    renamed = [column for column in renamed if column not in table]
    if renamed:
        more = f" and {len(renamed) - 3} more" if len(renamed) > 3 else ""
        notes.append(f"under our names: {', '.join(renamed[:3])}{more}")
    return pd.DataFrame(table | {column: frame[column] for column in frame if column not in taken | {"epoch"}})


def _origin(column: str) -> str:
    """Where a value came from that the plain column lacks, in words; "" for another spelling of its name."""
    if column.startswith("list/"):
        return f"{column.rpartition('_')[2]}_mIoU_per_class"
    return "*_final" if canonical(column) in FINALS else ""


def _filled_note(origin: str, parts: Mapping[str, pd.Series]) -> str:
    """A note on values that stood in another column; "" where none did, or only under another spelling."""
    parts = {name: epochs for name, epochs in parts.items() if len(epochs)}
    epochs = {epoch for values in parts.values() for epoch in values}
    if not origin or not epochs:
        return ""
    what = "class values" if origin in LISTS else listing(parts)
    return f"{what} of {ranges(epochs)} from {origin}"
