"""Estimated shares of classes beside the true ones and the source's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report.conftest import Finished, write_predictions
from tlrun.report.collect import collect
from tlrun.report.groups import Group, group
from tlrun.report.label_shares import estimate, share_table
from tlrun.report.tables import Table


def groups(tmp_path: Path) -> list[Group]:
    return group(collect([tmp_path]).runs)


def table(tmp_path: Path) -> Table:
    return share_table([each for one in groups(tmp_path) if (each := estimate(one))])


def plant(finished: Finished, strategy: str, *, seed: int = 0, labels: str = "b" * 3 + "a", guesses: str = "") -> None:
    """Source: half and half, each class right in 8 of 10. Target: 1/4 of a, so 1/4 * 0.8 + 3/4 * 0.2 are called a."""
    folder = finished(strategy, seed=seed)
    folder.write_confusion("source", "val", ("a", "b"), [[8, 2], [2, 8]])
    guesses = guesses or "a" * 7 + "b" * 13
    write_predictions(folder, labels * 5, guesses, [0.9] * 20)


def test_a_planted_shift_is_found_beside_the_truth_and_the_source(finished: Finished, tmp_path: Path) -> None:
    plant(finished, "source_only", seed=0)
    plant(finished, "source_only", seed=1)
    plant(finished, "dann", guesses="a" * 14 + "b" * 6)
    found = table(tmp_path)
    assert found.columns == ("pair", "strategy", "n", "a", "b", "off by")
    assert [row[1:] for row in found.rows] == [
        ("labels of source validation rows", "", "50.0", "50.0", "25.0"),
        ("labels of target test rows", "", "25.0", "75.0", ""),
        ("source_only", "2", "25.0", "75.0", "0.0"),
        ("dann", "1", "83.3", "16.7", "58.3"),
    ]


def test_without_labels_there_is_no_truth_and_nothing_to_be_off(finished: Finished, tmp_path: Path) -> None:
    plant(finished, "source_only", labels="----")
    found = table(tmp_path)
    assert found.columns == ("pair", "strategy", "n", "a", "b")
    assert [row[1] for row in found.rows] == ["labels of source validation rows", "source_only"]


def test_a_matrix_that_cannot_be_inverted_gives_the_reason_in_place_of_shares(
    finished: Finished, tmp_path: Path
) -> None:
    finished("source_only").write_confusion("source", "val", ("a", "b"), [[5, 5], [5, 5]])
    row = dict(zip(table(tmp_path).columns, table(tmp_path).rows[-1], strict=True))
    assert row["a"] == "" and row["n"] == "0"
    assert row["no estimate"].startswith("the confusion matrix is near singular: least singular value ")


def test_of_many_classes_those_are_shown_that_moved_most(finished: Finished, tmp_path: Path) -> None:
    classes = "abcdefghijkl"
    folder = finished("source_only")
    counts = [[10 if one == other else 0 for other in classes] for one in classes]
    folder.write_confusion("source", "val", tuple(classes), counts)
    rows = dict.fromkeys(classes, 12) | {"c": 12 - 10, "f": 12 + 10} | dict.fromkeys("dghijkl", 13) | {"e": 5}
    labels = "".join(name * count for name, count in rows.items())
    write_predictions(folder, labels, labels, [0.9] * len(labels), classes=classes)
    found = table(tmp_path)
    assert found.title.endswith("; the 10 of 12 classes whose share differs most")
    assert found.columns == ("pair", "strategy", "n", *"cdefghijkl", "off by")  # a and b have a twelfth in both


def test_a_run_without_source_labels_has_no_estimate(finished: Finished, tmp_path: Path) -> None:
    finished("source_only").confusion("source", "val").unlink()
    assert estimate(groups(tmp_path)[0]) is None


@pytest.mark.parametrize("classes", [("a", "b"), ("b", "a")])
def test_classes_are_matched_by_name(classes: tuple[str, str], finished: Finished, tmp_path: Path) -> None:
    plant(finished, "source_only")
    (folder,) = (run.folder for run in groups(tmp_path)[0].runs)
    folder.write_confusion("source", "val", classes, [[8, 2], [2, 8]])
    found = table(tmp_path)
    row = dict(zip(found.columns, found.rows[-1], strict=True))
    assert (row["a"], row["b"]) == ("25.0", "75.0")
