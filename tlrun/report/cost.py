"""What a run's curve of target test accuracy says of its cost: how soon it came near its end, or as far as scratch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tlrun.files import RunError
from tlrun.report.collect import Run, is_number
from tlrun.report.verdicts import FIGURE

SHARE = 0.9


@dataclass(frozen=True)
class Reached:
    """The mean share of its steps, in (0, 1], after which a run was as good as another; `runs` of `of` ever were."""

    share: float | None
    runs: int
    of: int


def epochs_to_share(run: Run, *, share: float = SHARE) -> float | None:
    """The first evaluated epoch with `share` of the last evaluation's accuracy; None without an accuracy above 0.

    Epochs of the run itself: those of pretraining are not in it.
    """
    curve = _curve(run, "epoch")
    if not curve or curve[-1][1] <= 0:
        return None
    return next(epoch for epoch, accuracy in curve if accuracy >= share * curve[-1][1] - 1e-9)


def steps_to_reference(pairs: Sequence[tuple[Run, Run]]) -> Reached | None:
    """How soon runs were as good as the final model of their references, which have an accuracy: (run, reference).

    Of those whose curve can be read; None where none can.
    """
    shares = []
    read = [pair for pair in pairs if unread(pair[0]) is None]
    for run, reference in read:
        goal, curve = reference.figure(FIGURE), _curve(run, "step")
        assert goal is not None
        first = next((step for step, accuracy in curve if accuracy >= goal), None)
        if first is not None and curve[-1][0] > 0:
            shares.append(first / curve[-1][0])
    return Reached(sum(shares) / len(shares) if shares else None, len(shares), len(read)) if read else None


def unread(run: Run) -> str | None:
    """Why the curve of a run cannot be read; None where it can."""
    try:
        _ = run.metrics
    except RunError as error:
        return str(error)
    return None


def _curve(run: Run, against: str) -> list[tuple[float, float]]:
    """(epoch or step, accuracy) of every evaluation; empty where metrics.csv has none or cannot be read."""
    if unread(run) is not None:
        return []
    columns = run.metrics
    rows = zip(columns.get(against, ()), columns.get(FIGURE, ()), strict=False)
    return [(float(place), float(accuracy)) for place, accuracy in rows if is_number(place) and is_number(accuracy)]
