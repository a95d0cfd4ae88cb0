"""Paragraphs of the report that read a figure or a table of the runs: every sentence is computed from them.

Each function returns Markdown, "" where the runs lack what it would speak of, and registers every number that it prints
in `numbers` (`numbers.Numbers`) under `reading.<topic>.`. Here a highest or lowest value is named as a value; which
differences are larger than chance is said by `sentences`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from deeplab_lib.analysis.captions import as_label
from deeplab_lib.analysis.evidence import RARE_SHARE, Evidence
from deeplab_lib.analysis.findings import FEW, Findings, sessions
from deeplab_lib.analysis.numbers import Numbers
from deeplab_lib.analysis.pictures import scores_of
from deeplab_lib.analysis.plots import duration_unit
from deeplab_lib.analysis.sentences import ends, joined, some, upper
from deeplab_lib.analysis.statistics import rank_correlation
from deeplab_lib.analysis.tables import changes
from deeplab_lib.common.text import count, listing, plural, signed
from deeplab_lib.labels import CLASS_NAMES
from deeplab_lib.study.grouping import schedule
from deeplab_lib.study.log_schedule import loss_changes
from deeplab_lib.study.run import Run

WIDE_GAP = 5  # points of mIoU between training and validation that are spoken of


def _final(runs: Sequence[Run], column: str) -> dict[str, float]:
    """{run label: final value of a column}, of the runs that have one."""
    return {run.label: value for run in runs if np.isfinite(value := run.final(column))}


def unfinished(runs: Sequence[Run], numbers: Numbers) -> str:
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


def schedules(runs: Sequence[Run], numbers: Numbers) -> str:
    """Which runs share a schedule, and where a run's training changes."""
    groups: dict[str, list[str]] = {}
    for run in runs:
        groups.setdefault(schedule(run), []).append(run.label)
    shared = [labels for labels in groups.values() if len(labels) > 1]
    alone, text = len(groups) - len(shared), ""
    if len(groups) == 1 and shared:
        text = f"The {plural(len(runs), 'run')} share one schedule and differ in nothing but the loss (@fig-lr). "
    elif len(groups) > 1:
        text = f"The {plural(len(runs), 'run')} follow {plural(len(groups), 'different schedule')} (@fig-lr). "
    if shared and len(groups) > 1:
        parts = [f"{some(labels, most=5)} share one" for labels in shared]
        own = "has a schedule of its own" if alone == 1 else "have schedules of their own"
        parts += [f"{plural(alone, 'run')} {own}"] if alone else []
        text += upper(", and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))) + ". "
        text += "Only within such a group do two runs differ in nothing but the loss. "
    return joined(text, *(_changes(run, numbers) for run in runs))


def _changes(run: Run, numbers: Numbers) -> str:
    """Where the training of one run changes, in a sentence."""
    marks = changes(run, join=0)
    if not marks:
        return ""
    often = "once" if len(marks) == 1 else f"at {count(len(marks))} points"
    places = listing(
        f"after {numbers.put(f'reading.change.{run.stem}.{i}', place, '.3g')} epochs ({words})"
        for i, (place, words) in enumerate(marks, 1)
    )
    return f"{run.label} changes its training {often}: {places}."


def losses(runs: Sequence[Run], numbers: Numbers) -> str:
    """What the loss curves show: how far they fell, and whose validation loss rose, under one loss each."""
    fell, rose = {}, []
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
            rose.append(f"{run.label} (lowest at epoch {epoch}, {size} % above it at the end)")
    if not fell:
        return ""
    overfitting = (
        f"The validation loss of {listing(rose)} ended more than 5 % above its minimum, which indicates overfitting."
        if rose
        else "No validation loss ended more than 5 % above its minimum."
    )
    return joined(
        "From the first epoch to the last, training losses (@fig-loss-grid) fell by "
        f"{ends(fell, numbers, 'losses.fell', '.0f', ' %')}.",
        _other_losses(runs, numbers),
        overfitting,
        "Absolute values are not comparable between runs because the losses differ: where all runs stand in one "
        "diagram, only the shapes of the curves are (@fig-losses)."
        if len(fell) > 1
        else "",
    )


def _other_losses(runs: Sequence[Run], numbers: Numbers) -> str:
    """Which runs went on with another loss, where the figures of the loss stop or start anew."""
    changed = [(run, epoch) for run in runs for epoch in run.loss_starts]
    if not changed:
        return ""
    named = []
    for run, epoch in changed:
        jump = next((change for change in loss_changes(run.table) if run.legacy and change.epoch == epoch), None)
        by = jump and numbers.say(
            f"reading.losses.jump.{run.stem}.{epoch}",
            " (training loss × {train:.2f}, validation loss × {val:.2f}, while mIoU hardly moves)",
            train=jump.train,
            val=jump.val,
        )
        named.append(f"{run.label} at epoch {epoch}{by or ''}")
    return (
        f"The loss itself was changed in {listing(named)}: a jump there is another function, not another network. "
        "The fall is measured up to the change, a rise after it."
    )


def cross_entropy(runs: Sequence[Run], numbers: Numbers) -> str:
    """What plain cross-entropy says of runs that were trained on different losses."""
    ce, own = _final(runs, "val_ce"), _final(runs, "val_loss")
    if len(ce) < 2:
        return ""
    both = [label for label in ce if label in own]
    rank = rank_correlation(pd.Series(ce)[both], pd.Series(own)[both]) if len(both) >= FEW else float("nan")
    text = (
        "A measure that is the same for all runs is cross-entropy on the validation images (@fig-val-ce). At the end "
        f"of training it is {ends(ce, numbers, 'val_ce', '.3f', '')}. "
    )
    if np.isfinite(rank):
        agree = "nearly the same" if rank > 0.7 else "a different" if rank < 0.3 else "a partly different"
        text += numbers.say(
            "reading.val_ce",
            "Each run's own validation loss ranks the runs in {agree} order (rank correlation {rank_correlation:.2f} "
            "over {number}). ",
            agree=agree,
            rank_correlation=rank,
            number=plural(len(both), "run"),
        )
    return text + "It is not a neutral measure, though: it favours the runs that minimise it."


def training_mious(runs: Sequence[Run], numbers: Numbers) -> str:
    """Final training mIoU, and its gap to validation."""
    train = {run.label: run.final_train_mIoU for run in runs if np.isfinite(run.final_train_mIoU)}
    gaps = {run.label: run.final_train_mIoU - run.final_val_mIoU for run in runs}
    gaps = {label: gap for label, gap in gaps.items() if np.isfinite(gap)}
    if not train or not gaps:
        return ""
    logged = all(run.legacy for run in runs)
    counted = (
        "How the two were evaluated is not in the logs."
        if logged
        else "The two are evaluated differently: training mIoU on the grid of the logits while the weights still "
        "change, validation mIoU at full size after the epoch. So a small difference of either sign means little."
    )
    wide = [label for label, gap in gaps.items() if gap > WIDE_GAP]
    who = "All runs" if len(wide) == len(gaps) > 1 else listing(wide)
    fits = "fits" if len(wide) == 1 else "fit"
    why = "" if logged else ", more than the difference in evaluation explains"
    overfitting = (
        f"{who} {fits} the training images better by more than {WIDE_GAP:g} points{why}; this indicates overfitting."
    )
    return joined(
        f"Training mIoU (@fig-miou-grid) ends at {ends(train, numbers, 'train_mIoU', '.1f', ' %')}.",
        f"Its difference from validation mIoU is {ends(gaps, numbers, 'gap', signed, ' points')}.",
        counted,
        overfitting if wide else "",
    )


def validation_mious(runs: Sequence[Run], numbers: Numbers) -> str:
    """Final validation mIoU, how early most of it was reached, and how far the last epoch is below the best."""
    final = {run.label: run.final_val_mIoU for run in runs if np.isfinite(run.final_val_mIoU)}
    if not final:
        return ""
    curves = {run.label: run.table.dropna(subset="val_mIoU").set_index("epoch")["val_mIoU"] for run in runs}
    early = {label: (curve >= 0.9 * curve.iloc[-1]).idxmax() for label, curve in curves.items() if len(curve)}
    # On the images of every epoch both, which may be fewer than those of the final value.
    lost = {run.label: run.best[1] - curves[run.label].iloc[-1] for run in runs if np.isfinite(run.best[1])}
    late = [label for label, value in lost.items() if value > 1]
    last = ""
    if late:
        most = "" if len(late) == 1 else "at most "
        last = numbers.say("reading.val_mIoU", "{who} {end} more than a point below the best epoch ({most}{lost:.1f} "
                           "points).", who=listing(late), end="ends" if len(late) == 1 else "end", most=most,
                           lost=max(lost.values()))  # fmt: skip
    elif lost:
        last = "No run ends more than a point below its best epoch, so reporting the last epoch costs little here."
    return joined(
        f"Validation mIoU (@fig-mious) ends at {ends(final, numbers, 'val_mIoU', '.1f', ' %')}.",
        f"A curve reaches nine tenths of its last value after {ends(early, numbers, 'early', '.0f', ' epochs')}."
        if early
        else "",
        last,
    )


def durations(runs: Sequence[Run], numbers: Numbers) -> str:
    """How long the runs took, and on how many kinds of device."""
    total = {run.label: run.table["Runtime"].sum() for run in runs if run.table["Runtime"].notna().any()}
    mean = {run.label: run.table["Runtime"].mean() for run in runs if run.label in total}
    if not total:
        return ""
    seconds, unit = duration_unit(max(total.values()))
    scaled = {label: value / seconds for label, value in total.items()}
    devices = {session.get("device_name") or session.get("device") for run in runs for session in sessions(run)}
    where = f"All of it ran on {listing(map(str, devices))}." if len(devices) == 1 else (
        f"The runs did not share one device ({listing(sorted(map(str, devices)))}), so times are not comparable."
    )  # fmt: skip
    return joined(
        f"Training and validation (@fig-durations) took {ends(scaled, numbers, 'duration', '.1f', ' ' + unit)} a run, "
        f"and {ends(mean, numbers, 'epoch_time', '.1f', ' s')} an epoch.",
        numbers.say("reading.duration", "All runs together took {all:.1f} {of}.", all=sum(scaled.values()), of=unit),
        where if devices else "",
        "Runs trained side by side slow each other down. So wall-clock times do not measure the cost of a loss, and "
        "mIoU against time shows the load of the machine as well (@fig-time).",
    )


def classes(iou: pd.DataFrame, f: Findings, decided: pd.DataFrame | None, numbers: Numbers) -> str:
    """The best and the hardest classes, and where the methods differ.

    `iou` (percent) and `decided` (see `sentences.decided_classes`) are method x class.
    """
    iou = iou.dropna(how="all")
    mean = iou.mean().dropna().sort_values(ascending=False)
    if mean.empty:
        return ""

    def named(names: pd.Index, key: str) -> str:
        return listing(
            f"{name} ({numbers.put(f'reading.classes.{key}.{name}', mean[name], '.0f')} %)" for name in names
        )

    absent = [name for name in iou.columns if name not in mean.index]
    occur, stay = ("occurs", "stays") if len(absent) == 1 else ("occur", "stay")
    left_out = f"{listing(absent)} {occur} neither in labels nor in predictions and {stay} out of every mean."
    spread = (iou.max() - iou.min()).sort_values(ascending=False)
    against = ""
    if f.baseline in iou.index and len(iou) > 1:
        others = iou.drop(index=f.baseline) - iou.loc[f.baseline]
        cells = numbers.put("reading.classes.cells", int(others.notna().sum(axis=None)), "d")
        against = f"Of the {cells} differences from {f.titles[f.baseline]}, {_sides(others, decided, f, numbers)}"
    return joined(
        f"Averaged over the runs, {named(mean.index[:3], 'top')} are segmented best and "
        f"{named(mean.index[:-4:-1], 'bottom')} worst (@tbl-classes, @fig-classes).",
        left_out if absent else "",
        numbers.say("reading.classes", "The runs differ most on {name}, by {spread:.1f} points.", name=spread.index[0],
                    spread=spread.iloc[0]) if len(iou) > 1 else "",
        against,
    )  # fmt: skip


def _sides(others: pd.DataFrame, decided: pd.DataFrame | None, f: Findings, numbers: Numbers) -> str:
    """How many of the differences from CE (method x class) are gains and losses, and how many are significant."""
    alike = [name for name in f.equal if name in others.index]
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


def frequency(iou: pd.DataFrame, share: pd.Series | None, numbers: Numbers) -> str:
    """How strongly IoU follows class frequency, for the mean over the runs."""
    if share is None:
        return ""
    mean = iou.mean()
    known = [name for name in iou.columns if share.get(name, 0) > 0 and np.isfinite(mean[name])]
    if len(known) < 5:
        return ""
    rank = rank_correlation(share[known], mean[known])
    strength = "closely" if rank > 0.8 else "on the whole" if rank > 0.5 else "only loosely"
    return numbers.say(
        "reading.frequency",
        "IoU {follows} (@fig-frequency): over {number} classes the rank correlation of frequency and mean IoU is "
        "{rank:.2f}. The rarest class, {rarest}, covers {rare:.2f} % of the labelled pixels, the most frequent one, "
        "{commonest}, {common:.0f} %.",
        rarest=share[known].idxmin(), rare=share[known].min(), commonest=share[known].idxmax(),
        common=share[known].max(), number=count(len(known)), rank=rank,
        follows=f"follows frequency {strength}" if rank > 0.2 else "does not follow frequency",
    )  # fmt: skip


def rare_classes(evidence: Evidence) -> str:
    """Which classes the claims on rare classes are about, "" when there are none."""
    names = [CLASS_NAMES[c] for c in evidence.rare]
    if not names:
        return ""
    where = "validation pixels" if evidence.bootstrap else "pixels of Cityscapes"
    return f"*Rare* classes cover under {RARE_SHARE:g} % of the labelled {where}: {listing(names)}."


def confusions(matrix: np.ndarray, numbers: Numbers) -> str:
    """The largest confusions of a confusion matrix (19, 19), row = label."""
    matrix = np.asarray(matrix, dtype=float)
    totals = matrix.sum(axis=1, keepdims=True)
    shares = 100 * np.divide(matrix, totals, out=np.zeros_like(matrix), where=totals > 0)
    np.fill_diagonal(shares, 0)
    worst = np.argsort(-shares, axis=None, kind="stable")[:4]
    parts = []
    for row, column in (np.unravel_index(cell, shares.shape) for cell in worst):
        value = numbers.put(f"reading.confusion.{CLASS_NAMES[row]}.{CLASS_NAMES[column]}", shares[row, column], ".0f")
        parts.append(f"{CLASS_NAMES[row]} predicted as {CLASS_NAMES[column]} ({value} %)")
    return f"The largest confusions (@fig-confusion), in percent of the labelled class's pixels, are {listing(parts)}."


def images(roles: Mapping[str, str], arrays: Mapping[str, Mapping[str, np.ndarray]], numbers: Numbers) -> str:
    """Which images are shown, with their IoU (mean over the runs): `roles` as `pictures.choose_images` gives it."""
    parts, several = [], len(arrays) > 1
    for role, name in roles.items():
        scores = [scores_of(run, [name])[0] for run in arrays.values()]
        mean = numbers.put(f"reading.images.{role}", np.mean(scores), ".1f")
        gap = numbers.put(f"reading.images.{role}.range", max(scores) - min(scores), ".1f")
        spread = f", range {gap} points" if several else ""
        parts.append(f"{mean} % for the {role} image{spread} (@fig-{as_label(f'scene/{role}')})")
    kept = numbers.put("reading.images.kept", len(next(iter(arrays.values()))["prediction_names"]), "d")
    rule = "best, median and worst by mean IoU over the classes in the image"
    rule += ", averaged over the runs, and the one on whose pixels they disagree most" if several else ""
    return (
        f"{count(len(roles)).capitalize()} images were chosen among the {kept} whose predictions are kept: {rule}. "
        f"{'Averaged over the runs, this IoU' if several else 'This IoU'} is {'; '.join(parts)}."
    )
