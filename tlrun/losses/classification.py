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
    at least 0. Label smoothing s moves that share of each label evenly onto all classes (Szegedy et al. 2016,
    arXiv:1512.00567, section 7), of soft labels too. Under class weights w a row with label y over the classes adds
        (1 - s) sum_c w_c y_c (-log p_c) + s m mean_c (-log p_c)    where m = sum_c w_c y_c
    times its own weight, and the sum is divided by that of m times the rows' own weights; 0 when all are 0.
    Departures from torch's `cross_entropy`: that weights the classes onto which smoothing moves a label by their own w,
    so that every row leans to the rarest class; and it divides soft labels by N. Raises ValueError when the labels are
    withheld or fit neither shape, when there are no rows, when label_smoothing lies outside [0, 1).
    """
    y = _labels(logits, examples)
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
    if class_weight is None:
        losses = F.cross_entropy(logits, y, label_smoothing=label_smoothing, reduction="none")
        if examples.weight is None:
            return losses.mean()
        mass = torch.ones_like(losses)
    else:
        class_weight = class_weight.to(logits.dtype)
        mass = class_weight[y] if y.ndim == 1 else y @ class_weight
        sharp = F.cross_entropy(logits, y, weight=class_weight, reduction="none")
        losses = (1 - label_smoothing) * sharp - label_smoothing * mass * F.log_softmax(logits, 1).mean(1)
    rows = torch.ones_like(losses) if examples.weight is None else examples.weight.to(logits.dtype)
    return (rows * losses).sum() / (rows * mass).sum().clamp(min=torch.finfo(logits.dtype).tiny)


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
