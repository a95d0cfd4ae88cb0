"""Measure everything and print it as a table; write results.json and results.png to benchmarks/results/.

python -m benchmarks             (what `make bench` does: half an hour on two idle cores)
python -m benchmarks --quick     (few repeats, no network: about a minute)
python -m benchmarks --only losses data
python -m benchmarks --against COMMIT --only network      (the same lines at another commit, in turn: against.json)
"""

import argparse
import os
import sys
from pathlib import Path

import matplotlib
import torch
from matplotlib.figure import Figure

from benchmarks import against, jobs, lines
from benchmarks.timing import reached
from deeplab_lib.common import devices
from deeplab_lib.common.files import write_json
from deeplab_lib.training import record

RESULTS = Path(__file__).parent / "results"
FULL = {"demo": 15, "paper": 3, "grid": 15, "full": 5}
GROUPS = {
    "network": lambda: lines.measure_network(FULL),
    "memory": jobs.measure_memory,
    "losses": lambda: lines.measure_losses(FULL),
    "data": lambda: lines.measure_data(FULL),
    "split": lambda: jobs.measure_split(2),
    "job": jobs.measure_job,
    "growth": lambda: jobs.measure_growth(100, 3),
    "choices": lambda: jobs.measure_choices(12, 8),
}
QUICK = {
    "losses": lambda: lines.measure_losses(FULL | {"grid": 5, "full": 1}),
    "data": lambda: lines.measure_data(FULL | {"full": 1}),
    "growth": lambda: jobs.measure_growth(10, 1),
}


def row(line):
    """A line of the results as a line of text."""
    verdict = {None: "", True: "reached", False: "MISSED"}[reached(line)]
    bound = f"{'<=' if line.get('at_most') else '>='} {line['target']:g}" if line["target"] else ""
    if "ratio" not in line:
        return f"{line['name']:58} {line['value']:10.4g} {line['unit']:22} {bound:8} {verdict}"
    ours, plain = (f"{1000 * line[side]['median']:.4g}" for side in ("ours", "plain"))
    return f"{line['name']:58} {ours:>10} {plain:>10} ms  {line['ratio']:6.2f}x {bound:8} {verdict}"


def plot(results, path):
    """Ratios as bars, the wanted ones as marks."""
    matplotlib.use("Agg")
    shown = [line for line in results if "ratio" in line]
    figure = Figure(figsize=(8, 0.5 + 0.3 * len(shown)), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(shown)), [line["ratio"] for line in shown], color="#4878a8")
    for place, line in enumerate(shown):
        if line["target"]:
            axes.plot([line["target"]] * 2, [place - 0.4, place + 0.4], color="#c03030")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set(xscale="log", xlabel="times as fast as the plain baseline (red: wanted)", yticks=range(len(shown)))
    axes.set_yticklabels([line["name"] for line in shown])
    axes.invert_yaxis()
    figure.savefig(path, dpi=120)


def measure_against(commit, arguments, turns):
    """Print and write what this tree and `commit` take, measured in turn."""
    found = []
    try:
        for line in against.compare(commit, arguments, turns):
            if not found:
                print(against.HEAD)
            found.append(line)
            print(against.row(line), flush=True)
    except ValueError as error:
        sys.exit(str(error))
    about = {"commit": commit, "machine": devices.device_name("cpu"), "threads": torch.get_num_threads()}
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / "against.json", about | {"versions": record.versions(), "lines": found})
    print(f"written: {RESULTS / 'against.json'}")


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"few repeats of {', '.join(QUICK)}: no network")
    parser.add_argument("--only", nargs="+", choices=GROUPS, help="groups to measure")
    parser.add_argument("--against", metavar="COMMIT", help="measure this tree and that commit in turn")
    parser.add_argument("--turns", type=int, default=5, help="how often each is measured (5)")
    args = parser.parse_args(arguments)
    groups = QUICK if args.quick else GROUPS
    only = args.only or list(groups)
    if slow := [name for name in only if name not in groups]:
        parser.error(f"--quick does not measure {', '.join(slow)}, only {', '.join(groups)}")
    if args.against:
        return measure_against(args.against, ["--only", *only] + ["--quick"] * args.quick, args.turns)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    processor = devices.device_name("cpu")
    print(f"{processor}, {torch.get_num_threads()} threads, torch {torch.__version__}, load {load:.1f}")
    print(f"{'':58} {'ours':>10} {'plain':>10}")
    results = []
    for name in (name for name in groups if name in only):
        for line in groups[name]():
            results.append(line)
            print(row(line), flush=True)
    RESULTS.mkdir(exist_ok=True)
    about = {"machine": processor, "threads": torch.get_num_threads(), "load_before": load}
    write_json(RESULTS / "results.json", about | {"versions": record.versions(), "lines": results})
    print(f"written: {RESULTS / 'results.json'}")
    if any("ratio" in line for line in results):
        plot(results, RESULTS / "results.png")
        print(f"written: {RESULTS / 'results.png'}")


if __name__ == "__main__":
    main()
