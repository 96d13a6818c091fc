"""Transferability scores against worked examples, naive sums, closed forms and other libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import BayesianRidge
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from tlrun.metrics.transferability import SCORES, Floats, Labels, h_score, knn_accuracy, leep, logme, measure, nce


def draw(rows: int, features: int, *, classes: int = 3, signal: float = 1.0, seed: int = 0) -> tuple[Floats, Labels]:
    """Features of which the first few carry the class, as far as signal says."""
    generator = np.random.default_rng(seed)
    y = generator.permutation(np.arange(rows) % classes)
    x = generator.standard_normal((rows, features))
    x[:, :classes] += signal * np.eye(classes)[y]
    return x, y


@pytest.mark.parametrize(("rows", "features"), [(60, 5), (40, 60), (30, 30)])
def test_logme_is_the_evidence_that_bayesian_ridge_regression_maximises(rows: int, features: int) -> None:
    x, y = draw(rows, features)
    of_class = []
    for label in range(3):
        flat = dict.fromkeys(("alpha_1", "alpha_2", "lambda_1", "lambda_2"), 0.0)
        ridge = BayesianRidge(max_iter=5000, tol=1e-10, fit_intercept=False, compute_score=True, **flat)
        of_class.append(ridge.fit(x, (y == label).astype(float)).scores_[-1] / rows)
    assert logme(x, y) == pytest.approx(np.mean(of_class), abs=1e-6)


def test_no_prior_and_noise_on_a_grid_have_more_evidence_than_logme() -> None:
    x, y = draw(25, 4, classes=2)
    evidence = [
        max(
            multivariate_normal(np.zeros(25), np.eye(25) / beta + x @ x.T / alpha).logpdf((y == label).astype(float))
            for alpha in np.geomspace(0.1, 1000, 25)
            for beta in np.geomspace(0.1, 1000, 25)
        )
        for label in range(2)
    ]
    best = float(np.mean(evidence)) / 25
    assert best <= logme(x, y) <= best + 1e-2


def test_logme_does_not_change_with_the_scale_of_the_features_or_the_names_of_the_classes() -> None:
    x, y = draw(50, 8)
    expected = logme(x, y)
    assert logme(1000 * x, y) == pytest.approx(expected, abs=1e-6)
    assert logme(x, np.array([7, 3, 40])[y]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_logme_has_a_value_for_useless_and_for_perfect_features(seed: int) -> None:
    x, y = draw(20, 3, signal=0.0, seed=seed)
    useless = logme(np.zeros_like(x), y)
    shares = [(y == label).mean() for label in range(3)]
    assert useless == pytest.approx(np.mean([-0.5 * (1 + math.log(2 * math.pi * share)) for share in shares]))
    assert useless - 0.2 <= logme(x, y) < logme(np.eye(3)[y], y)
    assert math.isfinite(logme(x[:, :1] * 1e-9, y))


def test_logme_of_features_that_are_one_for_each_class_has_a_value_at_any_scale() -> None:
    y = np.repeat(np.arange(3), 30)
    means, _ = draw(3, 8)
    expected = logme(means[y], y)
    assert math.isfinite(expected) and expected > logme(means[y] + 0.01 * draw(90, 8)[0], y)
    for scale in (1e-3, 100.0):
        assert logme(scale * means[y], y) == pytest.approx(expected, rel=1e-6)


def test_leep_and_nce_of_a_worked_example() -> None:
    probabilities = np.array([[0.8, 0.2], [0.6, 0.4], [0.1, 0.9], [0.3, 0.7]])
    y = np.array([0, 0, 1, 0])
    # Joint over 4: class 0 has 1.7 and 1.3, class 1 has 0.1 and 0.9; so P(0 | z) is 1.7 / 1.8 and 1.3 / 2.2.
    first, second = 1.7 / 1.8, 1.3 / 2.2
    rows = [0.8 * first + 0.2 * second, 0.6 * first + 0.4 * second, 0.1 * (1 - first) + 0.9 * (1 - second),
            0.3 * first + 0.7 * second]  # fmt: skip
    assert leep(probabilities, y) == pytest.approx(np.mean(np.log(rows)))
    # Assigned 0, 0, 1, 1: the first two are of class 0, of the others one is of each class.
    assert nce(probabilities.argmax(1), y) == pytest.approx(0.5 * math.log(0.5))


def test_leep_and_nce_equal_naive_sums_over_rows_and_classes() -> None:
    generator = np.random.default_rng(1)
    probabilities, y = generator.dirichlet(np.ones(5), 40), generator.integers(0, 3, 40)
    assigned = probabilities.argmax(1)
    total, entropy = 0.0, 0.0
    for row in range(40):
        same = [other for other in range(40) if y[other] == y[row]]
        total += math.log(
            sum(
                probabilities[row, z] * sum(probabilities[other, z] for other in same) / probabilities[:, z].sum()
                for z in range(5)
            )
        )
        alike = [other for other in range(40) if assigned[other] == assigned[row]]
        entropy += math.log(sum(other in same for other in alike) / len(alike))
    assert leep(probabilities, y) == pytest.approx(total / 40)
    assert nce(assigned, y) == pytest.approx(entropy / 40)


def test_leep_of_certain_probabilities_is_nce_and_both_are_0_where_the_head_knows_the_classes() -> None:
    generator = np.random.default_rng(2)
    assigned, y = generator.integers(0, 4, 50), generator.integers(0, 3, 50)
    assert leep(np.eye(6)[assigned], y) == pytest.approx(nce(assigned, y))  # two source classes are never assigned
    assert leep(np.eye(9)[y + 5], y) == nce(y + 5, y) == 0


@pytest.mark.parametrize(("rows", "features"), [(80, 6), (20, 50), (50, 1)])
def test_h_score_is_the_trace_under_the_shrunk_covariance(rows: int, features: int) -> None:
    x, y = draw(rows, features, classes=3 if features > 1 else 1)
    y = y if features > 1 else (np.arange(rows) % 2).astype(np.int64)
    shrunk = LedoitWolf().fit(x)
    means = np.array([x[y == label].mean(0) for label in y]) - x.mean(0)
    between = means.T @ means / rows
    expected = (1 - shrunk.shrinkage_) * np.trace(np.linalg.solve(shrunk.covariance_, between))
    assert h_score(x, y) == pytest.approx(expected)


def test_h_score_of_one_feature_is_the_share_of_variance_between_classes() -> None:
    assert h_score(np.array([[0.0], [2.0], [4.0], [6.0]]), np.array([0, 0, 1, 1])) == pytest.approx(4 / 5)


def test_h_score_tells_fewer_rows_than_features_apart_and_bears_constant_ones() -> None:
    strong, weak = (h_score(*draw(20, 50, signal=signal)) for signal in (5.0, 0.5))
    assert 0 <= weak < 0.5 * strong <= 1  # unshrunk, both would be C - 1
    assert h_score(np.full((6, 3), 0.1), np.arange(6) % 2) == 0


def test_the_probe_is_left_out_one_row_at_a_time() -> None:
    x, y = draw(45, 4, signal=1.5)
    probe = KNeighborsClassifier(5, weights="distance")
    expected = cross_val_score(probe, x, y, cv=LeaveOneOut()).mean()
    assert 0.5 < expected < 1
    assert knn_accuracy(x, y) == pytest.approx(expected)


def test_the_probe_takes_no_more_neighbours_than_a_class_has_and_does_not_judge_single_rows() -> None:
    x = np.array([[0.0], [1.0], [2.2], [2.3], [2.4], [9.0]])
    y = np.array([0, 0, 1, 1, 1, 2])
    assert knn_accuracy(x, y) == 1  # five neighbours would outvote the second row, and the last is never found
    with pytest.raises(ValueError, match="leaving one row out needs two classes of two rows each"):
        knn_accuracy(x[1:5], y[1:5])


def test_all_scores_are_measured_and_those_of_a_head_are_blank_without_one() -> None:
    x, y = draw(30, 5)
    whole = measure(x, y, np.full((30, 2), 0.5))
    assert list(whole) == list(SCORES) and all(each.seconds >= 0 for each in whole.values())
    assert whole["logme"].value == logme(x, y) and whole["knn"].value == knn_accuracy(x, y)
    assert whole["leep"].value == pytest.approx(math.log(1 / 3)) and whole["nce"].value == pytest.approx(
        math.log(1 / 3)
    )
    without = measure(x, y, None)
    assert [name for name, each in without.items() if each.value is None] == ["leep", "nce"]


def test_better_features_score_higher_by_every_score_of_features() -> None:
    weak, strong = (measure(*draw(60, 8, signal=signal), None) for signal in (0.5, 3.0))
    for name in ("logme", "h_score", "knn"):
        first, second = weak[name].value, strong[name].value
        assert first is not None and second is not None and first < second


@pytest.mark.parametrize("score", [logme, h_score, knn_accuracy, leep])
def test_wrong_shapes_one_class_and_values_that_are_none_are_refused(score: object) -> None:
    assert callable(score)
    x, y = np.full((4, 2), 0.5), np.array([0, 0, 1, 1])
    for wrong_x, wrong_y, said in (
        (x[0], y, r"take \(N, D\) and \(N,\)"),
        (x, y[:3], r"take \(N, D\) and \(N,\)"),
        (x, np.zeros(4, dtype=np.int64), "need labels of two classes"),
        (x, y - 1, "need labels of two classes"),
        (np.where(x > 0, np.nan, x), y, "finite values alone"),
    ):
        with pytest.raises(ValueError, match=said):
            score(wrong_x, wrong_y)


def test_leep_refuses_what_is_no_probability() -> None:
    with pytest.raises(ValueError, match="must add up to 1"):
        leep(np.array([[0.5, 0.6], [1.0, 0.0]]), np.array([0, 1]))
