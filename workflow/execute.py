"""Execute a notebook with papermill and print what it prints, line by line, under a name.

    python workflow/execute.py NAME NOTEBOOK EXECUTED PARAMETERS_AS_JSON [--report FOLDER]

With --report the executed notebook is rendered into FOLDER afterwards. A stop (SIGINT, SIGTERM) is passed on to the
notebook's kernel, which finishes its step and saves; papermill alone would kill it.
"""

import argparse
import json
import logging
import signal
import sys
import threading
import time
from pathlib import Path

import papermill
import psutil

from deeplab_lib.report import make_report


class Named:
    """A text stream that puts a name before every line."""

    def __init__(self, name):
        self.name, self.rest = name, ""

    def write(self, text):
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            if line.strip():
                print(f"[{self.name}] {line}", flush=True)

    def flush(self):
        """Nothing is held back but an unfinished line."""


def execute(name, notebook, executed, parameters):
    """Execute `notebook`; returns None, or what went wrong in one line."""
    out = Named(name)
    executed.parent.mkdir(parents=True, exist_ok=True)
    logging.getLogger("papermill").setLevel(logging.ERROR)
    quiet = ["--IPKernelApp.log_level=ERROR"]
    try:
        papermill.execute_notebook(
            *(notebook, executed, parameters),
            progress_bar=False,
            stdout_file=out,
            stderr_file=out,
            extra_arguments=quiet,
        )
    except papermill.PapermillExecutionError as error:
        return error.evalue if error.ename == "RunStopped" else f"{error.ename}: {error.evalue}"
    except Exception as error:
        return f"{type(error).__name__}: {error} (often: out of memory)"


def pass_on(number, frame):
    """Hand a stop signal to the notebook's kernel."""
    for child in psutil.Process().children():
        child.send_signal(signal.SIGTERM)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("notebook", type=Path)
    parser.add_argument("executed", type=Path)
    parser.add_argument("parameters", type=json.loads)
    parser.add_argument("--report", type=Path)
    args = parser.parse_args()
    # In a thread of its own papermill leaves the signals to us.
    failed = []
    work = threading.Thread(
        target=lambda: failed.append(execute(args.name, args.notebook, args.executed, args.parameters)), daemon=True
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    start = time.monotonic()
    work.start()
    while work.is_alive():
        work.join(0.2)
    if failed != [None]:
        place = f"[{args.name}] the notebook, with the traceback: {args.executed}"
        sys.exit(f"[{args.name}] not finished: {failed[0]}\n{place}")
    if args.report:
        make_report(args.executed, args.report)
    print(f"[{args.name}] done in {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
