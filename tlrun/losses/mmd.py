"""How far apart two samples' distributions are: the maximum mean discrepancy under several Gaussian kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from tlrun.losses.precision import in_float32

Bandwidth = Literal["median", "mean"] | float
Estimate = Literal["biased", "unbiased", "linear"]


@in_float32
def mmd(
    source: Tensor, target: Tensor, *, kernels: Sequence[float], bandwidth: Bandwidth, estimate: Estimate
) -> Tensor:
    """Squared maximum mean discrepancy under a sum of Gaussian kernels, in float32; a scalar.

    Gretton et al. 2012, JMLR 13: `biased` is eq. 5 squared, at least 0; `unbiased` eq. 3, whose mean is 0 between
    equal distributions, so that it falls below 0 too; `linear` section 6, Lemma 14, over pairs of rows, the one of
    Long et al. 2015 (arXiv:1502.02791, section 3). source (Ns, D), target (Nt, D), Ns and Nt at least 1 (biased) or
    2; `linear` uses the first rows of each, as many pairs as both have.
    The kernel is k(x, y) = sum over m in kernels of exp(-|x - y|^2 / (2 m b)), at most `len(kernels)`. b is
    `bandwidth`, or the median or mean of |x - y|^2 over all pairs of the rows used, both domains together, as a
    constant: no gradient passes through it. A median of 0, where most rows coincide, gives way to the mean, and
    where all rows coincide the discrepancy and its gradient are 0.
    Departures from Long et al.: equal weights in place of learnt ones that sum to 1 (eq. 2), and the kernels' sum,
    not their mean, as in the public implementations whose published weights of this loss assume it.
    Raises ValueError when shapes do not fit, rows are too few, or kernels, bandwidth or estimate are out of range.
    """
    _check(source, target, kernels, bandwidth, estimate)
    if estimate == "linear":
        rows = min(len(source), len(target)) // 2 * 2
        source, target = source[:rows], target[:rows]
    x = _centred(torch.cat((source, target)))
    base = bandwidth if isinstance(bandwidth, float | int) else _spread(x, bandwidth)
    if estimate == "linear":
        return _linear(x[:rows], x[rows:], base, kernels)
    values = _kernel(_squared_distances(x), base, kernels)
    rows = len(source)
    within_source, within_target = values[:rows, :rows], values[rows:, rows:]
    across = values[:rows, rows:].mean()
    if estimate == "biased":
        return within_source.mean() + within_target.mean() - 2 * across
    return _mean_off_diagonal(within_source) + _mean_off_diagonal(within_target) - 2 * across


def _linear(source: Tensor, target: Tensor, base: Tensor | float, kernels: Sequence[float]) -> Tensor:
    """Mean over consecutive pairs of rows; both (2P, D)."""
    first, second = torch.cat((source, target), dim=1).view(len(source) // 2, 2, 2, -1).unbind(1)  # (P, domain, D)
    within = _kernel((first - second).square().sum(-1), base, kernels)
    across = _kernel((first - second.flip(1)).square().sum(-1), base, kernels)
    return (within - across).sum(1).mean()


def _kernel(squared: Tensor, base: Tensor | float, kernels: Sequence[float]) -> Tensor:
    """The kernels' sum at these squared distances, same shape."""
    scaled = squared / base
    return torch.stack([torch.exp(scaled * (-0.5 / multiple)) for multiple in kernels]).sum(0)


def _centred(x: Tensor) -> Tensor:
    """The rows relative to their mean, which no distance depends on: far from 0 their squares would drown them.

    Relative to one of the rows first, so that rows which coincide end at exactly 0. No gradient passes through the
    origin: distances do not depend on it.
    """
    x = x - x[0].detach()
    return x - x.mean(0).detach()


def _squared_distances(x: Tensor) -> Tensor:
    """All pairs' squared distances (N, N), at least 0, by the Gram matrix: differences would take N times the memory.

    The squares come from its diagonal, so that each row is at exactly 0 from itself.
    """
    products = x @ x.T
    squares = products.diagonal()
    return (squares[:, None] + squares[None, :] - 2 * products).clamp(min=0)


@torch.no_grad()
def _spread(x: Tensor, kind: Literal["median", "mean"]) -> Tensor:
    """Median or mean squared distance over pairs of distinct rows of centred x (N, D); 1 where all rows coincide.

    Of an even number of pairs the median is the lower middle one.
    """
    # Each of the N (N - 1) ordered pairs counts its |x|^2 + |y|^2, and the products of centred rows sum to -sum |x|^2.
    mean = 2 * x.square().sum() / (len(x) - 1)
    # Below this, 1 / base times a distance could overflow in the gradient.
    tiny = torch.finfo(x.dtype).tiny / torch.finfo(x.dtype).eps
    mean = torch.where(mean > tiny, mean, 1.0)
    if kind == "mean":
        return mean
    median = _off_diagonal(_squared_distances(x)).median()
    # The Gram matrix leaves rounding where rows coincide: it is not a distance.
    return torch.where(median > 16 * torch.finfo(x.dtype).eps * mean, median, mean)


def _off_diagonal(matrix: Tensor) -> Tensor:
    """(N, N) less its diagonal, as (N - 1, N) in no meaningful order."""
    return matrix.flatten()[1:].view(len(matrix) - 1, len(matrix) + 1)[:, :-1]


def _mean_off_diagonal(matrix: Tensor) -> Tensor:
    return _off_diagonal(matrix).mean()


def _check(source: Tensor, target: Tensor, kernels: Sequence[float], bandwidth: Bandwidth, estimate: Estimate) -> None:
    if source.ndim != 2 or target.ndim != 2 or source.shape[1] != target.shape[1]:
        raise ValueError(f"samples must be (Ns, D) and (Nt, D), got {tuple(source.shape)} and {tuple(target.shape)}")
    if estimate not in ("biased", "unbiased", "linear"):
        raise ValueError(f"estimate must be biased, unbiased or linear, got {estimate!r}")
    if min(len(source), len(target)) < (least := 1 if estimate == "biased" else 2):
        raise ValueError(f"the {estimate} estimate needs {least} rows a domain, got {len(source)} and {len(target)}")
    if not kernels or not all(multiple > 0 for multiple in kernels):
        raise ValueError(f"kernels must be multiples above 0, at least one, got {tuple(kernels)}")
    if bandwidth not in ("median", "mean") and not (isinstance(bandwidth, float | int) and bandwidth > 0):
        raise ValueError(f"bandwidth must be median, mean or above 0, got {bandwidth!r}")
