"""The threads that read files ahead of whoever needs them."""

from __future__ import annotations

import functools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def worker_count(workers: int | None) -> int:
    """The number of reading threads; None asks for one on each core that this process may use."""
    if workers is not None:
        return workers
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def reading_pool(workers: int | None) -> ThreadPoolExecutor:
    """The process's pool of so many reading threads, shared by all that read files."""
    return _pool(worker_count(workers))


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    _forget_pools_in_forked_children()
    return _Pool(threads, thread_name_prefix="tlrun-read")


class _Pool(ThreadPoolExecutor):
    """A pool of threads that Ctrl-C cannot leave waiting for ever."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        try:
            return super().submit(fn, *args, **kwargs)
        except KeyboardInterrupt:
            # It may have come between the start of a thread and its entry among those that are told to end with the
            # process; the process would wait for that thread.
            self.shutdown(wait=False, cancel_futures=True)
            _pool.cache_clear()
            raise


@functools.cache
def _forget_pools_in_forked_children() -> None:
    # A fork takes no threads along: a child that went on with its parent's pool would wait for ever.
    os.register_at_fork(after_in_child=_pool.cache_clear)


def in_order(
    function: Callable[[T], R], items: Iterable[T], *, workers: int | None, depth: int | None = None
) -> Iterator[R]:
    """function(item) of each item, in order, worked out in the reading pool, `depth` items ahead at most."""
    pool = reading_pool(workers)
    begun: deque[Future[R]] = deque()
    depth = depth or 4 * worker_count(workers)
    try:
        for item in items:
            begun.append(pool.submit(function, item))
            if len(begun) > depth:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        for each in begun:
            each.cancel()
