"""What the report concludes: verdicts on the study's claims in words, abstract, conclusions, limitations.

No sentence about results is fixed: each is chosen and filled in from the ranking, the intervals and the verdicts.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import pandas as pd

from deeplab_lib.analysis import prose
from deeplab_lib.analysis.claims import LONG_ENOUGH, Verdict
from deeplab_lib.analysis.evidence import Evidence
from deeplab_lib.analysis.numbers import Numbers
from deeplab_lib.analysis.prose import count, plural
from deeplab_lib.analysis.setup_text import from_scratch, scope
from deeplab_lib.analysis.verdicts import CONTRADICTED, EQUIVALENT, INCONCLUSIVE, SUPPORTED
from deeplab_lib.common.text import listing, signed
from deeplab_lib.recipes import RECIPES
from deeplab_lib.study.results import Study


def verdict_table(
    verdicts: Sequence[Verdict], published: Iterable[Verdict] = (), numbers: Numbers | None = None
) -> pd.DataFrame:
    """The claims with their verdicts on our runs, and which way the published figures lie; all text.

    Beside a verdict stands what it speaks of, and beside an inconclusive one what would settle it. The published
    figures stand with their differences, registered in `numbers` as `published-claims.<claim>.<part>`.
    """
    ways = {verdict.claim.key: _way(verdict, numbers) for verdict in published}
    rows = {
        f"({verdict.claim.key})": {
            "claim of the study": verdict.claim.text,
            "these runs": verdict.verdict + _mark(verdict),
            "speaks of": verdict.speaks_of or "–",
            "would be settled by": _settled_by(verdict),
            "published figures": ways.get(verdict.claim.key, "–"),
        }
        for verdict in verdicts
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def _settled_by(verdict):
    """What would settle an inconclusive claim, or why it is open; a dash for any other."""
    if verdict.verdict != INCONCLUSIVE:
        return "–"
    return "; ".join(dict.fromkeys(finding.open_reason for finding in verdict.decisive if finding.open_reason)) or "–"


def _way(verdict, numbers):
    """Which way the estimates of a verdict lie, where there are no intervals to judge them by, and the estimates."""
    known = [(i, finding.figures.get("estimate")) for i, finding in enumerate(verdict.deciding) if finding.direction]
    if not known:
        return "–"
    words = {1: "lie with it", -1: "lie against it"}.get(verdict.direction, "are divided")
    key = f"published-claims.{verdict.claim.key}"
    estimates = [numbers.put(f"{key}.{i}", estimate, signed) for i, estimate in known if estimate is not None]
    return f"{words} ({'; '.join(estimates)})" if estimates else words


def verdict_details(verdicts: Sequence[Verdict], numbers: Numbers) -> str:
    """Every claim with its rule and all that was found, as Markdown: a point for each part, with what decides first."""
    paragraphs = []
    for verdict in verdicts:
        claim, parts = verdict.claim, {}
        for i, finding in enumerate(verdict.findings):
            statement = _where(finding) + finding.sentence(numbers, f"claims.{claim.key}.{i}")
            decides = finding in verdict.deciding
            parts.setdefault(finding.part, {}).setdefault(decides, []).append((statement, finding.verdict))
        lines = [f"**({claim.key}) {claim.text}** *{verdict.verdict.capitalize()}.* Rule: {claim.rule}."]
        lines += [_point(part, found.get(True, []), found.get(False, [])) for part, found in parts.items()]
        lines += [] if verdict.findings else ["- There is no run that this could be tested on."]
        paragraphs.append(lines[0] + "\n\n" + "\n".join(lines[1:]))
    return "\n\n".join(paragraphs)


def _where(finding):
    return f"{finding.scope}{', confounded' if finding.confounded else ''}: "


def _point(part, deciding, others):
    """One part of a claim as a list item; what does not decide comes after it, if it says anything new."""
    text = f"- {part[0].upper()}{part[1:]}. "
    text += " ".join(f"{said[0].upper()}{said[1:]}. *{verdict.capitalize()}.*" for said, verdict in deciding)
    said = {statement.partition(": ")[2] for statement, _ in deciding}
    beside = [statement for statement, _ in others if statement.partition(": ")[2] not in said]
    return text.strip() + "".join(f" (Beside it, {statement}.)" for statement in beside)


def _quoted(verdict):
    """A claim in quotes, with its mark."""
    return f"“{verdict.claim.text.rstrip('.')}”{_mark(verdict)}"


def _with_parts(verdict):
    """A claim in quotes, with its key and those of its parts that came out otherwise."""
    other = [f.part for f in verdict.deciding if f.verdict == SUPPORTED and verdict.verdict == CONTRADICTED]
    but = f", but supported: {listing(other)}" if other else ""
    return f"{verdict.claim.key}, {_quoted(verdict)}{but}"


def _lettered(verdict):
    """A claim's key, with its mark."""
    return f"{verdict.claim.key}{_mark(verdict)}"


