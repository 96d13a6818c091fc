from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tlrun.config import ConfigError, PairSettings
from tlrun.data.datasets.base import DomainData, Rows
from tlrun.data.split_domain import split_domain

MakeData = Callable[..., DomainData]
MakeConfig = Callable[..., PairSettings]
COUNTS = {"cat": 40, "dog": 30, "owl": 10}


def test_official_test_split_stays_whole(images: MakeData, pair_settings: MakeConfig) -> None:
    data = images(COUNTS, test={"cat": 3, "dog": 2, "owl": 1})
    domain = split_domain(data, role="source", config=pair_settings())
    assert data.test is not None
    assert domain.has_official_test
    assert np.array_equal(domain.splits["test"].x.tensor().numpy(), data.test.x)
    assert {name: len(split) for name, split in domain.splits.items()} == {"train": 64, "val": 16, "test": 6}


def test_without_official_test_split_one_is_set_aside_before_val(images: MakeData, pair_settings: MakeConfig) -> None:
    data = images(COUNTS)
    domain = split_domain(data, role="source", config=pair_settings(test_fraction=0.25, val_fraction=0.2))
    assert not domain.has_official_test
    sizes = {name: np.bincount(split.y).tolist() for name, split in domain.splits.items()}
    assert sizes == {"train": [24, 18, 6], "val": [6, 4, 2], "test": [10, 8, 2]}
    other = split_domain(data, role="source", config=pair_settings(test_fraction=0.25, val_fraction=0.4))
    assert np.array_equal(domain.splits["test"].rows, other.splits["test"].rows)


def test_splits_are_disjoint_and_hold_the_rows_they_name(images: MakeData, pair_settings: MakeConfig) -> None:
    data = images(COUNTS)
    splits = split_domain(data, role="source", config=pair_settings()).splits
    assert sorted(np.concatenate([split.rows for split in splits.values()])) == list(range(80))
    for split in splits.values():
        assert np.array_equal(split.x.tensor().numpy(), data.train.x[split.rows])
        assert np.array_equal(split.y, data.train.y[split.rows])


def test_domains_with_equal_labels_are_split_alike(images: MakeData, pair_settings: MakeConfig) -> None:
    config = pair_settings()
    source = split_domain(images(COUNTS), role="source", config=config)
    target = split_domain(images(COUNTS, channels=1), role="target", config=config)
    for name, split in source.splits.items():
        assert np.array_equal(split.rows, target.splits[name].rows)


def test_subset_is_stratified_nested_and_leaves_val_and_test_alone(images: MakeData, pair_settings: MakeConfig) -> None:
    data = images(COUNTS)
    whole, half, few = (
        split_domain(data, role="target", config=pair_settings(target_rows=rows)).splits for rows in (None, 24, 3)
    )
    assert np.bincount(half["train"].y).tolist() == [12, 9, 3]
    assert np.bincount(few["train"].y).tolist() == [1, 1, 1]
    assert set(few["train"].rows) < set(half["train"].rows) < set(whole["train"].rows)
    for name in ("val", "test"):
        assert np.array_equal(half[name].rows, whole[name].rows)


@pytest.mark.parametrize("rows", [2, 49])
def test_subset_that_cannot_be_taken_is_refused(images: MakeData, pair_settings: MakeConfig, rows: int) -> None:
    with pytest.raises(ConfigError) as caught:
        split_domain(images(COUNTS), role="source", config=pair_settings(source_rows=rows))
    assert caught.value.problems == [
        f"data.source_rows: must lie between the 3 classes and the 48 training rows of here, got {rows}; null takes all"
    ]


def test_class_without_rows_and_empty_test_split_are_told_together(images: MakeData, pair_settings: MakeConfig) -> None:
    data = images({"cat": 5, "dog": 0, "owl": 0})
    empty = Rows(data.train.x[:0], data.train.y[:0])
    with pytest.raises(ConfigError) as caught:
        split_domain(replace(data, test=empty), role="target", config=pair_settings())
    assert caught.value.problems == [
        "data.target: there has no training rows of dog, owl",
        "data.target: there has an empty test split",
    ]


def test_domain_of_one_class_is_refused(images: MakeData, pair_settings: MakeConfig) -> None:
    with pytest.raises(ConfigError) as caught:
        split_domain(images({"images": 5}), role="source", config=pair_settings())
    assert str(caught.value) == "data.source: here must have at least two classes, got images"


def test_features_that_are_not_finite_are_refused(features: MakeData, pair_settings: MakeConfig) -> None:
    data = features({"yes": 5, "no": 5})
    data.train.x[3, 1] = np.nan
    with pytest.raises(ConfigError) as caught:
        split_domain(data, role="source", config=pair_settings())
    assert str(caught.value) == "data.source: here has train features that are not finite"


@pytest.mark.parametrize(("counts", "key"), [((1, 1), "test_fraction"), ((2, 1), "val_fraction")])
def test_domain_too_small_to_set_rows_aside_is_refused(
    images: MakeData, pair_settings: MakeConfig, counts: tuple[int, int], key: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        split_domain(images(dict(zip("ab", counts, strict=True))), role="source", config=pair_settings())
    assert str(caught.value) == (
        f"data.{key}: here (source) has 2 training rows and no class of two or more, so none can be set aside"
    )


def test_class_too_small_for_a_split_stays_in_train_and_is_noted(images: MakeData, pair_settings: MakeConfig) -> None:
    domain = split_domain(images({"cat": 40, "dog": 2, "owl": 1}), role="source", config=pair_settings())
    assert np.bincount(domain.splits["train"].y).min() == 1
    assert domain.notes == ("a note", "no val rows of dog, owl", "no test rows of owl")


def test_fingerprint_follows_pixels_labels_and_names(images: MakeData, pair_settings: MakeConfig) -> None:
    def fingerprint(data: DomainData) -> str:
        return split_domain(data, role="source", config=pair_settings()).fingerprint

    data = images(COUNTS, test=COUNTS)
    prints = {
        fingerprint(data),
        fingerprint(replace(data, classes=("cat", "dog", "ox"))),
        fingerprint(replace(data, test=None)),
    }
    assert fingerprint(images(COUNTS, test=COUNTS)) in prints
    data.train.x[0, 0, 0, 0] ^= 1
    prints.add(fingerprint(data))
    data.train.y[0] = (data.train.y[0] + 1) % 3
    prints.add(fingerprint(data))
    assert len(prints) == 5


def test_nothing_holds_on_to_the_arrays_as_they_came(images: MakeData, pair_settings: MakeConfig) -> None:
    data = images(COUNTS, test=COUNTS)
    arrays = [weakref.ref(each) for rows in (data.train, data.test) if rows for each in (rows.x, rows.y)]
    domain = split_domain(data, role="source", config=pair_settings(image_size=6))
    del data
    gc.collect()
    assert domain.splits["train"].x.shape[1:] == (6, 6, 3)
    assert [each() for each in arrays] == [None] * 4
