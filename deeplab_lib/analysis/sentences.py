"""The findings in words: what differs, by how much, and how sure that is.

Every sentence is filled in from `Findings`, or from the table that stands beside it; every number in it is registered.
A difference is called better, worse or neither by its verdict alone, never by its estimate. A sentence cites the figure
or table that shows what it says, `(@fig-ranking)`; `Gallery.say` leaves out the citation of what is not shown.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pandas as pd

from deeplab_lib.analysis.captions import as_label
from deeplab_lib.analysis.findings import Findings, by_verdict
from deeplab_lib.analysis.numbers import Numbers
from deeplab_lib.analysis.statistics import MIOU
from deeplab_lib.analysis.verdicts import CONTRADICTED, EQUIVALENT, INCONCLUSIVE, SUPPORTED
from deeplab_lib.common.text import be, count, listing, plural, signed

AGAINST_CE = {
    SUPPORTED: "{who} {be} significantly better than plain cross-entropy",
    CONTRADICTED: "{who} {be} significantly worse than plain cross-entropy",
    EQUIVALENT: "{who} {make} no difference from plain cross-entropy that matters",
    INCONCLUSIVE: "for {who} the comparison with plain cross-entropy is inconclusive",
}
PLURALS = {"run": "runs", "loss": "losses"}
NAMED = 3  # runs that a sentence names; of more it says how many, for the table beside it has them all


def joined(*sentences: str) -> str:
    """A paragraph of the sentences that are there."""
    return " ".join(sentence.strip() for sentence in sentences if sentence.strip())


def upper(text: str) -> str:
    """The text with a capital letter at its beginning."""
    return text[:1].upper() + text[1:]


def some(names: Iterable[str], whole: int = 0, most: int = NAMED) -> str:
    """Up to `most` names as a list, of more how many there are: "five runs", or "all five runs" where that is all."""
    names = list(names)
    if len(names) <= most:
        return listing(names)
    return f"{'all ' if len(names) == whole else ''}{plural(len(names), 'run')}"


def with_ends(rows: pd.DataFrame, whole: int, named: Callable[[str], str]) -> str:
    """`some`, and of more rows than are named the lowest and the highest: "nine runs, from A (−2.67) to B (+2.21),"."""
    who = some(map(named, rows.index), whole)
    if len(rows) <= NAMED:
        return who
    low, high = rows["estimate"].sort_values(kind="stable").index[[0, -1]]
    return f"{who}, from {named(low)} to {named(high)},"


def sorted_out(
    table: pd.DataFrame, words: Mapping[str, str], named: Callable[[str], str], span: bool = False
) -> list[str]:
    """The rows of a table grouped by verdict, a phrase each: `words[verdict]` with who, be and make filled in.

    span: who are more than are named stands with the ends of their estimates, as `with_ends` gives them.
    """
    phrases = []
    for verdict, rows in by_verdict(table).items():
        who = with_ends(rows, len(table), named) if span else some(map(named, rows.index), len(table))
        make = "makes" if len(rows) == 1 else "make"
        phrases.append(words[verdict].format(who=who, be=be(rows), make=make))
    return phrases


def from_ce(f: Findings, numbers: Numbers, name: str) -> str:
    """A method's difference from CE in print, registered under `reading.<first word of the verdict>.<method>`."""
    row = f.versus.loc[name]
    return numbers.put(f"reading.{row['verdict'].split()[0]}.{name}", row["estimate"], signed)


def with_estimate(f: Findings, numbers: Numbers) -> Callable[[str], str]:
    """Names a method with its difference from CE: "CE + Dice (+1.78)"."""
    return lambda name: f"{f.titles[name]} ({from_ce(f, numbers, name)})"


# --- the finding: what comes first -----------------------------------------------------------------------------------


