"""Unknown labels, a source that is not there, and the transductive protocol, on domains in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tlrun.config import ConfigError, PairSettings
from tlrun.data.datasets.base import DomainData, Rows
from tlrun.data.domain import DomainPair, make_pair
from tlrun.data.faults import find_faults
from tlrun.data.split_domain import split_domain
from tlrun.verbs.data import card_lines

MakeData = Callable[..., DomainData]
MakePair = Callable[..., DomainPair]
MakeConfig = Callable[..., PairSettings]

COUNTS = {"cat": 40, "dog": 30, "owl": 20}


def hidden(data: DomainData, *, known: int = 0, classes: tuple[str, ...] | None = None) -> DomainData:
    """The domain with the labels of all but the first `known` rows unknown; without any, it names no class."""

    def rows(given: Rows | None) -> Rows | None:
        return given and Rows(given.x, np.where(np.arange(len(given)) < known, given.y, -1))

    names = classes if classes is not None else data.classes if known else ()
    train = rows(data.train)
    assert train is not None
    return replace(data, classes=names, train=train, test=rows(data.test))


def alone(target: DomainData, settings: PairSettings) -> DomainPair:
    return make_pair(None, target, settings, seed=0, device=torch.device("cpu"))


# -- unknown labels ------------------------------------------------------------------------------------------------


def test_target_without_labels_takes_the_classes_of_the_source(images: MakeData, pair_of: MakePair) -> None:
    pair = pair_of(images(COUNTS), hidden(images(COUNTS, draw=1)))
    assert pair.task.classes == tuple(COUNTS)
    for name in ("target_val", "target_test"):
        y = pair.parts[name].y
        assert y is not None
        assert (y == -1).all()
    assert pair.task.sizes["target_granted"] == 0
    assert {name: len(rows) for name, rows in pair.unknown.items()} == {
        "target_unlabelled": len(pair.parts["target_unlabelled"]),
        "target_val": len(pair.parts["target_val"]),
    }


def test_known_labels_of_a_target_are_aligned_by_name(images: MakeData, pair_of: MakePair) -> None:
    data = images({"owl": 20, "cat": 40}, draw=1)
    pair = pair_of(images(COUNTS), hidden(data, known=50))
    part = pair.parts["target_test"]
    assert part.y is not None and part.rows is not None
    rows = part.rows.numpy()
    expected = np.where(rows < 50, np.array([2, 0])[data.train.y[rows]], -1)
    assert np.array_equal(part.y.numpy(), expected)


def test_partly_labelled_target_may_lack_classes_and_may_not_have_others(images: MakeData, pair_of: MakePair) -> None:
    with pytest.raises(ConfigError) as caught:
        pair_of(images(COUNTS), hidden(images({"cat": 20, "cow": 20}), known=30))
    assert str(caught.value) == (
        "data.label_sets: closed does not allow that only there (target) has cow; "
        "set data.label_sets=open if that is meant"
    )


def test_splits_of_rows_without_labels_do_not_depend_on_labels_or_seed(
    images: MakeData, pair_settings: MakeConfig
) -> None:
    data = hidden(images(COUNTS))
    other = hidden(images({"cat": 10, "dog": 80}, draw=5))
    splits = [split_domain(each, role="target", config=pair_settings()).splits for each in (data, other)]
    for name in ("train", "val", "test"):
        assert np.array_equal(splits[0][name].rows, splits[1][name].rows)
    assert {name: len(split) for name, split in splits[0].items()} == {"train": 54, "val": 14, "test": 22}


def test_labelled_rows_stay_stratified_beside_unlabelled_ones(images: MakeData, pair_settings: MakeConfig) -> None:
    data = images(dict.fromkeys("ab", 40))
    half = replace(data, train=Rows(data.train.x, np.where(np.arange(80) % 2, data.train.y, -1)))
    known = np.bincount(half.train.y[half.train.y >= 0])
    test = split_domain(half, role="target", config=pair_settings(test_fraction=0.25)).splits["test"]
    assert np.bincount(test.y[test.y >= 0]).tolist() == [round(count / 4) for count in known]
    assert len(test) == 20


def test_grants_come_from_labelled_rows_alone(images: MakeData, pair_of: MakePair) -> None:
    data = hidden(images(COUNTS, draw=1), known=60)
    part = pair_of(images(COUNTS), data, target_labels=3).parts["target_granted"]
    assert part.rows is not None and part.y is not None
    assert (part.rows < 60).all()
    assert np.bincount(part.y.numpy()).tolist() == [3, 3, 3]
    everything = pair_of(images(COUNTS), data, target_labels="all").parts["target_granted"]
    assert everything.rows is not None
    assert (everything.rows < 60).all()
    with pytest.raises(ConfigError, match="has fewer labelled train rows than the 30 per class asked for, of cat"):
        pair_of(images(COUNTS), data, target_labels=30)


@pytest.mark.parametrize("grant", [2, "all"])
def test_nothing_can_be_granted_where_no_row_has_a_label(images: MakeData, pair_of: MakePair, grant: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        pair_of(images(COUNTS), hidden(images(COUNTS)), target_labels=grant, target_val_labels=grant)
    assert caught.value.problems == [
        "data.target_labels: no train row of there (target) has a label to grant; set none, or label some",
        "data.target_val_labels: no val row of there (target) has a label to grant; set none, or label some",
    ]


def test_source_must_be_labelled_throughout(images: MakeData, pair_of: MakePair) -> None:
    with pytest.raises(ConfigError) as caught:
        pair_of(hidden(images(COUNTS), known=80), images(COUNTS))
    assert str(caught.value) == (
        "data.source: here has 10 training rows without a label; a source must be labelled throughout"
    )


def test_card_counts_rows_without_a_label(images: MakeData, pair_of: MakePair) -> None:
    card = pair_of(images(COUNTS), hidden(images(COUNTS, draw=1))).card
    assert card["target"]["rows_without_label"] == {"train": 54, "val": 14, "test": 22}
    assert card["target"]["test_split"] == "0.25 of train, without regard to unknown labels"
    lines = [line.split() for line in card_lines(card)]
    assert ["no", "label", "0", "0", "0", "54", "14", "22"] in lines


def test_check_notes_missing_labels_and_calls_no_copy_contradicting(
    images: MakeData, pair_settings: MakeConfig
) -> None:
    data = hidden(images(COUNTS, draw=1), known=45)
    data.train.x[60:] = data.train.x[10]
    config = pair_settings()
    faults = find_faults({"target": split_domain(data, role="target", config=config)})
    told = " ".join(fault.what for fault in faults)
    assert "rows have no label; figures are over the others" in told
    assert "under another label" not in told
    nothing = find_faults({"target": split_domain(hidden(images(COUNTS)), role="target", config=config)})
    assert {fault.what for fault in nothing} == {
        f"{count} of {count} rows have no label; there will be no figures for it" for count in (54, 14, 22)
    }


# -- no source -----------------------------------------------------------------------------------------------------


def test_one_domain_has_empty_source_parts_and_its_own_classes(images: MakeData, pair_settings: MakeConfig) -> None:
    pair = alone(images(COUNTS), pair_settings(source=None, target_labels="all"))
    assert pair.task.classes == tuple(COUNTS)
    assert [len(pair.parts[f"source_{split}"]) for split in ("train", "val", "test")] == [0, 0, 0]
    assert (pair.card["source"], pair.card["pair"]) == (None, "there")
    assert len(pair.parts["target_granted"]) == len(pair.parts["target_unlabelled"]) > 0
    assert not any(line.startswith("source") for line in card_lines(pair.card))


def test_one_domain_without_labels_has_nobody_to_take_classes_from(images: MakeData, pair_settings: MakeConfig) -> None:
    with pytest.raises(ConfigError, match="there has no labels, and no source gives it classes; name one with domain@"):
        alone(hidden(images(COUNTS)), pair_settings(source=None))


# -- transductive --------------------------------------------------------------------------------------------------


def rows_of(pair: DomainPair, name: str) -> list[int]:
    rows = pair.parts[name].rows
    assert rows is not None
    return rows.tolist()


def test_transductive_target_is_training_and_test_set_in_one(images: MakeData, pair_of: MakePair) -> None:
    pair = pair_of(images(COUNTS), images(COUNTS, draw=1), protocol="transductive")
    assert rows_of(pair, "target_unlabelled") == rows_of(pair, "target_test") == list(range(90))
    assert pair.parts["target_test"].x is pair.parts["target_unlabelled"].x
    assert [len(pair.parts[name]) for name in ("target_val", "source_test")] == [0, 0]
    assert (len(pair.parts["source_val"]), len(pair.parts["source_train"])) == (18, 72)
    assert pair.parts["target_unlabelled"].y is None


def test_transductive_source_keeps_its_official_test_split(images: MakeData, pair_of: MakePair) -> None:
    pair = pair_of(images(COUNTS, test=COUNTS), images(COUNTS, draw=1, test=COUNTS), protocol="transductive")
    assert len(pair.parts["source_test"]) == 90
    assert rows_of(pair, "target_test") == list(range(180))
    assert "rows from number 90 on are those of the official test split" in pair.card["target"]["notes"]


def test_granted_rows_leave_a_transductive_test_set(images: MakeData, pair_of: MakePair) -> None:
    data = images(COUNTS, draw=1)
    pair = pair_of(images(COUNTS), data, protocol="transductive", target_labels=3, target_val_labels=2)
    parts = [set(rows_of(pair, name)) for name in ("target_granted", "target_val", "target_test")]
    assert [len(part) for part in parts] == [9, 6, 75]
    assert set.union(*parts) == set(rows_of(pair, "target_unlabelled")) == set(range(90))
    for name in ("target_granted", "target_val", "target_test"):
        part = pair.parts[name]
        assert part.y is not None and part.judged_without_labels
        assert np.array_equal(part.y.numpy(), data.train.y[rows_of(pair, name)])
        assert np.array_equal(part.x.tensor().numpy(), data.train.x[rows_of(pair, name)])
    granted = pair.parts["target_val"].granted
    assert granted is not None and bool(granted.all())


def test_grants_that_leave_no_test_row_are_refused(images: MakeData, pair_of: MakePair) -> None:
    with pytest.raises(ConfigError, match="granted rows leave the test set, and none is left"):
        pair_of(images(COUNTS), images(COUNTS), protocol="transductive", target_labels="all")


def test_card_of_a_transductive_pair_says_what_it_means(images: MakeData, pair_of: MakePair) -> None:
    card = pair_of(images(COUNTS), images(COUNTS), protocol="transductive").card
    assert card["protocol"] == "transductive"
    assert "its test rows too" in card["protocol_means"] or "its test rows" in card["protocol_means"]
    assert card["target"]["test_split"] == "the whole target, which is the train split too"
    assert card["source"]["test_split"] == "none"
    assert any(line.startswith("protocol transductive: ") for line in card_lines(card))


def test_check_takes_no_transductive_test_row_for_a_leak(images: MakeData, pair_settings: MakeConfig) -> None:
    config = pair_settings(protocol="transductive")
    faults = find_faults({"target": split_domain(images(COUNTS), role="target", config=config)})
    assert [fault for fault in faults if fault.weight == "problem"] == []