def count_verdicts(verdicts: Sequence[Verdict], evidence: Evidence, quote: Callable[[Verdict], str] = _quoted) -> str:
    """How many claims fared how, in a sentence; `quote(verdict)` says it of each that is decided."""
    parts = []
    for name in (SUPPORTED, CONTRADICTED, EQUIVALENT, INCONCLUSIVE):
        found = [verdict for verdict in verdicts if verdict.verdict == name]
        if found:
            quoted = f" ({'; '.join(map(quote, found))})" if name != INCONCLUSIVE else ""
            be, come = ("is", "comes") if len(found) == 1 else ("are", "come")
            parts.append((found, f"{f'{come} to' if name == EQUIVALENT else be} {name}{quoted}"))
    across = [verdict for verdict in verdicts if _mark(verdict)]
    note = " † Across different schedules: this speaks of configurations, not of losses." if across else ""
    have = len(evidence.judged)
    judged = f"Judged on {count(have)} of the eight configurations, " if have < len(RECIPES) else ""
    claims = f"the study's {plural(len(verdicts), 'claim')}"
    if len(parts) == 1:
        text = f"{judged}{'all of ' if len(verdicts) > 1 else ''}{claims} {parts[0][1]}.{note}"
    else:
        text = f"{judged}of {claims}, {listing(f'{count(len(found))} {words}' for found, words in parts)}.{note}"
    return text[0].upper() + text[1:]


def abstract(
    study: Study,
    evidence: Evidence,
    ranks: pd.DataFrame,
    versus: pd.DataFrame,
    verdicts: Sequence[Verdict],
    titles: Mapping[str, str],
    numbers: Numbers,
) -> str:
    """The report in a paragraph."""
    several, intervals = len(evidence.recipes) > 1, len(versus) > 0 and not evidence.no_intervals
    sentences = [
        _subject(study, evidence),
        prose.alone(ranks, titles, numbers),
        prose.ranking(ranks, titles, numbers),
        prose.distinguished(versus, titles, evidence) if intervals and len(versus) > 1 else "",
        prose.other_schedules(versus, evidence) if intervals else "",
        prose.follows_rate(evidence, numbers, brief=True),
        count_verdicts(verdicts, evidence, _lettered) if several else "",
        _departures(study, evidence),
        _unfinished(study) if study.unfinished and study.finished else "",
        "The images are synthetic and the training is short: the method is shown, not the field."
        if study.scope.synthetic
        else "",
    ]
    return " ".join(filter(None, sentences))


def _subject(study, evidence):
    """What was trained, and how sure the differences are."""
    if len(evidence.recipes) < 2:
        return f"This report covers {_covered(study)} of DeepLabV2 ({scope(study)})."
    configurations = plural(len(evidence.recipes), "loss configuration")
    text = f"DeepLabV2 was trained under {configurations} that combine {_losses(evidence)} ({scope(study)})."
    if evidence.no_intervals:
        return f"{text} Since {evidence.no_intervals}, how sure a difference is cannot be said."
    text += (
        " Differences in mean intersection over union (mIoU) are held against the uncertainty of the validation images"
    )
    once = set(evidence.seeds.values()) == {1}
    return text + ("; with one seed a run, a second training may give others." if once else ".")


