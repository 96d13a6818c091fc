"""Moons of which the maker knows some labels, or none: a domain for tests, chosen by its module's name."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from tlrun.config import DomainSettings, Natural, NonNegative
from tlrun.data.datasets.base import Domain, DomainData, Rows
from tlrun.data.datasets.moons import Moons


class MoonsUnknown(Domain):
    """The domain `moons`, where `known` of every ten rows have a label; official: its last quarter is the test split."""

    class Config(DomainSettings):
        num_rows: int
        classes: tuple[str, ...]
        noise: NonNegative
        rotation: float
        draw: Natural
        known: Annotated[int, Field(ge=0, le=10)]
        official: bool

    config: Config

    def load(self) -> DomainData:
        values = self.config.model_dump() | {"name": "moons", "classes": ("upper", "lower")}
        known = Moons.Config(**{name: values[name] for name in Moons.Config.model_fields})
        data = Moons(known, self.places).load()
        row = np.arange(len(data.train))
        y = np.where(row // 2 % 10 < self.config.known, data.train.y, -1)
        cut = len(row) * 3 // 4 if self.config.official else len(row)
        return DomainData(
            classes=self.config.classes,
            train=Rows(data.train.x[:cut], y[:cut]),
            test=Rows(data.train.x[cut:], y[cut:]) if self.config.official else None,
            origin="moons of which not all labels are known",
        )
