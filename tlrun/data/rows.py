"""Where the rows of a part lie, and how a batch gets at them: in memory, or in image files read by a pool of threads.

Threads and not processes: Pillow decodes and resizes outside Python's lock, and nothing has to be copied between
processes. What is read depends on the positions alone, so neither the number of threads nor what was read before shows.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tlrun.data.files.images import BadImage, Channels, Fit, ImageFiles, Interpolation, read_image
from tlrun.data.files.reading import reading_pool
from tlrun.files import RunError

CPU = torch.device("cpu")
AHEAD = 2
"""So many batches are read before they are asked for."""


class RowStore(ABC):
    """N rows of one shape.

    shape: (N, ...) of all rows. device: where `take` leaves them. positions_device: where it wants to be told which,
    so that rows held on a GPU are gathered without a copy and files are found without waiting for the GPU.
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]: ...

    @property
    @abstractmethod
    def device(self) -> torch.device: ...

    @property
    @abstractmethod
    def positions_device(self) -> torch.device: ...

    @property
    def is_held(self) -> bool:
        """Whether the rows are in memory, so that reading ahead gains nothing."""
        return False

    def __len__(self) -> int:
        return self.shape[0]

    @abstractmethod
    def take(self, positions: Tensor) -> Tensor:
        """The rows at these positions, (n,) int64, in their order, as (n, ...) on the device."""

    @abstractmethod
    def read(self, start: int, stop: int) -> Tensor:
        """The rows from start on up to but without stop, or as many as there are."""

    @abstractmethod
    def subset(self, positions: Tensor) -> RowStore:
        """A store of the rows at these positions, (n,) int64 on any device."""

    @abstractmethod
    def to(self, device: torch.device) -> RowStore:
        """The same rows for that device."""

    def paths(self) -> list[str] | None:
        """The file that each row is; None where rows are no files."""
        return None

    def start(self, positions: Tensor) -> Callable[[], Tensor]:
        """Begins to take rows; what is returned waits for them."""
        return functools.partial(self.take, positions)

    def tensor(self) -> Tensor:
        """All rows at once: for sets known to be small."""
        return self.read(0, len(self))


@dataclass(frozen=True, eq=False)
class Held(RowStore):
    """Rows that are a tensor, on its device."""

    x: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.x.shape)

    @property
    def device(self) -> torch.device:
        return self.x.device

    @property
    def positions_device(self) -> torch.device:
        return self.x.device

    @property
    def is_held(self) -> bool:
        return True

    def take(self, positions: Tensor) -> Tensor:
        # Maps in channels-last memory stay so, where index_select alone would undo it.
        if self.x.ndim == 4 and not self.x.is_contiguous():
            return self.x.permute(0, 2, 3, 1).index_select(0, positions).permute(0, 3, 1, 2)
        return self.x.index_select(0, positions)

    def read(self, start: int, stop: int) -> Tensor:
        return self.x[start:stop]

    def subset(self, positions: Tensor) -> Held:
        return Held(self.take(positions.to(self.x.device)))

    def to(self, device: torch.device) -> Held:
        return Held(self.x.to(device))


@dataclass(frozen=True)
class Reading:
    """How files become rows: see `images.read_image`. workers: threads that read, None for one a core."""

    size: int
    fit: Fit
    channels: Channels
    interpolation: Interpolation
    workers: int | None

    @property
    def row_shape(self) -> tuple[int, int, int]:
        return (self.size, self.size, self.channels)

    def image(self, path: Path | str) -> NDArray[np.uint8]:
        """One row, (size, size, channels). Raises BadImage."""
        return read_image(path, size=self.size, fit=self.fit, channels=self.channels, interpolation=self.interpolation)


@dataclass(frozen=True, eq=False)
class FileRows(RowStore):
    """Rows that are image files, decoded whenever a batch asks for them. numbers (N,): which of the files."""

    files: ImageFiles
    numbers: NDArray[np.int64]
    reading: Reading
    device: torch.device = CPU

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.numbers), *self.reading.row_shape)

    @property
    def positions_device(self) -> torch.device:
        return CPU

    def path(self, position: int) -> str:
        return self.files.path(int(self.numbers[position]))

    def paths(self) -> list[str]:
        return [self.files.path(number) for number in self.numbers.tolist()]

    def take(self, positions: Tensor) -> Tensor:
        return self.start(positions)()

    def read(self, start: int, stop: int) -> Tensor:
        return self.take(torch.arange(start, min(stop, len(self))))

    def subset(self, positions: Tensor) -> FileRows:
        return replace(self, numbers=self.numbers[positions.cpu().numpy()])

    def to(self, device: torch.device) -> FileRows:
        return replace(self, device=device)

    def start(self, positions: Tensor) -> Callable[[], Tensor]:
        """Begins to decode. What is returned raises RunError for the first file that gives no image."""
        chosen = self.numbers[positions.cpu().numpy()].tolist()
        out = torch.empty(len(chosen), *self.reading.row_shape, dtype=torch.uint8)
        rows = out.numpy()

        def decode(place: int, number: int) -> None:
            rows[place] = self.reading.image(self.files.path(number))

        pool = reading_pool(self.reading.workers)
        begun = [pool.submit(decode, place, number) for place, number in enumerate(chosen)]

        def wait() -> Tensor:
            _finish(begun)
            return out.to(self.device)

        return wait


def _finish(begun: list[Future[None]]) -> None:
    """Waits for all. Raises RunError for the first bad image, with the rest called off."""
    try:
        for each in begun:
            each.result()
    except BadImage as error:
        for each in begun:
            each.cancel()
        raise bad_image_error(error) from error


def bad_image_error(error: BadImage) -> RunError:
    """What stops a run at a bad image."""
    return RunError(
        f"data.on_bad_image: {error}; mend or remove the file, or leave all such files out with "
        "data.on_bad_image=skip (`tlrun data check` finds them)"
    )
