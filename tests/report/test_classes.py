"""Class by class: changes against the floor, what counts as lost, and the picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.report.conftest import Finished
from tests.report.test_plots import overlapping
from tlrun.files import RunError
from tlrun.report import style
from tlrun.report.classes import change_table, class_changes, class_picture, lost_table
from tlrun.report.collect import collect
from tlrun.report.confusion import confusions
from tlrun.report.groups import Group, group

Plant = Callable[..., None]
CLASSES = ("a", "b", "c")


@pytest.fixture(autouse=True)
def styled() -> Iterator[None]:
    with style.styled():
        yield


@pytest.fixture
def plant(finished: Finished) -> Plant:
    """`plant("dann", 0, (9, 1, 5))`: of ten rows of each class so many are right under that seed."""

    def write(strategy: str, seed: int, right: tuple[int, ...], classes: tuple[str, ...] = CLASSES) -> None:
        counts = np.zeros((len(classes), len(classes)), dtype=int)
        for at, hits in enumerate(right):
            counts[at, at] = hits
            counts[at, (at + 1) % len(classes)] += 10 - hits
        finished(strategy, seed=seed).write_confusion("target", "test", classes, counts.tolist())

    return write


def groups(tmp_path: Path) -> dict[str, Group]:
    return {each.strategy: each for each in group(collect([tmp_path]).runs)}


def test_changes_are_means_over_the_seeds_that_both_have(plant: Plant, tmp_path: Path) -> None:
    plant("source_only", 0, (5, 9, 2))
    plant("source_only", 1, (7, 9, 2))
    plant("dann", 0, (9, 8, 2))
    plant("dann", 1, (9, 7, 6))
    plant("dann", 2, (0, 0, 0))  # without a floor
    found = class_changes(groups(tmp_path)["dann"])
    assert found is not None and found.seeds == (0, 1)
    assert [each.name for each in found.classes] == ["a", "b", "c"]
    assert [each.rows for each in found.classes] == [10, 10, 10]
    assert [each.before for each in found.classes] == pytest.approx([0.6, 0.9, 0.2])
    assert [each.after for each in found.classes] == pytest.approx([0.9, 0.75, 0.4])
    assert [value for each in found.classes for value in each.differences] == pytest.approx(
        [0.4, 0.2, -0.1, -0.2, 0.0, 0.4]
    )
    assert found.accuracy == pytest.approx((0.3 - 0.15 + 0.2) / 3)
    assert [each.name for each in found.lost] == ["b"]


def test_the_table_names_the_worst_class_before_and_after_and_what_rose_and_fell(plant: Plant, tmp_path: Path) -> None:
    plant("source_only", 0, (5, 9, 2))
    plant("dann", 0, (9, 8, 10))
    changes = class_changes(groups(tmp_path)["dann"])
    assert changes is not None
    table = change_table([changes])
    assert table is not None
    assert dict(zip(table.columns, table.rows[0], strict=True)) == {
        "pair": "mnist_usps",
        "strategy": "dann",
        "worst in source_only": "c 20.0",
        "worst here": "b 80.0",
        "rise most": "c +80.0, a +40.0",
        "fall most": "b -10.0",
        "fall": "1 of 3",
        "n": "1",
        "all classes": "+36.7",
    }
    assert table.words == 7  # those that name classes, and the count


def test_a_class_that_falls_while_the_mean_rises_has_a_line(plant: Plant, tmp_path: Path) -> None:
    plant("source_only", 0, (5, 9, 2))
    plant("dann", 0, (9, 8, 2))
    changes = class_changes(groups(tmp_path)["dann"])
    assert changes is not None
    table = lost_table([changes])
    assert table is not None
    assert table.rows == (("mnist_usps", "dann", "b", "1", "10", "90.0", "80.0", "-10.0", "+10.0"),)


@pytest.mark.parametrize(
    "after",
    [
        ((9, 8, 2), (9, 9, 2)),  # b falls under one seed alone
        ((5, 8, 2), (5, 8, 2)),  # no class rises, so the mean falls too
        ((5, 9, 2), (5, 9, 2)),
    ],
)
def test_a_class_that_falls_by_chance_or_with_the_others_is_not_lost(
    after: tuple[tuple[int, ...], ...], plant: Plant, tmp_path: Path
) -> None:
    for seed, right in enumerate(after):
        plant("source_only", seed, (5, 9, 2))
        plant("dann", seed, right)
    changes = class_changes(groups(tmp_path)["dann"])
    assert changes is not None and changes.lost == ()
    assert lost_table([changes]) is None


def test_a_file_that_is_missing_is_named_and_not_taken_for_rows_without_labels(
    finished: Finished, tmp_path: Path
) -> None:
    for strategy in ("source_only", "dann"):
        finished(strategy)
    gone = finished("source_only").confusion("target", "test")
    gone.unlink()
    for draw in (class_picture, confusions):
        with pytest.raises(RunError, match=f"^cannot read {gone}: No such file or directory$"):
            draw(list(groups(tmp_path).values()))
    with pytest.raises(RunError, match=f"^cannot read {gone}: No such file or directory$"):
        class_changes(groups(tmp_path)["dann"])


def test_without_a_floor_or_labels_nothing_is_said(plant: Plant, finished: Finished, tmp_path: Path) -> None:
    plant("dann", 0, (9, 8, 2))
    assert class_changes(groups(tmp_path)["dann"]) is None
    for strategy in ("source_only", "dann"):
        finished(strategy, seed=0, accuracy=None).confusion("target", "test").unlink()
    assert class_changes(groups(tmp_path)["dann"]) is None
    with pytest.raises(RunError, match="no target test row has a label"):
        class_picture(list(groups(tmp_path).values()))
    assert (change_table([]), lost_table([])) == (None, None)


def test_a_floor_tested_on_other_classes_is_refused(plant: Plant, tmp_path: Path) -> None:
    plant("source_only", 0, (5, 9), classes=("a", "b"))
    plant("dann", 0, (9, 8, 2))
    with pytest.raises(RunError, match="and its floor were tested on different classes"):
        class_changes(groups(tmp_path)["dann"])


def test_the_picture_has_a_line_for_every_class_the_floors_best_on_top(plant: Plant, tmp_path: Path) -> None:
    plant("source_only", 0, (5, 9, 2))
    plant("dann", 0, (9, 8, 2))
    axes = class_picture(list(groups(tmp_path).values())).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "a", "c"]
    points = [np.asarray(each.get_offsets()).tolist() for each in axes.collections]
    assert points[0] == pytest.approx(np.array([[90, 0], [50, 1], [20, 2]]))
    assert points[1] == pytest.approx(np.array([[80, 0], [90, 1], [20, 2]]))


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 31, 100])
def test_the_picture_is_legible_with_any_number_of_classes(count: int, plant: Plant, tmp_path: Path) -> None:
    classes = tuple(f"a long class name, number {number}" for number in range(count))
    generator = np.random.default_rng(0)
    for strategy in ("source_only", "cdan", "dann", "mmd", "mcc", "target_only"):
        plant(strategy, 0, tuple(generator.integers(0, 11, count).tolist()), classes=classes)
    figure = class_picture(list(groups(tmp_path).values()))
    assert overlapping(figure) == []
    assert len(figure.axes[0].get_yticklabels()) == min(count, 40)
    assert figure.axes[0].get_title() == ("" if count <= 40 else "the 40 of 100 classes whose accuracy differs most")
