"""USPS digits, 16x16, in the two files that torchvision reads too (Hull 1994, PAMI 16; LIBSVM's text format)."""

from __future__ import annotations

import bz2
import hashlib
import io
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tlrun.config import DomainSettings
from tlrun.data.cache.arrays import Arrays, cached_arrays
from tlrun.data.datasets.base import Domain, DomainData, Rows
from tlrun.data.datasets.mnist import CLASSES, Split
from tlrun.data.files.published import PublishedSet

SIZE = 16
# MNIST's digits fill 20 of 28 pixels, these 16 of 16. With 3 more on each side they fill 16 of 22, which is 20.4 of 28.
MARGIN = 3
FILES: dict[Split, str] = {"train": "usps.bz2", "test": "usps.t.bz2"}
PUBLISHED = PublishedSet(
    title="USPS",
    size="about 8 MB",
    folder="usps",
    also=(".",),
    files={"usps.bz2": "ec16c51db3855ca6c91edd34d0e9b197", "usps.t.bz2": "8ea070ee2aca1ac39742fdd1ef5ed118"},
    torchvision="USPS",
)


class Usps(Domain):
    """Digits from envelopes, 16x16 grey, as they are (stretched to the pair's size) or with MNIST's margin (padded)."""

    class Config(DomainSettings):
        frame: Literal["stretched", "padded"]

        @property
        def shows_characters(self) -> bool:
            return True

    config: Config

    def whereabouts(self) -> str:
        return PUBLISHED.whereabouts(self.places)

    def load(self) -> DomainData:
        paths = PUBLISHED.find(self.places)
        padded = self.config.frame == "padded"
        if padded:
            frame = f"padded by {MARGIN} to 22x22, so that digits keep MNIST's margin once resized to 28x28"
        else:
            frame = "16x16 as published, so that digits fill the frame once resized, where MNIST's have a margin"
        notes = [f"frame {self.config.frame}: {frame}"]
        arrays: dict[Split, Arrays] = {}
        for split, name in FILES.items():
            content = paths[name].read_bytes()
            arrays[split] = self._arrays(content, paths[name])
            notes += PUBLISHED.note(name, hashlib.md5(content, usedforsecurity=False).hexdigest())
        train, test = (
            Rows(pad(arrays[split]["x"], MARGIN if padded else 0)[..., None], arrays[split]["y"]) for split in FILES
        )
        return DomainData(
            classes=CLASSES,
            train=train,
            test=test,
            origin=f"USPS (Hull 1994), LIBSVM's scaled version as torchvision reads it; {frame}",
            notes=tuple(notes),
        )

    def _arrays(self, content: bytes, path: Path) -> Arrays:
        """Images x (N, 16, 16) and labels y of one file. Reading the text takes a second and more, so it is kept."""

        def make() -> Arrays:
            try:
                x, y = parse_libsvm(bz2.decompress(content))
            except (OSError, EOFError, ValueError) as error:
                raise PUBLISHED.damaged(path, error) from error
            return {"x": x, "y": y}

        inputs = {"sha256": hashlib.sha256(content).hexdigest(), "reader": 1}
        return cached_arrays(self.places.cache, f"usps-{path.name.removesuffix('.bz2')}", inputs=inputs, make=make)


def parse_libsvm(text: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (N, 16, 16) and labels (N,) from lines "<label 1..10> 1:<value> ... 256:<value>", values in [-1, 1].

    Pixels are cut off, not rounded, to 0..255 in float32, as torchvision does, so that both give the same images.
    Raises ValueError when the text is anything else.
    """
    table = np.loadtxt(io.StringIO(text.decode("ascii").replace(":", " ")), dtype=np.float64, ndmin=2)
    if table.shape[1] != 1 + 2 * SIZE * SIZE or not np.array_equal(table[0, 1::2], np.arange(1, SIZE * SIZE + 1)):
        raise ValueError(f"its lines do not hold a label and {SIZE * SIZE} numbered values")
    labels, values = table[:, 0], table[:, 2::2].astype(np.float32)
    if not np.isin(labels, np.arange(1, 11)).all() or not (np.abs(values) <= 1).all():
        raise ValueError("a label lies outside 1..10 or a value outside [-1, 1]")
    pixels = ((values + 1) / 2 * 255).astype(np.uint8)
    return pixels.reshape(-1, SIZE, SIZE), labels.astype(np.int64) - 1


def pad(images: NDArray[np.uint8], margin: int) -> NDArray[np.uint8]:
    """The images (N, H, W) with so many rows and columns of background, 0, on each side."""
    return np.pad(images, ((0, 0), (margin, margin), (margin, margin)))
