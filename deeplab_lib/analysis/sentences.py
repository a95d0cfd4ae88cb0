"""The findings in words: what differs, by how much, and how sure that is.

Every sentence is filled in from `Findings`, or from the table that stands beside it; every number in it is registered.
A difference is called better, worse or neither by its verdict alone, never by its estimate.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from deeplab_lib.analysis.findings import Findings, by_verdict
from deeplab_lib.analysis.numbers import Numbers
from deeplab_lib.analysis.statistics import MIOU
from deeplab_lib.analysis.verdicts import CONTRADICTED, EQUIVALENT, INCONCLUSIVE, SUPPORTED
from deeplab_lib.common.text import be, count, listing, plural, signed

AGAINST_CE = {
    SUPPORTED: "{who} {be} significantly better than plain cross-entropy",
    CONTRADICTED: "{who} {be} significantly worse than plain cross-entropy",
    EQUIVALENT: "{who} {make} no difference from plain cross-entropy that matters",
    INCONCLUSIVE: "the comparison of {who} with plain cross-entropy is inconclusive",
}


def joined(*sentences: str) -> str:
    """A paragraph of the sentences that are there."""
    return " ".join(sentence.strip() for sentence in sentences if sentence.strip())


def upper(text: str) -> str:
    """The text with a capital letter at its beginning."""
    return text[:1].upper() + text[1:]


def sorted_out(table: pd.DataFrame, words: Mapping[str, str], named: Callable[[str], str]) -> list[str]:
    """The rows of a table grouped by verdict, a phrase each: `words[verdict]` with who, be and make filled in."""
    phrases = []
    for verdict, rows in by_verdict(table).items():
        make = "makes" if len(rows) == 1 else "make"
        phrases.append(words[verdict].format(who=listing(map(named, rows.index)), be=be(rows), make=make))
    return phrases


def with_estimate(f: Findings, numbers: Numbers) -> Callable[[str], str]:
    """Names a method with its difference from CE, registered under `reading.<first word of the verdict>.<method>`."""

    def named(name: str) -> str:
        row = f.versus.loc[name]
        estimate = numbers.put(f"reading.{row['verdict'].split()[0]}.{name}", row["estimate"], signed)
        return f"{f.titles[name]} ({estimate})"

    return named


# --- the finding: what comes first -----------------------------------------------------------------------------------


def headline(f: Findings, numbers: Numbers) -> str:
    """What the other losses gain over plain cross-entropy at equal schedule; "" where that cannot be said."""
    rows = f.same
    if rows.empty:
        return ""
    found = by_verdict(rows)
    named = with_estimate(f, numbers)
    within = {"margin": f.margins[MIOU], "high": rows.high.max()}
    better, worse = found.get(SUPPORTED), found.get(CONTRADICTED)
    rest = rows[rows.verdict != SUPPORTED]
    if better is not None:
        verb = "beats" if len(better) == 1 else "beat"
        text = f"At equal schedule, {listing(map(named, better.index))} {verb} plain cross-entropy in mIoU. "
        if len(rest) and rest.high.max() < f.margins[MIOU]:
            text += "No other loss does so by more than {margin:.3g} points. "
    else:
        if len(rows) == 1:
            who, verb = f.titles[rows.index[0]], "does not beat"
        else:
            who, verb = ("no loss" if f.controlled else f"none of {count(len(rows))} losses"), "beats"
        if rest.high.max() < f.margins[MIOU]:
            text = f"At equal schedule, {who} {verb} plain cross-entropy by more than {{margin:.3g}} points of mIoU. "
        else:
            who = who if len(rows) > 1 else f"{who} is not"
            better_than = "is significantly better" if len(rows) > 1 else "significantly better"
            text = (
                f"At equal schedule, {who} {better_than} than plain cross-entropy in mIoU. "
                "Gains of up to {high:.1f} points cannot be excluded. "
            )
        text = numbers.say("reading.headline", text, **within)
    if worse is not None:
        text += f"{listing(map(named, worse.index))} {be(worse)} significantly worse."
    return text.strip()


def certainty(f: Findings, numbers: Numbers) -> str:
    """How sure the differences are."""
    if not f.seeds or len(f.seeds) < 2:
        return ""
    if f.no_intervals:
        return f"No difference can be judged, since {f.no_intervals}."
    over = numbers.say("reading.headline", "{images:,d} validation images", images=f.images)
    text = f"Differences carry simultaneous 95 % bootstrap intervals over {over}"
    if not f.several_seeds:
        return f"{text}. Each configuration was trained with one seed, so variation between trainings is not covered."
    return f"{text}. They include the variation between trainings, from {_seed_counts(f)} seeds per configuration."


def elsewhere(f: Findings, numbers: Numbers) -> str:
    """What the configurations with a schedule of their own differ in, where anything is decided."""
    rows = f.other.dropna(subset=["low", "high"])
    rows = rows[rows.verdict.isin([SUPPORTED, CONTRADICTED])] if len(rows) else rows
    if rows.empty:
        return ""
    phrases = sorted_out(rows, AGAINST_CE, with_estimate(f, numbers))
    own = "this configuration" if len(rows) == 1 else "these configurations"
    return (
        f"{'. '.join(map(upper, phrases))}. But {own} also used another learning-rate schedule, so loss and schedule "
        "cannot be separated."
    )


# --- comparisons -----------------------------------------------------------------------------------------------------


def alone(f: Findings, numbers: Numbers) -> str:
    """What a single finished run reached, "" where there are more, or none."""
    if len(f.ranks) != 1:
        return ""
    name = f.ranks.index[0]
    value = numbers.put(f"reading.ranking.{name}", f.ranks["value"].iloc[0], ".2f")
    return f"{f.titles[name]} reached {value} % mIoU; there is no other run of the eight to compare it with."


def ranking(f: Findings, numbers: Numbers) -> str:
    """Which run has the highest mIoU, which do not differ from it, and which cannot be ranked."""
    values = f.ranks.attrs.get("unranked", {})
    if not values:
        return _order(f, numbers)
    shown = {name: numbers.put(f"reading.unranked.{name}", value, ".2f") for name, value in values.items()}
    named = [f"{f.titles[name]} ({value} %)" for name, value in shown.items()]
    whose, verb = ("its", "is") if len(named) == 1 else ("their", "are")
    order, ranked = _order(f, numbers), "Of the runs with results for single images, "
    order = f"{ranked}{order}" if order and max(values.values()) > f.ranks["value"].max() else order
    return f"{order} {listing(named)} {verb} not ranked: {whose} files hold no results for single images.".strip()


def _order(f: Findings, numbers: Numbers) -> str:
    table, titles = f.ranks, f.titles
    if len(table) < 2:
        return ""
    top = numbers.put(f"reading.ranking.{table.index[0]}", table["value"].iloc[0], ".2f")
    leaders, last, tied = f.leaders, titles[table.index[-1]], f.named(f.tied)
    if len(leaders) == len(table):
        return f"All {plural(len(table), 'run')} end at exactly the same mIoU, {top} %."
    named = f"{listing(f.named(leaders))} {'has' if len(leaders) == 1 else 'share'} the highest final mIoU, {top} %"
    if table["low"].isna().all():
        return f"{named}. Without intervals, the order of the runs proves nothing."
    if len(table) == 2:
        relation = "which does not differ significantly from" if tied else "significantly above"
        return f"{named}, {relation} {last}."
    if table["ties"].nunique() == 1:
        return f"{named}. No two of the {count(len(table))} runs differ significantly."
    differs = f"does not differ significantly from {listing(tied)}" if tied else "differs significantly from all others"
    lowest = f"{last} has the lowest value"
    if table["best"].iloc[-1] == len(table):
        return f"{named}. It {differs}. {lowest} and ranks last at the simultaneous 95 % level."
    best = numbers.put("reading.ranking.last", table["best"].iloc[-1], ".0f")
    return f"{named}. It {differs}. {lowest}; its rank lies between {best} and {len(table)}."


def differences(f: Findings, numbers: Numbers) -> str:
    """Which runs differ from CE, and by how much."""
    known = f.decidable
    if known.empty:
        why = f.no_intervals or listing(dict.fromkeys(f.versus["reason"]))
        return f"These differences have no intervals ({why}), so none of them is judged."
    margin = numbers.put("reading.margin.mIoU", f.margins[MIOU], ".3g")
    phrases = sorted_out(known, AGAINST_CE, with_estimate(f, numbers))
    return f"Differences are in points of mIoU, with a margin of {margin} points. {'. '.join(map(upper, phrases))}."


def confounding(f: Findings, numbers: Numbers) -> str:
    """Which differences from CE do not isolate the loss, and what they go with instead."""
    other, text = f.named(f.other.index), ""
    if other:
        those = "The comparison with" if len(other) == 1 else "Comparisons with"
        text = (
            "Only comparisons within one schedule isolate the loss. "
            f"{those} {listing(other)} {be(other)} *confounded*: learning rate, warm-up, power or freezing differ too. "
            + rate(f, numbers, brief=False)
        )
    if f.controlled:
        text += " In the control, every loss was trained on the schedule of the CE run."
    return text.strip()


def rate(f: Findings, numbers: Numbers, brief: bool = True) -> str:
    """That the order of the runs is that of their initial rates, "" where it is not. brief: in one sentence."""
    if f.rate is None:
        return ""
    text = "The order of the runs follows their initial rates (rank correlation of rate and mIoU {val:.2f})."
    if not brief and f.rate.train > 0.7:
        text += (
            " So does their training mIoU (rank correlation {train:.2f}): the runs at lower rates may simply be "
            "undertrained."
        )
    return numbers.say("reading.rate", text, **f.rate._asdict())


def without_baseline(f: Findings, numbers: Numbers) -> str:
    """What can be compared where there is no CE run."""
    if f.baseline or len(f.ranks) < 2:
        return ""
    alike = "Only runs that share a schedule can be compared as losses." if f.schedules > 1 else ""
    return joined("No CE run is finished, so no run is compared with plain cross-entropy.", alike,
                  rate(f, numbers, brief=False))  # fmt: skip


def seeds(f: Findings, numbers: Numbers) -> str:
    """How many seeds there are, and what that leaves uncovered."""
    if not f.seeds:
        return ""
    if f.no_intervals:
        return f"None of this is possible here, since {f.no_intervals}. What follows has no intervals and no verdicts."
    if not f.several_seeds:
        return (
            "Every run was trained with one seed. The intervals cover the choice of validation images and nothing "
            "else: how much a second training would differ is not known. A verdict below speaks of *these trained "
            "networks*, not of the losses; a decided difference may still be due to the random seed."
        )
    several = [title for title, number in f.seeds.items() if number > 1]
    who, rest = "Each configuration was", ""
    if f.single_seeds:
        who, rest = (
            f"{listing(several)} {'was' if len(several) == 1 else 'were'}",
            ", every other configuration with one",
        )
    low, high = min(f.seed_sd.values()), max(f.seed_sd.values())
    deviation = numbers.say(
        "reading.seeds.sd", "{low:.2f} points" if f"{low:.2f}" == f"{high:.2f}" else "{low:.2f} to {high:.2f} points",
        low=low, high=high)  # fmt: skip
    if f"{low:.2f}" == f"{high:.2f}":
        numbers.put("reading.seeds.sd.high", high, ".2f")
    return (
        f"{who} trained with {_seed_counts(f)} seeds{rest}. Values are means over seeds. Between seeds, mIoU has a "
        f"standard deviation of {deviation}. The variance between seeds, pooled over the configurations, enters "
        "every interval below. So a verdict speaks of *the losses* where nothing else differs, and of *the "
        "configurations* where the schedule differs too."
    )


def _seed_counts(f: Findings) -> str:
    many = sorted({number for number in f.seeds.values() if number > 1})
    return f"{many[0]}" if len(many) == 1 else f"{many[0]} to {many[-1]}"


def resamples(f: Findings, numbers: Numbers) -> str:
    """On how many resamples the intervals rest; nothing where there are none."""
    if not f.resamples:
        return ""
    return numbers.say("reading", "Every interval rests on {resamples:,d} resamples.", resamples=f.resamples)


def over_seeds(f: Findings) -> str:
    """What a table says where there are several seeds, "" otherwise."""
    return "Means over seeds; sd: the standard deviation between seeds, in points." if f.several_seeds else ""


def ends(values: Mapping[str, float], numbers: Numbers, key: str, fmt: str | Callable[[float], str], unit: str) -> str:
    """The lowest and the highest of {name: value} as "4.1 % (CE) to 5.0 % (A and B)", with all that print so."""
    low = numbers.put(f"reading.{key}.low", min(values.values()), fmt)
    high = numbers.put(f"reading.{key}.high", max(values.values()), fmt)
    printed = {name: fmt(value) if callable(fmt) else format(value, fmt) for name, value in values.items()}
    lowest, highest = (listing(name for name, text in printed.items() if text == end) for end in (low, high))
    if low == high:
        return f"{low}{unit}" + (" (all runs)" if len(values) > 1 else f" ({lowest})")
    return f"{low}{unit} ({lowest}) to {high}{unit} ({highest})"


def boundaries(f: Findings, table: pd.DataFrame, versus: pd.DataFrame, numbers: Numbers) -> str:
    """The range of the boundary F-score, and who differs from CE in it; "" for fewer than two runs.

    `table` is that of `Evidence.levels`, `versus` that of `Evidence.from_baseline`.
    """
    values = table["estimate"].dropna()
    if len(values) < 2:
        return ""
    span = ends({f.titles[run]: value for run, value in values.items()}, numbers, "boundary", ".1f", " %")
    known = versus.dropna(subset=["low", "high"])
    return joined(
        f"The boundary F-score ranges from {span}.",
        f"{'. '.join(map(upper, sorted_out(known, AGAINST_CE, f.title)))}." if len(known) else "",
        "All runs are scored on the same images. So the interval of a difference decides whether two runs differ, not "
        "the overlap of their own intervals.",
    )


def trusted(f: Findings) -> str:
    """Whose probabilities are significantly less or better calibrated than those of CE, at equal schedule."""
    judged = f.trust[f.trust.index.isin(f.equal)] if f.trust is not None else pd.DataFrame({"verdict": []})
    ways = {SUPPORTED: "larger", CONTRADICTED: "smaller"}
    parts = [
        f"that of {listing(map(f.title, rows.index))} is significantly {ways[verdict]}"
        for verdict, rows in by_verdict(judged).items()
        if verdict in ways
    ]
    return f"Compared with the calibration error of plain cross-entropy, {listing(parts)}." if parts else ""


def calibration(f: Findings, numbers: Numbers) -> str:
    """How far the probabilities can be trusted."""
    table = f.trust
    if table is None:
        return (
            "The files of these runs hold no counts by confidence, so their probabilities cannot be judged; runs made "
            "with version 0.2 or later store them."
        )
    span = ends({f.titles[name]: value for name, value in table["ece"].items()}, numbers, "ece", ".2f", " points")
    over = table["overconfidence"]
    above, below = (f.named(over.index[side]) for side in (over > 0, over < 0))
    who = "All runs are" if len(above) == len(table) > 1 else f"{listing(above)} {be(above)}"
    text = f"The expected calibration error ranges from {span}. "
    text += f"{who} overconfident: mean confidence exceeds accuracy. " if above else ""
    text += f"{listing(below)} {be(below)} underconfident. " if below else ""
    judged = table[table["verdict"] != ""]
    if len(judged) and f.baseline:
        ways = {SUPPORTED: "larger", CONTRADICTED: "smaller", EQUIVALENT: EQUIVALENT, INCONCLUSIVE: INCONCLUSIVE}
        ways = {verdict: f"{words} for {{who}}" for verdict, words in ways.items()}
        margin = numbers.put("reading.margin.ece", f.margins["ece"], ".3g")
        phrases = sorted_out(judged, ways, f.title)
        text += f"Compared with CE, with a margin of {margin} point, the error is {'; '.join(phrases)}."
    return text.strip()


def wins(f: Findings, table: pd.DataFrame, numbers: Numbers) -> str:
    """On how many images the runs beat CE: `table` is that of `by_image.wins`; "" without one."""
    known = table.dropna(subset=["low"]) if len(table) else table
    if not len(known):
        return ""
    span = ends({f.titles[name]: value for name, value in known["estimate"].items()}, numbers, "wins", ".0f", " %")
    ways = {SUPPORTED: "more than half: {who}", CONTRADICTED: "less than half: {who}"}
    ways |= {EQUIVALENT: "about half, within the margin: {who}", INCONCLUSIVE: "inconclusive: {who}"}
    phrases = "; ".join(sorted_out(known, ways, f.title))
    return f"Image by image, the share of images on which a run beats CE ranges from {span}. {upper(phrases)}."


def decided_classes(differences: pd.DataFrame, iou: pd.DataFrame) -> pd.DataFrame | None:
    """Which differences from CE are significant, as booleans like `iou` (method x class); None without intervals."""
    if differences.empty or differences["low"].isna().all():
        return None
    decided = pd.DataFrame(False, iou.index, iou.columns)
    significant = (differences["low"] > 0) | (differences["high"] < 0)
    for method, name in differences.index[np.asarray(significant)]:
        if method in decided.index:
            decided.loc[method, name] = True
    return decided
