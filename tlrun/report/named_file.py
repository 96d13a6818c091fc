"""A file that the user named: a plain one is whole or as it was, a pipe or a device is written to as it stands."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from tlrun.files import RunError, reason_of


@contextmanager
def named_file(path: Path) -> Iterator[Callable[[bytes], None]]:
    """Takes bytes for a file that gets its name when the context ends well, and is as it was otherwise.

    Of a symbolic link the target is written, and the link stays. A pipe, a device and what standard output or standard
    error already go to take the bytes as they come. Folders are made as needed. Raises RunError where the system
    refuses, at the beginning already where it can be known.
    """
    with _refusals(path):
        there = _there(path)
    if there is not None and stat.S_ISDIR(there.st_mode):
        raise RunError(f"cannot write {path}: it is a folder")
    if there is None or (stat.S_ISREG(there.st_mode) and _stream(there) is None):
        with _replaced(path) as file:
            yield _putting(file, path)
    else:
        with _closing(path, lambda: _as_it_stands(path, there)) as file:
            yield _putting(file, path)


def _there(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _stream(there: os.stat_result) -> int | None:
    """Which of standard output (1) and standard error (2) goes to what is there; replaced, it would lose their text."""
    for number in (1, 2):
        with suppress(OSError):  # it is closed
            if os.path.samestat(there, os.fstat(number)):
                return number
    return None


def _as_it_stands(path: Path, there: os.stat_result) -> BinaryIO:
    number = _stream(there)
    return path.open("wb") if number is None else os.fdopen(os.dup(number), "wb")


@contextmanager
def _replaced(path: Path) -> Iterator[BinaryIO]:
    """A file beside the one of the name, which takes its place when the context ends well."""
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    with suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _closing(path, lambda: temporary.open("wb")) as file:
            yield file
            with _refusals(path):
                os.fsync(file.fileno())
        with _refusals(path):
            os.replace(temporary, target)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def _closing(path: Path, opened: Callable[[], BinaryIO]) -> Iterator[BinaryIO]:
    with _refusals(path):
        file = opened()
    try:
        yield file
    except BaseException:
        with suppress(OSError):  # what went wrong first is what is told
            file.close()
        raise
    with _refusals(path):
        file.close()


def _putting(file: BinaryIO, path: Path) -> Callable[[bytes], None]:
    def put(data: bytes) -> None:
        with _refusals(path):
            file.write(data)
            file.flush()  # for whoever reads along at a pipe's other end

    return put


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot write {path}: {reason_of(error)}") from error
