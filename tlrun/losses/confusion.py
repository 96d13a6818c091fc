"""What a batch of predictions says of itself: how certain each row is, and which classes it confuses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tlrun.losses.precision import in_float32


@torch.no_grad()
@in_float32
def certainty_weight(logits: Tensor) -> Tensor:
    """Weights (N,) of mean 1 that favour rows with certain predictions: 1 + exp(-H), H the entropy in nats.

    Long et al. 2018, arXiv:1705.10667, section 3.3; Jin et al. 2020, arXiv:1912.03699, section 3.1. logits (N, C), N > 0;
    a certain row weighs at most twice one that is not certain at all. No gradient passes through them.
    Raises ValueError for another shape.
    """
    _check(logits)
    log_probabilities = F.log_softmax(logits, dim=1)
    entropy = -(log_probabilities.exp() * log_probabilities).sum(1)
    weight = 1 + torch.exp(-entropy)
    return weight / weight.mean()


@in_float32
def class_confusion(logits: Tensor, *, temperature: float) -> Tensor:
    """The mean share of each class's predictions that falls on other classes, in float32; a scalar in [0, 1 - 1/C].

    Minimum class confusion, Jin et al. 2020, arXiv:1912.03699, section 3.1: probabilities at a temperature, rows
    weighted by their certainty, the (C, C) matrix of how often two classes are held at once, its rows normalised to
    sum 1, and the mean over classes of what lies off the diagonal. logits (N, C), N > 0.
    A class that no row of the batch holds counts as not confused.
    Raises ValueError for another shape or a temperature that is not above 0.
    """
    _check(logits)
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    scaled = logits / temperature
    probabilities = scaled.softmax(dim=1)
    together = probabilities.T @ (certainty_weight(scaled)[:, None] * probabilities)
    total = together.sum(1)
    confused = (total - together.diagonal()) / total.clamp(min=torch.finfo(total.dtype).eps)
    return confused.mean()


def _check(logits: Tensor) -> None:
    if logits.ndim != 2 or not logits.numel():
        raise ValueError(f"logits must be (N, C) with N > 0, got {tuple(logits.shape)}")
