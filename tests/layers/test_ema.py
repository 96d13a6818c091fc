"""The moving average of a module's weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tlrun.layers.domain_statistics import DomainStatistics
from tlrun.layers.ema import EmaCopy, warmed_up


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last), nn.BatchNorm2d(3), nn.Flatten())


def train(module: nn.Sequential, steps: int) -> list[dict[str, torch.Tensor]]:
    """Steps of descent, and what the state was after each."""
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    states = []
    for _ in range(steps):
        optimizer.zero_grad()
        module(torch.randn(4, 2, 5, 5) + 1).square().mean().backward()
        optimizer.step()
        states.append(copy.deepcopy(module.state_dict()))
    return states


def test_average_is_the_recursion_written_out_over_parameters_and_running_statistics() -> None:
    module = net()
    ema, expected = EmaCopy(module), copy.deepcopy(module.state_dict())
    for _ in range(5):
        (state,) = train(module, 1)
        ema.update(0.8)
        for name, value in state.items():
            expected[name] = 0.8 * expected[name] + 0.2 * value if value.is_floating_point() else value
    live = copy.deepcopy(module.state_dict())
    with ema.in_place():
        for name, value in module.state_dict().items():
            torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)
        assert module[1].num_batches_tracked == 5
        assert not torch.equal(module[0].weight, live["0.weight"])
    assert all(torch.equal(value, live[name]) for name, value in module.state_dict().items())


def test_weights_come_back_when_an_evaluation_fails_and_memory_order_stays() -> None:
    module = net()
    ema = EmaCopy(module)
    train(module, 1)
    before = module[0].weight.detach().clone()
    with ema.in_place():
        assert module[0].weight.is_contiguous(memory_format=torch.channels_last)
    with pytest.raises(ZeroDivisionError), ema.in_place():
        raise ZeroDivisionError
    assert torch.equal(module[0].weight, before)


def test_a_parameter_that_does_not_move_has_itself_as_its_average() -> None:
    module = net()
    ema = EmaCopy(module)
    for _ in range(100):
        ema.update(0.937)
    with ema.in_place():
        assert all(torch.equal(value, net().state_dict()[name]) for name, value in module.state_dict().items())


def test_both_domains_statistics_are_averaged() -> None:
    module = net()
    statistics = DomainStatistics(module)
    whole = nn.ModuleDict({"model": module, "statistics": statistics})
    ema = EmaCopy(whole)
    with statistics.source():
        module(torch.randn(8, 2, 5, 5) + 3)
    module(torch.randn(8, 2, 5, 5) - 3)
    live = [statistics.get_buffer("running_mean_0").clone(), module[1].running_mean.clone()]
    ema.update(0.5)
    with ema.in_place(), statistics.source():
        torch.testing.assert_close(module[1].running_mean, live[0] / 2)
        torch.testing.assert_close(statistics.get_buffer("running_mean_0"), live[1] / 2)


def test_the_average_survives_a_state_dict() -> None:
    module = net()
    ema = EmaCopy(module)
    train(module, 2)
    ema.update(0.3)
    other = EmaCopy(module)
    other.load_state_dict(ema.state_dict())
    with ema.in_place():
        expected = copy.deepcopy(module.state_dict())
    with other.in_place():
        assert all(torch.equal(value, expected[name]) for name, value in module.state_dict().items())


def test_warm_up_forgets_the_start_soon_and_ends_at_the_decay() -> None:
    assert warmed_up(0.99, 1) == pytest.approx(2 / 11)
    assert warmed_up(0.99, 100) == pytest.approx(101 / 110)
    assert warmed_up(0.99, 10_000) == 0.99
    assert warmed_up(0.1, 1) == 0.1
