"""What tells a good checkpoint without a target label, from the features and logits of some rows of both domains.

Pure functions of tensors on any device with a Cholesky factorisation; the engine says which rows they see.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tlrun.metrics.precision import sum_dtype

TEMPERATURE = 0.05
"""Of soft neighbourhood density, as in all of its paper's experiments."""
PENALTIES = (1e-1, 1e-2, 1e-3)
"""What the domain classifier is tried with, on features scaled to a mean squared length of 1."""
NEWTON_STEPS = 10


def soft_neighbourhood_density(logits: Tensor, *, temperature: float = TEMPERATURE) -> Tensor:
    """How many neighbours predictions have: mean entropy of each row's similarities to all others, in nats.

    Saito et al. 2021 (arXiv:2108.10860), eqs. 1 to 3: similarity is the cosine of the two softmax outputs, a row's
    similarities over `temperature` become a distribution by softmax, its own left out. logits (N, C), N at least 2,
    to a scalar in [0, ln(N - 1)]; higher is better. Depends on N: compare only over equally many rows. Raises
    ValueError for fewer than 2 rows.
    """
    if len(logits) < 2:
        raise ValueError(f"a neighbourhood needs 2 rows, got {len(logits)}")
    directions = F.normalize(logits.to(sum_dtype(logits.device)).softmax(1), dim=1)
    similarity = directions @ directions.T / temperature
    similarity.fill_diagonal_(-torch.inf)
    entropies: Tensor = torch.special.entr(similarity.softmax(1)).sum(1)
    return entropies.mean()


def nearest_source_accuracy(source: Tensor, correct: Tensor, target: Tensor) -> Tensor:
    """Share of target rows whose nearest source row is classified right; a scalar in [0, 1].

    The importance-weighted accuracy under the nearest-neighbour weights of Loog 2012 (IEEE MLSP): each source row
    counts as often as target rows lie nearest to it. source (Ns, D) and target (Nt, D) features, correct (Ns,) bool,
    Ns and Nt above 0. Distances are Euclidean; of equally near rows the first counts.
    """
    source, target = source.float(), target.float()
    middle = source.mean(0)  # far from the origin, rounding would tell no row from its neighbour
    nearest = torch.cdist(target - middle, source - middle).argmin(1)
    return correct[nearest].to(sum_dtype(correct.device)).mean()


def importance_weighted_accuracy(weights: Tensor, correct: Tensor) -> Tensor:
    """1 less the importance-weighted error, a scalar at most 1: the accuracy expected on the target.

    Sugiyama et al. 2007 (JMLR 8, importance-weighted cross validation, eq. 11) with the 0/1 loss and one fold: the
    model is given. weights (N,), p_target / p_source at source validation rows; correct (N,) bool. Not normalised by
    the weights' sum, as in the paper: where domains are told apart with ease all weights are near 0, the estimate near
    1 whatever the model, which `dev_accuracy` mends in part.
    """
    return 1 - (weights.to(sum_dtype(weights.device)) * ~correct).mean()


def dev_accuracy(weights: Tensor, correct: Tensor) -> Tensor:
    """1 less the risk of deep embedded validation, a scalar, not bound to [0, 1].

    You et al. 2019 (ICML, PMLR 97, algorithm 1): mean(w l) + eta mean(w) - eta with eta = -cov(w l, w) / var(w), the
    importance-weighted risk with the weights, whose mean should be 1, as control variate; l is the 0/1 loss, as in the
    authors' code. weights (N,), correct (N,) bool, N at least 2; where all weights are equal eta is 0.
    """
    weights = weights.to(sum_dtype(weights.device))
    losses = weights * ~correct
    spread = weights - weights.mean()
    variance = spread.square().sum()
    eta = torch.where(variance > 0, -((losses - losses.mean()) * spread).sum() / variance, 0.0)
    return 1 - (losses.mean() + eta * weights.mean() - eta)


