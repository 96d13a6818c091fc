"""Faults planted in small domains are found, named, and weighed; sound domains have none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

from tests.data.file_trees import damage, save_classes, save_image
from tlrun.config import PairSettings
from tlrun.data.datasets.base import DomainData, Places, Rows
from tlrun.data.datasets.folder import Folder
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


@pytest.fixture
def find_in_files(tmp_path: Path, pair_settings: Callable[..., PairSettings]) -> Callable[..., list[Fault]]:
    """The faults of two folders of image files, `here` and `there`."""

    def find(**changes: Any) -> list[Fault]:
        config = pair_settings(image_size=14, cache_root=str(tmp_path / "cache"), **changes)
        domains = {}
        for role, name in (("source", "here"), ("target", "there")):
            settings = Folder.Config(name="folder", title=None, root=name)
            data = Folder(settings, Places(tmp_path, tmp_path / "cache", False)).load()
            domains[role] = split_domain(data, role=role, config=config, keep_bad=True)
        return find_faults(domains, config.label_sets)

    return find


def test_sound_folders_have_no_faults(tmp_path: Path, find_in_files: Callable[..., list[Fault]]) -> None:
    for draw, name in enumerate(("here", "there")):
        save_classes(tmp_path / name, 10, draw=draw)
    assert find_in_files() == []


def test_damaged_empty_tiny_and_copied_files_are_all_named(
    tmp_path: Path, find_in_files: Callable[..., list[Fault]]
) -> None:
    for draw, name in enumerate(("here", "there")):
        save_classes(tmp_path / name, 10, draw=draw)
    damage(tmp_path / "here" / "cat" / "000.png")
    damage(tmp_path / "here" / "cat" / "001.png")
    (tmp_path / "here" / "owl" / "002.png").write_bytes(b"")
    save_image(tmp_path / "there" / "dog" / "tiny.png", side=5)
    save_image(tmp_path / "there" / "dog" / "grey.png").write_bytes((tmp_path / "here/owl/009.png").read_bytes())
    Image.new("RGB", (24, 24), "black").save(tmp_path / "there" / "cat" / "black.png")
    found = {(name, fault.what.partition(":")[0]) for fault in find_in_files() for name in fault.files}
    told = {name: {what for each, what in found if each == name} for name, _ in found}
    assert {"cat/000.png", "cat/001.png", "owl/002.png", "dog/tiny.png", "dog/grey.png", "cat/black.png"} == set(told)
    assert all("give no image" in what for name in ("cat/000.png", "cat/001.png", "owl/002.png") for what in told[name])
    assert told["dog/tiny.png"] == {"1 images are below 8 pixels (5 the smallest), and enlarged"}
    assert told["cat/black.png"] == {"1 images of one value throughout"}
    assert len(told["dog/grey.png"]) == 1 and "1 rows stand in here (source)" in next(iter(told["dog/grey.png"]))


def test_every_damaged_file_is_named_however_many_they_are(
    tmp_path: Path, find_in_files: Callable[..., list[Fault]]
) -> None:
    for draw, name in enumerate(("here", "there")):
        save_classes(tmp_path / name, 10, draw=draw)
    bad = {f"owl/{number:03}.png" for number in range(10)}
    for name in bad:
        damage(tmp_path / "there" / name)
    faults = [fault for fault in find_in_files() if "give no image" in fault.what]
    assert {name for fault in faults for name in fault.files} == bad
    assert not any(fault.more for fault in faults)


def test_of_other_faults_the_first_are_named_and_more_is_said(
    tmp_path: Path, find_in_files: Callable[..., list[Fault]]
) -> None:
    for draw, name in enumerate(("here", "there")):
        save_classes(tmp_path / name, 20, draw=draw)
    for path in sorted((tmp_path / "here").rglob("*.png"))[:30]:
        Image.new("RGB", (24, 24), "black").save(path)
    faults = [fault for fault in find_in_files() if "one value" in fault.what]
    counts = [int(fault.what.split()[0]) for fault in faults]
    assert max(counts) > 5
    assert [(len(fault.files), fault.more) for fault in faults] == [(min(count, 5), count > 5) for count in counts]


def test_classes_of_one_side_are_told(tmp_path: Path, find_in_files: Callable[..., list[Fault]]) -> None:
    save_classes(tmp_path / "here", 10)
    save_classes(tmp_path / "there", 10, names=("cat", "dog"), draw=1)
    (closed,) = find_in_files()
    assert (closed.weight, closed.where) == ("problem", "classes") and "only here (source) has owl" in closed.what
    (partial,) = find_in_files(label_sets="partial")
    assert (partial.weight, partial.what) == ("note", "there (target) has no rows of owl")
