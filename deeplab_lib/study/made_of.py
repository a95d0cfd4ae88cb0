"""What a report was made of, on record beside it: whether it is made again follows from that, and not from dates."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from deeplab_lib.common.files import file_sha256, in_project, jsonable, portable, read_json, write_json
from deeplab_lib.common.text import listing
from deeplab_lib.study.folders import csv_files, run_folders, sibling

RECORD = "made_of.json"
NAMED = 4  # files that a line names; the others are counted


def made_of(notebook: Path | str, parameters: Mapping[str, object]) -> dict:
    """`{"notebook": SHA-256, "parameters": {...}, "files": {name: SHA-256}}` of what a report is made of now.

    parameters: those of the notebook, `runs` among them; `files` are the run files that lie in that folder and in the
    sub-folders that are read, by their paths in it.
    """
    said = {name: portable(value) if isinstance(value, str) else value for name, value in parameters.items()}
    said.pop("report_dir", None)  # where it goes, not what it is made of
    folder = in_project(str(parameters.get("runs", "")))
    places, _ = run_folders(folder)
    tables = [path for place in places for path in csv_files(place)]
    paths = [*tables, *(sibling(path, suffix) for path in tables for suffix in (".json", ".npz"))]
    paths += [place / "efficiency.json" for place in places]
    files = {path.relative_to(folder).as_posix(): file_sha256(path) for path in paths if path and path.is_file()}
    return {"notebook": file_sha256(notebook), "parameters": said, "files": dict(sorted(files.items()))}


def write_record(report: Path | str, content: dict) -> None:
    """Write `made_of(...)` beside the report in the folder `report`."""
    write_json(Path(report) / RECORD, content)


def changes(report: Path | str, now: dict) -> str:
    """What differs between the record in the folder `report` and `now`, in a few words; "" when nothing does."""
    try:
        before = read_json(Path(report) / RECORD)
    except ValueError:
        before = None
    if not before or not all(isinstance(before.get(part), dict) for part in ("parameters", "files")):
        return "nothing says what it was made of"
    files, found = before["files"], now["files"]
    groups = {
        "new": [name for name in found if name not in files],
        "changed": [name for name in found if name in files and found[name] != files[name]],
        "gone": [name for name in files if name not in found],
    }
    said = [f"{word}: {_named(names)}" for word, names in groups.items() if names]
    settings, asked = before["parameters"], jsonable(now["parameters"])
    others = [name for name in {**settings, **asked} if settings.get(name) != asked.get(name)]
    others += ["the notebook"] if before.get("notebook") != now["notebook"] else []
    return "; ".join([*said, *([f"changed: {listing(others)}"] if others else [])])


def _named(files: Iterable[str]) -> str:
    """The runs that files belong to, the first few by name."""
    stems = list(dict.fromkeys(Path(name).with_suffix("").as_posix() for name in files))
    rest = len(stems) - NAMED
    return ", ".join(stems[:NAMED]) + f" and {rest} more" if rest > 0 else listing(stems)
