"""The training's own code: a loop in one piece, and objects that are complete once they are built."""

import ast
import inspect
from collections import Counter
from pathlib import Path

import pytest

import deeplab_lib
from deeplab_lib.training import loop

PACKAGE = Path(deeplab_lib.__file__).parent
TRAINING = sorted((PACKAGE / "training").glob("*.py"))


def trees(paths):
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in paths]


def assigned(method):
    """Attributes of its first argument that a method assigns, each as often as it does."""
    owner = method.args.args[0].arg if method.args.args else None
    targets = []
    for node in ast.walk(method):
        if isinstance(node, ast.Assign):
            targets += node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets.append(node.target)
    flat = [part for target in targets for part in ast.walk(target)]
    return [
        part.attr
        for part in flat
        if isinstance(part, ast.Attribute)
        and isinstance(part.ctx, ast.Store)
        and isinstance(part.value, ast.Name)
        and part.value.id == owner
    ]


def test_one_epoch_stands_in_one_piece():
    source = inspect.getsource(loop.train_one_epoch)
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.Lambda)]
    assert len(functions) == 1 and len(source.splitlines()) <= 45


@pytest.mark.parametrize(("path", "tree"), trees(TRAINING), ids=[path.stem for path in TRAINING])
def test_an_object_is_complete_once_it_is_built(path, tree):
    """Only the state of a run changes: elsewhere no attribute is born, or assigned in two methods, after `__init__`."""
    for owner in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name != "State"):
        methods = [node for node in owner.body if isinstance(node, ast.FunctionDef)]
        built = {name for method in methods if method.name == "__init__" for name in assigned(method)}
        later = Counter(
            name for method in methods if method.name != "__init__" for name in dict.fromkeys(assigned(method))
        )
        assert set(later) <= built, f"{path.name}: {owner.name} bears {set(later) - built}"
        assert max(later.values(), default=0) <= 1, f"{path.name}: {owner.name} assigns {later}"


def test_no_frozen_object_is_written_behind_its_back():
    found = [
        path.name
        for path, tree in trees(sorted(PACKAGE.rglob("*.py")))
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "__setattr__"
    ]
    assert found == []
