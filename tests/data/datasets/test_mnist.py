from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from tlrun.config import ConfigError
from tlrun.data.datasets import mnist
from tlrun.data.datasets.base import SHIPPED, DomainData, Places
from tlrun.data.datasets.mnist import Mnist, parse_idx, read_labels

NOWHERE = Places(root=Path("/nowhere"), cache=Path("/nowhere"), download=False)


@pytest.fixture(scope="module")
def data() -> DomainData:
    return Mnist(Mnist.Config(name="mnist"), NOWHERE).load()


def test_mnist_has_its_published_class_counts(data: DomainData) -> None:
    assert data.classes == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    train, test = np.bincount(data.train.y), np.bincount(data.test.y)
    assert train.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert test.tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_mnist_images_are_the_known_ones(data: DomainData) -> None:
    assert data.train.x.shape == (60000, 28, 28, 1)
    assert data.test.x.shape == (10000, 28, 28, 1)
    assert data.train.x.mean() / 255 == pytest.approx(0.1307, abs=5e-5)  # the constant that everyone normalises by
    assert data.train.y[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.train.x[0, 5, 12:24, 0].tolist() == [3, 18, 18, 18, 126, 136, 175, 26, 166, 255, 247, 127]


def test_mnist_can_be_written_to_so_that_torch_takes_it_without_a_copy(data: DomainData) -> None:
    assert data.train.x.flags.writeable
    assert data.train.x.flags.c_contiguous


def test_the_data_card_names_makers_and_licence(data: DomainData) -> None:
    assert data.origin == (
        "MNIST's original files (LeCun, Cortes and Burges; CC BY-SA 3.0), shipped with tlrun, unchanged"
    )


def test_a_damaged_shipped_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(SHIPPED / "mnist", tmp_path / "mnist")
    path = tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    monkeypatch.setattr(mnist, "SHIPPED", tmp_path)
    assert len(read_labels("train")) == 60000
    with pytest.raises(ConfigError) as error:
        read_labels("test")
    sha256 = "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
    assert (
        str(error.value)
        == f"data: tlrun's own file {path} is damaged (its SHA-256 is not {sha256}); install tlrun again"
    )


def test_a_missing_shipped_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist, "SHIPPED", tmp_path)
    with pytest.raises(ConfigError) as error:
        read_labels("test")
    path = tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz"
    assert str(error.value) == (
        f"data: tlrun's own file {path} cannot be read (No such file or directory); install tlrun again"
    )


def test_idx_files_of_any_rank_are_read() -> None:
    for shape in ((6,), (2, 3), (1, 2, 3)):
        content = bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}i", *shape) + bytes(range(6))
        np.testing.assert_array_equal(parse_idx(content), np.arange(6).reshape(shape))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not an IDX file of unsigned bytes"),
        (b"\x00\x00\x0d\x01\x00\x00\x00\x01\x00", "not an IDX file of unsigned bytes"),
        (b"\x00\x00\x08\x01\x00\x00\x00\x02\x07", r"an IDX file of shape \(2,\) cannot have 9 bytes"),
    ],
    ids=["empty", "floats", "cut off"],
)
def test_what_is_no_idx_file_is_refused(content: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=f"^{problem}$"):
        parse_idx(content)
