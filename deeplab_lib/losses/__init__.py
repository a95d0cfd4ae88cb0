"""The losses: the study's five (`standard`), hybrid ones (`hybrid`), and their sums (`expression`)."""

from deeplab_lib.losses.expression import TERMS, WeightedLoss, canonical, make_loss, parse_expression
from deeplab_lib.losses.standard import CrossEntropyLoss, DiceLoss, FocalLoss, LovaszLoss, TverskyLoss

__all__ = [
    "TERMS",
    "CrossEntropyLoss",
    "DiceLoss",
    "FocalLoss",
    "LovaszLoss",
    "TverskyLoss",
    "WeightedLoss",
    "canonical",
    "make_loss",
    "parse_expression",
]
