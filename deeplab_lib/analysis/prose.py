"""Paragraphs of the report that read a figure or a table: every sentence is computed from the runs.

Each function returns Markdown, "" where the runs lack what it would speak of, and puts every number that it prints into
`numbers` (`numbers.Numbers`) under `reading.<topic>.`. Which differences are larger than chance is the business of
`statistics` and `claims`: here a highest or lowest value is named as a value, never as a winner.
"""

import numpy as np
import pandas as pd

from deeplab_lib.analysis.evidence import RARE_SHARE
from deeplab_lib.analysis.pictures import scores_of
from deeplab_lib.analysis.plots import duration_unit
from deeplab_lib.analysis.statistics import MIOU, TIE
from deeplab_lib.analysis.tables import changes
from deeplab_lib.analysis.verdicts import CONTRADICTED, EQUIVALENT, INCONCLUSIVE, SUPPORTED, VERDICTS
from deeplab_lib.common.text import listing, signed
from deeplab_lib.labels import CLASS_NAMES
from deeplab_lib.study.log_schedule import loss_changes
from deeplab_lib.study.results import methods, schedule

WIDE_GAP = 5  # points of mIoU between training and validation that are spoken of
FEW = 4  # runs below which no order of them is spoken of
_WORDS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def count(number):
    """A small number in words."""
    return _WORDS[number] if number < len(_WORDS) else f"{number:,}"


def plural(number, noun):
    """`plural(2, "run")` is "two runs"."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def rank_correlation(a, b):
    """Spearman's rank correlation of two series with the same index; NaN when one of them is constant."""
    a, b = a.astype(float).rank(), b.astype(float).rank()
    return a.corr(b) if a.nunique() > 1 and b.nunique() > 1 else float("nan")


def _final(runs, column):
    """{run label: final value of a column}, of the runs that have one."""
    return {run.label: value for run in runs if np.isfinite(value := run.final(column))}


def _ends(values, numbers, key, fmt, unit=""):
    """The lowest and the highest of {name: value} as "4.1 (CE) to 5.0 (A and B)", with all that print so."""
    low = numbers.put(f"reading.{key}.low", min(values.values()), fmt)
    high = numbers.put(f"reading.{key}.high", max(values.values()), fmt)
    printed = {name: fmt(value) if callable(fmt) else format(value, fmt) for name, value in values.items()}
    lowest, highest = (listing(name for name, text in printed.items() if text == end) for end in (low, high))
    if low == high:
        return f"{low}{unit}" + (" (all runs)" if len(values) > 1 else f" ({lowest})")
    return f"{low}{unit} ({lowest}) to {high}{unit} ({highest})"


def unfinished(runs, numbers):
    """Which runs have not reached their last epoch, and what becomes of them."""
    open_runs = [run for run in runs if not run.finished]
    if not open_runs:
        return ""
    where = [
        f"{run.label} at epoch {numbers.put(f'reading.unfinished.{run.stem}', run.epoch, 'd')}"
        + (f" of {run.epochs}" if run.epochs else "")
        for run in open_runs
    ]
    return (
        f"Not finished when this report was made: {listing(where)}. "
        "What was recorded so far is drawn; no value of such a run is ranked or compared."
    )


def schedules(runs, numbers):
    """Which runs share a schedule, and how far the rate falls or rises where a run's training changes."""
    groups = {}
    for run in runs:
        groups.setdefault(schedule(run), []).append(run.label)
    shared = [labels for labels in groups.values() if len(labels) > 1]
    alone, text = len(groups) - len(shared), ""
    if len(groups) == 1 and shared:
        text = f"The {plural(len(runs), 'run')} share one schedule and differ in nothing but the loss. "
    elif len(groups) > 1:
        text = f"The {plural(len(runs), 'run')} follow {plural(len(groups), 'different schedule')}. "
    if shared and len(groups) > 1:
        parts = [f"{listing(labels)} share one" for labels in shared]
        own = "has a schedule of its own" if alone == 1 else "have schedules of their own"
        parts += [f"{plural(alone, 'run')} {own}"] if alone else []
        text += ", and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]])) + ". "
        text += "Only within such a group do two runs differ in nothing but the loss. "
    for run in runs:
        marks = changes(run, join=0)
        if marks:
            text += (
                f"{run.label} changes its training {'once' if len(marks) == 1 else f'at {count(len(marks))} points'}: "
            )
            text += listing(f"after {numbers.put(f'reading.change.{run.stem}.{i}', place, '.3g')} epochs ({words})"
                            for i, (place, words) in enumerate(marks, 1)) + ". "  # fmt: skip
    return text.strip()


