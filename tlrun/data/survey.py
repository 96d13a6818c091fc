"""Each row of a split looked at once, in memory or in its file: what it shows, and whether it can be read at all."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlrun.data.files.image_files import progress
from tlrun.data.files.images import BadImage, image_size
from tlrun.data.files.reading import in_order
from tlrun.data.rows import FileRows, Reading, RowStore


@dataclass(frozen=True)
class Survey:
    """N rows. keys (N,): equal rows have equal ones, and others almost surely have not. constant (N,): of one value.

    Of files also damaged: position -> why it gives no image (its key is of its path, so that it is a copy of none);
    sides (N,): the shorter side in pixels, 0 where it is damaged; names (N,): paths below the domain's root.
    """

    keys: NDArray[np.uint64]
    constant: NDArray[np.bool_]
    damaged: Mapping[int, str]
    sides: NDArray[np.int64] | None = None
    names: tuple[str, ...] | None = None


def survey(x: RowStore, *, is_image: bool, what: str) -> Survey:
    """Looks at all rows; at files in the reading threads, with a progress bar on a terminal that says `what`."""
    if isinstance(x, FileRows):
        return _survey_files(x, what)
    values = x.tensor().numpy()
    flat = values.reshape(len(values), math.prod(values.shape[1:]))
    one_value = flat.max(1) == flat.min(1) if is_image and len(flat) else np.zeros(len(flat), dtype=bool)
    return Survey(row_digests(values), one_value, {})


def row_digests(x: NDArray[Any]) -> NDArray[np.uint64]:
    """A number (N,) for each row of x (N, ...): equal rows have equal numbers, and others almost surely have not."""
    rows = np.ascontiguousarray(x).reshape(len(x), math.prod(x.shape[1:]))
    return np.array([_digest(row.data) for row in rows], dtype=np.uint64)


def _digest(content: Any) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _survey_files(x: FileRows, what: str) -> Survey:
    paths = [x.path(position) for position in range(len(x))]
    found = in_order(partial(_look, reading=x.reading), paths, workers=x.reading.workers)
    looks = list(progress(found, total=len(paths), what=what))
    return Survey(
        keys=np.array([look.key for look in looks], dtype=np.uint64),
        constant=np.array([look.constant for look in looks], dtype=bool),
        damaged={position: look.damage for position, look in enumerate(looks) if look.damage is not None},
        sides=np.array([look.side for look in looks], dtype=np.int64),
        names=tuple(x.files.names[number] for number in x.numbers.tolist()),
    )


@dataclass(frozen=True)
class _Look:
    key: int
    constant: bool
    side: int
    damage: str | None


def _look(path: str, reading: Reading) -> _Look:
    try:
        row = reading.image(path)
        side = min(image_size(path))
    except BadImage as error:
        return _Look(_digest(path.encode("utf-8", "surrogateescape")), False, 0, error.reason)
    return _Look(_digest(row.data), bool(row.max() == row.min()), side, None)
