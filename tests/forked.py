"""Forked processes, which see what the test sees and can be killed."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection


@contextmanager
def child(task: Callable[[Connection], object]) -> Iterator[tuple[multiprocessing.context.ForkProcess, Connection]]:
    """A forked process that does the task, with a pipe to it; killed at the end."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_begin, args=(task, ours, theirs))
    process.start()
    theirs.close()
    try:
        yield process, ours
    finally:
        process.kill()
        process.join()
        ours.close()


def _begin(task: Callable[[Connection], object], ours: Connection, theirs: Connection) -> None:
    # Without its copy of our end, a child whose parent died sees the pipe close instead of waiting for ever.
    ours.close()
    task(theirs)
