"""Whether adaptation and transfer helped: paired differences over seeds, a t interval, and a word for it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tlrun.report.groups import Group, Role

Word = Literal["helps", "hurts", "equal", "undecided"]

CONFIDENCE = 0.95
MARGIN = 0.005
"""An interval of the difference that lies within this of 0, in accuracy, counts as no difference: 0.5 points."""

FIGURE = "target_test_accuracy"


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval; low and high are None where n is 1."""

    mean: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Verdict:
    """A word, and the paired difference of target test accuracy that it rests on."""

    word: Word
    difference: Interval

    def told(self, of: Literal["adaptation", "transfer"]) -> str:
        """The word as DESIGN 8 has it: transfer that hurts is negative transfer."""
        return "negative transfer" if of == "transfer" and self.word == "hurts" else self.word


def t_interval(values: Sequence[float], *, confidence: float = CONFIDENCE) -> Interval:
    """Mean of values, n > 0, and Student's t interval of it: mean +- t * s / sqrt(n), s the sample standard deviation."""
    n, mean = len(values), statistics.fmean(values)
    if n < 2:
        return Interval(mean, None, None, n)
    from scipy.special import stdtrit

    half = float(stdtrit(n - 1, 0.5 + confidence / 2)) * statistics.stdev(values) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def judge(differences: Sequence[float], *, margin: float = MARGIN) -> Verdict | None:
    """The verdict on paired differences: equal where the interval lies within the margin, whichever side of 0 it is on.

    Otherwise helps or hurts where it lies on one side of 0, else undecided. None below two differences.
    """
    if len(differences) < 2:
        return None
    interval = t_interval(differences)
    assert interval.low is not None and interval.high is not None
    word: Word = "undecided"
    if -margin <= interval.low and interval.high <= margin:
        word = "equal"
    elif interval.low > 0:
        word = "helps"
    elif interval.high < 0:
        word = "hurts"
    return Verdict(word, interval)


def paired_differences(group: Group, reference: Group) -> list[float]:
    """Target test accuracy of the group less the reference's, seed by seed where both have one."""
    pairs = [
        (run.figure(FIGURE), reference.by_seed[seed].figure(FIGURE))
        for seed, run in group.by_seed.items()
        if seed in reference.by_seed
    ]
    return [ours - theirs for ours, theirs in pairs if ours is not None and theirs is not None]


def verdict(group: Group, role: Role) -> Verdict | None:
    """adaptation: against the floor. transfer: against scratch. None without a reference or two common seeds."""
    reference = group.references.get(role)
    return judge(paired_differences(group, reference)) if reference else None


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
