"""The digits of EMNIST (Cohen et al. 2017, arXiv:1702.05373): NIST's handwriting anew in MNIST's format, four times it."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from pathlib import Path

import numpy as np

from tlrun.config import DomainSettings
from tlrun.data.cache.arrays import Arrays, cached_arrays
from tlrun.data.datasets.base import Domain, DomainData, Rows
from tlrun.data.datasets.mnist import CLASSES, Split, parse_idx
from tlrun.data.files.published import PublishedSet

ARCHIVE = "gzip.zip"
PUBLISHED = PublishedSet(
    title="EMNIST",
    size="about 560 MB, all six of its splits",
    folder="emnist",
    also=("EMNIST/raw",),
    files={ARCHIVE: "58c8d27c78d21e728a6bc7b3cc06412e"},
    torchvision="EMNIST",
)
SPLITS: tuple[Split, ...] = ("train", "test")


class EmnistDigits(Domain):
    """Handwritten digits, white on black, 28x28 grey, 240,000 + 40,000, as many of each."""

    class Config(DomainSettings):
        @property
        def shows_characters(self) -> bool:
            return True

    def whereabouts(self) -> str:
        return PUBLISHED.whereabouts(self.places)

    def load(self) -> DomainData:
        path = PUBLISHED.find(self.places)[ARCHIVE]
        try:
            with zipfile.ZipFile(path) as archive:
                members = {split: _members(archive, split) for split in SPLITS}
        except (OSError, ValueError, zipfile.BadZipFile, KeyError) as error:
            raise PUBLISHED.damaged(path, error) from error
        # The archive's own CRC-32 of each member, which reading compares: to hash 560 MB at every run takes seconds.
        crcs = {name: crc for split in SPLITS for name, crc in members[split]}
        arrays = cached_arrays(
            self.places.cache, "emnist-digits", inputs={"crc32": crcs, "reader": 1}, make=lambda: read(path)
        )
        train, test = (Rows(arrays[f"{split}_x"][..., None], arrays[f"{split}_y"]) for split in SPLITS)
        return DomainData(
            classes=CLASSES,
            train=train,
            test=test,
            origin="EMNIST's digits (Cohen et al. 2017, from NIST Special Database 19), from the archive of all splits",
            notes=(
                "images are turned upright: the published files, and torchvision, have lines and columns exchanged",
            ),
        )


def _members(archive: zipfile.ZipFile, split: Split) -> tuple[tuple[str, int], tuple[str, int]]:
    """The archive's images and labels of the digits of a split, each with its CRC-32. Raises KeyError."""
    images, labels = (
        archive.getinfo(f"gzip/emnist-digits-{split}-{kind}-ubyte.gz") for kind in ("images-idx3", "labels-idx1")
    )
    return (images.filename, images.CRC), (labels.filename, labels.CRC)


def read(path: Path) -> Arrays:
    """Images `<split>_x` (N, 28, 28), upright, and labels `<split>_y` (N,) out of the archive. Raises ConfigError."""
    arrays: Arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for split in SPLITS:
                x, y = (parse_idx(gzip.decompress(archive.read(name))) for name, _ in _members(archive, split))
                if x.ndim != 3 or y.shape != x.shape[:1] or (len(y) and y.max() > 9):
                    raise ValueError(f"its {split} images {x.shape} and labels {y.shape} do not go together")
                arrays |= {f"{split}_x": np.swapaxes(x, 1, 2), f"{split}_y": y.astype(np.int64)}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise PUBLISHED.damaged(path, error) from error
    return arrays
