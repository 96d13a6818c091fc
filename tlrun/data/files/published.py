"""Sets that their makers publish as files and torchvision can fetch: where they may lie, and how they get there."""

from __future__ import annotations

import gzip
import hashlib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlrun.config import ConfigError
from tlrun.data.datasets.base import Places, Rows
from tlrun.data.datasets.mnist import Split, parse_idx
from tlrun.data.files.download import Remote, fetch_missing


@dataclass(frozen=True)
class PublishedSet:
    """A set of files with published checksums.

    title: how messages name it; size: what a download costs, in words. folder: its own, under the data root and under
    the cache; also: where else under the data root it is looked for. files: MD5 by name. torchvision: the name of the
    class in torchvision.datasets that knows where it is fetched from.
    """

    title: str
    size: str
    folder: str
    also: tuple[str, ...]
    files: Mapping[str, str]
    torchvision: str

    def folders(self, places: Places) -> tuple[Path, ...]:
        """Where the files are looked for, in order."""
        return (*(places.root / name for name in (self.folder, *self.also)), places.cache / self.folder)

    def find(self, places: Places) -> dict[str, Path]:
        """Where each file is; the missing ones are fetched first when `places.download` is set.

        Raises ConfigError when one is missing and may not be fetched, or cannot be.
        """
        folders = self.folders(places)
        found = self._look(folders)
        if len(found) < len(self.files) and places.download:
            fetch_missing(self.remotes, lambda: self._look(folders), folders[0], otherwise=folders[-1])
            found = self._look(folders)
        if missing := [name for name in self.files if name not in found]:
            raise ConfigError(
                f"data.root: no {' and no '.join(missing)} in {', '.join(map(str, folders))}; add data.download=true "
                f"to fetch {self.title} ({self.size}), or put torchvision's {self.title} files there, or set data.root"
            )
        return found

    def whereabouts(self, places: Places) -> str:
        """The folders that hold the files. Raises ConfigError as `find` does."""
        return ", ".join(dict.fromkeys(str(path.parent) for path in self.find(places).values()))

    def _look(self, folders: tuple[Path, ...]) -> dict[str, Path]:
        places = {name: [folder / name for folder in folders if (folder / name).is_file()] for name in self.files}
        return {name: paths[0] for name, paths in places.items() if paths}

    def remotes(self) -> dict[str, Remote]:
        """Addresses and checksums of the files, as torchvision states them."""
        from tlrun.models.vision import import_torchvision  # imports torch: only here, where a network is waited for

        import_torchvision()
        stated = stated_remotes(getattr(importlib.import_module("torchvision.datasets"), self.torchvision))
        return {name: stated[name] for name in self.files}

    def note(self, name: str, md5: str) -> tuple[str, ...]:
        """For the data card: nothing where the file is the published one, else what it is not."""
        if md5 == self.files[name]:
            return ()
        return (f"{name} is not the published file byte for byte (MD5 {md5})",)

    def damaged(self, path: Path, error: Exception) -> ConfigError:
        """The error for a file that is there and cannot be read."""
        return ConfigError(
            f"data.root: {path} is damaged or not the {self.title} file that torchvision reads: {error}; "
            "put a sound one in its place, or remove it and add data.download=true"
        )


def stated_remotes(dataset: Any) -> dict[str, Remote]:
    """The files that a class of torchvision.datasets fetches, by name, in the three ways in which such classes say so."""
    if hasattr(dataset, "split_list"):
        return {name: Remote(name, (url,), md5) for url, name, md5 in dataset.split_list.values()}
    if hasattr(dataset, "url"):
        name = str(dataset.url).rpartition("/")[2]
        return {name: Remote(name, (dataset.url,), dataset.md5)}
    return {
        name: Remote(name, tuple(f"{mirror}{name}" for mirror in dataset.mirrors), md5)
        for name, md5 in dataset.resources
    }


IDX_FILES: dict[Split, tuple[str, str]] = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
"""Images and labels of each split, as MNIST and the sets made in its likeness call them."""


def load_idx(published: PublishedSet, places: Places) -> tuple[dict[Split, Rows], tuple[str, ...]]:
    """The rows of a set in MNIST's four files, grey images (N, H, W, 1), and notes on files that are not as published.

    Raises ConfigError when a file is missing or damaged, or images and labels do not go together.
    """
    paths = published.find(places)
    notes: tuple[str, ...] = ()
    rows: dict[Split, Rows] = {}
    for split, names in IDX_FILES.items():
        arrays = []
        for name, rank in zip(names, (3, 1), strict=True):
            try:
                packed = paths[name].read_bytes()
                arrays.append(parse_idx(gzip.decompress(packed)))
                if arrays[-1].ndim != rank:
                    raise ValueError(f"it holds an array of {arrays[-1].ndim} dimensions, not {rank}")
            except (OSError, EOFError, ValueError) as error:
                raise published.damaged(paths[name], error) from error
            notes += published.note(name, hashlib.md5(packed, usedforsecurity=False).hexdigest())
        images, labels = arrays
        if len(images) != len(labels) or (len(labels) and labels.max() > 9):
            problem = f"{len(labels):,} labels up to {labels.max(initial=0)} for {len(images):,} images"
            raise published.damaged(paths[names[1]], ValueError(f"it holds {problem}"))
        rows[split] = Rows(images[..., None], labels.astype(np.int64))
    return rows, notes
