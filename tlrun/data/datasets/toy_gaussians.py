"""Two Gaussian clusters in the plane, which a pair takes twice: as they are, and rotated and shifted."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from pydantic import Field

from tlrun.config import DomainSettings, Natural, Positive
from tlrun.data.datasets.base import Domain, DomainData, Rows

CENTRE = 2.0
"""The clusters lie this far left and right of the origin before rotation; `spread` is measured against it."""


class ToyGaussians(Domain):
    """Two classes in the plane, one Gaussian cluster each."""

    class Config(DomainSettings):
        num_rows: Annotated[int, Field(ge=2)]
        classes: tuple[str, str]
        spread: Positive
        rotation: float
        shift: tuple[float, float]
        draw: Natural

        def problems(self) -> list[str]:
            if self.classes[0] == self.classes[1]:
                return [f"classes: the two names must differ, got {self.classes[0]} twice"]
            return []

    config: Config

    def load(self) -> DomainData:
        config = self.config
        y = np.arange(config.num_rows, dtype=np.int64) % 2
        # RandomState, not Generator: its streams are promised never to change, and a run is named by what it computes.
        noise = np.random.RandomState(config.draw).standard_normal((config.num_rows, 2))
        points = config.spread * noise
        points[:, 0] += np.where(y == 0, -CENTRE, CENTRE)
        angle = math.radians(config.rotation)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        x = (points @ turn.T + np.array(config.shift)).astype(np.float32)
        return DomainData(
            classes=config.classes,
            train=Rows(x, y),
            test=None,
            origin=(
                f"two Gaussian clusters of standard deviation {config.spread:g} around (-{CENTRE:g}, 0) and "
                f"({CENTRE:g}, 0), rotated by {config.rotation:g} degrees about the origin, then shifted by "
                f"({config.shift[0]:g}, {config.shift[1]:g}); draw {config.draw}"
            ),
        )
