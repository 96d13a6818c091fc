"""How soon a run came near its end, and as far as another: numbers read off curves of a few epochs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report.conftest import Finished
from tlrun.report.collect import Run, read_run
from tlrun.report.cost import Reached, epochs_to_share, steps_to_reference
from tlrun.report.groups import group
from tlrun.report.tables import lines_of, tables


def run(finished: Finished, strategy: str, curve: list[float | None], **summary: object) -> Run:
    """An evaluation every epoch of 10 steps; None where an epoch has none."""
    folder = finished(strategy, **summary)  # type: ignore[arg-type]
    rows = [{"epoch": at, "step": 10 * at, "target_test_accuracy": value} for at, value in enumerate(curve, start=1)]
    folder.write_metrics(["epoch", "step", "target_test_accuracy"], rows)
    return read_run(folder)


@pytest.mark.parametrize(
    ("curve", "epochs"),
    [
        ([0.5, 0.71, 0.72, 0.8], 3),  # 90 % of 0.8
        ([None, 0.5, None, 0.9, 0.9], 4),
        ([0.9, 0.3, 0.5], 1),
        ([0.7], 1),
        ([0.2, 0.0], None),
        ([None, None], None),
        ([], None),
    ],
)
def test_epochs_are_counted_until_an_evaluation_has_most_of_the_last_ones_accuracy(
    finished: Finished, curve: list[float | None], epochs: float | None
) -> None:
    assert epochs_to_share(run(finished, "dann", curve)) == epochs


def test_a_run_whose_metrics_cannot_be_read_has_no_epochs(finished: Finished) -> None:
    found = run(finished, "dann", [0.5])
    found.folder.metrics.write_text("epoch,step\n1")
    assert epochs_to_share(found) is None


def test_steps_are_a_share_of_the_runs_own_until_it_is_as_good_as_the_final_reference(finished: Finished) -> None:
    scratch = run(finished, "scratch", [0.9, 0.6], accuracy=0.6)
    early, late = run(finished, "mmd", [0.6, 0.7, 0.5, 0.8]), run(finished, "dann", [0.1, 0.5, 0.59, 0.6])
    never = run(finished, "mcc", [0.1, 0.5])
    assert steps_to_reference([(early, scratch)]) == Reached(0.25, 1, 1)
    assert steps_to_reference([(early, scratch), (late, scratch), (never, scratch)]) == Reached(0.625, 2, 3)
    assert steps_to_reference([(never, scratch)]) == Reached(None, 0, 1)


def test_a_run_whose_curve_is_gone_is_left_out_and_named_and_not_taken_for_one_that_never_got_there(
    finished: Finished, tmp_path: Path
) -> None:
    scratch = run(finished, "scratch", [0.9, 0.6], accuracy=0.6)
    early, gone = run(finished, "mmd", [0.6, 0.7, 0.5, 0.8]), run(finished, "dann", [0.1, 0.7])
    gone.folder.metrics.unlink()
    assert steps_to_reference([(early, scratch), (gone, scratch)]) == Reached(0.25, 1, 1)
    assert steps_to_reference([(gone, scratch)]) is None
    found = lines_of(group([scratch, early, gone]))
    why = f"cannot read {gone.folder.metrics}: No such file or directory"
    assert {line.strategy: line.unread for line in found} == {"scratch": (), "mmd": (), "dann": (why,)}
    (cost,) = (table for table in tables(found) if table.section == "cost")
    (row,) = (row for row in cost.rows if row[1] == "dann")
    assert row[cost.columns.index("steps to scratch")] == ""
    assert f"no epochs and no steps of dann: {why}" in cost.notes
    assert cost.notes[0].startswith("epochs to 90%: ")
