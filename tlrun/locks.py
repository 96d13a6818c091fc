"""Locks between processes, each a file: they die with the process that holds them."""

from __future__ import annotations

import fcntl
import functools
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tlrun.files import RunError, reason_of

log = logging.getLogger(__name__)

_PROBE_SECONDS = 0.2  # how long a reader's look at a lock may be taken for an owner, see is_locked


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold the lock file at path, whose folder is made where needed; its text is `<pid> <host>` while it is held.

    When another process holds it, raises RunError or, with wait, says so once in the log and waits. The system frees
    the lock when this process ends, however it ends; children made by fork do not keep it.
    """
    try:
        file = _acquire(path, wait)
    except OSError as error:
        raise RunError(f"cannot lock {path}: {reason_of(error)}") from error
    _held.add(file)
    _let_go_in_forked_children()
    try:
        yield
    finally:
        if file in _held:  # if not, we are such a child
            _held.discard(file)
            with suppress(OSError):
                os.ftruncate(file, 0)
            os.close(file)


def is_locked(path: Path) -> bool:
    """Whether some process, this one included, holds the lock file at path. Changes nothing."""
    try:
        with path.open("rb") as file:
            # Shared, so that readers do not see each other; _try_lock allows for an owner who meets a reader here.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError as error:
        raise RunError(f"cannot read {path}: {reason_of(error)}") from error
    return False


_held: set[int] = set()


@functools.cache
def _let_go_in_forked_children() -> None:
    # A flock belongs to the open file, which fork shares: a loader's worker that outlives its killed parent would
    # keep the run locked.
    os.register_at_fork(after_in_child=_close_held)


def _close_held() -> None:
    while _held:
        os.close(_held.pop())


def _acquire(path: Path, wait: bool) -> int:
    """The number of an open file that has the lock."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)  # it may go with the lock that we wait for
        with ExitStack() as stack:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            stack.callback(os.close, file)
            if not _try_lock(file):
                owner = os.pread(file, 1000, 0).decode(errors="replace").split()
                who = f"process {owner[0]} on {owner[1]}" if len(owner) == 2 else "another process"
                if not wait:
                    raise RunError(f"{path.parent} is in use by {who}; wait until it ends, or stop it")
                log.info("waiting for %s, which is in use by %s", path.parent, who)
                fcntl.flock(file, fcntl.LOCK_EX)
            if path.exists() and os.path.samestat(path.stat(), os.fstat(file)):
                os.ftruncate(file, 0)
                os.pwrite(file, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
                stack.pop_all()
                return file
            # The file was removed while we waited: a lock on it keeps nobody out.


def _try_lock(file: int) -> bool:
    deadline = time.monotonic() + _PROBE_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(_PROBE_SECONDS / 10)
