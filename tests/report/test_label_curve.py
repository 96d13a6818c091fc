"""Which groups make a curve over granted labels, and how many labels a method is worth."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report.conftest import Finished
from tlrun.report.collect import collect
from tlrun.report.groups import group
from tlrun.report.label_curve import Curve, Needed, label_curves, labels_needed
from tlrun.report.tables import label_tables, labels_saved

MEASURED = [(10, 0.5), (100, 0.7), (1000, 0.6), (2000, 0.9)]


def curves(tmp_path: Path) -> list[Curve]:
    return label_curves(group(collect([tmp_path]).runs))


def sweep(finished: Finished) -> None:
    finished("source_only", accuracy=0.70, rows_target_labels=0)
    finished("target_only", accuracy=0.99, rows_target_labels=5000)
    for labels, scratch, tuned in ((1, 0.60, 0.75), (10, 0.80, 0.90), (100, 0.95, 0.96)):
        grant = {"rows_target_labels": 10 * labels}
        finished("scratch", f"data.target_labels={labels}", accuracy=scratch, **grant)
        finished("fine_tune", f"data.target_labels={labels}", accuracy=tuned, **grant)


@pytest.mark.parametrize(
    ("accuracy", "labels"),
    [
        (0.5, (10, 10)),
        (0.6, (10**1.5, 10**1.5)),  # half way by logarithm, though a later point has the same
        (0.7, (100, 100)),
        (0.8, (1000 * 2 ** (2 / 3),) * 2),
        (0.9, (2000, 2000)),
        (0.91, (2000, None)),
        (0.49, (None, 10)),
    ],
)
def test_labels_are_interpolated_between_measured_ones_and_never_beyond(
    accuracy: float, labels: tuple[float | None, float | None]
) -> None:
    found = labels_needed(MEASURED, accuracy)
    assert (found.least, found.most) == pytest.approx(labels)


@pytest.mark.parametrize(
    ("needed", "told"),
    [
        (Needed(27.4, 27.4), "17"),
        (Needed(6, 6), "-4"),
        (Needed(30, None), "> 20"),
        (Needed(None, 3), "-"),
        (None, ""),
    ],
)
def test_what_is_saved_is_told_against_the_labels_that_were_granted(needed: Needed | None, told: str) -> None:
    assert labels_saved(10, needed) == told


def test_groups_that_differ_in_their_grant_alone_are_a_curve(finished: Finished, tmp_path: Path) -> None:
    sweep(finished)
    found = {each.strategy: [point.labels for point in each.points] for each in curves(tmp_path)}
    everything = [10, 100, 1000]
    assert found == {"source_only": [0], "scratch": everything, "fine_tune": everything, "target_only": [5000]}


def test_the_tables_have_a_column_a_number_of_labels(finished: Finished, tmp_path: Path) -> None:
    sweep(finished)
    accuracy, saved = label_tables(curves(tmp_path))
    assert accuracy.columns == ("pair", "strategy", "0", "10", "100", "1000", "5000")
    assert [row[1:] for row in accuracy.rows] == [
        ("source_only", "70.00", "", "", "", ""),
        ("scratch", "", "60.00", "80.00", "95.00", ""),
        ("fine_tune", "", "75.00", "90.00", "96.00", ""),
        ("target_only", "", "", "", "", "99.00"),
    ]
    # 0.70 is half way from 10 to 100 labels, 0.75 three quarters, 0.90 two thirds from 100 to 1000.
    assert [row[1:] for row in saved.rows] == [("source_only", "32", "", "", ""), ("fine_tune", "", "46", "364", "> 0")]
    assert saved.section == accuracy.section == "labels"


def test_one_grant_is_no_curve(finished: Finished, tmp_path: Path) -> None:
    finished("source_only", rows_target_labels=0)
    finished("scratch", "data.target_labels=5", rows_target_labels=50)
    finished("fine_tune", "data.target_labels=5", rows_target_labels=50)
    assert curves(tmp_path) == [] == label_tables([])


def test_what_follows_from_the_grant_tells_no_curves_apart_and_what_was_named_does(
    finished: Finished, tmp_path: Path
) -> None:
    for labels, share in (("none", "0.0"), ("5", "0.2"), ("5", "0.5"), ("20", "0.5")):
        settings = (f"data.target_labels={labels}", f"strategy.finetune_share={share}")
        finished("mmd", *settings, rows_target_labels=0 if labels == "none" else 10 * int(labels))
    found = sorted([point.labels for point in each.points] for each in curves(tmp_path))
    assert found == [[0], [50], [50, 200]]


def test_a_scratch_of_another_setting_is_not_asked(finished: Finished, tmp_path: Path) -> None:
    for labels in (5, 20):
        grant = {"rows_target_labels": 10 * labels}
        finished("scratch", f"data.target_labels={labels}", "optim.lr=0.01", **grant)
        finished("fine_tune", f"data.target_labels={labels}", "optim.lr=0.02", **grant)
    assert {point.needed for each in curves(tmp_path) for point in each.points} == {None}


def test_labels_are_saved_against_the_scratch_that_sees_the_data_alike(finished: Finished, tmp_path: Path) -> None:
    for normalize, accuracies in (("shared", (0.6, 0.8)), ("per_domain", (0.7, 0.9))):
        for labels, accuracy in zip((1, 10), accuracies, strict=True):
            own = (f"data.normalize={normalize}", f"data.target_labels={labels}")
            finished("scratch", *own, accuracy=accuracy, rows_target_labels=10 * labels)
            finished("fine_tune", *own, accuracy=0.8, rows_target_labels=10 * labels)
    needed = {
        curve.points[0].group.settings["data.normalize"]: curve.points[0].needed
        for curve in curves(tmp_path)
        if curve.strategy == "fine_tune"
    }
    assert needed["shared"] == Needed(100, 100)
    assert needed["per_domain"] is not None and needed["per_domain"].most == pytest.approx(10**1.5)