def losses(runs, numbers):
    """What the loss curves show: how far they fell, and whose validation loss turned upwards, under one loss each."""
    fell, turned = {}, []
    for run in runs:
        if not {"train_loss", "val_loss"} <= set(run.table):
            continue
        starts = [1, *run.loss_starts]
        first = run.table[run.table["epoch"] < starts[1]] if len(starts) > 1 else run.table
        last = run.table[run.table["epoch"] >= starts[-1]]
        train, val = first["train_loss"].dropna(), last["val_loss"].dropna()
        if len(train) > 1 and train.iloc[0] > 0:
            fell[run.label] = 100 * (1 - train.iloc[-1] / train.iloc[0])
        rise = 100 * (val.iloc[-1] / val.min() - 1) if len(val) and val.min() > 0 else 0
        if rise > 5:
            epoch = int(run.table["epoch"].loc[val.idxmin()])
            size = numbers.put(f"reading.losses.rise.{run.stem}", rise, ".0f")
            turned.append(f"{run.label} (lowest at epoch {epoch}, {size} % above it at the end)")
    if not fell:
        return ""
    ends = _ends(fell, numbers, "losses.fell", ".0f", " %")
    text = f"From the first epoch to the last the training losses fell by {ends}. " + _other_losses(runs, numbers)
    if turned:
        text += (
            f"The validation loss of {listing(turned)} ended more than 5 % above its minimum, a sign of overfitting. "
        )
    else:
        text += "No validation loss ended more than 5 % above its minimum: none has turned upwards yet. "
    return text + ("Heights must not be compared from run to run, since each curve is a sum of other terms.")


def _other_losses(runs, numbers):
    """Which runs went on with another loss, where the figures of the loss stop or start anew."""
    changed = [(run, epoch) for run in runs for epoch in run.loss_starts]
    if not changed:
        return ""
    named = []
    for run, epoch in changed:
        jump = next((change for change in loss_changes(run.table) if run.legacy and change.epoch == epoch), None)
        by = ""
        if jump:
            train = numbers.put(f"reading.losses.jump.{run.stem}.{epoch}.train", jump.train, ".2f")
            val = numbers.put(f"reading.losses.jump.{run.stem}.{epoch}.val", jump.val, ".2f")
            by = f" (training loss × {train}, validation loss × {val}, while mIoU hardly moves)"
        named.append(f"{run.label} at epoch {epoch}{by}")
    return (
        f"The loss itself was changed in {listing(named)}: a jump there is another function, not another network, and "
        "what is said of these curves holds up to the change (the fall) and since the last one (the rise). "
    )


def cross_entropy(runs, numbers):
    """What plain cross-entropy says of runs that were trained on different losses."""
    ce, own = _final(runs, "val_ce"), _final(runs, "val_loss")
    if len(ce) < 2:
        return ""
    both = [label for label in ce if label in own]
    rank = rank_correlation(pd.Series(ce)[both], pd.Series(own)[both]) if len(both) >= FEW else float("nan")
    text = f"At the end of training, validation cross-entropy is {_ends(ce, numbers, 'val_ce', '.3f')}. "
    if np.isfinite(rank):
        agree = "much the same order" if rank > 0.7 else "another order" if rank < 0.3 else "a partly different order"
        text += (
            f"Each run's own validation loss would put the runs in {agree} (rank correlation "
            f"{numbers.put('reading.val_ce.rank_correlation', rank, '.2f')} over {plural(len(both), 'run')}). "
        )
    return text + "Cross-entropy favours the runs that minimise it; it is a common yardstick, not a verdict."


