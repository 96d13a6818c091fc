"""Whether adaptation and transfer helped: paired differences over seeds, tests corrected for how many, a word for each."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from tlrun.files import RunError
from tlrun.report.collect import Run
from tlrun.report.groups import Group, Role
from tlrun.report.intervals import (
    CONFIDENCE,
    Interval,
    bootstrap_interval,
    difference_p,
    equivalence_p,
    holm,
    t_interval,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Word = Literal["helps", "hurts", "equal", "undecided"]

MARGIN = 0.005
"""A difference surely within this of 0, in accuracy, counts as none: 0.5 points."""

FIGURE = "target_test_accuracy"


@dataclass(frozen=True)
class Verdict:
    """A word, and the paired differences of target test accuracy that it rests on, two or more.

    difference: with its own 95 % interval over seeds, which no correction widens. p, p_equal: of the tests that it is 0,
    and that it is MARGIN or more; corrected over the `compared` strategies that were held against the same reference.
    over_rows: the interval of the same difference that drawing the test rows again gives, n the rows; None for the reason
    that no_rows gives.
    """

    word: Word
    difference: Interval
    p: float
    p_equal: float
    compared: int
    over_rows: Interval | None = None
    no_rows: str | None = None

    def told(self, of: Literal["adaptation", "transfer"]) -> str:
        """The word as DESIGN 8 has it: transfer that hurts is negative transfer."""
        return "negative transfer" if of == "transfer" and self.word == "hurts" else self.word


def judge(compared: Sequence[Sequence[float]], *, resolution: float = 0.0, margin: float = MARGIN) -> list[Verdict]:
    """The verdict on each strategy's paired differences, two or more, to a reference that all of these share.

    Equal where the test of equivalence finds the difference within the margin, whichever side of 0 it is on; otherwise
    helps or hurts, by its sign, where the paired t-test finds one; else undecided. Both tests are at 0.05 and corrected by
    Holm over the strategies: that any of those called helps or hurts is so by luck has a probability of 0.05 at most, and
    that any of those called equal is. With one strategy, the word is where its 95 % t interval lies.
    resolution: the smallest difference that there can be, one test row. Spread below it cannot be seen, so that much is
    always assumed: otherwise two seeds that agree to the row by chance would pass for certainty.
    """
    p = holm([difference_p(each, least_deviation=resolution) for each in compared])
    p_equal = holm([equivalence_p(each, margin=margin, least_deviation=resolution) for each in compared])
    words = [_word(statistics.fmean(each), p[at], p_equal[at]) for at, each in enumerate(compared)]
    intervals = [t_interval(each, least_deviation=resolution) for each in compared]
    return [Verdict(words[at], intervals[at], p[at], p_equal[at], len(compared)) for at in range(len(compared))]


def verdicts(groups: Sequence[Group], role: Role) -> dict[Group, Verdict]:
    """The groups against their floor (adaptation) or scratch (transfer), as far as they have two seeds in common with it."""
    families: dict[Group, dict[Group, list[tuple[Run, Run]]]] = {}
    for group in groups:
        reference = group.references.get(role)
        if reference is not None and len(pairs := paired_runs(group, reference)) > 1:
            families.setdefault(reference, {})[group] = pairs
    found: dict[Group, Verdict] = {}
    for family in families.values():
        rows = [run.figure("target_test_rows_labelled") for group in family for run in group.runs]
        resolution = max((1 / each for each in rows if each), default=0.0)
        judged = judge([_differences(pairs) for pairs in family.values()], resolution=resolution)
        for (group, pairs), verdict in zip(family.items(), judged, strict=True):
            try:
                found[group] = replace(verdict, over_rows=_over_rows(pairs))
            except RunError as error:
                found[group] = replace(verdict, no_rows=str(error))
    return found


def paired_runs(group: Group, reference: Group) -> list[tuple[Run, Run]]:
    """The runs of the group, each with the reference's of the same seed, where both have a target test accuracy."""
    both = [(run, reference.by_seed[seed]) for seed, run in group.by_seed.items() if seed in reference.by_seed]
    return [pair for pair in both if all(run.figure(FIGURE) is not None for run in pair)]


def _differences(pairs: Sequence[tuple[Run, Run]]) -> list[float]:
    return [_accuracy(run) - _accuracy(reference) for run, reference in pairs]


def _accuracy(run: Run) -> float:
    value = run.figure(FIGURE)
    assert value is not None
    return value


def _word(mean: float, p: float, p_equal: float) -> Word:
    alpha = 1 - CONFIDENCE
    if p_equal <= alpha:
        return "equal"
    if p <= alpha:
        return "helps" if mean > 0 else "hurts"
    return "undecided"


def _over_rows(pairs: Sequence[tuple[Run, Run]]) -> Interval:
    """Raises RunError where the predictions of a run cannot be had, or not all runs were tested on the same rows."""
    import numpy as np

    first = pairs[0][0]
    if not (rows := _labelled_rows(first)):
        raise RunError(f"{first.folder.predictions} has no labelled test row")
    for run in (run for pair in pairs for run in pair):
        if _labelled_rows(run) != rows:
            raise RunError(f"{first.folder.path} and {run.folder.path} were tested on different rows")
    totals = np.sum([_right(run) - _right(reference) for run, reference in pairs], axis=0)
    return bootstrap_interval(totals, runs=len(pairs))


def _labelled_rows(run: Run) -> list[tuple[int, str]]:
    """Number and label of each."""
    found = run.predicted
    labels = zip(found.row.tolist(), found.label.tolist(), strict=True)
    return [(row, found.classes[label]) for row, label in labels if label >= 0]


def _right(run: Run) -> NDArray[np.int64]:
    """1 for each labelled row that it predicts right, 0 for the others. Raises RunError where its summary says otherwise."""
    found = run.predicted
    right: NDArray[np.int64] = (found.label == found.prediction)[found.label >= 0].astype("int64")
    if abs(right.mean() - _accuracy(run)) > 1e-6:
        raise RunError(
            f"{run.folder.predictions} has an accuracy of {right.mean():.4f}, the summary of {_accuracy(run):.4f}"
        )
    return right


def gap_closed(group: Group) -> float | None:
    """(run - floor) / (ceiling - floor) of the means over the seeds that all three have.

    0: no better than the floor; 1: as good as with all target labels. None where one of them is missing, or the
    ceiling is not above the floor, and under a transductive protocol, whose ceiling would train on its test rows.
    """
    if group.settings.get("data.protocol") == "transductive":
        return None
    floor, ceiling = group.references.get("floor"), group.references.get("ceiling")
    if floor is None or ceiling is None:
        return None
    means = _common_means(group, floor, ceiling)
    if means is None or means[2] <= means[1]:
        return None
    return (means[0] - means[1]) / (means[2] - means[1])


def relative_improvement(group: Group) -> float | None:
    """(run - floor) / floor of the means over common seeds; None without a floor, or where the floor is 0."""
    floor = group.references.get("floor")
    means = _common_means(group, floor) if floor else None
    return None if means is None or means[1] == 0 else (means[0] - means[1]) / means[1]


def _common_means(*groups: Group) -> list[float] | None:
    common = [seed for seed in groups[0].seeds if all(seed in each.by_seed for each in groups)]
    # A seed counts where all have the figure, so that the means are over the same draws.
    common = [seed for seed in common if all(each.by_seed[seed].figure(FIGURE) is not None for each in groups)]
    return [statistics.fmean(each.figures(FIGURE, common)) for each in groups] if common else None
