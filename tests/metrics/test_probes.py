"""Quick probes: what they say of a target, against naive ones and cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from tlrun.metrics.probes import FOLDS, probe

CENTRES = np.array([[0.0, 0.0, 0.0], [4.0, 0.0, 1.0], [0.0, 5.0, 2.0]])


def clusters(seed: int, counts: tuple[int, ...], spread: float = 0.3, shift: float = 0.0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:  # fmt: skip
    """Rows around the centres, so many of each, in a random order."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(3), counts))
    return CENTRES[y] + shift + spread * rng.standard_normal((len(y), 3)), y


def test_domains_that_are_equal_lose_nothing() -> None:
    x, y = clusters(1, (30, 30, 30))
    other, labels = clusters(2, (30, 30, 30))
    found = probe((x, y), other, (other, labels))
    assert (found.source_accuracy, found.target_accuracy, found.granted_accuracy) == (1, 1, 1)
    assert (found.source_agreement, found.target_agreement, found.shares_moved) == (1, 1, 0)


def test_without_granted_rows_nothing_is_said_of_target_accuracy() -> None:
    source = clusters(1, (30, 30, 30))
    found = probe(source, source[0], None)
    assert found.target_accuracy is None and found.granted_accuracy is None


def test_predicted_shares_tell_label_shift() -> None:
    found = probe(clusters(1, (30, 30, 30)), clusters(2, (60, 30, 0))[0], None)
    assert found.shares_moved == pytest.approx(1 / 3)


def test_figures_are_those_of_naive_probes() -> None:
    x, y = clusters(1, (40, 30, 20), spread=2.0)
    target, labels = clusters(2, (25, 25, 25), spread=2.5, shift=1.0)
    granted = (target[:30], labels[:30])

    def naive(x: NDArray[np.float64], y: NDArray[np.int64], asked: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:  # fmt: skip
        centre, spread = x.mean(0), (x - x.mean(0)).std()
        fitted = LogisticRegression(max_iter=1000).fit((x - centre) / spread, y)
        means = np.stack([x[y == each].mean(0) for each in range(3)])
        nearest = [int(np.argmin([np.sum((row - mean) ** 2) for mean in means])) for row in asked]
        return fitted.predict((asked - centre) / spread), np.array(nearest)

    held, held_means = np.empty_like(y), np.empty_like(y)
    for fold in range(FOLDS):
        out = np.arange(len(y)) % FOLDS == fold
        held[out], held_means[out] = naive(x[~out], y[~out], x[out])
    said, said_means = naive(x, y, target)
    found = probe((x, y), target, granted)
    assert found.source_accuracy == pytest.approx((held == y).mean())
    assert found.source_agreement == pytest.approx((held == held_means).mean())
    assert found.target_agreement == pytest.approx((said == said_means).mean())
    assert found.target_accuracy == pytest.approx((said[:30] == labels[:30]).mean())
    assert 0 < found.target_agreement < 1 and 0 < found.shares_moved < 1


def test_a_class_of_fewer_labels_than_folds_gives_no_accuracy_of_its_own() -> None:
    source, (target, labels) = clusters(1, (30, 30, 30)), clusters(2, (8, 8, 4))
    assert probe(source, target, (target, labels)).granted_accuracy is None
    target, labels = clusters(2, (8, 8, 5))
    assert probe(source, target, (target, labels)).granted_accuracy == 1
    assert probe(source, target, (target[labels == 0], labels[labels == 0])).granted_accuracy is None


def test_a_class_that_a_fold_lacks_is_only_missed() -> None:
    x, y = clusters(1, (30, 30, 30))
    y = np.where(np.arange(len(y)) == 7, 3, y)  # one row of a class of its own
    assert probe((x, y), x, None).source_accuracy == pytest.approx((len(y) - 1) / len(y))


def test_the_same_rows_give_the_same_figures() -> None:
    wide = np.random.default_rng(0).standard_normal((80, 200))
    y = np.arange(80) % 4
    assert probe((wide, y), wide + 1, None) == probe((wide, y), wide + 1, None)


@pytest.mark.parametrize(("rows", "classes"), [(4, 2), (20, 1)])
def test_what_cannot_be_probed_is_refused(rows: int, classes: int) -> None:
    x = np.zeros((rows, 2))
    with pytest.raises(ValueError, match="a probe needs 5 source rows of at least 2 classes"):
        probe((x, np.arange(rows) % classes), x, None)
