from __future__ import annotations

import dataclasses
import gzip
import hashlib
import importlib
import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.data.server import serve
from tlrun.config import ConfigError
from tlrun.data.datasets import emnist_digits
from tlrun.data.datasets.base import DomainData, Places
from tlrun.data.datasets.emnist_digits import EmnistDigits
from tlrun.models.vision import import_torchvision

RANDOM = np.random.default_rng(0)
ROWS = {split: (RANDOM.integers(0, 256, (n, 28, 28)), np.arange(n) % 10) for split, n in (("train", 12), ("test", 4))}


def idx(array: np.ndarray) -> bytes:
    return (
        bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}i", *array.shape) + array.astype(np.uint8).tobytes()
    )


def members(**changed: np.ndarray) -> dict[str, bytes]:
    """The archive's files of the digits, and one of another split, which nobody needs."""
    found = {"gzip/emnist-letters-train-labels-idx1-ubyte.gz": b"not read"}
    for split, (x, y) in ROWS.items():
        found[f"gzip/emnist-digits-{split}-images-idx3-ubyte.gz"] = gzip.compress(idx(changed.get(f"{split}_x", x)))
        found[f"gzip/emnist-digits-{split}-labels-idx1-ubyte.gz"] = gzip.compress(idx(changed.get(f"{split}_y", y)))
    return found


def archive(content: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for name, each in content.items():
            packed.writestr(name, each)
    return file.getvalue()


def put(folder: Path, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gzip.zip").write_bytes(content)
    return folder / "gzip.zip"


def load(places: Places) -> DomainData:
    return EmnistDigits(EmnistDigits.Config(name="emnist_digits"), places).load()


@pytest.mark.parametrize("folder", ["emnist", "EMNIST/raw"])
def test_digits_stand_upright_and_are_otherwise_torchvisions(places: Places, folder: str) -> None:
    raw = put(places.root / folder, archive(members())).parent
    data = load(places)
    assert data.classes == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    np.testing.assert_array_equal(data.train.x[..., 0], ROWS["train"][0].transpose(0, 2, 1))
    if folder == "emnist":
        return
    for name, content in members().items():
        if "digits" in name:
            (raw / Path(name).stem).write_bytes(gzip.decompress(content))
    import_torchvision()
    theirs = importlib.import_module("torchvision.datasets").EMNIST(str(places.root), "digits", train=False)
    np.testing.assert_array_equal(data.test.x[..., 0], theirs.data.numpy().transpose(0, 2, 1))
    np.testing.assert_array_equal(data.test.y, theirs.targets.numpy())


def test_the_archive_is_unpacked_once_and_a_changed_one_again(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    put(places.root / "emnist", archive(members()))
    load(places)
    with monkeypatch.context() as patched:
        patched.setattr(emnist_digits, "read", None)
        assert load(places).test.y.tolist() == [0, 1, 2, 3]
    put(places.root / "emnist", archive(members(test_y=np.array([9, 8, 7, 6]))))
    assert load(places).test.y.tolist() == [9, 8, 7, 6]


WITHOUT = {name: content for name, content in members().items() if "test-images" not in name}
BROKEN = members() | {"gzip/emnist-digits-test-images-idx3-ubyte.gz": b"no gzip"}
SHORT = members(train_y=np.arange(10))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"no zip", "File is not a zip file"),
        (archive(members())[:-30], "File is not a zip file"),
        (archive(WITHOUT), "There is no item named 'gzip/emnist-digits-test-images-idx3-ubyte.gz' in the archive"),
        (archive(BROKEN), "Not a gzipped file"),
        (archive(SHORT), "its train images (12, 28, 28) and labels (10,) do not go together"),
    ],
    ids=["no zip", "cut off", "member missing", "member damaged", "labels missing"],
)
def test_a_damaged_archive_is_refused(places: Places, content: bytes, problem: str) -> None:
    path = put(places.root / "emnist", content)
    with pytest.raises(ConfigError) as error:
        load(places)
    assert str(error.value).startswith(f"data.root: {path} is damaged or not the EMNIST file that torchvision reads: ")
    assert problem in str(error.value)


def test_a_missing_archive_says_how_large_it_is(places: Places) -> None:
    with pytest.raises(
        ConfigError, match=r"no gzip\.zip in .*/emnist, .*EMNIST \(about 560 MB, all six of its splits\)"
    ):
        load(places)


def test_the_archive_is_fetched_when_asked_for(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    import_torchvision()
    theirs = importlib.import_module("torchvision.datasets").EMNIST
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    content = archive(members())
    with serve({"gzip.zip": content}) as server:
        monkeypatch.setattr(theirs, "url", server.address("gzip.zip"))
        monkeypatch.setattr(theirs, "md5", hashlib.md5(content).hexdigest())
        assert len(load(dataclasses.replace(places, download=True)).train) == 12
    assert server.asked == [("gzip.zip", None)]