def headline(f: Findings, numbers: Numbers) -> str:
    """What the other losses gain over plain cross-entropy at equal schedule; "" where that cannot be said."""
    rows = f.same
    if rows.empty:
        return ""
    found, named = by_verdict(rows), with_estimate(f, numbers)
    better, worse = found.get(SUPPORTED), found.get(CONTRADICTED)
    most = rows[rows.verdict != SUPPORTED].high.max()  # the largest gain of those that are not better; NaN without any
    what = "run" if f.people > 1 else "loss"
    small = most < f.margins[MIOU]
    end = " by more than {margin:.3g} points of mIoU. " if small else " in mIoU. "
    if better is not None:
        who, verb = with_ends(better, len(rows), named), "beats" if len(better) == 1 else "beat"
        end = " in mIoU. " + ("No other {what} does so by more than {margin:.3g} points. " if small else "")
    elif len(rows) == 1:
        who, verb = f.titles[rows.index[0]], "does not beat" if small else "is not significantly better than"
    else:
        who = f"no {what}" if f.controlled else f"none of {count(len(rows))} {PLURALS[what]}"
        verb = "beats" if small else "is significantly better than"
    text = f"At equal schedule, {{who}} {verb} plain cross-entropy{end}"
    if better is None and not small:
        text += "Gains of up to {high:.1f} points cannot be excluded. "
    text = numbers.say("reading.headline", text, who=who, what=what, margin=f.margins[MIOU], high=most)
    if worse is not None:
        text += f"{upper(some(map(named, worse.index)))} {be(worse)} significantly worse."
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
    phrases = sorted_out(rows, AGAINST_CE, with_estimate(f, numbers), span=True)
    own = "this configuration" if len(rows) == 1 else "these configurations"
    return (
        f"{'. '.join(map(upper, phrases))}. But {own} also used another learning-rate schedule, so loss and schedule "
        "cannot be separated."
    )


# --- comparisons -----------------------------------------------------------------------------------------------------


def results(f: Findings, numbers: Numbers) -> str:
    """Between which values final mIoU lies, "" for fewer than two runs."""
    if len(f.ranks) < 2:
        return ""
    span = ends({f.titles[name]: value for name, value in f.ranks["value"].items()}, numbers, "final", ".2f", " %")
    means = ", the mean over seeds," if f.several_seeds else ""
    return f"Final validation mIoU (@tbl-results){means} ranges from {span}."


def either_way(f: Findings, images: Mapping[str, int]) -> str:
    """That single images favour a run, CE, or one of each, as the figures of the images that differ most show.

    images: {run: how many of its figure's}; two are one of each.
    """
    both = [method for method, count in images.items() if count > 1]
    one = [method for method in images if method not in both]
    return joined(
        f"Some images favour {listing(f.named(both))}, others favour CE ({_scenes(both)})." if both else "",
        f"Some images are segmented better by {listing(f.named(one))} or by CE ({_scenes(one)})." if one else "",
    )


def _scenes(methods: Iterable[str]) -> str:
    """What cites the figures of the images on which `methods` and CE differ most."""
    return ", ".join(f"@fig-{as_label(f'differing/{method}')}" for method in methods)


def alone(f: Findings, numbers: Numbers) -> str:
    """What a single finished run reached, "" where there are more, or none."""
    if len(f.ranks) != 1:
        return ""
    name = f.ranks.index[0]
    value = numbers.put(f"reading.ranking.{name}", f.ranks["value"].iloc[0], ".2f")
    return f"{f.titles[name]} reached {value} % mIoU; there is no other run of the eight to compare it with."


