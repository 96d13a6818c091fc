"""One domain, split into train, val and test, its rows fitted or ready to be read. Depends on no seed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from tlrun.config import ConfigError, PairSettings
from tlrun.data.datasets.base import DomainData, Rows
from tlrun.data.files.images import ImageFiles
from tlrun.data.opened import Opened, open_rows
from tlrun.data.rows import RowStore
from tlrun.data.splits import Labels, RowNumbers, carve, class_counts, take_subset

log = logging.getLogger(__name__)

Role = Literal["source", "target"]
SplitName = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Split:
    """Rows of one domain: x fitted, for the CPU; y in the domain's own numbering; rows as the domain numbers them.

    identity: what stands behind a row number: the domain's data, which of its sets is numbered, and how rows are fitted.
    """

    x: RowStore
    y: Labels
    rows: RowNumbers
    identity: str

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, positions: RowNumbers) -> Split:
        """These rows of it; the whole of it shares its memory."""
        if len(positions) == len(self):
            return self
        x = self.x.subset(torch.from_numpy(positions))
        return Split(x, self.y[positions], self.rows[positions], self.identity)


@dataclass(frozen=True)
class SplitDomain:
    """A domain's splits and what its data card tells.

    shape_before: of one row as it came, without the row axis; None for image files, which come in all sizes.
    """

    role: Role
    name: str
    classes: tuple[str, ...]
    splits: Mapping[SplitName, Split]
    has_official_test: bool
    shape_before: tuple[int, ...] | None
    origin: str
    notes: tuple[str, ...]
    fingerprint: str
    has_official_val: bool = False

    @property
    def is_image(self) -> bool:
        return self.shape_before is None or len(self.shape_before) == 3

    @property
    def has_unknown(self) -> bool:
        """Whether any row has a label that nobody knows."""
        return any(bool((split.y < 0).any()) for split in self.splits.values())

    @property
    def told(self) -> str:
        """How errors name it."""
        return f"{self.name} ({self.role})"


def split_domain(data: DomainData, *, role: Role, config: PairSettings, keep_bad: bool = False) -> SplitDomain:
    """Split a domain and fit its rows. Arrays are copied once; nothing returned holds on to those of `data`.

    keep_bad: rows of files that give no image too, for a check of the data. Files that are left out are logged.

    Under data.protocol=transductive the target's train and test split are the whole of it, and its val split is empty;
    a source without an official test split has an empty one. Raises ConfigError, with all that is wrong, for a source
    with unknown labels, a domain of one class, a class without training rows, features that are not finite, and splits
    or subsets that cannot be taken; RunError for an image file that stops the run already.
    """
    name = str(getattr(config, role).called)
    is_whole = _is_whole(role, config)
    data = data.whole() if is_whole else data
    where = f"data.{role}: {name}"
    opened = _opened(data, config, where, keep_bad=keep_bad)
    for sentence in _by_split({split: [each.left_out] for split, each in opened.items() if each.left_out}):
        log.warning("%s: %s; `tlrun data check` names all of them", name, sentence)
    usable = {split: each.usable for split, each in opened.items()}
    takes_classes = role == "target" and config.source is not None
    if problems := _problems(data, usable, where, takes_classes=takes_classes):
        raise ConfigError(problems)
    rows = _row_numbers(data, usable, role, name, config)
    content = fingerprint(data, opened)
    splits = {split: _take(data, opened, split, numbers, content) for split, numbers in rows.items()}
    if is_whole:
        splits["test"] = splits["train"]  # the same rows, held once
    return SplitDomain(
        role=role,
        name=name,
        classes=data.classes,
        splits=splits,
        has_official_test=data.test is not None,
        has_official_val=data.val is not None,
        shape_before=None if isinstance(data.train.x, ImageFiles) else data.train.x.shape[1:],
        origin=data.origin,
        notes=(
            *data.notes,
            *_by_split({split: each.notes for split, each in opened.items()}),
            *_absences(splits, data.classes),
        ),
        fingerprint=content,
    )


def absent_source(target: SplitDomain) -> SplitDomain:
    """What stands for the source where there is none: the target's classes and kind of rows, and not one row."""
    none = np.array([], dtype=np.int64)
    empty = target.splits["train"].take(none)
    return replace(
        target, role="source", name="none", splits=dict.fromkeys(target.splits, empty), origin="", notes=()
    )  # fmt: skip


def found_fingerprint(data: DomainData, *, role: Role, config: PairSettings) -> str:
    """The fingerprint that `split_domain` would give the domain, without decoding, splitting or refusing anything."""
    data = data.whole() if _is_whole(role, config) else data
    return fingerprint(data, _opened(data, config, f"data.{role}", keep_bad=True))


def _is_whole(role: Role, config: PairSettings) -> bool:
    return role == "target" and config.is_transductive


def _opened(data: DomainData, config: PairSettings, where: str, *, keep_bad: bool) -> dict[SplitName, Opened]:
    """The official splits that there are."""
    official: dict[SplitName, Rows | None] = {"train": data.train, "val": data.val, "test": data.test}
    return {
        split: open_rows(rows, config, where, keep_bad=keep_bad) for split, rows in official.items() if rows is not None
    }


def fingerprint(data: DomainData, opened: Mapping[SplitName, Opened]) -> str:
    """SHA-256 of the class names and of all rows and labels as they came, before anything is done to them.

    Of image files: of their names and sizes, and of the contents of a sample (`image_files.look_at`).
    """
    digest = hashlib.sha256(repr(data.classes).encode())
    for name, each in opened.items():
        rows = getattr(data, name)
        for piece in each.identity():
            digest.update(piece)
        digest.update(np.ascontiguousarray(rows.y).data)
    return digest.hexdigest()


