"""Which images a command line names: files, folders with all below them, patterns, lists in CSV files or on a pipe."""

from __future__ import annotations

import codecs
import csv
import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tlrun.config import ConfigError
from tlrun.data.files.csv_rows import csv_rows
from tlrun.data.files.images import is_image_name

COLUMNS = ("path", "file", "filename", "file_name", "image")
"""Headings, in either case, under which a list may have its paths; without any of them there is no header."""

_UTF_16 = tuple(os.fsdecode(mark) for mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


class Named(NamedTuple):
    """One image: `told` as the user knows it, `path` as it is opened."""

    told: str
    path: str


def image_paths(
    given: Iterable[str], *, pipe: BinaryIO, column: str | None = None, root: Path | None = None
) -> list[Named]:
    """Every image named, in order, as often as it is named; what is in a folder or matches a pattern is sorted.

    given: a file, whatever its name ends in; a folder, of which all images at any depth are taken, hidden ones apart; a
    pattern (`**` for any depth), of which the images and the folders are; a .csv of paths; `-`, for paths on `pipe`,
    one a line, or separated by NUL bytes. column: the heading of a list's paths, where it is none of COLUMNS. root:
    what a list's relative paths start from, its own folder by default, and for a pipe the current one. A file is only
    looked for, not opened; a path in a list not even that. Raises ConfigError, for all that is wrong, where something
    is not there, or holds or names no image.
    """
    found: list[Named] = []
    problems = []
    for each in given:
        try:
            start = len(found)
            found += _images(each, pipe, column, root)
            if len(found) == start:
                problems.append(f"{'standard input' if each == '-' else each}: no image is named there")
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return found


def _images(given: str, pipe: BinaryIO, column: str | None, root: Path | None) -> Iterator[Named]:
    if given == "-":
        yield from _piped(pipe, root)
    elif Path(given).is_dir():
        yield from map(_itself, _below(given))
    elif Path(given).is_file():
        yield from _listed(given, column, root) if given.lower().endswith(".csv") else [_itself(given)]
    elif glob.has_magic(given):
        yield from _matching(given)
    else:
        raise ConfigError(f"{given}: no such file or folder")


def _itself(path: str) -> Named:
    return Named(path, path)


def _below(folder: str) -> Iterator[str]:
    """The images in a folder at any depth, sorted folder by folder; links are followed, each real folder once."""
    seen: set[tuple[int, int]] = set()
    for path, folders, names in os.walk(folder, followlinks=True, onerror=_unreadable):
        about = Path(path).stat()
        if (about.st_dev, about.st_ino) in seen:
            folders.clear()
            continue
        seen.add((about.st_dev, about.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (str(Path(path, name)) for name in sorted(names) if is_image_name(name))


def _unreadable(error: OSError) -> None:
    raise ConfigError(f"{error.filename}: cannot be read: {error.strerror or error}") from error


def _matching(pattern: str) -> Iterator[Named]:
    matches = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207  # Path.glob takes no absolute patterns
    if not matches:
        raise ConfigError(f"{pattern}: matches nothing")
    # `**` itself matches folders too, all of whose images it matches anyway.
    deep = "**" in pattern
    for path in map(Path, matches):
        if not path.is_dir():
            yield from [_itself(str(path))] if is_image_name(path.name) else []
        elif not deep:
            yield from map(_itself, _below(str(path)))


def _piped(pipe: BinaryIO, root: Path | None) -> Iterator[Named]:
    content = pipe.read()
    lines = content.split(b"\0") if b"\0" in content else content.splitlines()
    yield from (_of_list(os.fsdecode(line), root) for line in lines if line.strip())


def _listed(path: str, column: str | None, root: Path | None) -> Iterator[Named]:
    """The paths in a CSV file. Raises ConfigError where it cannot be read, or lacks the column."""
    root = Path(path).parent if root is None else root
    try:
        with Path(path).open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            rows = csv_rows(file)
            _, first = next(rows, (1, []))
            if first and first[0].startswith(_UTF_16):
                raise ConfigError(f"{path}, line 1: begins as text in UTF-16 does; save it as CSV in UTF-8")
            at = _column(first, column, path)
            if at is None:
                yield from (_of_list(row[0], root) for row in [first] if row and row[0])
            for line, row in rows:
                if not any(row):
                    continue
                if len(row) <= (at or 0) or not row[at or 0]:
                    raise ConfigError(f"{path}, line {line}: no path")
                yield _of_list(row[at or 0], root)
    except (OSError, csv.Error) as error:
        raise ConfigError(f"{path}: cannot be read as CSV: {error}") from error


def _column(first: list[str], column: str | None, path: str) -> int | None:
    """Where the paths stand, by the first row; None where that is no header, and they stand first."""
    names = [name.lower() for name in first]
    if column is not None:
        wanted = column.strip().lower()
        if wanted not in names:
            raise ConfigError(f"--column {column}: {path} has no such heading; it begins with {', '.join(first)}")
        return names.index(wanted)
    return next((names.index(name) for name in COLUMNS if name in names), None)


def _of_list(told: str, root: Path | None) -> Named:
    return Named(told, told if root is None else str(root / told))
