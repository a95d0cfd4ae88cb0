"""Packs the kit to hand out to students: `make lessons` runs this file, which needs Python and git alone.

What is packed is the working tree, uncommitted changes too, without the solutions' notebooks and the tests that hold
half of them; an answer that stands in a lesson's exercise is left out. The checks must know the answers: `exercises.py`
goes along, so this is for learning, not for examining.
"""

import ast
import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

FOLDER = "deeplab-losses/"
LEFT_OUT = ("notebooks/solutions", "tests/lessons/test_lessons.py")
LESSON = re.compile(r"notebooks/0\d_\w+\.ipynb")
CHECK = re.compile(r"^exercises\.(check_\w+)\(", re.MULTILINE)
BLANK = "    # your code\n    ..."


def unanswered(source: str) -> str:
    """The source of an exercise's cell without what somebody has answered; a cell that is none stays as it is.

    Kept are the first lines of its `my_...` functions and the calls of their checks. SyntaxError where it is no Python.
    """
    if not CHECK.search(source):
        return source
    functions, calls = [], []
    for node in ast.parse(source).body:
        text = ast.get_source_segment(source, node) or ""
        if isinstance(node, ast.FunctionDef) and node.name.startswith("my_"):
            functions.append(f"def {node.name}({ast.unparse(node.args)}):\n{BLANK}")
        elif CHECK.match(text):
            calls.append(text)
    return "\n\n\n".join([*functions, "\n".join(calls)])


def clean(name: str, content: bytes) -> tuple[bytes, list[str]]:
    """`(notebook, checks)`: a lesson's notebook without answers, and the checks of those that were left out."""
    try:
        notebook = json.loads(content)
        cells = notebook["cells"]
    except (ValueError, KeyError, TypeError):
        return content, []  # no notebook, so nothing that is a cell
    found = []
    for cell in cells:
        source = "".join(cell.get("source", ""))
        check = CHECK.search(source)
        if cell.get("cell_type") != "code" or not check:
            continue
        try:
            blank = unanswered(source)
        except SyntaxError:
            sys.exit(f"{name}: the exercise of {check[1]} is no Python as it stands: {source!r}")
        if blank != source:
            found.append(check[1])
            cell["source"] = blank.splitlines(keepends=True)
        cell["outputs"], cell["execution_count"] = [], None
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    return text.encode() if found else content, found


def pack(root: Path, out: Path) -> list[str]:
    """Write the archive `out` of the kit at `root`; returns a line for each answer that was left out."""
    git = ["git", "-C", str(root)]
    changed = subprocess.run([*git, "stash", "create"], capture_output=True, text=True, check=True).stdout.strip()
    command = [*git, "archive", "--format=zip", f"--prefix={FOLDER}", changed or "HEAD", "."]
    archive = subprocess.run(
        [*command, *(f":(exclude){path}" for path in LEFT_OUT)], capture_output=True, check=True
    ).stdout
    lines = []
    out.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(io.BytesIO(archive)) as whole, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in whole.infolist():
            name, content = entry.filename.removeprefix(FOLDER), whole.read(entry)
            if LESSON.fullmatch(name):
                content, answers = clean(name, content)
                lines += [f"{name}: the answer to {answer} is left out" for answer in answers]
            packed.writestr(entry, content)
    return lines


if __name__ == "__main__":
    target = Path("build") / "lessons.zip"
    print(*pack(Path(__file__).parents[2], target), target, sep="\n")
