"""Every notebook: what it may hold, that it runs, and what its first cell does where nothing is installed."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import papermill
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from deeplab_lib import bootstrap
from deeplab_lib.common.files import for_project, in_project
from deeplab_lib.common.parameters import assigned
from deeplab_lib.config import Config
from deeplab_lib.data.cityscapes import data_root

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
PARAMETERIZED = ("train", "analysis", "predict")
LESSONS = sorted((ROOT / "notebooks").glob("0*.ipynb"))
WITH_SETUP = sorted((ROOT / "notebooks").glob("*.ipynb"))


def name_of(path):
    return str(path.relative_to(ROOT / "notebooks").with_suffix(""))


each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def parsed(cell):
    """Syntax tree of a cell, IPython's magics left out."""
    return ast.parse(re.sub(r"(?m)^( *)[%!].*$", r"\1pass", cell.source))


def lines(source):
    return [line for line in source.splitlines() if line.strip()]


# What a notebook may hold.


@each_notebook
def test_outputs_are_stripped(path):
    for cell in code_cells(path):
        assert cell.outputs == [] and cell.execution_count is None


@each_notebook
def test_no_cell_is_longer_than_a_glance(path):
    for cell in code_cells(path):
        # One line a parameter or a name, however many there are.
        table = "parameters" in cell.metadata.get("tags", ()) or set(map(type, parsed(cell).body)) == {ast.ImportFrom}
        assert table or len(lines(cell.source)) <= 25, cell.source


