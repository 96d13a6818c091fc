"""Black-box shift estimation: planted shifts, a worked example, and what it refuses."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tlrun.metrics.label_shift import importance_weights, target_shares, total_variation

CONFUSION = np.array([[70, 20, 10], [5, 40, 5], [0, 10, 40]])


def test_two_classes_by_hand() -> None:
    # P(prediction | class): class 0 right in 8 of 10, class 1 in 18 of 20. Target: 1/4 class 0, so predictions of 0 are
    # 1/4 * 0.8 + 3/4 * 0.1 = 0.275. The source has 1/3 and 2/3, so the weights are 3/4 and 9/8.
    confusion, predicted = np.array([[8, 2], [2, 18]]), np.array([275, 725])
    assert importance_weights(confusion, predicted) == pytest.approx([0.75, 1.125])
    assert target_shares(confusion, predicted) == pytest.approx([0.25, 0.75])


@pytest.mark.parametrize("planted", [(0.2, 0.3, 0.5), (0.0, 0.0, 1.0), (0.5, 0.25, 0.25)])
def test_a_planted_shift_is_found_from_rows_that_are_drawn(planted: tuple[float, ...]) -> None:
    generator = np.random.default_rng(0)
    conditional = CONFUSION / CONFUSION.sum(axis=1, keepdims=True)
    rows = 20_000
    source = np.stack([generator.multinomial(rows, each) for each in conditional])
    labels = generator.multinomial(rows, planted)
    predicted = sum(generator.multinomial(count, each) for count, each in zip(labels, conditional, strict=True))
    found = target_shares(source, np.asarray(predicted))
    assert found == pytest.approx(planted, abs=0.02)
    guessed = np.asarray(predicted) / rows
    assert np.abs(found - planted).max() < np.abs(guessed - planted).max() / 3  # better than counting predictions


def test_without_shift_the_sources_shares_come_back() -> None:
    assert importance_weights(CONFUSION, CONFUSION.sum(axis=0)) == pytest.approx([1, 1, 1])


def test_what_would_be_below_zero_is_zero_and_shares_sum_to_one() -> None:
    predicted = np.array([0, 0, 100])  # no mixture of the classes gives such predictions
    raw = np.linalg.solve(CONFUSION.T / CONFUSION.sum(), predicted / 100)
    assert raw.min() < 0
    assert importance_weights(CONFUSION, predicted) == pytest.approx(np.maximum(raw, 0))
    shares = target_shares(CONFUSION, predicted)
    assert shares.sum() == pytest.approx(1) and shares.min() == 0


@pytest.mark.parametrize(
    ("confusion", "predicted", "said"),
    [
        ([[9, 1], [9, 1]], [5, 5], "the confusion matrix is near singular: least singular value "),
        ([[54, 46], [46, 54]], [5, 5], "least singular value 0.08, below 0.1"),
        ([[0, 0], [2, 8]], [5, 5], "1 of 2 classes have no source validation row"),
        ([[5, 0], [0, 5]], [0, 0], "there are no rows"),
        ([[5, 0], [0, 5]], [1, 2, 3], "expected counts (C, C) and (C,), got (2, 2) and (3,)"),
    ],
)
def test_what_cannot_be_inverted_is_refused(confusion: list[list[int]], predicted: list[int], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        importance_weights(np.array(confusion), np.array(predicted))


def test_a_classifier_that_tells_classes_apart_badly_is_not_refused() -> None:
    assert target_shares(np.array([[56, 44], [44, 56]]), np.array([50, 50])) == pytest.approx([0.5, 0.5])


def test_total_variation_is_the_share_that_moved() -> None:
    assert total_variation(np.array([0.5, 0.5, 0.0]), np.array([0.3, 0.5, 0.2])) == pytest.approx(0.2)
