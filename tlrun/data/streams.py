"""Batches addressed by a number: what batch k holds, and how it is augmented, depends on (seed, part, k) alone.

So batches do not depend on what was read before, on the device or on workers, and a resumed run reads what a run never
interrupted would have read. Rows that are not in memory are read, augmented and normalised some batches ahead of being
asked for.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from tlrun.batch import Encoded, Examples, Inputs
from tlrun.config import AugmentSettings, ViewSettings
from tlrun.data.augment.augmentation import Augmentation, pipelines
from tlrun.data.augment.evaluation_views import check_views, views_of
from tlrun.data.augment.mixing import Mixture, draw_mixture
from tlrun.data.domain import Part
from tlrun.data.order import Balanced, Shuffled, generator
from tlrun.data.rows import AHEAD, RowStore
from tlrun.data.splits import hash64, row_keys
from tlrun.data.transforms import Shape, Statistics, to_batch

INPUT_VALUES = 1_600_000
"""The most numbers of an evaluation's batch of inputs on the CPU, 10 photographs of 224 x 224. Above 32 MB a map is asked
of the system anew each time (`runtime.keep_freed_memory`), and the page faults of 66 photographs take as long as the
network itself."""


class Stream:
    """Endless batches of one part: permutations of it, one after the other, cut into batches.

    Every permutation holds every row once; a part smaller than a batch repeats within it. balanced: rather every class
    as often as any other, where the part has labels. views: how many augmentations of the same rows a batch carries,
    the first as `x`, the others as `views`. Of a part encoded in several views each permutation reads one, all in turn
    before any comes again, in an order of the seed. augment: the whole node, of which the part takes what is for its
    domain. Labelled rows are mixed where it says so, all views alike, and their labels become (N, num_classes)
    probabilities. Holds nothing of any other part. Raises ValueError for an empty part, for encoded rows that are to be
    augmented or mixed and for mixing without num_classes, ConfigError for an augmentation that does not fit the rows.
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
        balanced: bool = False,
        num_classes: int | None = None,
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
        both = pipelines(augment, part.domain, shape, part.x.shape) if part.stage is None else ()
        self._augmentations = [None if each.settings.keeps_images else each for each in both]
        self._views = views
        self._mix = None if part.y is None else augment.mix
        if self._mix is not None and part.stage is not None:
            raise ValueError(f"{part.name} is encoded, so its images cannot be mixed any more")
        if self._mix is not None and num_classes is None:
            raise ValueError(f"{part.name}: mixed labels need the number of classes")
        self._num_classes = num_classes
        salt = (seed, part.name)
        self._balanced = balanced and part.y is not None
        self._sequence = Balanced(part.y, *salt) if balanced and part.y is not None else Shuffled(len(part), *salt)
        self._cycle = -1
        self._order = torch.empty(0, dtype=torch.int64)
        self._ahead: dict[int, Future[Examples]] = {}
        # One thread puts batches together, so that each is augmented whole and no two at once.
        self._assembler = None if part.x.is_held else ThreadPoolExecutor(1, thread_name_prefix="tlrun-batch")

    def positions(self, address: int) -> Tensor:
        """Where in the part the rows of this batch stand, (batch_size,) int64, on the device where the rows are sought."""
        return _joined([positions for _, positions in self._pieces(address)])

    def _pieces(self, address: int) -> list[tuple[int, Tensor]]:
        """The permutations that a batch reads from, by number, and the positions that it reads of each."""
        pieces = []
        start, stop = address * self.batch_size, (address + 1) * self.batch_size
        while start < stop:
            cycle, offset = divmod(start, self._sequence.cycle_length)
            pieces.append((cycle, self._positions_of(cycle)[offset : offset + stop - start]))
            start += len(pieces[-1][1])
        return pieces

    def batch(self, address: int) -> Examples:
        """Batch number `address`, from 0, transformed and on the part's device. Raises RunError for a bad image file."""
        if self._assembler is None:
            pieces = self._pieces(address)
            rows = _joined([self._rows(cycle).take(positions) for cycle, positions in pieces])
            return self._assembled(rows, _joined([positions for _, positions in pieces]), address)
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

    def _rows(self, cycle: int) -> RowStore:
        """The rows that permutation number `cycle` reads: the part's, or those of one of its views."""
        views = self.part.views
        return views[self._view(cycle)] if views else self.part.x

    def _assembled(self, rows: Tensor, positions: Tensor, address: int) -> Examples:
        """The batch of these raw rows, which stand at these positions."""
        part = self.part
        views = [
            _inputs(part, self._augmented(rows, positions, address, view), self._statistics, self._shape)
            for view in range(self._views)
        ]
        positions = positions.to(part.index.device)
        y = None if part.y is None else part.y.index_select(0, positions)
        if self._mix is not None and y is not None:
            assert self._num_classes is not None
            mixture = self._mixture(address)
            views = [mixture.rows(each) if isinstance(each, Tensor) else each for each in views]
            y = mixture.labels(y, self._num_classes)
        return Examples(views[0], y, part.index.index_select(0, positions), part.domain, tuple(views[1:]))

    def _mixture(self, address: int) -> Mixture:
        assert self._mix is not None
        seed, device = hash64(self._seed, self.part.name, "mix", address), self.part.x.device
        return draw_mixture(self._mix, self._shape, self.batch_size, seed=seed, device=device)

    def _view(self, cycle: int) -> int:
        """Which of the part's encoded views permutation number `cycle` reads."""
        turn, place = divmod(cycle, len(self.part.views))
        order = torch.randperm(len(self.part.views), generator=generator(self._seed, self.part.name, "views", turn))
        return int(order[place])

    def _augmented(self, rows: Tensor, positions: Tensor, address: int, view: int) -> Tensor:
        augmentation = self._augmentations[min(view, 1)] if self._augmentations else None
        if augmentation is None:
            return rows
        salt = (self._seed, self.part.name, "augment", view)
        seeds = None
        if augmentation.is_per_image:
            # Of a row and its cycle: no two augmentations of a row are alike, also where it comes twice in a batch.
            places = address * self.batch_size + np.arange(len(rows))
            if not self._balanced:  # there a row comes several times in a cycle, so that only its place tells it apart
                places = places // len(self.part) * len(self.part) + positions.cpu().numpy()
            seeds = row_keys(places, *salt)
        return augmentation(rows, generator=generator(*salt, address), seeds=seeds)

    def _positions_of(self, cycle: int) -> Tensor:
        if cycle != self._cycle:
            self._order, self._cycle = self._sequence.cycle(cycle).to(self.part.x.positions_device), cycle
        return self._order


