"""Which rows go where: fixed splits, subsets, grants and planted noise, as functions of row numbers and labels alone.

Nothing is drawn from a library's random generator: rows are put in order by a hash of their number, so that the choice
is the same on every machine and under every version, and a smaller choice lies inside a larger one. Rows without a label
(below 0) are one stratum of their own.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

RowNumbers = NDArray[np.int64]
Labels = NDArray[np.int64]

SAMPLE = 500
"""So many image files stand for all where all would take too long: the standard error of a channel's mean is then about
0.008, a fortieth of its standard deviation."""


def hash64(*parts: str | int) -> int:
    """A number in [0, 2^64) that depends on the parts alone, equal in every process (Python's `hash` is not)."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little")


def row_keys(numbers: RowNumbers, *salt: str | int) -> NDArray[np.uint64]:
    """A hash in [0, 2^64) of each number under a salt.

    The mixing function of SplitMix64 (Steele, Lea and Flood 2014, OOPSLA, figure 13), in integers modulo 2^64.
    """
    z = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(hash64(*salt))
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def sample(count: int) -> RowNumbers:
    """SAMPLE of 0..count-1, ascending, or all where there are not more; always the same ones for the same count."""
    return np.sort(np.argsort(row_keys(np.arange(count), "sample"), kind="stable")[:SAMPLE])


def class_counts(y: Labels, num_classes: int) -> NDArray[np.int64]:
    """Rows of each class, (C,); labels below 0 are not counted."""
    return np.bincount(y[y >= 0], minlength=num_classes).astype(np.int64)


def class_ranks(y: Labels, rows: RowNumbers, *salt: str | int) -> NDArray[np.int64]:
    """Each row's place, from 0, among the rows of its class in the order of their hashes, (N,)."""
    order = np.lexsort((row_keys(rows, *salt), y))
    in_order = y[order]
    first = np.flatnonzero(np.r_[True, in_order[1:] != in_order[:-1]])
    ranks = np.empty(len(y), dtype=np.int64)
    ranks[order] = np.arange(len(y)) - np.repeat(first, np.diff(np.r_[first, len(y)]))
    return ranks


def stratified_order(y: Labels, rows: RowNumbers, *salt: str | int) -> NDArray[np.int64]:
    """Positions 0..N-1 in an order whose every beginning is a stratified choice, with each class once at the front.

    Row r of a class of n comes at (r + 1/2) / n. That is Webster's method of apportionment; unlike the method of the
    largest remainder it takes no row from a class when the choice grows, so smaller choices lie inside larger ones.
    """
    ranks = class_ranks(y, rows, *salt)
    place = (2 * ranks + 1) / (2 * _sizes(y))
    place[ranks == 0] = 0.0  # every class once before any class twice
    return np.lexsort((y, place))


def _sizes(y: Labels) -> NDArray[np.int64]:
    """How many rows each row's class has, (N,)."""
    _, inverse, counts = np.unique(y, return_inverse=True, return_counts=True)
    sizes: NDArray[np.int64] = counts[inverse]
    return sizes


def carve(y: Labels, rows: RowNumbers, fraction: float, *salt: str | int) -> tuple[RowNumbers, RowNumbers]:
    """Positions kept and positions set aside, both ascending: about `fraction` of every class goes aside.

    A class of one row stays whole; of any other class at least one row goes and at least one stays. So the second
    array is empty only when no class has two rows.
    """
    largest = class_ranks(y, rows, *salt) == _sizes(y) - 1
    order = stratified_order(y, rows, *salt)
    order = order[~largest[order]]  # the last row of a class is never set aside
    count = max(round(fraction * len(y)), len(np.unique(y[order])))
    aside = np.sort(order[:count])
    return np.setdiff1d(np.arange(len(y)), aside, assume_unique=True), aside


def take_subset(y: Labels, rows: RowNumbers, count: int, *salt: str | int) -> RowNumbers:
    """Positions of a stratified subset of `count` rows, ascending; a smaller subset lies inside a larger one."""
    return np.sort(stratified_order(y, rows, *salt)[:count])


def take_per_class(y: Labels, rows: RowNumbers, count: int, *salt: str | int) -> RowNumbers:
    """Positions of up to `count` rows of each class, ascending, none of labels below 0; fewer lie inside more."""
    return np.flatnonzero((class_ranks(y, rows, *salt) < count) & (y >= 0))


def plant_noise(y: Labels, rows: RowNumbers, share: float, num_classes: int, *salt: str | int) -> Labels:
    """Labels of which `share` (rounded to whole rows) are replaced by another class, each other class equally likely.

    Raises ValueError when there is no other class.
    """
    if num_classes < 2:
        raise ValueError("labels can only be wrong where there are two classes")
    noisy = y.copy()
    keys = row_keys(rows, *salt)
    wrong = np.argsort(keys, kind="stable")[: round(share * len(y))]
    step = 1 + row_keys(rows[wrong], *salt, "class") % np.uint64(num_classes - 1)
    noisy[wrong] = (y[wrong] + step.astype(np.int64)) % num_classes
    return noisy
