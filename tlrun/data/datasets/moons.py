"""Two inter-twinning moons in the plane, which a pair takes twice: as they are, and turned.

The toy problem of Germain et al. 2013 (ICML, section 5.1) and of the DANN paper (Ganin et al. 2016, JMLR 17, figure 2,
arXiv:1505.07818): the steeper the turn, the less a boundary of the source is worth.
"""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tlrun.config import DomainSettings, Natural, NonNegative
from tlrun.data.datasets.base import Domain, DomainData, Rows

MIDDLE = (0.5, 0.25)
"""The point about which the two half circles lie alike; it becomes the origin, about which they turn."""


class Moons(Domain):
    """Two classes in the plane, a half circle of radius 1 each."""

    class Config(DomainSettings):
        num_rows: Annotated[int, Field(ge=2)]
        classes: tuple[str, str]
        noise: NonNegative
        rotation: float
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
        points = half_circles(y) + config.noise * noise
        angle = math.radians(config.rotation)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        return DomainData(
            classes=config.classes,
            train=Rows((points @ turn.T).astype(np.float32), y),
            test=None,
            origin=(
                f"two half circles of radius 1 that reach into each other, with noise of standard deviation "
                f"{config.noise:g}, rotated by {config.rotation:g} degrees about their middle; draw {config.draw}"
            ),
        )


def half_circles(y: NDArray[np.int64]) -> NDArray[np.float64]:
    """A point (N, 2) for each label (N,), 0 above and 1 below, at even steps from one end of its half circle to the other.

    The upper one is (cos t, sin t), the lower (1 - cos t, 1/2 - sin t) for t from 0 to pi, both less their middle.
    """
    points = np.tile(-np.array(MIDDLE), (len(y), 1))
    for label, across, height, sign in ((0, 0.0, 0.0, 1.0), (1, 1.0, 0.5, -1.0)):
        rows = y == label
        t = np.linspace(0.0, math.pi, int(rows.sum()))
        points[rows] += np.stack((across + sign * np.cos(t), height + sign * np.sin(t)), axis=1)
    return points
