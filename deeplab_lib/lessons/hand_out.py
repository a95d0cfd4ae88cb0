"""Packs the kit to hand out to students: `make lessons` runs this module, which needs Python and git alone.

What is packed is the working tree, uncommitted changes too, without the solutions' notebooks and the tests that hold
half of them; an answer that stands in a lesson's exercise is left out. The checks must know the answers: `exercises.py`
goes along, so this is for learning, not for examining.
"""

import ast
import json
import re
import shlex
import sys
import tempfile
import zipfile
from pathlib import Path

from deeplab_lib.common.git import git, working_tree

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
    """Write the archive `out` of the kit at `root`; returns a line for each answer or file that was left out.

    ValueError says what git complains of, as where `root` is no clone.
    """
    unknown = filter(None, git("ls-files", "-z", "--others", "--exclude-standard", cwd=root).split("\0"))
    lines = [f"{name} is left out: git does not know it (git add {shlex.quote(name)})" for name in unknown]
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "kit.zip")
        without = (f":(exclude){path}" for path in LEFT_OUT)
        git("archive", f"--prefix={FOLDER}", f"--output={archive}", working_tree(root), ".", *without, cwd=root)
        with zipfile.ZipFile(archive) as whole, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
            for entry in whole.infolist():
                name, content = entry.filename.removeprefix(FOLDER), whole.read(entry)
                if LESSON.fullmatch(name):
                    content, answers = clean(name, content)
                    lines += [f"{name}: the answer to {answer} is left out" for answer in answers]
                packed.writestr(entry, content)
    return lines


if __name__ == "__main__":
    target = Path("build") / "lessons.zip"
    try:
        print(*pack(Path(__file__).parents[2], target), target, sep="\n")
    except ValueError as error:
        sys.exit(str(error))
