"""How sure a difference between runs is: a paired bootstrap over validation images.

A run's mIoU is a mean of ratios of pixel counts summed over images. Resampling the images, the same ones for every
run, shows how much it would move on other images of the same kind. Each resampled deviation is divided by its own
standard error (bootstrap-t; Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, ch. 12), because plain
percentiles are too narrow when a class sits in a handful of images. Where several statistics are compared the largest
of them sets the quantile (single-step max-t; Westfall and Young, "Resampling-Based Multiple Testing", 1993), so that
all intervals of a family hold at once. Whether something is above all of its opponents needs less; see `interval`.

The images say nothing about another seed. With several seeds of a method their mean is compared and the pooled
variance between seeds enters every standard error; with one seed that variation is not covered.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from string import ascii_lowercase
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd

from deeplab_lib.labels import NUM_CLASSES
from deeplab_lib.study.run import Run

RESAMPLES = 10_000
BLOCK = 1_000_000  # influences of single images that are held at a time
CONFIDENCE = 0.95
SEED = 0
MIOU = "mIoU"
BOUNDARY = "boundary_f"
LOG_LOSS = "log_loss"
# Fewer images than this with a class, or at all, and neither sampling error nor interval means anything.
MIN_IMAGES = 5
TIE = 1e-9  # points below which a difference is rounding: sums of equal numbers in another order


def snap(value: float) -> float:
    """A difference in points, exactly 0 where it is nothing but rounding (`TIE`)."""
    return 0.0 if abs(value) < TIE else value


COLUMNS = ["estimate", "standard_error", "low", "high", "p"]
# What `verdicts` needs to say how many images or seeds would settle a difference, and why there is no interval.
BASIS = ["image_variance", "seed_variance", "quantile", "images", "seeds", "reason"]
COUNTED = [*COLUMNS, *BASIS[:-1]]
BLANK: dict[str, Any] = dict.fromkeys(COUNTED, float("nan")) | {"reason": ""}
Rows = dict[Any, dict[str, Any]]  # of intervals: by the names of their contrasts, each with the keys of `BLANK`


@dataclass(frozen=True)
class Ratios:
    """What every measure is made of: per run, image and cell a numerator and a denominator `(R, N, K)`.

    The cells are the 19 classes (intersection, union, in pixels), the boundary F-score (share, 0 or 1) and the log loss
    (a hundredth of the nats, pixels). `methods` names each run's method: runs of one method are its seeds.
    """

    methods: tuple[str, ...]
    numerator: np.ndarray
    denominator: np.ndarray

    @classmethod
    def of(
        cls,
        methods: Iterable[str],
        confusions: Sequence[np.ndarray] | np.ndarray,
        boundary: Sequence[np.ndarray] | np.ndarray | None = None,
        log_loss: Sequence[np.ndarray] | np.ndarray | None = None,
    ) -> Self:
        """From confusions `(N, C, C)`, boundary F-scores `(N,)` in percent, log losses `(N,)` in nats, one a run."""
        confusion = np.asarray(confusions, dtype=np.float64)
        intersection = np.diagonal(confusion, axis1=2, axis2=3)
        union = confusion.sum(2) + confusion.sum(3) - intersection
        numerator, denominator = [intersection], [union]
        for values, weight in ((boundary, 1.0), (log_loss, confusion.sum((2, 3)))):
            values = np.full(confusion.shape[:2], np.nan) if values is None else np.asarray(values, dtype=np.float64)
            weight = np.where(np.isfinite(values), weight, 0.0)
            numerator.append((np.nan_to_num(values) * weight / 100)[..., None])
            denominator.append(weight[..., None])
        return cls(tuple(methods), np.concatenate(numerator, axis=2), np.concatenate(denominator, axis=2))

    def estimates(self, mask: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One measure in resamples given as image weights `(B, N)`: per method its value and its sampling covariance.

        Returns `(value (B, G), covariance (B, G, G))`, in percent and percent squared. The covariance is the
        infinitesimal jackknife's: the spread of the single images' influence on the measure, in that resample. A cell
        without a pixel in a resample is left out of its mean.
        """
        used = np.flatnonzero(mask)
        numerator, denominator = self.numerator[:, :, used], self.denominator[:, :, used]
        top, bottom = np.matmul(weights, numerator), np.matmul(weights, denominator)  # (R, B, K)
        present = bottom > 0
        ratio = np.divide(top, bottom, out=np.zeros_like(top), where=present)
        counted = present.sum(2)
        value = np.divide(100 * ratio.sum(2), counted, out=np.full(counted.shape, np.nan), where=counted > 0)
        scale = np.divide(100.0, bottom * counted[..., None], out=np.zeros_like(bottom), where=present)
        factors = np.concatenate([scale, -scale * ratio], axis=2).astype(np.float32)  # (R, B, 2K)
        counts = np.concatenate([numerator, denominator], axis=2).astype(np.float32)  # (R, N, 2K)
        rooted = np.sqrt(weights).astype(np.float32)
        influence = np.empty((len(weights), len(self.names), weights.shape[1]), np.float32)
        for place, share in enumerate(self.averaging.astype(np.float32)):
            seeds = np.flatnonzero(share)
            mean = np.concatenate(share[seeds, None, None] * factors[seeds], axis=1)  # (B, 2K of every seed)
            influence[:, place] = mean @ np.concatenate(counts[seeds], axis=1).T * rooted
        return (self.averaging @ value).T, influence @ influence.transpose(0, 2, 1)

    def one_by_one(self) -> Self:
        """The same runs, each a method of its own."""
        return replace(self, methods=tuple(map(str, range(len(self.methods)))))

    @property
    def names(self) -> tuple[str, ...]:
        """The methods, each once, in order of appearance."""
        return tuple(dict.fromkeys(self.methods))

    @property
    def seeds(self) -> np.ndarray:
        """Runs per method `(G,)`."""
        return np.array([self.methods.count(name) for name in self.names])

    @cached_property
    def averaging(self) -> np.ndarray:
        """Matrix `(G, R)` that averages runs to methods."""
        member = np.array(self.methods) == np.array(self.names)[:, None]
        return member / member.sum(1, keepdims=True)


