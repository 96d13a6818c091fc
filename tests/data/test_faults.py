"""Faults planted in small domains are found, named, and weighed; sound domains have none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import pytest

from tlrun.data.datasets.base import DomainData, Rows
from tlrun.data.faults import Fault, find_faults
from tlrun.data.split_domain import split_domain
from tlrun.data.survey import row_digests

COUNTS = {"cat": 20, "dog": 20}
Find = Callable[..., list[Fault]]


@pytest.fixture
def find(pair_settings: Callable[..., object]) -> Find:
    """The faults of two domains in memory."""

    def find(source: DomainData, target: DomainData) -> list[Fault]:
        config = pair_settings()
        roles: Mapping[Literal["source", "target"], DomainData] = {"source": source, "target": target}
        return find_faults({role: split_domain(data, role=role, config=config) for role, data in roles.items()})

    return find


def changed(data: DomainData, split: str, **arrays: np.ndarray) -> DomainData:
    """The domain with other arrays in one split."""
    rows: Rows = getattr(data, split)
    new = Rows(arrays.get("x", rows.x), arrays.get("y", rows.y))
    parts = {"train": data.train, "test": data.test, split: new}
    return DomainData(data.classes, parts["train"], parts["test"], data.origin)


def test_sound_domains_have_no_faults(images: Callable[..., DomainData], find: Find) -> None:
    assert find(images(COUNTS, test=COUNTS), images(COUNTS, test=COUNTS, draw=1)) == []


def test_a_test_row_that_stands_in_train_is_a_problem(images: Callable[..., DomainData], find: Find) -> None:
    target = images(COUNTS, test=COUNTS, draw=1)
    x = target.test.x.copy()
    x[7] = target.train.x[3]
    (fault,) = find(images(COUNTS, test=COUNTS), changed(target, "test", x=x))
    assert (fault.weight, fault.where, fault.rows) == ("problem", "there (target), test", (7,))
    assert fault.what in (f"1 rows stand in there (target), {name} too" for name in ("train", "val"))


@pytest.mark.parametrize(("split", "weight"), [("train", "problem"), ("test", "note")])
def test_rows_of_one_domain_that_stand_in_the_other_are_worse_where_they_are_trained_on(
    split: str, weight: str, images: Callable[..., DomainData], find: Find, pair_settings: Callable[..., object]
) -> None:
    source, target = images(COUNTS, test=COUNTS), images(COUNTS, test=COUNTS, draw=1)
    row = split_domain(source, role="source", config=pair_settings()).splits[split].rows[0]
    x = target.test.x.copy()
    x[6] = getattr(source, split).x[row]
    (fault,) = find(source, changed(target, "test", x=x))
    what = f"1 rows stand in here (source), {split} too"
    assert fault == Fault(weight, "there (target), test", what, (6,))


def test_copies_in_a_split_are_a_note_and_under_another_label_a_problem(
    images: Callable[..., DomainData], find: Find
) -> None:
    target = images(COUNTS, test=COUNTS, draw=1)
    x, y = target.test.x.copy(), target.test.y
    first, same = np.flatnonzero(y == 0)[:2]
    other = np.flatnonzero(y == 1)[-1]
    x[same] = x[first]
    x[other] = x[first]
    faults = find(images(COUNTS, test=COUNTS), changed(target, "test", x=x))
    assert {(each.weight, each.what) for each in faults} == {
        ("problem", "1 rows repeat another one under another label"),
        ("note", "2 rows repeat another one of the split"),
    }
    assert faults[0].weight == "problem"


def test_images_of_one_value_are_a_problem(images: Callable[..., DomainData], find: Find) -> None:
    source = images(COUNTS, test=COUNTS)
    x = source.test.x.copy()
    x[[4, 9]] = np.array([0, 200], dtype=np.uint8)[:, None, None, None]
    (fault,) = find(changed(source, "test", x=x), images(COUNTS, test=COUNTS, draw=1))
    assert fault == Fault("problem", "here (source), test", "2 images of one value throughout", (4, 9))


def test_a_class_missing_from_a_split_is_a_problem(images: Callable[..., DomainData], find: Find) -> None:
    source = images(COUNTS, test=COUNTS)
    faults = find(changed(source, "test", y=np.zeros(40, dtype=np.int64)), images(COUNTS, test=COUNTS, draw=1))
    assert faults == [Fault("problem", "here (source), test", "no rows of dog")]


@pytest.mark.parametrize(("many", "told"), [(199, False), (400, True)])
def test_imbalance_is_a_note_from_ten_times_on(
    many: int, told: bool, images: Callable[..., DomainData], find: Find
) -> None:
    source = images({"cat": 20, "dog": many}, test=COUNTS)
    faults = find(source, images(COUNTS, test=COUNTS, draw=1))
    assert [each.weight for each in faults] == (["note"] if told else [])
    assert not told or faults[0].what == (
        "class dog has 20 times the rows of cat (320 and 16); read macro-F1 beside accuracy"
    )


def test_domains_of_other_shapes_are_not_compared_and_features_are(
    features: Callable[..., DomainData], find: Find
) -> None:
    source, target = features(COUNTS), features(COUNTS, columns=5, draw=1)
    assert find(source, target) == []
    assert {each.weight for each in find(source, source)} == {"problem", "note"}


def test_equal_rows_have_equal_digests_and_one_bit_makes_another() -> None:
    x = np.zeros((3, 5, 7, 1), dtype=np.uint8)
    x[2, 4, 6, 0] = 1
    first, second, third = row_digests(x)
    assert first == second != third