@each_notebook
def test_code_that_belongs_in_the_library_is_there(path):
    for node in (node for cell in code_cells(path) for node in ast.walk(parsed(cell))):
        assert not isinstance(node, ast.ClassDef), f"class {node.name}"
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 10, node.name
        if isinstance(node, ast.ImportFrom):
            assert node.names[0].name != "*"
        assert not (isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path")


@each_notebook
def test_kind_7_a_formula_stays_whole_in_every_renderer(path):
    """JupyterLab begins a list where a line begins with a plus: a code span or a formula must not be broken there."""
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            text = re.sub(r"(?s)```.*?```|\$\$.*?\$\$|\\begin\{equation\}.*?\\end\{equation\}", "", cell.source)
            assert not [span for span in re.findall(r"`[^`]*`|\$[^$]*\$", text) if "\n" in span]
            assert not re.search(r"(?m)^\+ ", text)


@pytest.mark.parametrize("name", PARAMETERIZED)
def test_the_parameters_cell_holds_literals_each_with_a_comment(name):
    tagged = [c for c in code_cells(ROOT / f"notebooks/{name}.ipynb") if "parameters" in c.metadata.get("tags", ())]
    assert len(tagged) == 1
    for statement in ast.parse(tagged[0].source).body:
        assert isinstance(statement, ast.Assign)
        ast.literal_eval(statement.value)
    assert all("# " in line for line in lines(tagged[0].source))


@pytest.mark.parametrize("path", LESSONS, ids=name_of)
def test_a_lesson_explains_before_and_after_its_steps(path):
    cells = nbformat.read(path, as_version=4).cells
    words = sum(len(cell.source.split()) for cell in cells if cell.cell_type == "markdown")
    code = [len(lines(cell.source)) for cell in cells if cell.cell_type == "code"]
    assert words > 3 * sum(code)
    assert sorted(code)[len(code) // 2] <= 8
    assert "## What we learnt" in cells[-1].source


# The first cell.


def setup_cell(path):
    return code_cells(path)[0].source


def test_all_notebooks_begin_with_the_same_setup_cell():
    assert len(WITH_SETUP) == 6
    assert len({setup_cell(path) for path in WITH_SETUP}) == 1
    source = setup_cell(WITH_SETUP[0])
    assert source.startswith("# Setup") and len(lines(source)) <= 8
    # A kernel's parameters are told from other names by the cell they stand in.
    assert not source.lower().startswith("# parameters") and "repository" in assigned(as_python(source))


def as_python(source):
    """What IPython makes of a cell's magics."""
    return TransformerManager().transform_cell(source)


def test_the_setup_cell_does_nothing_where_the_kit_is_installed(monkeypatch):
    monkeypatch.setattr(subprocess, "run", None)
    before = dict(os.environ), list(sys.path), Path.cwd(), set(sys.modules)
    exec(as_python(setup_cell(LESSONS[0])), {"get_ipython": None})
    assert (dict(os.environ), list(sys.path), Path.cwd(), set(sys.modules)) == before


FAKE_PIP = '''"""Writes down how it was called; copies the kit or notes where it is, with metadata as pip writes it."""
import json, pathlib, shutil, sys, urllib.parse, urllib.request
here = pathlib.Path(__file__).parents[1]
copy, info = here / "deeplab_lib", here / "deeplab_losses-0.dist-info"
arguments = sys.argv[1:]
with open(here / "calls.txt", "a") as calls:
    print(*arguments, file=calls)
    if "--constraint" in arguments:
        print("kept:", *pathlib.Path(arguments[arguments.index("--constraint") + 1]).read_text().split(), file=calls)
address = arguments[-1].partition(" @ ")[2]
if address or "--editable" in arguments:
    shutil.rmtree(copy, ignore_errors=True)
    origin = {"url": address.removeprefix("git+")} | ({"vcs_info": {}} if "git+" in address else {"dir_info": {}})
    source = pathlib.Path(urllib.request.url2pathname(urllib.parse.urlsplit(origin["url"]).path))
    if address and not (source / "pyproject.toml").is_file():
        sys.exit(f"ERROR: {address} does not appear to be a Python project")
    if address:
        shutil.copytree(source / "deeplab_lib", copy)
    info.mkdir(exist_ok=True)
    requires = ["torch>=2.4", "fvcore", "jupyterlab>=4", "ruff; extra == 'test'"]
    head = "Metadata-Version: 2.1\\nName: deeplab-losses\\nVersion: 0\\n"
    info.joinpath("METADATA").write_text(head + "".join(f"Requires-Dist: {r}\\n" for r in requires))
    info.joinpath("direct_url.json").write_text(json.dumps(origin))
'''

# The magics of a Python without IPython.
IPYTHON = """
class get_ipython:
    def run_line_magic(self, name, line):
        import subprocess, sys
        subprocess.run(f'"{sys.executable}" -m {name} ' + line.format_map(globals()), shell=True)
"""


@pytest.fixture
def bare(tmp_path):
    """A Python without packages but for stand-ins: pip, a platform's own torch, google.colab; and a kit to clone."""
    python = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", python], check=True)
    stubs = tmp_path / "stubs"
    for file, text in {
        "pip/__main__.py": FAKE_PIP,
        "torch-2.9.0+cu126.dist-info/METADATA": "Metadata-Version: 2.1\nName: torch\nVersion: 2.9.0+cu126\n",
        "google/colab/drive.py": "def mount(place): print('mounted', place)\n",
        "google/colab/__init__.py": "",
    }.items():
        stubs.joinpath(file).parent.mkdir(parents=True, exist_ok=True)
        stubs.joinpath(file).write_text(text)
    kit = tmp_path / "my kit"
    (kit / "deeplab_lib").mkdir(parents=True)
    for file in ("pyproject.toml", "deeplab_lib/__init__.py", "deeplab_lib/bootstrap.py"):
        shutil.copy(ROOT / file, kit / file)

    def run(source, folder):
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(stubs), "HOME": str(tmp_path)}
        program = f"{IPYTHON}{as_python(source)}\nimport deeplab_lib; print(deeplab_lib.__file__)"
        done = subprocess.run(
            [python / "bin" / "python", "-c", program], cwd=folder, env=environment, capture_output=True, text=True
        )
        return done.stdout + done.stderr, (stubs / "calls.txt").read_text() if (stubs / "calls.txt").exists() else ""

    return run, kit


def as_repository(folder):
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-C", str(folder)]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "kit"]):
        subprocess.run([*git, *command], check=True)
    return folder.as_uri()


@pytest.mark.skipif(os.name == "nt", reason="the bare environment is laid out as on Linux and macOS")
def test_in_a_bare_kernel_far_from_the_kit_it_is_cloned_and_only_what_is_missing_installed(bare, tmp_path):
    run, kit = bare
    kit = kit.rename(tmp_path / "kit")
    content = tmp_path / "content"
    content.mkdir()
    source = setup_cell(LESSONS[0])
    for old, new in (('Path("..").resolve().as_uri()', f'"git+{as_repository(kit)}"'), ("drive=False", "drive=True")):
        assert old in source
        source = source.replace(old, new)
    said, calls = run(source, content)
    assert "mounted /content/drive" in said
    assert said.splitlines()[-1] == str(content / "deeplab-losses" / "deeplab_lib" / "__init__.py")
    first, second, third, kept = calls.splitlines()
    assert first == f"install --quiet --no-deps deeplab-losses @ git+{kit.as_uri()}"
    assert second == f"install --quiet --no-deps --editable {content / 'deeplab-losses'}"
    assert third.endswith(" fvcore") and not re.search("torch|jupyterlab|ruff", third)
    assert kept == "kept: torch==2.9.0+cu126"


@pytest.mark.skipif(os.name == "nt", reason="the bare environment is laid out as on Linux and macOS")
@pytest.mark.parametrize("folder", ["notebooks", "."])
def test_in_a_bare_kernel_inside_the_kit_nothing_is_cloned_and_no_copy_stays(bare, folder):
    run, kit = bare
    (kit / "notebooks").mkdir()
    said, calls = run(setup_cell(LESSONS[0]), kit / folder)
    assert said.splitlines()[-1] == str(kit / "deeplab_lib" / "__init__.py")
    *copied, editable, missing, _ = calls.splitlines()
    assert copied == [f"install --quiet --no-deps deeplab-losses @ {kit.as_uri()}"] * (folder == "notebooks")
    assert editable == f"install --quiet --no-deps --editable {kit}" and missing.endswith(" fvcore")


@pytest.mark.skipif(os.name == "nt", reason="the bare environment is laid out as on Linux and macOS")
def test_without_kit_and_address_the_cell_says_what_to_fill_in(bare, tmp_path):
    (tmp_path / "alone").mkdir()
    said, _ = bare[0](setup_cell(LESSONS[0]), tmp_path / "alone")
    assert f"{tmp_path.as_uri()} does not appear to be a Python project" in said
    line = next(line for line in lines(setup_cell(LESSONS[0])) if line.startswith("from deeplab_lib"))
    assert "Give the address of your copy as `repository`" in line and "No module named 'deeplab_lib'" in said


def test_a_drive_elsewhere_than_on_colab_is_refused_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", None)
    with pytest.raises(RuntimeError, match=r"^drive is True, but this is not Colab; .*$"):
        bootstrap.prepare(drive=True)


def test_pip_that_fails_is_told_in_one_line():
    with pytest.raises(RuntimeError, match=r"^pip install --no-such-option failed: .*no such option.*$"):
        bootstrap.pip("--no-such-option")


# What a lecturer hands out.


def test_the_data_that_kaggle_and_colab_mount_are_named_and_found(tmp_path, monkeypatch, capsys):
    kaggle, drive = tmp_path / "kaggle" / "input", tmp_path / "drive"
    monkeypatch.setattr(bootstrap, "MOUNTS", (kaggle, drive))
    monkeypatch.chdir(tmp_path)
    (kaggle / "cityscapes" / "leftImg8bit").mkdir(parents=True)
    (drive / "course").mkdir(parents=True)
    (drive / "course" / "gtFine_trainvaltest.zip").touch()
    (drive / "photos").mkdir()
    assert bootstrap.mounted_data() == [kaggle / "cityscapes", drive / "course"]
    bootstrap.prepare()
    said = capsys.readouterr().out
    assert f'data = "{kaggle / "cityscapes"}"' in said and f'data = "{drive / "course"}"' in said
    assert data_root("cityscapes") == kaggle / "cityscapes" and data_root("course") == drive / "course"
    (tmp_path / "cityscapes").mkdir()
    assert data_root("cityscapes") == tmp_path / "cityscapes"


def test_a_folder_is_meant_here_or_else_in_the_project(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT / "notebooks")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert in_project("runs/mine") == ROOT / "runs" / "mine"
    assert in_project("references.bib") == Path("references.bib")
    assert in_project("~/mine") == tmp_path / "mine" == in_project(tmp_path / "mine")


def test_a_notebook_writes_where_the_shell_would(tmp_path, monkeypatch):
    """Outside of the project a relative folder is meant where one is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for here, meant in ((ROOT, ROOT), (ROOT / "notebooks", ROOT), (tmp_path, tmp_path)):
        monkeypatch.chdir(here)
        assert for_project("runs/mine").absolute() == meant / "runs" / "mine"
        assert for_project("~/mine") == tmp_path / "mine" == for_project(tmp_path / "mine")
    assert Path(Config(preset="smoke", out_dir="runs/mine").out_dir) == Path("runs/mine")
    monkeypatch.chdir(ROOT / "notebooks")
    assert Path(Config(preset="smoke", out_dir="runs/mine").out_dir) == ROOT / "runs" / "mine"
    assert for_project("../runs/mine") == Path("../runs/mine")


@pytest.mark.skipif(not (ROOT / ".git").exists() or not shutil.which("make"), reason="needs a git clone and make")
def test_kind_10_the_lessons_are_handed_out_without_their_solutions(tmp_path):
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    (clone / "notebooks/01_cityscapes.ipynb").write_text("edited")
    answered = clone / "notebooks/02_deeplabv2.ipynb"
    answered.write_text(answered.read_text().replace('"    # your code\\n",', '"    return 42\\n",'))
    assert "return 42" in answered.read_text()
    done = subprocess.run(["make", "--directory", str(clone), "lessons"], check=True, capture_output=True, text=True)
    assert "notebooks/02_deeplabv2.ipynb: the answer to check_dilated is left out\n" in done.stdout
    with zipfile.ZipFile(clone / "build/lessons.zip") as packed:
        names = {name.removeprefix("deeplab-losses/") for name in packed.namelist()}
        assert packed.read("deeplab-losses/notebooks/01_cityscapes.ipynb") == b"edited"
        unpacked = nbformat.reads(packed.read("deeplab-losses/notebooks/02_deeplabv2.ipynb").decode(), as_version=4)
        assert [cell.source for cell in unpacked.cells] == [cell.source for cell in nbformat.read(LESSONS[1], 4).cells]
    assert {"README.md", "Makefile", "deeplab_lib/lessons/exercises.py", "notebooks/03_losses.ipynb"} <= names
    assert not [name for name in names if "solutions" in name or name == "tests/lessons/test_lessons.py"]


# Every notebook runs.


def execute(path, out, cwd=ROOT, **parameters):
    papermill.execute_notebook(path, out, parameters, cwd=str(cwd), progress_bar=False, log_output=False)
    return [cell for cell in nbformat.read(out, as_version=4).cells if cell.cell_type == "code"]


@pytest.fixture
def small_data(tmp_path_factory, monkeypatch):
    """The kit's data folder, with the lessons' toy city; shared by the tests, no Cityscapes in sight."""
    folder = tmp_path_factory.getbasetemp() / "data"
    monkeypatch.setenv("DEEPLAB_DATA", str(folder))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("CITYSCAPES_DATASET", raising=False)
    return folder


@pytest.mark.parametrize("path", LESSONS, ids=name_of)
def test_a_lesson_runs_from_top_to_bottom_with_its_exercises_unanswered(path, tmp_path, small_data):
    cells = execute(path, tmp_path / "out.ipynb", cwd=path.parent if path == LESSONS[0] else ROOT)
    outputs = [output for cell in cells for output in cell.outputs]
    exercises = re.findall(r"exercises\.check_\w+\(", "".join(cell.source for cell in cells))
    answers = [output for output in outputs if "Not answered yet." in output.get("text", "")]
    assert len(answers) == len(exercises) >= 3
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 5
    assert not [output for output in outputs if output.get("name") == "stderr" and "Error" in output.text]


def test_a_run_is_trained_and_then_predicts(tmp_path, small_data):
    execute(ROOT / "notebooks/train.ipynb", tmp_path / "train.ipynb", preset="smoke", epochs=1, out_dir=str(tmp_path))
    record = json.loads((tmp_path / "DeepLabV2_ce_epochs1.json").read_text())
    assert record["finished"]
    options = {"run": str(tmp_path / "DeepLabV2_ce_epochs1.json"), "shown": 1, "out_dir": str(tmp_path / "seen")}
    cells = execute(ROOT / "notebooks/predict.ipynb", tmp_path / "predict.ipynb", ROOT / "notebooks", **options)
    assert any("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs)
