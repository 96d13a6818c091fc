"""What the domains made of image files share: where they lie, and from named files with labels to a domain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from tlrun.config import ConfigError
from tlrun.data.datasets.base import DomainData, Places, Rows
from tlrun.data.files.images import ImageFiles

SplitName = Literal["train", "val", "test"]
SPLIT_NAMES: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
"""What folders and columns call an official split, in either case."""
Labelled = tuple[str, str | None]
"""A file's path below the root, and the name of its class; None where nobody knows it."""


def find_place(given: str | None, places: Places, *, what: Literal["folder", "file"], key: str) -> Path:
    """The folder or file that a domain's setting names. Raises ConfigError.

    As in a shell, what begins with `/`, `~`, `./` or `../` stands for itself; anything else lies below the data root.
    """
    if given is None:
        raise ConfigError(
            f"data: {key}: must name the {what}, as in {key}=./PATH, or below data.root without ./; got null"
        )
    from_here = given.startswith(("./", "../")) or given in (".", "..")
    path = (Path() if from_here else places.root).joinpath(Path(given).expanduser()).absolute()
    if path.is_dir() if what == "folder" else path.is_file():
        return path
    found = f"is no {what}" if path.exists() else "is not there"
    here = Path(given).expanduser().absolute()
    hint = f"; there is one here: give ./{given}" if path != here and here.exists() else ""
    below_root = not from_here and not Path(given).expanduser().is_absolute()
    where = f" ({given!r} below data.root={places.root})" if below_root else ""
    raise ConfigError(f"data: {key}: {path}{where} {found}{hint}")


def read_text(file: Path) -> str:
    """A list or CSV file of names, its line ends as they are. Raises ConfigError where it is no text in UTF-8."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            text = opened.read()
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"data: {file} cannot be read as text in UTF-8: {error}") from error
    before, nul, _ = text.partition("\0")
    if nul:  # valid in UTF-8, but in no path; text in UTF-16 is full of it
        line = len(f"{before}{nul}".splitlines())
        raise ConfigError(
            f"data: {file}, line {line}: holds a NUL byte, as no text in UTF-8 should; mend or convert it"
        )
    return text


def by_name(names: Iterable[str]) -> tuple[str, ...]:
    """Class names in order: by number where all are numbers, those of one number (01, 1) as text; else as text."""
    found = sorted(set(names))
    return tuple(sorted(found, key=int) if all(name.isdecimal() for name in found) else found)


def domain_of(
    root: Path,
    splits: Mapping[SplitName, Sequence[Labelled]],
    *,
    origin: str,
    notes: Sequence[str],
    classes: tuple[str, ...] | None = None,
) -> DomainData:
    """The domain of these files, whose splits must have a train split. classes: None for those of the labels, by name."""
    if classes is None:
        classes = by_name(label for rows in splits.values() for _, label in rows if label is not None)
    numbers: dict[str | None, int] = {name: number for number, name in enumerate(classes)}
    numbers[None] = -1
    rows = {
        split: Rows(
            ImageFiles(root, tuple(name for name, _ in listed)),
            np.array([numbers[label] for _, label in listed], dtype=np.int64),
        )
        for split, listed in splits.items()
    }
    return DomainData(
        classes=classes,
        train=rows["train"],
        val=rows.get("val"),
        test=rows.get("test"),
        origin=origin,
        notes=tuple(notes),
    )


def some(names: Iterable[str], most: int = 5) -> str:
    """The first names of many, for a message."""
    listed = list(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")
