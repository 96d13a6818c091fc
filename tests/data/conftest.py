"""Small domains in memory, and the settings of a pair of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tlrun.config import AugmentSettings, DomainSettings, PairSettings
from tlrun.data.datasets.base import DomainData, Rows
from tlrun.data.domain import DomainPair, make_pair


def _images(
    counts: dict[str, int], *, test: dict[str, int] | None = None, size: int = 8, channels: int = 3, draw: int = 0
) -> DomainData:
    """Random images with so many rows of each class, in mixed order; classes in the order of `counts`."""
    generator = np.random.RandomState(draw)

    def rows(wanted: dict[str, int]) -> Rows:
        y = np.repeat(np.arange(len(wanted)), list(wanted.values())).astype(np.int64)
        generator.shuffle(y)
        return Rows(generator.randint(0, 256, (len(y), size, size, channels)).astype(np.uint8), y)

    return DomainData(tuple(counts), rows(counts), rows(test) if test else None, "drawn at random", ("a note",))


def _features(counts: dict[str, int], *, columns: int = 3, draw: int = 0) -> DomainData:
    generator = np.random.RandomState(draw)
    y = np.repeat(np.arange(len(counts)), list(counts.values())).astype(np.int64)
    x = generator.normal(5.0, 2.0, (len(y), columns)).astype(np.float32)
    return DomainData(tuple(counts), Rows(x, y), None, "drawn at random")


def _pair_settings(**changes: Any) -> PairSettings:
    values: dict[str, Any] = {
        "source": DomainSettings(name="here"),
        "target": DomainSettings(name="there"),
        "protocol": "split",
        "image_size": None,
        "channels": None,
        "normalize": "shared",
        "mean": None,
        "std": None,
        "val_fraction": 0.2,
        "test_fraction": 0.25,
        "source_rows": None,
        "target_rows": None,
        "target_labels": "none",
        "target_val_labels": "none",
        "source_label_noise": 0.0,
        "label_sets": "closed",
        "fit": "crop",
        "crop_fraction": 0.875,
        "interpolation": "bilinear",
        "on_bad_image": "stop",
        "cache": "none",
        "workers": 2,
        "root": "data",
        "cache_root": None,
        "cache_gigabytes": None,
        "download": False,
    }
    return PairSettings(**(values | changes))


def _pair_of(source: DomainData, target: DomainData, *, seed: int = 0, **changes: Any) -> DomainPair:
    return make_pair(source, target, _pair_settings(**changes), seed=seed, device=torch.device("cpu"))


def _augment_settings(**changes: Any) -> AugmentSettings:
    values: dict[str, Any] = {
        "albumentations": [],
        "crop": None,
        "flip": 0.0,
        "shift": 0,
        "randaugment": None,
        "brightness": 0.0,
        "contrast": 0.0,
        "saturation": 0.0,
        "hue": 0.0,
        "erase": None,
        "mix": None,
        "target": None,
        "views": None,
    }
    return AugmentSettings(**(values | changes))


@pytest.fixture
def images() -> Callable[..., DomainData]:
    return _images


@pytest.fixture
def features() -> Callable[..., DomainData]:
    return _features


@pytest.fixture
def pair_settings() -> Callable[..., PairSettings]:
    return _pair_settings


@pytest.fixture
def pair_of() -> Callable[..., DomainPair]:
    """make_pair on the CPU, under the settings that are given and plain ones for the rest."""
    return _pair_of


@pytest.fixture
def augment_settings() -> Callable[..., AugmentSettings]:
    return _augment_settings
