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
from tlrun.config import ConfigError
from tlrun.models.transfer import TransferModel
from tlrun.strategies.base import Strategy, discriminate

from .conftest import progress

LR = 0.1
ALIGNING = ["dann", "cdan", "mmd", "deep_coral", "mcc"]
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


@pytest.mark.parametrize("match", [("features",), ("logits",), ("features", "logits")])
def test_deep_coral_adds_the_distance_of_the_covariances(match: tuple[str, ...], build: Build, batch: Batch) -> None:
    strategy = build(
        "deep_coral",
        f"strategy.match=[{','.join(match)}]",
        *("strategy.weight=0.5", "strategy.ramp=null", "strategy.finetune_share=0"),
    )
    features, head = layers(strategy.model)

    def loss() -> Tensor:
        source, target = features(batch.source.x), features(batch.unlabelled.x)
        pairs = {"features": (source, target), "logits": (head(source), head(target))}
        distances = [(torch.cov(a.T) - torch.cov(b.T)).square().sum() / (4 * a.shape[1] ** 2)
                     for a, b in (pairs[layer] for layer in match)]  # fmt: skip
        return F.cross_entropy(head(source), batch.source.y) + 0.5 * sum(distances)

    check_step(strategy, batch, hand_step(strategy, loss))


def test_mcc_adds_the_confusion_of_the_target_predictions_alone(build: Build, batch: Batch) -> None:
    strategy = build("mcc", "strategy.weight=0.5", "strategy.ramp=null", "strategy.finetune_share=0")
    features, head = layers(strategy.model)

    def loss() -> Tensor:
        rows = F.softmax(head(features(batch.unlabelled.x)) / 2.5, dim=1)
        weight = (1 + torch.exp((rows * rows.log()).sum(1))).detach()
        matrix = rows.T @ torch.diag(weight) @ rows
        matrix = matrix / matrix.sum(1, keepdim=True)
        confusion = (matrix.sum() - matrix.trace()) / len(matrix)
        return F.cross_entropy(head(features(batch.source.x)), batch.source.y) + 0.5 * confusion

    check_step(strategy, batch, hand_step(strategy, loss))


@pytest.mark.parametrize("entropy", [True, False])
@pytest.mark.parametrize("random_features", [None, 5])
def test_cdan_reverses_the_domain_loss_on_features_with_predictions(
    entropy: bool, random_features: int | None, build: Build, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tlrun.strategies.cdan.LARGEST_PRODUCT", 10)
    strategy = build(
        "cdan",
        f"strategy.entropy_conditioning={entropy}",
        f"strategy.random_features={'null' if random_features is None else random_features}",
        *("strategy.weight=0.7", "strategy.ramp=null", "strategy.finetune_share=0"),
    )
    features, head = layers(strategy.model)

    def joint(rows: Tensor, probabilities: Tensor) -> Tensor:
        if random_features is None:
            return torch.stack([torch.outer(f, g).flatten() for f, g in zip(rows, probabilities, strict=True)])
        product = (rows @ strategy.feature_projection) * (probabilities @ strategy.class_projection)
        return product / math.sqrt(random_features)

    domain, pieces = torch.zeros(()), []
    for x, label in ((batch.source.x, 1.0), (batch.unlabelled.x, 0.0)):
        rows = features(x)
        probabilities = F.softmax(head(rows), dim=1).detach()
        weight = 1 + torch.exp((probabilities * probabilities.log()).sum(1)) if entropy else torch.ones(len(x))
        logits = strategy.discriminator(joint(rows, probabilities))
        losses = F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label), reduction="none")
        domain = domain + (weight * losses).sum() / weight.sum() / 2
        pieces.append(rows)
    task = F.cross_entropy(head(pieces[0]), batch.source.y)
    own = dict(strategy.named_parameters())
    of_task = torch.autograd.grad(task, own.values(), retain_graph=True, allow_unused=True)
    of_domain = torch.autograd.grad(domain, own.values(), allow_unused=True)
    by_hand = {}
    for (name, parameter), first, second in zip(own.items(), of_task, of_domain, strict=True):
        sign = 1.0 if name.startswith("discriminator") else -0.7
        gradient = sum(factor * each for factor, each in ((1.0, first), (sign, second)) if each is not None)
        by_hand[name] = parameter.detach() - LR * gradient
    check_step(strategy, batch, by_hand)


@pytest.mark.parametrize(("num_features", "projected"), [(1365, False), (1366, True)])
def test_cdan_projects_where_features_times_classes_exceed_4096(
    num_features: int, projected: bool, build: Build
) -> None:
    strategy = build("cdan", f"model.widths=[8,{num_features}]", "strategy.random_features=16")
    assert (strategy.feature_projection is not None) == projected
    assert strategy.discriminator.layers[0].in_features == (16 if projected else 3 * num_features)


def test_adabn_learns_from_the_source_and_only_normalises_the_target(build: Build, batch: Batch) -> None:
    strategy = build("adabn", "model.bottleneck=4")
    twin = copy.deepcopy(strategy.model)
    strategy.loss(batch, progress()).total().backward()
    F.cross_entropy(twin(batch.source.x).logits, batch.source.y).backward()
    for (name, ours), theirs in zip(strategy.model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)
    # After many steps at rest each domain is normalised by its own mean, and the shift between them is seen.
    for _ in range(100):
        losses = strategy.loss(batch, progress())
    assert losses.stats["statistics_shift"] > 0.1
    with torch.no_grad():
        for part, domain in ((batch.source, "source"), (batch.unlabelled, "target")):
            at_rest = strategy.train().predict(part.x, domain).logits
            torch.testing.assert_close(strategy.eval().predict(part.x, domain).logits, at_rest, rtol=0.2, atol=0.2)


def test_adabn_is_refused_where_it_could_do_nothing(build: Build) -> None:
    with pytest.raises(ConfigError, match=r"^strategy.name: adabn replaces the statistics .* set model.bottleneck$"):
        build("adabn")


@pytest.mark.parametrize("name", ALIGNING)
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


@pytest.mark.parametrize("name", ALIGNING)
def test_domains_are_normalised_together_or_apart(name: str, build: Build, batch: Batch) -> None:
    losses = {}
    for way in ("joint", "apart"):
        strategy = build(name, f"strategy.batch_norm={way}", "model.bottleneck=4", "strategy.finetune_share=0")
        losses[way] = strategy.loss(batch, progress()).task["classification"]
        alone = strategy.model(batch.source.x).logits
        expected = F.cross_entropy(alone, batch.source.y)
        assert torch.allclose(losses[way], expected) == (way == "apart")
    assert not torch.allclose(losses["joint"], losses["apart"])


@pytest.mark.parametrize("name", ALIGNING)
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
    assert torch.equal(torch.cat(discriminate(strategy.discriminator, source, target)), together)


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


@pytest.mark.parametrize("name", ["fine_tune", "dann"])
def test_more_stages_than_there_are_cannot_learn(name: str, build: Build) -> None:
    assert len(build(name, "strategy.train=last_k", "strategy.last_k=2").phases()[0].train) >= 3
    with pytest.raises(ConfigError) as error:
        build(name, "strategy.train=last_k", "strategy.last_k=3").phases()
    assert str(error.value) == "strategy.last_k: must be at most 2 (hidden1, hidden2), got 3"


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
