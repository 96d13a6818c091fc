"""The statistics of a domain's train rows: of all that are in memory, of a sample of files, which is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from tlrun.config import ConfigError, PairSettings
from tlrun.data.cache.arrays import Arrays, cached_arrays
from tlrun.data.datasets.base import find_places
from tlrun.data.files.images import DECODING
from tlrun.data.opened import file_reading
from tlrun.data.split_domain import Role, SplitDomain
from tlrun.data.transforms import Figures, Shape, measure, measure_sample


def measured(domain: SplitDomain, shape: Shape, config: PairSettings) -> Figures:
    """Mean and standard deviation of each channel or feature of the train split, as evaluation crops it.

    Those of a sample of files are kept in the cache, since decoding it takes seconds and every run of a sweep needs
    it. Raises RunError for a sampled file that gives no image, ConfigError where the cache cannot be written.
    """
    rows = domain.splits["train"]
    if rows.x.is_held:
        return measure(rows.x.tensor())

    def make() -> Arrays:
        return dict(zip(("mean", "std"), map(np.array, measure_sample(rows.x, shape)), strict=True))

    reading = file_reading(config)
    inputs = {
        "fingerprint": domain.fingerprint,
        "rows": hashlib.sha256(rows.rows.data).hexdigest(),
        "shape": list(shape),
        "reading": [reading.size, reading.fit, reading.channels, reading.interpolation],
        "decoding": DECODING,
        "recipe": 1,
    }
    kept = cached_arrays(find_places(config).cache, "statistics", inputs=inputs, make=make)
    return kept["mean"].tolist(), kept["std"].tolist()


def figures_used(
    config: PairSettings, figures: Mapping[Role, Figures], *, common: Figures, shape: Shape
) -> Mapping[Role, Figures]:
    """What each domain is normalised by, as `config.normalize` says; figures: each domain's own."""
    if config.normalize == "auto":
        raise ValueError("data.normalize=auto must be named before data are read")
    if config.normalize == "per_domain":
        return figures
    return dict.fromkeys(figures, published_statistics(config, shape) if config.normalize == "model" else common)


def published_statistics(config: PairSettings, shape: Shape) -> tuple[list[float], list[float]]:
    """Mean and std that `normalize=model` stands for. Raises ConfigError where the rows have other channels."""
    assert config.mean is not None and config.std is not None, "named with the model's"
    if len(shape) != 3:
        raise ConfigError("data.normalize: model is for images, and the rows are features; set shared or per_domain")
    if len(config.mean) not in (1, shape[0]):
        raise ConfigError(
            f"data.normalize: model has {len(config.mean)} channels and the images have {shape[0]}; "
            f"set data.channels={len(config.mean)}, or data.normalize=shared"
        )
    return list(config.mean), list(config.std)
