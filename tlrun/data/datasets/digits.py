"""The 8x8 handwritten digits that scikit-learn ships (Alpaydin and Kaynak 1998, UCI, the test part of optdigits)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from tlrun.config import DomainSettings
from tlrun.data.cache.arrays import Arrays, cached_arrays
from tlrun.data.datasets.base import Domain, DomainData, Rows
from tlrun.data.datasets.mnist import CLASSES

# MNIST's digits fill 20 of 28 pixels, these 8 of 8. With 2 more on each side they fill 8 of 12, which is 18.7 of 28.
MARGIN = 2
LEVELS = 16  # a pixel counts the set ones among 4x4 of the scan: 0..16


class Digits(Domain):
    """Handwritten digits, white on black, 8x8 grey, as they are (stretched) or with MNIST's margin (padded)."""

    class Config(DomainSettings):
        frame: Literal["stretched", "padded"]

        @property
        def shows_characters(self) -> bool:
            return True

    config: Config

    def whereabouts(self) -> str:
        return "shipped with scikit-learn"

    def load(self) -> DomainData:
        arrays = cached_arrays(self.places.cache, "digits", inputs={"reader": 1}, make=read)
        padded = self.config.frame == "padded"
        if padded:
            frame = f"padded by {MARGIN} to 12x12, so that digits keep some of MNIST's margin once resized to 28x28"
        else:
            frame = "8x8 as shipped, so that digits fill the frame once resized, where MNIST's have a margin"
        margin = MARGIN if padded else 0
        x = np.pad(arrays["x"], ((0, 0), (margin, margin), (margin, margin)))
        return DomainData(
            classes=CLASSES,
            train=Rows(x[..., None], arrays["y"]),
            test=None,
            origin=f"the digits shipped with scikit-learn (Alpaydin and Kaynak 1998; UCI; CC BY 4.0); {frame}",
            notes=(f"frame {self.config.frame}: {frame}", f"grey levels 0..{LEVELS} spread over 0..255"),
        )


def read() -> Arrays:
    """Images x (1797, 8, 8), levels 0..16 spread over 0..255, and labels y (1797,)."""
    from sklearn.datasets import load_digits  # takes seconds to import, and is needed once

    digits = load_digits()
    levels = digits.images.astype(np.int64)
    return {"x": ((levels * 255 + LEVELS // 2) // LEVELS).astype(np.uint8), "y": digits.target.astype(np.int64)}
