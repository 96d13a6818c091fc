"""Verdicts and ratios against scipy and numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import scipy.stats

from tests.report.conftest import Finished
from tlrun.report.collect import collect
from tlrun.report.groups import Group, group
from tlrun.report.tables import line_of
from tlrun.report.verdicts import (
    gap_closed,
    judge,
    paired_differences,
    relative_improvement,
    t_interval,
    verdict,
)


def only(tmp_path: Path, strategy: str) -> Group:
    (found,) = (each for each in group(collect([tmp_path]).runs) if each.strategy == strategy)
    return found


def write(finished: Finished, strategy: str, accuracies: dict[int, float | None], *overrides: str) -> None:
    for seed, accuracy in accuracies.items():
        finished(strategy, *overrides, seed=seed, accuracy=accuracy)


@pytest.mark.parametrize("values", [[0.1, 0.3], [0.02, 0.05, 0.01, -0.04], [1.0] * 3 + [2.0] * 8])
def test_the_interval_is_students(values: list[float]) -> None:
    found = t_interval(values)
    mean, error = sum(values) / len(values), scipy.stats.sem(values)
    low, high = scipy.stats.t.interval(0.95, len(values) - 1, loc=mean, scale=error)
    assert (found.mean, found.low, found.high, found.n) == pytest.approx((mean, low, high, len(values)))


def test_one_value_has_no_interval_and_no_verdict() -> None:
    found = t_interval([0.25])
    assert (found.mean, found.low, found.high, found.n) == (0.25, None, None, 1)
    assert judge([0.25]) is None
    assert judge([]) is None


@pytest.mark.parametrize(
    ("differences", "word"),
    [
        ([0.10, 0.11, 0.12], "helps"),
        ([-0.10, -0.11, -0.12], "hurts"),
        ([0.10, -0.10, 0.02], "undecided"),
        ([0.001, -0.001, 0.0], "equal"),
        ([0.003, 0.003, 0.003], "equal"),  # surely above 0, and too small to matter
        ([0.005, 0.005], "equal"),
        ([0.0051, 0.0051], "helps"),
        ([-0.0051, -0.0051], "hurts"),
        # Twice 0.0127 around 0.002 with n = 2: t = 12.706, so the interval leaves the margin.
        ([0.001, 0.003], "undecided"),
    ],
)
def test_a_verdict_says_where_the_interval_lies(differences: list[float], word: str) -> None:
    found = judge(differences)
    assert found is not None
    assert found.word == word


def test_only_transfer_that_hurts_is_called_negative_transfer() -> None:
    hurts, helps = judge([-0.10, -0.11]), judge([0.2, 0.2])
    assert hurts is not None and helps is not None
    assert (hurts.told("adaptation"), hurts.told("transfer")) == ("hurts", "negative transfer")
    assert helps.told("transfer") == "helps"


def test_differences_are_paired_by_seed(finished: Finished, tmp_path: Path) -> None:
    # Unpaired, the spread of 0.1 between seeds would hide a difference of 0.02.
    write(finished, "source_only", {0: 0.50, 1: 0.60, 2: 0.70, 7: 0.9})
    write(finished, "dann", {2: 0.72, 1: 0.62, 0: 0.52, 3: 0.1})
    dann = only(tmp_path, "dann")
    assert paired_differences(dann, dann.references["floor"]) == pytest.approx([0.02] * 3)
    found = verdict(dann, "floor")
    assert found is not None and (found.word, found.difference.n) == ("helps", 3)
    assert verdict(dann, "scratch") is None


def test_transfer_is_held_against_scratch_and_adaptation_against_the_floor(finished: Finished, tmp_path: Path) -> None:
    labels = "data.target_labels=5"
    write(finished, "source_only", {0: 0.5, 1: 0.5})
    write(finished, "scratch", {0: 0.9, 1: 0.9}, labels)
    write(finished, "mmd", {0: 0.8, 1: 0.8}, labels)
    line = line_of(only(tmp_path, "mmd"))
    assert line.adaptation is not None and line.transfer is not None
    assert (line.adaptation.told("adaptation"), line.transfer.told("transfer")) == ("helps", "negative transfer")


def test_there_is_no_verdict_on_one_seed(finished: Finished, tmp_path: Path) -> None:
    write(finished, "source_only", {0: 0.5, 1: 0.5})
    write(finished, "dann", {0: 0.9, 5: 0.9})
    assert verdict(only(tmp_path, "dann"), "floor") is None


def test_the_gap_closed_is_over_the_seeds_that_all_three_have(finished: Finished, tmp_path: Path) -> None:
    write(finished, "source_only", {0: 0.4, 1: 0.6, 2: 0.0})
    write(finished, "target_only", {0: 0.9, 1: 0.9, 3: 0.0})
    write(finished, "dann", {0: 0.7, 1: 0.7, 4: 0.0})
    dann = only(tmp_path, "dann")
    assert gap_closed(dann) == pytest.approx((0.7 - 0.5) / (0.9 - 0.5))
    assert relative_improvement(dann) == pytest.approx((0.7 - 0.5) / 0.5)


def test_a_gap_that_is_none_is_not_closed(finished: Finished, tmp_path: Path) -> None:
    write(finished, "source_only", {0: 0.9})
    write(finished, "target_only", {0: 0.9})
    write(finished, "dann", {0: 0.95})
    assert gap_closed(only(tmp_path, "dann")) is None
    assert relative_improvement(only(tmp_path, "dann")) == pytest.approx(0.05 / 0.9)


def test_runs_without_the_figure_are_passed_over(finished: Finished, tmp_path: Path) -> None:
    write(finished, "source_only", {0: None, 1: 0.0})
    write(finished, "target_only", {0: 0.9, 1: 0.8})
    write(finished, "dann", {0: 0.7, 1: 0.4})
    dann = only(tmp_path, "dann")
    assert paired_differences(dann, dann.references["floor"]) == [0.4]
    assert gap_closed(dann) == pytest.approx(0.5)
    assert relative_improvement(dann) is None  # the floor is 0
