"""The code hash of a run: it takes in all that decides the numbers, and nothing that only reads them."""

import ast
from pathlib import Path

import deeplab_lib
from deeplab_lib.training.record import code_files

PACKAGE = Path(deeplab_lib.__file__).parent
ENTRIES = ("training/loop.py", "config.py", "toycity/__init__.py")  # what `fit(Config(...))` on the toy city runs


def file_of(module):
    """The source file of `deeplab_lib...`, or None for a name that is no module."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def imported(path):
    """The kit's files that a source file imports anywhere in it, the packages around them included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("deeplab_lib"):
            for name in [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]:
                yield from (file for file in map(file_of, (name, name.rpartition(".")[0])) if file)


def reached(entries):
    found, left = set(), {PACKAGE / entry for entry in entries}
    while left:
        path = left.pop()
        found.add(path)
        left |= set(imported(path)) - found - {PACKAGE / "__init__.py"}  # it imports nothing until it is asked
    return found


def test_every_file_that_a_run_imports_is_hashed():
    needed = reached(ENTRIES)
    assert {PACKAGE / "losses" / "standard.py", PACKAGE / "common" / "seeds.py"} < needed
    assert not {str(path.relative_to(PACKAGE)) for path in needed - set(code_files())}


def test_what_only_reads_runs_is_not_hashed():
    rooms = {path.relative_to(PACKAGE).parts[0] for path in code_files()}
    assert not rooms & {"analysis", "report", "lessons", "plotting", "study"}
