"""Random numbers as a function of the row and of the place within it: the same for any subset, on every machine."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tlrun.data.splits import row_keys


def uniform(shape: tuple[int, ...], start: int, *salt: str | int) -> NDArray[np.float64]:
    """Numbers in [0, 1), a function of the row (from `start`), of the place within it and of the salt alone."""
    return (_bits(shape, start, *salt) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(shape: tuple[int, ...], start: int, *salt: str | int) -> NDArray[np.float32]:
    """Numbers of mean 0 and variance 1, nearly Gaussian, a function of the row, of the place within it and of the salt.

    Each is the sum of the eight bytes of a hash, in standard units (the Irwin-Hall distribution of 8: at most 4.9 from
    0). Unlike logarithm and cosine it is the same on every machine.
    """
    bits = _bits(shape, start, *salt)
    pairs = np.uint64(0x00FF00FF00FF00FF)
    sums = (bits & pairs) + ((bits >> np.uint64(8)) & pairs)  # four sums of two bytes, 16 bits each
    total = (sums * np.uint64(0x0001000100010001)) >> np.uint64(48)  # their sum comes together in the highest 16
    spread = math.sqrt(8 * (256**2 - 1) / 12)
    return (total.astype(np.float32) - np.float32(8 * 127.5)) / np.float32(spread)


def _bits(shape: tuple[int, ...], start: int, *salt: str | int) -> NDArray[np.uint64]:
    places = math.prod(shape[1:])
    numbers = np.arange(start * places, (start + shape[0]) * places, dtype=np.int64)
    return row_keys(numbers, "chance", *salt).reshape(shape)
