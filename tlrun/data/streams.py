"""Batches addressed by a number: what batch k holds, and how it is augmented, depends on (seed, part, k) alone.

So batches do not depend on what was read before, on the device or on workers, and a resumed run reads what a run never
interrupted would have read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from tlrun.batch import Encoded, Examples, Inputs
from tlrun.config import AugmentSettings
from tlrun.data.domain import Part
from tlrun.data.splits import hash64, row_keys
from tlrun.data.transforms import Augmentation, Shape, Statistics, to_batch

INPUT_VALUES = 10_000_000
"""The most numbers of an evaluation's batch of inputs: 66 photographs of 224 x 224, whose maps then take some 200 MB."""


class Stream:
    """Endless batches of one part: permutations of it, one after the other, cut into batches.

    Every permutation holds every row once; a part smaller than a batch repeats within it. views: how many augmentations
    of the same rows a batch carries, the first as `x`, the others as `views`. Of a part encoded in several views each
    permutation reads one, all in turn before any comes again, in an order of the seed. Holds nothing of any other part.
    Raises ValueError for an empty part and for encoded rows that are to be augmented, ConfigError for an augmentation
    that does not fit the rows.
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
        if part.stage is not None and not part.views and not augment.is_identity:
            raise ValueError(f"{part.name} is encoded, so it cannot be augmented any more")
        self.part = part
        self.batch_size = batch_size
        self._statistics = statistics
        self._shape = shape
        self._seed = seed
        self._augmentation = None if augment.is_identity or part.views else Augmentation(augment, shape)
        self._views = views
        self._cycle = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def positions(self, address: int) -> Tensor:
        """Where in the part the rows of this batch stand, (batch_size,) int64 on the part's device."""
        return _joined([positions for _, positions in self._pieces(address)])

    def _pieces(self, address: int) -> list[tuple[int, Tensor]]:
        """The permutations that a batch reads from, by number, and the positions that it reads of each."""
        pieces = []
        start, stop = address * self.batch_size, (address + 1) * self.batch_size
        while start < stop:
            cycle, offset = divmod(start, len(self.part))
            pieces.append((cycle, self._permutation(cycle)[offset : offset + stop - start]))
            start += len(pieces[-1][1])
        return pieces

    def batch(self, address: int) -> Examples:
        """Batch number `address`, from 0, transformed and on the part's device."""
        part, pieces = self.part, self._pieces(address)
        positions = _joined([each for _, each in pieces])
        if part.views:
            rows = _joined([_select(part.views[self._view(cycle)], each) for cycle, each in pieces])
        else:
            rows = _select(part.x, positions)
        views = [
            _inputs(part, self._augmented(rows, positions, address, view), self._statistics, self._shape)
            for view in range(self._views)
        ]
        y = None if part.y is None else part.y.index_select(0, positions)
        return Examples(views[0], y, part.index.index_select(0, positions), part.domain, tuple(views[1:]))

    def _view(self, cycle: int) -> int:
        """Which of the part's encoded views permutation number `cycle` reads."""
        turn, place = divmod(cycle, len(self.part.views))
        generator = _generator(self._seed, self.part.name, "views", turn)
        return int(torch.randperm(len(self.part.views), generator=generator)[place])

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
            self._order, self._cycle = order.to(self.part.x.device), cycle
        return self._order


def evaluation_batches(
    part: Part, *, statistics: Statistics, shape: Shape, batch_size: int, start: int = 0
) -> Iterator[Examples]:
    """Every row from `start` on once, in the part's order, not augmented; the last batch may be smaller.

    batch_size: the most rows at once; fewer where they are large (`INPUT_VALUES`).
    """
    size = _rows_at_once(part, shape, batch_size)
    for first in range(start, len(part), size):
        rows = slice(first, first + size)
        y = None if part.y is None else part.y[rows]
        yield Examples(_inputs(part, part.x[rows], statistics, shape), y, part.index[rows], part.domain)


def augmented_batches(
    part: Part,
    augmentation: Augmentation,
    *,
    view: int,
    statistics: Statistics,
    shape: Shape,
    batch_size: int,
    start: int = 0,
) -> Iterator[Examples]:
    """As `evaluation_batches`, augmented: view number `view` of every row, a function of that number and the batch.

    No seed of a run enters, so that runs of all seeds share the views that are kept.
    """
    size = _rows_at_once(part, shape, batch_size)
    for first in range(start, len(part), size):
        rows = slice(first, first + size)
        x, salt = part.x[rows], (0, part.domain, "encoded view", view)
        seeds = None
        if augmentation.is_per_image:
            assert part.rows is not None
            seeds = row_keys(part.rows[rows].numpy(), *salt)
        x = augmentation(x, generator=_generator(*salt, first), seeds=seeds)
        y = None if part.y is None else part.y[rows]
        yield Examples(_inputs(part, x, statistics, shape), y, part.index[rows], part.domain)


def _inputs(part: Part, rows: Tensor, statistics: Statistics, shape: Shape) -> Inputs:
    """Rows of the part as a model takes them; encoded ones are past all transforms."""
    return to_batch(rows, statistics, shape) if part.stage is None else Encoded(rows, part.stage)


def _rows_at_once(part: Part, shape: Shape, most: int) -> int:
    return most if part.stage is not None else min(most, max(1, INPUT_VALUES // math.prod(shape)))


def _joined(pieces: list[Tensor]) -> Tensor:
    return torch.cat(pieces) if len(pieces) > 1 else pieces[0]


def _select(x: Tensor, positions: Tensor) -> Tensor:
    """The rows at these positions; maps in channels-last memory stay so, where index_select alone would undo it."""
    if x.ndim == 4 and not x.is_contiguous():
        return x.permute(0, 2, 3, 1).index_select(0, positions).permute(0, 3, 1, 2)
    return x.index_select(0, positions)


def _generator(*parts: str | int) -> torch.Generator:
    return torch.Generator().manual_seed(hash64(*parts) >> 1)  # torch takes seeds below 2^63
