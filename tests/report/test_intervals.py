"""Intervals, tests, their correction and the bootstrap against scipy, naive code and numbers worked out by hand."""

from __future__ import annotations

import time

import numpy as np
import pytest
import scipy.stats

from tlrun.report.intervals import bootstrap_interval, difference_p, equivalence_p, holm, t_interval

DIFFERENCES = [[0.1, 0.3], [0.02, 0.05, 0.01, -0.04], [1.0] * 3 + [2.0] * 8, [-0.001, 0.002, 0.0015]]


@pytest.mark.parametrize("values", DIFFERENCES)
def test_the_interval_is_students(values: list[float]) -> None:
    found = t_interval(values)
    mean, error = sum(values) / len(values), scipy.stats.sem(values)
    low, high = scipy.stats.t.interval(0.95, len(values) - 1, loc=mean, scale=error)
    assert (found.mean, found.low, found.high, found.n) == pytest.approx((mean, low, high, len(values)))


def test_one_value_has_no_interval() -> None:
    found = t_interval([0.25])
    assert (found.mean, found.low, found.high, found.n) == (0.25, None, None, 1)


@pytest.mark.parametrize("values", DIFFERENCES)
def test_the_test_of_a_difference_is_the_paired_t_test(values: list[float]) -> None:
    floor = np.linspace(0.3, 0.6, len(values))
    assert difference_p(values) == pytest.approx(scipy.stats.ttest_rel(floor + values, floor).pvalue)


@pytest.mark.parametrize("values", DIFFERENCES)
@pytest.mark.parametrize("margin", [0.005, 0.1, 0.4])
def test_the_test_of_equivalence_is_twice_the_worse_one_sided_t_test(values: list[float], margin: float) -> None:
    above = scipy.stats.ttest_1samp(values, -margin, alternative="greater").pvalue
    below = scipy.stats.ttest_1samp(values, margin, alternative="less").pvalue
    found = equivalence_p(values, margin=margin)
    assert found == pytest.approx(min(1.0, 2 * max(above, below)))
    interval = t_interval(values)
    assert interval.low is not None and interval.high is not None
    assert (found <= 0.05) == (-margin <= interval.low and interval.high <= margin)


def test_without_spread_a_difference_is_certain_unless_some_is_assumed() -> None:
    assert (difference_p([0.02] * 3), difference_p([0.0] * 3)) == (0.0, 1.0)
    assert (equivalence_p([0.004] * 3, margin=0.005), equivalence_p([0.006] * 3, margin=0.005)) == (0.0, 1.0)
    t = 0.02 / (0.01 / 3**0.5)
    assert difference_p([0.02] * 3, least_deviation=0.01) == pytest.approx(2 * scipy.stats.t.sf(t, 2))
    assert difference_p([0.1, 0.3], least_deviation=0.01) == difference_p([0.1, 0.3])


def naive_holm(p_values: list[float], alpha: float) -> list[bool]:
    """Which are rejected: from the smallest on, until one is above its level."""
    rejected = [False] * len(p_values)
    for place, at in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        if p_values[at] > alpha / (len(p_values) - place):
            break
        rejected[at] = True
    return rejected


def test_holms_correction_is_that_of_the_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.8, 0.9]) == [1.0, 1.0]
    assert holm([0.3]) == [0.3]
    assert holm([]) == []


def test_holms_correction_rejects_what_the_procedure_does() -> None:
    random = np.random.default_rng(0)
    for _ in range(300):
        p_values = (random.random(random.integers(1, 9)) ** 3).tolist()
        alpha = random.random() / 4
        assert [p <= alpha for p in holm(p_values)] == naive_holm(p_values, alpha)


def naive_bootstrap(difference: np.ndarray, resamples: int) -> tuple[float, float]:
    """difference (pairs, rows): whole rows drawn again, for all pairs the same."""
    random = np.random.default_rng(1)
    means = []
    for _ in range(resamples):
        rows = random.integers(0, difference.shape[1], difference.shape[1])
        means.append(np.mean([pair[rows].mean() for pair in difference]))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def test_the_bootstrap_is_that_of_a_loop_over_resamples_and_runs() -> None:
    random = np.random.default_rng(2)
    hard = random.random(300)  # rows differ in how hard they are, for all runs alike
    ours, floor = (random.random((3, 300)) < 1.1 - 0.8 * hard), (random.random((3, 300)) < 0.9 - 0.8 * hard)
    difference = ours.astype(int) - floor.astype(int)
    found = bootstrap_interval(difference.sum(axis=0), runs=3)
    assert (found.mean, found.n) == (pytest.approx(difference.mean()), 300)
    assert (found.low, found.high) == pytest.approx(naive_bootstrap(difference, 4000), abs=0.004)
    # Each run resampled by itself would find a smaller error, since the rows that are hard for one are so for all.
    assert found == bootstrap_interval(difference.sum(axis=0), runs=3)


def test_rows_that_never_differ_leave_no_doubt() -> None:
    found = bootstrap_interval(np.zeros(50, dtype=np.int64), runs=2)
    assert (found.mean, found.low, found.high) == (0.0, 0.0, 0.0)


def test_the_bootstrap_of_ten_runs_of_ten_thousand_rows_is_quick() -> None:
    totals = np.random.default_rng(0).integers(-3, 4, (10, 10_000))
    start = time.process_time()
    for each in totals:
        bootstrap_interval(each, runs=3)
    assert time.process_time() - start < 1