def training_mious(runs, numbers):
    """Final training mIoU, its gap to validation, and the best epoch beside the last."""
    train = {run.label: run.final_train_mIoU for run in runs if np.isfinite(run.final_train_mIoU)}
    gaps = {run.label: run.final_train_mIoU - run.final_val_mIoU for run in runs}
    gaps = {label: gap for label, gap in gaps.items() if np.isfinite(gap)}
    if not train or not gaps:
        return ""
    text = (
        f"Training mIoU ends at {_ends(train, numbers, 'train_mIoU', '.1f', ' %')}. Its "
        f"difference from validation mIoU is {_ends(gaps, numbers, 'gap', signed)} points; "
    )
    logged = all(run.legacy for run in runs)
    if logged:
        text += "how the two were counted is not in the logs. "
    else:
        text += (
            "the two are counted differently (on the logits' grid while the weights still change, and at full size "
            "after the epoch), so that a small difference of either sign means little. "
        )
    wide = [label for label, gap in gaps.items() if gap > WIDE_GAP]
    if wide:
        who = "All runs" if len(wide) == len(gaps) > 1 else listing(wide)
        why = "a sign of overfitting" if logged else "more than the counting explains: a sign of overfitting"
        text += (
            f"{who} {'fits' if len(wide) == 1 else 'fit'} the training images better by more than {WIDE_GAP:g} points, "
            f"{why}."
        )
    return text.strip()


def validation_mious(runs, numbers):
    """Final validation mIoU, how early most of it was reached, and what the last epoch misses of the best."""
    final = {run.label: run.final_val_mIoU for run in runs if np.isfinite(run.final_val_mIoU)}
    if not final:
        return ""
    text = f"Validation mIoU ends at {_ends(final, numbers, 'val_mIoU', '.1f', ' %')}. "
    curves = {run.label: run.table.dropna(subset="val_mIoU").set_index("epoch")["val_mIoU"] for run in runs}
    early = {label: (curve >= 0.9 * curve.iloc[-1]).idxmax() for label, curve in curves.items() if len(curve)}
    if early:
        ends = _ends(early, numbers, "early", ".0f", " epochs")
        text += f"A curve reached nine tenths of its last value after {ends}. "
    # On the images of every epoch both, which may be fewer than those of the final value.
    lost = {run.label: run.best[1] - curves[run.label].iloc[-1] for run in runs if np.isfinite(run.best[1])}
    if not lost:
        return text.strip()
    late = [label for label, value in lost.items() if value > 1]
    if late:
        worst = numbers.put("reading.val_mIoU.lost", max(lost.values()), ".1f")
        end, most = ("ends", "") if len(late) == 1 else ("end", "at most ")
        return text + f"{listing(late)} {end} more than a point below the best epoch ({most}{worst} points)."
    return text + "No run ends more than a point below its best epoch, so reporting the last epoch costs little here."


def durations(runs, numbers):
    """How long the runs took, and on how many kinds of device."""
    total = {run.label: run.table["Runtime"].sum() for run in runs if run.table["Runtime"].notna().any()}
    mean = {run.label: run.table["Runtime"].mean() for run in runs if run.label in total}
    if not total:
        return ""
    seconds, unit = duration_unit(max(total.values()))
    scaled = {label: value / seconds for label, value in total.items()}
    devices = {session.get("device_name") or session.get("device") for run in runs for session in sessions(run)}
    text = (
        f"Training and validating took {_ends(scaled, numbers, 'duration', '.1f', ' ' + unit)}, "
        f"an epoch on average {_ends(mean, numbers, 'epoch_time', '.1f', ' s')}; all runs together "
        f"{numbers.put('reading.duration.all', sum(total.values()) / seconds, '.1f')} {unit}. "
    )
    if len(devices) == 1:
        text += f"All of it ran on {devices.pop()}. "
    elif devices:
        text += (
            f"The runs did not share one device ({listing(sorted(map(str, devices)))}), so times are not comparable. "
        )
    return (
        text + "Runs trained side by side slow each other down: times say what was waited for, not what a loss costs."
    )