def _unfinished(study):
    """How many runs are not finished, in a sentence."""
    number = len(study.unfinished)
    return f"{plural(number, 'run').capitalize()} {'is' if number == 1 else 'are'} not finished."


def _departures(study, evidence):
    """Why nothing is compared in a folder whose runs all depart from the recipes, and not alike; "" elsewhere."""
    if evidence.recipes or not study.finished:
        return ""
    return (
        "None of them is one of the eight configurations as it is, so nothing is ranked and no claim is judged; their "
        "values stand in @tbl-ablations."
    )


def _covered(study):
    """The runs that are finished, in words; where there is none, those that are not."""
    return plural(len(study.finished), "finished run") if study.finished else plural(len(study.runs), "unfinished run")


def _losses(evidence):
    """The losses that the recipes contain, in words."""
    names = {"ce": "cross-entropy", "focal": "Focal", "tversky": "Tversky", "dice": "Dice", "lovasz": "Lovász-Softmax"}
    used = set().union(*(method.losses for method in evidence.recipes))
    return listing(words for name, words in names.items() if name in used)


def conclusions(
    study: Study,
    evidence: Evidence,
    ranks: pd.DataFrame,
    versus: pd.DataFrame,
    verdicts: Sequence[Verdict],
    titles: Mapping[str, str],
    numbers: Numbers,
) -> str:
    """The conclusions, as Markdown paragraphs."""
    paragraphs = [prose.ranking(ranks, titles, numbers)] if len(ranks) > 1 else []
    paragraphs += [prose.alone(ranks, titles, numbers), _departures(study, evidence)]
    if len(versus):
        several = len(versus) > 1 and not evidence.no_intervals
        differences = prose.distinguished(versus, titles, evidence) if several else ""
        paragraphs.append(f"{differences} {prose.confounding(versus, evidence, numbers)}".strip())
    elif len(ranks) > 1:
        paragraphs.append(prose.without_baseline(evidence, numbers))
    if len(evidence.recipes) > 1:
        paragraphs += [count_verdicts(verdicts, evidence, _with_parts), _narrower(verdicts, ranks), _open(verdicts)]
        if evidence.baseline and any(_mark(verdict) for verdict in verdicts):
            paragraphs.append(
                "Training all eight losses on the schedule of the CE run (`-p schedule ce`) would take the schedules "
                "out of the verdicts marked †."
            )
    paragraphs.append(_outlook(study, evidence, verdicts))
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def _narrower(verdicts, ranks):
    """Why a claim on who is best can be decided where the ranking leaves its runs tied, "" where none is."""
    sure = [verdict for verdict in verdicts if verdict.verdict in (SUPPORTED, CONTRADICTED)]
    keys = [v.claim.key for v in sure if any(f.whole for f in v.deciding)]
    if not keys or not len(ranks) or not prose.tied_with_first(ranks):
        return ""
    return (
        f"Claim {listing(keys)} is decided although the ranking leaves its first run tied with others: it asks less, "
        "namely who is best, not how all compare with all (@sec-claims)."
    )


def _open(verdicts):
    """Of the claims left open, the parts that are decided, and which way the rest lies."""
    left = [verdict for verdict in verdicts if verdict.verdict == INCONCLUSIVE]
    decided = {v.claim.key: [f for f in v.deciding if f.verdict != INCONCLUSIVE] for v in left}
    sides = []
    for verdict in (SUPPORTED, CONTRADICTED):
        parts = {key: [f.part for f in found if f.verdict == verdict] for key, found in decided.items()}
        keys = [f"({key}) {listing(names)}" for key, names in parts.items() if names]
        sides += [f"{verdict}: {'; '.join(keys)}"] if keys else []
    text = f"Parts of claims left open are decided all the same; {'; '.join(sides)}. " if sides else ""
    leaning = [verdict for verdict in left if verdict.direction and not decided[verdict.claim.key]]
    agree, against = ([v.claim.key for v in leaning if v.direction == sign] for sign in (1, -1))
    ways = [f"{way} in {listing(keys)}" for way, keys in (("with it", agree), ("against it", against)) if keys]
    if ways:
        text += f"Where nothing of a claim is decided, the estimates lie {' and '.join(ways)}; that is no evidence."
    return text.strip()


