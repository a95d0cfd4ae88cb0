"""What the report concludes: abstract, conclusions, the study's claims with their verdicts, limitations.

No sentence about results is fixed: each is chosen by `Findings` and filled in from it.
"""

from collections.abc import Callable, Iterable, Sequence

import pandas as pd

from deeplab_lib.analysis.claim_tests import LONG_ENOUGH, Finding
from deeplab_lib.analysis.claims import Verdict
from deeplab_lib.analysis.findings import Findings
from deeplab_lib.analysis.numbers import Numbers
from deeplab_lib.analysis.sentences import (
    alone,
    certainty,
    elsewhere,
    headline,
    joined,
    ranking,
    rate,
    some,
    trusted,
    upper,
    without_baseline,
)
from deeplab_lib.analysis.verdicts import CONTRADICTED, EQUIVALENT, INCONCLUSIVE, SUPPORTED
from deeplab_lib.common.text import be, count, listing, plural, signed
from deeplab_lib.recipes import RECIPES

LOSSES = {"ce": "cross-entropy", "focal": "Focal", "tversky": "Tversky", "dice": "Dice", "lovasz": "Lovász-Softmax"}


def abstract(f: Findings, numbers: Numbers) -> str:
    """The report in a paragraph: the finding, how sure it is, and what it rests on."""
    first = headline(f, numbers)
    return joined(
        first or ranking(f, numbers),
        alone(f, numbers),
        certainty(f, numbers),
        elsewhere(f, numbers),
        trusted(f),
        rate(f, numbers),
        count_verdicts(f) if len(f.seeds) > 1 else "",
        basis(f),
        departures(f),
        left_unfinished(f) if f.unfinished and f.finished else "",
        reach(f),
    )


def conclusions(f: Findings, numbers: Numbers) -> str:
    """The conclusions, as Markdown paragraphs; the finding comes first."""
    paragraphs = [
        joined(headline(f, numbers), certainty(f, numbers), elsewhere(f, numbers), trusted(f)),
        joined(ranking(f, numbers), alone(f, numbers), departures(f)),
        without_baseline(f, numbers),
    ]
    if len(f.seeds) > 1:
        paragraphs += [count_verdicts(f), decided(f), narrower(f), undecided(f)]
        if f.baseline and not f.controlled and any(map(_mark, f.verdicts)):
            paragraphs.append(
                "Training all eight losses on the schedule of the CE run (`-p schedule ce`) would separate loss and "
                "schedule in the verdicts marked †."
            )
    paragraphs.append(outlook(f))
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def basis(f: Findings) -> str:
    """What all of it rests on."""
    number = len(f.seeds)
    if number < 2:
        runs = plural(len(f.finished), "finished run") if f.finished else plural(len(f.unfinished), "unfinished run")
        return f"This report covers {runs} of DeepLabV2 ({f.scope})."
    used = listing(words for name, words in LOSSES.items() if name in f.losses)
    who = f", in {len(f.finished)} runs of {count(f.people)} people" if f.people > 1 else ""
    configurations = plural(f.configurations, "loss configuration")
    return f"DeepLabV2 was trained under {configurations} that combine {used}{who} ({f.scope})."


def reach(f: Findings) -> str:
    """How far the results reach: not to real streets, if they are synthetic."""
    if not f.synthetic:
        return ""
    return (
        "The images are synthetic and the training is short: the report demonstrates the method and says nothing "
        "about real street scenes."
    )


# --- the study's claims ----------------------------------------------------------------------------------------------


