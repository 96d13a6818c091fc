"""From a domain's rows as they come, arrays or image files, to rows fitted to the run's image size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlrun.config import ConfigError, PairSettings
from tlrun.data.cache.decoded import decoded_rows
from tlrun.data.datasets.base import Rows, find_places
from tlrun.data.files.image_files import (
    Listing,
    check_present,
    describe_kinds,
    describe_sizes,
    list_files,
    look_at,
    name_bad,
    sound_files,
)
from tlrun.data.files.images import DECODING, ImageFiles
from tlrun.data.rows import FileRows, Held, Reading, RowStore
from tlrun.data.splits import SAMPLE, RowNumbers
from tlrun.data.transforms import fit

FIT_WORDS = {
    "crop": "central square of each file's image",
    "squash": "whole image of each file, its aspect changed",
    "pad": "whole image of each file, its edges repeated to a square",
}


class Opened(ABC):
    """The rows of one official split.

    usable: which of them may be used, ascending. notes: what the data card tells of them. left_out: a sentence on
    files that are not usable; empty where all are. identity: bytes that are other ones wherever the rows are.
    """

    usable: RowNumbers
    notes: tuple[str, ...] = ()
    left_out: str = ""

    @abstractmethod
    def identity(self) -> tuple[bytes, ...]: ...

    def treatment(self) -> str:
        """What the domain's fingerprint does not tell of the rows that `fitted` gives, their shape apart."""
        return ""

    @abstractmethod
    def fitted(self, rows: RowNumbers) -> RowStore:
        """A store of these rows, (n,) row numbers, fitted, on the CPU."""


def open_rows(rows: Rows, config: PairSettings, where: str, *, keep_bad: bool = False) -> Opened:
    """Ready to be fitted. keep_bad: files that give no image too, whatever data.on_bad_image says.

    Raises ConfigError, naming `where`, for files that are missing or empty, and where rows of files cannot be fitted.
    """
    if isinstance(rows.x, ImageFiles):
        return _OpenedFiles(rows.x, config, where, keep_bad=keep_bad)
    return _OpenedArray(rows.x, config)


class _OpenedArray(Opened):
    def __init__(self, x: NDArray[Any], config: PairSettings) -> None:
        self._x = x
        self._config = config
        self.usable = np.arange(len(x))

    def identity(self) -> tuple[bytes, ...]:
        x = self._x
        return repr((x.shape, x.dtype.str)).encode(), np.ascontiguousarray(x).data.cast("B")  # type: ignore[return-value]

    def fitted(self, rows: RowNumbers) -> RowStore:
        return Held(fit(self._x, rows, size=self._config.side, channels=self._config.num_channels))


class _OpenedFiles(Opened):
    def __init__(self, files: ImageFiles, config: PairSettings, where: str, *, keep_bad: bool) -> None:
        self._files, self._config = files, config
        self._reading = file_reading(config)
        self._cache = find_places(config).cache
        self._listing: Listing = list_files(files, workers=config.workers)
        sound = np.ones(len(files), dtype=bool)
        if config.on_bad_image == "skip" and not keep_bad:
            sound = sound_files(files, self._listing, self._cache, workers=config.workers)
        elif not keep_bad:
            check_present(files, self._listing, where)
        self.usable = np.flatnonzero(sound)
        self._look = look_at(files, self._listing, sound, workers=config.workers)
        self.left_out = name_bad(files, sound)
        self.notes = (
            describe_sizes(self._look.sizes),
            *describe_kinds(self._look.headers, channels=self._reading.channels),
            *([self.left_out] if self.left_out else []),
        )
        if len(files) > SAMPLE:
            self.notes += (
                f"statistics are those of {SAMPLE:,} train rows; the fingerprint is of all names and sizes and of the "
                f"contents of {SAMPLE:,} files",
            )

    def identity(self) -> tuple[bytes, ...]:
        return (self._look.fingerprint.encode(),)

    def treatment(self) -> str:
        # The fingerprint reads a sample of the files; what is kept of all of them goes by their times too.
        reading = self._reading
        how = f"{reading.fit} {reading.interpolation} {DECODING}"
        return f"{self._listing.digest(self._files)} {how}"

    def fitted(self, rows: RowNumbers) -> RowStore:
        found = FileRows(self._files, rows, self._reading)
        return found if self._config.cache == "none" else decoded_rows(found, self._listing, self._cache)


def file_reading(config: PairSettings) -> Reading:
    """How image files become rows: larger than the model's input, so that training may crop and evaluation a centre."""
    if config.side is None:
        raise ConfigError("data.image_size: must be given where rows are image files, such as 224; got null")
    return Reading(
        size=round(config.side / config.centre_fraction),
        fit=config.fit,
        channels=config.num_channels or 3,
        interpolation=config.resampling,
        workers=config.workers,
    )


def describe_reading(config: PairSettings) -> str:
    """What `file_reading` and the crops make of image files, in words for the data card."""
    reading, size = file_reading(config), config.side
    words = f"{FIT_WORDS[reading.fit]}, antialiased {reading.interpolation} resize to {reading.size}x{reading.size}"
    if reading.channels == 1:
        words += ", colour made grey by luma"
    return words if reading.size == size else f"{words}, evaluated on the central {size}x{size}"