def sessions(run):
    """The sessions of a run's record, [] when there is none."""
    return (run.record or {}).get("sessions", [])


def classes(iou, evidence, decided, numbers):
    """The best and the hardest classes, and where the methods differ.

    `iou` (percent) and `decided` (see `decided_classes`) are method x class.
    """
    iou = iou.dropna(how="all")
    mean = iou.mean().dropna().sort_values(ascending=False)
    if mean.empty:
        return ""

    def named(names, key):
        return listing(
            f"{name} ({numbers.put(f'reading.classes.{key}.{name}', mean[name], '.0f')} %)" for name in names
        )

    text = (
        f"Averaged over the runs, {named(mean.index[:3], 'top')} are segmented best and "
        f"{named(mean.index[:-4:-1], 'bottom')} worst. "
    )
    absent = [name for name in iou.columns if name not in mean.index]
    if absent:
        occur, stay = ("occurs", "stays") if len(absent) == 1 else ("occur", "stay")
        text += f"{listing(absent)} {occur} neither in labels nor in predictions and {stay} out of every mean. "
    spread = (iou.max() - iou.min()).sort_values(ascending=False)
    if len(iou) > 1:
        apart = numbers.put("reading.classes.spread", spread.iloc[0], ".1f")
        text += f"The runs lie furthest apart on {spread.index[0]}, by {apart} points. "
    base = evidence.baseline
    if base and base.name in iou.index and len(iou) > 1:
        others = iou.drop(index=base.name) - iou.loc[base.name]
        known = numbers.put("reading.classes.cells", int(others.notna().sum(axis=None)), "d")
        text += f"Of the {known} differences from {base.title}, {_sides(others, decided, evidence, numbers)}"
    return text.strip()


def _sides(others, decided, evidence, numbers):
    """How many of the differences from CE (method x class) are gains and losses, and how many are significant."""
    alike = [method.name for method in evidence.same_schedule if method.name in others.index]
    parts = []
    for one, word, side in (("a gain", "gains", others > 0), ("a loss", "losses", others < 0)):
        found = int(side.sum(axis=None))
        part = f"{numbers.put(f'reading.classes.{word}', found, 'd')} {f'is {one}' if found == 1 else f'are {word}'}"
        if decided is not None and found:
            significant = decided.loc[others.index] & side
            number = int(significant.sum(axis=None))
            printed = numbers.put(f"reading.classes.{word}.decided", number, "d")
            part += f", {printed if number else 'none'} of them significant"
            if number and alike and not significant.loc[alike].any(axis=None):
                part += " (all in runs on another schedule)"
        parts.append(part)
    return ", and ".join(parts) + ("; none has an interval." if decided is None else ".")


def frequency(iou, share, numbers):
    """How strongly IoU follows class frequency, for the mean over the runs."""
    if share is None:
        return ""
    mean = iou.mean()
    known = [name for name in iou.columns if share.get(name, 0) > 0 and np.isfinite(mean[name])]
    if len(known) < 5:
        return ""
    rank = rank_correlation(share[known], mean[known])
    rare, common = share[known].idxmin(), share[known].idxmax()
    strength = "closely" if rank > 0.8 else "on the whole" if rank > 0.5 else "only loosely"
    follows = f"follows frequency {strength}" if rank > 0.2 else "does not follow frequency"
    return (
        f"The rarest class, {rare}, covers {numbers.put('reading.frequency.rare', share[rare], '.2f')} % of the "
        f"labelled pixels, the most frequent one, {common}, "
        f"{numbers.put('reading.frequency.common', share[common], '.0f')} %. "
        f"IoU {follows}: over {count(len(known))} classes "
        f"the rank correlation of frequency and mean IoU is {numbers.put('reading.frequency.rank', rank, '.2f')}."
    )


def rare_classes(evidence):
    """Which classes the claims on rare classes are about, "" when there are none."""
    names = [CLASS_NAMES[c] for c in evidence.rare]
    if not names:
        return ""
    where = "validation pixels" if evidence.bootstrap else "pixels of Cityscapes"
    return f"*Rare*, that is under {RARE_SHARE:g} % of the labelled {where}: {listing(names)}."


