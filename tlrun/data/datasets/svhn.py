"""SVHN (Netzer et al. 2011, NIPS workshop): house numbers from street views, the cropped digits of format 2."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from tlrun.config import DomainSettings
from tlrun.data.cache.arrays import Arrays, cached_arrays
from tlrun.data.datasets.base import Domain, DomainData, Rows
from tlrun.data.datasets.mnist import CLASSES, Split
from tlrun.data.files.published import PublishedSet

FILES: dict[Split, str] = {"train": "train_32x32.mat", "test": "test_32x32.mat"}
PUBLISHED = PublishedSet(
    title="SVHN",
    size="about 246 MB",
    folder="svhn",
    also=("SVHN", "."),
    files={
        "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
        "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
    },
    torchvision="SVHN",
)


class Svhn(Domain):
    """Digits of house numbers in colour, 32x32, with parts of their neighbours; 73,257 + 26,032."""

    class Config(DomainSettings):
        @property
        def shows_characters(self) -> bool:
            return True

    def whereabouts(self) -> str:
        return PUBLISHED.whereabouts(self.places)

    def load(self) -> DomainData:
        paths = PUBLISHED.find(self.places)
        rows: dict[Split, Rows] = {}
        notes = ["digits are in the middle of 32x32 crops, often with parts of their neighbours"]
        for split, name in FILES.items():
            with paths[name].open("rb") as file:
                md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            notes += PUBLISHED.note(name, md5)
            arrays = self._arrays(paths[name], md5, split)
            rows[split] = Rows(arrays["x"], arrays["y"])
        return DomainData(
            classes=CLASSES,
            train=rows["train"],
            test=rows["test"],
            origin="SVHN's cropped digits (Netzer et al. 2011; for non-commercial use), without the extra split",
            notes=tuple(notes),
        )

    def _arrays(self, path: Path, md5: str, split: Split) -> Arrays:
        """Unpacking takes seconds, and the file holds the row axis last, so rows are kept in the order of use."""
        inputs = {"md5": md5, "reader": 1}
        return cached_arrays(self.places.cache, f"svhn-{split}", inputs=inputs, make=lambda: read(path))


def read(path: Path) -> Arrays:
    """Images x (N, 32, 32, 3) and labels y (N,) of a MATLAB file with X (32, 32, 3, N) and y (N, 1), where 10 is zero.

    Raises ConfigError when the file holds anything else.
    """
    from scipy.io import loadmat  # takes a second to import, and is needed once

    try:
        content = loadmat(path)
        x, y = content["X"], content["y"].reshape(-1)
        if x.dtype != np.uint8 or x.ndim != 4 or x.shape[:3] != (32, 32, 3) or x.shape[3] != len(y):
            raise ValueError(f"its images are {x.dtype} {x.shape} for {len(y):,} labels")
        if not np.isin(y, np.arange(1, 11)).all():
            raise ValueError("a label lies outside 1..10")
    except KeyError as error:
        raise PUBLISHED.damaged(path, ValueError(f"it has no variable {error.args[0]}")) from error
    except Exception as error:  # damage makes scipy raise nearly anything
        raise PUBLISHED.damaged(path, error) from error
    return {"x": np.ascontiguousarray(x.transpose(3, 0, 1, 2)), "y": y.astype(np.int64) % 10}
