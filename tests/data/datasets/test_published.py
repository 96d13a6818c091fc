from __future__ import annotations

import dataclasses
import gzip
import hashlib
import importlib
import struct
from pathlib import Path

import numpy as np
import pytest

from tests.data.server import serve
from tlrun.config import ConfigError
from tlrun.data.datasets import emnist_digits, fashion, kmnist, svhn, usps
from tlrun.data.datasets.base import Domain, Places
from tlrun.data.datasets.fashion import Fashion
from tlrun.data.datasets.kmnist import Kmnist
from tlrun.data.files.published import IDX_FILES, stated_remotes
from tlrun.models.vision import import_torchvision

MODULES = (emnist_digits, fashion, kmnist, svhn, usps)
IDX_SETS: tuple[tuple[type[Domain], str], ...] = ((Fashion, "FashionMNIST"), (Kmnist, "KMNIST"))


def idx(array: np.ndarray) -> bytes:
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}i", *array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes())


RANDOM = np.random.default_rng(0)
ROWS = {
    split: (RANDOM.integers(0, 256, (n, 28, 28)), RANDOM.integers(0, 10, n)) for split, n in (("train", 5), ("test", 3))
}
FILES = {name: idx(array) for split, names in IDX_FILES.items() for name, array in zip(names, ROWS[split], strict=True)}


def put(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)


def load(domain: type[Domain], places: Places):
    name = domain.__name__.lower()
    return domain(domain.Config(name=name), places).load()


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_checksums_are_those_that_torchvision_publishes(module) -> None:
    import_torchvision()
    stated = stated_remotes(getattr(importlib.import_module("torchvision.datasets"), module.PUBLISHED.torchvision))
    assert module.PUBLISHED.files == {name: stated[name].md5 for name in module.PUBLISHED.files}
    remotes = module.PUBLISHED.remotes()
    assert list(remotes) == list(module.PUBLISHED.files)
    assert all(address.endswith(f"/{name}") for name, remote in remotes.items() for address in remote.addresses)


@pytest.mark.parametrize(("domain", "theirs"), IDX_SETS)
def test_a_set_is_found_in_its_own_folder_and_in_torchvisions(
    places: Places, domain: type[Domain], theirs: str
) -> None:
    for folder in (domain.__name__.lower(), f"{theirs}/raw"):
        root = places.root / folder.replace("/", "-")
        put(root / folder)
        data = load(domain, dataclasses.replace(places, root=root))
        for rows, (x, y) in zip((data.train, data.test), ROWS.values(), strict=True):
            np.testing.assert_array_equal(rows.x[..., 0], x)
            np.testing.assert_array_equal(rows.y, y)
    # Names of the four files say nothing of the set: MNIST's, lying in the root itself, must not be taken for another.
    root = places.root / "loose"
    put(root)
    with pytest.raises(ConfigError, match=r"^data\.root: no train-images-idx3-ubyte\.gz and no "):
        load(domain, dataclasses.replace(places, root=root))


@pytest.mark.parametrize(("domain", "theirs"), IDX_SETS)
def test_torchvision_reads_the_same_rows(tmp_path: Path, places: Places, domain: type[Domain], theirs: str) -> None:
    raw = places.root / theirs / "raw"
    put(raw)
    for name, content in FILES.items():
        (raw / name.removesuffix(".gz")).write_bytes(gzip.decompress(content))
    import_torchvision()
    known = getattr(importlib.import_module("torchvision.datasets"), theirs)
    data = load(domain, places)
    for train, rows in ((True, data.train), (False, data.test)):
        read = known(str(places.root), train=train)
        np.testing.assert_array_equal(rows.x[..., 0], read.data.numpy())
        np.testing.assert_array_equal(rows.y, read.targets.numpy())
    assert data.classes == tuple(known.classes)


def test_files_that_are_not_the_published_ones_are_noted(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    put(places.root / "fashion")
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in FILES.items()}
    name = "t10k-images-idx3-ubyte.gz"
    monkeypatch.setattr(fashion, "PUBLISHED", dataclasses.replace(fashion.PUBLISHED, files={**md5, name: "0" * 32}))
    assert load(Fashion, places).notes == (f"{name} is not the published file byte for byte (MD5 {md5[name]})",)


def test_a_missing_set_says_what_was_looked_for_where_and_how_to_get_it(places: Places) -> None:
    put(places.root / "fashion")
    (places.root / "fashion" / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(ConfigError) as error:
        load(Fashion, places)
    folders = (places.root / "fashion", places.root / "FashionMNIST/raw", places.cache / "fashion")
    assert str(error.value) == (
        f"data.root: no train-labels-idx1-ubyte.gz in {', '.join(map(str, folders))}; add data.download=true to fetch "
        "Fashion-MNIST (about 31 MB), or put torchvision's Fashion-MNIST files there, or set data.root"
    )
    assert not places.cache.exists()


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("train-images-idx3-ubyte.gz", b"no gzip", "Not a gzipped file (b'no')"),
        (
            "train-images-idx3-ubyte.gz",
            FILES["train-images-idx3-ubyte.gz"][:-300],
            "Compressed file ended before the end-of-stream marker was reached",
        ),
        ("train-images-idx3-ubyte.gz", gzip.compress(b"text"), "not an IDX file of unsigned bytes"),
        ("train-images-idx3-ubyte.gz", idx(np.zeros(5)), "it holds an array of 1 dimensions, not 3"),
        ("train-labels-idx1-ubyte.gz", idx(np.arange(4)), "it holds 4 labels up to 3 for 5 images"),
        ("train-labels-idx1-ubyte.gz", idx(np.arange(7, 12)), "it holds 5 labels up to 11 for 5 images"),
    ],
    ids=["no gzip", "cut off", "no idx", "another rank", "too few labels", "a label above 9"],
)
def test_a_damaged_file_is_one_line(places: Places, name: str, content: bytes, problem: str) -> None:
    put(places.root / "fashion")
    path = places.root / "fashion" / name
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        load(Fashion, places)
    assert str(error.value) == (
        f"data.root: {path} is damaged or not the Fashion-MNIST file that torchvision reads: {problem}; "
        "put a sound one in its place, or remove it and add data.download=true"
    )


@pytest.mark.parametrize(("domain", "theirs"), IDX_SETS)
def test_a_set_is_fetched_only_when_asked_for_from_torchvisions_addresses(
    places: Places, domain: type[Domain], theirs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_torchvision()
    known = getattr(importlib.import_module("torchvision.datasets"), theirs)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve(dict(FILES)) as server:
        monkeypatch.setattr(known, "mirrors", [server.address("gone/"), server.address("")])
        monkeypatch.setattr(
            known, "resources", [(name, hashlib.md5(content).hexdigest()) for name, content in FILES.items()]
        )
        with pytest.raises(ConfigError, match=r"add data\.download=true"):
            load(domain, places)
        assert server.asked == []
        data = load(domain, dataclasses.replace(places, download=True))
        assert server.names_asked == {f"{folder}{name}" for name in FILES for folder in ("", "gone/")}
        np.testing.assert_array_equal(data.train.y, ROWS["train"][1])
        assert {path.name for path in (places.root / domain.__name__.lower()).iterdir()} == set(FILES)
        server.asked.clear()
        load(domain, dataclasses.replace(places, download=True))
        assert server.asked == []