def verdict_table(
    verdicts: Sequence[Verdict], published: Iterable[Verdict] = (), numbers: Numbers | None = None
) -> pd.DataFrame:
    """The claims with their verdicts on our runs, and which way the published figures point; all text.

    Beside a verdict stands what it speaks of, and beside an inconclusive one what would settle it. The published
    figures stand with their differences, registered in `numbers` as `published-claims.<claim>.<part>`.
    """
    ways = {verdict.claim.key: _way(verdict, numbers) for verdict in published} if numbers else {}
    rows = {
        f"({verdict.claim.key})": {
            "claim of the study": verdict.claim.text,
            "these runs": verdict.verdict + _mark(verdict),
            "speaks of": verdict.speaks_of or "–",
            "would be settled by": _settled_by(verdict),
            "published": ways.get(verdict.claim.key, "–"),
        }
        for verdict in verdicts
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def verdict_summary(f: Findings) -> str:
    """What the table of claims shows, in sentences."""
    return (
        f"{count_verdicts(f)} The table says what each verdict speaks of, what would settle the inconclusive ones, and "
        "which way the published figures point (@tbl-claims). Rules and measurements are in @sec-details."
    )


def _settled_by(verdict: Verdict) -> str:
    """What would settle an inconclusive claim, or why it is open; a dash for any other."""
    if verdict.verdict != INCONCLUSIVE:
        return "–"
    reasons = {finding.open_reason: finding.seeds for finding in verdict.decisive if finding.open_reason}
    counted = [reason for reason in reasons if reason.endswith("seeds per configuration")]
    most = max(counted, key=reasons.__getitem__, default=None)  # the parts are settled when that of most seeds is
    return "; ".join(reason for reason in reasons if reason not in counted or reason == most) or "–"


def _way(verdict: Verdict, numbers: Numbers) -> str:
    """Which way the estimates of a verdict point, where there are no intervals to judge them by, and the estimates."""
    known = [(i, finding.figures.get("estimate")) for i, finding in enumerate(verdict.deciding) if finding.direction]
    if not known:
        return "–"
    words = {1: "towards", -1: "against"}.get(verdict.direction, "divided")
    key = f"published-claims.{verdict.claim.key}"
    estimates = [numbers.put(f"{key}.{i}", estimate, signed) for i, estimate in known if estimate is not None]
    return f"{words} ({'; '.join(estimates)})" if estimates else words


def verdict_details(verdicts: Sequence[Verdict], numbers: Numbers) -> str:
    """Every claim with its rule and all that was found, as Markdown: a point for each part, with what decides first."""
    paragraphs = []
    for verdict in verdicts:
        claim = verdict.claim
        parts: dict[str, dict[bool, list[tuple[Finding, str]]]] = {}
        for i, finding in enumerate(verdict.findings):
            said = finding.sentence(numbers, f"claims.{claim.key}.{i}")
            decides = finding in verdict.deciding
            parts.setdefault(finding.part, {}).setdefault(decides, []).append((finding, said))
        lines = [f"**({claim.key}) {claim.text}** *{upper(verdict.verdict)}.* Rule: {claim.rule}."]
        lines += [_point(part, found.get(True, []), found.get(False, [])) for part, found in parts.items()]
        lines += [] if verdict.findings else ["- There is no run that this could be tested on."]
        paragraphs.append(lines[0] + "\n\n" + "\n".join(lines[1:]))
    return "\n\n".join(paragraphs)


def _point(part: str, deciding: list[tuple[Finding, str]], others: list[tuple[Finding, str]]) -> str:
    """One part of a claim as a list item; what does not decide comes after it, if it says anything new."""
    text = f"- {upper(part)}. "
    text += " ".join(f"{_where(finding)}: {said}. *{upper(finding.verdict)}.*" for finding, said in deciding)
    known = {said for _, said in deciding}
    beside = [(finding, said) for finding, said in others if said not in known]
    return text.strip() + "".join(f" (For comparison, {_where(f, lower=True)}: {said}.)" for f, said in beside)


def _where(finding: Finding, lower: bool = False) -> str:
    words = f"{finding.scope}{', confounded' if finding.confounded else ''}"
    return words if lower else upper(words)


def _lettered(verdict: Verdict) -> str:
    """A claim's key, with its mark."""
    return f"{verdict.claim.key}{_mark(verdict)}"


def decided(f: Findings) -> str:
    """The claims that are not inconclusive, a list item each, with those of their parts that came out otherwise."""
    lines = []
    for verdict in f.verdicts:
        if verdict.verdict == INCONCLUSIVE:
            continue
        other = [x.part for x in verdict.deciding if x.verdict == SUPPORTED and verdict.verdict == CONTRADICTED]
        but = f" Supported, however: {listing(other)}." if other else ""
        lines.append(f"- ({verdict.claim.key}) {verdict.claim.text} *{upper(verdict.verdict)}.*{_mark(verdict)}{but}")
    return "\n".join(lines)


def _mark(verdict: Verdict) -> str:
    """A dagger for a verdict that was reached across schedules."""
    return " †" if verdict.confounded and verdict.verdict != INCONCLUSIVE else ""


def count_verdicts(f: Findings) -> str:
    """How many claims fared how, with the keys of those that are decided."""
    words = {SUPPORTED: "{be} supported", CONTRADICTED: "{be} contradicted", INCONCLUSIVE: "{be} inconclusive"}
    words[EQUIVALENT] = "{show} no difference that matters"
    parts = []
    for name in (SUPPORTED, CONTRADICTED, EQUIVALENT, INCONCLUSIVE):
        found = [verdict for verdict in f.verdicts if verdict.verdict == name]
        if found:
            quoted = f" ({'; '.join(map(_lettered, found))})" if name != INCONCLUSIVE else ""
            said = words[name].format(be=be(found), show="shows" if len(found) == 1 else "show")
            parts.append((found, said + quoted))
    judged = f"Judged on {count(f.judged)} of the eight configurations, " if f.judged < len(RECIPES) else ""
    claims = f"the study's {plural(len(f.verdicts), 'claim')}"
    if len(parts) == 1:
        text = f"{judged}{'all of ' if len(f.verdicts) > 1 else ''}{claims} {parts[0][1]}."
    else:
        text = f"{judged}of {claims}, {listing(f'{count(len(found))} {said}' for found, said in parts)}."
    note = " † Decided only by a comparison that also differs in schedule." if any(map(_mark, f.verdicts)) else ""
    return upper(text) + note


def narrower(f: Findings) -> str:
    """Why a claim on who is best can be decided where the ranking leaves its runs tied, "" where none is."""
    sure = [verdict for verdict in f.verdicts if verdict.verdict in (SUPPORTED, CONTRADICTED)]
    keys = [v.claim.key for v in sure if any(finding.whole for finding in v.deciding)]
    if not keys or not len(f.ranks) or not f.tied:
        return ""
    return (
        f"Claim {listing(keys)} is decided although the ranking leaves its first run tied with others. It asks less: "
        "which run is best, not how all runs compare with each other (@sec-claims)."
    )


def undecided(f: Findings) -> str:
    """Of the inconclusive claims, the parts that are decided, and which way the rest points."""
    left = [verdict for verdict in f.verdicts if verdict.verdict == INCONCLUSIVE]
    decided = {v.claim.key: [part for part in v.deciding if part.verdict != INCONCLUSIVE] for v in left}
    sides = []
    for verdict in (SUPPORTED, CONTRADICTED):
        parts = {key: [part.part for part in found if part.verdict == verdict] for key, found in decided.items()}
        keys = [f"({key}) {listing(names)}" for key, names in parts.items() if names]
        sides += [f"{verdict}: {'; '.join(keys)}"] if keys else []
    text = f"Parts of inconclusive claims are decided; {'; '.join(sides)}. " if sides else ""
    leaning = [verdict for verdict in left if verdict.direction and not decided[verdict.claim.key]]
    agree, against = ([v.claim.key for v in leaning if v.direction == sign] for sign in (1, -1))
    ways = [f"{way} {listing(keys)}" for way, keys in (("agree with", agree), ("disagree with", against)) if keys]
    if ways:
        other = "other " if sides else ""
        text += f"Of the {other}inconclusive claims, the estimates {' and '.join(ways)}; this is not evidence."
    return text.strip()


def outlook(f: Findings) -> str:
    """What would strengthen the conclusions, given what there is."""
    steps, verdicts = [], f.verdicts
    if f.seeds and not f.baseline:
        steps.append("a run of plain cross-entropy, with which most claims compare")
    if short := _keys(verdicts, lambda finding: finding.short):
        steps.append(f"{count(LONG_ENOUGH)} epochs or more (without which {listing(short)} cannot be decided)")
    if few := _keys(verdicts, lambda finding: finding.seeds):
        seeds = _needed(verdicts, lambda finding: finding.seeds)
        left = [v for v in verdicts if v.verdict == INCONCLUSIVE and v.claim.key in few]
        enough = all(finding.seeds for verdict in left for finding in verdict.decisive)
        what = "all of them" if enough else "what seeds alone can decide"
        most = f"; up to {max(seeds):,d} decide {what}" if len(set(seeds)) > 1 else ""
        steps.append(
            f"{plural(min(seeds), 'seed')} a configuration (without which {listing(few)} cannot be decided{most})"
        )
    elif min(f.seeds.values(), default=1) == 1:
        steps.append("several seeds a configuration")
    if few := _keys(verdicts, lambda finding: "images_any" in finding.figures):
        images = _needed(verdicts, lambda finding: int(finding.figures.get("images_any", 0)))
        least = f"{min(images):,d} to " if len(set(images)) > 1 else ""
        steps.append(f"{least}{max(images):,d} validation images (with which {listing(few)} would be decided)")
    if not f.controlled and f.schedules > 1:
        steps.append("a control with one schedule for all")
    if f.synthetic:
        steps.append("real streets at full scale")
    if f.models < 2:
        steps.append("the same recipe on newer architectures")
    if not steps:
        return ""
    if len(steps) == 1:
        return f"The conclusions would be strengthened by {steps[0]}."
    items = "\n".join(f"{i}. {upper(step)}." for i, step in enumerate(steps, 1))
    return f"In order of priority, the conclusions would be strengthened by:\n\n{items}"


def _needed(verdicts: Iterable[Verdict], number: Callable[[Finding], int]) -> list[int]:
    """For each claim left open that it depends on, the largest `number(finding)` of its deciding parts."""
    most = [max(map(number, v.decisive), default=0) for v in verdicts if v.verdict == INCONCLUSIVE]
    return [value for value in most if value]


def _keys(verdicts: Iterable[Verdict], lacking: Callable[[Finding], object]) -> list[str]:
    """The claims left open of which a deciding part is `lacking(finding)`."""
    return [v.claim.key for v in verdicts if v.verdict == INCONCLUSIVE and any(map(lacking, v.decisive))]


# --- limits ----------------------------------------------------------------------------------------------------------


def departures(f: Findings) -> str:
    """Why nothing is compared in a folder whose runs all depart from the recipes, and not alike; "" elsewhere."""
    if f.seeds or not f.finished:
        return ""
    return (
        "None of them is one of the eight configurations as it is, so nothing is ranked and no claim is judged. Their "
        "values are in @tbl-ablations."
    )


def left_unfinished(f: Findings) -> str:
    """How many runs are not finished, in a sentence."""
    return f"{upper(plural(len(f.unfinished), 'run'))} {be(f.unfinished)} not finished."


def from_scratch(scratch: Sequence[str], pretrained: Sequence[str]) -> str:
    """A warning when runs started from random weights, "" otherwise; both are labels of runs."""
    if not scratch:
        return ""
    few = listing(pretrained if len(pretrained) < len(scratch) else scratch)
    who = "All runs" if not pretrained else f"All runs but {few}" if len(pretrained) < len(scratch) else few
    return (
        f"{who} started from random weights. The study started from a backbone pretrained on ImageNet, which is worth "
        "many points of mIoU. So the level of these results must not be compared with the study or the literature."
    )


def limitations(f: Findings) -> str:
    """What these results cannot show, as a list; every item is there because the runs' records call for it."""
    alike = f.named([name for name in f.equal if name in f.ranks.index])
    but = f", except among {some(alike, most=5)}" if len(alike) > 1 else ""
    control = "; the control does not have this limit" if f.controlled else ""
    items = {
        "One seed a configuration: every value includes unknown variation between seeds.":
            f.seeds and len(f.single_seeds) == len(f.seeds),
        f"One seed of {listing(f.single_seeds)}: its values include unknown variation between seeds.":
            0 < len(f.single_seeds) < len(f.seeds),
        "The scenes are synthetic; nothing follows for photographs.": f.synthetic,
        f"The scale is that of the preset `{f.preset}`: another network, another image size and fewer steps than the "
        "study's. Losses may compare differently there.": f.preset and f.preset != "paper",
        from_scratch(f.scratch, f.pretrained): f.scratch,
        f"The schedule varies together with the loss{but}{control}.": f.schedules > 1,
        f"Only {count(f.judged)} of the eight configurations are compared; claims are judged on these alone.":
            1 < f.judged < len(RECIPES),
        "Everything ran on a CPU; times and latencies say nothing about a GPU.": f.devices == ("cpu",),
        f"No difference here is judged, for there are no intervals: {f.no_intervals}.": f.no_intervals,
        left_unfinished(f): f.unfinished,
        "Classes that occur in few validation images have wide intervals or none.": True,
    }  # fmt: skip
    return "\n".join(f"- {item}" for item, holds in items.items() if holds)
