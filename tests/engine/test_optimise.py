"""The optimizer that a config names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.strategies.conftest import build as build
from tlrun.batch import Progress
from tlrun.config import ConfigError, ExperimentConfig
from tlrun.engine.optimise import Optimiser, build_optimizer
from tlrun.engine.runtime import Runtime
from tlrun.engine.schedules import Schedule
from tlrun.strategies.base import Strategy

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


def optimiser(strategy: Strategy, config: ExperimentConfig) -> Optimiser:
    assert isinstance(config.schedule, Schedule)
    return Optimiser(
        strategy, config.optim, config.schedule, runtime=Runtime(torch.device("cpu"), "fp32"), clip_norm=None
    )


UNDECAYED = ("optim=sgd", "optim.weight_decay=0.1", "optim.decay_norms_and_biases=false", "schedule=constant")


def test_weight_decay_leaves_biases_and_norms_alone_when_asked_to(
    config: Config, build: Callable[..., Strategy]
) -> None:
    strategy = build("fine_tune", "model.bottleneck=4", trained=False)
    before = {name: each.detach().clone() for name, each in strategy.named_parameters()}
    ours = optimiser(strategy, config(*UNDECAYED))
    for parameter in strategy.parameters():
        parameter.grad = torch.zeros_like(parameter)
    ours.optimizer.step()
    for name, each in strategy.named_parameters():
        kept = 1.0 if each.ndim == 1 else 1.0 - 0.01 * 0.1
        torch.testing.assert_close(each.detach(), before[name] * kept, msg=name)
    norm = strategy.model.bottleneck[1]
    assert torch.equal(norm.weight, before["model.bottleneck.1.weight"])
    assert len(list(strategy.parameters())) == sum(len(each["params"]) for each in ours.optimizer.param_groups)


@pytest.mark.slow
def test_every_group_follows_the_cycle_at_its_own_rate(config: Config, build: Callable[..., Strategy]) -> None:
    strategy = build("fine_tune", "strategy.rates={hidden1: 0.5}", "strategy.backbone_rate=0.2")
    for optim, key in (("sgd", "momentum"), ("adamw", "betas")):
        ours = optimiser(
            strategy, config(f"optim={optim}", "optim.lr=0.1", "schedule=one_cycle", "schedule.momentum=[0.95,0.85]")
        )
        ours.set_rates(Progress(step=30, steps=100, epoch=0, phase="train", phase_step=30, phase_steps=100))
        rates = {group["name"]: group["lr"] for group in ours.optimizer.param_groups}
        assert rates == pytest.approx({"head": 0.1, "hidden2": 0.02, "hidden1": 0.05})
        found = [group[key] for group in ours.optimizer.param_groups]
        assert found == ([0.85] * 3 if key == "momentum" else [(0.85, 0.999)] * 3)


@pytest.mark.parametrize(
    "overrides", [("optim=sgd", "optim.momentum=0"), ("optim=torch", "optim._target_=torch.optim.Adagrad")]
)
def test_momentum_cannot_be_moved_where_there_is_none(
    overrides: tuple[str, ...], config: Config, build: Callable[..., Strategy]
) -> None:
    settings = config(*overrides, "schedule=one_cycle", "schedule.momentum=[0.95,0.85]")
    with pytest.raises(
        ConfigError, match=r"^schedule\.momentum: torch\.optim\.\w+ with these settings has no momentum"
    ):
        optimiser(build("fine_tune"), settings)


def test_a_switch_without_effect_is_refused(config: Config) -> None:
    with pytest.raises(ConfigError) as caught:
        config("optim=adam", "optim.decay_norms_and_biases=false", "optim.class_weights=effective_number",
               "schedule=one_cycle", "schedule.momentum=[0.8,0.9]")  # fmt: skip
    assert caught.value.problems == [
        "optim.decay_norms_and_biases: false has no effect with weight_decay=0; set a weight_decay or leave it true",
        "optim.effective_beta: must be set with class_weights=effective_number, 0.999 for one",
        "schedule.momentum: must be [high, low], high above low, got [0.8, 0.9]",
    ]
