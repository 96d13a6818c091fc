"""What each selection rule would have chosen, from the scores of every evaluation: nothing is trained again."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from tlrun import files
from tlrun.report.collect import Run
from tlrun.report.groups import data_and_budget
from tlrun.report.tables import Figure, Table, percent, without_blank

TRUTH = "target_test_accuracy"
SCORE = "score_"
LEAST = 3
"""A rank correlation of fewer evaluations or runs says nothing."""
NOTES = {
    "settings": "of data and budget; in each of them a run is chosen, and the figures are means over them",
    "run chosen": f"by the rule's score, among {LEAST} or more runs of equal data and budget; runs of equal scores count "
    "with their mean",
}
"""What a reader must know of a column, by its heading."""


@dataclass(frozen=True)
class Choice:
    """What one rule would have chosen among the evaluations of a run's last phase.

    score: the rule's, of the chosen evaluation. accuracy: target test accuracy there; regret: what the best evaluation
    had more. rank: Spearman's correlation of score and accuracy over the evaluations, in [-1, 1]; None of fewer than
    LEAST or where either does not vary.
    """

    score: float
    accuracy: float
    regret: float
    rank: float | None


@dataclass(frozen=True)
class Judged:
    """A rule over some runs of one pair that were granted equally many target labels.

    strategy: None for runs of all strategies. accuracy, regret, rank: of `Choice`, over the runs; worst: the largest
    regret. run_accuracy: where the rule itself chooses among the runs too, by its scores, what that gives, run_regret
    what is lost against the best choice, and run_rank the rank correlation over the runs. It chooses only among runs of
    equal data and budget; runs of equal scores count with their mean. settings: how many sets of such runs there are,
    those apart with fewer than LEAST runs or scores that do not vary; of several, the figures are means. None without any.
    """

    pair: str
    strategy: str | None
    labels: int | None
    rule: str
    runs: int
    accuracy: Figure
    regret: Figure
    worst: float
    rank: Figure
    settings: int
    run_accuracy: float | None
    run_regret: float | None
    run_rank: float | None


def judge(runs: Iterable[Run]) -> list[Judged]:
    """Every rule over the runs of each pair and number of target labels: of all strategies, then of each.

    A run whose metrics.csv cannot be read is left out and told on standard error; one without scores has no part in it.
    """
    read = [(run, choices(columns)) for run in runs if (columns := _columns(run)) is not None]
    found = [each for each in read if each[1]]
    judged = []
    for _, of_pair in groupby(sorted(found, key=lambda each: _pair(each[0])), key=lambda each: _pair(each[0])):
        together = list(of_pair)
        judged += _over(together, None)
        strategies = sorted({run.strategy for run, _ in together})
        for strategy in strategies if len(strategies) > 1 else ():
            judged += _over([each for each in together if each[0].strategy == strategy], strategy)
    return judged


def choices(columns: Mapping[str, Sequence[Any]]) -> dict[str, Choice]:
    """Each rule's choice from the columns of metrics.csv; rules without any score are not there.

    Of equal scores the later evaluation is chosen, as in a run.
    """
    phases, truth = columns.get("phase", ()), columns.get(TRUTH, ())
    last = [at for at, phase in enumerate(phases) if phase == phases[-1] and at < len(truth) and _is(truth[at])]
    found = {}
    for column in (name for name in columns if name.startswith(SCORE)):
        at = [each for each in last if _is(columns[column][each])]
        scores, accuracies = [columns[column][each] for each in at], [truth[each] for each in at]
        if at:
            chosen = max(range(len(at)), key=lambda each, scores=scores: (scores[each], each))  # type: ignore[misc]
            found[column.removeprefix(SCORE)] = Choice(
                score=scores[chosen],
                accuracy=accuracies[chosen],
                regret=max(truth[each] for each in last) - accuracies[chosen],
                rank=rank_correlation(scores, accuracies),
            )
    return found


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation, equal values sharing their mean rank.

    None of fewer than LEAST values, and where either does not vary.
    """
    if len(first) < LEAST or len(set(first)) == 1 or len(set(second)) == 1:
        return None
    return statistics.correlation(_ranks(first), _ranks(second))


