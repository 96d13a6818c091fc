"""What every strategy must keep, found by listing the folder: nothing here names one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import tlrun.strategies
from tlrun.batch import Batch, Losses
from tlrun.engine.freezing import matching, set_learning
from tlrun.engine.optimise import assign
from tlrun.strategies.base import Strategy

from .conftest import progress

FOLDER = Path(tlrun.strategies.__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("[a-z]*.py") if path.stem != "base")
Build = Callable[..., Strategy]


@pytest.fixture
def build(build: Build) -> Build:
    """On a model with batch normalisation, which some methods live on."""
    return lambda name: build(name, "model.bottleneck=4")


def needed(strategy: Strategy, batch: Batch) -> Batch:
    """Only what the strategy says it needs, so that it cannot live on more."""
    needs = strategy.config.needs
    return Batch(
        source=batch.source if needs.source != "unused" else None,
        target=batch.target if needs.target != "unused" else None,
        unlabelled=batch.unlabelled if needs.unlabelled != "unused" else None,
    )


def every_loss(strategy: Strategy, batch: Batch) -> list[Losses]:
    return [
        strategy.loss(needed(strategy, batch), progress(phase.name).in_turn(turn.name))
        for phase in strategy.phases()
        for turn in phase.turns
    ]


def test_the_folder_holds_the_strategies_that_it_should() -> None:
    assert len(NAMES) >= 12


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_finite_declared_and_reach_what_learns(name: str, build: Build, batch: Batch) -> None:
    strategy = build(name)
    declared = strategy.terms
    for phase in strategy.phases():
        set_learning(strategy, matching(strategy, phase.train, where=phase.name))
        reached: set[str] = set()
        for turn in phase.turns:
            strategy.zero_grad()
            losses = strategy.loss(needed(strategy, batch), progress(phase.name).in_turn(turn.name))
            assert set(losses.task) <= set(declared.task)
            assert set(losses.transfer) <= set(declared.transfer)
            assert set(losses.stats) <= set(declared.stats)
            assert torch.isfinite(losses.total()) and losses.total().shape == ()
            assert not losses.transfer or losses.features
            losses.total().backward()
            reached |= {key for key, each in strategy.named_parameters() if each.grad is not None}
        assert reached == {key for key, each in strategy.named_parameters() if each.requires_grad}


@pytest.mark.parametrize("name", NAMES)
def test_every_declared_term_is_reported_in_some_phase_or_turn(name: str, build: Build, batch: Batch) -> None:
    strategy = build(name)
    reported = {key for losses in every_loss(strategy, batch) for key in (*losses.terms, *losses.stats)}
    declared = strategy.terms
    assert reported == {*declared.task, *declared.transfer, *declared.stats}


@pytest.mark.parametrize("name", NAMES)
def test_the_transfer_terms_are_alive_at_the_features(name: str, build: Build, batch: Batch) -> None:
    for losses in every_loss(build(name), batch):
        for term in losses.transfer.values():
            gradients = torch.autograd.grad(term, losses.features, retain_graph=True)
            assert all(gradient.norm() > 1e-6 for gradient in gradients)


@pytest.mark.parametrize("name", NAMES)
def test_parameter_groups_take_every_parameter_once(name: str, build: Build) -> None:
    strategy = build(name)
    groups = assign(strategy, strategy.param_groups())
    taken = [id(parameter) for group in groups.values() for parameter in group]
    assert sorted(taken) == sorted(id(parameter) for parameter in strategy.parameters())
    assert all(groups.values())


@pytest.mark.parametrize("name", NAMES)
def test_phases_have_names_of_their_own_and_shares_that_can_be_given(name: str, build: Build) -> None:
    phases = build(name).phases()
    assert len({phase.name for phase in phases}) == len(phases)
    assert all(phase.share > 0 for phase in phases)
    assert sum(phase.share for phase in phases) == pytest.approx(1.0)


@pytest.mark.parametrize("name", NAMES)
def test_all_memory_is_in_the_state_dict(name: str, build: Build, batch: Batch) -> None:
    """A strategy rebuilt from the state dict of one that has trained gives the same losses, so nothing hides."""
    used, fresh = build(name), build(name)
    torch.stack([losses.total() for losses in every_loss(used, batch)]).sum().backward()
    with torch.no_grad():
        for parameter in used.parameters():
            parameter -= 0.1 * (parameter.grad if parameter.grad is not None else 0.0)
    fresh.load_state_dict(copy.deepcopy(used.state_dict()))
    for ours, theirs in zip(every_loss(used.eval(), batch), every_loss(fresh.eval(), batch), strict=True):
        assert torch.equal(ours.total(), theirs.total())


@pytest.mark.parametrize("name", NAMES)
def test_a_strategy_holds_modules_settings_and_task_only(name: str, build: Build) -> None:
    """No optimizer, loader, device or path: what it holds beside modules is what it was given."""
    strategy = build(name)
    own = {key for key in vars(strategy) if not key.startswith("_")} - set(vars(nn.Module()))
    assert own - {"statistics"} == {"config", "task", "label_smoothing", "class_weights"}
    assert vars(strategy).get("statistics") is None


@pytest.mark.parametrize("name", NAMES)
def test_prediction_is_the_models_own(name: str, build: Build, batch: Batch) -> None:
    strategy = build(name).eval()
    assert batch.source is not None
    output = strategy.predict(batch.source.x, "source")
    assert output.logits.shape == (12, 3) and output.features.shape == (12, strategy.model.num_features)


@pytest.mark.parametrize("name", NAMES)
def test_the_docstring_says_what_it_is_and_the_settings_say_what_it_reads(name: str, build: Build) -> None:
    strategy = build(name)
    assert strategy.__doc__ and len(strategy.__doc__) > 60
    needs = strategy.config.needs
    assert "required" in (needs.source, needs.target, needs.unlabelled)
