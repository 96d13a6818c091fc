"""The rows of a CSV file of words, as every reader of such lists takes them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import TextIO


def csv_rows(file: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each row, without the blanks around a cell; empty lines are passed over.

    file: opened with newline="". Raises csv.Error for what is no CSV.
    """
    reader = csv.reader(file, strict=True)
    for row in reader:
        if row:
            yield reader.line_num, [cell.strip() for cell in row]