def confusions(matrix, numbers):
    """The largest confusions of a confusion matrix (19, 19), row = label."""
    matrix = np.asarray(matrix, dtype=float)
    totals = matrix.sum(axis=1, keepdims=True)
    shares = 100 * np.divide(matrix, totals, out=np.zeros_like(matrix), where=totals > 0)
    np.fill_diagonal(shares, 0)
    worst = np.argsort(-shares, axis=None, kind="stable")[:4]
    parts = []
    for row, column in (np.unravel_index(cell, shares.shape) for cell in worst):
        value = numbers.put(f"reading.confusion.{CLASS_NAMES[row]}.{CLASS_NAMES[column]}", shares[row, column], ".0f")
        parts.append(f"{CLASS_NAMES[row]} for {CLASS_NAMES[column]} ({value} %)")
    return f"Most often mistaken, as a share of the labelled class's pixels: {listing(parts)}."


def images(roles, arrays, numbers):
    """Which images are shown, with their IoU (mean over the runs): `roles` as `pictures.choose_images` gives it."""
    parts = []
    for role, name in roles.items():
        scores = [scores_of(run, [name])[0] for run in arrays.values()]
        mean = numbers.put(f"reading.images.{role}", np.mean(scores), ".1f")
        gap = numbers.put(f"reading.images.{role}.range", max(scores) - min(scores), ".1f")
        between = f", {gap} points between the runs" if len(arrays) > 1 else ""
        parts.append(f"the {role} one ({name}): {mean} %{between}")
    kept = numbers.put("reading.images.kept", len(next(iter(arrays.values()))["prediction_names"]), "d")
    rule, average = "best, median and worst by mean IoU over the classes in the image", ""
    if len(arrays) > 1:
        rule += ", averaged over the runs, and the one whose pixels they dispute most"
        average = " on average"
    return (
        f"{count(len(roles)).capitalize()} images were chosen among the {kept} whose predictions are kept: {rule}. "
        f"That IoU is{average}, for {'; for '.join(parts)}."
    )


def boundaries(table, differences, titles, evidence, numbers):
    """The range of the boundary F-score, and who differs from CE in it; "" for fewer than two runs.

    `table` is that of `Evidence.levels`, `differences` that of `Evidence.from_baseline`.
    """
    values = table["estimate"].dropna()
    if len(values) < 2:
        return ""
    ends = _ends({titles[run]: value for run, value in values.items()}, numbers, "boundary", ".1f", " %")
    known = differences.dropna(subset=["low", "high"])
    apart = f" {distinguished(known, titles, evidence, 'boundary F-score')}" if len(known) else ""
    return (
        f"The boundary F-score is {ends}. Each interval is that of a single value: all runs are scored on the same "
        "images, so whether two of them differ is read from the interval of their difference, not from an overlap."
    ) + apart


def calibration(table, titles, evidence, numbers):
    """How far the probabilities can be believed: `table` is that of `calibration.calibration`, None without counts."""
    if table is None:
        return (
            "The files of these runs hold no counts by confidence, so that nothing can be said of their probabilities; "
            "runs made with version 0.2 or later store them."
        )
    named = lambda column: {titles[name]: value for name, value in table[column].items()}  # noqa: E731
    text = f"The expected calibration error is {_ends(named('ece'), numbers, 'ece', '.2f', ' points')}. "
    over = table["overconfidence"]
    sure, shy = ([titles[name] for name in over.index[side]] for side in (over > 0, over < 0))
    everyone = "All runs believe" if len(sure) == len(table) > 1 else f"{listing(sure)} {_believe(sure)}"
    text += f"{everyone} too much: their mean confidence is above their accuracy. " if sure else ""
    text += f"{listing(shy)} {_believe(shy)} too little. " if shy else ""
    judged = table[table["verdict"] != ""]
    if len(judged) and evidence.baseline:
        found = by_verdict(judged)
        ways = {SUPPORTED: "larger", CONTRADICTED: "smaller", EQUIVALENT: EQUIVALENT, INCONCLUSIVE: INCONCLUSIVE}
        parts = [f"{ways[v]}: {listing(titles[name] for name in names)}" for v, names in found.items() if names]
        margin = numbers.put("reading.margin.ece", evidence.margins.of("ece"), ".3g")
        text += f"Held against the error of the CE run, with a margin of {margin} point, {'; '.join(parts)}."
    return text.strip()


