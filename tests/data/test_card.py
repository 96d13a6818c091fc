from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from tlrun.config import PairSettings
from tlrun.data.card import fingerprint_pair
from tlrun.data.datasets.base import DomainData
from tlrun.data.domain import DomainPair
from tlrun.data.split_domain import split_domain

MakeData = Callable[..., DomainData]
MakeConfig = Callable[..., PairSettings]
MakePair = Callable[..., DomainPair]

COUNTS = {"cat": 40, "dog": 30, "owl": 20}


def test_card_is_plain_and_tells_what_was_done(images: MakeData, pair_of: MakePair) -> None:
    pair = pair_of(
        images(COUNTS, channels=1, size=6),
        images(COUNTS, draw=1, test=COUNTS),
        image_size=8,
        target_labels=2,
        target_val_labels="all",
    )
    card = json.loads(json.dumps(pair.card))
    assert card == pair.card
    assert card["fingerprint"] == pair.fingerprint
    assert card["input_shape"] == [3, 8, 8]
    source, target = card["source"], card["target"]
    assert source["rows_per_class"] == {
        "train": {"cat": 24, "dog": 18, "owl": 12},
        "val": {"cat": 6, "dog": 5, "owl": 3},
        "test": {"cat": 10, "dog": 7, "owl": 5},
    }
    assert (source["test_split"], target["test_split"]) == ("0.25 of train, stratified", "official")
    assert (source["shape_before"], source["shape_after"]) == ([6, 6, 1], [8, 8, 1])
    assert source["fitting"] == "antialiased bilinear resize from 6x6 to 8x8, grey repeated in three channels"
    assert target["labels_used"] == {"training": 6, "selection": 18}
    assert target["origin"] == "drawn at random"
    assert target["notes"] == ["a note"]
    assert target["normalized_by_mean"] == source["normalized_by_mean"] == source["train_mean"] * 3
    assert len(source["fingerprint"]) == 64
    assert json.loads(json.dumps(pair.inputs()))["target"]["fitting"] == "size as it came, 8x8"


def test_fingerprint_follows_data_and_splits(images: MakeData, pair_of: MakePair) -> None:
    source, target = images(COUNTS), images(COUNTS, draw=1)
    prints = {
        pair_of(source, target).fingerprint,
        pair_of(target, source).fingerprint,
        pair_of(source, target, val_fraction=0.3).fingerprint,
        pair_of(source, target, target_rows=20).fingerprint,
    }
    target.train.x[5, 2, 2, 0] ^= 1
    prints.add(pair_of(source, target).fingerprint)
    assert len(prints) == 5


def test_fingerprint_follows_the_rows_of_each_split(images: MakeData, pair_settings: MakeConfig) -> None:
    source, target = (split_domain(images(COUNTS), role=role, config=pair_settings()) for role in ("source", "target"))
    prints = {fingerprint_pair(source, target), fingerprint_pair(source, target)}
    for name, split in target.splits.items():
        other = replace(target, splits={**target.splits, name: replace(split, rows=split.rows + 1)})
        prints.add(fingerprint_pair(source, other))
    assert len(prints) == 4
