"""The loss of the task itself, on rows whose labels may be read."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tlrun.batch import Examples
from tlrun.losses.precision import in_float32


@in_float32
def task_loss(
    logits: Tensor, examples: Examples, *, label_smoothing: float = 0.0, class_weight: Tensor | None = None
) -> Tensor:
    """Mean cross entropy between labels and predictions, in nats, in float32; a scalar, at least 0.

    logits (N, C); examples.y (N,) int64 classes or (N, C) probabilities; examples.weight (N,) and class_weight (C,)
    at least 0. Label smoothing moves that share of each label evenly onto all classes (Szegedy et al. 2016,
    arXiv:1512.00567, section 7), of soft labels too.
    A row counts by its own weight times the class weight of its label before smoothing (for a soft label, the mean
    under that label), and the sum is divided by the sum of these; 0 when all are 0. Departure: torch's
    `cross_entropy` divides soft labels under class weights by N; here a one-hot row counts as its hard label does.
    Raises ValueError when the labels are withheld or fit neither shape, when there are no rows, when label_smoothing
    lies outside [0, 1).
    """
    y = _labels(logits, examples)
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
    if class_weight is not None:
        class_weight = class_weight.to(logits.dtype)
    losses = F.cross_entropy(logits, y, weight=class_weight, label_smoothing=label_smoothing, reduction="none")
    if examples.weight is None and class_weight is None:
        return losses.mean()
    counts = torch.ones_like(losses) if examples.weight is None else examples.weight.to(logits.dtype)
    # cross_entropy has already weighted each row by its class.
    total = (counts * losses).sum()
    if class_weight is not None:
        counts = counts * (class_weight[y] if y.ndim == 1 else y @ class_weight)
    return total / counts.sum().clamp(min=torch.finfo(logits.dtype).tiny)


def _labels(logits: Tensor, examples: Examples) -> Tensor:
    """The labels in the shape and dtype that torch's cross entropy takes. Raises ValueError."""
    y = examples.y
    if y is None:
        raise ValueError("rows without labels cannot be classified against")
    if logits.ndim != 2 or not len(logits):
        raise ValueError(f"logits must be (N, C) with N > 0, got {tuple(logits.shape)}")
    if y.is_floating_point() and y.shape == logits.shape:
        return y.to(logits.dtype)
    if not y.is_floating_point() and y.shape == logits.shape[:1]:
        return y
    raise ValueError(f"labels must be (N,) integers or (N, C) probabilities, got {tuple(y.shape)} {y.dtype}")
