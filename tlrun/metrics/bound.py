"""The terms of the bound on a target's error, as far as rows and labels tell them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
Labels = NDArray[np.int64]

FOLDS = 5
RIDGE = 0.001
"""The probe's penalty, on features scaled to a mean squared length of 1; rows weigh 1 together."""


def probe_errors(domains: Sequence[tuple[Rows, Labels]]) -> list[float]:
    """The error on each domain, in [0, 1], of one linear classifier trained on all of them, cross-validated.

    Of one domain: what its features are worth to a linear classifier. Of source and target together their sum estimates
    the joint error of Ben-David et al. 2010 (Machine Learning 79, theorem 2), the least that one hypothesis makes in both
    domains; from above, since it is the error of a hypothesis found from few rows.
    domains: rows (N, D) and labels (N,) at least 0, in an order that means nothing, FOLDS at least in each; every domain
    weighs the same. The classifier is the least squares fit of one-hot labels with a squared penalty on features
    standardised over all rows, computed in the space of rows; FOLDS folds of every FOLDS-th row. Raises ValueError for
    fewer rows.
    """
    if min(len(y) for _, y in domains) < FOLDS:
        raise ValueError(f"a probe needs {FOLDS} rows a domain, got {[len(y) for _, y in domains]}")
    x, y = (np.concatenate([domain[at] for domain in domains]) for at in (0, 1))
    owner = np.repeat(np.arange(len(domains)), [len(labels) for _, labels in domains])
    folds = np.concatenate([np.arange(len(labels)) % FOLDS for _, labels in domains])
    spread = x.std(0)
    x = (x - x.mean(0)) / np.where(spread > 0, spread, 1.0) / x.shape[1] ** 0.5
    gram = x @ x.T + 1  # the 1 is the constant feature
    codes = np.eye(y.max() + 1)[y]
    wrong = np.empty(len(y), dtype=bool)
    for fold in range(FOLDS):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        counts = np.bincount(owner[train], minlength=len(domains))[owner[train]]
        penalty = RIDGE * counts * len(domains)  # over the weight of the row
        slopes = np.linalg.solve(gram[np.ix_(train, train)] + np.diag(penalty), codes[train])
        wrong[test] = (gram[np.ix_(test, train)] @ slopes).argmax(1) != y[test]
    return [float(wrong[owner == number].mean()) for number in range(len(domains))]
