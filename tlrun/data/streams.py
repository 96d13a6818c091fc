"""Batches addressed by a number: what batch k holds, and how it is augmented, depends on (seed, part, k) alone.

So batches do not depend on what was read before, on the device or on workers, and a resumed run reads what a run never
interrupted would have read. Rows that are not in memory are read, augmented and normalised some batches ahead of being
asked for.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from tlrun.batch import Encoded, Examples, Inputs
from tlrun.config import AugmentSettings
from tlrun.data.domain import Part
from tlrun.data.rows import AHEAD
from tlrun.data.splits import hash64, row_keys
from tlrun.data.transforms import Augmentation, Shape, Statistics, to_batch


class Stream:
    """Endless batches of one part: permutations of it, one after the other, cut into batches.

    Every permutation holds every row once; a part smaller than a batch repeats within it. views: how many augmentations
    of the same rows a batch carries, the first as `x`, the others as `views`. Holds nothing of any other part. Raises
    ValueError for an empty part and for encoded rows that are to be augmented, ConfigError for an augmentation that
    does not fit the rows.
    """

    def __init__(
        self,
        part: Part,
        *,
        statistics: Statistics,
        shape: Shape,
        batch_size: int,
        seed: int,
        augment: AugmentSettings,
        views: int = 1,
    ) -> None:
        if not len(part):
            raise ValueError(f"{part.name} has no rows to draw batches from")
        if part.stage is not None and not augment.is_identity:
            raise ValueError(f"{part.name} is encoded, so it cannot be augmented any more")
        self.part = part
        self.batch_size = batch_size
        self._statistics = statistics
        self._shape = shape
        self._seed = seed
        self._augmentation = None if augment.is_identity else Augmentation(augment, shape)
        self._views = views
        self._cycle = -1
        self._order = torch.empty(0, dtype=torch.int64)
        self._ahead: dict[int, Future[Examples]] = {}
        # One thread puts batches together, so that each is augmented whole and no two at once.
        self._assembler = None if part.x.is_held else ThreadPoolExecutor(1, thread_name_prefix="tlrun-batch")

    def positions(self, address: int) -> Tensor:
        """Where in the part the rows of this batch stand, (batch_size,) int64, on the device where the rows are sought."""
        pieces = []
        start, stop = address * self.batch_size, (address + 1) * self.batch_size
        while start < stop:
            cycle, offset = divmod(start, len(self.part))
            pieces.append(self._permutation(cycle)[offset : offset + stop - start])
            start += len(pieces[-1])
        return torch.cat(pieces) if len(pieces) > 1 else pieces[0]

    def batch(self, address: int) -> Examples:
        """Batch number `address`, from 0, transformed and on the part's device. Raises RunError for a bad image file."""
        if self._assembler is None:
            positions = self.positions(address)
            return self._assembled(self.part.x.take(positions), positions, address)
        for stale in self._ahead.keys() - range(address, address + AHEAD + 1):
            self._ahead.pop(stale).cancel()
        for number in range(address, address + AHEAD + 1):
            if number not in self._ahead:
                positions = self.positions(number)
                started = self.part.x.start(positions)
                self._ahead[number] = self._assembler.submit(self._finished, started, positions, number)
        return self._ahead.pop(address).result()

    def _finished(self, started: Callable[[], Tensor], positions: Tensor, address: int) -> Examples:
        return self._assembled(started(), positions, address)

    def _assembled(self, rows: Tensor, positions: Tensor, address: int) -> Examples:
        """The batch of these raw rows, which stand at these positions."""
        part = self.part
        views = [
            _inputs(part, self._augmented(rows, positions, address, view), self._statistics, self._shape)
            for view in range(self._views)
        ]
        positions = positions.to(part.index.device)
        y = None if part.y is None else part.y.index_select(0, positions)
        return Examples(views[0], y, part.index.index_select(0, positions), part.domain, tuple(views[1:]))

    def _augmented(self, rows: Tensor, positions: Tensor, address: int, view: int) -> Tensor:
        if self._augmentation is None:
            return rows
        salt = (self._seed, self.part.name, "augment", view)
        seeds = None
        if self._augmentation.is_per_image:
            # Of a row and its cycle: no two augmentations of a row are alike, also where it comes twice in a batch.
            cycles = (address * self.batch_size + np.arange(len(rows))) // len(self.part)
            seeds = row_keys(cycles * len(self.part) + positions.cpu().numpy(), *salt)
        return self._augmentation(rows, generator=_generator(*salt, address), seeds=seeds)

    def _permutation(self, cycle: int) -> Tensor:
        if cycle != self._cycle:
            order = torch.randperm(len(self.part), generator=_generator(self._seed, self.part.name, "order", cycle))
            self._order, self._cycle = order.to(self.part.x.positions_device), cycle
        return self._order


def evaluation_batches(part: Part, *, statistics: Statistics, shape: Shape, batch_size: int) -> Iterator[Examples]:
    """Every row once, in the part's order, not augmented; the last batch may be smaller. An empty part has none."""
    for start, x in _row_batches(part, batch_size):
        rows = slice(start, start + batch_size)
        y = None if part.y is None else part.y[rows]
        yield Examples(_inputs(part, x, statistics, shape), y, part.index[rows], part.domain)


def _row_batches(part: Part, batch_size: int) -> Iterator[tuple[int, Tensor]]:
    """Where each batch of consecutive raw rows begins, and the batch, some being read ahead."""
    starts = range(0, len(part), batch_size)
    if part.x.is_held:
        yield from ((start, part.x.read(start, start + batch_size)) for start in starts)
        return
    begun: deque[Callable[[], Tensor]] = deque()
    waiting = iter(starts)
    for start in starts:
        for each in itertools.islice(waiting, AHEAD + 1 - len(begun)):
            begun.append(part.x.start(torch.arange(each, min(each + batch_size, len(part)))))
        yield start, begun.popleft()()


def _inputs(part: Part, rows: Tensor, statistics: Statistics, shape: Shape) -> Inputs:
    """Rows of the part as a model takes them; encoded ones are past all transforms."""
    return to_batch(rows, statistics, shape) if part.stage is None else Encoded(rows, part.stage)


def _generator(*parts: str | int) -> torch.Generator:
    return torch.Generator().manual_seed(hash64(*parts) >> 1)  # torch takes seeds below 2^63
