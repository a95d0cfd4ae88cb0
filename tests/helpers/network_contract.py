"""What DeepLabV2 promises of its parameters on every backbone."""

import torch
from torch.nn import functional as F

from deeplab_lib.models.deeplabv2 import STAGES, count_parameters
from deeplab_lib.models.network import is_affine


def assert_groups_freezing_and_held_statistics(model):
    """Two groups are all that trains; frozen parts keep weights and statistics; only the stem and the head are left.

    model: of 5 classes.
    """
    backbone, head = model.backbone_parameters(), model.aspp_parameters()
    trainable = {id(p) for p in model.parameters() if p.requires_grad}
    assert {id(p) for p in [*backbone, *head]} == trainable and len(trainable) == len(backbone) + len(head)
    assert all(p.requires_grad != is_affine(model, key) for key, p in model.named_parameters())
    logits = model.grid_logits(torch.randn(2, 3, 64, 64))
    F.cross_entropy(logits, model.subsample(torch.randint(0, 5, (2, 64, 64)), logits.shape[-2:])).backward()
    assert all(p.grad.isfinite().all() for p in [*backbone, *head])
    model.freeze((*STAGES, "bn1"))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.train().grid_logits(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    stem = [model.get_submodule(module) for module in model.parts["conv1"]]
    assert count_parameters(model)[1] == sum(p.numel() for part in [*stem, model.aspp] for p in part.parameters())