def density_ratio(source: Tensor, target: Tensor, *, rows: int, penalties: Sequence[float] = PENALTIES) -> Tensor:
    """p_target / p_source at each source row, (Ns,) float32 above 0, from a classifier that tells the domains apart.

    Bickel et al. 2007 (ICML), as in You et al. 2019, section 4.1: the odds that the row is of the target, for equally
    frequent domains. source (Ns, D), target (Nt, D) features in an order that means nothing, at least 4 of each.
    The classifier is a logistic regression with a squared penalty on standardised features, fitted exactly. Every
    second row of each domain is weighed by the one that learnt from `rows` at most of the other half, so none weighs a
    row that it has seen; of `penalties` that counts whose mean log loss on the unseen rows of both domains is lowest.
    Departures from You et al.: halves of the validation rows in place of training rows beside them, which saves a pass
    over the training rows and does not mistake remembered rows for the source; no hidden layer, which makes it
    deterministic. Raises ValueError for fewer rows.
    """
    if min(len(source), len(target)) < 4:
        raise ValueError(f"a density ratio needs 4 rows a domain, got {len(source)} and {len(target)}")
    x = _standardised(torch.cat((source, target)).float())
    numbers = torch.arange(len(x), device=x.device)
    halves = [[domain[half::2] for domain in (numbers[: len(source)], numbers[len(source) :])] for half in (0, 1)]
    logits = x.new_empty(len(penalties), len(x))
    for weighed, learnt in (halves, halves[::-1]):
        train = torch.cat([domain[:rows] for domain in learnt])
        is_target = (train >= len(source)).float()
        seen = torch.cat(weighed)
        logits[:, seen] = _domain_logits(x[train], is_target, x[seen], penalties)
    losses = [
        F.softplus(logits[:, : len(source)]).mean(1),
        F.softplus(-logits[:, len(source) :]).mean(1),
    ]
    best = (losses[0] + losses[1]).argmin()
    return logits[best, : len(source)].exp()


def _standardised(x: Tensor) -> Tensor:
    """Features (N, D) with mean 0, spread 1 (0 where constant) and a mean squared length of 1, and a constant one."""
    x = x - x.mean(0)
    spread = x.std(0)
    x = x / torch.where(spread > 0, spread, 1.0) / x.shape[1] ** 0.5
    return torch.cat((x, x.new_ones(len(x), 1)), dim=1)


def _domain_logits(x: Tensor, is_target: Tensor, at: Tensor, penalties: Sequence[float]) -> Tensor:
    """Log odds of the target at rows `at` (M, D), (P, M), under each penalty; fitted on x (N, D), is_target (N,) 0 or 1.

    Both domains weigh the same. Newton's method in the space of rows, of which there are fewer than features
    (Rasmussen and Williams 2006, algorithm 3.1, for a Gaussian process whose covariance is x x' / penalty).
    """
    counts = is_target.sum()
    weight = torch.where(is_target > 0, 0.5 / counts, 0.5 / (len(x) - counts))
    scale = x.new_tensor(penalties)[:, None]
    kernel = x @ x.T / scale[:, :, None]  # (P, N, N)
    values = x.new_zeros(len(penalties), len(x))
    slopes = values
    for _ in range(NEWTON_STEPS):
        odds = values.sigmoid()
        root = (weight * odds * (1 - odds)).sqrt()
        right = root.square() * values + weight * (is_target - odds)
        system = root[:, :, None] * kernel * root[:, None, :]
        system.diagonal(dim1=1, dim2=2).add_(1)
        pulled = root * _times(kernel, right)
        solved = torch.cholesky_solve(pulled[:, :, None], torch.linalg.cholesky(system)).squeeze(2)
        slopes = right - root * solved
        values = _times(kernel, slopes)
    return slopes @ (x @ at.T) / scale


def _times(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Each matrix (P, N, N) times its vector (P, N)."""
    return (matrices @ vectors[:, :, None]).squeeze(2)
