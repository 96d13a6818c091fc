"""The clock: phases in whole epochs, and the moment that a step is."""

from __future__ import annotations

import pytest

from tlrun.config import ConfigError
from tlrun.engine.plan import lay_out
from tlrun.strategies.base import Phase


def epochs_of(shares: list[float], epochs: int) -> list[int]:
    phases = [Phase(f"p{number}", share) for number, share in enumerate(shares)]
    return [stretch.epochs for stretch in lay_out(phases, epochs=epochs, steps_per_epoch=3).stretches]


@pytest.mark.parametrize(
    ("shares", "epochs", "expected"),
    [
        ([1.0], 7, [7]),
        ([0.8, 0.2], 10, [8, 2]),
        ([1.0, 1.0, 1.0], 10, [3, 4, 3]),
        ([0.99, 0.01], 3, [2, 1]),
        ([0.01, 0.99], 3, [1, 2]),
        ([0.01, 0.01, 0.98], 3, [1, 1, 1]),
    ],
)
def test_phases_share_the_epochs_and_each_gets_at_least_one(
    shares: list[float], epochs: int, expected: list[int]
) -> None:
    assert epochs_of(shares, epochs) == expected


def test_every_split_of_shares_uses_all_epochs() -> None:
    for epochs in range(4, 30):
        for first in (0.0, 0.1, 0.37, 0.9):
            shared = epochs_of([first, 0.2, 0.3, 0.05], epochs)
            assert sum(shared) == epochs and min(shared) >= 1


def test_more_phases_than_epochs_are_refused_by_name() -> None:
    with pytest.raises(ConfigError) as error:
        lay_out([Phase("head"), Phase("all")], epochs=1, steps_per_epoch=5)
    assert error.value.problems == [
        "engine.epochs: must be at least 2, one for each phase of the strategy (head, all), got 1"
    ]


def test_progress_runs_from_nothing_to_all_within_run_and_phase() -> None:
    plan = lay_out([Phase("first", 0.5), Phase("second", 0.5)], epochs=4, steps_per_epoch=5)
    start, middle, end = plan.progress(0, 0), plan.progress(1, 0), plan.progress(1, 10)
    assert (start.step, start.fraction, start.phase_fraction, start.phase) == (0, 0.0, 0.0, "first")
    assert (middle.step, middle.fraction, middle.phase_fraction, middle.epoch) == (10, 0.5, 0.0, 2)
    assert (end.step, end.fraction, end.phase_fraction, end.phase) == (20, 1.0, 1.0, "second")


def test_a_phase_begins_at_its_planned_step_however_short_the_one_before_was() -> None:
    plan = lay_out([Phase("first"), Phase("second")], epochs=10, steps_per_epoch=2)
    assert plan.progress(1, 3).step == plan.stretches[0].steps + 3