def _take(
    data: DomainData, opened: Mapping[SplitName, Opened], split: SplitName, numbers: RowNumbers, content: str
) -> Split:
    """These rows of an official split, or of train where there is none of that name."""
    home: SplitName = split if split in opened else "train"
    given: Rows = getattr(data, home)
    x = opened[home].fitted(numbers)
    identity = f"{content} {home} {opened[home].treatment()} {tuple(x.shape[1:])}"
    return Split(x, given.y[numbers], numbers, identity)


def _by_split(told: Mapping[SplitName, Sequence[str]]) -> list[str]:
    """Sentences on official splits, each under the name of its own; train is where all rows are without such splits."""
    return [each if name == "train" else f"{name}: {each}" for name, sentences in told.items() for each in sentences]


def _row_numbers(
    data: DomainData, usable: Mapping[SplitName, RowNumbers], role: Role, name: str, config: PairSettings
) -> dict[SplitName, RowNumbers]:
    """Rows of train, val and test; each official split has numbers of its own, and only the usable rows count.

    Where there is no official test split, `test_fraction` of train is set aside first, then `val_fraction` of what is
    left, then a subset of the rest is taken where `source_rows` or `target_rows` asks for it. Under a transductive
    protocol nothing of the target is set aside, and of the source only val. The salts name no domain:
    MNIST's digit i and MNIST-M's picture of it go the same way, so that val digits are new in both domains.
    """
    y, train = data.train.y, usable["train"]
    none = np.array([], dtype=np.int64)
    if config.is_transductive and "test" not in usable:
        test = none
    elif "test" not in usable:
        train, test = _set_aside(y, train, config.test_fraction, f"data.test_fraction: {name} ({role})", "test split")
    else:
        test = usable["test"]
    val = none
    if "val" in usable:
        val = usable["val"]
    elif not (config.is_transductive and role == "target"):
        train, val = _set_aside(y, train, config.val_fraction, f"data.val_fraction: {name} ({role})", "val split")
    count = config.source_rows if role == "source" else config.target_rows
    if count is not None:
        least = len(np.unique(y[train][y[train] >= 0])) or 1
        if not least <= count <= len(train):
            raise ConfigError(
                f"data.{role}_rows: must lie between {_told_least(least)} and the {len(train)} training rows of {name}, "
                f"got {count}; null takes all"
            )
        train = train[take_subset(y[train], train, count, "subset")]
    return {"train": train, "val": val, "test": test}


def _told_least(least: int) -> str:
    return f"the {least} classes" if least > 1 else "1"


def _set_aside(y: Labels, rows: RowNumbers, fraction: float, where: str, salt: str) -> tuple[RowNumbers, RowNumbers]:
    kept, aside = carve(y[rows], rows, fraction, salt)
    if not len(aside):
        raise ConfigError(
            f"{where} has {len(rows)} training rows and no class of two or more, so none can be set aside"
        )
    return rows[kept], rows[aside]


def _problems(
    data: DomainData, usable: Mapping[SplitName, RowNumbers], where: str, *, takes_classes: bool
) -> list[str]:
    """What makes a domain useless, before any work is put into it. takes_classes: a source may tell it its classes."""
    y = data.train.y[usable["train"]]
    problems = []
    unknown = int((y < 0).sum())
    if unknown and where.startswith("data.source"):
        first = _file_of(data.train, usable["train"][y < 0])
        problems.append(
            f"{where} has {unknown} training rows without a label{first}; a source must be labelled throughout"
        )
    elif not data.classes and unknown and not takes_classes:
        problems.append(f"{where} has no labels, and no source gives it classes; name one with domain@data.source=NAME")
    elif len(data.classes) < 2 and not (takes_classes and unknown):
        names = ", ".join(data.classes) or "none"
        problems.append(f"{where} must have at least two classes, got {names}")
    counts = class_counts(y, len(data.classes))
    empty = np.flatnonzero(counts == 0).tolist()
    if empty and not unknown:
        named = (f"{data.classes[label]}{_seen_elsewhere(data, label)}" for label in empty)
        problems.append(f"{where} has no training rows of {', '.join(named)}")
    for split in ("val", "test"):
        if split in usable and not len(usable[split]):
            problems.append(f"{where} has an empty {split} split")
    for split, rows in (("train", data.train), ("test", data.test)):
        if rows is None or isinstance(rows.x, ImageFiles):
            continue
        if rows.x.ndim == 2 and not np.isfinite(rows.x).all():
            problems.append(f"{where} has {split} features that are not finite")
    return problems


def _file_of(rows: Rows, numbers: RowNumbers) -> str:
    """The first of these rows, at least one, in brackets where rows are files."""
    return f" ({rows.x.names[numbers[0]]})" if isinstance(rows.x, ImageFiles) and len(numbers) else ""


def _seen_elsewhere(data: DomainData, label: int) -> str:
    """Which other split has a class, so that a label written wrong is found."""
    for name, rows in (("val", data.val), ("test", data.test)):
        if rows is not None and (first := _file_of(rows, np.flatnonzero(rows.y == label))):
            return f", which {name} has{first}"
    return ""


def _absences(splits: Mapping[SplitName, Split], classes: tuple[str, ...]) -> list[str]:
    """Classes too small for every split, and rows of unknown label, for the data card."""
    notes = []
    for split, rows in splits.items():
        unknown = int((rows.y < 0).sum())
        if unknown:
            notes.append(f"{unknown} of {len(rows)} {split} rows have no label")
        counts = class_counts(rows.y, len(classes))
        absent = [name for name, count in zip(classes, counts, strict=True) if count == 0]
        if absent and unknown < len(rows):
            notes.append(f"no {'labelled ' if unknown else ''}{split} rows of {', '.join(absent)}")
    return notes
