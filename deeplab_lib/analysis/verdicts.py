"""What a difference comes to: four verdicts from an interval and a margin, and what would settle an open one.

That a difference is small is not shown by an interval that holds zero, which only says that there are too few data. It
is shown by two one-sided tests (Schuirmann, "A comparison of the two one-sided tests procedure and the power approach",
Journal of Pharmacokinetics and Biopharmaceutics 15, 1987; Lakens, "Equivalence tests", Social Psychological and
Personality Science 8, 2017): the interval of the difference lies within plus and minus a margin, the largest difference
that does not matter. Both questions are asked of one interval, which holds together with all others of its family; so
one difference cannot come out above zero in one table and as too small to matter in another.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from deeplab_lib.labels import NUM_CLASSES

SUPPORTED, CONTRADICTED, INCONCLUSIVE = "supported", "contradicted", "inconclusive"
EQUIVALENT = "no difference that matters"
VERDICTS = (SUPPORTED, CONTRADICTED, EQUIVALENT, INCONCLUSIVE)
MARGIN = 2.0  # points of mIoU
POWER_80 = 0.8416  # standard normal quantile of 80 %


@dataclass(frozen=True)
class Margins:
    """The largest difference that does not matter, for each measure; all follow from `miou`, or stand by themselves.

    miou: points. Two points are what the literature reports as an improvement, and about what separates two trainings
    of one network. rare: a gain in the `rare` classes alone that moves mIoU by `miou`. single: of one class's IoU,
    which moves by more from training to training than a mean of nineteen. boundary: half of `miou`, since the boundary
    F-score has no rare classes that a handful of pixels move. ece: points of calibration error, so that 90 % stands for
    89 to 91. log_loss: nats; 0.05 is a twentieth in the probability of the label. roughness: points of mIoU from epoch
    to epoch. speed: share of the training. wins: points of a share of images about one half.
    """

    miou: float = MARGIN
    rare_classes: int = NUM_CLASSES // 2
    ece: float = 1.0
    log_loss: float = 0.05
    roughness: float = 0.5
    speed: float = 0.1
    wins: float = 10.0

    def __post_init__(self) -> None:
        if not self.miou > 0:
            raise ValueError(f"margin is {self.miou}; it must be a positive number of points of mIoU, such as {MARGIN}")

    def of(self, measure: str) -> float:
        """The margin of a measure of `statistics` or `claims`, in its unit."""
        own = {"mIoU": self.miou, "boundary_f": self.miou / 2, "rare": self.miou * NUM_CLASSES / self.rare_classes}
        own |= {name: getattr(self, name) for name in ("ece", "log_loss", "roughness", "speed", "wins")}
        return 2.5 * self.miou if measure.startswith("class_") else own[measure]


def decide(low: float, high: float, margin: float) -> str:
    """The verdict on "it lies above zero" of a difference with the interval [low, high].

    A difference whose interval lies within the margin does not matter, even where it lies on one side of zero.
    """
    if -margin < low and high < margin:
        return EQUIVALENT
    return SUPPORTED if low > 0 else CONTRADICTED if high < 0 else INCONCLUSIVE


def together(verdicts: Iterable[str]) -> str:
    """The verdict on a claim from those on its parts, which it asserts all.

    One part that is contradicted refutes it; failing that, one part without a difference that matters answers it: the
    claim says that there is one.
    """
    verdicts = set(verdicts)
    if verdicts == {SUPPORTED}:
        return SUPPORTED
    return next((verdict for verdict in (CONTRADICTED, EQUIVALENT) if verdict in verdicts), INCONCLUSIVE)


class Settled(NamedTuple):
    """How many validation images, or seeds of each method, would settle a difference; infinite where they cannot alone.

    both: by how much it takes more of each where neither alone can, else 1.
    """

    images: float
    seeds: float
    both: float = 1.0


def settles_seen(row: Mapping[str, Any], margin: float) -> Settled:
    """What settles a difference of the size seen in four studies of five (power 80 %), either way.

    row: of `Bootstrap.interval`. It differs from zero where it is large, and from the margin where it is small.
    """
    size = abs(row["estimate"])
    return _settled(row, max(size, margin - size) / (row["quantile"] + POWER_80))


def settles_any(row: Mapping[str, Any], margin: float) -> Settled:
    """What settles every difference, whatever it is: intervals narrower than the margin cannot hold zero and leave it.

    An interval [d - w, d + w] with 2 w < margin either leaves out zero, or |d| <= w and it lies within the margin. So a
    design that this says suffices cannot end inconclusive, and a true zero is found equivalent more often than not:
    as often as the intervals hold.
    """
    return _settled(row, margin / (2 * row["quantile"]))


def _settled(row: Mapping[str, Any] | pd.Series, error: float) -> Settled:
    """Where the standard error is `error`: variances fall with the number of images, and with that of the seeds."""
    target, images, seeds = error**2, row["image_variance"], row["seed_variance"]
    more = row["images"] * images / (target - seeds) if target > seeds and images else math.inf
    again = row["seeds"] * seeds / (target - images) if target > images and seeds else math.inf
    both = (images + seeds) / target if math.isinf(more) and math.isinf(again) else 1.0
    images_more, seeds_more = (value if math.isinf(value) else float(math.ceil(value)) for value in (more, again))
    return Settled(images_more, seeds_more, both)
