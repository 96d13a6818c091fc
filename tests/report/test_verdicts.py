"""Verdicts and ratios: words, pairing, families of tests, and the interval over rows against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.report.conftest import Finished, write_outcomes
from tlrun.report.collect import collect
from tlrun.report.groups import Group, group
from tlrun.report.tables import lines_of
from tlrun.report.verdicts import gap_closed, judge, paired_runs, relative_improvement, verdicts


def only(tmp_path: Path, strategy: str) -> Group:
    (found,) = (each for each in group(collect([tmp_path]).runs) if each.strategy == strategy)
    return found


def write(finished: Finished, strategy: str, accuracies: dict[int, float | None], *overrides: str) -> None:
    for seed, accuracy in accuracies.items():
        finished(strategy, *overrides, seed=seed, accuracy=accuracy)


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
    (found,) = judge([differences])
    assert found.word == word


def test_only_transfer_that_hurts_is_called_negative_transfer() -> None:
    hurts, helps = judge([[-0.10, -0.11], [0.2, 0.2]])
    assert (hurts.told("adaptation"), hurts.told("transfer")) == ("hurts", "negative transfer")
    assert helps.told("transfer") == "helps"


def test_differences_are_paired_by_seed(finished: Finished, tmp_path: Path) -> None:
    # Unpaired, the spread of 0.1 between seeds would hide a difference of 0.02.
    write(finished, "source_only", {0: 0.50, 1: 0.60, 2: 0.70, 7: 0.9})
    write(finished, "dann", {2: 0.72, 1: 0.62, 0: 0.52, 3: 0.1})
    dann = only(tmp_path, "dann")
    assert [(run.seed, floor.seed) for run, floor in paired_runs(dann, dann.references["floor"])] == [
        (0, 0),
        (1, 1),
        (2, 2),
    ]
    found = verdicts([dann], "floor")[dann]
    assert (found.word, found.difference.n, found.difference.mean) == ("helps", 3, pytest.approx(0.02))
    assert verdicts([dann], "scratch") == {}


def test_transfer_is_held_against_scratch_and_adaptation_against_the_floor(finished: Finished, tmp_path: Path) -> None:
    labels = "data.target_labels=5"
    write(finished, "source_only", {0: 0.5, 1: 0.5})
    write(finished, "scratch", {0: 0.9, 1: 0.9}, labels)
    write(finished, "mmd", {0: 0.8, 1: 0.8}, labels)
    (line,) = lines_of([only(tmp_path, "mmd")])
    assert line.adaptation is not None and line.transfer is not None
    assert (line.adaptation.told("adaptation"), line.transfer.told("transfer")) == ("helps", "negative transfer")


def test_there_is_no_verdict_on_one_seed(finished: Finished, tmp_path: Path) -> None:
    write(finished, "source_only", {0: 0.5, 1: 0.5})
    write(finished, "dann", {0: 0.9, 5: 0.9})
    assert verdicts([only(tmp_path, "dann")], "floor") == {}


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
    assert [run.seed for run, _ in paired_runs(dann, dann.references["floor"])] == [1]
    assert gap_closed(dann) == pytest.approx(0.5)
    assert relative_improvement(dann) is None  # the floor is 0


def test_a_difference_that_helps_alone_may_be_undecided_among_many() -> None:
    one = [0.010, 0.020, 0.012, 0.022]  # p = 0.012
    noise = [[0.03, -0.02, 0.01, -0.03], [0.02, -0.01, -0.04, 0.02], [-0.01, 0.03, 0.01, -0.02]]
    (alone,) = judge([one])
    among = judge([one, *noise, *noise])[0]
    assert (alone.word, among.word, among.compared) == ("helps", "undecided", 7)
    assert among.p == pytest.approx(7 * alone.p)
    assert among.difference == alone.difference  # the interval stays that of the difference itself


def test_equality_is_harder_to_claim_of_many() -> None:
    near = [0.000, 0.0035, 0.0005, 0.003]
    (alone,), among = judge([near]), judge([near, [0.2, -0.1, 0.3, 0.0], [0.1, -0.1, 0.2, 0.0]])
    assert alone.word == "equal" and alone.difference.high is not None and alone.difference.high < 0.005
    assert (among[0].word, among[0].p_equal) == ("undecided", pytest.approx(3 * alone.p_equal))


@pytest.mark.slow
def test_twelve_strategies_of_pure_chance_seldom_give_a_verdict() -> None:
    random = np.random.default_rng(3)
    judged = [judge(random.normal(0, 0.02, size=(12, 3)).tolist()) for _ in range(400)]
    wrong = sum(any(each.word in ("helps", "hurts") for each in verdicts) for verdicts in judged)
    assert wrong / len(judged) < 0.08  # uncorrected, 0.46


def test_two_seeds_that_agree_to_the_row_by_chance_are_no_certainty() -> None:
    # 2 points on 200 test rows: four rows more, twice.
    assert judge([[0.02, 0.02]])[0].word == "helps"
    (found,) = judge([[0.02, 0.02]], resolution=1 / 200)
    assert found.word == "undecided"
    half = 12.7062 * 0.005 / 2**0.5
    assert (found.difference.low, found.difference.high) == pytest.approx((0.02 - half, 0.02 + half), rel=1e-4)


def test_the_families_are_of_one_reference_each(finished: Finished, tmp_path: Path) -> None:
    for labels in (5, 20):
        write(finished, "scratch", {0: 0.5, 1: 0.5}, f"data.target_labels={labels}")
        write(finished, "mmd", {0: 0.8, 1: 0.7}, f"data.target_labels={labels}")
    write(finished, "dann", {0: 0.9, 1: 0.7}, "data.target_labels=5")
    groups = group(collect([tmp_path]).runs)
    compared = {
        (each.strategy, each.settings["data.target_labels"]): verdict.compared
        for each, verdict in verdicts(groups, "scratch").items()
    }
    assert compared == {("mmd", 5): 2, ("dann", 5): 2, ("mmd", 20): 1}


def test_a_spread_below_one_test_row_is_not_believed(finished: Finished, tmp_path: Path) -> None:
    for strategy, accuracy in (("source_only", 0.5), ("dann", 0.52)):
        for seed in (0, 1):
            finished(strategy, seed=seed, accuracy=accuracy, target_test_rows_labelled=200)
    dann = only(tmp_path, "dann")
    assert verdicts([dann], "floor")[dann].word == "undecided"


RIGHT = {"source_only": ([1, 0, 0, 0], [1, 0, 0, 0]), "dann": ([1, 1, 0, 0], [1, 1, 1, 0])}
"""Which of four test rows each run gets right, by seed."""


def with_predictions(finished: Finished) -> None:
    for strategy, seeds in RIGHT.items():
        for seed, right in enumerate(seeds):
            write_outcomes(finished(strategy, seed=seed, accuracy=sum(right) / 4), right)


def test_the_interval_over_rows_is_of_the_same_difference(finished: Finished, tmp_path: Path) -> None:
    with_predictions(finished)
    dann = only(tmp_path, "dann")
    found = verdicts([dann], "floor")[dann]
    assert found.over_rows is not None
    assert (found.over_rows.mean, found.over_rows.n) == (found.difference.mean, 4) == (0.375, 4)
    # Row by row the mean differences are 0, 1, 0.5 and 0: four of them drawn again reach from 0 to 0.75.
    assert (found.over_rows.low, found.over_rows.high) == (0.0, 0.75)


@pytest.mark.parametrize("spoilt", ["missing", "cut short", "of another run", "without labels"])
def test_without_the_rows_of_every_run_there_is_no_interval_and_the_reason_is_told(
    finished: Finished, tmp_path: Path, spoilt: str
) -> None:
    with_predictions(finished)
    dann = only(tmp_path, "dann")
    folder = dann.by_seed[1].folder
    if spoilt == "missing":
        folder.predictions.unlink()
    elif spoilt == "cut short":
        write_outcomes(folder, [1, 1, 1])
    elif spoilt == "of another run":
        write_outcomes(folder, [1, 1, 0, 0])
    else:
        folder.predictions.write_text("split,row,label,prediction,confidence\ntest,0,,a,0.5\n")
    reasons = {
        "missing": f"cannot read {folder.predictions}: No such file or directory",
        "cut short": f"{dann.by_seed[0].folder.path} and {folder.path} were tested on different rows",
        "of another run": f"{folder.predictions} has an accuracy of 0.5000, the summary of 0.7500",
        "without labels": f"{dann.by_seed[0].folder.path} and {folder.path} were tested on different rows",
    }
    found = verdicts([dann], "floor")[dann]
    assert (found.over_rows, found.no_rows) == (None, reasons[spoilt])
    assert found.word == "undecided"
