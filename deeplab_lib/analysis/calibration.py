"""How far the runs' probabilities can be believed: expected calibration error with intervals, reliability by bin.

A network is calibrated when of all pixels that it calls with a confidence of 80 %, 80 % are right. The error is Guo et
al.'s (ICML 2017): the mean over all pixels of the gap between accuracy and mean confidence in their bin, of 15 equally
wide ones. Its limits are known (Nixon et al., CVPR Workshops 2019): gaps of opposite sign within a bin cancel; nearly
all pixels of a segmentation fall into the last bin; only the winning class is looked at; and since a gap counts
whatever its sign, few pixels make it too large. Void is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from deeplab_lib.analysis.evidence import Evidence
from deeplab_lib.analysis.statistics import RESAMPLES, Bootstrap, Contrast, Ratios, difference
from deeplab_lib.metrics import CALIBRATION_BINS
from deeplab_lib.study.run import Run

ECE = "ece"
ARRAYS = ("calibration_count", "calibration_confidence", "calibration_hits")
ALL_BINS = np.ones(CALIBRATION_BINS)


@dataclass(frozen=True)
class CalibrationBins(Ratios):
    """Per run, image and bin `(R, N, bins)`: hits minus summed confidence (numerator), and pixels (denominator)."""

    def estimates(self, mask: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ECE in percent in resamples given as image weights `(B, N)`, with its covariance; see `Ratios`.

        The influence of an image is that of its pixels on each bin's gap, with the gap's sign, and on their number.
        """
        gaps = np.matmul(weights, self.numerator)  # (R, B, K)
        total = np.matmul(weights, self.denominator.sum(2)[..., None])[..., 0]  # (R, B)
        value = 100 * np.abs(gaps).sum(2) / total
        signed = np.matmul(np.sign(gaps), self.numerator.transpose(0, 2, 1))  # (R, B, N)
        influence = (100 * signed - value[..., None] * self.denominator.sum(2)[:, None, :]) / total[..., None]
        influence = np.tensordot(self.averaging, influence, 1).transpose(1, 0, 2)
        covariance = (influence * weights[:, None, :]) @ influence.transpose(0, 2, 1)
        return (self.averaging @ value).T, covariance


def bins_of(runs: Sequence[Run]) -> CalibrationBins | None:
    """`CalibrationBins` of finished runs of which every one stores them; None otherwise."""
    arrays = [run.arrays for run in runs]
    if not arrays or not all(name in array for array in arrays for name in ARRAYS):
        return None
    counts, confidence, hits = (np.stack([array[name] for array in arrays]).astype(float) for name in ARRAYS)
    return CalibrationBins(tuple(run.method for run in runs), hits - confidence, counts)


def calibration(evidence: Evidence, resamples: int = RESAMPLES) -> pd.DataFrame | None:
    """ECE of every recipe, and its difference from CE; the intervals of all of them hold at once. None without arrays.

    Returns a frame by method, best calibrated first: ece, low, high (percent), overconfidence (mean confidence minus
    accuracy, points), and difference, difference_low, difference_high, verdict (on "its error is larger") and reason.
    """
    runs = [run for method in evidence.recipes for run in method.runs]
    bins = bins_of(runs)
    if bins is None:
        return None
    bootstrap = Bootstrap(bins, {ECE: ALL_BINS}, resamples)
    names = list(bins.names)
    base = evidence.baseline.name if evidence.baseline else None
    contrasts: dict[tuple[str, str | None], Contrast] = {(name, None): Contrast(ECE, {name: 1.0}) for name in names}
    contrasts |= {(name, base): difference(name, base, ECE) for name in names if base not in (None, name)}
    found = bootstrap.rows(contrasts)
    over = bins.averaging @ (-100 * bins.numerator.sum((1, 2)) / bins.denominator.sum((1, 2)))
    rows = {}
    for name, excess in zip(names, over, strict=True):
        level, gap = found[name, None], found.get((name, base), {})
        rows[name] = {"ece": level["estimate"], "low": max(0.0, level["low"]), "high": level["high"]}
        rows[name] |= {"overconfidence": excess, "reason": level["reason"]}
        rows[name] |= {f"difference{end}": gap.get(key, np.nan) for end, key in
                       (("", "estimate"), ("_low", "low"), ("_high", "high"))}  # fmt: skip
        rows[name]["verdict"] = evidence.decided(gap, ECE) if gap else ""
    return pd.DataFrame.from_dict(rows, orient="index").sort_values("ece", kind="stable")


def reliability(evidence: Evidence) -> dict[str, pd.DataFrame]:
    """`{method: frame}` of every recipe, a row a bin: pixels (share of all), confidence and accuracy in percent.

    Bins without a pixel have NaN. `{}` where the runs lack the arrays.
    """
    runs = [run for method in evidence.recipes for run in method.runs]
    bins = bins_of(runs)
    if bins is None:
        return {}
    counts = np.stack([run.arrays["calibration_count"].sum(0) for run in runs]).astype(float)
    confidence = np.stack([run.arrays["calibration_confidence"].sum(0) for run in runs])
    hits = np.stack([run.arrays["calibration_hits"].sum(0) for run in runs]).astype(float)
    member, frames = (bins.averaging > 0).astype(float), {}
    for name, row in zip(bins.names, member, strict=True):
        pixels = row @ counts
        some = np.where(pixels > 0, pixels, np.nan)
        columns = {"confidence": 100 * (row @ confidence) / some, "accuracy": 100 * (row @ hits) / some}
        frames[name] = pd.DataFrame({"pixels": pixels / pixels.sum()} | columns)
    return frames
