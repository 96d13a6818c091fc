from __future__ import annotations

import dataclasses
import hashlib
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from tests.data.server import serve
from tlrun.config import ConfigError
from tlrun.data.datasets import svhn
from tlrun.data.datasets.base import DomainData, Places
from tlrun.data.datasets.svhn import FILES, Svhn
from tlrun.models.vision import import_torchvision

RANDOM = np.random.default_rng(0)
LABELS = {"train": [10, 1, 9, 3, 10], "test": [2, 10, 4]}
IMAGES = {split: RANDOM.integers(0, 256, (32, 32, 3, len(y)), dtype=np.uint8) for split, y in LABELS.items()}


def put(folder: Path, **changed: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split, name in FILES.items():
        content = {"X": IMAGES[split], "y": np.array(LABELS[split], dtype=np.uint8)[:, None]}
        if split == "train":
            content = {key: value for key, value in (content | changed).items() if value is not None}
        savemat(folder / name, content, do_compression=True)


def load(places: Places) -> DomainData:
    return Svhn(Svhn.Config(name="svhn"), places).load()


@pytest.mark.parametrize("folder", ["svhn", "SVHN", "."])
def test_rows_are_those_that_torchvision_reads(places: Places, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(places.root / folder)
    data = load(places)
    assert data.classes == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    assert data.train.y.tolist() == [0, 1, 9, 3, 0]
    import_torchvision()
    theirs = importlib.import_module("torchvision.datasets").SVHN
    monkeypatch.setattr(theirs, "_check_integrity", lambda self: True)
    for split, rows in (("train", data.train), ("test", data.test)):
        read = theirs(str(places.root / folder), split=split)
        np.testing.assert_array_equal(rows.x.transpose(0, 3, 1, 2), read.data)
        np.testing.assert_array_equal(rows.y, read.labels)


def test_the_matlab_file_is_unpacked_once_and_a_changed_one_again(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(places.root)
    first = load(places)
    with monkeypatch.context() as patched:
        patched.setattr(svhn, "read", None)
        np.testing.assert_array_equal(load(places).train.x, first.train.x)
    put(places.root, y=np.array([[1], [1], [1], [1], [2]], dtype=np.uint8))
    assert load(places).train.y.tolist() == [1, 1, 1, 1, 2]


def test_the_data_card_says_where_rows_came_from_and_that_files_are_not_the_published_ones(places: Places) -> None:
    put(places.root)
    data = load(places)
    assert data.origin == "SVHN's cropped digits (Netzer et al. 2011; for non-commercial use), without the extra split"
    md5 = {name: hashlib.md5((places.root / name).read_bytes()).hexdigest() for name in FILES.values()}
    assert data.notes[1:] == tuple(
        f"{name} is not the published file byte for byte (MD5 {md5[name]})" for name in FILES.values()
    )


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"X": None}, "it has no variable X"),
        ({"y": None}, "it has no variable y"),
        ({"X": IMAGES["train"][:16]}, "its images are uint8 (16, 32, 3, 5) for 5 labels"),
        ({"X": IMAGES["train"].astype(float)}, "its images are float64 (32, 32, 3, 5) for 5 labels"),
        ({"X": IMAGES["train"][..., :4]}, "its images are uint8 (32, 32, 3, 4) for 5 labels"),
        ({"y": np.array([[0], [1], [2], [3], [4]])}, "a label lies outside 1..10"),
    ],
    ids=["no images", "no labels", "small images", "floats", "fewer images", "label 0"],
)
def test_a_file_that_holds_something_else_is_refused(places: Places, changed: dict[str, Any], problem: str) -> None:
    put(places.root, **changed)
    with pytest.raises(ConfigError) as error:
        load(places)
    assert str(error.value) == (
        f"data.root: {places.root / 'train_32x32.mat'} is damaged or not the SVHN file that torchvision reads: "
        f"{problem}; put a sound one in its place, or remove it and add data.download=true"
    )


@pytest.mark.parametrize(
    "damage",
    [lambda content: b"no matlab file", lambda content: content[:-200], lambda _: b""],
    ids=["text", "cut off", "empty"],
)
def test_a_damaged_file_is_refused(places: Places, damage) -> None:
    put(places.root)
    path = places.root / "train_32x32.mat"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ConfigError, match=r"^data\.root: .*/train_32x32\.mat is damaged or not the SVHN file that "):
        load(places)


def test_a_download_breaks_off_and_is_taken_up(places: Places, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put(tmp_path / "there")
    files = {name: (tmp_path / "there" / name).read_bytes() for name in FILES.values()}
    import_torchvision()
    theirs = importlib.import_module("torchvision.datasets").SVHN
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve(files) as server:
        for split, name in FILES.items():
            listed = [server.address(name), name, hashlib.md5(files[name]).hexdigest()]
            monkeypatch.setitem(theirs.split_list, split, listed)
        server.cut_after = [1000]
        data = load(dataclasses.replace(places, download=True))
        assert data.test.y.tolist() == [2, 0, 4]
        assert server.asked[1] == ("train_32x32.mat", "bytes=1000-")
        assert server.names_asked == set(FILES.values()), "the extra split is not fetched"
