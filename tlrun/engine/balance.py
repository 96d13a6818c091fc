"""What the task's loss gives each class, from the labels that training may read."""

from __future__ import annotations

import torch
from torch import Tensor

from tlrun.config import OptimSettings
from tlrun.data.domain import DomainPair
from tlrun.losses.class_weights import effective_number, inverse_frequency

LABELLED = {"source": "source_train", "target": "target_granted"}
"""The training part of each domain whose labels are there: no other label counts."""


def class_weights(settings: OptimSettings, pair: DomainPair) -> dict[str, Tensor]:
    """By domain, the weight of each class (C,), on the device; empty where none are asked for."""
    weights: dict[str, Tensor] = {}
    if settings.class_weights == "none":
        return weights
    for domain, name in LABELLED.items():
        y = pair.parts[name].y
        if y is None or not len(y := y[y >= 0]):
            continue
        counts = torch.bincount(y, minlength=pair.task.num_classes)
        if settings.class_weights == "inverse_frequency":
            weights[domain] = inverse_frequency(counts)
        else:
            assert settings.effective_beta is not None
            weights[domain] = effective_number(counts, beta=settings.effective_beta)
    return weights
