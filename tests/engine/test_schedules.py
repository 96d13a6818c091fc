"""The factors of the learning-rate schedules, against their formulas and torch's own."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tlrun.engine.schedules import SCHEDULES, Schedule


def schedule(name: str, **settings: Any) -> Schedule:
    common = {"warmup_fraction": 0.0, "per_phase": False}
    return SCHEDULES[name](**{"name": name, **common, **settings})


def torch_factors(make: Any, steps: int) -> list[float]:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    scheduler = make(optimizer)
    factors = []
    for _ in range(steps):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return factors


def test_inverse_decay_is_the_formula_of_the_dann_paper() -> None:
    decay = schedule("inverse_decay", alpha=10.0, beta=0.75)
    assert [decay.factor(step, 4) for step in range(4)] == pytest.approx([1.0, 3.5**-0.75, 6.0**-0.75, 8.5**-0.75])


def test_cosine_equals_torchs_annealing() -> None:
    ours = schedule("cosine", final=0.1)
    theirs = torch_factors(lambda each: torch.optim.lr_scheduler.CosineAnnealingLR(each, 20, eta_min=0.1), 20)
    assert [ours.factor(step, 20) for step in range(20)] == pytest.approx(theirs)


def test_step_equals_torchs_milestones() -> None:
    ours = schedule("step", milestones=[0.5, 0.75], gamma=0.2)
    theirs = torch_factors(lambda each: torch.optim.lr_scheduler.MultiStepLR(each, [10, 15], gamma=0.2), 20)
    assert [ours.factor(step, 20) for step in range(20)] == pytest.approx(theirs)


def test_one_cycle_starts_low_peaks_at_its_rise_and_ends_lowest() -> None:
    ours = schedule("one_cycle", rise=0.25, start=0.04, final=0.001, momentum=None)
    factors = [ours.factor(step, 100) for step in range(101)]
    assert factors[0] == pytest.approx(0.04) and factors[25] == pytest.approx(1.0)
    assert factors[100] == pytest.approx(0.001)
    assert factors[:26] == sorted(factors[:26]) and factors[25:] == sorted(factors[25:], reverse=True)
    assert factors[10] == pytest.approx(0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * 0.4)))


def test_one_cycle_moves_rate_and_momentum_as_torchs_does() -> None:
    ours = schedule("one_cycle", rise=0.3, start=0.04, final=0.001, momentum=(0.95, 0.85))
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0, momentum=0.9)
    # torch's phases end one step before the fraction's, and its last step is at the end of the cycle.
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.0, total_steps=101, pct_start=31 / 101, div_factor=25, final_div_factor=40
    )
    for step in range(101):
        (group,) = optimizer.param_groups
        assert ours.factor(step, 100) == pytest.approx(group["lr"], abs=1e-9)
        assert ours.momentum_at(step, 100) == pytest.approx(group["momentum"], abs=1e-9)
        optimizer.step()
        if step < 100:
            theirs.step()


def test_momentum_waits_at_its_height_during_the_warm_up_and_is_left_alone_by_others() -> None:
    ours = schedule("one_cycle", rise=0.3, start=0.04, final=0.001, momentum=(0.9, 0.8), warmup_fraction=0.1)
    assert {ours.momentum_at(step, 100) for step in range(11)} == {0.9}
    assert min(ours.momentum_at(step, 100) or 0.0 for step in range(101)) == pytest.approx(0.8)
    assert schedule("constant").momentum_at(3, 7) is None


@pytest.mark.parametrize("name", ["constant", "cosine"])
def test_warm_up_rises_linearly_to_the_full_rate_and_is_never_zero(name: str) -> None:
    settings = {"final": 0.0} if name == "cosine" else {}
    ours = schedule(name, warmup_fraction=0.1, **settings)
    assert [ours.factor(step, 100) for step in range(11)] == pytest.approx([(step + 1) / 11 for step in range(11)])


@pytest.mark.parametrize(("fraction", "steps", "warmup"), [(0.07, 100, 7), (0.1, 30, 3), (0.1, 31, 4), (0.0, 9, 0)])
def test_warm_up_takes_its_fraction_of_the_steps_rounded_up(fraction: float, steps: int, warmup: int) -> None:
    ours = schedule("constant", warmup_fraction=fraction)
    assert [ours.factor(step, steps) for step in range(steps)].count(1.0) == steps - warmup
    assert ours.fraction_after_warmup(warmup, steps) == 0 < ours.fraction_after_warmup(warmup + 1, steps)


def test_a_warm_up_to_nothing_is_refused() -> None:
    settings = {"rise": 0.3, "final": 0.0, "momentum": None}
    assert schedule("one_cycle", start=0.0, **settings).problems() == []
    assert schedule("one_cycle", start=0.04, warmup_fraction=0.1, **settings).problems() == []
    (problem,) = schedule("one_cycle", start=0.0, warmup_fraction=0.1, **settings).problems()
    assert problem.startswith("start: must be above 0 with a warm-up")


def test_constant_never_changes() -> None:
    assert {schedule("constant").factor(step, 7) for step in range(8)} == {1.0}
