"""What the name of one of the study's runs says of it: its loss with the weights, its initial rate, its warm-up."""

import re

ABBREVIATIONS = {"ce": "ce", "cv": "ce", "tv": "tversky", "lv": "lovasz", "l": "lovasz", "di": "dice", "f": "focal",
                 "fo": "focal"}  # fmt: skip
TITLES = {"ce": "CE", "tversky": "Tversky", "lovasz": "Lovász", "dice": "Dice", "focal": "Focal"}


def parse_name(name: str) -> tuple[dict[str, float], float | None, bool | None]:
    """What a run's name says: `({loss: weight}, initial lr or None, warm-up True, False or None)`.

    `ce07` and `l0.25` are weights 0.7 and 0.25 (a leading zero without a point stands before one); a bare loss has
    weight 1.
    """
    body, _, lr = name.lower().removeprefix("deeplabv2_").replace("warnup", "warmup").partition("_lr_")
    warmup = False if "no_warmup" in body else True if "warmup" in body else None
    losses = {}
    for token in body.split("_"):
        match = re.fullmatch(r"([a-z]+)(\d[\d.]*)?", token)
        if match and match[1] in ABBREVIATIONS:
            digits = match[2] or "1"
            weight = float(digits if "." in digits or digits[0] != "0" else f"0.{digits[1:]}")
            losses[ABBREVIATIONS[match[1]]] = weight
    return losses, float(lr) if re.fullmatch(r"\d[\d.e-]*", lr) else None, warmup


def loss_by_name(name: str) -> str | None:
    """The expression of the loss in a run's name, e.g. `0.5*ce + 0.5*focal`; None for a name of another kind."""
    losses = parse_name(name)[0] if name.lower().startswith("deeplabv2_") else {}
    return " + ".join(f"{weight:g}*{loss}" for loss, weight in losses.items()) or None


def title_by_name(name: str) -> str | None:
    """The loss that a run's name gives as a title, e.g. `0.5 CE + 0.5 Focal`; None for a name of another kind."""
    losses = parse_name(name)[0] if loss_by_name(name) else {}
    return " + ".join(f"{weight:g} {TITLES[loss]}" for loss, weight in losses.items()) or None
