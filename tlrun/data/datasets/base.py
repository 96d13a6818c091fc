"""What a domain is: a name in a config that becomes classes, labelled rows and a sentence on where they came from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tlrun.config import DomainSettings

SHIPPED = Path(__file__).resolve().parents[1] / "shipped"
"""The data inside the package; makers and licences are in its ATTRIBUTION.md."""


@dataclass(frozen=True)
class Places:
    """Where data may be: `root` is the user's and maybe read-only, `cache` is ours; `download` allows fetching."""

    root: Path
    cache: Path
    download: bool


@dataclass(frozen=True)
class Rows:
    """Rows of one split with all their labels; what may be shown to training is decided elsewhere.

    x: uint8 images (N, H, W, C) with C 1 or 3, or float32 features (N, D). y: int64 (N,), -1 where nobody knows it.
    Raises ValueError for any other shape or type.
    """

    x: NDArray[Any]
    y: NDArray[np.int64]

    def __post_init__(self) -> None:
        images = self.x.dtype == np.uint8 and self.x.ndim == 4 and self.x.shape[3] in (1, 3)
        features = self.x.dtype == np.float32 and self.x.ndim == 2
        if not images and not features:
            raise ValueError(f"x must be uint8 (N, H, W, 1 or 3) or float32 (N, D), got {self.x.dtype} {self.x.shape}")
        if self.y.dtype != np.int64 or self.y.shape != self.x.shape[:1]:
            raise ValueError(f"y must be int64 ({len(self.x)},), got {self.y.dtype} {self.y.shape}")

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class DomainData:
    """A domain in memory.

    classes: label i means `classes[i]`; empty where no row has a label. test: None where the publishers made no test split. origin: one sentence on
    where the rows came from and how they were prepared, for the data card; notes: what a reader of results must know.
    Raises ValueError when a label has no class or the splits differ in kind.
    """

    classes: tuple[str, ...]
    train: Rows
    test: Rows | None
    origin: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"class names must differ, got {self.classes}")
        for rows in (self.train, self.test):
            if rows is not None and len(rows) and not -1 <= int(rows.y.min()) <= int(rows.y.max()) < len(self.classes):
                raise ValueError(f"labels must lie in 0..{len(self.classes) - 1}, or be -1 where they are unknown")
        if self.test is not None:
            train, test = self.train.x, self.test.x
            if (train.dtype, train.shape[1:]) != (test.dtype, test.shape[1:]):
                raise ValueError(f"train rows are {train.dtype} {train.shape[1:]}, test {test.dtype} {test.shape[1:]}")

    def whole(self) -> DomainData:
        """The same rows as one split: those of test come after those of train, and are numbered on from them."""
        if self.test is None:
            return self
        x, y = (np.concatenate([getattr(rows, name) for rows in (self.train, self.test)]) for name in ("x", "y"))
        note = f"rows from number {len(self.train)} on are those of the official test split"
        return replace(self, train=Rows(x, y), test=None, notes=(*self.notes, note))


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