def _mark(verdict):
    """A dagger for a verdict that was reached across schedules."""
    return " †" if verdict.confounded and verdict.verdict != INCONCLUSIVE else ""


def _outlook(study, evidence, verdicts):
    """What would make the answer firmer, given what there is."""
    steps = []
    if evidence.recipes and evidence.baseline is None:
        steps.append("a run of plain cross-entropy, against which most claims are judged")
    short = _keys(verdicts, lambda finding: finding.short)
    if short:
        steps.append(f"{count(LONG_ENOUGH)} epochs or more (without which {listing(short)} cannot be decided)")
    if few := _keys(verdicts, lambda finding: finding.seeds):
        needed = max(finding.seeds for verdict in verdicts for finding in verdict.deciding)
        steps.append(f"{plural(needed, 'seed')} a configuration (without which {listing(few)} cannot be decided)")
    elif min(evidence.seeds.values(), default=1) == 1:
        steps.append("several seeds a configuration")
    if few := _keys(verdicts, lambda finding: "images_any" in finding.figures):
        open_parts = [f for v in verdicts if v.verdict == INCONCLUSIVE for f in v.decisive]
        needed = max(finding.figures.get("images_any", 0) for finding in open_parts)
        steps.append(f"{needed:,d} validation images (without which {listing(few)} cannot be decided for certain)")
    if not evidence.controlled and len({method.schedule for method in evidence.recipes}) > 1:
        steps.append("a control with one schedule for all")
    if study.scope.synthetic:
        steps.append("real streets at full scale")
    if len({method.model for method in evidence.methods}) < 2:
        steps.append("the same recipe on newer architectures")
    order = "in this order, " if len(steps) > 1 else ""
    return f"What would make the answers firmer: {order}{listing(steps)}." if steps else ""


def _keys(verdicts, lacking):
    """The claims left open of which a deciding part is `lacking(finding)`."""
    return [v.claim.key for v in verdicts if v.verdict == INCONCLUSIVE and any(map(lacking, v.decisive))]


def limitations(study: Study, evidence: Evidence) -> str:
    """What these results cannot carry, as a list; every item is there because the runs' records call for it."""
    items = []
    if set(evidence.seeds.values()) == {1}:
        items.append("One seed a configuration: the luck of a single training is part of every value.")
    elif 1 in evidence.seeds.values():
        single = listing(evidence.title(name) for name, number in evidence.seeds.items() if number == 1)
        items.append(f"One seed of {single}: the luck of a single training is part of what is said there.")
    if study.scope.synthetic:
        items.append("The scenes are synthetic; nothing follows for photographs.")
    if study.scope.preset and study.scope.preset != "paper":
        items.append(
            f"The scale is that of the preset `{study.scope.preset}`, not that of the study: another network, another "
            "image size, fewer steps. Losses may compare differently there."
        )
    if note := from_scratch(study.runs):
        items.append(note)
    if len({method.schedule for method in evidence.recipes}) > 1:
        alike = [method.title for method in evidence.same_schedule if method in evidence.recipes]
        but = f" except among {listing(alike)}" if len(alike) > 1 else ""
        items.append(f"The schedule varies together with the loss{but}.")
    if 1 < len(evidence.judged) < len(RECIPES):
        have = count(len(evidence.judged))
        items.append(f"Only {have} of the eight configurations are compared: a claim is judged on these alone.")
    devices = {session.get("device") for run in study.runs for session in prose.sessions(run)}
    if devices == {"cpu"}:
        items.append("Everything ran on a CPU; times and latencies say nothing about a GPU.")
    if evidence.no_intervals:
        items.append(f"No difference here is judged, for there are no intervals: {evidence.no_intervals}.")
    if study.unfinished:
        items.append(_unfinished(study))
    items.append("Classes that occur in few validation images have wide intervals or none.")
    return "\n".join(f"- {item}" for item in items)