def ratios_of(runs: Sequence[Run]) -> Ratios:
    """`Ratios` of finished runs with an NPZ; ValueError when they were not validated on the same images."""
    arrays = [run.arrays for run in runs]
    for run, array in zip(runs, arrays, strict=True):
        if not np.array_equal(array["names"], arrays[0]["names"]):
            raise ValueError(f"{run.path}: validated on other images than {runs[0].path}; they cannot be paired")
    optional = [
        [array[name] for array in arrays] if all(name in array for array in arrays) else None
        for name in (BOUNDARY, LOG_LOSS)
    ]
    return Ratios.of([run.method for run in runs], [array["confusion"] for array in arrays], *optional)


def measure(classes: Iterable[int] | str) -> np.ndarray:
    """Mask `(K,)` of the cells whose mean is taken: class train ids, `BOUNDARY` or `LOG_LOSS`."""
    mask = np.zeros(NUM_CLASSES + 2)
    mask[{BOUNDARY: NUM_CLASSES, LOG_LOSS: NUM_CLASSES + 1}[classes] if isinstance(classes, str) else list(classes)] = 1
    return mask


MEASURES = {MIOU: measure(range(NUM_CLASSES)), BOUNDARY: measure(BOUNDARY), LOG_LOSS: measure(LOG_LOSS)}
CLASS_MEASURES = {f"class_{c}": measure([c]) for c in range(NUM_CLASSES)}


class Contrast(NamedTuple):
    """A weighted sum of methods on one measure: `{"A": 1, "B": -1}` is a difference, `{"A": 1}` a level."""

    measure: str
    weights: dict[str, float]


def difference(a: str | Iterable[str], b: str | Iterable[str], measure: str = MIOU) -> Contrast:
    """How much the mean of the methods `a` lies above the mean of the methods `b` (a name, or a sequence of names)."""
    a, b = ((names,) if isinstance(names, str) else tuple(names) for names in (a, b))
    weights = dict.fromkeys((*a, *b), 0.0)
    for names, sign in ((a, 1), (b, -1)):
        for name in names:
            weights[name] += sign / len(names)
    return Contrast(measure, weights)


