"""Predictions as text: an aligned table, or lines of CSV, that grow batch by batch."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SHARE = len("probability")
NARROWEST = 20
"""A column of paths is not made narrower than this, whatever the terminal is; one of classes has 8 at least."""


class GuessTable:
    """A line a row: its path, the class predicted and its probability, then the next guesses; words shortened to fit.

    told: the rows' names, which give the width of their column. width: of the terminal, None to shorten nothing.
    """

    def __init__(self, classes: Sequence[str], told: Sequence[str], *, guesses: int, width: int | None) -> None:
        self.guesses = min(guesses, len(classes))
        names = [printable(name) for name in classes]
        self.name_width = max(5, *map(columns_of, names))
        beside = 2 + 2 + SHARE + (self.guesses - 1) * (2 + 2 + len("100.0 %"))  # what is neither a path nor a class
        if width is not None:
            self.name_width = min(self.name_width, max(8, (width - NARROWEST - beside) // self.guesses))
        self.classes = [shortened(name, self.name_width) for name in names]
        others = beside + self.guesses * self.name_width
        widest = max([len("path"), *(columns_of(printable(each)) for each in told)])
        self.path_width = widest if width is None else min(widest, max(NARROWEST, width - others))

    def header(self) -> str:
        """The columns' headings; a further guess has its share behind it under the same one."""
        names = ["second guess", "third guess", *(f"guess {number}" for number in range(4, self.guesses + 1))]
        width = self.name_width + 2 + len("100.0 %")
        cells = [padded("path", self.path_width), f"{padded('class', self.name_width)}  probability"]
        cells += [padded(shortened(name, width), width) for name in names[: self.guesses - 1]]
        return f"{'  '.join(cells).rstrip()}\n"

    def text(self, told: Sequence[str], probabilities: Tensor) -> str:
        """A line for each of N rows; probabilities (N, C)."""
        lines = []
        shares, order = probabilities.sort(dim=1, descending=True, stable=True)
        best = zip(told, order[:, : self.guesses].tolist(), shares[:, : self.guesses].tolist(), strict=True)
        for name, numbers, values in best:
            cells = [padded(shortened(printable(name), self.path_width, keep="end"), self.path_width)]
            for place, (number, value) in enumerate(zip(numbers, values, strict=True)):
                share = f"{100 * value:.1f} %".rjust(len("100.0 %") if place else SHARE)
                cells.append(f"{padded(self.classes[number], self.name_width)}  {share}")
            lines.append("  ".join(cells) + "\n")
        return "".join(lines)


class GuessRows:
    """Lines of CSV: every class's probability as in a run's predictions.csv, or, with `top`, the first guesses."""

    def __init__(self, classes: Sequence[str], *, top: int | None) -> None:
        self.classes = list(classes)
        self.top = None if top is None else min(top, len(self.classes))

    def header(self) -> str:
        more = [f"probability_{name}" for name in self.classes]
        if self.top is not None:
            more = [f"{what}_{place}" for place in range(2, self.top + 1) for what in ("prediction", "confidence")]
        return _csv([["path", "prediction", "confidence", *more]])

    def text(self, told: Sequence[str], probabilities: Tensor) -> str:
        """A line for each of N rows; probabilities (N, C). Of equal ones the first class comes first."""
        shares, order = probabilities.sort(dim=1, descending=True, stable=True)
        count = 1 if self.top is None else self.top
        guesses = zip(order[:, :count].tolist(), shares[:, :count].tolist(), strict=True)
        every = probabilities.tolist() if self.top is None else [[]] * len(told)
        rows = []
        for name, (numbers, values), rest in zip(told, guesses, every, strict=True):
            pairs = zip(numbers, values, strict=True)
            cells = [cell for number, value in pairs for cell in (self.classes[number], repr(value))]
            rows.append([name, *cells, *map(repr, rest)])
        return _csv(rows)


def _csv(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def printable(text: str) -> str:
    """The text with what a terminal would obey or cannot show replaced."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def columns_of(text: str) -> int:
    """How many columns of a terminal a text takes: two for wide letters, none for marks above others."""
    if text.isascii():
        return len(text)
    return sum(map(_columns, text))


def _columns(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in ("W", "F") else 1


def shortened(text: str, width: int, *, keep: str = "start") -> str:
    """The text in at most so many columns, its start or its end kept, with … for what is gone."""
    if columns_of(text) <= width:
        return text
    letters = list(text if keep == "start" else reversed(text))
    kept: list[str] = []
    left = width - 1
    for letter in letters:
        left -= _columns(letter)
        if left < 0:
            break
        kept.append(letter)
    return "".join(kept) + "…" if keep == "start" else "…" + "".join(reversed(kept))


def padded(text: str, width: int) -> str:
    return text + " " * (width - columns_of(text))
