"""In which order the rows of a part are trained on: one endless sequence, a function of seed, part and place alone."""

from __future__ import annotations

import torch
from torch import Tensor

from tlrun.data.splits import hash64


class Shuffled:
    """Permutations of all rows, one after the other. cycle_length: the rows of one."""

    def __init__(self, rows: int, *salt: str | int) -> None:
        self.cycle_length = rows
        self._salt = salt

    def cycle(self, number: int) -> Tensor:
        """The positions of permutation `number`, from 0, (cycle_length,) int64 on the CPU."""
        return torch.randperm(self.cycle_length, generator=generator(*self._salt, "order", number))


class Balanced:
    """Every class as often as any other: rounds of one row of each class, in an order of their own.

    Each class goes through permutations of its rows, so rare rows come again and again and none is left out. A cycle is
    as many rounds as the largest class has rows; every cycle begins with fresh permutations. Rows of no class are never
    drawn. Raises ValueError where no row has a class.
    """

    def __init__(self, y: Tensor, *salt: str | int) -> None:
        y = y.cpu()
        self._rows = [torch.nonzero(y == label).squeeze(1) for label in torch.bincount(y[y >= 0]).nonzero()]
        if not self._rows:
            raise ValueError("no row has a class to be balanced by")
        self._rounds = max(len(rows) for rows in self._rows)
        self.cycle_length = self._rounds * len(self._rows)
        self._salt = salt

    def cycle(self, number: int) -> Tensor:
        """The positions of cycle `number`, from 0, (cycle_length,) int64 on the CPU."""
        draw = generator(*self._salt, "balanced", number)
        columns = []
        for rows in self._rows:
            passes = -(-self._rounds // len(rows))
            order = torch.rand(passes, len(rows), generator=draw).argsort(1)
            columns.append(rows[order].flatten()[: self._rounds])
        rounds = torch.stack(columns, dim=1)
        return rounds.gather(1, torch.rand(rounds.shape, generator=draw).argsort(1)).flatten()


def generator(*parts: str | int) -> torch.Generator:
    """A generator on the CPU whose state depends on the parts alone."""
    return torch.Generator().manual_seed(hash64(*parts) >> 1)  # torch takes seeds below 2^63
