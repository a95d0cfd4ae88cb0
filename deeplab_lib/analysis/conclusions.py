"""What the report concludes: verdicts on the study's claims in words, abstract, conclusions, limitations.

No sentence about results is fixed: each is chosen and filled in from the ranking, the intervals and the verdicts.
"""

import pandas as pd

from deeplab_lib.analysis import prose
from deeplab_lib.analysis.claims import CONTRADICTED, SUPPORTED, UNTOLD
from deeplab_lib.analysis.prose import count, plural
from deeplab_lib.analysis.setting import from_scratch, scope
from deeplab_lib.words import listing


def verdict_table(verdicts, published=()):
    """The claims with their verdicts on our runs and, by the same rules, on the published figures; all text."""
    there = {verdict.claim.key: verdict.verdict for verdict in published}
    rows = {
        f"({verdict.claim.key})": {
            "claim of the study": verdict.claim.text,
            "these runs": verdict.verdict + _mark(verdict),
            "published figures": there.get(verdict.claim.key, "–"),
        }
        for verdict in verdicts
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def verdict_details(verdicts, numbers):
    """Every claim with its rule and all that was found, as Markdown."""
    paragraphs = []
    for verdict in verdicts:
        claim = verdict.claim
        lines = [f"**({claim.key}) {claim.text}** *{verdict.verdict.capitalize()}.* Rule: {claim.rule}."]
        for i, finding in enumerate(verdict.findings):
            where = f" ({finding.scope}{', confounded' if finding.confounded else ''})" if finding.scope else ""
            sentence = finding.sentence(numbers, f"claims.{claim.key}.{i}")
            lines.append(
                f"- {finding.part[0].upper()}{finding.part[1:]}{where}: {sentence}. *{finding.verdict.capitalize()}.*"
            )
        lines += [] if verdict.findings else ["- There is no run that this could be tested on."]
        paragraphs.append(lines[0] + "\n\n" + "\n".join(lines[1:]))
    return "\n\n".join(paragraphs)


def audit_details(findings, numbers):
    """Every point of the audit: what is printed, what comes out, and what this kit does about it, as Markdown."""
    paragraphs = []
    for finding in findings:
        row = finding.row(numbers)
        paragraphs.append(
            f"**{row['topic']}.** *Printed*: {row['printed']}. *Computed*: {row['computed']}. "
            f"*Here*: this kit {row['what the kit does']}."
        )
    return "\n\n".join(paragraphs)


def tally(verdicts):
    """How many claims fared how, in a sentence that names them."""
    groups = {name: [v.claim.key for v in verdicts if v.verdict == name] for name in (SUPPORTED, CONTRADICTED, UNTOLD)}
    words = {SUPPORTED: "supported", CONTRADICTED: "contradicted", UNTOLD: "left open"}
    parts = [
        f"{'all' if len(keys) == len(verdicts) > 1 else count(len(keys))} {'is' if len(keys) == 1 else 'are'} "
        f"{words[name]} ({listing(keys)})"
        for name, keys in groups.items()
        if keys
    ]
    return f"Of the study's {plural(len(verdicts), 'claim')}, {listing(parts)}."


def abstract(study, evidence, ranks, versus, verdicts, titles, numbers):
    """The report in a paragraph."""
    epochs = study.scope.epochs
    text = (
        f"DeepLabV2 was trained under {plural(len(evidence.recipes), 'loss configuration')} that combine "
        f"{_losses(evidence)} ({scope(study)})"
        if len(evidence.recipes) > 1
        else f"This report covers {_covered(study)} of DeepLabV2 ({scope(study)})"
    )
    if len(ranks) < 2:
        text += ". "
    elif evidence.bootstrap:
        text += ", and every difference between the runs was held against the uncertainty of the validation images. "
    else:
        text += ". Only their tables of epochs are at hand: how sure a difference is cannot be said. "
    if len(ranks) > 1:
        text += prose.ranking(ranks, titles, numbers) + " "
    if len(versus) and evidence.bootstrap:
        text += prose.told_apart(versus, titles, evidence) + " "
    if len(evidence.recipes) > 1:
        text += tally(verdicts) + " "
    if set(evidence.seeds.values()) == {1}:
        text += "With one seed a run, variation from seed to seed is not covered. "
    if study.scope.synthetic:
        text += (
            f"The images are synthetic and the training is short ({epochs} epochs): the method is shown, not the field."
        )
    return text.strip()


def _covered(study):
    """The runs that are finished, in words; where there is none, those that are not."""
    return plural(len(study.finished), "finished run") if study.finished else plural(len(study.runs), "unfinished run")


def _losses(evidence):
    """The losses that the recipes contain, in words."""
    names = {"ce": "cross-entropy", "focal": "Focal", "tversky": "Tversky", "dice": "Dice", "lovasz": "Lovász-Softmax"}
    used = set().union(*(method.losses for method in evidence.recipes))
    return listing(words for name, words in names.items() if name in used)


def conclusions(study, evidence, ranks, versus, verdicts, titles, numbers):
    """The conclusions, as Markdown paragraphs."""
    paragraphs = [prose.ranking(ranks, titles, numbers)] if len(ranks) > 1 else []
    if len(versus):
        paragraphs.append(prose.differences(versus, titles, evidence, numbers))
    if len(evidence.recipes) > 1:
        named = {name: [v for v in verdicts if v.verdict == name] for name in (SUPPORTED, CONTRADICTED, UNTOLD)}
        paragraphs.append(tally(verdicts))
        told = {name: found for name, found in named.items() if found and name != UNTOLD}
        paragraphs.append("\n".join(f"- *{name.capitalize()}*: {_claims(found)}" for name, found in told.items()))
        leaning = [v for v in named[UNTOLD] if v.direction]
        if leaning:
            agree, against = ([v.claim.key for v in leaning if v.direction == sign] for sign in (1, -1))
            parts = [f"point with it in {listing(agree)}"] if agree else []
            parts += [f"point against it in {listing(against)}"] if against else []
            paragraphs.append(
                f"Where the verdict is open, the estimates alone {' and '.join(parts)}; none of that is evidence."
            )
        if any(v.confounded for v in verdicts if v.verdict != UNTOLD):
            paragraphs.append(
                "Verdicts marked † rest on runs with different schedules: they speak of configurations, not of losses. "
                "Training all eight losses on the schedule of the CE run (`-p schedule ce`) would settle them."
            )
    paragraphs.append(_outlook(study, evidence))
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def _claims(verdicts):
    words = [f"({v.claim.key}) {v.claim.text.rstrip('.')}{_mark(v)}" for v in verdicts]
    return "; ".join(words) + "."


def _mark(verdict):
    """A dagger for a verdict that was reached across schedules."""
    return " †" if verdict.confounded and verdict.verdict != UNTOLD else ""


def _outlook(study, evidence):
    """What would make the answer firmer, given what there is."""
    steps = []
    if min(evidence.seeds.values(), default=1) == 1:
        steps.append("several seeds a configuration")
    if not evidence.controlled:
        steps.append("a control with one schedule for all")
    if study.scope.synthetic:
        steps.append("real streets at full scale")
    if len({method.model for method in evidence.methods}) < 2:
        steps.append("the same recipe on newer architectures")
    order = "in this order, " if len(steps) > 1 else ""
    return f"What would make the answers firmer: {order}{listing(steps)}." if steps else ""


def limitations(study, evidence):
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
        items.append("The schedule varies together with the loss except in runs 1 to 4.")
    devices = {session.get("device") for run in study.runs for session in prose.sessions(run)}
    if devices == {"cpu"}:
        items.append("Everything ran on a CPU; times and latencies say nothing about a GPU.")
    if not evidence.bootstrap:
        items.append("There are no per-image results, hence no intervals: no difference here is judged.")
    if study.unfinished:
        items.append(f"{plural(len(study.unfinished), 'run').capitalize()} not finished.")
    items.append("Classes that occur in few validation images have wide intervals or none.")
    return "\n".join(f"- {item}" for item in items)
