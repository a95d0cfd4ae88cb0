"""The names at `deeplab_lib`: all there, the same for a type checker, and loaded only when they are asked for."""

import ast
import dataclasses
import importlib
import inspect
import json
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import deeplab_lib

ROOT = Path(__file__).parents[1]
CONTRACT = {
    *("Config", "fit", "RECIPES", "make_loss", "DeepLabV2", "make_model", "load_pretrained", "Cityscapes"),
    *("ConfusionMatrix", "PolyLR", "load_runs"),
}


def test_the_names_that_other_programs_rely_on_are_public():
    assert set(deeplab_lib.__all__) >= CONTRACT


@pytest.mark.parametrize("name", deeplab_lib.__all__)
def test_a_public_name_is_the_one_of_its_module(name):
    module = importlib.import_module(f"deeplab_lib.{deeplab_lib._MODULE_OF[name]}")
    assert getattr(deeplab_lib, name) is getattr(module, name)


def test_a_type_checker_reads_the_same_names_from_the_same_modules():
    tree = ast.parse(Path(deeplab_lib.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    read = {alias.name: node.module for node in block.body for alias in node.names}
    assert read == {name: f"deeplab_lib.{module}" for name, module in deeplab_lib._MODULE_OF.items()}
    assert set(read) == set(deeplab_lib.__all__) <= set(dir(deeplab_lib))


def test_completion_shows_every_parameter_of_a_run_with_its_type():
    shown = inspect.signature(deeplab_lib.Config).parameters
    assert list(shown) == [item.name for item in dataclasses.fields(deeplab_lib.Config)]
    assert shown["epochs"].annotation == int | None and shown["seed"].annotation is int
    assert "train" in typing.get_args(shown["bn"].annotation)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'deeplab_lib' has no attribute 'fitt'"):
        _ = deeplab_lib.fitt


def test_importing_the_package_loads_nothing_else():
    code = "import sys, deeplab_lib; print([m for m in ('torch', 'numpy', 'pandas', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


each_notebook = pytest.mark.parametrize(
    "path", sorted((ROOT / "notebooks").rglob("*.ipynb")), ids=lambda path: str(path.relative_to(ROOT / "notebooks"))
)


def imports(path):
    """`(module, name)` of all that a notebook takes from the library."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        code = re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", "".join(cell["source"])) if cell["cell_type"] == "code" else ""
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("deeplab_lib"):
                yield from ((node.module, alias.name) for alias in node.names)


@each_notebook
def test_what_a_notebook_imports_is_there(path):
    for module, name in imports(path):
        assert hasattr(importlib.import_module(module), name) or importlib.import_module(f"{module}.{name}"), name


@each_notebook
def test_a_notebook_imports_public_names_and_whole_modules_of_one_room(path):
    """What a lecturer copies from it stays right when a file moves inside its room."""
    modules = {module for module, _ in imports(path)}
    assert modules <= {"deeplab_lib", *(f"deeplab_lib.{room}" for room in ("analysis", "lessons", "plotting"))}
    for module, name in imports(path):
        named = hasattr(importlib.import_module(module), "__all__") and name in importlib.import_module(module).__all__
        assert named or inspect.ismodule(getattr(importlib.import_module(module), name)), name


def test_the_version_is_said_in_one_place_and_cited():
    assert 'version = { attr = "deeplab_lib.__version__" }' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f"\nversion: {deeplab_lib.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"## {deeplab_lib.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
