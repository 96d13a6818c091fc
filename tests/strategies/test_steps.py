"""One step of each strategy equals the same step written by hand in plain torch."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tlrun.batch import Batch
from tlrun.models.transfer import TransferModel
from tlrun.strategies.base import Strategy

from .conftest import progress

LR = 0.1
Build = Callable[..., Strategy]


def layers(model: TransferModel) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """The features and the logits of the small mlp, written out."""
    first, second = (next(each for each in stage.modules() if isinstance(each, nn.Linear))
                     for stage in model.backbone.stages.values())  # fmt: skip
    last = next(each for each in model.head.modules() if isinstance(each, nn.Linear))
    return lambda x: F.relu(second(F.relu(first(x)))), last


def hand_step(strategy: Strategy, loss: Callable[[], Tensor]) -> dict[str, Tensor]:
    strategy.zero_grad()
    loss().backward()
    return {name: each.detach() - LR * each.grad for name, each in strategy.named_parameters() if each.grad is not None}


def check_step(strategy: Strategy, batch: Batch, by_hand: dict[str, Tensor], *, phase: str = "train", turn: str = "all",
               fraction: float = 0.5) -> None:  # fmt: skip
    strategy.zero_grad()
    strategy.loss(batch, progress(phase, fraction=fraction).in_turn(turn)).total().backward()
    for name, expected in by_hand.items():
        parameter = strategy.get_parameter(name)
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter - LR * parameter.grad, expected, rtol=1e-5, atol=1e-6)
        assert not torch.equal(parameter, expected), f"{name} does not move"


@pytest.mark.parametrize(
    ("name", "overrides", "domains"),
    [
        ("source_only", (), "s"),
        ("target_only", (), "t"),
        ("scratch", (), "t"),
        ("feature_extract", (), "t"),
        ("feature_extract", ("strategy.learns_from=source",), "s"),
        ("fine_tune", (), "t"),
        ("fine_tune", ("strategy.learns_from=both",), "st"),
        ("progressive", (), "t"),
    ],
)
def test_supervised_step_is_cross_entropy(
    name: str, overrides: tuple[str, ...], domains: str, build: Build, batch: Batch
) -> None:
    strategy = build(name, *overrides, "optim.label_smoothing=0.1")
    features, head = layers(strategy.model)
    parts = [{"s": batch.source, "t": batch.target}[domain] for domain in domains]
    by_hand = hand_step(
        strategy,
        lambda: (
            sum(F.cross_entropy(head(features(part.x)), part.y, label_smoothing=0.1) for part in parts) / len(parts)
        ),
    )
    check_step(strategy, batch, by_hand)


def test_dann_ascends_the_domain_loss_at_the_features_and_descends_it_in_the_discriminator(
    build: Build, batch: Batch
) -> None:
    strategy = build("dann", "strategy.weight=0.7", "strategy.discriminator_hidden=[5]", "strategy.finetune_share=0")
    features, head = layers(strategy.model)
    discriminator = strategy.discriminator
    weight = 0.7 * (2 / (1 + math.exp(-10 * 0.3)) - 1)

    def domain_loss(source: Tensor, target: Tensor) -> Tensor:
        logits = [discriminator(source), discriminator(target)]
        ones, zeros = torch.ones(len(source)), torch.zeros(len(target))
        losses = [F.binary_cross_entropy_with_logits(*pair) for pair in zip(logits, (ones, zeros), strict=True)]
        return (losses[0] + losses[1]) / 2

    of_source, of_target = features(batch.source.x), features(batch.unlabelled.x)
    strategy.zero_grad()
    task = F.cross_entropy(head(of_source), batch.source.y)
    domain = domain_loss(of_source, of_target)
    model_parameters = dict(strategy.model.named_parameters())
    task_gradients = torch.autograd.grad(task, model_parameters.values(), retain_graph=True)
    domain_gradients = torch.autograd.grad(domain, model_parameters.values(), retain_graph=True, allow_unused=True)
    by_hand = {
        f"model.{name}": parameter.detach() - LR * (of_task - weight * (of_domain if of_domain is not None else 0.0))
        for (name, parameter), of_task, of_domain in zip(
            model_parameters.items(), task_gradients, domain_gradients, strict=True
        )
    }
    for name, parameter in discriminator.named_parameters():
        gradient = torch.autograd.grad(domain, parameter, retain_graph=True)[0]
        by_hand[f"discriminator.{name}"] = parameter.detach() - LR * gradient
    check_step(strategy, batch, by_hand, fraction=0.3)


def test_dann_by_turns_trains_the_discriminator_alone_then_the_model_on_inverted_labels(
    build: Build, batch: Batch
) -> None:
    strategy = build("dann", "strategy.update=alternating", "strategy.ramp=null", "strategy.finetune_share=0")
    features, head = layers(strategy.model)
    discriminator = strategy.discriminator
    source, target = batch.source.x, batch.unlabelled.x

    def domain_loss(label: float) -> Tensor:
        pieces = [(discriminator(features(source)), label), (discriminator(features(target)), 1 - label)]
        losses = [F.binary_cross_entropy_with_logits(each, torch.full_like(each, want)) for each, want in pieces]
        return (losses[0] + losses[1]) / 2

    own = hand_step(strategy, lambda: domain_loss(1.0))
    discriminators = {name: value for name, value in own.items() if name.startswith("discriminator")}
    check_step(strategy, batch, discriminators, turn="discriminator")
    assert all(each.grad is None for each in strategy.model.parameters())

    inverted = hand_step(strategy, lambda: F.cross_entropy(head(features(source)), batch.source.y) + domain_loss(0.0))
    check_step(strategy, batch, {k: v for k, v in inverted.items() if k.startswith("model")}, turn="model")
    turns = strategy.phases()[0].turns
    assert [turn.name for turn in turns] == ["discriminator", "model"]
    assert set(turns[1].updates) == {group.name for group in strategy.param_groups()} - {"discriminator"}


def test_mmd_adds_the_kernel_distance_of_the_features(build: Build, batch: Batch) -> None:
    strategy = build("mmd", "strategy.weight=0.5", "strategy.ramp=null", "strategy.finetune_share=0")
    features, head = layers(strategy.model)

    def loss() -> Tensor:
        source, target = features(batch.source.x), features(batch.unlabelled.x)
        both = torch.cat((source, target))
        squared = (both[:, None] - both[None]).square().sum(-1)
        base = squared.detach().sum() / (len(both) * (len(both) - 1))
        kernel = sum(torch.exp(-squared / (2 * factor * base)) for factor in (0.125, 0.25, 0.5, 1.0, 2.0))
        n = len(source)
        distance = kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()
        return F.cross_entropy(head(source), batch.source.y) + 0.5 * distance

    check_step(strategy, batch, hand_step(strategy, loss))


@pytest.mark.parametrize("name", ["dann", "mmd"])
def test_the_last_phase_of_an_adaptation_is_plain_fine_tuning(name: str, build: Build, batch: Batch) -> None:
    strategy = build(name, "strategy.finetune_share=0.2")
    phases = strategy.phases()
    assert [(phase.name, phase.share, phase.reads) for phase in phases] == [
        ("train", 0.8, ("source", "unlabelled")),
        ("finetune", 0.2, ("target",)),
    ]
    features, head = layers(strategy.model)
    by_hand = hand_step(strategy, lambda: F.cross_entropy(head(features(batch.target.x)), batch.target.y))
    check_step(strategy, Batch(target=batch.target), by_hand, phase="finetune")


@pytest.mark.parametrize("name", ["dann", "mmd"])
def test_domains_are_normalised_together_or_apart(name: str, build: Build, batch: Batch) -> None:
    losses = {}
    for way in ("joint", "apart"):
        strategy = build(name, f"strategy.batch_norm={way}", "model.bottleneck=4", "strategy.finetune_share=0")
        losses[way] = strategy.loss(batch, progress()).task["classification"]
        alone = strategy.model(batch.source.x).logits
        expected = F.cross_entropy(alone, batch.source.y)
        assert torch.allclose(losses[way], expected) == (way == "apart")
    assert not torch.allclose(losses["joint"], losses["apart"])


@pytest.mark.parametrize("name", ["dann", "mmd"])
def test_domains_kept_apart_are_evaluated_each_with_its_own_statistics(name: str, build: Build, batch: Batch) -> None:
    for way in ("joint", "apart"):
        strategy = build(name, f"strategy.batch_norm={way}", "model.bottleneck=4", "strategy.finetune_share=0")
        for _ in range(3):
            strategy.loss(batch, progress())
        strategy.eval()
        x = batch.source.x
        outputs = [strategy.predict(x, domain).logits for domain in ("source", "target")]
        assert torch.equal(*outputs) == (way == "joint")


def test_the_discriminator_sees_both_domains_in_one_pass(build: Build, batch: Batch) -> None:
    strategy = build("dann", "strategy.discriminator_batch_norm=true", "strategy.finetune_share=0")
    source, target = torch.randn(6, 6), torch.randn(4, 6) + 3
    together = strategy.discriminator(torch.cat((source, target)))
    assert torch.equal(torch.cat(strategy.discriminate(source, target)), together)


def test_keep_stages_keeps_the_first_and_starts_the_rest_anew(build: Build) -> None:
    whole, cut = build("fine_tune"), build("fine_tune", "strategy.keep_stages=1")
    before, after = whole.model.state_dict(), cut.model.state_dict()
    first = whole.model.learning_stages[0]
    kept = {name for name in before if name.startswith(f"backbone.stages.{first}.")}
    assert kept and all(torch.equal(before[name], after[name]) for name in kept)
    assert all(not torch.equal(before[name], after[name]) for name in before if name not in kept)
    assert cut.model.pretrained == {first}


def test_rates_fall_stage_by_stage_below_the_head(build: Build) -> None:
    strategy = build("fine_tune", "strategy.backbone_rate=0.2", "strategy.stage_decay=0.5")
    rates = {group.name: group.rate for group in strategy.param_groups()}
    low, high = strategy.model.learning_stages
    assert rates == {"head": 1.0, high: pytest.approx(0.2), low: pytest.approx(0.1)}
    fresh = build("fine_tune", trained=False)
    assert {group.rate for group in fresh.param_groups()} == {1.0}


@pytest.mark.parametrize(
    ("overrides", "opened"),
    [
        (("strategy.train=last_k", "strategy.last_k=1"), 1),
        (("strategy.train=ratio", "strategy.ratio=0.5"), 1),
        (("strategy.train=ratio", "strategy.ratio=0.51"), 2),
    ],
)
def test_the_top_stages_learn_and_the_rest_are_frozen(overrides: tuple[str, ...], opened: int, build: Build) -> None:
    strategy = build("fine_tune", *overrides)
    stages = strategy.model.learning_stages
    expected = {f"model.backbone.stages.{stage}.*" for stage in stages[len(stages) - opened :]} | {"model.head.*"}
    assert set(strategy.phases()[0].train) == expected


def test_progressive_opens_one_more_stage_from_the_top_with_each_phase(build: Build) -> None:
    strategy = build("progressive", "strategy.plateau=source_val", "strategy.patience=3")
    low, high = strategy.model.learning_stages
    phases = strategy.phases()
    assert [phase.name for phase in phases] == ["head", f"from_{high}", f"from_{low}"]
    sizes = [len(phase.train) for phase in phases]
    assert sizes == [1, 2, 3]
    assert all(phase.until is not None and phase.until.patience == 3 for phase in phases)


def test_a_bottleneck_lets_an_adaptation_train_above_a_frozen_backbone_and_without_one_it_is_refused(
    build: Build,
) -> None:
    patterns = build("dann", "strategy.train=head", "model.bottleneck=4").phases()[0].train
    assert set(patterns) == {"model.head.*", "model.bottleneck.*", "discriminator.*"}
    with pytest.raises(Exception, match="strategy.train: head leaves nothing that shapes the features"):
        build("mmd", "strategy.train=head").phases()


def test_strategies_do_not_share_weights_between_copies(build: Build) -> None:
    strategy = build("dann")
    twin = copy.deepcopy(strategy)
    assert all(a is not b for a, b in zip(strategy.parameters(), twin.parameters(), strict=True))
