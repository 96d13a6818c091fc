"""MNIST, from the four original files inside the package (LeCun, Cortes and Burges; CC BY-SA 3.0)."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tlrun.config import ConfigError, DomainSettings
from tlrun.data.datasets.base import SHIPPED, Domain, DomainData, Rows

Split = Literal["train", "test"]

CLASSES = tuple("0123456789")

# SHA-256 of the original distribution's files, (images, labels) of each split.
FILES: dict[Split, tuple[tuple[str, str], tuple[str, str]]] = {
    "train": (
        ("train-images-idx3-ubyte.gz", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        ("train-labels-idx1-ubyte.gz", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
    ),
    "test": (
        ("t10k-images-idx3-ubyte.gz", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        ("t10k-labels-idx1-ubyte.gz", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    ),
}


class Mnist(Domain):
    """Handwritten digits, white on black, 28x28 grey."""

    class Config(DomainSettings):
        @property
        def shows_characters(self) -> bool:
            return True

    def whereabouts(self) -> str:
        return f"{SHIPPED / 'mnist'}, shipped with tlrun"

    def load(self) -> DomainData:
        train, test = (Rows(read_images(split)[..., None], read_labels(split)) for split in FILES)
        return DomainData(
            classes=CLASSES,
            train=train,
            test=test,
            origin="MNIST's original files (LeCun, Cortes and Burges; CC BY-SA 3.0), shipped with tlrun, unchanged",
            notes=("the digit fills a 20x20 box inside the 28x28 image",),
        )


def read_images(split: Split) -> NDArray[np.uint8]:
    """MNIST's images, (N, 28, 28), 0 is background. Raises ConfigError when the shipped file is damaged."""
    return _read_checked(*FILES[split][0])


def read_labels(split: Split) -> NDArray[np.int64]:
    """MNIST's labels, (N,). Raises ConfigError when the shipped file is damaged."""
    return _read_checked(*FILES[split][1]).astype(np.int64)


def _read_checked(name: str, sha256: str) -> NDArray[np.uint8]:
    path = SHIPPED / "mnist" / name
    packed = read_shipped(path)
    if hashlib.sha256(packed).hexdigest() != sha256:
        raise ConfigError(
            f"data: tlrun's own file {path} is damaged (its SHA-256 is not {sha256}); install tlrun again"
        )
    return parse_idx(gzip.decompress(packed))


def read_shipped(path: Path) -> bytes:
    """A file of the package. Raises ConfigError when it is gone."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"data: tlrun's own file {path} cannot be read ({error.strerror}); install tlrun again"
        ) from error


def parse_idx(content: bytes) -> NDArray[np.uint8]:
    """The array of an unpacked IDX file, writable: two zero bytes, type 8, rank, big-endian int32 sizes, uint8 values.

    Raises ValueError for another type or a length that does not fit.
    """
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise ValueError("not an IDX file of unsigned bytes")
    header = 4 + 4 * content[3]
    shape = tuple(int(size) for size in np.frombuffer(content[4:header], dtype=">i4"))
    if len(content) != header + int(np.prod(shape)):
        raise ValueError(f"an IDX file of shape {shape} cannot have {len(content)} bytes")
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape).copy()
