"""Weighted sums of losses, written as an expression such as `"0.7*ce + 0.3*lovasz"`."""

import inspect
import math
import re
from collections.abc import Mapping

import numpy as np
from torch import Tensor, nn

from deeplab_lib.common.text import did_you_mean
from deeplab_lib.losses.base import Loss, Pixels
from deeplab_lib.losses.hybrid import HYBRID_TERMS
from deeplab_lib.losses.standard import CrossEntropyLoss, DiceLoss, FocalLoss, LovaszLoss, TverskyLoss

TERMS = {
    "ce": CrossEntropyLoss,
    "focal": FocalLoss,
    "tversky": TverskyLoss,
    "dice": DiceLoss,
    "lovasz": LovaszLoss,
    **HYBRID_TERMS,
}


class WeightedLoss(Loss):
    """A weighted sum of losses over one shared softmax.

    `weights` maps term names to floats and may be changed between steps. `terms()` gives the raw terms, `total()`
    their weighted sum; calling the object does both and refuses illegal labels.
    """

    def __init__(self, losses: Mapping[str, Loss], weights: Mapping[str, float]) -> None:
        super().__init__()
        self.losses: dict[str, Loss] = nn.ModuleDict(losses)  # type: ignore[assignment]  # it reads like one
        self.weights = dict(weights)

    def compute(self, pixels: Pixels) -> Tensor:
        return self.total({name: loss.compute(pixels) for name, loss in self.losses.items()})

    @property
    def needs_class_counts(self) -> bool:
        """Whether a term weighs the classes by how often they occur in the training labels."""
        return any(hasattr(loss, "set_class_counts") for loss in self.losses.values())

    def set_class_counts(self, counts: np.ndarray | None) -> None:
        """Give those terms the pixels of each class in each training image `(N, C)`."""
        for loss in self.losses.values():
            if hasattr(loss, "set_class_counts"):
                loss.set_class_counts(counts)  # type: ignore[operator]

    def terms(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Raw terms `{name: scalar}`. Labels are taken as checked: no value is read back from the device."""
        pixels = Pixels(logits, labels)
        return {name: loss.compute(pixels) for name, loss in self.losses.items()}

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Weighted sum of `terms`, a scalar."""
        return sum(self.weights[name] * term for name, term in terms.items())  # type: ignore[return-value]


def make_loss(expression: str) -> WeightedLoss:
    """Build a `WeightedLoss` from an expression: terms `weight*name(option=value, ...)` joined by `+`.

    A bare name has weight 1. Raises ValueError, naming the place, for anything else.
    """
    losses, weights = {}, {}
    for weight, name, options in parse_expression(expression):
        if name in losses:
            raise ValueError(f"loss {expression!r}: {name!r} appears twice; join the two weights into one")
        losses[name], weights[name] = make_term(name, options, expression), weight
    return WeightedLoss(losses, weights)


NUMBER = r"[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?"
TERM = re.compile(rf"\s*(?:({NUMBER})\s*\*\s*)?([A-Za-z_]\w*)\s*(?:\(([^()]*)\))?\s*")
OPTION = re.compile(rf"\s*([A-Za-z_]\w*)\s*=\s*(-?(?:{NUMBER}))\s*")


def parse_expression(expression: str) -> list[tuple[float, str, str]]:
    """Split an expression into `(weight, name, options)` tuples; ValueError where it cannot be read."""
    parsed, position = [], 0
    while True:
        match = TERM.match(expression, position)
        if not match:
            raise ValueError(
                f"loss {expression!r}: cannot read {expression[position:].strip() or 'an empty term'!r}; "
                f"write terms as weight*name(option=value) joined by +, with names from {', '.join(TERMS)}"
            )
        weight = float(match[1] or 1)
        if not 0 < weight < math.inf:
            raise ValueError(f"loss {expression!r}: the weight of {match[2]!r} is {weight:g}; it must be positive")
        parsed.append((weight, match[2].lower(), match[3] or ""))
        position = match.end()
        if position == len(expression):
            return parsed
        if expression[position] != "+":
            raise ValueError(f"loss {expression!r}: expected + or the end before {expression[position:].strip()!r}")
        position += 1


def make_term(name: str, options: str, expression: str) -> Loss:
    """One loss from its name and its options text, `"gamma=2"`; ValueError names the valid ones."""
    if name not in TERMS:
        raise ValueError(f"loss {expression!r}: no term {name!r}{did_you_mean(name, TERMS)}; terms: {', '.join(TERMS)}")
    parameters = inspect.signature(TERMS[name]).parameters.values()
    valid = [parameter.name for parameter in parameters if parameter.kind == parameter.POSITIONAL_OR_KEYWORD]
    values = {}
    for text in options.split(",") if options.strip() else []:
        match = OPTION.fullmatch(text)
        if not match or match[1] not in valid or match[1] in values:
            known = f"options: {', '.join(valid)}" if valid else "it takes none"
            raise ValueError(f"loss {expression!r}: {name} cannot take {text.strip()!r}; {known}")
        values[match[1]] = float(match[2])
        if match[2].startswith("-"):
            raise ValueError(f"loss {expression!r}: {match[1]} is {match[2]}; it must not be negative")
    return TERMS[name](**values)


def canonical(expression: str) -> str:
    """A loss expression in one spelling, so that spaces, capitals and trailing zeros make no other run of it."""

    def shortest(number: float | str) -> str:
        return repr(float(number)).removesuffix(".0")

    terms = []
    for weight, name, options in parse_expression(expression):
        pairs = [text.split("=") for text in options.split(",") if text.strip()]
        inside = ", ".join(f"{key.strip()}={shortest(value)}" for key, value in pairs)
        terms.append((f"{shortest(weight)}*" if weight != 1 else "") + name + (f"({inside})" if inside else ""))
    return " + ".join(terms)
