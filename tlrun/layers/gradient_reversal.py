"""The layer that turns a discriminator's descent into the features' ascent."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.weight * gradients[0], None


def reverse_gradient(x: Tensor, weight: float) -> Tensor:
    """x as it is; on the way back, its gradient times -weight.

    Ganin & Lempitsky 2015, arXiv:1409.7495, eqs. 7 and 8, where weight is lambda. x any shape and floating dtype.
    Departure: the weight is an argument, a function of progress; the layer counts nothing.
    Raises ValueError when weight is below 0, which would reverse nothing.
    """
    if not weight >= 0:
        raise ValueError(f"weight must be at least 0, got {weight}")
    output: Tensor = _Reversal.apply(x, weight)  # type: ignore[no-untyped-call]
    return output
