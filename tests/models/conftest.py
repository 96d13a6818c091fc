"""Models as the shipped YAML describes them, with a few settings changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from tlrun.build import component_class
from tlrun.config import ModelSettings
from tlrun.models.transfer import TransferModel, build_model

CONFIGS = Path(__file__).parents[2] / "configs"


def model_settings(file: str, **changes: Any) -> ModelSettings:
    values = {
        **OmegaConf.to_container(OmegaConf.load(CONFIGS / "_base" / "model.yaml"), resolve=True),
        **OmegaConf.to_container(OmegaConf.load(CONFIGS / "model" / f"{file}.yaml")),
        **changes,
    }
    del values["defaults"]
    return component_class("model", values["name"]).Config(**values)


def make_model(file: str, shape: tuple[int, ...] = (3, 28, 28), num_classes: int = 10, **changes: Any) -> TransferModel:
    torch.manual_seed(0)
    return build_model(model_settings(file, **changes), shape=shape, num_classes=num_classes).eval()


@pytest.fixture
def settings() -> Callable[..., ModelSettings]:
    return model_settings


@pytest.fixture
def make() -> Callable[..., TransferModel]:
    return make_model
