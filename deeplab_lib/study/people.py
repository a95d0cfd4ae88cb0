"""Whose runs are whose, and which files are one run: by their records and contents, not by the names of files.

The rule for runs of several people: as long as no two of them hold the same run (recipe, parameters and seed), all are
one study, as of a team that shared the work. Where two hold the same run, every run says whose it is, and runs of two
people are never seeds of one configuration: equal seeds repeat a training and do not vary it.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from deeplab_lib.common.markup import as_plain, as_text
from deeplab_lib.study.run import Run

COPY_MARK = re.compile(r"(?i)[ _-]*(\(\d+\)|-? ?(cop(y|ie|ia)|kopie|conflict\w*)[ _()\d]*|conflicted copy.*)$")
PLACES = ("runs", "deeplab-losses")  # folders of the kit, whose names say nothing of whose runs they hold


def run_name(file_stem: str, recorded: object) -> tuple[str, str]:
    """`(name of the run, what the file's name adds)`: as recorded, without a record the file's without a copy's mark.

    `("DeepLabV2_ce", "anna")` for the file `anna_DeepLabV2_ce` whose record says `DeepLabV2_ce`.
    """
    if isinstance(recorded, str) and recorded.strip():
        recorded = as_plain(recorded)
        rest = COPY_MARK.sub("", file_stem)
        place = rest.lower().find(recorded.lower())
        added = rest[:place] + " " + rest[place + len(recorded) :] if place >= 0 else rest
        return recorded, re.sub(r"^[\W_]+|[\W_]+$", "", added)
    return COPY_MARK.sub("", file_stem) or file_stem, ""


def whose(folder: Path, root: Path, dataset: str) -> str:
    """Whose runs lie in `folder`: its path below `root` without the kit's own folders and the data set's.

    Folders of other data sets are other people's only where they are called otherwise than their data.
    """
    parts = [part for part in folder.relative_to(root).parts if part.lower() not in PLACES]
    if parts and dataset and parts[-1].lower() == dataset.lower():
        parts.pop()
    return "/".join(parts)


def sort_out(runs: Sequence[Run], root: Path) -> tuple[list[Run], list[str]]:
    """`(runs, left_out)`: each run once, with whose it is; a line for each copy, and for files that claim one run.

    Raises ValueError where files of the folder `root` itself claim one run: it is the reader's own to settle.
    """
    runs, copies = _without_copies([_with_person(run, root) for run in runs], root)
    runs, claims = _without_claims(runs, root)
    return _told_apart(_short(runs)), copies + claims


def _with_person(run: Run, root: Path) -> Run:
    person = whose(run.path.parent, root, plain_dataset(run))
    added = run_name(run.path.stem, (run.record or run.started or {}).get("stem"))[1]
    return replace(run, person=as_text("/".join(filter(None, [person, added]))))


def plain_dataset(run: Run) -> str:
    """The name of the folder in which the kit puts runs on the run's data, "" where it is not recorded."""
    data = run.config.get("data")
    return Path(as_plain(str(data))).name if data else as_plain(run.dataset.get("name") or "")


def table_name(run: Run, root: Path) -> str:
    """The run's CSV as a path below `root`, as text."""
    return as_text(run.path.relative_to(root).as_posix())


def _without_copies(runs: Sequence[Run], root: Path) -> tuple[list[Run], list[str]]:
    """The runs but those whose table is, value by value, that of another; the one that is named as recorded stays."""
    kept: dict[Path | str, Run] = {}
    lines = []
    for run in sorted(runs, key=_standing):
        first = kept.setdefault(_content(run), run)
        if first is not run:
            differ = "" if run.record == first.record or not (run.record and first.record) else "; their JSONs differ"
            this, other = table_name(run, root), table_name(first, root)
            if run.path.parent == first.path.parent:
                lines.append(f"{this} is a copy: it holds the values of {other}{differ}")
            else:
                lines.append(f"{this} holds the values of {other}{differ}: one is a copy, and only {other} is shown")
    staying = {id(run) for run in kept.values()}
    return [run for run in runs if id(run) in staying], lines


def _standing(run: Run) -> tuple[bool, bool, bool, bool, int, str]:
    """What makes one of two equal runs the original: its record, its name and folder as recorded, its place."""
    trained_here = Path(as_plain(str(run.config.get("out_dir")))).name == run.path.parent.name
    name = not _as_recorded(run), not trained_here, len(run.path.parts), str(run.path)
    return not run.record, not run.finished, *name


def _as_recorded(run: Run) -> bool:
    return plain_stem(run.path.stem) == plain_stem(as_plain(run.stem))


def _content(run: Run) -> Path | str:
    """A digest of a run's table, with its times: no two trainings take equal ones. Without a row it equals none."""
    if not len(run.table):
        return run.path
    values = run.table.select_dtypes("number").to_numpy(float)
    return hashlib.sha256(np.ascontiguousarray(values).tobytes() + str(list(run.table)).encode()).hexdigest()


def _without_claims(runs: Sequence[Run], root: Path) -> tuple[list[Run], list[str]]:
    """The runs but those of one person that claim to be one run and differ, unless one alone is named as recorded.

    A table without a record does not say on what data it was made: it claims the run that has its name.
    """
    groups: dict[tuple[str, ...], list[Run]] = {}
    kept: list[Run] = []
    lines = []
    recorded = {(run.person, plain_stem(run.stem)): data for run in runs if (data := plain_dataset(run))}
    for run in runs:
        name = run.person, plain_stem(run.stem)
        groups.setdefault((*name, plain_dataset(run) or recorded.get(name, "")), []).append(run)
    for group in groups.values():
        named = [run for run in group if _as_recorded(run)]
        if len(group) > 1:
            files = " and ".join(table_name(run, root) for run in group)
            if len(named) != 1 and any(run.path.parent == root for run in group):
                raise ValueError(f"{files} are the same run; move one away")
            which = f"only {table_name(named[0], root)} is used" if len(named) == 1 else "none is used"
            lines.append(f"{files} claim to be one run and differ: {which}")
        kept += group if len(group) == 1 else named if len(named) == 1 else []
    return kept, lines


def plain_stem(stem: str) -> str:
    """A stem without regard to case and to the two misspellings of the original names."""
    return stem.lower().replace("warnup", "warmup").replace("deeplabv2_cv07", "deeplabv2_ce07")


def _short(runs: list[Run]) -> list[Run]:
    """The runs with people called by the first folder alone where that tells them apart."""
    people = {run.person for run in runs}
    first = {person: person.partition("/")[0] for person in people}
    return [replace(run, person=first[run.person]) for run in runs] if len({*first.values()}) == len(people) else runs


def _told_apart(runs: list[Run]) -> list[Run]:
    """The runs, named with whose they are if two people hold the same one."""
    holders: dict[str, set[str]] = {}
    for run in runs:
        holders.setdefault(plain_stem(run.stem), set()).add(run.person)
    if all(len(people) == 1 for people in holders.values()):
        return runs
    return [replace(run, named=True, stem=f"{run.person}/{run.stem}") if run.person else run for run in runs]


def people(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """`{person: [runs]}` in the order of `runs`; the reader's own under ""."""
    groups: dict = {}
    for run in runs:
        groups.setdefault(run.person, []).append(run)
    return groups
