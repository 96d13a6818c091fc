"""Image files decoded and fitted once, kept under the cache folder, and read from there bit for bit as they were."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tlrun.config import ConfigError
from tlrun.data.cache.arrays import locked_entry, mark_used, writing_under
from tlrun.data.files.image_files import Listing, progress
from tlrun.data.files.images import DECODING, BadImage, ImageFiles
from tlrun.data.files.reading import in_order, reading_pool
from tlrun.data.rows import FileRows, Reading, RowStore, bad_image_error

log = logging.getLogger(__name__)

RECIPE = 1
"""Raised when rows come out otherwise for the same files under the same settings."""
DONE = 1 << 32
"""Added to a row's CRC-32 in its mark, so that no row's mark is 0."""


@dataclass(frozen=True, eq=False)
class DecodedRows(RowStore):
    """Rows of a decoded cache. pixels (all files, size, size, C) uint8, a memory map; marks (all files,) their CRC-32.

    Every row is checked whenever it is read; one that fails is decoded again from its file, and written again.
    """

    source: FileRows
    entry: Path
    pixels: NDArray[np.uint8]
    marks: NDArray[np.uint64]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    @property
    def device(self) -> torch.device:
        return self.source.device

    @property
    def positions_device(self) -> torch.device:
        return self.source.positions_device

    def paths(self) -> list[str]:
        return self.source.paths()

    def take(self, positions: Tensor) -> Tensor:
        numbers = self.source.numbers[positions.cpu().numpy()].tolist()
        out = torch.empty(len(numbers), *self.shape[1:], dtype=torch.uint8)
        for row, number in zip(out.numpy(), numbers, strict=True):
            row[...] = self.pixels[number]
            if zlib.crc32(row.data) | DONE != int(self.marks[number]):
                row[...] = self._mended(number)
        return out.to(self.device)

    def read(self, start: int, stop: int) -> Tensor:
        return self.take(torch.arange(start, min(stop, len(self))))

    def subset(self, positions: Tensor) -> DecodedRows:
        return replace(self, source=self.source.subset(positions))

    def to(self, device: torch.device) -> DecodedRows:
        return replace(self, source=self.source.to(device))

    def start(self, positions: Tensor) -> Callable[[], Tensor]:
        return reading_pool(self.source.reading.workers).submit(self.take, positions).result

    def _mended(self, number: int) -> NDArray[np.uint8]:
        log.warning("%s: row %d fails its checksum and is decoded again", self.entry, number)
        try:
            row = self.source.reading.image(self.source.files.path(number))
        except BadImage as error:
            raise bad_image_error(error) from error
        with locked_entry(self.entry), writing_under(self.entry):
            _Files(self.entry).write(number, row)
        return row


def decoded_rows(source: FileRows, listing: Listing, cache: Path) -> DecodedRows:
    """The same rows out of the cache, those that it lacks decoded now, in the reading threads.

    The entry is a folder named by a digest of the files' names, sizes and times and of how they are read: `pixels`, the
    rows as they lie in memory, and `marks`, a number each, not 0 once its row is written. So what a killed process had
    done counts, and what is there is always whole. A second process waits until the first is done.
    Raises ConfigError when the cache cannot be written or has no room, RunError for the first bad image.
    """
    files, reading = source.files, source.reading
    inputs = _inputs(files, listing, reading)
    name = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:12]
    entry = cache / f"decoded-{name}"
    shape = (len(files), *reading.row_shape)
    with locked_entry(entry), writing_under(entry):
        kept = _Files(entry)
        marks = kept.open(shape, inputs)
        todo = source.numbers[marks[source.numbers] == 0]
        if len(todo):
            _fill(kept, source, todo)
            marks = kept.marks(len(files))
    mark_used(entry)
    pixels = np.memmap(entry / "pixels", dtype=np.uint8, mode="r", shape=shape)
    return DecodedRows(source, entry, pixels, marks)


def _inputs(files: ImageFiles, listing: Listing, reading: Reading) -> dict[str, object]:
    how = {key: getattr(reading, key) for key in ("size", "fit", "channels", "interpolation")}
    return {
        "about": f"{files.root}: images at {reading.size} pixels, {reading.fit}",
        "listing": listing.digest(files),
        "root": str(files.root),
        "decoding": DECODING,
        "recipe": RECIPE,
        **how,
    }


def _fill(kept: _Files, source: FileRows, todo: NDArray[np.int64]) -> None:
    """Decodes these files into the entry, in any order and in parallel."""
    need = len(todo) * int(np.prod(source.reading.row_shape))
    free = shutil.disk_usage(kept.entry).free
    if need > free:
        raise ConfigError(
            f"data.cache: decoded needs {need / 2**30:.1f} GiB under {kept.entry.parent} and {free / 2**30:.1f} are "
            "free; set another data.cache_root (or TLRUN_CACHE), or data.cache=none"
        )
    log.info("decoding %d images into %s, once", len(todo), kept.entry)

    def decode(number: int) -> None:
        kept.write(number, source.reading.image(source.files.path(number)))

    done = in_order(decode, todo.tolist(), workers=source.reading.workers)
    try:
        for _ in progress(done, total=len(todo), what="decoding"):
            pass
    except BadImage as error:
        raise bad_image_error(error) from error


@dataclass(frozen=True)
class _Files:
    """The files of one entry. Rows are written in place, each mark after its row."""

    entry: Path

    def open(self, shape: tuple[int, ...], inputs: dict[str, object]) -> NDArray[np.uint64]:
        """Makes what is not there, at its full length, and gives the marks."""
        about = self.entry / "contents.json"
        if not about.exists():
            about.with_suffix(".part").write_text(json.dumps({"format": 1, "shape": list(shape), **inputs}, indent=1))
            os.replace(about.with_suffix(".part"), about)
        lengths = {self.entry / "pixels": int(np.prod(shape)), self.entry / "marks": 8 * shape[0]}
        if any(not path.exists() or path.stat().st_size != length for path, length in lengths.items()):
            (self.entry / "marks").unlink(missing_ok=True)  # first, so that no mark is left of what is cut off
            for path, length in lengths.items():
                with path.open("wb") as file:
                    file.truncate(length)
        return self.marks(shape[0])

    def marks(self, count: int) -> NDArray[np.uint64]:
        return np.fromfile(self.entry / "marks", dtype=np.uint64, count=count)

    def write(self, number: int, row: NDArray[np.uint8]) -> None:
        data = np.ascontiguousarray(row).data
        _write_at(self.entry / "pixels", data.cast("B"), number * data.nbytes)
        mark = np.array([zlib.crc32(data) | DONE], dtype=np.uint64)
        _write_at(self.entry / "marks", mark.data.cast("B"), number * 8)


def _write_at(path: Path, data: memoryview, offset: int) -> None:
    # Not through a memory map: where the disk is full, that ends the process without a word.
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)