def _believe(names):
    return "believes itself" if len(names) == 1 else "believe themselves"


def wins(table, titles, numbers):
    """On how many images the runs beat CE: `table` is that of `by_image.wins`; "" without one."""
    known = table.dropna(subset=["low"]) if len(table) else table
    if not len(known):
        return ""
    values = {titles[name]: value for name, value in known["estimate"].items()}
    found = by_verdict(known)
    ways = {SUPPORTED: "more than half", CONTRADICTED: "less than half", EQUIVALENT: "about half, within the margin"}
    ways[INCONCLUSIVE] = "inconclusive"
    parts = [f"{ways[verdict]}: {listing(titles[name] for name in names)}" for verdict, names in found.items() if names]
    ends = _ends(values, numbers, "wins", ".0f", " %")
    return f"Image by image, the runs beat the CE run on {ends} of the images; {'; '.join(parts)}."


def tied_with_first(table):
    """The methods that share a letter with the first of `statistics.ranking`'s table."""
    leader, *others = table.index
    return [method for method in others if set(table["ties"][method]) & set(table["ties"][leader])]


def ranking(table, titles, numbers):
    """Who leads, and who cannot be distinguished from the leader: `table` as `statistics.ranking` gives it."""
    if len(table) < 2:
        return ""
    leader, tied = table.index[0], tied_with_first(table)
    first = [titles[name] for name, value in table["value"].items() if abs(value - table["value"].iloc[0]) < TIE]
    top = numbers.put(f"reading.ranking.{leader}", table["value"].iloc[0], ".2f")
    if len(first) == len(table):
        return f"All {plural(len(table), 'run')} end at exactly the same mIoU, {top} %."
    named = f"{listing(first)} {'has' if len(first) == 1 else 'share'} the highest final mIoU, {top} %"
    last = titles[table.index[-1]]
    if table["low"].isna().all():
        why = table.attrs.get("no_intervals") or "none of these runs has an interval"
        return f"{named}; {why}, so there are no intervals, and the order of the runs proves nothing."
    if len(table) == 2:
        return (
            f"{named}, "
            + ("but these images cannot tell it apart from" if tied else "significantly above")
            + f" {last}."
        )
    if table["ties"].nunique() == 1:
        return f"{named}, but no two of the {count(len(table))} runs can be distinguished: all share one rank."
    if tied:
        text = f"{named}, but these images cannot tell it apart from {listing(titles[method] for method in tied)}. "
    else:
        text = f"{named}, and differs significantly from every other run. "
    if table["best"].iloc[-1] == len(table):
        return (
            text + f"The lowest value is that of {last}, which is significantly the lowest of the {count(len(table))}."
        )
    best = numbers.put("reading.ranking.last", table["best"].iloc[-1], ".0f")
    span = f"rank {best} or" if table["best"].iloc[-1] == len(table) - 1 else f"any rank from {best} to"
    return text + f"The lowest value is that of {last}, which may hold {span} {len(table)}."


