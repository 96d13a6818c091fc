"""USPS digits, 16x16, in the two files that torchvision reads too (Hull 1994, PAMI 16; LIBSVM's text format)."""

from __future__ import annotations

import bz2
import hashlib
import importlib
import io
import os
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tlrun.config import ConfigError, DomainSettings
from tlrun.data.cache import Arrays, cached_arrays, locked
from tlrun.data.datasets.base import Domain, DomainData, Places, Rows

Split = Literal["train", "test"]

CLASSES = tuple("0123456789")
SIZE = 16
# MNIST's digits fill 20 of 28 pixels, these 16 of 16. With 3 more on each side they fill 16 of 22, which is 20.4 of 28.
MARGIN = 3
FILES: dict[Split, str] = {"train": "usps.bz2", "test": "usps.t.bz2"}
# MD5 of LIBSVM's files; torchvision checks what it downloads against the same.
PUBLISHED_MD5: dict[Split, str] = {
    "train": "ec16c51db3855ca6c91edd34d0e9b197",
    "test": "8ea070ee2aca1ac39742fdd1ef5ed118",
}


class Usps(Domain):
    """Digits from envelopes, 16x16 grey, as they are (stretched to the pair's size) or with MNIST's margin (padded)."""

    class Config(DomainSettings):
        frame: Literal["stretched", "padded"]

    config: Config

    def load(self) -> DomainData:
        contents = {split: path.read_bytes() for split, path in find_files(self.places).items()}
        arrays = {split: self._arrays(content, FILES[split]) for split, content in contents.items()}
        padded = self.config.frame == "padded"
        if padded:
            frame = f"padded by {MARGIN} to 22x22, so that digits keep MNIST's margin once resized to 28x28"
        else:
            frame = "16x16 as published, so that digits fill the frame once resized, where MNIST's have a margin"
        notes = [f"frame {self.config.frame}: {frame}"]
        for split, content in contents.items():
            md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
            if md5 != PUBLISHED_MD5[split]:
                notes.append(f"{FILES[split]} is not the published file byte for byte (MD5 {md5})")
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

    def _arrays(self, content: bytes, name: str) -> Arrays:
        """Images x (N, 16, 16) and labels y of one file. Reading the text takes a second and more, so it is kept."""

        def make() -> Arrays:
            try:
                x, y = parse_libsvm(bz2.decompress(content))
            except (OSError, EOFError, ValueError) as error:
                raise ConfigError(
                    f"data.root: {name} is damaged or not the USPS file that torchvision reads: {error}; "
                    "put a sound one in its place, or remove it and add data.download=true"
                ) from error
            return {"x": x, "y": y}

        inputs = {"sha256": hashlib.sha256(content).hexdigest(), "reader": 1}
        return cached_arrays(self.places.cache, f"usps-{name.removesuffix('.bz2')}", inputs=inputs, make=make)


def find_files(places: Places) -> dict[Split, Path]:
    """Where the two files are; fetches the missing ones first when `places.download` is set.

    Raises ConfigError when one is missing and may not be fetched, or cannot be.
    """
    folders = (places.root / "usps", places.root, places.cache / "usps")
    found = _look(folders)
    if len(found) < len(FILES) and places.download:
        target = _writable(folders[0], otherwise=folders[2])
        with locked(folders[2] / "lock"):
            found = _look(folders)  # another process may have fetched them while this one waited
            for split in FILES:
                if split not in found:
                    download(split, target)
        found = _look(folders)
    missing = [name for split, name in FILES.items() if split not in found]
    if missing:
        raise ConfigError(
            f"data.root: no {' and no '.join(missing)} in {', '.join(map(str, folders))}; "
            "add data.download=true to fetch USPS, or put torchvision's two USPS files there, or set data.root"
        )
    return found


def _look(folders: tuple[Path, ...]) -> dict[Split, Path]:
    places = {
        split: [folder / name for folder in folders if (folder / name).is_file()] for split, name in FILES.items()
    }
    return {split: paths[0] for split, paths in places.items() if paths}


def _writable(folder: Path, *, otherwise: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return otherwise


def download(split: Split, folder: Path) -> None:
    """Fetch one file into `folder` through torchvision, which checks its MD5. Raises ConfigError when that fails.

    torchvision writes under the final name and leaves a broken file there, so it works in a folder of its own.
    """
    from tlrun.models.vision import import_torchvision  # imports torch: only here, where a network is waited for anyway

    import_torchvision()
    datasets = importlib.import_module("torchvision.datasets")
    name = FILES[split]
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetching-") as fetching:
            datasets.USPS(fetching, train=split == "train", download=True)
            os.replace(Path(fetching) / name, folder / name)
    except (OSError, RuntimeError, ValueError) as error:  # torchvision raises RuntimeError on a wrong checksum
        raise ConfigError(
            f"data.download: fetching {name} into {folder} failed ({error}); "
            "try again, or put the file there by hand, or set data.root"
        ) from error


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
