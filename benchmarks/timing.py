"""Measuring two ways of computing the same thing: alternating, in one process, by medians and quartiles."""

import time
from itertools import product

import numpy as np


def alternate(pair, repeats, warm_up=1):
    """Seconds of each function in `pair` {name: function}, called in turn: `{name: {"wall": [...], "cpu": [...]}}`.

    `cpu` is the processor time of the whole process. The order within a turn is reversed every time.
    """
    seconds = {name: {"wall": [], "cpu": []} for name in pair}
    for turn in range(-warm_up, repeats):
        for name in sorted(pair, reverse=turn % 2 == 1):
            wall, cpu = time.perf_counter(), time.process_time()
            pair[name]()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if turn >= 0:
                seconds[name]["wall"].append(wall)
                seconds[name]["cpu"].append(cpu)
    return seconds


def quartiles(values):
    """First quartile, median and third quartile of `values`, and their number."""
    q1, median, q3 = np.quantile(np.array(values, dtype=float), (0.25, 0.5, 0.75)).tolist()
    return {"q1": q1, "median": median, "q3": q3, "n": len(values)}


def compared(name, seconds, target=None, **about):
    """One line of the results from the `seconds` of "ours" and "plain"; `ratio` says how many times faster ours is.

    target: the least ratio wanted, None if there is none.
    """
    line = {"name": name, "unit": "s", "target": target} | about
    for side in ("ours", "plain"):
        line[side] = quartiles(seconds[side]["wall"]) | {"cpu": quartiles(seconds[side]["cpu"])["median"]}
    line["ratio"] = line["plain"]["median"] / line["ours"]["median"]
    line["cpu_ratio"] = line["plain"]["cpu"] / line["ours"]["cpu"]
    return line


def figure(name, value, unit, target=None, at_most=False, **about):
    """One line that is a number by itself; `at_most` turns the target into an upper bound."""
    return {"name": name, "value": value, "unit": unit, "target": target, "at_most": at_most} | about


def reached(line):
    """Whether a line reaches its target; None without one."""
    value = line.get("ratio", line.get("value"))
    if line["target"] is None or value is None:
        return None
    return value <= line["target"] if line.get("at_most") else value >= line["target"]


def sign_flip_p(differences):
    """Two-sided p of paired `differences`, at most 20, having mean 0: the exact test over all their signs (Fisher, The
    Design of Experiments, 1935, section 21)."""
    means = np.array(list(product((1, -1), repeat=len(differences)))) @ np.asarray(differences) / len(differences)
    return float(np.mean(np.abs(means) >= abs(np.mean(differences)) - 1e-12))
