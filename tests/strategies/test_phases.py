"""How the tuning methods open a model: which parameters learn in each phase, at what rate, with which statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from tlrun.batch import Batch
from tlrun.config import ConfigError, ExperimentConfig
from tlrun.engine.freezing import matching, set_learning, set_modes
from tlrun.engine.optimise import Optimiser
from tlrun.engine.runtime import Runtime
from tlrun.strategies.base import Phase, Strategy, Turn

from .conftest import SMALL, progress

Build = Callable[..., Strategy]


def learning(strategy: Strategy, phase: Phase) -> set[str]:
    """The stages of which something learns."""
    names = matching(strategy, phase.train, where="") - matching(strategy, phase.frozen, where="")
    return {name.removeprefix("model.").removeprefix("backbone.stages.").partition(".")[0] for name in names}


def opened(strategy: Strategy) -> list[tuple[str, float, set[str]]]:
    return [(phase.name, round(phase.share, 6), learning(strategy, phase)) for phase in strategy.phases()]


def problems(build: Build, *arguments: str) -> list[str]:
    def describe() -> None:
        strategy = build(*arguments)
        strategy.phases()
        strategy.param_groups()

    with pytest.raises(ConfigError) as caught:
        describe()
    return caught.value.problems


def test_head_learns_first_and_then_all(build: Build) -> None:
    everything = {"head", "hidden1", "hidden2"}
    assert opened(build("fine_tune", "strategy.head_share=0.3")) == [
        ("head", 0.3, {"head"}),
        ("train", 0.7, everything),
    ]
    last = build("fine_tune", "strategy.head_share=0.5", "strategy.train=last_k", "strategy.last_k=1")
    assert opened(last) == [("head", 0.5, {"head"}), ("train", 0.5, {"head", "hidden2"})]
    assert opened(build("fine_tune")) == [("train", 1.0, everything)]


@pytest.mark.slow
def test_frozen_stages_are_run_once_in_the_heads_phase_unless_images_are_augmented(
    build: Build, config: Callable[..., ExperimentConfig]
) -> None:
    def once(*overrides: str) -> list[bool]:
        return [phase.encode_once for phase in build("fine_tune", *overrides).phases()]

    assert once("strategy.head_share=0.3") == [True, False]
    assert once("strategy.head_share=0.3", "strategy.encode_once=false") == [False, False]
    assert once("strategy.head_share=0.3", "augment=light") == [False, False]
    last = ("strategy.train=last_k", "strategy.last_k=1", "strategy.head_share=0.3")
    assert once(*last) == [True, False]
    assert once(*last, "strategy.encode_once=true") == [True, True]
    assert once("strategy.encode_once=true", "strategy.rates={hidden1: 0}") == [True]
    with pytest.raises(ConfigError, match=r"^strategy\.encode_once: head needs a phase of the head"):
        config("strategy=fine_tune", *SMALL, "strategy.encode_once=head")
    assert problems(build, "fine_tune", "strategy.encode_once=true", "strategy.rates={hidden2: 0}") == [
        "strategy.encode_once: has no effect, since the lowest stage learns in every phase"
    ]


@pytest.mark.slow
def test_rates_by_pattern_replace_those_by_depth(build: Build) -> None:
    rates = {"strategy.backbone_rate": 0.2, "strategy.stage_decay": 0.5}
    given = [f"{key}={value}" for key, value in rates.items()]

    def found(*overrides: str) -> dict[str, float]:
        return {group.name: group.rate for group in build("fine_tune", *given, *overrides).param_groups()}

    assert found() == pytest.approx({"head": 1.0, "hidden2": 0.2, "hidden1": 0.1})
    assert found("strategy.rates={hidden1: 0.7}") == pytest.approx({"head": 1.0, "hidden2": 0.2, "hidden1": 0.7})
    assert found("strategy.rates={hidden*: 0.3, head: 2}") == pytest.approx({"head": 2, "hidden2": 0.3, "hidden1": 0.3})
    with_bottleneck = found("model.bottleneck=4", "strategy.rates={bottleneck: 3}")
    assert with_bottleneck == pytest.approx({"head": 1.0, "bottleneck": 3.0, "hidden2": 0.2, "hidden1": 0.1})


@pytest.mark.slow
def test_a_rate_of_0_keeps_the_stage_frozen_in_every_phase(build: Build) -> None:
    assert opened(build("fine_tune", "strategy.rates={hidden1: 0}")) == [("train", 1.0, {"head", "hidden2"})]
    assert opened(build("progressive", "strategy.rates={hidden2: 0}")) == [
        ("head", 0.5, {"head"}),
        ("from_hidden1", 0.5, {"head", "hidden1"}),
    ]


@pytest.mark.slow
def test_rates_that_say_nothing_or_two_things_are_refused_by_name(build: Build) -> None:
    assert problems(build, "fine_tune", "strategy.rates={hiden1: 1, h*1: 0.5, hidden?: 0.1}") == [
        "strategy.rates: 'hiden1' matches no stage that learns; there are hidden1, hidden2, head",
        "strategy.rates: 'hidden1' is matched by h*1 and hidden?; name each stage by one pattern",
    ]
    assert problems(build, "fine_tune", "strategy.rates={head: 0}") == [
        "strategy.rates: the head must learn, got head: 0"
    ]
    last = ("strategy.train=last_k", "strategy.last_k=1")
    assert problems(build, "fine_tune", *last, "strategy.rates={hidden1: 0.5}") == [
        "strategy.rates: 'hidden1' has no effect, since no phase trains hidden1"
    ]


def test_progressive_takes_shares_in_proportion(build: Build) -> None:
    shares = [share for _, share, _ in opened(build("progressive", "strategy.shares=[1,1,6]"))]
    assert shares == [0.125, 0.125, 0.75]
    assert problems(build, "progressive", "strategy.shares=[1,2]") == [
        "strategy.shares: must be 3, one for each phase (head, from_hidden2, from_hidden1), got 2"
    ]


def modes(strategy: Strategy) -> dict[str, Any]:
    """The bottleneck's batch normalisation in the last phase: whether it is in training mode, and what of it learns."""
    phase = strategy.phases()[-1]
    names = matching(strategy, phase.train, where="") - matching(strategy, phase.frozen, where="")
    set_learning(strategy, names)
    set_modes(strategy, still=phase.still)
    norm = strategy.model.bottleneck[1]
    return {
        "training": norm.training,
        "affine": norm.weight.requires_grad,
        "linear": strategy.model.bottleneck[0].training,
    }


