"""What every test may ask for: real configs composed as the command line composes them, and a cache of its own."""

from __future__ import annotations

import copy
import functools
import gc
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from tlrun.build import typed
from tlrun.compose.composed import version_base
from tlrun.config import ExperimentConfig

ROOT = Path(__file__).parents[1]


VALUE = re.compile(r"(?!hydra\.)\+?\w+(\.\w+)+=(?!.*\$\{).*", re.DOTALL)
"""An override that sets a value below a group. All others may choose a file, or refer to other values."""


@functools.cache
def compose_config(*overrides: str) -> ExperimentConfig:
    """The config of these overrides. Files are composed once for each set of choices, which takes Hydra a quarter second."""
    values = copy.deepcopy(composed(*(each for each in overrides if not VALUE.fullmatch(each))))
    for override in OverridesParser.create().parse_overrides([each for each in overrides if VALUE.fullmatch(each)]):
        *path, last = override.key_or_group.split(".")
        value, at = override.value(), values
        for part in path:
            at = at.get(part) or {}
        if isinstance(value, dict) or override.is_add() == (last in at):  # merged, or an error: Hydra knows
            return typed(composed(*overrides))
        at[last] = value
    return typed(values)


@functools.cache
def composed(*overrides: str) -> dict[str, Any]:
    """Plain values, as Hydra alone composes them."""
    with initialize_config_dir(config_dir=str(ROOT / "configs"), **version_base()):
        values = OmegaConf.to_container(compose("train", overrides=list(overrides)), resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


@pytest.fixture(scope="session")
def config() -> Callable[..., ExperimentConfig]:
    """Composes and types a config from command-line overrides."""
    return compose_config


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The test that takes minutes comes first, so that no worker waits for another that met it last."""
    items.sort(key=lambda item: item.path.name != "test_readme.py")


def pytest_collection_finish() -> None:
    """What is imported and collected by now stays: each run collects garbage at its end, and need not go over it again."""
    gc.freeze()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread: tensors of tests are too small to share, and waiting for a second thread takes longer than the sums."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
