"""The baselines, written as the usual public code is: no trick, nothing shared, the same results."""

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from deeplab_lib.labels import LABELS
from deeplab_lib.models.registry import make_model


def network(name, state):
    """The network as it is made, in float32 and NCHW: no choice of `placement.to_device`."""
    model = make_model(name)
    model.load_state_dict(state)
    return model


def train_step(model, optimizer, images, labels):
    """One step with cross-entropy on the logits at full resolution; returns the loss."""
    optimizer.zero_grad()
    logits = F.interpolate(model.grid_logits(images), size=labels.shape[-2:], mode="bilinear", align_corners=True)
    loss = F.cross_entropy(logits, labels, ignore_index=255)
    loss.backward()
    optimizer.step()
    return loss


def flat(logits, labels):
    """Probabilities `(P, C)` and labels `(P,)` of the valid pixels."""
    p = logits.softmax(dim=1).permute(0, 2, 3, 1).reshape(-1, logits.shape[1])
    labels = labels.reshape(-1)
    return p[labels != 255], labels[labels != 255]


def ce(logits, labels):
    """Cross-entropy."""
    return F.cross_entropy(logits, labels, ignore_index=255)


def focal(logits, labels):
    """Focal loss, gamma 2."""
    p, labels = flat(logits, labels)
    p_true = p.gather(1, labels[:, None])[:, 0]
    return (-((1 - p_true) ** 2) * p_true.log()).mean()


def tversky(logits, labels, alpha=0.3, beta=0.7):
    """Tversky loss, class by class."""
    p, labels = flat(logits, labels)
    values = []
    for c in labels.unique():
        g, own = (labels == c).float(), p[:, c]
        hits = (own * g).sum()
        values.append(1 - hits / (hits + alpha * (own * (1 - g)).sum() + beta * ((1 - own) * g).sum()))
    return torch.stack(values).mean()


def dice(logits, labels):
    """Dice loss, class by class."""
    return tversky(logits, labels, 0.5, 0.5)


def lovasz(logits, labels):
    """Lovasz-Softmax, class by class, after its authors' published code."""
    p, labels = flat(logits, labels)
    values = []
    for c in range(p.shape[1]):
        g = (labels == c).float()
        if g.sum() == 0:
            continue
        errors, order = (g - p[:, c]).abs().sort(descending=True)
        g = g[order]
        jaccard = 1 - (g.sum() - g.cumsum(0)) / (g.sum() + (1 - g).cumsum(0))
        jaccard[1:] = jaccard[1:] - jaccard[:-1].clone()
        values.append(torch.dot(errors, jaccard))
    return torch.stack(values).mean()


def load(pair, size, mean, std):
    """Image `(3, H, W)` and train ids `(H, W)` of one pair of files, decoded, resized and mapped label by label."""
    width_height = size[::-1]
    image = Image.open(pair.image).convert("RGB").resize(width_height, Image.BILINEAR)
    image = (np.asarray(image, dtype=np.float32) / 255 - mean) / std
    ids = np.asarray(Image.open(pair.label).resize(width_height, Image.NEAREST))
    labels = np.full(ids.shape, 255, dtype=np.int64)
    for label in LABELS:
        if 0 <= label.train_id < 255:
            labels[ids == label.id] = label.train_id
    return torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32)), torch.from_numpy(labels)


def iou(labels, predictions, num_classes=19):
    """IoU of every class in percent, pixels counted class by class; NaN where absent."""
    values, valid = [], labels != 255
    for c in range(num_classes):
        wanted, found = (labels == c) & valid, (predictions == c) & valid
        union = (wanted | found).sum().item()
        values.append(100 * (wanted & found).sum().item() / union if union else float("nan"))
    return values