@pytest.mark.parametrize("name", ["fine_tune", "progressive"])
def test_batch_normalisation_keeps_still_as_far_as_it_is_told(name: str, build: Build, batch: Batch) -> None:
    small = ("model.bottleneck=4",)
    assert modes(build(name, *small)) == {"training": True, "affine": True, "linear": True}
    kept = build(name, *small, "strategy.batch_norm=frozen_statistics")
    assert modes(kept) == {"training": False, "affine": True, "linear": True}
    norm = kept.model.bottleneck[1]
    before = norm.running_mean.clone()
    kept.loss(batch, progress()).total().backward()
    assert torch.equal(norm.running_mean, before) and norm.weight.grad is not None
    frozen = build(name, *small, "strategy.batch_norm=frozen")
    assert modes(frozen) == {"training": False, "affine": False, "linear": True}


def test_a_fresh_bottleneck_is_not_kept_at_statistics_of_nothing(build: Build) -> None:
    strategy = build("fine_tune", "model.bottleneck=4", "strategy.batch_norm=frozen")
    strategy.model.pretrained.discard("bottleneck")
    assert problems(lambda: strategy) == [
        "strategy.batch_norm: frozen has no effect, the loaded stages (hidden1, hidden2) have no batch normalisation; "
        "set strategy.batch_norm=train"
    ]


@pytest.mark.slow
def test_step_under_rates_frozen_norms_and_class_weights_equals_plain_torch(
    build: Build, batch: Batch, config: Callable[..., ExperimentConfig]
) -> None:
    """One optimizer step by the engine's own optimiser, against one written by hand."""
    overrides = ("strategy=fine_tune", *SMALL, "model.bottleneck=4", "strategy.batch_norm=frozen",
                 "strategy.rates={hidden1: 0, hidden2: 0.5, bottleneck: 2}")  # fmt: skip
    strategy, by_hand = build("fine_tune", *overrides[1:]), build("fine_tune", *overrides[1:])
    weights = torch.tensor([0.5, 1.0, 3.0])
    strategy.class_weights = {"target": weights}
    settings = config(*overrides, "optim=sgd", "optim.lr=0.1", "optim.weight_decay=0.2",
                      "optim.decay_norms_and_biases=false", "schedule=constant")  # fmt: skip
    (phase,) = strategy.phases()
    names = matching(strategy, phase.train, where="") - matching(strategy, phase.frozen, where="")
    set_learning(strategy, names)
    set_modes(strategy, still=phase.still)
    runtime = Runtime(torch.device("cpu"), "fp32")
    optimiser = Optimiser(strategy, settings.optim, settings.schedule, runtime=runtime, clip_norm=None)
    optimiser.set_rates(progress())
    optimiser.begin_turn()
    optimiser.backward(strategy.loss(batch, progress()).total())
    optimiser.step(Turn())

    assert batch.target is not None and batch.target.y is not None
    model = by_hand.model.train()
    model.bottleneck[1].eval()
    F.cross_entropy(model(batch.target.x).logits, batch.target.y, weight=weights).backward()
    rates = {"backbone.stages.hidden1": 0.0, "backbone.stages.hidden2": 0.5, "bottleneck.0": 2.0, "bottleneck.1": 0.0,
             "head": 1.0}  # fmt: skip
    moved = 0
    for name, parameter in model.named_parameters():
        rate = next(rate for prefix, rate in rates.items() if name.startswith(prefix))
        decay = 0.2 if parameter.ndim > 1 else 0.0
        expected = parameter - 0.1 * rate * (parameter.grad + decay * parameter)
        actual = strategy.get_parameter(f"model.{name}")
        torch.testing.assert_close(actual, expected, msg=name)
        assert torch.equal(actual, parameter) == (rate == 0), name
        moved += rate > 0
    assert moved == 6
