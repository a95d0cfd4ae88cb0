"""The graph as a user calls it, at smoke scale."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def command(folder, *arguments, **config):
    """The command line of the graph at smoke scale, two cores, with everything it makes under `folder`."""
    config = {"preset": "smoke", "runs": folder / "runs", "report": folder / "report"} | config
    start = [sys.executable, "-m", "snakemake", "--snakefile", "workflow/Snakefile", "--cores", "2", *arguments]
    return [*start, "--config", *(f"{name}={value}" for name, value in config.items())]


def call(folder, *arguments, **config):
    """Run the graph to its end; returns (exit code, what the terminal showed)."""
    words = command(folder, *arguments, **config)
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout
