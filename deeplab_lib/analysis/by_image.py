"""Decided by image: on how many of the validation images one run beats another, whatever its mean says.

An image's score is its mean IoU over the classes labelled in it, averaged over a method's seeds. A mean can be carried
by a few images; a share of images cannot.
"""

from math import isfinite
from statistics import NormalDist

import numpy as np
import pandas as pd

from deeplab_lib.analysis.evidence import Evidence
from deeplab_lib.analysis.pictures import image_scores
from deeplab_lib.analysis.statistics import CONFIDENCE, MIN_IMAGES, TIE
from deeplab_lib.analysis.verdicts import CONTRADICTED, SUPPORTED, decide

EVEN = 50.0  # percent: as many images won as lost
WINS = "wins"


def scores(evidence: Evidence) -> dict[str, np.ndarray]:
    """Score of every method and image in percent, `{method: (N,)}`, of the methods whose runs all store images."""
    stored = [method for method in evidence.methods if method.runs and all(run.arrays for run in method.runs)]
    return {m.name: np.mean([image_scores(run.arrays["confusion"]) for run in m.runs], axis=0) for m in stored}


def wilson(share: float, number: int, confidence: float) -> tuple[float, float]:
    """Wilson's interval, in percent, of a `share` (0 to 1) of `number` images.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = (share + z**2 / (2 * number)) / (1 + z**2 / number)
    reach = z / (1 + z**2 / number) * np.sqrt(share * (1 - share) / number + z**2 / (4 * number**2))
    return 100 * (centre - reach), 100 * (centre + reach)


def wins(evidence: Evidence) -> pd.DataFrame:
    """On which share of the images every recipe beats CE: a frame by method; empty without CE or images.

    Columns: estimate (percent; a tie is half a win), low, high (the intervals hold at once, by Bonferroni), verdict on
    "it wins on more than half of the images", images (their number).
    """
    found, base = scores(evidence), evidence.baseline
    others = [method.name for method in evidence.recipes if method.name in found and method is not base]
    rows = {}
    against = found.get(base.name) if base else None
    for name in others if against is not None else ():
        gap = found[name] - against
        gap = gap[np.isfinite(gap)]
        share = float(np.mean((gap > TIE) + 0.5 * (np.abs(gap) <= TIE))) if len(gap) else np.nan
        confidence = 1 - (1 - CONFIDENCE) / len(others)
        low, high = wilson(share, len(gap), confidence) if len(gap) >= MIN_IMAGES else (np.nan, np.nan)
        verdict = decide(low - EVEN, high - EVEN, evidence.margins.of(WINS))
        rows[name] = {"estimate": 100 * share, "low": low, "high": high, "verdict": verdict, "images": len(gap)}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["estimate", "low", "high", "verdict", "images"])


def pairs_that_matter(versus: pd.DataFrame, shares: pd.DataFrame, most: int = 3) -> list[str]:
    """The methods whose images are shown against CE: those that differ from it, else the one that divides most images.

    versus: `Evidence.from_baseline`; shares: `wins`. At most `most` of them, the largest differences first.
    """
    decided = versus[versus["verdict"].isin([SUPPORTED, CONTRADICTED])] if len(versus) else versus
    if len(decided):
        return list(decided["estimate"].abs().sort_values(ascending=False, kind="stable").index[:most])
    known = (shares["estimate"] - EVEN).abs().dropna() if len(shares) else pd.Series(dtype=float)
    return [str(known.idxmax())] if len(known) else []


def most_different(evidence: Evidence, method: str) -> tuple[str | None, str | None]:
    """Where a method and CE differ most, among the images whose predictions both kept: (for it, for CE), two names.

    One of the two is None where no image speaks for that side; (None, None) without kept predictions.
    """
    found, base = scores(evidence), evidence.baseline
    chosen = next(m for m in evidence.recipes if m.name == method)
    if method not in found or base is None or base.name not in found:
        return None, None
    names = list(map(str, base.runs[0].arrays["names"]))
    kept = [set(map(str, m.runs[0].arrays.get("prediction_names", ()))) for m in (chosen, base)]
    gaps = {name: gap for name, gap in zip(names, found[method] - found[base.name], strict=True) if isfinite(gap)}
    gaps = {name: gap for name, gap in gaps.items() if name in kept[0] & kept[1] and abs(gap) > TIE}
    if not gaps:
        return None, None
    best, worst = (choose(gaps, key=gaps.__getitem__) for choose in (max, min))
    return (best if gaps[best] > 0 else None), (worst if gaps[worst] < 0 else None)
