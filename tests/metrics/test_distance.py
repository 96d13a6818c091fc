"""Distances between domains against closed forms, other libraries, and samples whose distance is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.stats import wasserstein_distance
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import SVC

from tlrun.losses.coral import coral as coral_loss
from tlrun.losses.mmd import mmd as mmd_loss
from tlrun.metrics import distance
from tlrun.metrics.distance import (
    DISTANCES,
    Rows,
    coral,
    frechet,
    knn_divergence,
    measure,
    mmd_test,
    principal_components,
    proxy_a_distance,
    sliced_wasserstein,
)


def draw(rows: int, features: int, *, seed: int, mean: float = 0.0, spread: float = 1.0) -> Rows:
    return mean + spread * np.random.default_rng(seed).standard_normal((rows, features))


@pytest.mark.parametrize("classifier", ["linear", "rbf"])
def test_a_distance_is_0_between_equal_domains_and_2_between_far_ones(classifier: str) -> None:
    near = proxy_a_distance(draw(200, 3, seed=0), draw(200, 3, seed=1), classifier=classifier)
    assert 0 <= near < 0.3
    assert proxy_a_distance(draw(50, 3, seed=0), draw(50, 3, seed=1, mean=20), classifier=classifier) == 2.0


def test_a_linear_classifier_misses_what_an_rbf_one_sees() -> None:
    """Two circles around one centre."""
    angle = np.linspace(0, 2 * math.pi, 100, endpoint=False)
    circle = np.stack((np.cos(angle), np.sin(angle)), axis=1)
    assert proxy_a_distance(circle, 3 * circle, classifier="linear") < 0.5
    assert proxy_a_distance(circle, 3 * circle, classifier="rbf") > 1.9


def test_a_distance_is_that_of_the_cross_validated_error_of_scikit_learn() -> None:
    source, target = draw(60, 4, seed=2), draw(60, 4, seed=3, mean=0.7)
    x = np.concatenate((source, target))
    x = (x - x.mean(0)) / x.std(0)
    y, folds = np.repeat((0, 1), 60), np.tile(np.arange(60) % distance.FOLDS, 2)
    splits = [(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in range(distance.FOLDS)]
    machines = {"linear": SVC(kernel="linear", C=1 / 4), "rbf": SVC(kernel="rbf", gamma=1 / 4, C=1.0)}
    for classifier, machine in machines.items():  # 1 / 4: linear products are divided by the 4 features
        error = (cross_val_predict(machine, x, y, cv=splits) != y).mean()
        assert proxy_a_distance(source, target, classifier=classifier) == pytest.approx(2 * (1 - 2 * error))


def test_discrepancy_is_the_root_of_the_unbiased_loss() -> None:
    source, target = draw(40, 5, seed=4), draw(40, 5, seed=5, mean=0.6)
    x = np.concatenate((source, target))
    median = float(np.median([((a - b) ** 2).sum() for at, a in enumerate(x) for b in x[:at]]))
    loss = mmd_loss(*map(torch.from_numpy, (source, target)), kernels=(1.0,), bandwidth=median, estimate="unbiased")
    assert mmd_test(source, target)[0] == pytest.approx(float(loss) ** 0.5, rel=1e-9)


def test_p_value_is_small_for_domains_that_differ_and_evenly_spread_for_equal_ones() -> None:
    assert mmd_test(draw(50, 3, seed=6), draw(50, 3, seed=7, mean=1.0), permutations=199)[1] == pytest.approx(1 / 200)
    values = [mmd_test(draw(30, 2, seed=seed), draw(30, 2, seed=1000 + seed), permutations=49)[1] for seed in range(60)]
    assert 0.35 < np.mean(values) < 0.65
    assert np.mean(np.array(values) <= 0.1) < 0.25


def test_permuted_estimates_are_those_of_relabelled_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The p-value by relabelling rows and computing the unbiased estimate naively."""
    source, target = draw(12, 2, seed=8), draw(12, 2, seed=9, mean=0.5)
    x, gram = np.concatenate((source, target)), distance._gaussian_gram(np.concatenate((source, target)))

    def naive(first: np.ndarray) -> float:
        second = np.setdiff1d(np.arange(len(x)), first)
        within = [sum(gram[i, j] for i in rows for j in rows if i != j) / (12 * 11) for rows in (first, second)]
        return float(sum(within) - 2 * sum(gram[i, j] for i in first for j in second) / 144)

    generator = np.random.default_rng(distance.SEED)
    drawn = [naive(generator.permutation(24)[:12]) for _ in range(30)]
    truth = naive(np.arange(12))
    assert mmd_test(source, target, permutations=30)[1] == pytest.approx(
        (1 + sum(each >= truth for each in drawn)) / 31
    )


def test_coral_is_the_loss_of_that_name() -> None:
    source, target = draw(30, 4, seed=10), draw(30, 4, seed=11, spread=2.0)
    assert coral(source, target) == pytest.approx(float(coral_loss(torch.tensor(source), torch.tensor(target))))
    assert coral(source, source + 5) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("rows", "features"), [(200, 4), (12, 30)])
