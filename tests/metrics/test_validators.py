"""The validators against their papers' formulas worked out by hand, other libraries, and cases known beforehand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from tlrun.metrics.validators import (
    _domain_logits,
    _standardised,
    density_ratio,
    dev_accuracy,
    importance_weighted_accuracy,
    nearest_source_accuracy,
    soft_neighbourhood_density,
)

SURE = 1000.0


def draw(rows: int, features: int, *, seed: int, mean: float = 0.0) -> torch.Tensor:
    return mean + torch.randn(rows, features, generator=torch.Generator().manual_seed(seed))


def test_density_of_three_sure_rows_is_that_worked_out_by_hand() -> None:
    logits = SURE * torch.eye(2)[[0, 0, 1]]
    # Rows 1 and 2 see similarities 1 and 0, row 3 sees 0 and 0: e / (1 + e) is 0.731059.
    pair = -(0.731059 * math.log(0.731059) + 0.268941 * math.log(0.268941))
    expected = (2 * pair + math.log(2)) / 3
    assert float(soft_neighbourhood_density(logits, temperature=1.0)) == pytest.approx(expected, abs=1e-5)
    assert expected == pytest.approx(0.61918, abs=1e-4)


def test_density_agrees_with_a_naive_loop() -> None:
    logits = 3 * draw(12, 4, seed=0)
    p = softmax(logits.double().numpy(), axis=1)
    f = p / np.linalg.norm(p, axis=1, keepdims=True)
    entropies = []
    for i in range(12):
        q = softmax([f[i] @ f[j] / 0.05 for j in range(12) if j != i])
        entropies.append(-(q * np.log(q)).sum())
    assert float(soft_neighbourhood_density(logits)) == pytest.approx(np.mean(entropies), rel=1e-9)


def test_density_is_higher_where_predictions_form_few_tight_groups() -> None:
    grouped = SURE * torch.eye(3).repeat(10, 1)
    scattered = 2 * draw(30, 3, seed=1)
    assert soft_neighbourhood_density(grouped) > soft_neighbourhood_density(scattered)
    assert float(soft_neighbourhood_density(torch.zeros(30, 3))) == pytest.approx(math.log(29))


def test_density_of_one_row_is_refused() -> None:
    with pytest.raises(ValueError, match="needs 2 rows, got 1"):
        soft_neighbourhood_density(torch.zeros(1, 3))


def test_weighted_accuracies_are_those_worked_out_by_hand() -> None:
    weights, correct = torch.tensor([3.0, 1.0, 1.0, 1.0]), torch.tensor([True, False, True, True])
    assert float(importance_weighted_accuracy(weights, correct)) == pytest.approx(1 - 0.25)
    # cov(w l, w) = -1/6, var(w) = 1, so eta = 1/6 and the risk 1/4 + 1.5/6 - 1/6.
    assert float(dev_accuracy(weights, correct)) == pytest.approx(1 - 1 / 3)


def test_weights_of_one_leave_the_plain_accuracy() -> None:
    correct = torch.tensor([True, False, True, True])
    for accuracy in (importance_weighted_accuracy, dev_accuracy):
        assert float(accuracy(torch.ones(4), correct)) == pytest.approx(0.75)


def test_dev_agrees_with_the_covariances_of_numpy() -> None:
    weights = draw(50, 1, seed=2).exp()[:, 0]
    correct = draw(50, 1, seed=3)[:, 0] > 0
    w, losses = weights.double().numpy(), (weights * ~correct).double().numpy()
    eta = -np.cov(losses, w)[0, 1] / np.var(w, ddof=1)
    assert float(dev_accuracy(weights, correct)) == pytest.approx(1 - (losses.mean() + eta * w.mean() - eta), rel=1e-6)


def test_errors_count_where_the_target_lies() -> None:
    """A model wrong on the left, with a target on the right, is better than one wrong on the right."""
    source, target = draw(400, 2, seed=4), draw(400, 2, seed=5, mean=1.0)
    weights = density_ratio(source, target, rows=200)
    wrong_left, wrong_right = source.sum(1) > -1, source.sum(1) < 1
    for accuracy in (importance_weighted_accuracy, dev_accuracy):
        assert accuracy(weights, wrong_left) > accuracy(weights, wrong_right) + 0.2
    near = [nearest_source_accuracy(source, correct, target) for correct in (wrong_left, wrong_right)]
    assert near[0] > near[1] + 0.2


def test_ratio_of_two_normal_densities_is_the_known_one() -> None:
    source, target = draw(1000, 1, seed=6), draw(1000, 1, seed=7, mean=1.0)
    ratio = density_ratio(source, target, rows=400, penalties=(1e-4,))
    known = (source[:, 0] - 0.5).exp()  # N(1, 1) over N(0, 1)
    assert float((ratio.log() - known.log()).abs().mean()) < 0.2
    assert float(ratio.mean()) == pytest.approx(1, abs=0.2)


def test_equal_domains_have_a_ratio_near_one() -> None:
    ratio = density_ratio(draw(500, 30, seed=8), draw(500, 30, seed=9), rows=250)
    assert float((ratio - 1).abs().mean()) < 0.25


def test_no_row_is_weighed_by_a_classifier_that_has_seen_it() -> None:
    """Pure noise in many features: remembered rows would be given away by weights near 0."""
    source, target = draw(200, 500, seed=10), draw(200, 500, seed=11)
    ratio = density_ratio(source, target, rows=100, penalties=(1e-4,))
    assert min(float(ratio[half::2].median()) for half in (0, 1)) > 0.6
    features = _standardised(torch.cat((source, target)))
    remembered = _domain_logits(features, (torch.arange(400) >= 200).float(), features, (1e-4,))[0, :200].exp()
    assert float(remembered.median()) < 0.2


@pytest.mark.parametrize("penalty", [1e-1, 1e-3])
def test_domain_classifier_is_that_of_scikit_learn(penalty: float) -> None:
    x = _standardised(torch.cat((draw(30, 12, seed=12), draw(20, 12, seed=13, mean=0.5)))).double()
    is_target = (torch.arange(50) >= 30).double()
    weights = np.where(is_target.numpy() > 0, 0.5 / 20, 0.5 / 30)
    reference = LogisticRegression(C=1 / penalty, fit_intercept=False, solver="newton-cholesky", tol=1e-10)
    reference.fit(x.numpy(), is_target.numpy(), sample_weight=weights)
    found = _domain_logits(x, is_target, x, (1.0, penalty))[1]
    assert found.numpy() == pytest.approx(reference.decision_function(x.numpy()), rel=1e-5, abs=1e-6)


def test_constant_features_are_no_trouble() -> None:
    source, target = draw(20, 3, seed=14), draw(20, 3, seed=15)
    source[:, 1] = target[:, 1] = 7.0
    assert torch.isfinite(density_ratio(source, target, rows=10)).all()
    assert torch.isfinite(density_ratio(torch.zeros(8, 2), torch.zeros(8, 2), rows=4)).all()


def test_too_few_rows_have_no_ratio() -> None:
    with pytest.raises(ValueError, match="needs 4 rows a domain, got 3 and 9"):
        density_ratio(torch.zeros(3, 2), torch.zeros(9, 2), rows=10)


def test_nearest_source_rows_are_counted_by_hand() -> None:
    source = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    target = torch.tensor([[1.0, 0.0], [9.0, 1.0], [8.0, 0.0], [6.0, 0.0]])
    correct = torch.tensor([True, False, True])
    assert float(nearest_source_accuracy(source, correct, target)) == pytest.approx(1 / 4)


def test_nearest_source_rows_are_found_far_from_the_origin() -> None:
    source, target = draw(300, 8, seed=16), draw(300, 8, seed=17)
    correct = draw(300, 1, seed=18)[:, 0] > 0
    source, target = ((each.double() + 4096).float() for each in (source, target))
    owner = cdist(target.double().numpy(), source.double().numpy()).argmin(1)
    expected = correct.numpy()[owner].mean()
    assert float(nearest_source_accuracy(source, correct, target)) == pytest.approx(expected)


def test_nearest_source_is_the_accuracy_under_voronoi_weights() -> None:
    source, target, correct = draw(40, 5, seed=16), draw(70, 5, seed=17), draw(40, 1, seed=18)[:, 0] > 0
    owner = cdist(target.numpy(), source.numpy()).argmin(1)
    weights = np.bincount(owner, minlength=40) * 40 / 70
    expected = 1 - (weights * ~correct.numpy()).mean()
    assert float(nearest_source_accuracy(source, correct, target)) == pytest.approx(expected)
