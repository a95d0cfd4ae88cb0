"""`make setup` where PyTorch is installed already, in the environment that is active: it is used, not fetched again."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def make_setup(project, environment):
    """What `make setup` says in `project` while `environment` is active; pip is only named, and not put into .venv."""
    python = project / "python"
    without = f'[ "$2" = venv ] && exec {environment}/bin/python -m venv --without-pip "$3"'
    python.write_text(f'#!/bin/sh\n{without}\nexec {environment}/bin/python "$@"\n')
    python.chmod(0o755)
    command = ["make", "setup", f"PYTHON={python}", "PIP=echo pip"]
    return subprocess.run(command, cwd=project, check=True, capture_output=True, text=True).stdout


@pytest.mark.skipif(os.name == "nt" or not shutil.which("make"), reason="needs make, and a POSIX environment")
def test_the_pytorch_of_the_active_environment_is_seen_and_commands_are_installed_all_the_same(tmp_path):
    active = tmp_path / "active"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", active], check=True)
    (packages,) = active.glob("lib/*/site-packages")
    for name in ("torch", "torchvision"):
        (packages / f"{name}.py").touch()
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    said = make_setup(tmp_path, active)
    first, second = (line for line in said.splitlines() if line.startswith("pip "))
    assert first.startswith("pip --no-deps --ignore-installed") and {"papermill", "snakemake"} < set(first.split())
    assert second == "pip --editable .[test]"
    python = tmp_path / ".venv" / "bin" / "python"
    # Once more, as when a package is added, from the environment that has been made.
    os.utime(tmp_path / ".venv" / "ready", (0, 0))
    assert "--editable" in make_setup(tmp_path, tmp_path / ".venv")
    found = subprocess.run([python, "-c", "import torch; print(torch.__file__)"], capture_output=True, text=True).stdout
    assert found.strip() == str(packages / "torch.py")
