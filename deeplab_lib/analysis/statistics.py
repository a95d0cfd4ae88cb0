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

from dataclasses import dataclass
from itertools import combinations
from math import comb
from string import ascii_lowercase
from typing import NamedTuple

import numpy as np
import pandas as pd

from deeplab_lib.labels import NUM_CLASSES

RESAMPLES = 10_000
CONFIDENCE = 0.95
SEED = 0
MIOU = "mIoU"
BOUNDARY = "boundary_f"
# Fewer images than this with a class, or at all, and neither sampling error nor interval means anything.
MIN_IMAGES = 5


@dataclass(frozen=True)
class Ratios:
    """What every measure is made of: per run, image and cell a numerator and a denominator `(R, N, K)`.

    The cells are the 19 classes (intersection, union, in pixels) and, last, the boundary F-score (share, 0 or 1).
    `methods` names each run's method: runs of one method are its seeds.
    """

    methods: tuple[str, ...]
    numerator: np.ndarray
    denominator: np.ndarray

    @classmethod
    def of(cls, methods, confusions, boundary=None):
        """From confusion matrices `(N, C, C)` and boundary F-scores `(N,)` in percent, one of each per run."""
        confusion = np.asarray(confusions, dtype=np.float64)
        intersection = np.diagonal(confusion, axis1=2, axis2=3)
        union = confusion.sum(2) + confusion.sum(3) - intersection
        boundary = np.full(confusion.shape[:2], np.nan) if boundary is None else np.asarray(boundary, dtype=np.float64)
        valid = np.isfinite(boundary)
        numerator = np.concatenate([intersection, np.where(valid, boundary / 100, 0)[..., None]], axis=2)
        denominator = np.concatenate([union, valid[..., None].astype(float)], axis=2)
        return cls(tuple(methods), numerator, denominator)

    @property
    def names(self):
        """The methods, each once, in order of appearance."""
        return tuple(dict.fromkeys(self.methods))

    @property
    def seeds(self):
        """Runs per method `(G,)`."""
        return np.array([self.methods.count(name) for name in self.names])

    @property
    def averaging(self):
        """Matrix `(G, R)` that averages runs to methods."""
        return np.array([[(m == name) / self.methods.count(name) for m in self.methods] for name in self.names])


def ratios_of(runs):
    """`Ratios` of finished runs with an NPZ; ValueError when they were not validated on the same images."""
    arrays = [run.arrays for run in runs]
    for run, array in zip(runs, arrays, strict=True):
        if not np.array_equal(array["names"], arrays[0]["names"]):
            raise ValueError(f"{run.path}: validated on other images than {runs[0].path}; they cannot be paired")
    boundary = [array["boundary_f"] for array in arrays] if all("boundary_f" in array for array in arrays) else None
    return Ratios.of([run.method for run in runs], [array["confusion"] for array in arrays], boundary)


def measure(classes):
    """Mask `(K,)` of the cells whose mean is taken: class train ids, or `BOUNDARY`."""
    mask = np.zeros(NUM_CLASSES + 1)
    mask[NUM_CLASSES if classes == BOUNDARY else list(classes)] = 1
    return mask


MEASURES = {MIOU: measure(range(NUM_CLASSES)), BOUNDARY: measure(BOUNDARY)}
CLASS_MEASURES = {f"class_{c}": measure([c]) for c in range(NUM_CLASSES)}


def estimates(ratios, mask, weights):
    """One measure in resamples given as image weights `(B, N)`: per method its value and its sampling covariance.

    Returns `(value (B, G), covariance (B, G, G))`, in percent and percent squared. The covariance is the infinitesimal
    jackknife's: the spread of the single images' influence on the measure, in that resample. A cell without a pixel in
    a resample is left out of its mean.
    """
    used = np.flatnonzero(mask)
    numerator, denominator = ratios.numerator[:, :, used], ratios.denominator[:, :, used]
    top, bottom = np.matmul(weights, numerator), np.matmul(weights, denominator)  # (R, B, K)
    present = bottom > 0
    ratio = np.divide(top, bottom, out=np.zeros_like(top), where=present)
    counted = present.sum(2)
    value = np.divide(100 * ratio.sum(2), counted, out=np.full(counted.shape, np.nan), where=counted > 0)
    scale = np.divide(100.0, bottom * counted[..., None], out=np.zeros_like(bottom), where=present)
    factors = np.concatenate([scale, -scale * ratio], axis=2).astype(np.float32)
    counts = np.concatenate([numerator, denominator], axis=2).astype(np.float32)
    influence = np.matmul(factors, counts.transpose(0, 2, 1))  # (R, B, N)
    influence = np.tensordot(ratios.averaging.astype(np.float32), influence, 1).transpose(1, 0, 2)  # (B, G, N)
    covariance = (influence * weights[:, None, :].astype(np.float32)) @ influence.transpose(0, 2, 1)
    return (ratios.averaging @ value).T, covariance.astype(np.float64)


