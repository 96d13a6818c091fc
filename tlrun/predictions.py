"""What a trained model says of files that no run has seen: batch by batch, with files read ahead of the model."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from tlrun.data.files.image_paths import Named
from tlrun.data.files.images import BadImage
from tlrun.data.files.row_reader import RowReader
from tlrun.data.number_rows import BadRow, number_rows
from tlrun.data.split_domain import Role
from tlrun.trained import Trained

BATCH_NUMBERS = 2**23
"""At most so many input numbers make a batch where nobody asks for a size: 55 images of 224 x 224 in colour."""

T = TypeVar("T")


@dataclass(frozen=True)
class Predicted:
    """One batch: what its N rows are called, and probabilities (N, C) on the CPU, in the order of the run's classes."""

    told: Sequence[str]
    probabilities: Tensor

    def __len__(self) -> int:
        return len(self.told)


@dataclass(frozen=True)
class LeftOut:
    """A file or row of which nothing can be predicted, and why."""

    told: str
    reason: str


def batch_size(trained: Trained, asked: int | None) -> int:
    """The batch size asked for, or the run's own for evaluation, where BATCH_NUMBERS does not make it smaller."""
    most = max(1, BATCH_NUMBERS // math.prod(trained.shape))
    return asked or min(trained.config.engine.eval_batch_size, most)


def predict_images(
    trained: Trained, named: Sequence[Named], *, domain: Role, size: int, threads: int | None
) -> Generator[Predicted | LeftOut]:
    """Every image once, in order, seen as the run saw the domain's. size: of a batch. threads: how many read files, None for one a core.

    Two batches of pixels are held ahead of the model, however many files there are. Raises OSError where the system
    cannot read on.
    """
    reader = RowReader(trained.config.data, trained.inputs[domain], trained.shape)
    rows = reader.read_ahead((each.path for each in named), threads=threads, ahead=2 * size)
    found = (
        LeftOut(each.told, row.reason) if isinstance(row, BadImage) else (each.told, row)
        for each, row in zip(named, rows, strict=True)
    )
    for batch in _batches(found, size):
        if isinstance(batch, LeftOut):
            yield batch
        else:
            yield _predicted(trained, [told for told, _ in batch], reader.rows([row for _, row in batch]), domain)


def predict_numbers(
    trained: Trained, paths: Sequence[str], *, domain: Role, size: int
) -> Generator[Predicted | LeftOut]:
    """Every row of these CSV files, of as many numbers as the model takes. Raises ConfigError as `number_rows`."""
    found = (
        LeftOut(row.place, row.reason) if isinstance(row, BadRow) else row
        for path in paths
        for row in number_rows(path, trained.shape[0])
    )
    for batch in _batches(found, size):
        if isinstance(batch, LeftOut):
            yield batch
        else:
            x = torch.tensor([row for _, row in batch], dtype=torch.float32)
            yield _predicted(trained, [told for told, _ in batch], x, domain)


def _batches(found: Iterable[T | LeftOut], size: int) -> Iterator[list[T] | LeftOut]:
    """What can be predicted in lists of `size`, the last maybe shorter, what cannot as soon as it is met."""
    batch: list[T] = []
    for each in found:
        if isinstance(each, LeftOut):
            yield each
            continue
        batch.append(each)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _predicted(trained: Trained, told: list[str], x: Tensor, domain: Role) -> Predicted:
    return Predicted(told, trained.output(x, domain).logits.softmax(dim=1).cpu())
