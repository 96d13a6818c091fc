"""A few real digits as a domain, grey or in colours: small enough to be trained on within a test."""

from __future__ import annotations

import numpy as np

from tlrun.config import DomainSettings
from tlrun.data.datasets.base import Domain, DomainData, Rows
from tlrun.data.datasets.mnist import CLASSES, read_images, read_labels

TRAIN, TEST = 300, 100


class SmallDigits(Domain):
    """The first rows of MNIST's test files; in colours, the difference to plain backgrounds, as MNIST-M is made."""

    class Config(DomainSettings):
        colours: bool

    config: Config

    def load(self) -> DomainData:
        x, y = read_images("test")[: TRAIN + TEST, ..., None], read_labels("test")[: TRAIN + TEST]
        if self.config.colours:
            background = np.random.RandomState(0).randint(0, 256, (len(x), 1, 1, 3))
            x = np.abs(background - x).astype(np.uint8)
        return DomainData(
            CLASSES, Rows(x[:TRAIN], y[:TRAIN]), Rows(x[TRAIN:], y[TRAIN:]), "cut from MNIST's test files"
        )
