"""What learns and what keeps still."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tlrun.config import ConfigError
from tlrun.engine.freezing import first_learning_stage, matching, set_learning, set_modes


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.low = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        self.high = nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.5))


def test_patterns_name_parameters_and_an_idle_one_is_refused() -> None:
    assert matching(Net(), ["high.*"], where="here") == {"high.0.weight", "high.0.bias"}
    with pytest.raises(ConfigError) as error:
        matching(Net(), ["hihg.*"], where="strategy: phase 'head'")
    assert error.value.problems[0].startswith(
        "strategy: phase 'head': the pattern 'hihg.*' matches no parameter; there"
    )


def test_a_frozen_subtree_keeps_batch_statistics_and_drops_nothing_out() -> None:
    net = Net()
    set_learning(net, {"high.0.weight", "high.0.bias"})
    set_modes(net)
    before = net.low[1].running_mean.clone()
    first, second = net.low(torch.randn(8, 3) + 5), net.low(torch.randn(8, 3))
    assert torch.equal(net.low[1].running_mean, before)
    assert not net.low.training and not net.low[2].training
    assert net.high.training and net.high[1].training
    assert not first.requires_grad and not second.requires_grad


def test_opening_a_stage_again_puts_its_modules_back_to_training() -> None:
    net = Net()
    set_learning(net, {"high.0.weight", "high.0.bias"})
    set_modes(net)
    set_learning(net, matching(net, ["*"], where=""))
    set_modes(net)
    assert all(module.training for module in net.modules())


def test_freezing_drops_gradients_so_that_no_optimizer_moves_them() -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    net.high(net.low(torch.randn(8, 3))).sum().backward()
    optimizer.step()
    set_learning(net, {"high.0.weight", "high.0.bias"})
    before = net.low[0].weight.clone()
    net.high(net.low(torch.randn(8, 3))).sum().backward()
    optimizer.step()
    assert torch.equal(net.low[0].weight, before)


def test_the_frozen_prefix_ends_at_the_first_stage_that_learns() -> None:
    stages = [("low", nn.Linear(2, 2)), ("pool", nn.ReLU()), ("high", nn.Linear(2, 2))]
    assert first_learning_stage(stages) == 0
    stages[0][1].requires_grad_(False)
    assert first_learning_stage(stages) == 2
    stages[2][1].requires_grad_(False)
    assert first_learning_stage(stages) == 3
