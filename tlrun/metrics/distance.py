"""How far apart two domains are, from as many rows of each: what theory and practice ask before and after adaptation.

Every function takes source (N, D) and target (N, D), float64, in an order that means nothing, and is deterministic: what
is drawn (permutations, projections, the start of a decomposition) is drawn under a fixed seed. None reads a label.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from tlrun.losses import coral as coral_loss

Rows = NDArray[np.float64]

FOLDS = 5
PERMUTATIONS = 499
PROJECTIONS = 128
NEIGHBOURS = 5
COMPONENTS = 10
SEED = 0


@dataclass(frozen=True)
class Measurement:
    """One distance: its value, the p-value where it is tested, and the seconds that it took.

    value None: it cannot be had from these rows.
    """

    value: float | None
    seconds: float
    p_value: float | None = None


DISTANCES: dict[str, str] = {
    "a_distance_linear": "A-distance, linear",
    "a_distance_rbf": "A-distance, RBF",
    "mmd": "MMD",
    "coral": "CORAL",
    "frechet": "Fréchet, squared",
    "sliced_wasserstein": "sliced Wasserstein",
    "kl_source_target": "KL of source from target",
    "kl_target_source": "KL of target from source",
}
"""Every distance, in the order in which it is shown, and what tables call it."""


def measure(source: Rows, target: Rows) -> dict[str, Measurement]:
    """All of DISTANCES between two samples. Raises ValueError where shapes do not fit or there are under 10 rows each."""
    _check(source, target)
    plain: dict[str, Callable[[], float | None]] = {
        "a_distance_linear": lambda: proxy_a_distance(source, target, classifier="linear"),
        "a_distance_rbf": lambda: proxy_a_distance(source, target, classifier="rbf"),
        "coral": lambda: coral(source, target),
        "frechet": lambda: frechet(source, target),
        "sliced_wasserstein": lambda: sliced_wasserstein(source, target),
    }
    import sklearn.svm  # noqa: F401  # so that its import is not charged to the first distance

    found = {name: _timed(distance) for name, distance in plain.items()}
    start = time.perf_counter()
    discrepancy, p_value = mmd_test(source, target)
    found["mmd"] = Measurement(discrepancy, time.perf_counter() - start, p_value)
    start = time.perf_counter()
    reduced = principal_components(source, target)
    reducing = time.perf_counter() - start
    for name, (first, second) in {"kl_source_target": reduced, "kl_target_source": reduced[::-1]}.items():
        divergence = _timed(lambda first=first, second=second: knn_divergence(first, second))  # type: ignore[misc]
        found[name] = Measurement(divergence.value, divergence.seconds + reducing / 2)
    return {name: found[name] for name in DISTANCES}


def proxy_a_distance(source: Rows, target: Rows, *, classifier: Literal["linear", "rbf"]) -> float:
    """2 (1 - 2 e), e the cross-validated error of telling the domains apart; in [0, 2], 0 where that is chance or worse.

    Ben-David et al. 2007 (NIPS 19), section 4. The classifier is a support vector machine with C = 1 on standardised
    features, with a linear kernel or a Gaussian one of variance D, the usual default; FOLDS folds of every FOLDS-th row.
    """
    from sklearn.svm import SVC

    x = _standardised(np.concatenate((source, target)))
    y = np.repeat((0, 1), (len(source), len(target)))
    products = x @ x.T
    squares = products.diagonal()
    if classifier == "linear":
        gram = products / x.shape[1]  # the scale that its C is usual for: a mean squared length of 1
    else:
        gram = np.exp(-np.maximum(squares[:, None] + squares[None, :] - 2 * products, 0) / x.shape[1])
    folds = np.concatenate([np.arange(len(domain)) % FOLDS for domain in (source, target)])
    wrong = 0
    for fold in range(FOLDS):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        machine = SVC(kernel="precomputed", C=1.0, cache_size=500)
        machine.fit(gram[np.ix_(train, train)], y[train])
        wrong += int((machine.predict(gram[np.ix_(test, train)]) != y[test]).sum())
    return max(0.0, 2 * (1 - 2 * wrong / len(y)))


def mmd_test(source: Rows, target: Rows, *, permutations: int = PERMUTATIONS) -> tuple[float, float]:
    """The maximum mean discrepancy, in [0, sqrt 2), and the p-value of the hypothesis that the domains are equal.

    Gretton et al. 2012 (JMLR 13): the root of the unbiased estimate (eq. 3), 0 where that is negative, under
    exp(-|x - y|^2 / 2 m) with m the median squared distance over all pairs of rows (section 8, median heuristic). The
    p-value is the share of random relabellings, the true one among them, whose estimate is as large (section 5).
    """
    both = np.concatenate((source, target))
    gram = _gaussian_gram(both)
    labels = np.zeros((len(both), permutations + 1))
    labels[: len(source), 0] = 1
    generator = np.random.default_rng(SEED)
    for column in range(1, permutations + 1):
        labels[generator.permutation(len(both))[: len(source)], column] = 1
    first, second = len(source), len(target)
    within_first = np.einsum("np,np->p", labels, gram @ labels)
    of_first = gram.sum(1) @ labels
    across = of_first - within_first
    within_second = gram.sum() - of_first - across
    estimates = (
        (within_first - first) / (first * (first - 1))
        + (within_second - second) / (second * (second - 1))
        - 2 * across / (first * second)
    )
    # Rounding must not count a relabelling that is the true one, or its mirror image, as smaller.
    as_large = estimates >= estimates[0] - 1e-12
    return float(max(estimates[0], 0.0) ** 0.5), float(as_large.mean())


def coral(source: Rows, target: Rows) -> float:
    """Squared Frobenius distance of the covariances over 4 D^2: `losses.coral` in float64. Means do not count."""
    return float(coral_loss.coral(torch.from_numpy(source), torch.from_numpy(target)))


def frechet(source: Rows, target: Rows) -> float:
    """|m_s - m_t|^2 + tr(C_s + C_t - 2 (C_s C_t)^(1/2)), squared Fréchet distance between normal distributions; at least 0.

    Dowson and Landau 1982 (J. Multivariate Analysis 12), eq. 4; Heusel et al. 2017 (arXiv:1706.08500) of features.
    Covariances are the unbiased ones. The trace of the root is the nuclear norm of A B', A and B the centred rows over
    sqrt(N - 1), so no (D, D) matrix is needed. From fewer rows than features it comes out too large.
    """
    means = [each.mean(0) for each in (source, target)]
    rows = [(each - mean) / (len(each) - 1) ** 0.5 for each, mean in zip((source, target), means, strict=True)]
    traces = sum(float((each**2).sum()) for each in rows)
    if source.shape[1] < min(map(len, rows)):
        rows = [np.linalg.qr(each, mode="r") for each in rows]
    root = float(np.linalg.svd(rows[0] @ rows[1].T, compute_uv=False).sum())
    return max(0.0, float(((means[0] - means[1]) ** 2).sum()) + traces - 2 * root)


def sliced_wasserstein(source: Rows, target: Rows, *, projections: int = PROJECTIONS) -> float:
    """Root of the mean squared 2-Wasserstein distance of the rows' projections on random directions; at least 0.

    Bonneel et al. 2015 (J. Math. Imaging and Vision 51), section 3; on a line the distance is that of the sorted values.
    """
    directions = np.random.default_rng(SEED).standard_normal((source.shape[1], projections))
    directions /= np.linalg.norm(directions, axis=0)
    sorted_values = [np.sort(each @ directions, axis=0) for each in (source, target)]
    return float(((sorted_values[0] - sorted_values[1]) ** 2).mean() ** 0.5)


def knn_divergence(first: Rows, second: Rows, *, neighbours: int = NEIGHBOURS) -> float | None:
    """Kullback-Leibler divergence D(first || second) in nats, estimated from distances to the k-th neighbour.

    Wang, Kulkarni and Verdú 2009 (IEEE Trans. Information Theory 55), eq. 5 with k for every row: (D / N) sum of
    log(nu / rho) + log(M / (N - 1)), rho the distance to the k-th neighbour among the other rows of `first`, nu in
    `second`. May fall below 0. Rows with k copies, whose distance is 0, are left out; None where no row is left.
    """
    from scipy.spatial import cKDTree

    own = cKDTree(first).query(first, k=[neighbours + 1])[0][:, 0]  # the nearest row is the row itself
    other = cKDTree(second).query(first, k=[neighbours])[0][:, 0]
    apart = (own > 0) & (other > 0)
    if not apart.any():
        return None
    ratios = np.log(other[apart] / own[apart])
    return float(first.shape[1] * ratios.mean() + np.log(len(second) / (len(first) - 1)))


def principal_components(source: Rows, target: Rows) -> tuple[Rows, Rows]:
    """Both domains on the first COMPONENTS common principal components; as they are where they have no more features.

    Neighbours in many dimensions tell little. No map makes a divergence larger, so what is estimated is a lower bound.
    """
    if source.shape[1] <= COMPONENTS:
        return source, target
    from sklearn.decomposition import PCA

    both = np.concatenate((source, target))
    reduced = PCA(COMPONENTS, svd_solver="randomized", random_state=SEED).fit_transform(both)
    return reduced[: len(source)], reduced[len(source) :]


def _gaussian_gram(x: Rows) -> Rows:
    """exp(-|x - y|^2 / 2 m), m the median over pairs of distinct rows, their mean where that is 0; ones where that is 0."""
    x = x - x.mean(0)
    products = x @ x.T
    squares = products.diagonal()
    distances = np.maximum(squares[:, None] + squares[None, :] - 2 * products, 0)
    np.fill_diagonal(distances, 0)
    pairs = distances[np.triu_indices(len(x), 1)]
    scale = float(np.median(pairs)) or float(pairs.mean()) or 1.0
    gram: Rows = np.exp(-distances / (2 * scale))
    return gram


def _standardised(x: Rows) -> Rows:
    """Features with mean 0 and spread 1 over both domains; constant ones 0."""
    spread = x.std(0)
    standardised: Rows = (x - x.mean(0)) / np.where(spread > 1e-12 * np.abs(x).max(), spread, np.inf)
    return standardised


def _timed(distance: Callable[[], float | None]) -> Measurement:
    start = time.perf_counter()
    value = distance()
    return Measurement(value, time.perf_counter() - start)


def _check(source: Rows, target: Rows) -> None:
    if source.ndim != 2 or source.shape != target.shape:
        raise ValueError(f"samples must be two of (N, D), got {source.shape} and {target.shape}")
    if len(source) < 2 * FOLDS:
        raise ValueError(f"distances need {2 * FOLDS} rows a domain, got {len(source)}")
