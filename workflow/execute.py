"""Execute a notebook with papermill and print what it prints, line by line, under a name.

    python workflow/execute.py NAME NOTEBOOK EXECUTED PARAMETERS_AS_JSON [--report FOLDER] [--threads N] ...

With --report the executed notebook is rendered into FOLDER afterwards, with a record of what it was made of. A stop
(SIGINT, SIGTERM, SIGHUP, SIGUSR1, or the end of --minutes or of the Slurm job) is passed on to the notebook's kernel,
which finishes its step and saves; papermill alone would kill it.
"""

import argparse
import contextlib
import getpass
import json
import logging
import math
import os
import signal
import sys
import tempfile
import threading
import time
from importlib import import_module
from pathlib import Path

import filelock
import psutil

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)]
MARGIN = 120  # seconds kept of the time granted for a step, a checkpoint and the end of the job


class Named:
    """A text stream that puts a name before every line."""

    def __init__(self, name, stream):
        self.name, self.stream, self.rest = name, stream, ""

    def write(self, text):
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            if line.strip():
                self.stream.write(f"[{self.name}] {line}\n")
                self.stream.flush()

    def flush(self):
        """Nothing is held back but an unfinished line."""


class Stop:
    """Remembers that a stop was asked for, and hands it to the notebook's kernel."""

    def __init__(self):
        self.requested = False
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup, which asks to outlive a hang-up
                signal.signal(number, self)

    def __call__(self, *signal_and_frame):
        self.requested = True
        for child in psutil.Process().children():
            child.send_signal(signal.SIGTERM)


@contextlib.contextmanager
def gpu_slot(gpu_slots, stop):
    """Hold one of `gpu_slots` (lists of devices), see no other, and yield it; waits until one is free.

    The lock falls with this process: a run that outlives a killed engine keeps its device until it ends.
    """
    if not gpu_slots:
        yield
        return
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()  # in a container the user may have no name
    # A user's jobs of a cluster may share a machine; to each its first GPU is number 0.
    folder = Path(tempfile.gettempdir()) / f"deeplab-lanes-{user}-{os.environ.get('SLURM_JOB_ID', 'all')}"
    folder.mkdir(exist_ok=True)
    locks = {devices: filelock.FileLock(folder / f"{devices}.lock") for devices in gpu_slots}
    waiting = False
    while not stop.requested:
        for devices, lock in locks.items():
            with contextlib.suppress(filelock.Timeout), lock.acquire(timeout=0):
                os.environ["CUDA_VISIBLE_DEVICES"] = devices
                yield devices
                return
        if not waiting:
            waiting = print(f"waiting for a free GPU of {', '.join(gpu_slots)}") or True
        time.sleep(0.5)
    yield


def execute(notebook, executed, parameters, saved):
    """Execute `notebook`; returns None, or what went wrong in one line.

    saved: keep what is there of the executed notebook on disk after every cell, else only at the end.
    """
    import papermill

    executed.parent.mkdir(parents=True, exist_ok=True)
    executed.unlink(missing_ok=True)
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what went wrong is said once, by us
    # Jupyter interrupts a kernel that it shuts down, and the kernel reports that as an error of its own.
    quiet = ["--IPKernelApp.log_level=CRITICAL"]
    try:
        papermill.execute_notebook(
            *(notebook, executed, parameters),
            progress_bar=False,
            request_save_on_cell_execute=saved,
            stdout_file=sys.stdout,
            stderr_file=sys.stdout,
            extra_arguments=quiet,
            shutdown_kernel="immediate",  # what a run leaves is on disk; a clean shutdown takes 2 s
        )
    except papermill.PapermillExecutionError as error:
        return error.evalue if error.ename == "RunStopped" else f"{error.ename}: {error.evalue}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def supervise(arguments, stop, end):
    """Execute in a thread, which leaves the signals to us; at the time `end` ask for a stop. Returns the problem."""
    import_module("papermill")  # not at the top: it takes a second, in which a stop is to be heard
    if stop.requested:
        return "stopped"
    result = []
    work = threading.Thread(target=lambda: result.append(execute(*arguments)), daemon=True)
    work.start()
    while work.is_alive():
        work.join(0.2)
        if time.monotonic() > end and not stop.requested:
            print("the time granted is nearly over: saving")
            stop()
    problem = result[0]
    if problem and "kernel died" in problem.lower():
        return (
            "stopped before there was anything to save" if stop.requested else f"{problem} (killed, or out of memory)"
        )
    return problem


def load_exporter():
    """Load what renders the report: while the notebook is executed, which keeps one core busy."""
    import_module("papermill")  # first, as `supervise` does: what they share is loaded by one of the two
    import_module("deeplab_lib.report.export")


def slurm_seconds():
    """Seconds until Slurm ends the job, which began before this program; without end where there is none to come."""
    left = float(os.environ.get("SLURM_JOB_END_TIME", "inf")) - time.time()
    return left if left > 0 else math.inf  # an end that is past is that of an earlier job, or was put off


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("notebook", type=Path)
    parser.add_argument("executed", type=Path)
    parser.add_argument("parameters", type=json.loads)
    parser.add_argument("--report", type=Path, help="folder for the executed notebook as HTML and PDF")
    parser.add_argument(
        "--gpu-slots", nargs="*", default=[], help="values of CUDA_VISIBLE_DEVICES, of which one is taken"
    )
    parser.add_argument("--minutes", type=float, default=1e9, help="time granted; the run saves before it is over")
    parser.add_argument("--threads", type=int, help="processor threads for the notebook; None: all cores")
    args = parser.parse_args()
    if args.threads:
        os.environ["OMP_NUM_THREADS"] = str(args.threads)
    start, seconds = time.monotonic(), min(60 * args.minutes, slurm_seconds())
    stop = Stop()
    # jsonschema would build a grammar of web addresses, which takes 2 s, for a check that no notebook's format needs.
    sys.modules.setdefault("rfc3987_syntax", None)
    with contextlib.redirect_stdout(Named(args.name, sys.stdout)):
        if args.report:
            from deeplab_lib.study.made_of import made_of, write_record

            print("analysis, HTML and PDF: about a minute")
            read = made_of(args.notebook, args.parameters)  # before: what changes meanwhile is reported the next time
            threading.Thread(target=load_exporter, daemon=True).start()
        with gpu_slot(args.gpu_slots, stop):
            # Saved after each of its cells, the analysis would spend a quarter of its time on that.
            work = (args.notebook, args.executed, args.parameters, not args.report)
            problem = supervise(work, stop, start + seconds - min(MARGIN, seconds / 2))
        if problem:
            print(f"not finished: {problem}")
            if args.executed.exists():
                print(f"the notebook, as far as it came: {args.executed}")
            sys.exit(1)
        if args.report:
            from deeplab_lib.report import ReportError, make_report

            try:
                make_report(args.executed, args.report)
                write_record(args.report, read)
            except (ReportError, OSError) as error:
                print(f"not finished: {'stopped' if stop.requested else error}")
                sys.exit(1)
        print(f"done in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
