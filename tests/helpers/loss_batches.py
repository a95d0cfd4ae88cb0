"""Batches on which every loss is tried, and what an oracle computes with: float64, pixel by pixel."""

import numpy as np
import torch
from hypothesis import strategies as st

VOID = 255
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@st.composite
def batches(draw, min_classes=2, dtypes=DTYPES):
    """Logits and labels of any small shape, with any pattern of void and of absent classes."""
    n, c, h, w = (draw(st.integers(low, high)) for low, high in ((1, 3), (min_classes, 8), (1, 6), (1, 7)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from((0.0, 0.1, 1.0, 5.0, 50.0)))
    logits = torch.from_numpy(scale * rng.standard_normal((n, c, h, w))).to(draw(st.sampled_from(dtypes)))
    used = rng.permutation(c)[: draw(st.integers(1, c))]
    labels = rng.choice(used, (n, h, w))
    labels[rng.random((n, h, w)) < draw(st.sampled_from((0, 0.2, 0.9, 1)))] = VOID
    return logits, torch.from_numpy(labels)


def flat(logits, labels):
    """Softmax `(P, C)` and labels `(P,)` of the valid pixels, in float64."""
    p = logits.double().softmax(1).permute(0, 2, 3, 1).reshape(-1, logits.shape[1]).numpy()
    y = labels.reshape(-1).numpy()
    return p[y != VOID], y[y != VOID]
