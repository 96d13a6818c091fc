"""How much a row counts for its class's sake, so that rare classes are not drowned by frequent ones."""

from __future__ import annotations

import torch
from torch import Tensor


def inverse_frequency(counts: Tensor) -> Tensor:
    """Weights in inverse proportion to the rows of each class, (C,) float32; the mean over all rows is 1.

    counts (C,), at least 0; a class without rows has weight 0. Raises ValueError where no class has rows.
    """
    return _of_mean_one(torch.where(counts > 0, 1.0 / counts.double().clamp(min=1), 0.0), counts)


def effective_number(counts: Tensor, *, beta: float) -> Tensor:
    """Weights in inverse proportion to the effective number of rows, (1 - beta^n) / (1 - beta), (C,) float32.

    Cui et al. 2019, arXiv:1901.05555, section 3.3 and eq. 8: between no weights (beta 0) and inverse frequency (beta
    towards 1). counts (C,), at least 0; beta in [0, 1). Departure: the mean over all rows is 1, where the paper lets
    the classes' weights sum to their number; `task_loss` divides by the sum of the weights, so no loss shows it.
    Raises ValueError where no class has rows or beta is out of range.
    """
    if not 0 <= beta < 1:
        raise ValueError(f"beta must be in [0, 1), got {beta}")
    effective = (1.0 - beta ** counts.double()) / (1.0 - beta)
    return _of_mean_one(torch.where(counts > 0, 1.0 / effective.clamp(min=1.0), 0.0), counts)


def _of_mean_one(weights: Tensor, counts: Tensor) -> Tensor:
    if not counts.sum() > 0:
        raise ValueError("no class has rows")
    return (weights * counts.sum() / (weights * counts).sum()).float()
