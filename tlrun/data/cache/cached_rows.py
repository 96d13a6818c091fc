"""Rows that take long to make, kept under the cache folder as they come: what a killed process had made is not lost."""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tlrun.data.cache.arrays import entry_folder, locked_entry, read_entry, unreadable, write_contents, writing_under

ROWS = "rows"
PART, PROGRESS = f"{ROWS}.part", f"{ROWS}.progress"
CHUNK_BYTES = 1 << 24

logger = logging.getLogger(__name__)


def read_rows(cache: Path, name: str, inputs: Mapping[str, Any]) -> NDArray[Any] | None:
    """The rows of an entry that is whole, memory-mapped and checked; None where there is none."""
    arrays = read_entry(entry_folder(cache, name, inputs))
    return None if arrays is None else arrays[ROWS]


def is_begun(cache: Path, name: str, inputs: Mapping[str, Any]) -> bool:
    """Whether some process has begun to make the entry, and maybe is at it."""
    return (entry_folder(cache, name, inputs) / PROGRESS).exists()


def cached_rows(
    cache: Path,
    name: str,
    *,
    inputs: Mapping[str, Any],
    about: str,
    count: int,
    make: Callable[[int], Iterable[NDArray[Any]]],
) -> NDArray[Any]:
    """`count` rows, (count, ...), from the cache when they were made before from equal inputs, else made now.

    make: the rows from one on, in blocks of one type and shape; asked for those after the last whole block where an
    earlier process was killed. Blocks are written as they come, so that no more than one is in memory. Checked, locked
    and memory-mapped as `arrays.cached_arrays` does. Raises ConfigError when the cache cannot be written.
    """
    rows = read_rows(cache, name, inputs)
    if rows is not None:
        return rows
    entry = entry_folder(cache, name, inputs)
    with locked_entry(entry):
        rows = read_rows(cache, name, inputs)  # another process may have made it while this one waited
        if rows is None:
            described = _make(entry, count, make)
            write_contents(entry, inputs, about, {ROWS: described})
            rows = read_rows(cache, name, inputs)
    if rows is None:
        raise unreadable(entry)
    return rows


def _make(entry: Path, count: int, make: Callable[[int], Iterable[NDArray[Any]]]) -> dict[str, Any]:
    """Writes all rows, or those that are still missing, under their final name; returns their description."""
    blocks = _whole_blocks(entry)
    done, crc, offset = (blocks[-1]["rows"], blocks[-1]["crc32"], blocks[-1]["bytes"]) if blocks else (0, 0, 0)
    if done:
        logger.info("%s: going on after %d of %d rows", entry, done, count)
    with writing_under(entry):
        (entry / PROGRESS).write_text("".join(f"{json.dumps(block)}\n" for block in blocks), encoding="utf-8")
        file = (entry / PART).open("r+b" if done else "w+b")
        progress = (entry / PROGRESS).open("a", encoding="utf-8")
    with file, progress:
        file.seek(offset)
        file.truncate()
        for block in make(done) if done < count else ():
            block = np.ascontiguousarray(block)
            crc = zlib.crc32(block.data, crc)
            with writing_under(entry):
                if not done:
                    _write_header(file, (count, *block.shape[1:]), block.dtype)
                file.write(block.data)
                file.flush()
                done += len(block)
                progress.write(json.dumps({"rows": done, "crc32": crc, "bytes": file.tell()}) + "\n")
                progress.flush()
    if done != count:
        raise ValueError(f"{count} rows were to be made, {done} were")
    with writing_under(entry):
        rows = np.load(entry / PART, mmap_mode="r", allow_pickle=False)
        os.replace(entry / PART, entry / f"{ROWS}.npy")
        (entry / PROGRESS).unlink()
    return {"shape": list(rows.shape), "dtype": rows.dtype.str, "crc32": crc}


def _write_header(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)


def _whole_blocks(entry: Path) -> list[dict[str, int]]:
    """The blocks that a killed process had written: rows, checksum and bytes up to the end of each.

    Every one is checked; those from the first damaged one on count as not made.
    """
    blocks: list[dict[str, int]] = []
    try:
        lines = (entry / PROGRESS).read_text(encoding="utf-8").splitlines()
        with (entry / PART).open("rb") as file:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            crc = 0
            for line in lines:
                block = json.loads(line)
                left = int(block["bytes"]) - file.tell()
                while left > 0 and (chunk := file.read(min(left, CHUNK_BYTES))):
                    crc = zlib.crc32(chunk, crc)
                    left -= len(chunk)
                if left or crc != block["crc32"]:
                    break
                blocks.append({name: int(block[name]) for name in ("rows", "crc32", "bytes")})
    except (OSError, ValueError, KeyError, TypeError):
        return blocks
    return blocks
