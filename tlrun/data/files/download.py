"""Files fetched once: resumed where a connection broke, whole and checked before they get their name."""

from __future__ import annotations

import hashlib
import http.client
import logging
import re
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tqdm import tqdm

from tlrun.config import ConfigError
from tlrun.data.cache.arrays import locked

CHUNK = 1 << 16
TIMEOUT_SECONDS = 60.0  # without a byte for so long, a connection counts as broken
MAX_BROKEN = 5  # connections of one address that may break before it is given up

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Remote:
    """One file of the network: the addresses that have it, tried in order, and the MD5 that its publishers state."""

    name: str
    addresses: tuple[str, ...]
    md5: str


class _Broken(Exception):
    """A connection that ended before the file did."""


def fetch_missing(
    wanted: Callable[[], Mapping[str, Remote]],
    find: Callable[[], Mapping[str, Path]],
    folder: Path,
    *,
    otherwise: Path,
) -> None:
    """Fetch every wanted file that `find` does not find, into `folder`, or `otherwise` where that cannot be written.

    wanted, find: by file name. They are asked while the folder is locked, so of two processes one fetches and the other
    finds. Raises ConfigError when a file cannot be had.
    """
    target = writable(folder, otherwise=otherwise)
    lock = target / ".fetching"
    with locked(lock):
        try:
            found = find()  # another process may have fetched them while this one waited
            for name, remote in wanted().items():
                if name not in found:
                    fetch(remote, target)
        finally:
            lock.unlink(missing_ok=True)  # who waits for it sees that it is gone, and makes it anew


def writable(folder: Path, *, otherwise: Path) -> Path:
    """`folder`, made if need be, or `otherwise` where nothing can be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return otherwise


def fetch(remote: Remote, folder: Path) -> Path:
    """The file, fetched into `folder` from the first address that gives it.

    It is written as `.<name>.part`, which an interrupted call leaves and a later one goes on from, and gets its name
    once its MD5 is right. Raises ConfigError with what each address answered; only a wrong MD5 removes the part.
    """
    part, path = folder / f".{remote.name}.part", folder / remote.name
    failures = []
    for address in remote.addresses:
        logger.info("fetching %s", address)
        try:
            _fetch_checked(address, part, remote)
            part.replace(path)
            return path
        except (_Broken, OSError, http.client.HTTPException, ValueError) as error:
            failures.append(f"{address}: {_reason(error)}")
    kept = f"; {part.stat().st_size:,} bytes are kept and the same command goes on from there" if _has(part) else ""
    raise ConfigError(
        f"data.download: fetching {remote.name} into {folder} failed ({'; '.join(failures)}){kept}; "
        "try again, or put the file there by hand, or set data.root"
    )


def _fetch_checked(address: str, part: Path, remote: Remote) -> None:
    """Complete the part and compare its MD5; a part begun by another call gets a second chance from its beginning."""
    for resumed in (_has(part), False):
        _complete(address, part, remote.name)
        with part.open("rb") as file:
            md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if md5 == remote.md5:
            return
        size = part.stat().st_size
        part.unlink()
        if not resumed:
            raise _Broken(f"{size:,} bytes came, whose MD5 is {md5}, not the published {remote.md5}")


def _complete(address: str, part: Path, name: str) -> None:
    """Add to the part until the server has no more; a broken connection is taken up again while it brings anything."""
    for attempt in range(1, MAX_BROKEN + 1):
        before = part.stat().st_size if _has(part) else 0
        try:
            _connect(address, part, name)
            return
        except (_Broken, OSError, http.client.HTTPException) as error:
            after = part.stat().st_size if _has(part) else 0
            if isinstance(error, urllib.error.HTTPError) or after <= before or attempt == MAX_BROKEN:
                raise
            logger.info("%s broke off at %d bytes (%s); going on", address, after, _reason(error))


def _connect(address: str, part: Path, name: str) -> None:
    """One connection: from where the part ends, or from the start where the server knows no ranges."""
    start = part.stat().st_size if _has(part) else 0
    headers = {"Range": f"bytes={start}-"} if start else {}
    try:
        response = urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
            raise
        error.close()
        return  # the part is as long as the file, or longer: its MD5 tells
    with response:
        if start and not _goes_on(response, start):
            start = 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        with part.open("ab" if start else "wb") as file:
            _copy(response, file, name, start, total)
    size = part.stat().st_size
    if total is not None and size < total:
        raise _Broken(f"the connection ended at {size:,} of {total:,} bytes")


def _goes_on(response: http.client.HTTPResponse, start: int) -> bool:
    stated = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return response.status == http.HTTPStatus.PARTIAL_CONTENT and stated is not None and int(stated[1]) == start


def _copy(response: http.client.HTTPResponse, file: IO[bytes], name: str, start: int, total: int | None) -> None:
    # disable=None: a bar on a terminal, nothing in a log.
    with tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=name, leave=False, disable=None) as bar:
        while chunk := response.read(CHUNK):
            file.write(chunk)
            bar.update(len(chunk))


def _has(part: Path) -> bool:
    with suppress(OSError):
        return part.stat().st_size > 0
    return False


def _reason(error: Exception) -> str:
    """What went wrong in a few words: `HTTP 404 Not Found`, `Connection refused`."""
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
        return _reason(error.reason)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
