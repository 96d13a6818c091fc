"""What simple classifiers on a source's rows say of a target, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
Labels = NDArray[np.int64]

FOLDS = 5
COMPONENTS = 50
"""The classifiers see so many principal components of the rows: as good on so few rows, and fitted in no time."""
SEED = 0


@dataclass(frozen=True)
class Probes:
    """What two probes, a logistic regression and the nearest class mean, say; every figure in [0, 1].

    source_accuracy: of the regression on source rows, cross-validated. target_accuracy: of the one trained on the source,
    on the granted target rows. granted_accuracy: of one trained on granted rows, cross-validated on them; both None
    where no label is granted, the second where a class has fewer than FOLDS. source_agreement, target_agreement: the
    share of rows where both probes, trained on source rows, say the same, held-out rows of the source and target rows
    without labels. shares_moved: by how much the regression's predicted class shares differ between these two, in total
    variation: the share of rows that would have to change class.
    """

    source_accuracy: float
    target_accuracy: float | None
    granted_accuracy: float | None
    source_agreement: float
    target_agreement: float
    shares_moved: float


def probe(source: tuple[Rows, Labels], target: Rows, granted: tuple[Rows, Labels] | None) -> Probes:
    """Fits both probes on source rows (N, D) with labels (N,), and asks them about target rows (M, D) without labels.

    granted: target rows with labels, None for none. Rows come in an order that means nothing; labels are at least 0.
    Held-out rows are every FOLDS-th. Agreement as a sign of accuracy where there are no labels: Jiang et al. 2022
    (arXiv:2106.13799) and Baek et al. 2022 (arXiv:2206.13089); predicted shares as a sign of label shift: Lipton et al.
    2018 (arXiv:1802.03916), where rows of a class look the same in both domains. Raises ValueError for fewer than
    FOLDS source rows and for a source of one class.
    """
    x, y = source
    if len(y) < FOLDS or len(np.unique(y)) < 2:
        raise ValueError(f"a probe needs {FOLDS} source rows of at least 2 classes, got {len(y)} rows")
    held, held_means = np.empty_like(y), np.empty_like(y)
    for train, test in _folds(len(y)):
        if len(np.unique(y[train])) < 2:  # only one class is left to learn: a guess of it
            held[test] = held_means[test] = y[train][0]
            continue
        held[test], held_means[test] = _predictions(x[train], y[train], x[test])
    said, said_means = _predictions(x, y, target)
    classes = int(max(y.max(), said.max())) + 1
    shares = [np.bincount(each, minlength=classes) / len(each) for each in (held, said)]
    return Probes(
        source_accuracy=float((held == y).mean()),
        target_accuracy=None if granted is None else float((_predictions(x, y, granted[0])[0] == granted[1]).mean()),
        granted_accuracy=None if granted is None else _own_accuracy(*granted),
        source_agreement=float((held == held_means).mean()),
        target_agreement=float((said == said_means).mean()),
        shares_moved=float(np.abs(shares[0] - shares[1]).sum() / 2),
    )


def _own_accuracy(x: Rows, y: Labels) -> float | None:
    """Accuracy of a logistic regression on rows (N, D) with labels (N,), cross-validated over FOLDS folds within classes.

    None where a class has fewer than FOLDS rows, or there is one class.
    """
    counts = np.bincount(y)
    if len(counts[counts > 0]) < 2 or counts[counts > 0].min() < FOLDS:
        return None
    from sklearn.model_selection import StratifiedKFold

    said = np.empty_like(y)
    for train, test in StratifiedKFold(FOLDS).split(x, y):
        said[test] = _predictions(x[train], y[train], x[test])[0]
    return float((said == y).mean())


def _folds(count: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    fold_of = np.arange(count) % FOLDS
    for fold in range(FOLDS):
        yield np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)


def _predictions(x: Rows, y: Labels, asked: Rows) -> tuple[Labels, Labels]:
    """What the regression and the nearest mean, both fitted on x and y, say of the rows asked about."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import NearestCentroid

    components = min(COMPONENTS, *x.shape)
    reduce = PCA(components, svd_solver="randomized" if components < min(x.shape) else "full", random_state=SEED)
    reduced = reduce.fit_transform(x)
    scale = float(reduced.std()) or 1.0  # one scale for all components, so that the first ones count for most
    reduced, others = reduced / scale, reduce.transform(asked) / scale
    regression = LogisticRegression(max_iter=1000).fit(reduced, y)
    means = NearestCentroid().fit(reduced, y)
    return regression.predict(others), means.predict(others)
