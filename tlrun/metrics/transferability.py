"""How well a model would serve as a start, told before training from its output on labelled rows of the target.

Every score takes features (N, D), float64, or the model's source class probabilities, and the target's labels y (N,),
int64, of at least two classes; larger is better. Only classes that occur in y count, whatever their numbers. All are
deterministic, all read labels, and all are in-sample but the k-NN probe. They raise ValueError where shapes do not fit,
values are not finite, or y holds one class.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

NEIGHBOURS = 5
MOST_ITERATIONS = 1000
TOLERANCE = 1e-8
"""LogME's iteration ends when no class's evidence moves by more than so many nats a row."""
TINY = 1e-300


@dataclass(frozen=True)
class Score:
    """One score and the seconds that it took. value None: it cannot be had of this model."""

    value: float | None
    seconds: float


SCORES: dict[str, str] = {"logme": "LogME", "leep": "LEEP", "nce": "NCE", "h_score": "H-score", "knn": "k-NN"}
"""Every score, in the order in which it is shown, and what tables call it."""


def measure(features: Floats, y: Labels, probabilities: Floats | None) -> dict[str, Score]:
    """All of SCORES for one model. probabilities: (N, Z) of its source classes, None where it has no trained head.

    Raises ValueError as every score does, and where `knn_accuracy` has too few rows.
    """
    import sklearn.covariance
    import sklearn.neighbors  # noqa: F401  # so that their import is not charged to a score

    found = {
        "logme": _timed(lambda: logme(features, y)),
        "leep": Score(None, 0.0),
        "nce": Score(None, 0.0),
        "h_score": _timed(lambda: h_score(features, y)),
        "knn": _timed(lambda: knn_accuracy(features, y)),
    }
    if probabilities is not None:
        found["leep"] = _timed(lambda: leep(probabilities, y))
        found["nce"] = _timed(lambda: nce(probabilities.argmax(axis=1), y))
    return found


def logme(features: Floats, y: Labels) -> float:
    """Logarithm of the maximum evidence of a Bayesian linear model from features to one-hot labels, per row; any sign.

    You et al. 2021 (arXiv:2102.11005), eq. 2 and algorithm 1: weights with prior precision alpha, noise with precision
    beta, both found by MacKay's fixed-point iteration, for each class against the rest; the mean over classes. No
    intercept, as in the paper. Where the features have as many directions as there are rows, alpha / beta may tend to 0;
    the evidence has a limit there, at which the iteration ends. Where they have fewer and still give the labels exactly
    (all rows of a class are one), it has none: the noise is then taken to be what rounding leaves.
    """
    classes = _checked(features, y)
    rows, targets = len(y), (y[:, None] == classes).astype(np.float64)
    left, squares = _directions(features, energy=float((features**2).sum()))
    rank, squares = len(squares), squares[:, None]
    along = (left.T @ targets) ** 2  # (R, C)
    # With as many directions as rows nothing lies outside, and rounding must not say otherwise; with fewer something
    # does, and were it less than rounding the evidence would have no bound.
    rounding = rows * np.finfo(np.float64).eps * targets.sum(0)
    outside = np.maximum(targets.sum(0) - along.sum(0), rounding) if rank < rows else np.zeros(len(classes))
    alpha, beta, evidence = np.ones(len(classes)), np.ones(len(classes)), np.full(len(classes), -np.inf)
    for _ in range(MOST_ITERATIONS):
        ratio = alpha / beta
        weights = (squares * along / (squares + ratio) ** 2).sum(0)
        residual = ((ratio / (squares + ratio)) ** 2 * along).sum(0) + outside
        before, evidence = evidence, 0.5 * (
            rows * np.log(beta / (2 * np.pi)) + rank * np.log(alpha) - beta * residual - alpha * weights
            - np.log(alpha + beta * squares).sum(0)
        )  # fmt: skip
        moves = np.abs(evidence - before) > TOLERANCE * rows
        if not moves.any():
            break
        effective = (squares / (squares + ratio)).sum(0)
        alpha = np.where(moves, np.maximum(effective / np.maximum(weights, TINY), TINY), alpha)
        beta = np.where(moves, np.maximum((rows - effective) / np.maximum(residual, TINY), TINY), beta)
    return float(evidence.mean() / rows)


def leep(probabilities: Floats, y: Labels) -> float:
    """Mean log-likelihood of the labels under the model that passes through its own source classes, in nats; at most 0.

    Nguyen et al. 2020 (arXiv:2002.12462), eq. 1 and 2: P(y | z) from the joint of labels and probabilities (N, Z), then
    the mean of log sum_z P(y_i | z) p_iz. Source and target classes need have nothing in common. Raises ValueError also
    where rows of the probabilities do not add up to 1.
    """
    classes = _checked(probabilities, y)
    if (probabilities < 0).any() or not np.allclose(probabilities.sum(1), 1, atol=1e-4):
        raise ValueError("the rows of probabilities must add up to 1")
    joint = (y[:, None] == classes).astype(np.float64).T @ probabilities  # (C, Z), times N
    given = joint / np.maximum(joint.sum(0), TINY)
    number = np.searchsorted(classes, y)
    return float(np.log((given[number] * probabilities).sum(1)).mean())


def nce(assigned: Labels, y: Labels) -> float:
    """Negative conditional entropy of the labels given the source classes that the model assigns, in nats; at most 0.

    Tran et al. 2019 (arXiv:1908.08142), section 4, from counts; assigned (N,): a source class for each row, any numbers.
    """
    _checked(assigned[:, None].astype(np.float64), y)
    joint = np.zeros((assigned.max() + 1, y.max() + 1))
    np.add.at(joint, (assigned, y), 1)
    given = joint / np.maximum(joint.sum(1, keepdims=True), 1)
    return float(np.log(given[assigned, y]).mean())


def h_score(features: Floats, y: Labels) -> float:
    """Variance between classes in units of the features' variance, tr(cov(f)^-1 cov(E[f | y])); in [0, C - 1].

    Bao et al. 2019 (ICIP, eq. 4), with the shrunk covariance of Ibrahim et al. 2022 (arXiv:2110.06893): cov(f) becomes
    (1 - a) cov(f) + a tr(cov(f)) / D and the whole is scaled by 1 - a, a by Ledoit and Wolf 2004. Without it every set
    of rows that are fewer than the features has the largest score there is.
    """
    from sklearn.covariance import ledoit_wolf_shrinkage

    classes = _checked(features, y)
    shrinkage = float(ledoit_wolf_shrinkage(features)) if features.shape[1] > 1 else 0.0
    # In the directions of the centred rows, where all class means lie, both covariances are diagonal or not needed whole.
    left, squares = _directions(features - features.mean(0), energy=float((features**2).sum()))
    spread, rows = squares / len(y), left * squares**0.5
    between = sum(((y == label).mean() * rows[y == label].mean(0) ** 2 for label in classes), np.zeros(len(spread)))
    shrunk = (1 - shrinkage) * spread + shrinkage * spread.sum() / features.shape[1]
    return float((1 - shrinkage) * (between / shrunk).sum())


def knn_accuracy(features: Floats, y: Labels) -> float:
    """Accuracy of the nearest neighbours' vote, each row left out in turn; in [0, 1].

    Euclidean distances, votes weighted by their inverse. As many neighbours as the smallest class has other rows,
    NEIGHBOURS at most. A class with a single row cannot be found when that is left out: it is not judged. Raises
    ValueError also where fewer than two classes have two rows.
    """
    from sklearn.neighbors import KNeighborsClassifier

    classes = _checked(features, y)
    counts = (y[:, None] == classes).sum(0)
    judged = counts >= 2
    if judged.sum() < 2:
        raise ValueError("leaving one row out needs two classes of two rows each")
    neighbours = min(NEIGHBOURS, int(counts[judged].min()) - 1)
    probe = KNeighborsClassifier(neighbours, weights="distance", algorithm="brute").fit(features, y)
    right = probe.predict(None) == y
    return float(right[np.isin(y, classes[judged])].mean())


def _directions(x: Floats, *, energy: float) -> tuple[Floats, Floats]:
    """Left singular vectors (N, R) and squared singular values (R,) of x (N, D), by the smaller of its Gram matrices.

    Left out are squares below rounding of `energy`: features come in float32, in which such directions are noise.
    """
    is_wide = x.shape[0] <= x.shape[1]
    squares, vectors = np.linalg.eigh(x @ x.T if is_wide else x.T @ x)
    kept = squares > energy * max(x.shape) * np.finfo(float).eps
    squares, vectors = squares[kept], vectors[:, kept]
    return (vectors if is_wide else x @ vectors / squares**0.5), squares


def _checked(x: Floats, y: Labels) -> Labels:
    """The classes in y, ascending. Raises ValueError."""
    if x.ndim != 2 or y.shape != x.shape[:1]:
        raise ValueError(f"scores take (N, D) and (N,), got {x.shape} and {y.shape}")
    if not np.isfinite(x).all():
        raise ValueError("scores take finite values alone")
    classes: Labels = np.unique(y)
    if len(classes) < 2 or classes[0] < 0:
        raise ValueError(f"scores need labels of two classes, numbered from 0, got {classes.tolist()}")
    return classes


def _timed(score: Callable[[], float]) -> Score:
    start = time.perf_counter()
    value = score()
    return Score(value, time.perf_counter() - start)
