"""How common each class is in the target, told from a classifier's predictions alone: black-box shift estimation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SINGULAR = 0.1
"""Below this least singular value of P(prediction | class), 1 for a perfect classifier, an error in the target's mean
prediction may come out ten times as large."""


def importance_weights(confusion: NDArray[np.int64], predicted: NDArray[np.int64]) -> NDArray[np.float64]:
    """w (C,), at least 0: how much more common each class is in the target than in the source, q(y) / p(y).

    Lipton, Wang and Smola 2018 (arXiv:1802.03916), section 3: w solves C w = mu, C the joint distribution of prediction
    (rows) and class (columns) on source rows that were held out, mu the distribution of predictions on target rows; what
    comes out below 0 is set to 0. It rests on P(x | y) being the same in both domains: only the shares of classes differ.
    confusion (C, C): source rows of each class (down) by prediction (across), as in a run's confusion files. predicted
    (C,): target rows by prediction. Raises ValueError, in a few words, where C is singular or nearly so (SINGULAR), or
    there are no rows.
    """
    if confusion.shape != (len(predicted), len(predicted)):
        raise ValueError(f"expected counts (C, C) and (C,), got {confusion.shape} and {predicted.shape}")
    if not confusion.sum() or not predicted.sum():
        raise ValueError("there are no rows")
    rows = confusion.sum(axis=1)
    if not rows.all():
        raise ValueError(f"{(rows == 0).sum()} of {len(rows)} classes have no source validation row")
    least = float(np.linalg.svd(confusion / rows[:, None], compute_uv=False).min())
    if least < SINGULAR:
        raise ValueError(f"the confusion matrix is near singular: least singular value {least:.2g}, below {SINGULAR:g}")
    joint = confusion.T / confusion.sum()
    weights = np.linalg.solve(joint, predicted / predicted.sum())
    clipped: NDArray[np.float64] = np.maximum(weights, 0.0)
    return clipped


def target_shares(confusion: NDArray[np.int64], predicted: NDArray[np.int64]) -> NDArray[np.float64]:
    """Estimated share of each class among target rows (C,), summing to 1: `importance_weights` times the source's shares.

    Scaled to sum to 1 again where weights were set to 0, which the paper does not need. Raises as that does.
    """
    weighted = importance_weights(confusion, predicted) * confusion.sum(axis=1)
    shares: NDArray[np.float64] = weighted / weighted.sum()
    return shares


def total_variation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Half the sum of absolute differences of two distributions (C,), in [0, 1]: the share of rows to be relabelled."""
    return float(np.abs(first - second).sum() / 2)
