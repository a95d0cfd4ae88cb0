"""`make setup` where PyTorch is installed already, in the environment that is active: it is used, not fetched again."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(os.name == "nt" or not shutil.which("make"), reason="needs make, and a POSIX environment")
def test_the_pytorch_of_the_active_environment_is_seen_and_commands_are_installed_all_the_same(tmp_path):
    active = tmp_path / "active"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", active], check=True)
    (packages,) = active.glob("lib/*/site-packages")
    for name in ("torch", "torchvision"):
        (packages / f"{name}.py").touch()
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    command = ["make", "setup", f"PYTHON={active / 'bin' / 'python'}", "PIP=echo pip"]
    said = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    first, second = (line for line in said.splitlines() if line.startswith("pip "))
    assert first.startswith("pip --no-deps --ignore-installed") and {"papermill", "snakemake"} < set(first.split())
    assert second == "pip --editable .[test]"
    python = tmp_path / ".venv" / "bin" / "python"
    # Once more, as when a package is added, from the environment that has been made.
    (tmp_path / "pyproject.toml").touch()
    subprocess.run([*command[:2], f"PYTHON={python}", command[3]], cwd=tmp_path, check=True)
    found = subprocess.run([python, "-c", "import torch; print(torch.__file__)"], capture_output=True, text=True).stdout
    assert found.strip() == str(packages / "torch.py")
