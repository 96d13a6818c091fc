"""What a domain is: a name in a config that becomes classes, labelled rows and a sentence on where they came from."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tlrun.config import DomainSettings, PairSettings
from tlrun.data.files.images import ImageFiles

SHIPPED = Path(__file__).resolve().parents[1] / "shipped"
"""The data inside the package; makers and licences are in its ATTRIBUTION.md."""


@dataclass(frozen=True)
class Places:
    """Where data may be: `root` is the user's and maybe read-only, `cache` is ours; `download` allows fetching."""

    root: Path
    cache: Path
    download: bool


def find_places(config: PairSettings) -> Places:
    """Where data may be; without `cache_root`, the platform's folder for caches."""
    if config.cache_root is not None:
        cache = Path(config.cache_root).expanduser()
    else:
        folder = {"darwin": "Library/Caches", "win32": "AppData/Local"}.get(sys.platform, ".cache")
        cache = Path.home() / folder / "tlrun"
    return Places(root=Path(config.root).expanduser(), cache=cache, download=config.download)


@dataclass(frozen=True)
class Rows:
    """Rows of one split with all their labels; what may be shown to training is decided elsewhere.

    x: uint8 images (N, H, W, C) with C 1 or 3, float32 features (N, D), or N image files. y: int64 (N,), -1 where the
    label is not known. Raises ValueError for any other shape or type.
    """

    x: NDArray[Any] | ImageFiles
    y: NDArray[np.int64]

    def __post_init__(self) -> None:
        if not isinstance(self.x, ImageFiles):
            images = self.x.dtype == np.uint8 and self.x.ndim == 4 and self.x.shape[3] in (1, 3)
            features = self.x.dtype == np.float32 and self.x.ndim == 2
            if not images and not features:
                raise ValueError(
                    f"x must be uint8 (N, H, W, 1 or 3) or float32 (N, D), got {self.x.dtype} {self.x.shape}"
                )
        if self.y.dtype != np.int64 or self.y.shape != (len(self.x),):
            raise ValueError(f"y must be int64 ({len(self.x)},), got {self.y.dtype} {self.y.shape}")

    @property
    def kind(self) -> str:
        """What can stand beside what in one domain."""
        return "image files" if isinstance(self.x, ImageFiles) else f"{self.x.dtype} {self.x.shape[1:]}"

    @property
    def array(self) -> NDArray[Any]:
        """x of a domain that comes as arrays. Raises TypeError for image files."""
        if isinstance(self.x, ImageFiles):
            raise TypeError("these rows are image files")
        return self.x

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class DomainData:
    """A domain as it comes: its rows in memory, or the list of its image files.

    classes: label i means `classes[i]`; empty where no row has a label. val, test: None where the publishers made no
    such split. origin: one sentence on
    where the rows came from and how they were prepared, for the data card; notes: what a reader of results must know.
    Raises ValueError when a label has no class or the splits differ in kind.
    """

    classes: tuple[str, ...]
    train: Rows
    test: Rows | None
    origin: str
    notes: tuple[str, ...] = ()
    val: Rows | None = None

    def __post_init__(self) -> None:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"class names must differ, got {self.classes}")
        splits = {"train": self.train, "val": self.val, "test": self.test}
        for name, rows in splits.items():
            if rows is None:
                continue
            if len(rows) and not -1 <= int(rows.y.min()) <= int(rows.y.max()) < len(self.classes):
                raise ValueError(f"labels must lie in 0..{len(self.classes) - 1}, or be -1 where they are unknown")
            if rows.kind != self.train.kind:
                raise ValueError(f"train rows are {self.train.kind}, {name} {rows.kind}")

    def whole(self) -> DomainData:
        """The same rows as one split: those of val and test come after those of train, and are numbered on from them."""
        others = {"val": self.val, "test": self.test}
        train, notes = self.train, list(self.notes)
        for name, rows in others.items():
            if rows is not None:
                notes.append(f"rows from number {len(train)} on are those of the official {name} split")
                train = joined(train, rows)
        return replace(self, train=train, val=None, test=None, notes=tuple(notes))


def joined(first: Rows, second: Rows) -> Rows:
    """The rows of both, the second's after the first's. Raises ValueError where they differ in kind."""
    if first.kind != second.kind:
        raise ValueError(f"{first.kind} and {second.kind} do not go together")
    y = np.concatenate((first.y, second.y))
    if isinstance(first.x, ImageFiles) and isinstance(second.x, ImageFiles):
        if first.x.root != second.x.root:
            raise ValueError(f"image files of {first.x.root} and of {second.x.root} have no common root")
        return Rows(ImageFiles(first.x.root, first.x.names + second.x.names), y)
    return Rows(np.concatenate((first.array, second.array)), y)


class Domain(ABC):
    """One data set under one config. A subclass has its own nested `Config` and says how to `load`."""

    Config: ClassVar[type[DomainSettings]]

    def __init__(self, config: DomainSettings, places: Places) -> None:
        self.config = config
        self.places = places

    @abstractmethod
    def load(self) -> DomainData:
        """All rows, the same at every call and on every machine.

        Raises ConfigError, with what was looked for, where, and how to get it, when the data is not there.
        """

    def whereabouts(self) -> str:
        """Where the rows are or what they are made from, in a few words, without reading them.

        Raises ConfigError as `load` does when they are not there.
        """
        return "made by tlrun, nothing to fetch"
