"""The optimizer that a config names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tlrun.config import ConfigError, ExperimentConfig
from tlrun.engine.optimise import build_optimizer

Config = Callable[..., ExperimentConfig]


def built(config: Config, *overrides: str) -> torch.optim.Optimizer:
    rows: list[dict[str, Any]] = [{"name": "all", "params": [torch.nn.Parameter(torch.zeros(2))], "rate": 1.0}]
    return build_optimizer(config("optim=torch", *overrides).optim, rows, torch.device("cpu"))


@pytest.mark.parametrize("name", ["SGD", "AdamW", "RMSprop", "NAdam", "Rprop", "Adadelta"])
def test_any_torch_optimizer_is_built_and_steps(name: str, config: Config) -> None:
    optimizer = built(config, f"optim._target_=torch.optim.{name}")
    assert type(optimizer) is getattr(torch.optim, name)
    (parameter,) = optimizer.param_groups[0]["params"]
    parameter.grad = torch.ones(2)
    optimizer.step()
    assert (parameter < 0).all()


def test_weight_decay_that_an_optimizer_lacks_is_refused_once_it_is_asked_for(config: Config) -> None:
    with pytest.raises(ConfigError, match=r"^optim: torch\.optim\.Rprop does not take these settings: .*weight_decay"):
        built(config, "optim._target_=torch.optim.Rprop", "optim.weight_decay=0.1")
