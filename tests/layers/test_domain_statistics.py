"""Batch statistics by domain."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tlrun.layers.domain_statistics import DomainStatistics


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2), nn.BatchNorm1d(2))


def test_each_domains_statistics_equal_those_of_a_model_that_saw_it_alone(model: nn.Module) -> None:
    alone = {"source": copy.deepcopy(model), "target": copy.deepcopy(model)}
    statistics = DomainStatistics(model)
    for step in range(5):
        rows = {"source": torch.randn(8, 3) + step, "target": 3 * torch.randn(8, 3)}
        with statistics.source():
            model(rows["source"])
        model(rows["target"])
        for domain, other in alone.items():
            other(rows[domain])
    model.eval()
    x = torch.randn(6, 3)
    assert torch.equal(model(x), alone["target"].eval()(x))
    with statistics.source():
        assert torch.equal(model(x), alone["source"].eval()(x))
    assert torch.equal(model(x), alone["target"](x)) and not torch.equal(model(x), alone["source"](x))


def test_both_sets_are_in_the_state_dict_and_come_back(model: nn.Module) -> None:
    class Holder(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.model = inner
            self.statistics = DomainStatistics(inner)

        def both(self, x: torch.Tensor) -> torch.Tensor:
            with self.statistics.source():
                source = self.model(x)
            return torch.stack((source, self.model(x)))

    fresh = Holder(copy.deepcopy(model))
    used = Holder(model)
    for _ in range(3):
        with used.statistics.source():
            used.model(torch.randn(8, 3) - 2)
        used.model(torch.randn(8, 3) + 2)
    x = torch.randn(5, 3)
    expected = used.eval().both(x)
    fresh.load_state_dict(used.state_dict())
    assert torch.equal(fresh.eval().both(x), expected)
    assert torch.equal(copy.deepcopy(used).both(x), expected)


def test_an_error_within_leaves_the_targets_statistics_in_place(model: nn.Module) -> None:
    statistics = DomainStatistics(model)
    model(torch.randn(8, 3))
    before = model[1].running_mean.clone()
    with pytest.raises(RuntimeError, match="stop"), statistics.source():
        raise RuntimeError("stop")
    assert torch.equal(model[1].running_mean, before)


def test_a_model_without_batch_normalisation_has_nothing_to_keep_apart() -> None:
    assert DomainStatistics(nn.Linear(2, 2)).state_dict() == {}


def test_the_shift_is_the_distance_of_the_means_in_the_sources_spread(model: nn.Module) -> None:
    statistics = DomainStatistics(model)
    assert len(statistics) == 2
    assert float(statistics.shift()) == 0.0
    with statistics.source():
        model[1].running_var.fill_(4.0)
    model[1].running_mean.copy_(torch.tensor([1.0, -1.0, 0.0, 2.0]))
    assert float(statistics.shift()) == pytest.approx((4 / 4 / 2 + 0.0) / 2, rel=1e-4)


def test_a_model_without_batch_normalisation_has_no_shift() -> None:
    statistics = DomainStatistics(nn.Linear(2, 2))
    assert len(statistics) == 0
    with pytest.raises(ValueError, match="no layer normalises batches"):
        statistics.shift()