def rule_table(judged: Sequence[Judged], *, by_strategy: bool) -> Table | None:
    """A row a rule; of all strategies together, or of each too. None where there is nothing to tell."""
    shown = [each for each in judged if each.strategy is None or by_strategy]
    rows = [
        {
            "pair": each.pair,
            "strategy": each.strategy or ("all" if by_strategy else ""),
            "rule": each.rule,
            "labels": "" if each.labels is None else str(each.labels),
            "n": str(each.runs),
            "chosen": percent(each.accuracy),
            "regret": percent(each.regret),
            "worst": f"{100 * each.worst:.2f}",
            "rank": _rank(each.rank.mean),
            "settings": "" if each.settings < 2 else str(each.settings),
            "run chosen": "" if each.run_accuracy is None else f"{100 * each.run_accuracy:.2f}",
            "its regret": "" if each.run_regret is None else f"{100 * each.run_regret:.2f}",
            "rank of runs": _rank(each.run_rank),
        }
        for each in shown
    ]
    if not rows:
        return None
    title = "Selection rules: target test accuracy in % of what each would have chosen; rank: Spearman's, score with accuracy"
    table = without_blank(Table(title, tuple(rows[0]), tuple(tuple(row.values()) for row in rows), 3, "selection"))
    return replace(table, notes=tuple(f"{column}: {NOTES[column]}" for column in table.columns if column in NOTES))


def _over(found: Sequence[tuple[Run, Mapping[str, Choice]]], strategy: str | None) -> list[Judged]:
    """Every rule that any of these runs of one pair has, best mean regret first, the oracle last."""
    pair, labels = _pair(found[0][0])
    rules = dict.fromkeys(rule for _, each in found for rule in each)
    judged = [
        _judged(rule, [(run, each[rule]) for run, each in found if rule in each], pair, labels, strategy)
        for rule in rules
    ]
    return sorted(judged, key=lambda each: (each.rule == "oracle", each.regret.mean, each.worst))


def _judged(rule: str, found: Sequence[tuple[Run, Choice]], pair: str, labels: int, strategy: str | None) -> Judged:
    made = [each for _, each in found]
    alike: dict[str, list[Choice]] = {}
    for run, choice in found:
        alike.setdefault(data_and_budget(run.settings), []).append(choice)
    among = [each for each in alike.values() if len(each) >= LEAST and len({choice.score for choice in each}) > 1]
    taken = [_run_taken(each) for each in among]
    return Judged(
        pair=pair,
        strategy=strategy,
        labels=None if labels < 0 else labels,
        rule=rule,
        runs=len(made),
        accuracy=Figure.of([each.accuracy for each in made]),
        regret=Figure.of([each.regret for each in made]),
        worst=max(each.regret for each in made),
        rank=Figure.of([each.rank for each in made if each.rank is not None]),
        settings=len(among),
        run_accuracy=_mean(accuracy for accuracy, _ in taken),
        run_regret=_mean(regret for _, regret in taken),
        run_rank=_mean(rank for each in among if (rank := _rank_of_runs(each)) is not None),
    )


def _run_taken(made: Sequence[Choice]) -> tuple[float, float]:
    """The accuracy of the run with the highest score, and what is lost against the best choice; equal scores at their mean."""
    highest = max(each.score for each in made)
    accuracy = statistics.fmean(each.accuracy for each in made if each.score == highest)
    return accuracy, max(each.accuracy + each.regret for each in made) - accuracy


def _rank_of_runs(made: Sequence[Choice]) -> float | None:
    return rank_correlation([each.score for each in made], [each.accuracy for each in made])


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return statistics.fmean(found) if found else None


def _columns(run: Run) -> dict[str, list[Any]] | None:
    try:
        return run.metrics
    except files.RunError as error:
        print(f"no selection rules and no epochs to 90 % of {run.folder.path}: {error}", file=sys.stderr)
        return None


def _pair(run: Run) -> tuple[str, int]:
    """Pair and number of target labels; -1 where that is not known."""
    labels = run.figure("rows_target_labels")
    return run.pair, -1 if labels is None else int(labels)


def _is(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _ranks(values: Sequence[float]) -> list[float]:
    places: dict[float, list[int]] = {}
    for place, value in enumerate(sorted(values)):
        places.setdefault(value, []).append(place)
    return [statistics.fmean(places[value]) for value in values]


def _rank(value: float | None) -> str:
    return "" if value is None else f"{value:+.2f}"
