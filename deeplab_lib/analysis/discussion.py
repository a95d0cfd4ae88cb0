"""What the results mean, what they rest on, and where a reader should be careful: paragraphs made of `Findings`.

Every paragraph is chosen by what was found; numbers are registered under `discussion.` or where they were first said.
"""

import numpy as np

from deeplab_lib.analysis.findings import Findings, by_verdict
from deeplab_lib.analysis.numbers import Numbers
from deeplab_lib.analysis.sentences import NAMED, from_ce, joined, rate, some, upper
from deeplab_lib.analysis.statistics import MIOU
from deeplab_lib.analysis.verdicts import CONTRADICTED, EQUIVALENT, INCONCLUSIVE, SUPPORTED
from deeplab_lib.common.text import be, count, listing, plural

OVERLAP = frozenset({"tversky", "dice", "lovasz"})


def discussion(f: Findings, numbers: Numbers) -> str:
    """The discussion, as Markdown paragraphs."""
    said = (meaning(f, numbers), loss_or_schedule(f, numbers), trainings(f), probabilities(f), care(f))
    return "\n\n".join(filter(None, said)) or "A single run is no comparison; there is nothing to discuss."


def meaning(f: Findings, numbers: Numbers) -> str:
    """What the comparison at equal schedule shows, and what it leaves open; "" for fewer than two runs."""
    if len(f.ranks) < 2:
        return ""
    if f.no_intervals:
        return (
            f"*What the values show.* No difference between these runs can be judged, since {f.no_intervals}. Their "
            "order is a description of these trainings. It says nothing of what another training, or other images, "
            "would give."
        )
    rows = f.same
    if rows.empty:
        return "*What the comparison shows.* No run shares the schedule of a CE run, so nothing here isolates a loss."
    found = by_verdict(rows)
    reach = float((rows["high"] - rows["low"]).max() / 2)
    margin, parts = f.margins[MIOU], []
    decided = [name for verdict in (SUPPORTED, CONTRADICTED) for name in found.get(verdict, rows[:0]).index]
    if decided:
        chance = "chance explains" if np.isfinite(f.seed_share) else "the choice of images explains"
        parts.append(
            f"At equal schedule, {some(f.named(decided))} {'differs' if len(decided) == 1 else 'differ'} from plain "
            f"cross-entropy by more than {chance}, and nothing but the loss is different there."
        )
    if EQUIVALENT in found:
        alike = found[EQUIVALENT]
        parts.append(
            f"{upper(some(f.named(alike.index), len(rows)))} {be(alike)} close enough to plain cross-entropy that the "
            "choice does not matter for mIoU here."
        )
    if INCONCLUSIVE in found:
        compared = "more" if reach > margin else "less"
        parts.append(
            numbers.say(
                "discussion",
                f"At equal schedule, {_of(len(found[INCONCLUSIVE]), len(rows))} "
                f"{'comparison' if len(rows) == 1 else 'comparisons'} with plain cross-entropy "
                f"{be(found[INCONCLUSIVE])} open. An interval reaches up to {{reach:.1f}} "
                f"points to either side of its estimate, {compared} than the margin of {margin:g} points. A gain that "
                "would matter is compatible with these data, and so is none: an open comparison is no evidence that "
                "two losses are alike.",
                reach=reach,
            )
        )
    return joined("*What the comparison shows.*", *parts, shared_baseline(f))


def _of(number: int, whole: int) -> str:
    """How many of all: "the", "all seven" or "three of seven"."""
    if number < whole:
        return f"{count(number)} of {count(whole)}"
    return "the" if whole == 1 else f"all {count(whole)}"


def shared_baseline(f: Findings) -> str:
    """A warning where nearly all estimates at equal schedule have one sign: they share the trainings of CE."""
    rows = f.same
    above, below = int((rows["estimate"] > 0).sum()), int((rows["estimate"] < 0).sum())
    side, number = ("above", above) if above > below else ("below", below)
    if len(rows) < 4 or number < 0.8 * len(rows):
        return ""
    return (
        f"{upper(_of(number, len(rows)))} estimates lie {side} zero. They are not independent: each compares with the "
        f"same trainings of CE, and if these ended {'low' if side == 'above' else 'high'} by chance, all estimates are "
        "moved together."
    )