def test_frechet_distance_is_that_of_the_matrix_root_of_scipy(rows: int, features: int) -> None:
    source, target = draw(rows, features, seed=12), draw(rows, features, seed=13, mean=0.3, spread=1.5)
    first, second = np.cov(source, rowvar=False), np.cov(target, rowvar=False)
    root = scipy.linalg.sqrtm(first @ second + 1e-14 * np.eye(features)).real
    expected = ((source.mean(0) - target.mean(0)) ** 2).sum() + np.trace(first + second - 2 * root)
    assert frechet(source, target) == pytest.approx(expected, rel=1e-3)


def test_frechet_distance_of_two_normal_distributions_on_a_line_is_the_closed_form() -> None:
    source, target = draw(20_000, 1, seed=14), draw(20_000, 1, seed=15, mean=3.0, spread=2.0)
    assert frechet(source, target) == pytest.approx(3**2 + (2 - 1) ** 2, rel=0.02)
    assert frechet(source, source) == pytest.approx(0, abs=1e-9)


def test_sliced_wasserstein_of_a_shift_is_the_closed_form() -> None:
    """Moving all rows by v moves each projection by its product with v: the mean square is |v|^2 / D."""
    source = draw(300, 6, seed=16)
    shift = np.array([3.0, 0, 0, 4.0, 0, 0])
    found = sliced_wasserstein(source, source + shift, projections=4000)
    assert found == pytest.approx((25 / 6) ** 0.5, rel=0.05)


def test_on_a_line_sliced_wasserstein_is_no_less_than_the_first_wasserstein_distance_of_scipy() -> None:
    source, target = draw(200, 1, seed=17), draw(200, 1, seed=18, mean=2.0)
    assert sliced_wasserstein(source, target) == pytest.approx(
        wasserstein_distance(source[:, 0], target[:, 0]), rel=0.05
    )
    assert sliced_wasserstein(source, source + 2) == pytest.approx(wasserstein_distance(source[:, 0], source[:, 0] + 2))


def test_divergence_of_two_normal_distributions_is_near_the_closed_form() -> None:
    source, target = draw(4000, 2, seed=19), draw(4000, 2, seed=20, mean=1.0, spread=2.0)
    # D(N(0, 1) || N(1, 4)) = ln 2 + (1 + 1) / 8 - 1/2 in each of two dimensions.
    assert knn_divergence(source, target) == pytest.approx(2 * (math.log(2) + 2 / 8 - 0.5), abs=0.1)
    assert knn_divergence(source, draw(4000, 2, seed=21)) == pytest.approx(0, abs=0.1)


def test_divergence_is_the_formula_over_the_neighbours_of_scikit_learn() -> None:
    first, second = draw(60, 3, seed=22), draw(50, 3, seed=23, mean=0.5)
    own = NearestNeighbors(n_neighbors=4).fit(first).kneighbors(first)[0][:, 3]
    other = NearestNeighbors(n_neighbors=3).fit(second).kneighbors(first)[0][:, 2]
    expected = 3 / 60 * np.log(other / own).sum() + math.log(50 / 59)
    assert knn_divergence(first, second, neighbours=3) == pytest.approx(expected)


def test_rows_that_are_all_copies_have_no_divergence() -> None:
    assert knn_divergence(np.zeros((20, 2)), np.zeros((20, 2))) is None


def test_few_features_stay_as_they_are_and_many_become_principal_components() -> None:
    source, target = draw(40, 10, seed=24), draw(40, 10, seed=25)
    assert principal_components(source, target) == (source, target)
    low = draw(80, 3, seed=26) @ draw(3, 50, seed=27)
    first, second = principal_components(low[:40], low[40:])
    assert first.shape == second.shape == (40, 10)
    apart = [np.linalg.norm(each[0] - each[1]) for each in (low, np.concatenate((first, second)))]
    assert apart[0] == pytest.approx(apart[1])


def test_all_are_measured_the_same_each_time_and_grow_with_a_shift() -> None:
    source, near, far = draw(60, 12, seed=28), draw(60, 12, seed=29, mean=0.1), draw(60, 12, seed=30, mean=2.0)
    found = [measure(source, target) for target in (near, near, far)]
    assert all(tuple(each) == tuple(DISTANCES) for each in found)
    values = [{name: each.value for name, each in one.items()} for one in found]
    assert values[0] == values[1]
    growing = set(DISTANCES) - {"coral"}  # means do not count
    assert all(values[2][name] > values[0][name] for name in growing)
    assert found[0]["mmd"].p_value is not None and all(each.seconds >= 0 for each in found[0].values())


def test_constant_features_are_no_trouble() -> None:
    source, target = draw(20, 3, seed=31), draw(20, 3, seed=32)
    source[:, 1] = target[:, 1] = 0.1
    assert all(each.value is not None and math.isfinite(each.value) for each in measure(source, target).values())
    blank = measure(np.ones((20, 3)), np.ones((20, 3)))
    assert {name for name, each in blank.items() if each.value is None} == {"kl_source_target", "kl_target_source"}
    assert all(each.value == pytest.approx(0, abs=1e-9) for each in blank.values() if each.value is not None)


@pytest.mark.parametrize(("source", "target"), [((20, 3), (20, 4)), ((20, 3), (19, 3)), ((9, 3), (9, 3))])
def test_samples_that_cannot_be_compared_are_refused(source: tuple[int, int], target: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="samples must be two of|need 10 rows a domain, got 9"):
        measure(np.zeros(source), np.zeros(target))
