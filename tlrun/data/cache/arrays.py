"""Arrays that take time to make, made once: kept under the cache folder, checked whenever they are read."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlrun import files, locks
from tlrun.config import ConfigError

Arrays = dict[str, NDArray[Any]]

logger = logging.getLogger(__name__)

CONTENTS = "contents.json"
"""Written last, so that an entry without it is unfinished."""


LOCK = "lock"
used: set[Path] = set()
"""The entries that this process has read or made: they are in use for as long as it lives."""


def cached_arrays(
    cache: Path, name: str, *, inputs: Mapping[str, Any], make: Callable[[], Arrays], about: str = ""
) -> Arrays:
    """The arrays that `make` returns, from the cache when they were made before from equal inputs.

    inputs: plain JSON values that fix the result: checksums, settings, a number raised when the recipe changes.
    about: what the entry holds, in words for `tlrun data cache`. The entry is the folder `<name>-<digest of inputs>`
    with one .npy per array. Shapes, types and CRC-32 are checked at every call; what is damaged or unfinished is made
    again. A second process waits until the first has made it. Arrays come back memory-mapped, private to the process:
    writing to one changes no file.
    Raises ConfigError when the cache cannot be written; whatever `make` raises passes through and leaves no entry.
    """
    entry = entry_folder(cache, name, inputs)
    arrays = read_entry(entry)
    if arrays is not None:
        return arrays
    with locked_entry(entry):
        arrays = read_entry(entry)  # another process may have made it while this one waited
        if arrays is None:
            logger.info("making %s, once", entry)
            _write(entry, make(), inputs, about)
            arrays = read_entry(entry)
    if arrays is None:
        raise unreadable(entry)
    return arrays


def entry_folder(cache: Path, name: str, inputs: Mapping[str, Any]) -> Path:
    """Where the entry of these inputs lies, or would lie."""
    canonical = json.dumps(inputs, sort_keys=True)
    return cache / f"{name}-{hashlib.sha256(canonical.encode()).hexdigest()[:12]}"


def unreadable(entry: Path) -> ConfigError:
    return ConfigError(
        f"data.cache_root: what was written under {entry} does not read back; set another folder (or TLRUN_CACHE)"
    )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, waiting for another process that has it; it is free again when its holder dies.

    Makes the folder it lies in. Raises ConfigError when that cannot be written.
    """
    with ExitStack() as stack:
        while True:
            with writing_under(path.parent):
                path.parent.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(locks.locked(path, wait=True))
                break
            except files.RunError as error:
                # The entry was cleared away between the two: make its folder anew.
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise
        yield


@contextmanager
def locked_entry(entry: Path) -> Iterator[None]:
    """Hold the lock of an entry, as `locked`; where what is done within fails before anything lies there, no folder stays."""
    lock = entry / LOCK
    with locked(lock):
        try:
            yield
        except BaseException:
            with suppress(OSError):  # whoever waited for it makes the folder anew, and maybe has
                if list(entry.iterdir()) == [lock]:
                    lock.unlink()
                    entry.rmdir()
            raise


@contextmanager
def writing_under(folder: Path) -> Iterator[None]:
    """Tells what the system refuses to write there as a ConfigError about the cache."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"data.cache_root: cannot write under {folder} ({error.strerror or error}); "
            "set a folder that can be written and has room (or TLRUN_CACHE)"
        ) from error


def _write(entry: Path, arrays: Arrays, inputs: Mapping[str, Any], about: str) -> None:
    """Make the entry whole. Only the lock's holder writes, so it may write over the part files of a dead process."""
    described = {}
    with writing_under(entry):
        for name, made in arrays.items():
            array = np.ascontiguousarray(made)
            with (entry / f"{name}.part").open("wb") as file:
                np.save(file, array, allow_pickle=False)
            os.replace(entry / f"{name}.part", entry / f"{name}.npy")
            described[name] = {"shape": list(array.shape), "dtype": array.dtype.str, "crc32": zlib.crc32(array.data)}
    write_contents(entry, inputs, about, described)


def write_contents(entry: Path, inputs: Mapping[str, Any], about: str, arrays: Mapping[str, Mapping[str, Any]]) -> None:
    """The last file of an entry: from now on it is whole. arrays: shape, dtype and CRC-32 of each .npy beside it."""
    made = datetime.now(UTC).isoformat(timespec="seconds")
    text = json.dumps({"format": 1, "about": about, "made": made, "inputs": dict(inputs), "arrays": dict(arrays)})
    with writing_under(entry):
        (entry / "contents.part").write_text(text, encoding="utf-8")
        os.replace(entry / "contents.part", entry / CONTENTS)


def read_entry(entry: Path) -> Arrays | None:
    """The entry's arrays, or None when it is missing, unfinished or damaged. Marks it as used now."""
    try:
        contents = json.loads((entry / CONTENTS).read_text(encoding="utf-8"))
        arrays = {name: _read_array(entry / f"{name}.npy", **wanted) for name, wanted in contents["arrays"].items()}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, EOFError) as error:
        logger.warning("%s is damaged and will be made again: %s", entry, error)
        return None
    mark_used(entry)
    return arrays


def mark_used(entry: Path) -> None:
    """From now on this process uses the entry, and it is the one that was used last."""
    used.add(entry)
    with suppress(OSError):  # a cache that cannot be written serves all the same
        os.utime(entry / CONTENTS)


def _read_array(path: Path, *, shape: list[int], dtype: str, crc32: int) -> NDArray[Any]:
    array: NDArray[Any] = np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))
    if list(array.shape) != shape or array.dtype.str != dtype:
        raise ValueError(f"{path.name} holds {array.dtype.str} {array.shape}, not {dtype} {shape}")
    if zlib.crc32(array.data) != crc32:
        raise ValueError(f"{path.name} fails its checksum")
    return array