class Contrast(NamedTuple):
    """A weighted sum of methods on one measure: `{"A": 1, "B": -1}` is a difference, `{"A": 1}` a level."""

    measure: str
    weights: dict


def difference(a, b, measure=MIOU):
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

    def __init__(self, ratios, measures=MEASURES, resamples=RESAMPLES):
        self.ratios, self.measures, self.resamples = ratios, measures, resamples
        rng = np.random.default_rng(SEED)
        runs, images, _ = ratios.numerator.shape
        whole = np.ones((1, images))
        chunk = max(1, min(resamples, 4_000_000 // (runs * images)))
        self.value = {name: estimates(ratios, mask, whole) for name, mask in measures.items()}
        drawn = {name: [] for name in measures}
        for start in range(0, resamples, chunk):
            weights = image_weights(rng, min(chunk, resamples - start), images)
            for name, mask in measures.items():
                drawn[name].append(estimates(ratios, mask, weights))
        self.drawn = {name: tuple(map(np.concatenate, zip(*parts, strict=True))) for name, parts in drawn.items()}
        # Standard normal and chi-square draws that stand for other seeds, the same for all measures.
        self.seed_noise = rng.standard_normal((resamples, len(ratios.names))) / np.sqrt(ratios.seeds)
        self.degrees_of_freedom = runs - len(ratios.names)
        free = self.degrees_of_freedom
        self.chi2_scale = rng.chisquare(free, resamples) / free if free else np.zeros(resamples)

    def levels(self, measure=MIOU):
        """`{method: value}` in percent on all images, averaged over seeds."""
        return dict(zip(self.ratios.names, self.value[measure][0][0], strict=True))

    def seed_variance(self, measure):
        """Variance between seeds of one method, pooled over methods; 0 when each has one seed."""
        if not self.degrees_of_freedom:
            return 0.0
        runs = Ratios(tuple(range(len(self.ratios.methods))), self.ratios.numerator, self.ratios.denominator)
        value = estimates(runs, self.measures[measure], np.ones((1, runs.numerator.shape[1])))[0][0]
        means = (self.ratios.averaging > 0).T @ (self.ratios.averaging @ value)
        centred = value - means
        return float((centred**2).sum() / self.degrees_of_freedom)

    def _studentised(self, contrast):
        """Estimate, its standard error, and the resampled deviations in units of their own standard errors `(B,)`."""
        weights = np.array([contrast.weights.get(name, 0.0) for name in self.ratios.names])
        (value, covariance), (values, covariances) = self.value[contrast.measure], self.drawn[contrast.measure]
        seed_variance = self.seed_variance(contrast.measure)
        spread = seed_variance * (weights**2 / self.ratios.seeds).sum()
        estimate = float(value[0] @ weights)
        error = np.sqrt(max(0.0, weights @ covariance[0] @ weights) + spread)
        deviation = values @ weights - estimate + np.sqrt(seed_variance) * (self.seed_noise @ weights)
        variance = np.einsum("bgh,g,h->b", covariances, weights, weights).clip(min=0) + spread * self.chi2_scale
        still = np.abs(deviation) < 1e-9  # two equal runs differ by nothing in every resample
        with np.errstate(divide="ignore", invalid="ignore"):
            studentised = np.where(still, 0.0, deviation / np.sqrt(variance))
        return estimate, float(error), np.where(np.isnan(studentised), np.inf, studentised)

    def interval(self, contrasts, confidence=CONFIDENCE, groups=None):
        """Intervals for `{name: Contrast}` that hold together with probability `confidence`.

        groups: lists of names, for who asks of a group only whether any of its contrasts is above zero or all are
        below, and can be misled by one group at a time; the group that needs the widest intervals sets the width.
        Returns a frame indexed by name: estimate, standard_error, low, high (points of percent), p (adjusted as the
        width is). A measure without a value, or decided by too few images, gives NaN; see `drop_unbounded`.
        """
        rows = {name: self._studentised(contrast) for name, contrast in contrasts.items()}
        seen = [name for name, contrast in contrasts.items() if self._seen(contrast) and np.isfinite(rows[name][0])]
        known = drop_unbounded({name: rows[name][2] for name in seen}, (1 - confidence) / 2)
        deviations = {name: rows[name][2] if groups else np.abs(rows[name][2]) for name in known}
        members = [[deviations[name] for name in group if name in known] for group in groups or [contrasts]]
        extremes = np.abs([np.max(group, axis=0) for group in members if group] or np.zeros((1, self.resamples)))
        quantile = float(np.quantile(extremes, confidence, axis=1, method="higher").max())
        table = {}
        for name, (estimate, error, _) in rows.items():
            if name not in known:
                table[name] = (estimate, np.nan, np.nan, np.nan, np.nan)
                continue
            t = abs(estimate) / error if error > 0 else 0.0
            p = (1 + (extremes >= t).sum(1).max()) / (1 + self.resamples)
            table[name] = (estimate, error, estimate - quantile * error, estimate + quantile * error, p)
        columns = ["estimate", "standard_error", "low", "high", "p"]
        return pd.DataFrame.from_dict(table, orient="index", columns=columns)

    def _seen(self, contrast):
        """Whether enough images show what is measured, for every method in the contrast."""
        involved = [contrast.weights.get(method, 0.0) != 0 for method in self.ratios.methods]
        mask = self.measures[contrast.measure] > 0
        images = (self.ratios.denominator[involved][:, :, mask] > 0).any(2).sum(1)
        return images.min() >= MIN_IMAGES


def drop_unbounded(studentised, share):
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


def image_weights(rng, resamples, images):
    """How often each image is drawn in each resample `(B, N)`; rows sum to N."""
    drawn = rng.integers(0, images, (resamples, images)) + images * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * images).reshape(resamples, images).astype(np.float64)


def all_pairs(methods, measure=MIOU):
    """`{(a, b): difference a - b}` of every pair."""
    return {(a, b): difference(a, b, measure) for a, b in combinations(methods, 2)}


def ranking(levels, pairs):
    """Order of the methods with ties shown as ties.

    levels: `{method: value}`. pairs: frame of `Bootstrap.interval(all_pairs(...))`. Two methods are distinguished when
    the interval of their difference leaves out zero. Returns a frame, best value first: value, best and worst (the
    ranks that the pairs allow: 1 + those significantly better, to all but those significantly worse), and ties (two
    methods share a letter exactly when they are not distinguished; eight methods have at most 18 groups, the alphabet
    lasts).
    """
    order = sorted(levels, key=lambda name: -levels[name])
    better = {(a, b) for a in order for b in order if a != b and surely_above(pairs, a, b)}
    rows = {}
    for name in order:
        above, below = sum((other, name) in better for other in order), sum((name, other) in better for other in order)
        rows[name] = {"value": levels[name], "best": 1 + above, "worst": len(order) - below, "ties": ""}
    for letter, group in zip(ascii_lowercase, _ties(order, better), strict=False):
        for name in group:
            rows[name]["ties"] += letter
    return pd.DataFrame.from_dict(rows, orient="index")


def surely_above(pairs, a, b):
    """Whether the interval of a - b lies above zero; the pair may be listed either way round."""
    return bool(pairs.low[a, b] > 0) if (a, b) in pairs.index else bool(pairs.high[b, a] < 0)


def _ties(order, better):
    """The largest groups in which no two methods are distinguished; pairs with unequal errors may leave gaps in them.

    Insert and absorb: Piepho, "An Algorithm for a Letter-Based Representation of All-Pairwise Comparisons", Journal of
    Computational and Graphical Statistics 13, 2004.
    """
    groups = {frozenset(order)}
    for a, b in better:
        parts = {part for group in groups for part in ((group - {a}, group - {b}) if {a, b} <= group else (group,))}
        groups = {part for part in parts if not any(part < other for other in parts)}
    return sorted((sorted(group, key=order.index) for group in groups), key=lambda group: [*map(order.index, group)])


def least_p(number_a, number_b):
    """The smallest `permutation_p` that this many runs against that many can give: they lie apart without overlap.

    One split of all, or two where the sides are equal, since the mirrored one is as extreme.
    """
    return (1 + (number_a == number_b)) / comb(number_a + number_b, number_a)


def permutation_p(a, b, most=20_000):
    """Two-sided p of the difference of means between the runs' values `a` and `b`, by permuting which run is which.

    Exact while there are at most `most` ways to split the runs, otherwise from that many random ones. 1 when a side
    is empty. See `least_p` for how small it can get.
    """
    a, values = np.asarray(a, float), np.concatenate([a, b]).astype(float)
    size, total = len(a), len(values)
    if not size or size == total or not np.isfinite(values).all():
        return 1.0
    if comb(total, size) <= most:
        chosen = np.array(list(combinations(range(total), size)))
    else:
        chosen = np.random.default_rng(SEED).permuted(np.tile(np.arange(total), (most, 1)), axis=1)[:, :size]
        chosen[0] = np.arange(size)
    sums = values[chosen].sum(1)
    means = sums / size - (values.sum() - sums) / (total - size)
    return float(np.mean(np.abs(means) >= abs(means[0]) - 1e-12))
