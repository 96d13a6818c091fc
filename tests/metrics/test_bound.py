"""The probe behind source error and joint error: against scikit-learn, and where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from tlrun.metrics.bound import FOLDS, RIDGE, probe_errors

Sample = tuple[np.ndarray, np.ndarray]


def clusters(rows: int, *, seed: int, swapped: bool = False) -> Sample:
    """Two clusters in the plane with numbers 0 and 1, or 1 and 0."""
    generator = np.random.default_rng(seed)
    y = generator.integers(0, 2, rows)
    x = generator.standard_normal((rows, 2)) + np.where(y == 1, 4.0, -4.0)[:, None]
    return x, 1 - y if swapped else y


def test_domains_that_agree_have_no_joint_error_and_domains_that_disagree_have_one_in_all() -> None:
    source = clusters(200, seed=0)
    assert probe_errors([source]) == [0.0]
    assert probe_errors([source, clusters(200, seed=1)]) == [0.0, 0.0]
    # Whatever is right in one domain is wrong in the other: the two errors sum to about 1.
    assert sum(probe_errors([source, clusters(200, seed=2, swapped=True)])) == pytest.approx(1, abs=0.1)


def test_a_small_domain_weighs_as_much_as_a_large_one() -> None:
    errors = probe_errors([clusters(1000, seed=3), clusters(20, seed=4, swapped=True)])
    assert errors[1] < 0.8  # by number of rows the large one would leave it all wrong


def test_probe_is_the_ridge_regression_of_scikit_learn() -> None:
    generator = np.random.default_rng(5)
    x, y = generator.standard_normal((50, 4)), generator.integers(0, 3, 50)
    x[:, 0] += y
    z = (x - x.mean(0)) / x.std(0) / 2  # the root of 4 features
    z = np.concatenate((z, np.ones((50, 1))), axis=1)
    wrong = np.empty(50, dtype=bool)
    for fold in range(FOLDS):
        test = np.arange(50) % FOLDS == fold
        ridge = Ridge(alpha=RIDGE * 40, fit_intercept=False).fit(z[~test], np.eye(3)[y[~test]])
        wrong[test] = ridge.predict(z[test]).argmax(1) != y[test]
    assert probe_errors([(x, y)]) == [pytest.approx(wrong.mean())]


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="needs 5 rows a domain"):
        probe_errors([clusters(4, seed=6)])
