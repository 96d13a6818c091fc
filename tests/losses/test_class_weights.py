"""Weights by class, against scikit-learn's and the paper's numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight

from tlrun.batch import Examples
from tlrun.losses.class_weights import effective_number, inverse_frequency
from tlrun.losses.classification import task_loss


def test_inverse_frequency_is_scikit_learns_balanced_weight() -> None:
    y = np.repeat([0, 1, 2], [50, 9, 1])
    theirs = compute_class_weight("balanced", classes=np.arange(3), y=y)
    assert inverse_frequency(torch.tensor([50, 9, 1])).tolist() == pytest.approx(theirs.tolist())


def test_effective_number_is_the_papers_formula_up_to_a_factor() -> None:
    counts, beta = [500, 20, 1], 0.99
    theirs = torch.tensor([(1 - beta) / (1 - beta**n) for n in counts])
    ours = effective_number(torch.tensor(counts), beta=beta)
    torch.testing.assert_close(ours / ours.sum(), theirs / theirs.sum())
    assert (ours * torch.tensor(counts)).sum() / 521 == pytest.approx(1.0)


def test_effective_number_lies_between_no_weights_and_inverse_frequency() -> None:
    counts = torch.tensor([40, 4, 1])
    assert effective_number(counts, beta=0.0).tolist() == pytest.approx([1.0] * 3)
    torch.testing.assert_close(effective_number(counts, beta=1 - 1e-9), inverse_frequency(counts), rtol=1e-4, atol=0)


@pytest.mark.parametrize("weigh", [inverse_frequency, lambda counts: effective_number(counts, beta=0.9)])
def test_a_class_without_rows_weighs_nothing_and_no_rows_are_refused(weigh: object) -> None:
    assert callable(weigh)
    weights = weigh(torch.tensor([3, 0, 1]))
    assert weights[1] == 0 and torch.isfinite(weights).all() and weights.dtype == torch.float32
    with pytest.raises(ValueError, match="no class has rows"):
        weigh(torch.tensor([0, 0]))


def test_loss_under_weights_is_torchs() -> None:
    logits, y = torch.randn(8, 3), torch.tensor([0, 0, 0, 0, 0, 1, 1, 2])
    weights = inverse_frequency(torch.bincount(y))
    ours = task_loss(logits, Examples(torch.zeros(8, 1), y, torch.arange(8), "target"), class_weight=weights)
    torch.testing.assert_close(ours, F.cross_entropy(logits, y, weight=weights))
