"""One domain, split into train, val and test and fitted to the run's image size. Depends on no seed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from tlrun.config import ConfigError, PairSettings
from tlrun.data.datasets.base import DomainData, Rows
from tlrun.data.splits import Labels, RowNumbers, carve, class_counts, take_subset
from tlrun.data.transforms import fit

Role = Literal["source", "target"]
SplitName = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Split:
    """Rows of one domain: x fitted, on the CPU; y in the domain's own numbering; rows as the domain numbers them.

    identity: what stands behind a row number: the domain's data, which of its sets is numbered, and how rows are fitted.
    """

    x: Tensor
    y: Labels
    rows: RowNumbers
    identity: str

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class SplitDomain:
    """A domain's splits and what its data card tells. shape_before: of one row as it came, without the row axis."""

    role: Role
    name: str
    classes: tuple[str, ...]
    splits: Mapping[SplitName, Split]
    has_official_test: bool
    shape_before: tuple[int, ...]
    origin: str
    notes: tuple[str, ...]
    fingerprint: str

    @property
    def is_image(self) -> bool:
        return len(self.shape_before) == 3

    @property
    def told(self) -> str:
        """How errors name it."""
        return f"{self.name} ({self.role})"


def split_domain(data: DomainData, *, role: Role, config: PairSettings) -> SplitDomain:
    """Split and fit a domain. Rows are copied once; nothing returned holds on to the arrays of `data`.

    Raises ConfigError, with all that is wrong, for a domain of one class, a class without training rows, features that
    are not finite, and splits or subsets that cannot be taken.
    """
    name = str(getattr(config, role).name)
    if problems := _problems(data, f"data.{role}: {name}"):
        raise ConfigError(problems)
    train, val, test = _row_numbers(data, role, name, config)
    content = fingerprint(data)
    splits: dict[SplitName, Split] = {
        "train": _take(data.train, train, config, f"{content} train"),
        "val": _take(data.train, val, config, f"{content} train"),
        "test": _take(data.test or data.train, test, config, f"{content} {'test' if data.test else 'train'}"),
    }
    return SplitDomain(
        role=role,
        name=name,
        classes=data.classes,
        splits=splits,
        has_official_test=data.test is not None,
        shape_before=data.train.x.shape[1:],
        origin=data.origin,
        notes=(*data.notes, *_absences(splits, data.classes)),
        fingerprint=content,
    )


def fingerprint(data: DomainData) -> str:
    """SHA-256 of the class names and of all rows and labels as they came, before anything is done to them."""
    digest = hashlib.sha256(repr(data.classes).encode())
    for rows in (data.train, data.test):
        if rows is not None:
            digest.update(repr((rows.x.shape, rows.x.dtype.str)).encode())
            digest.update(np.ascontiguousarray(rows.x).data)
            digest.update(np.ascontiguousarray(rows.y).data)
    return digest.hexdigest()


def _row_numbers(
    data: DomainData, role: Role, name: str, config: PairSettings
) -> tuple[RowNumbers, RowNumbers, RowNumbers]:
    """Rows of train, val and test.

    Where there is no official test split, `test_fraction` of train is set aside first, then `val_fraction` of what is
    left, then a subset of the rest is taken where `source_rows` or `target_rows` asks for it. The salts name no domain:
    MNIST's digit i and MNIST-M's picture of it go the same way, so that val digits are new in both domains.
    """
    y, train = data.train.y, np.arange(len(data.train))
    if data.test is None:
        train, test = _set_aside(y, train, config.test_fraction, f"data.test_fraction: {name} ({role})", "test split")
    else:
        test = np.arange(len(data.test))
    train, val = _set_aside(y, train, config.val_fraction, f"data.val_fraction: {name} ({role})", "val split")
    count = config.source_rows if role == "source" else config.target_rows
    if count is not None:
        least = len(np.unique(y[train]))
        if not least <= count <= len(train):
            raise ConfigError(
                f"data.{role}_rows: must lie between the {least} classes and the {len(train)} training rows of {name}, "
                f"got {count}; null takes all"
            )
        train = train[take_subset(y[train], train, count, "subset")]
    return train, val, test


def _set_aside(y: Labels, rows: RowNumbers, fraction: float, where: str, salt: str) -> tuple[RowNumbers, RowNumbers]:
    kept, aside = carve(y[rows], rows, fraction, salt)
    if not len(aside):
        raise ConfigError(
            f"{where} has {len(rows)} training rows and no class of two or more, so none can be set aside"
        )
    return rows[kept], rows[aside]


def _take(given: Rows, rows: RowNumbers, config: PairSettings, content: str) -> Split:
    x = fit(given.x, rows, size=config.image_size, channels=config.channels)
    return Split(x, given.y[rows], rows, identity=f"{content} {tuple(x.shape[1:])}")


def _problems(data: DomainData, where: str) -> list[str]:
    """What makes a domain useless, before any work is put into it."""
    problems = []
    if len(data.classes) < 2:
        names = ", ".join(data.classes) or "none"
        problems.append(f"{where} must have at least two classes, got {names}")
    counts = class_counts(data.train.y, len(data.classes))
    if empty := [name for name, count in zip(data.classes, counts, strict=True) if count == 0]:
        problems.append(f"{where} has no training rows of {', '.join(empty)}")
    if data.test is not None and not len(data.test):
        problems.append(f"{where} has an empty test split")
    for split, rows in (("train", data.train), ("test", data.test)):
        if rows is not None and rows.x.ndim == 2 and not np.isfinite(rows.x).all():
            problems.append(f"{where} has {split} features that are not finite")
    return problems


def _absences(splits: Mapping[SplitName, Split], classes: tuple[str, ...]) -> list[str]:
    """Classes too small for every split, for the data card."""
    notes = []
    for split, rows in splits.items():
        counts = class_counts(rows.y, len(classes))
        if absent := [name for name, count in zip(classes, counts, strict=True) if count == 0]:
            notes.append(f"no {split} rows of {', '.join(absent)}")
    return notes