def ranking(f: Findings, numbers: Numbers, cited: str = "") -> str:
    """Which run has the highest mIoU (where to see it is `cited`), which are tied with it, which cannot be ranked."""
    values = f.ranks.attrs.get("unranked", {})
    if not values:
        return _order(f, numbers, cited)
    shown = {name: numbers.put(f"reading.unranked.{name}", value, ".2f") for name, value in values.items()}
    named = [f"{f.titles[name]} ({value} %)" for name, value in shown.items()]
    whose, verb = ("its", "is") if len(named) == 1 else ("their", "are")
    order, ranked = _order(f, numbers, cited), "Of the runs with results for single images, "
    order = f"{ranked}{order}" if order and max(values.values()) > f.ranks["value"].max() else order
    return f"{order} {listing(named)} {verb} not ranked: {whose} files hold no results for single images.".strip()


def _order(f: Findings, numbers: Numbers, cited: str) -> str:
    table, titles = f.ranks, f.titles
    if len(table) < 2:
        return ""
    top = numbers.put(f"reading.ranking.{table.index[0]}", table["value"].iloc[0], ".2f")
    leaders, last, tied = f.leaders, titles[table.index[-1]], f.named(f.tied)
    if len(leaders) == len(table):
        return f"All {plural(len(table), 'run')} end at exactly the same mIoU, {top} %."
    has = "has" if len(leaders) == 1 else "share"
    named = f"{listing(f.named(leaders))} {has} the highest final mIoU, {top} %{cited}"
    if table["low"].isna().all():
        return f"{named}. Without intervals, the order of the runs proves nothing."
    if len(table) == 2:
        relation = "which does not differ significantly from" if tied else "significantly above"
        return f"{named}, {relation} {last}."
    if table["ties"].nunique() == 1:
        return f"{named}. No two of the {count(len(table))} runs differ significantly."
    others = len(table) - 1
    tie = listing(tied) if len(tied) <= NAMED else f"{count(len(tied))} of the {count(others)} others"
    tie = "any of the others" if len(tied) == others else tie
    differs = f"does not differ significantly from {tie}" if tied else "differs significantly from all others"
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
        return (
            f"The differences from CE (@fig-differences, @tbl-differences) have no intervals ({why}), so none of them "
            "is judged."
        )
    margin = numbers.put("reading.margin.mIoU", f.margins[MIOU], ".3g")
    phrases = sorted_out(known, AGAINST_CE, with_estimate(f, numbers), span=True)
    phrases[0] += " (@fig-differences, @tbl-differences)"
    return f"{'. '.join(map(upper, phrases))}. Differences are in points of mIoU; the margin is {margin} points."


def neighbours(table: pd.DataFrame) -> str:
    """Which runs differ significantly from the next one in the ranking: `table` is that of `Evidence.neighbours`."""
    known = table.dropna(subset=["low", "high"]) if len(table) else table
    if not len(known):
        return ""
    decided = known[(known["low"] > 0) | (known["high"] < 0)]
    if decided.empty:
        return "No run differs significantly from the next one in the ranking (@tbl-neighbours)."
    number = count(len(decided)) if len(decided) < len(known) else "all"
    differ = "differs" if len(decided) == 1 else "differ"
    return (
        f"Of {plural(len(known), 'pair')} of neighbours in the ranking, {number} {differ} significantly "
        "(@tbl-neighbours)."
    )


def confounding(f: Findings, numbers: Numbers) -> str:
    """Which differences from CE do not isolate the loss, and what they go with instead."""
    other, text = f.named(f.other.index), ""
    if other:
        those = "The comparison with" if len(other) == 1 else "Comparisons with"
        text = (
            "Only comparisons within one schedule isolate the loss. "
            f"{those} {some(other)} {be(other)} *confounded*: learning rate, warm-up, power or freezing differ too. "
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
            "networks*, not of the losses; a decided difference may still be due to the random seed. Further seeds "
            "(`-p seed 1`) add the variation between trainings. The intervals then usually become wider at first, "
            "and fewer comparisons are decided; but what is decided speaks of the losses."
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
        f"configurations* where the schedule differs too. {wider(f, numbers)}"
    ).strip()


