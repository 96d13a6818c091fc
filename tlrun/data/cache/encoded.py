"""Rows taken once through the frozen prefix of a backbone, so that later epochs and later runs start behind it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tlrun.data.cache.cached_rows import cached_rows, is_begun, read_rows
from tlrun.data.domain import Part

NAME = "encoded"
RECIPE = 1
"""Raised when the same inputs would be encoded to other bits."""
KEEP_SECONDS = 0.25
KEEP_BELOW = 50e6
"""Kept on disk is what took longer than KEEP_SECONDS and came slower than so many bytes a second, since reading it back
takes a twentieth of that at most. Digits behind a small network come faster, photographs a thousand times slower."""

Encode = Callable[[int], Iterable[Tensor]]


def encoded_rows(encode: Encode, *, count: int, cache: Path, inputs: Mapping[str, Any] | None, about: str) -> Tensor:
    """`count` > 0 rows as the first stage that learns receives them, (count, ...), in the precision they came in.

    encode: the rows from one on, in blocks, on any device. inputs: plain values that fix every bit of the result; None
    where the rows have no name to be kept under. What is worth it is kept under `cache` and comes back memory-mapped,
    on the CPU; the values are the same either way. about: what the rows are, in words. Raises ConfigError when the
    cache cannot be written.
    """
    rows = None if inputs is None else read_rows(cache, NAME, inputs)
    if rows is not None:
        return _tensor(rows)
    blocks: list[Tensor] = []
    rest = iter(encode(0))
    if inputs is None or not is_begun(cache, NAME, inputs):
        began = time.monotonic()
        for block in rest:
            blocks.append(block)
            if inputs is not None and _is_worth_keeping(blocks, began):
                break
        else:
            return torch.cat(blocks)
    assert inputs is not None

    def make(start: int) -> Iterator[NDArray[Any]]:
        if start:
            yield from map(_array, encode(start))
            return
        while blocks:
            yield _array(blocks.pop(0))
        yield from map(_array, rest)

    return _tensor(cached_rows(cache, NAME, inputs=inputs, about=about, count=count, make=make))


def rows_key(part: Part) -> str | None:
    """SHA-256 that names the rows of a part by what they are, in their order; None where they have no identity."""
    if part.identity is None or part.rows is None:
        return None
    return hashlib.sha256(part.identity.encode() + part.rows.numpy().tobytes()).hexdigest()


def _is_worth_keeping(blocks: list[Tensor], began: float) -> bool:
    last = blocks[-1]
    last[(0,) * last.dim()].item()  # a GPU may be at work on it still
    seconds = time.monotonic() - began
    return seconds > KEEP_SECONDS and sum(block.nbytes for block in blocks) / seconds < KEEP_BELOW


def _array(block: Tensor) -> NDArray[Any]:
    """A block for the disk: images with their channels last, as they lie in memory; bfloat16 as its bits in uint16."""
    block = block.cpu()
    if block.dim() == 4:
        block = block.permute(0, 2, 3, 1)
    block = block.contiguous()
    array: NDArray[Any] = (block.view(torch.uint16) if block.dtype == torch.bfloat16 else block).numpy()
    return array


def _tensor(rows: NDArray[Any]) -> Tensor:
    """What `_array` made, as it was."""
    block = torch.from_numpy(rows)
    if rows.dtype == np.uint16:
        block = block.view(torch.bfloat16)
    return block.permute(0, 3, 1, 2) if block.dim() == 4 else block