def differences(table, titles, evidence, numbers):
    """Which runs differ from the baseline, and by how much.

    `table` (estimate, low, high by method) is that of `evidence.from_baseline()`.
    """
    known, reference = table.dropna(subset=["low", "high"]), titles[evidence.baseline.name]
    if known.empty:
        why = evidence.no_intervals or listing(dict.fromkeys(table["reason"]))
        return f"These differences have no intervals ({why}), and none of them is judged."

    def named(rows, key):
        return listing(
            f"{titles[method]} ({numbers.put(f'reading.{key}.{method}', row.estimate, signed)})"
            for method, row in rows.iterrows()
        )

    found = by_verdict(known)
    parts = []
    for verdict, words in (
        (SUPPORTED, "{} {be} better than {reference}"),
        (CONTRADICTED, "{} {be} worse than {reference}"),
        (EQUIVALENT, "{} {make} no difference from {reference} that matters"),
        (INCONCLUSIVE, "{} {be} inconclusive"),
    ):
        if names := found[verdict]:
            rows = known.loc[names]
            verb = {"be": _be(rows), "make": "makes" if len(rows) == 1 else "make", "reference": reference}
            parts.append(words.format(named(rows, verdict.split()[0]), **verb))
    margin = numbers.put("reading.margin.mIoU", evidence.margins.of(MIOU), ".3g")
    return f"In points of mIoU, with a margin of {margin}, {'; '.join(parts)}."


def by_verdict(table):
    """`{verdict: [rows' names]}` of a table of differences from the baseline."""
    return {verdict: list(table.index[table["verdict"] == verdict]) for verdict in VERDICTS}


def confounding(table, evidence, numbers):
    """Which differences from the baseline do not speak of the loss, and what they visibly go with instead.

    `table` is that of `evidence.from_baseline()`.
    """
    alike = {method.name for method in evidence.same_schedule}
    other = [evidence.title(method) for method in table.index if method not in alike]
    text = ""
    if other:
        those = "That with" if len(other) == 1 else "Those with"
        text = (
            f"Only comparisons within one schedule speak of the loss. {those} {listing(other)} "
            f"{_be(other)} *confounded*: learning rate, warm-up, power or freezing differ along with the loss, and the "
            f"difference belongs to all of them together. {follows_rate(evidence, numbers)} "
        )
    if evidence.controlled:
        text += "The control, every loss on the schedule of the CE run, is among the runs of @tbl-ablations."
    return text.strip()


def other_schedules(table, evidence):
    """Which runs that differ significantly from the baseline had another schedule, in a sentence; "" when none had."""
    alike = {method.name for method in evidence.same_schedule}
    found = by_verdict(table)
    above, below = found[SUPPORTED], found[CONTRADICTED]
    other = [evidence.title(method) for method in (*above, *below) if method not in alike]
    if not other:
        return ""
    who = (
        "Those below it" if len(other) > 1 and other == [evidence.title(method) for method in below] else listing(other)
    )
    return f"{who} had {'another schedule' if len(other) == 1 else 'other schedules'} as well."


def without_baseline(evidence, numbers):
    """What can be compared where no CE run is there to be held against."""
    text = "There is no finished CE run, so that no run is held against plain cross-entropy."
    if len({method.schedule for method in evidence.recipes}) > 1:
        text += " Only runs that share a schedule can be compared as losses."
    return f"{text} {follows_rate(evidence, numbers)}".strip()


def alone(table, titles, numbers):
    """What a single finished run reached, "" where there are more, or none."""
    if len(table) != 1:
        return ""
    value = numbers.put(f"reading.ranking.{table.index[0]}", table["value"].iloc[0], ".2f")
    return f"{titles[table.index[0]]} reached {value} % mIoU; there is no other run of the eight to compare it with."


def follows_rate(evidence, numbers, brief=False):
    """That the order of the recipes is that of their initial rates, "" where it is not or cannot be seen.

    brief: without what else follows the rates, and what that may mean.
    """
    rows = [(method.runs[0].initial_lr, evidence.values[MIOU].get(method.name), method.runs[0].final_train_mIoU)
            for method in evidence.recipes if method.runs]  # fmt: skip
    table = pd.DataFrame(rows, columns=["rate", "val", "train"], dtype=float).dropna()
    ranks = {name: rank_correlation(table["rate"], table[name]) for name in ("val", "train")}
    if len(table) < FEW or table["rate"].nunique() < 3 or not ranks["val"] > 0.7:
        return ""
    val, train = (numbers.put(f"reading.rate.{name}", value, ".2f") for name, value in ranks.items())
    text = f"The order of the runs follows their initial rates (rank correlation of rate and mIoU {val}"
    if ranks["train"] > 0.7 and not brief:
        return text + (
            f", of rate and training mIoU {train}): the runs at lower rates fit their own training images less, too, "
            "so that they may just be less far along."
        )
    return text + ")."


