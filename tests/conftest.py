"""What every test may ask for: real configs composed as the command line composes them, and a cache of its own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from tlrun.build import typed
from tlrun.compose import version_base
from tlrun.config import ExperimentConfig

ROOT = Path(__file__).parents[1]


@functools.cache
def compose_config(*overrides: str) -> ExperimentConfig:
    with initialize_config_dir(config_dir=str(ROOT / "configs"), **version_base()):
        composed = compose("train", overrides=list(overrides))
    values = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(values, dict)
    return typed({str(key): value for key, value in values.items()})


@pytest.fixture(scope="session")
def config() -> Callable[..., ExperimentConfig]:
    """Composes and types a config from command-line overrides."""
    return compose_config


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread: tensors of tests are too small to share, and waiting for a second thread takes longer than the sums."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
