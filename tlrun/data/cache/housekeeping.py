"""What lies under the cache folder: listed, cleared, and kept below a size by letting go of what was used longest ago."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tlrun import files, locks
from tlrun.config import ConfigError
from tlrun.data.cache import arrays as kept

GIGABYTE = 10**9
MADE = re.compile(r".+-[0-9a-f]{12}")
"""The names of entries that were made here; what else lies in the cache was fetched."""

State = Literal["whole", "unfinished", "in use", "fetched"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One folder of the cache. used: when it was last read or made, in seconds since 1970. about: what it holds.

    unfinished: what a process that died had made, with which the next one goes on; in use: some process is making it.
    """

    path: Path
    state: State
    size: int
    used: float
    about: str

    @property
    def name(self) -> str:
        return self.path.name


def entries(cache: Path) -> list[Entry]:
    """Everything in the cache, last used first, also what a process that died had only begun."""
    found = [_entry(path) for path in _folders(cache)]
    return sorted((entry for entry in found if entry is not None), key=lambda entry: entry.used, reverse=True)


def clear(cache: Path, name: str | None) -> list[Entry]:
    """Removes what was made, or only the entries of this name; returns what is gone.

    name: a whole name, or the part before the digest (`encoded`); fetched data go only when named. Raises ConfigError
    where nothing has that name, or what has it is in use.
    """
    found = entries(cache)
    if name is None:
        chosen = [entry for entry in found if entry.state != "fetched"]
    else:
        chosen = [entry for entry in found if name in (entry.name, entry.name.rpartition("-")[0])]
        if not chosen:
            names = ", ".join(entry.name for entry in found) or "nothing"
            raise ConfigError(f"tlrun data cache --clear: nothing is named {name} in {cache}; there is {names}")
    gone = [entry for entry in chosen if _remove(entry)]
    if name is not None and len(gone) < len(chosen):
        stuck = ", ".join(entry.name for entry in chosen if entry not in gone)
        raise ConfigError(f"tlrun data cache --clear: {stuck} is being made by another process; wait until it is done")
    return gone


def keep_below(cache: Path, gigabytes: float | None) -> None:
    """Removes made entries, the one used longest ago first, until the cache is no larger than `gigabytes` (10^9 bytes).

    None is no limit. Stays are what this process has used and what another one is making; fetched data do not count.
    A process that reads a removed entry is not disturbed: the system keeps the file for as long as it is mapped.
    """
    if gigabytes is None:
        return
    made = [entry for entry in entries(cache) if entry.state != "fetched"]
    size = sum(entry.size for entry in made)
    for entry in reversed(made):
        if size <= gigabytes * GIGABYTE:
            return
        if entry.path not in kept.used and _remove(entry):
            logger.info("cache above %g GB: removed %s (%s)", gigabytes, entry.name, entry.about)
            size -= entry.size


def _folders(cache: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from sorted(path for path in cache.iterdir() if path.is_dir())


def _entry(path: Path) -> Entry | None:
    """None for a folder that is just being cleared by another process."""
    try:
        lying = {file.name: file.stat() for file in path.rglob("*") if file.is_file() and file.name != kept.LOCK}
        newest = max((each.st_mtime for each in lying.values()), default=path.stat().st_mtime)
    except OSError:
        return None
    size = sum(each.st_size for each in lying.values())
    if not MADE.fullmatch(path.name):
        return Entry(path, "fetched", size, newest, "fetched")
    state: State = "in use" if _in_use(path) else "whole" if kept.CONTENTS in lying else "unfinished"
    if kept.CONTENTS not in lying:
        return Entry(path, state, size, newest, path.name.rpartition("-")[0])
    about = path.name.rpartition("-")[0]
    with suppress(OSError, ValueError, AttributeError):
        about = json.loads((path / kept.CONTENTS).read_text(encoding="utf-8")).get("about") or about
    return Entry(path, state, size, lying[kept.CONTENTS].st_mtime, about)


def _in_use(path: Path) -> bool:
    try:
        return locks.is_locked(path / kept.LOCK)
    except files.RunError:
        return False


def _remove(entry: Entry) -> bool:
    """Whether the entry is gone; one that some process is making stays."""
    if entry.state == "fetched":
        shutil.rmtree(entry.path, ignore_errors=True)
        return not entry.path.exists()
    try:
        with locks.locked(entry.path / kept.LOCK, wait=False):
            # Contents first: from then on there is no entry, whenever this process dies.
            (entry.path / kept.CONTENTS).unlink(missing_ok=True)
            shutil.rmtree(entry.path)
    except files.RunError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return True
        logger.debug("%s stays: %s", entry.path, error)
        return False
    except OSError as error:
        raise ConfigError(
            f"data.cache_root: cannot remove {entry.path} ({error.strerror or error}); remove it by hand"
        ) from error
    return True
