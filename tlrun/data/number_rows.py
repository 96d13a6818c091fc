"""Rows of numbers from a CSV file, for models of features."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path

from tlrun.config import ConfigError


class BadRow(Exception):
    """A row of a file that is not as many finite numbers as were asked for."""

    def __init__(self, place: str, reason: str) -> None:
        self.place = place
        self.reason = reason
        super().__init__(f"{place}: {reason}")


def number_rows(path: str, count: int) -> Iterator[tuple[str, list[float]] | BadRow]:
    """Place, `<path>:<line>`, and numbers of each row, or what is wrong with it; a first row of words is a header.

    Blank lines are passed over. Raises ConfigError where the file cannot be read.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", errors="replace", newline="") as file:
            reader = csv.reader(file)
            for cells in reader:
                if any(cells) and not (reader.line_num == 1 and not any(map(_is_number, cells))):
                    yield _numbers(cells, f"{path}:{reader.line_num}", count)
    except (OSError, csv.Error) as error:
        raise ConfigError(f"{path}: cannot be read as CSV: {error}") from error


def _numbers(cells: list[str], place: str, count: int) -> tuple[str, list[float]] | BadRow:
    if len(cells) != count:
        return BadRow(place, f"has {len(cells)} values, the model takes {count}")
    wrong = [cell for cell in cells if not _is_number(cell)]
    return BadRow(place, f"{wrong[0]!r} is no finite number") if wrong else (place, [float(cell) for cell in cells])


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False