class Bootstrap:
    """Resampled measures of several methods on the same images.

    measures: {name: mask (K,)}. All draws come from `SEED`: the same runs give the same intervals.
    `interval(contrasts)` gives intervals that hold at once for all of them.
    """

    def __init__(
        self, ratios: Ratios, measures: Mapping[str, np.ndarray] = MEASURES, resamples: int = RESAMPLES
    ) -> None:
        self.ratios, self.measures, self.resamples = ratios, measures, resamples
        rng = np.random.default_rng(SEED)
        runs, images, _ = ratios.numerator.shape
        block = max(1, min(resamples, BLOCK // (runs * images)))
        self.value = {name: ratios.estimates(mask, np.ones((1, images))) for name, mask in measures.items()}
        size = len(ratios.names)
        self.drawn = {
            name: (np.empty((resamples, size)), np.empty((resamples, size, size), np.float32)) for name in measures
        }
        for start in range(0, resamples, block):
            weights = image_weights(rng, min(block, resamples - start), images)
            now = slice(start, start + len(weights))
            for name, mask in measures.items():
                values, covariances = self.drawn[name]
                values[now], covariances[now] = ratios.estimates(mask, weights)
        # Standard normal and chi-square draws that stand for other seeds, the same for all measures.
        self.seed_noise = rng.standard_normal((resamples, len(ratios.names))) / np.sqrt(ratios.seeds)
        self.degrees_of_freedom = runs - len(ratios.names)
        free = self.degrees_of_freedom
        self.chi2_scale = rng.chisquare(free, resamples) / free if free else np.zeros(resamples)

    def levels(self, measure: str = MIOU) -> dict[str, float]:
        """`{method: value}` in percent on all images, averaged over seeds."""
        return dict(zip(self.ratios.names, self.value[measure][0][0], strict=True))

    def seed_variance(self, measure: str) -> float:
        """Variance between seeds of one method, pooled over methods; 0 when each has one seed."""
        if not self.degrees_of_freedom:
            return 0.0
        runs = self.ratios.one_by_one()
        value = runs.estimates(self.measures[measure], np.ones((1, runs.numerator.shape[1])))[0][0]
        means = (self.ratios.averaging > 0).T @ (self.ratios.averaging @ value)
        centred = value - means
        return float((centred**2).sum() / self.degrees_of_freedom)

    def _studentised(self, contrast: Contrast) -> tuple[float, tuple[float, float], np.ndarray]:
        """Estimate, its variance from images and from seeds, and the resampled deviations in standard errors `(B,)`."""
        weights = np.array([contrast.weights.get(name, 0.0) for name in self.ratios.names])
        (value, covariance), (values, covariances) = self.value[contrast.measure], self.drawn[contrast.measure]
        seed_variance = self.seed_variance(contrast.measure)
        spread = seed_variance * (weights**2 / self.ratios.seeds).sum()
        estimate = float(value[0] @ weights)
        image_variance = max(0.0, float(weights @ covariance[0] @ weights))
        deviation = values @ weights - estimate + np.sqrt(seed_variance) * (self.seed_noise @ weights)
        variance = np.einsum("bgh,g,h->b", covariances, weights, weights).clip(min=0) + spread * self.chi2_scale
        still = np.abs(deviation) < TIE  # two equal runs differ by nothing in every resample
        with np.errstate(divide="ignore", invalid="ignore"):
            studentised = np.where(still, 0.0, deviation / np.sqrt(variance))
        return snap(estimate), (image_variance, float(spread)), np.where(np.isnan(studentised), np.inf, studentised)

    def rows(
        self,
        contrasts: Mapping[Any, Contrast],
        confidence: float = CONFIDENCE,
        groups: Sequence[Sequence[Any]] | None = None,
    ) -> Rows:
        """Intervals for `{name: Contrast}` that hold together with probability `confidence`.

        groups: lists of names, for who asks of a group only whether any of its contrasts is above zero or all are
        below, and can be misled by one group at a time; the group that needs the widest intervals sets the width.
        Returns rows by name: estimate, standard_error, low, high (points of percent), p (adjusted as the width is), and
        `BASIS`: the two parts of the variance, how many standard errors the interval reaches, numbers of images and
        seeds, and why there is no interval. A measure without a value, or decided by too few images, has NaN; see
        `drop_unbounded`.
        """
        found = {name: self._studentised(contrast) for name, contrast in contrasts.items()}
        reasons = {name: self._unseen(contrast) for name, contrast in contrasts.items()}
        seen = {name: found[name][2] for name, reason in reasons.items() if not reason}
        known = drop_unbounded(seen, (1 - confidence) / 2)
        deviations = {name: found[name][2] if groups else np.abs(found[name][2]) for name in known}
        members = [[deviations[name] for name in group if name in known] for group in groups or [list(contrasts)]]
        extremes = np.abs([np.max(group, axis=0) for group in members if group] or np.zeros((1, self.resamples)))
        quantile = float(np.quantile(extremes, confidence, axis=1, method="higher").max())
        rows = {}
        for name, (estimate, variances, _) in found.items():
            seeds = [self.ratios.methods.count(method) for method, weight in contrasts[name].weights.items() if weight]
            counts = {"images": self.ratios.numerator.shape[1], "seeds": min(seeds)}
            reason = reasons[name] or "a few images alone decide it"
            bounds = _bounds(estimate, variances, quantile, extremes) if name in known else {"reason": reason}
            rows[name] = BLANK | {"estimate": estimate} | counts | bounds
        return rows

    def interval(self, contrasts: Mapping[Any, Contrast], *args: Any, **kwargs: Any) -> pd.DataFrame:
        """The `rows` as a frame."""
        return as_frame(self.rows(contrasts, *args, **kwargs))

    def _unseen(self, contrast: Contrast) -> str:
        """Why there can be no interval, "" where there can: too few images show what is measured, or none at all."""
        involved = [contrast.weights.get(method, 0.0) != 0 for method in self.ratios.methods]
        mask = self.measures[contrast.measure] > 0
        seen = (self.ratios.denominator[involved][:, :, mask] > 0).any(2).sum(1).min()
        if seen >= MIN_IMAGES:
            return ""
        total = self.ratios.numerator.shape[1]
        if not seen:
            return "no image shows it" if self.ratios.denominator[:, :, mask].any() else "the files do not hold it"
        there = "there is one" if total == 1 else f"there are {total}"
        shown = there if seen == total else f"{seen} of the {total} show it"
        return f"it takes {MIN_IMAGES} validation images, and {shown}"


def _bounds(estimate: float, variances: tuple[float, float], quantile: float, extremes: np.ndarray) -> dict[str, float]:
    """What `BLANK` has of an interval that reaches `quantile` standard errors to either side.

    variances: from images and from seeds. extremes: the largest deviations of each draw, of each group `(groups, B)`.
    """
    error = snap(float(np.sqrt(sum(variances))))
    reached = (extremes >= (abs(estimate) / error if error > 0 else 0.0)).sum(1).max()
    return {
        "standard_error": error,
        "low": estimate - quantile * error,
        "high": estimate + quantile * error,
        "p": (1 + reached) / (1 + extremes.shape[1]),
        "image_variance": variances[0],
        "seed_variance": variances[1],
        "quantile": quantile,
    }


def as_frame(rows: Rows) -> pd.DataFrame:
    """Rows of intervals as a frame; names that are pairs make an index of two levels."""
    pairs = bool(rows) and all(isinstance(name, tuple) for name in rows)
    index = pd.MultiIndex.from_tuples(rows) if pairs else list(rows)
    return pd.DataFrame(list(rows.values()), index, [*COLUMNS, *BASIS]).astype(dict.fromkeys(COUNTED, float))


def drop_unbounded(studentised: Mapping[Any, np.ndarray], share: float) -> set[Any]:
    """The names that may stand in one family: those without bounds in more than `share` of the resamples are left out.

    A class that hardly any image decides has resamples without the deciding images, where its standard error is zero
    and its deviation is not; kept, it would take the bounds from all the others too.
    """
    unbounded = {name: np.isinf(values) for name, values in studentised.items()}
    together, kept = False, set()
    for name in sorted(unbounded, key=lambda name: unbounded[name].mean()):
        together = together | unbounded[name]
        if np.mean(together) > share:
            break
        kept.add(name)
    return kept


def image_weights(rng: np.random.Generator, resamples: int, images: int) -> np.ndarray:
    """How often each image is drawn in each resample `(B, N)`; rows sum to N."""
    drawn = rng.integers(0, images, (resamples, images)) + images * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * images).reshape(resamples, images).astype(np.float64)


def all_pairs(methods: Iterable[str]) -> dict[tuple[str, str], Contrast]:
    """`{(a, b): difference a - b}` of every pair, in mIoU."""
    return {(a, b): difference(a, b) for a, b in combinations(methods, 2)}


def ranking(levels: Mapping[str, float], pairs: pd.DataFrame) -> pd.DataFrame:
    """Order of the methods with ties shown as ties.

    levels: `{method: value}`. pairs: frame of `Bootstrap.interval(all_pairs(...))`. Two methods are distinguished when
    the interval of their difference leaves out zero. Returns a frame, best value first: value, best and worst (the
    ranks that the pairs allow: 1 + those significantly better, to all but those significantly worse), and ties (two
    methods share a letter exactly when they are not distinguished; eight methods have at most 18 groups, the alphabet
    lasts).
    """
    order = sorted(levels, key=lambda name: -round(levels[name] / TIE))
    better = {(a, b) for a in order for b in order if a != b and significantly_above(pairs, a, b)}
    rows: dict[str, dict[str, Any]] = {}
    for name in order:
        above, below = sum((other, name) in better for other in order), sum((name, other) in better for other in order)
        rows[name] = {"value": levels[name], "best": 1 + above, "worst": len(order) - below, "ties": ""}
    for letter, group in zip(ascii_lowercase, _ties(order, better), strict=False):
        for name in group:
            rows[name]["ties"] += letter
    return pd.DataFrame.from_dict(rows, orient="index")


def rank_correlation(a: pd.Series, b: pd.Series) -> float:
    """Spearman's rank correlation of two series with the same index; NaN when one of them is constant."""
    a, b = a.astype(float).rank(), b.astype(float).rank()
    return a.corr(b) if a.nunique() > 1 and b.nunique() > 1 else float("nan")


def significantly_above(pairs: pd.DataFrame, a: str, b: str) -> bool:
    """Whether the interval of a - b lies above zero; the pair may be listed either way round."""
    return bool(pairs.low[a, b] > 0) if (a, b) in pairs.index else bool(pairs.high[b, a] < 0)


def _ties(order: Sequence[str], better: Iterable[tuple[str, str]]) -> list[list[str]]:
    """The largest groups in which no two methods are distinguished; pairs with unequal errors may leave gaps in them.

    Insert and absorb: Piepho, "An Algorithm for a Letter-Based Representation of All-Pairwise Comparisons", Journal of
    Computational and Graphical Statistics 13, 2004.
    """
    groups = {frozenset(order)}
    for a, b in better:
        parts = {part for group in groups for part in ((group - {a}, group - {b}) if {a, b} <= group else (group,))}
        groups = {part for part in parts if not any(part < other for other in parts)}
    return sorted((sorted(group, key=order.index) for group in groups), key=lambda group: [*map(order.index, group)])


def seed_intervals(
    contrasts: Mapping[Any, Contrast],
    values: Mapping[str, Mapping[str, Sequence[float] | np.ndarray]],
    confidence: float = CONFIDENCE,
    resolution: Mapping[str, float] | None = None,
    draws: int = 20_000,
) -> Rows:
    """Intervals of differences between methods in statistics of whole trainings, from the variation between seeds.

    contrasts: `{name: Contrast}`, whose measures are the keys of values: `{statistic: {method: [one value a seed]}}`.
    resolution: `{statistic: step}` of those that take steps only, whose rounding counts as variance (step^2 / 12). The
    variance between seeds is pooled over methods; intervals hold at once (largest of all t, drawn). The rows are those
    of `Bootstrap.rows`, with a reason where no method has two seeds or a value is missing.
    """
    rng, reached = np.random.default_rng(SEED), []
    rows: Rows = {}
    spreads = {name: pooled_variance(groups, (resolution or {}).get(name, 0.0)) for name, groups in values.items()}
    noise = {}
    for name, groups in values.items():
        free = spreads[name][1]
        chi2 = rng.chisquare(free, draws) / free if free else np.ones(draws)
        noise[name] = {method: rng.standard_normal(draws) for method in groups}, np.sqrt(chi2)
    for name, (statistic, weights) in contrasts.items():
        groups, (variance, free) = values[statistic], spreads[statistic]
        counts = {method: len(groups[method]) for method in weights}
        estimate = float(sum(weight * np.mean(groups[method]) for method, weight in weights.items()))
        rows[name] = BLANK | {"estimate": snap(estimate), "seeds": min(counts.values())}
        if not np.isfinite(estimate) or not free or variance < TIE**2:
            missing = "a run has no value" if not np.isfinite(estimate) else ""
            rows[name]["reason"] = missing or ("the seeds do not differ" if free else "every run has one seed")
            continue
        shares = {method: weight / np.sqrt(counts[method]) for method, weight in weights.items()}
        size = np.sqrt(sum(share**2 for share in shares.values()))
        drawn, scale = noise[statistic]
        reached.append(np.abs(sum(share * drawn[method] for method, share in shares.items())) / size / scale)
        rows[name]["seed_variance"] = variance * size**2
    extremes = np.max(reached, axis=0)[None] if reached else np.zeros((1, draws))
    quantile = float(np.quantile(extremes, confidence, method="higher"))
    for row in rows.values():
        if not row["reason"]:
            row |= _bounds(row["estimate"], (0.0, row["seed_variance"]), quantile, extremes)
    return rows


def pooled_variance(groups: Mapping[str, Sequence[float] | np.ndarray], step: float = 0.0) -> tuple[float, int]:
    """Variance between the seeds of one method, pooled over `{method: values}`, and its degrees of freedom."""
    free = sum(len(values) - 1 for values in groups.values() if len(values) and np.isfinite(values).all())
    parts = [np.sum((values - np.mean(values)) ** 2) for values in map(np.asarray, groups.values())]
    return (float(np.nansum(parts)) / free + step**2 / 12 if free else 0.0), free