def resamples(evidence, numbers):
    """On how many resamples the intervals rest; nothing where there are none."""
    if not evidence.bootstrap:
        return ""
    return f"Every interval rests on {numbers.put('reading.resamples', evidence.bootstrap.resamples, ',d')} resamples."


def seeds(evidence, study, numbers):
    """How many seeds there are, and what that leaves uncovered."""
    found = sorted(set(evidence.seeds.values()))
    if not found:
        return ""
    if evidence.no_intervals:
        why = evidence.no_intervals
        return (
            f"None of this can be done here, since {why}: what follows has no intervals, and no difference is judged."
        )
    if found == [1]:
        return (
            "Every run was made with one seed. The intervals cover the choice of validation images and nothing else: "
            "how much a second training of the same configuration would differ, from other first weights and another "
            "order of the images, is not known here. A verdict below speaks of *these trained networks*, and not of "
            "the losses: what it decides may still be luck of the seed."
        )
    deviations = seed_deviations(study.recipes)
    many = [number for number in found if number > 1]
    counted = f"{many[0]}" if len(many) == 1 else f"{many[0]} to {many[-1]}"
    who, rest = "Each configuration was", ""
    if 1 in found:
        several = [evidence.title(name) for name, number in evidence.seeds.items() if number > 1]
        who = f"{listing(several)} {'was' if len(several) == 1 else 'were'}"
        rest = ", every other configuration with one"
    return (
        f"{who} trained with {counted} seeds{rest}. The standard deviation between seeds in mIoU is "
        f"{_ends(deviations, numbers, 'seeds.sd', '.2f', ' points')}; values are means over seeds, and the variance "
        "between seeds, pooled over the configurations that have several, enters every interval below. So a verdict "
        "speaks of *the losses* where nothing else differs, and of *the configurations* where the schedule does, too."
    )


def seed_deviations(runs):
    """`{title: points}`: the standard deviation (n - 1) of final mIoU between the seeds of methods with several."""
    values = {members[0].title: [run.final_val_mIoU for run in members] for members in methods(runs).values()}
    deviations = {title: float(np.std(found, ddof=1)) for title, found in values.items() if len(found) > 1}
    return {title: deviation for title, deviation in deviations.items() if np.isfinite(deviation)}


def over_seeds(evidence):
    """What a table says where there are several seeds, "" otherwise."""
    text = "Of several seeds of a configuration: means; sd: the standard deviation between seeds, in points."
    return text if evidence.several_seeds else ""


def distinguished(table, titles, evidence, measure="mIoU"):
    """In a sentence without numbers, which runs lie above and below the baseline."""
    plain = f"plain cross-entropy ({titles[evidence.baseline.name]})"
    above, below, equal, rest = ([titles[method] for method in names] for names in by_verdict(table).values())
    parts = [f"{listing(above)} {'lies' if len(above) == 1 else 'lie'} significantly above {plain}"] if above else []
    it = "it" if above else plain
    parts += [f"{listing(below)} {'lies' if len(below) == 1 else 'lie'} significantly below {it}"] if below else []
    it = "it" if parts else plain
    parts += [f"between {listing(equal)} and {it} there is no difference that matters"] if equal else []
    it = "it" if parts else plain
    parts += [f"against {it}, {listing(rest)} {_be(rest)} inconclusive"] if rest else []
    return f"In {measure}, {'; '.join(parts)}."


def decided_classes(differences, iou):
    """Which differences from CE are significant, as booleans like `iou` (method x class); None without intervals."""
    if differences.empty or differences["low"].isna().all():
        return None
    decided = pd.DataFrame(False, iou.index, iou.columns)
    for (method, name), row in differences.iterrows():
        if method in decided.index and (row.low > 0 or row.high < 0):
            decided.loc[method, name] = True
    return decided


def _be(rows):
    return "is" if len(rows) == 1 else "are"
