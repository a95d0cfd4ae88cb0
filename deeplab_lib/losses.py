"""The study's five losses, and weighted sums written as an expression such as `"0.7*ce + 0.3*lovasz"`.

Each loss takes `logits (N, C, h, w)` (any float type; computed in float32) and `labels (N, h, w)` int64 with
`ignore_index` for void, and returns a scalar over the valid pixels i of the **whole batch**. Below, p = softmax of the
logits, y the labels, g their one-hot form, and c runs over the classes present in the labels (absent classes are left
out of the mean). Void pixels have exactly zero gradient; a batch of nothing but void gives 0.
"""

import inspect
import math
import re

import numpy as np
import torch
from torch import nn

from deeplab_lib.hybrid_losses import HYBRID_TERMS
from deeplab_lib.pixels import Loss, Pixels, check_option
from deeplab_lib.words import did_you_mean


class CrossEntropyLoss(Loss):
    """Mean over pixels of -log p[i, y_i] (Goodfellow et al., "Deep Learning", 2016, section 6.2)."""

    def of(self, pixels):
        return pixels.pixel_mean(-pixels.log_p_true)


class FocalLoss(Loss):
    """Mean over pixels of -(1 - p[i, y_i])^gamma log p[i, y_i] (Lin et al., ICCV 2017, eq. 4; alpha_t = 1)."""

    def __init__(self, gamma=2.0):
        super().__init__()
        self.gamma = check_option("gamma", gamma)

    def of(self, pixels):
        # The floor keeps the gradient finite where p rounds to 1 and gamma is below 1.
        miss = (-torch.expm1(pixels.log_p_true)).clamp(min=1e-12)
        return pixels.pixel_mean(-(miss**self.gamma) * pixels.log_p_true)


class TverskyLoss(Loss):
    """1 - mean over c of TP / (TP + alpha FP + beta FN) (Salehi et al., MLMI 2017, eq. 3).

    TP = sum p g, FP = sum p (1 - g), FN = sum (1 - p) g. beta weighs what is missed, alpha what is claimed wrongly.
    """

    def __init__(self, alpha=0.3, beta=0.7):
        super().__init__()
        self.alpha, self.beta = check_option("alpha", alpha), check_option("beta", beta)
        if self.alpha + self.beta == 0:
            raise ValueError("tversky: alpha and beta are both 0; one must be positive")

    def of(self, pixels):
        return pixels.class_mean(1 - self.index(pixels))

    def index(self, pixels):
        """The Tversky index of every class, `(C,)`."""
        true_positives = (pixels.p * pixels.onehot).sum(dim=1)
        false_positives = pixels.p.sum(dim=1) - true_positives
        false_negatives = pixels.onehot.sum(dim=1) - true_positives
        total = true_positives + self.alpha * false_positives + self.beta * false_negatives
        return true_positives / total.clamp(min=1e-12)


class DiceLoss(TverskyLoss):
    """1 - mean over c of 2 |P G| / (|P| + |G|), denominators not squared (after Milletari et al., 3DV 2016).

    Exactly `TverskyLoss(0.5, 0.5)`.
    """

    def __init__(self):
        super().__init__(alpha=0.5, beta=0.5)


class LovaszLoss(Loss):
    """Lovasz-Softmax: mean over c of the Lovasz extension of the Jaccard loss (Berman et al., CVPR 2018, eqs. 8-12).

    The errors |g - p| of every class are sorted downwards at once; each is weighted by how much the Jaccard loss grows
    when its pixel joins the mistakes.
    """

    def of(self, pixels):
        slopes = lovasz_slopes(pixels.p.detach(), pixels.onehot, pixels.valid)
        # An error weighs as much as its slope; it is p where the slope rises, and 1 - p where it falls.
        return pixels.class_mean((slopes * pixels.p).sum(dim=1) - slopes.clamp(max=0).sum(dim=1))


def lovasz_slopes(p, onehot, valid):
    """Gradient of the Lovasz extension of every class with respect to `p (C, P)`; 0 for classes without a pixel.

    onehot: g, bool `(C, P)`; valid: bool `(P,)`.
    """
    # Leaving absent classes out needs their number, for which a GPU would have to be waited for; a CPU knows it.
    rows = onehot.any(dim=1).nonzero()[:, 0] if p.is_cpu else slice(None)
    p_rows, foreground = p[rows], onehot[rows]
    # Void pixels sort behind everything else, so they take part in no other pixel's weight.
    order = ascending(torch.where(foreground, p_rows - 1, -p_rows).add_((~valid).float()))
    foreground = foreground.gather(1, order)
    growth = jaccard_growth(foreground)
    slopes = torch.zeros_like(p)
    slopes[rows] = torch.empty_like(growth).scatter_(1, order, torch.where(foreground, -growth, growth))
    return slopes


def ascending(values):
    """Indices that sort every row of `values (C, P)`. On a CPU, NumPy's vectorised sort is five times PyTorch's."""
    return torch.from_numpy(np.argsort(values.numpy(), axis=1)) if values.is_cpu else values.argsort(dim=1)


def jaccard_growth(foreground):
    """Growth of the Jaccard loss 1 - I/U as the pixels become mistakes one by one: `(C, P)` bool to float.

    A foreground pixel takes 1 from I: growth 1/U. A background pixel adds 1 to U: I/(U - 1) - I/U = I / (U (U - 1)).
    Written so, nothing cancels, as it does in the difference of neighbouring values.
    """
    hits = foreground.cumsum(dim=1, dtype=torch.int32)
    intersection = (hits[:, -1:] - hits).float()
    union = intersection + torch.arange(1, hits.shape[1] + 1, device=hits.device)
    return torch.where(foreground, 1.0, intersection.div_((union - 1).clamp_(min=1))).div_(union)


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

    def __init__(self, losses, weights):
        super().__init__()
        self.losses = nn.ModuleDict(losses)
        self.weights = dict(weights)

    def of(self, pixels):
        return self.total({name: loss.of(pixels) for name, loss in self.losses.items()})

    @property
    def needs_class_counts(self):
        """Whether a term weighs the classes by how often they occur in the training labels."""
        return any(hasattr(loss, "set_class_counts") for loss in self.losses.values())

    def set_class_counts(self, counts):
        """Give those terms the pixels of each class in each training image `(N, C)`."""
        for loss in self.losses.values():
            if hasattr(loss, "set_class_counts"):
                loss.set_class_counts(counts)

    def terms(self, logits, labels):
        """Raw terms `{name: scalar}`. Labels are taken as checked: no value is read back from the device."""
        pixels = Pixels(logits, labels)
        return {name: loss.of(pixels) for name, loss in self.losses.items()}

    def total(self, terms):
        """Weighted sum of `terms`, a scalar."""
        return sum(self.weights[name] * term for name, term in terms.items())


def make_loss(expression):
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


def parse_expression(expression):
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


def make_term(name, options, expression):
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


def canonical(expression):
    """A loss expression in one spelling, so that spaces, capitals and trailing zeros make no other run of it."""

    def shortest(number):
        return repr(float(number)).removesuffix(".0")

    terms = []
    for weight, name, options in parse_expression(expression):
        pairs = [text.split("=") for text in options.split(",") if text.strip()]
        inside = ", ".join(f"{key.strip()}={shortest(value)}" for key, value in pairs)
        terms.append((f"{shortest(weight)}*" if weight != 1 else "") + name + (f"({inside})" if inside else ""))
    return " + ".join(terms)
