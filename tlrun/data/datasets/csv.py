"""Image files named in a CSV file, with labels, splits and domains as its columns say."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from tlrun.config import ConfigError, FileDomainSettings
from tlrun.data.datasets.base import Domain, DomainData
from tlrun.data.files.csv_rows import csv_rows
from tlrun.data.files.file_domains import SPLIT_NAMES, Labelled, SplitName, domain_of, find_place, read_text, some

COLUMNS = ("path", "label", "split", "domain")


class Csv(Domain):
    """Columns path, label (empty where it is not known) and, where there are such, split and domain."""

    class Config(FileDomainSettings):
        file: str | None
        root: str | None
        domain: str | None

        @property
        def place(self) -> str | None:
            return self.file if self.file is None or self.domain is None else self.domain

    config: Config

    def whereabouts(self) -> str:
        if self.config.file is None:
            return "your own images: data.target.file=FILE.csv"
        return str(find_place(self.config.file, self.places, what="file", key="file"))

    def load(self) -> DomainData:
        file = find_place(self.config.file, self.places, what="file", key="file")
        root = file.parent
        if self.config.root is not None:
            root = find_place(self.config.root, self.places, what="folder", key="root")
        rows, others = read_rows(file)
        rows = _of_domain(rows, self.config.domain, file)
        splits: dict[SplitName, list[Labelled]] = {}
        for line, row in rows:
            splits.setdefault(_split(row, line, file), []).append((row["path"], row.get("label") or None))
        if "train" not in splits:
            raise ConfigError(f"data: {file} has no rows of split train, only of {', '.join(splits) or 'none'}")
        notes = [f"columns of the file not read: {some(others)}"] if others else []
        chosen = f", domain {self.config.domain}" if self.config.domain is not None else ""
        return domain_of(root, splits, origin=f"{len(rows):,} image files named in {file}{chosen}", notes=notes)


def read_rows(file: Path) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    """Line number and cells of each row, and the names of columns that mean nothing here. Raises ConfigError."""
    try:
        lines = csv_rows(io.StringIO(read_text(file), newline=""))
        _, names = next(lines, (1, []))
        if "path" not in names:
            raise ConfigError(f"data: {file} must have a column path, its first line has {some(names) or 'nothing'}")
        if twice := [name for name in COLUMNS if names.count(name) > 1]:
            places = [str(place) for place, name in enumerate(names, start=1) if name == twice[0]]
            raise ConfigError(f"data: {file} has the column {twice[0]} more than once: columns {', '.join(places)}")
        rows = [(line, _cells(names, row, line, file)) for line, row in lines]
    except csv.Error as error:
        raise ConfigError(f"data: {file} cannot be read as CSV: {error}") from error
    return rows, [name for name in names if name not in COLUMNS]


def _cells(names: list[str], row: list[str], line: int, file: Path) -> dict[str, str]:
    if len(row) != len(names):
        raise ConfigError(f"data: {file}, line {line}: more or fewer cells than columns")
    cells = {name: cell for name, cell in zip(names, row, strict=True) if name in COLUMNS}
    if not cells["path"]:
        raise ConfigError(f"data: {file}, line {line}: no path")
    return cells


def _of_domain(
    rows: list[tuple[int, dict[str, str]]], domain: str | None, file: Path
) -> list[tuple[int, dict[str, str]]]:
    """The rows of the domain asked for; all of them where there is one alone. Raises ConfigError."""
    there = sorted({row["domain"] for _, row in rows if "domain" in row})
    if domain is None and len(there) > 1:
        raise ConfigError(f"data: {file} holds the domains {some(there)}; choose one with domain=NAME")
    if domain is not None and domain not in there:
        has = f"the domains {some(there)}" if there else "no column domain"
        raise ConfigError(f"data: {file} has {has}, so domain={domain} cannot be taken")
    return rows if domain is None else [(line, row) for line, row in rows if row["domain"] == domain]


def _split(row: dict[str, str], line: int, file: Path) -> SplitName:
    given = row.get("split", "train")
    if given.lower() not in SPLIT_NAMES:
        raise ConfigError(f"data: {file}, line {line}: split must be train, val or test, got {given!r}")
    return SPLIT_NAMES[given.lower()]