def evaluation_batches(
    part: Part,
    *,
    statistics: Statistics,
    shape: Shape,
    batch_size: int,
    start: int = 0,
    test_time: ViewSettings | None = None,
) -> Iterator[Examples]:
    """Every row from `start` on once, in the part's order, not augmented; the last batch may be smaller.

    batch_size: the most rows at once; fewer where they are large (`INPUT_VALUES`). test_time: which further views of the
    same rows each batch carries as `views`. Raises ConfigError where the rows are encoded, of which there is but one.
    """
    seen_again = test_time is not None and not test_time.is_identity
    if test_time is not None and seen_again:
        check_views(test_time, shape, encoded=part.stage is not None)
    for place, rows in _row_batches(part, shape, batch_size, start):
        y = None if part.y is None else part.y[place]
        views: tuple[Inputs, ...] = ()
        if test_time is not None and seen_again:
            views = tuple(_inputs(part, each, statistics, shape) for each in views_of(rows, test_time))
        yield Examples(_inputs(part, rows, statistics, shape), y, part.index[place], part.domain, views)


def _row_batches(part: Part, shape: Shape, most: int, start: int) -> Iterator[tuple[slice, Tensor]]:
    """Which rows each batch of consecutive ones has, and the raw rows, some being read ahead."""
    size = most
    if part.stage is None and part.index.device.type == "cpu":
        size = min(most, max(1, INPUT_VALUES // math.prod(shape)))
    slices = [slice(first, min(first + size, len(part))) for first in range(start, len(part), size)]
    if part.x.is_held:
        yield from ((rows, part.x.read(rows.start, rows.stop)) for rows in slices)
        return
    begun: deque[Callable[[], Tensor]] = deque()
    waiting = iter(slices)
    for rows in slices:
        for each in itertools.islice(waiting, AHEAD + 1 - len(begun)):
            begun.append(part.x.start(torch.arange(each.start, each.stop)))
        yield rows, begun.popleft()()


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
    salt = (0, part.domain, "encoded view", view)
    for rows, x in _row_batches(part, shape, batch_size, start):
        seeds = None
        if augmentation.is_per_image:
            assert part.rows is not None
            seeds = row_keys(part.rows[rows].numpy(), *salt)
        augmented = augmentation(x, generator=generator(*salt, rows.start), seeds=seeds)
        y = None if part.y is None else part.y[rows]
        yield Examples(_inputs(part, augmented, statistics, shape), y, part.index[rows], part.domain)


def _inputs(part: Part, rows: Tensor, statistics: Statistics, shape: Shape) -> Inputs:
    """Rows of the part as a model takes them; encoded ones are past all transforms."""
    return to_batch(rows, statistics, shape) if part.stage is None else Encoded(rows, part.stage)


def _joined(pieces: list[Tensor]) -> Tensor:
    return torch.cat(pieces) if len(pieces) > 1 else pieces[0]
