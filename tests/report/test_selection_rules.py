"""What each selection rule would have chosen: worked out by hand, and the same as what runs did choose."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from scipy.stats import spearmanr

from tests.report.conftest import Finished
from tlrun.cli import main
from tlrun.report.collect import collect
from tlrun.report.selection_rules import Choice, Judged, choices, judge, rank_correlation
from tlrun.report.tables import Figure
from tlrun.run import RunFolder

COLUMNS = ["epoch", "phase", "target_test_accuracy", "score_source_val", "score_feature_mmd", "score_oracle"]
NAN = float("nan")


def columns(**changed: list[object]) -> dict[str, list[object]]:
    made: dict[str, list[object]] = {
        "phase": ["adapt", "tune", "tune", "tune", "tune"],
        "target_test_accuracy": [0.9, 0.5, 0.8, 0.7, 0.6],
        "score_source_val": [9.0, 0.1, 0.2, 0.4, 0.4],
        "score_target_val": [NAN] * 5,
    }
    return made | changed


def test_the_later_of_equal_scores_in_the_last_phase_is_chosen() -> None:
    (rule, choice), *others = choices(columns()).items()
    assert (rule, others) == ("source_val", [])
    assert (choice.score, choice.accuracy, choice.regret) == (0.4, 0.6, pytest.approx(0.2))
    assert choice.rank == pytest.approx(spearmanr([0.1, 0.2, 0.4, 0.4], [0.5, 0.8, 0.7, 0.6]).statistic)


def test_evaluations_without_a_score_are_not_chosen_but_count_for_the_best() -> None:
    choice = choices(columns(score_source_val=[9.0, 0.1, NAN, NAN, 0.05]))["source_val"]
    assert choice == Choice(score=0.1, accuracy=0.5, regret=pytest.approx(0.3), rank=None)


def test_evaluations_left_out_are_no_rows() -> None:
    every_second = columns(target_test_accuracy=[NAN, 0.5, NAN, 0.7, NAN])
    assert choices(every_second)["source_val"].accuracy == 0.7


@pytest.mark.parametrize(
    ("first", "second"),
    [([1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 4.0, 3.0]), ([1.0, 1.0, 2.0, 0.0, 5.0], [3.0, 3.0, 3.0, 9.0, 1.0])],
)
def test_rank_correlation_is_that_of_scipy(first: list[float], second: list[float]) -> None:
    assert rank_correlation(first, second) == pytest.approx(spearmanr(first, second).statistic)


def test_nothing_is_said_of_two_values_or_of_equal_ones() -> None:
    assert rank_correlation([1.0, 2.0], [1.0, 2.0]) is None
    assert rank_correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None


@pytest.fixture
def sweep(finished: Finished) -> Callable[[], list[RunFolder]]:
    """Three seeds of two strategies, of which the second is better in the end and worse by source validation."""

    def write() -> list[RunFolder]:
        folders = []
        for strategy, level in (("source_only", 0.0), ("dann", 0.2)):
            for seed in (0, 1, 2):
                folder = finished(strategy, seed=seed)
                truth = [0.3 + level, 0.5 + level + 0.01 * seed, 0.4 + level]
                scores = [[0.7, 0.8, 0.9 - level], [-3.0, -1.0, -2.0], truth]
                rows = [
                    dict(
                        zip(COLUMNS, (epoch + 1, "only", truth[epoch], *(each[epoch] for each in scores)), strict=True)
                    )
                    for epoch in range(3)
                ]
                folder.write_metrics(COLUMNS, rows)
                folders.append(folder)
        return folders

    return write


def found(path: Path) -> dict[tuple[str | None, str], Judged]:
    return {(each.strategy, each.rule): each for each in judge(collect([path]).runs)}


def test_rules_are_judged_over_all_runs_and_over_each_strategy(
    sweep: Callable[[], list[RunFolder]], tmp_path: Path
) -> None:
    sweep()
    judged = found(tmp_path)
    assert [rule for strategy, rule in judged if strategy is None] == ["feature_mmd", "source_val", "oracle"]
    floor = judged["source_only", "source_val"]
    assert (floor.runs, floor.worst, floor.accuracy.mean) == (3, pytest.approx(0.12), pytest.approx(0.4))
    assert floor.regret.mean == pytest.approx(0.11)
    assert floor.rank == Figure(pytest.approx(0.5), pytest.approx(0.0, abs=1e-9), 3)
    assert (floor.run_accuracy, floor.run_rank) == (None, None)  # three equal scores
    together = judged[None, "source_val"]
    assert together.runs == 6
    assert (together.run_accuracy, together.run_regret) == (pytest.approx(0.4), pytest.approx(0.72 - 0.4))
    assert together.run_rank is not None and together.run_rank < 0
    assert judged[None, "oracle"].regret.mean == judged[None, "oracle"].worst == 0
    assert judged[None, "oracle"].run_rank == pytest.approx(1)


def test_runs_with_more_target_labels_are_judged_apart(finished: Finished, tmp_path: Path) -> None:
    for labels in (0, 100):
        folder = finished("dann", f"seed={labels}", seed=labels, rows_target_labels=labels)
        folder.write_metrics(COLUMNS[:4], [dict(zip(COLUMNS, (1, "only", 0.5, 0.5), strict=False))])
    assert [(each.labels, each.runs) for each in judge(collect([tmp_path]).runs)] == [(0, 1), (100, 1)]


def write(folder: RunFolder, *, score: float, accuracy: float) -> None:
    folder.write_metrics(COLUMNS[:4], [dict(zip(COLUMNS, (1, "only", accuracy, score), strict=False))])


def test_a_run_is_chosen_only_among_runs_of_equal_data_and_budget(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {(): 0.0, ("engine.epochs=77",): 0.2, ("data.target.rotation=30",): 0.3, ("data.val_fraction=0.3",): 0.5}
    for more, above in settings.items():
        for number, rate in enumerate(("0.1", "0.2", "0.3")):
            folder = finished("dann", *(more or ()), "data=moons", f"optim.lr={rate}", "engine.precision=fp32")
            write(folder, score=above - number, accuracy=0.1 + above + 0.1 * number)
    rule = found(tmp_path)[None, "source_val"]
    # Among all of them the run with 0.6 would be taken, and 0.2 lost.
    assert (rule.runs, rule.settings) == (12, 4)
    assert (rule.run_accuracy, rule.run_regret) == (pytest.approx(0.35), pytest.approx(0.2))
    assert rule.run_rank == pytest.approx(-1)
    assert main(["report", str(tmp_path), "--no-plots"]) == 0
    shown = capsys.readouterr().out
    assert "settings: of data and budget; in each of them a run is chosen, and the figures are means over them" in shown
    assert (
        "run chosen: by the rule's score, among 3 or more runs of equal data and budget; runs of equal scores" in shown
    )


def test_runs_of_equal_scores_count_with_their_mean(finished: Finished, tmp_path: Path) -> None:
    for seed, (score, accuracy) in enumerate([(1.0, 0.4), (1.0, 0.8), (0.5, 0.9)]):
        write(finished("dann", seed=seed), score=score, accuracy=accuracy)
    rule = found(tmp_path)[None, "source_val"]
    assert (rule.settings, rule.run_accuracy, rule.run_regret) == (1, pytest.approx(0.6), pytest.approx(0.3))


def test_the_report_shows_them_together_and_apart_where_asked(
    sweep: Callable[[], list[RunFolder]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep()
    assert main(["report", str(tmp_path), "--no-plots"]) == 0
    shown = capsys.readouterr().out
    assert "Selection rules: target test accuracy in %" in shown
    (line,) = [each for each in shown.splitlines() if each.split()[:1] == ["source_val"]]
    assert line.split() == [*("source_val", "0", "6", "55.50", "±", "16.99", "5.50", "±", "6.06"),
                            *("12.00", "+0.68", "40.00", "32.00", "-0.93")]  # fmt: skip
    assert main(["report", str(tmp_path), "--no-plots", "--rules"]) == 0
    assert sum("source_val" in each for each in capsys.readouterr().out.splitlines()) == 3 + 1  # one of the selection
    assert main(["report", str(tmp_path), "--no-plots", "--json", "-"]) == 0
    rules = json.loads(capsys.readouterr().out)["selection_rules"]
    assert [(each["strategy"], each["rule"]) for each in rules][:3] == [
        *((None, "feature_mmd"), (None, "source_val"), (None, "oracle"))
    ]


def test_a_run_whose_metrics_are_gone_is_told_and_left_out(
    sweep: Callable[[], list[RunFolder]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = sweep()[0]
    folder.metrics.unlink()
    assert found(tmp_path)[None, "feature_mmd"].runs == 5
    assert (
        f"no selection rules and no epochs to 90 % of {folder.path}: cannot read {folder.metrics}"
        in capsys.readouterr().err
    )