def loss_or_schedule(f: Findings, numbers: Numbers) -> str:
    """How much of the differences across schedules remains on one schedule, where the control was trained."""
    if not len(f.other) or (f.controls and f.no_intervals):
        return ""
    head = "*Loss or schedule.*"
    known = f.decidable
    pairs = {c: own for c, own in f.controls.items() if c in known.index and own in known.index}
    if not pairs:
        return joined(
            head,
            f"{upper(some(f.named(f.other.index)))} changed loss and schedule at once. What they gain or lose belongs "
            "to both; a control that trains their losses on the schedule of the CE run (`-p schedule ce`) would "
            "separate the two.",
            rate(f, numbers, brief=False),
        )
    shown = [
        f"{f.titles[own]} {from_ce(f, numbers, own)} on its own schedule, {from_ce(f, numbers, control)} on that of CE"
        for control, own in list(pairs.items())[:NAMED]
    ]
    kept = [own for control, own in pairs.items() if _decided(f, own) and _decided(f, control)]
    lost = [own for control, own in pairs.items() if _decided(f, own) and not _decided(f, control)]
    parts = [
        "The control trains the losses of the other schedules on that of CE, too. Their differences from CE, in points "
        f"of mIoU: {'; '.join(shown)}."
    ]
    if lost:
        parts.append(
            f"What is significant for {listing(f.named(lost))} is not on the schedule of CE, so the study's step from "
            "“this run is better” to “this loss is better” is not supported here."
        )
    if kept:
        parts.append(
            f"The difference of {listing(f.named(kept))} is significant on both schedules: there it is the loss."
        )
    if not lost and not kept:
        parts.append("None of these differences is significant on its own schedule, so there is nothing to attribute.")
    return joined(head, *parts)


def _decided(f: Findings, name: str) -> bool:
    return f.versus["verdict"][name] in (SUPPORTED, CONTRADICTED)


def trainings(f: Findings) -> str:
    """What one seed, or several, mean for the intervals, and what to do about wide ones."""
    if len(f.ranks) < 2 or f.no_intervals:
        return ""
    if not np.isfinite(f.seed_share):
        return (
            "*One training of each.* These verdicts compare trained networks. Whether they would come out alike after "
            "another training is not known. The study's own comparison has the same limit. A second seed of each "
            "configuration would show it. As the variation between trainings is then counted, intervals usually become "
            "wider, and fewer claims are decided. This is no step back: the verdicts then speak of the losses."
        )
    return (
        "*Several trainings of each.* Intervals that include the variation between seeds answer whether a *loss* "
        "is better, not whether one network is. They are wider than those that a single seed gives, and more claims "
        "remain open (@sec-uncertainty). A reader who needs an answer has three ways: more seeds, in the numbers that "
        "@tbl-claims gives; a question with fewer comparisons, which makes intervals narrower; or a wider margin, set "
        "before the results are seen."
    )


def probabilities(f: Findings) -> str:
    """How the calibration of runs with an overlap loss compares with what others found, at equal schedule."""
    rows = f.calibrated
    rows = rows[[bool(f.terms.get(name, frozenset()) & OVERLAP) for name in rows.index]]
    if rows.empty:
        return ""
    worse, better = ([name for name in rows.index if rows["verdict"][name] == v] for v in (SUPPORTED, CONTRADICTED))
    known = "networks trained with the Dice loss are known to be overconfident [@mehrtash2020confidence]"
    if worse and not better:
        found = (
            f"{upper(some(f.named(worse), len(rows)))} with an overlap loss {be(worse)} significantly worse calibrated "
            f"than plain cross-entropy. This agrees with earlier work: {known}."
        )
    elif better and not worse:
        found = (
            f"{upper(some(f.named(better), len(rows)))} with an overlap loss {be(better)} significantly better "
            f"calibrated than plain cross-entropy. This differs from earlier work: {known}."
        )
    else:
        found = f"Whether overlap losses calibrate worse is not decided by these runs; {known}."
    return (
        f"*Probabilities.* {found} mIoU does not see this, as it depends on the most probable class alone. Who uses "
        "the probabilities, for a threshold or to combine networks, should look at both."
    )


def care(f: Findings) -> str:
    """What the verdicts rest on, apart from the data."""
    if len(f.ranks) < 2:
        return ""
    parts = [
        "Every loss but cross-entropy was trained in combination with it, so a verdict on “Lovász” is one on these "
        "mixtures at these weights.",
        "No rate or weight was tuned for a loss; with a search for each, the order may be another "
        "[@bouthillier2021variance].",
    ]
    if not f.no_intervals:
        parts.append(
            "The margin is a choice: with a smaller one, fewer differences are found not to matter and more "
            "comparisons are open. Intervals cover other images of the same kind, not other cities or cameras."
        )
    if f.judged:
        parts.append(f"The {plural(len(f.verdicts), 'claim')} share runs, so their verdicts are not independent.")
    return joined("*Where to be careful.*", *parts)