def wider(f: Findings, numbers: Numbers) -> str:
    """Why intervals over several seeds are wider than those of one seed, and what narrows them."""
    if not np.isfinite(f.seed_share):
        return ""
    return numbers.say(
        "reading.seeds",
        "Of the variance of a difference from CE, {share:.0f} % comes from the seeds, the rest from the images "
        "(median). A report on one seed cannot see the first part. Its intervals are narrower and decide more, but "
        "they say how these networks differ, not whether a second training would differ alike. What narrows intervals "
        "is more seeds: their part of the variance falls with the number of seeds.",
        share=100 * f.seed_share,
    )


def _seed_counts(f: Findings) -> str:
    many = sorted({number for number in f.seeds.values() if number > 1})
    return f"{many[0]}" if len(many) == 1 else f"{many[0]} to {many[-1]}"


def resamples(f: Findings, numbers: Numbers) -> str:
    """On how many resamples the intervals rest; nothing where there are none."""
    if not f.resamples:
        return ""
    return numbers.say("reading", "Every interval rests on {resamples:,d} resamples.", resamples=f.resamples)


def first_seeds(f: Findings) -> str:
    """What figures of single runs show where there are several seeds, "" otherwise."""
    if not f.several_seeds:
        return ""
    return (
        "Curves, values by initial rate, times and pictures are those of one seed of each configuration; all other "
        "values are means over seeds."
    )


def over_seeds(f: Findings, deviation: bool = False) -> str:
    """What a table, with a column of deviations or without, says where there are several seeds, "" otherwise."""
    if not f.several_seeds:
        return ""
    return "Means over seeds" + ("; sd: the standard deviation between seeds, in points." if deviation else ".")


def ends(values: Mapping[str, float], numbers: Numbers, key: str, fmt: str | Callable[[float], str], unit: str) -> str:
    """The lowest and the highest of {name: value} as "4.1 % (CE) to 5.0 % (A and B)", with those that print so."""
    low = numbers.put(f"reading.{key}.low", min(values.values()), fmt)
    high = numbers.put(f"reading.{key}.high", max(values.values()), fmt)
    printed = {name: fmt(value) if callable(fmt) else format(value, fmt) for name, value in values.items()}
    lowest, highest = (some(name for name, text in printed.items() if text == end) for end in (low, high))
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
        f"The boundary F-score (@fig-boundary) ranges from {span}.",
        f"{'. '.join(map(upper, sorted_out(known, AGAINST_CE, f.title)))}." if len(known) else "",
        "All runs are scored on the same images. So the interval of a difference decides whether two runs differ, not "
        "the overlap of their own intervals.",
    )


def trusted(f: Findings) -> str:
    """Whose probabilities are significantly less or better calibrated than those of CE, at equal schedule."""
    judged, ways = f.calibrated, {SUPPORTED: "larger", CONTRADICTED: "smaller"}
    parts = [
        f"of {some(map(f.title, rows.index), len(judged))} is significantly {way}"
        for verdict, way in ways.items()
        if len(rows := judged[judged["verdict"] == verdict])
    ]
    error = "At equal schedule, the calibration error"
    return f"{error} {' and that '.join(parts)} than that of plain cross-entropy." if parts else ""


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
    is_or_ranges = "ranges from" if len(table) > 1 else "is"
    text = f"The expected calibration error (@fig-reliability, @tbl-calibration) {is_or_ranges} {span}. "
    for side, word in ((above, "overconfident: mean confidence exceeds accuracy"), (below, "underconfident")):
        text += f"{upper(some(side, len(table)))} {be(side)} {word}. " if side else ""
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
    ways = {SUPPORTED: "{who} on more than half of them", CONTRADICTED: "{who} on less than half"}
    ways |= {EQUIVALENT: "{who} on about half, within the margin", INCONCLUSIVE: "{who} inconclusively"}
    phrases = "; ".join(sorted_out(known, ways, f.title))
    return f"Runs beat CE on {span} of the images (@tbl-wins): {phrases}."


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
