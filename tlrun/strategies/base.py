"""What a strategy is: it turns a batch into losses and says which parameters learn when. The engine does everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from tlrun.batch import Batch, Encoded, Examples, Inputs, Losses, Output, Progress, Task, Terms, concatenate
from tlrun.config import AdaptationSettings, AdversarialSettings, ConfigError, Rule, StrategySettings
from tlrun.layers.discriminator import Discriminator
from tlrun.layers.domain_statistics import DomainStatistics
from tlrun.losses.adversarial import ramp
from tlrun.losses.classification import task_loss
from tlrun.models.transfer import TransferModel

Part = Literal["source_train", "target_granted", "target_unlabelled"]


@dataclass(frozen=True)
class ParamGroup:
    """Parameters whose names match any of `patterns` (shell style), learning at `rate` times the learning rate.

    Names are those of the strategy's own `named_parameters()`: `model.backbone.stages.conv1.weight`,
    `discriminator.layers.0.bias`. A parameter belongs to the first group that matches it. weight_decay None
    means the optimizer's.
    """

    name: str
    patterns: tuple[str, ...]
    rate: float = 1.0
    weight_decay: float | None = None


@dataclass(frozen=True)
class Turn:
    """One optimizer step within a step: only the groups named in `updates` move (`*`: all of them)."""

    name: str = "all"
    updates: tuple[str, ...] = ("*",)
    repeats: int = 1


@dataclass(frozen=True)
class Plateau:
    """Ends a phase once the rule's score has not improved for `patience` evaluations."""

    metric: Rule
    patience: int


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one set of learning parameters.

    share: the most of the run it may take, relative to the other phases. train: patterns of the parameters that
    learn. reads: the kinds of rows it takes, None for all that the strategy needs. encode_once: run the frozen
    stages below the first that learns once per image instead of in every epoch. encode_views: so many augmented
    views of each training row instead of the row alone, one of them an epoch.
    """

    name: str
    share: float = 1.0
    train: tuple[str, ...] = ("*",)
    turns: tuple[Turn, ...] = (Turn(),)
    reads: tuple[Literal["source", "target", "unlabelled"], ...] | None = None
    encode_once: bool = False
    encode_views: int | None = None
    until: Plateau | None = None


class Access(Protocol):
    """What a strategy may ask for between steps: training rows, and what the model says of them. Never a withheld label."""

    def examples(self, part: Part) -> Iterator[Examples]:
        """All rows of a training part once, in order, batch by batch, without augmentation."""

    def encode(self, part: Part) -> tuple[Tensor, Output]:
        """Row numbers (N,) and what the model, in eval mode, says of every row of a training part."""


class Strategy(nn.Module):
    """A transfer method: `loss` is the one method to write.

    Parameters and buffers are its whole memory: they are what a checkpoint holds of it, so anything that changes
    with time is either a buffer, sized in `__init__`, or a function of `Progress`.
    """

    Config: type[StrategySettings]
    config: Any

    def __init__(
        self, config: StrategySettings, model: TransferModel, task: Task, *, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        self.config = config
        self.model = model
        self.task = task
        self.label_smoothing = label_smoothing
        self.statistics: DomainStatistics | None = None
        if isinstance(config, AdaptationSettings) and config.batch_norm == "apart":
            self.statistics = DomainStatistics(model)

    @property
    def terms(self) -> Terms:
        """The names of all that `loss` will ever report."""
        return Terms()

    def loss(self, batch: Batch, progress: Progress) -> Losses:
        """The weighted terms to descend for this batch at this point of the run."""
        raise TypeError(f"{type(self).__qualname__} has no loss")

    def predict(self, x: Inputs, domain: str) -> Output:
        """Features (N, D) and logits (N, C) of rows of one domain, "source" or "target", for evaluation."""
        return self.forward_source(x) if domain == "source" else self.forward_target(x)

    def forward_source(self, x: Inputs) -> Output:
        """The model on source rows, with their own batch statistics where the strategy keeps such."""
        with self.statistics.source() if self.statistics is not None else nullcontext():
            output: Output = self.model(x)
        return output

    def forward_target(self, x: Inputs) -> Output:
        """The model on target rows."""
        output: Output = self.model(x)
        return output

    def forward_domains(self, source: Inputs, target: Inputs) -> tuple[Output, Output]:
        """Both domains' outputs: in one pass, batch-normalised with each other's statistics, or each with its own."""
        if self.statistics is not None:
            return self.forward_source(source), self.forward_target(target)
        output: Output = self.model(concatenate(source, target))
        return output.split(len(source))

    def encode_prefix(self, x: Inputs, domain: str, stage: int) -> Encoded:
        """Rows of one domain as stage number `stage` of the model receives them."""
        own = domain == "source" and self.statistics is not None
        with self.statistics.source() if own and self.statistics is not None else nullcontext():
            return self.model.encode_prefix(x, stage)

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("train"),)

    def param_groups(self) -> tuple[ParamGroup, ...]:
        return model_groups(self.model)

    def begin_phase(self, phase: Phase, access: Access) -> None:
        """Called before a phase's first step, and not again when a run is resumed within it."""

    def begin_epoch(self, access: Access) -> None:
        """Called before an epoch's first step, and not again when a run is resumed within it."""

    def after_step(self, progress: Progress) -> None:
        """Called after each optimizer step."""

    def classification(self, output: Output, examples: Examples) -> Tensor:
        """The task's loss on labelled rows. Raises ValueError where the labels are not there."""
        return task_loss(output.logits, examples, label_smoothing=self.label_smoothing)


def model_groups(
    model: TransferModel, *, backbone_rate: float = 0.1, stage_decay: float = 1.0
) -> tuple[ParamGroup, ...]:
    """A group for the head (and bottleneck) at rate 1, and one for each backbone stage.

    A pretrained stage learns at `backbone_rate`, times `stage_decay` for each backbone stage above it; a fresh one
    at 1. The factor 0.1 is the one that Long et al. 2015 (arXiv:1502.02791, section 5.1) gave pretrained layers.
    """
    stages = model.backbone_stages
    groups = [ParamGroup("head", top_patterns(model))]
    for depth, stage in enumerate(reversed(stages)):
        rate = backbone_rate * stage_decay**depth if stage in model.pretrained else 1.0
        if any(True for _ in model.backbone.stages[stage].parameters()):
            groups.append(ParamGroup(stage, (stage_pattern(stage),), rate))
    return tuple(groups)


def stage_pattern(stage: str) -> str:
    """The pattern of a backbone stage's parameters."""
    return f"model.backbone.stages.{stage}.*"


def top_patterns(model: TransferModel) -> tuple[str, ...]:
    """The patterns of what lies above the backbone: head, and bottleneck where there is one."""
    return ("model.head.*", "model.bottleneck.*") if model.has_bottleneck else ("model.head.*",)


def training_phases(
    model: TransferModel,
    train: Literal["all", "head", "last_k", "progressive"],
    *,
    last_k: int | None = None,
    also: tuple[str, ...] = (),
    share: float = 1.0,
    until: Plateau | None = None,
    encode_once: bool = False,
    encode_views: int | None = None,
    **common: Any,
) -> tuple[Phase, ...]:
    """The phases of one of the four ways to open a model.

    all: everything learns. head: what lies above the backbone. last_k: that and the top k backbone stages.
    progressive: the head first, then with each phase one more stage from the top, in equal shares, each phase ended
    early by `until`. also: patterns that learn throughout; common: further fields of every `Phase`.
    Raises ConfigError where the backbone has fewer than `last_k` stages that learn, and where rows are to be encoded
    once and no stage is frozen.
    """
    top = (*top_patterns(model), *also)
    # A stage without parameters (pooling, flattening) opens nothing, so it does not count as one.
    stages = model.learning_stages
    if last_k is not None and last_k > len(stages):
        raise ConfigError(f"strategy.last_k: must be at most {len(stages)} ({', '.join(stages)}), got {last_k}")
    if train == "all":
        return (Phase("train", share, until=until, **common),)
    counts = {"head": [0], "last_k": [last_k or 0], "progressive": range(len(stages) + 1)}[train]
    phases = []
    for count in counts:
        opened = tuple(stage_pattern(stage) for stage in stages[len(stages) - count :])
        name = "train" if train != "progressive" else ("head" if not count else f"from_{stages[-count]}")
        once = encode_once and count < len(stages)
        phase = Phase(name, share / len(counts), (*top, *opened), until=until, encode_once=once, **common)
        phases.append(replace(phase, encode_views=encode_views if once else None))
    if encode_once and not any(phase.encode_once for phase in phases):
        raise ConfigError(
            f"strategy.encode_once: has no effect where all stages learn ({', '.join(stages)}); set it to false, or "
            "leave a stage frozen"
        )
    return tuple(phases)


FINETUNE = "finetune"
"""The name of the last phase of an adaptation that learns from granted target labels."""


def adaptation_phases(
    config: AdaptationSettings, model: TransferModel, *, also: tuple[str, ...] = (), turns: tuple[Turn, ...] = (Turn(),)
) -> tuple[Phase, ...]:
    """Alignment as `config.train` opens the model, then `finetune_share` of the run on granted target labels.

    Raises ConfigError where nothing that shapes the features would learn, since alignment could then do nothing.
    """
    if config.train == "head" and not model.has_bottleneck:
        raise ConfigError(
            "strategy.train: head leaves nothing that shapes the features to learn, so alignment could do nothing; "
            "set model.bottleneck, or train=last_k"
        )
    share = config.finetune_share or 0.0
    phases = training_phases(
        model,
        config.train,
        last_k=config.last_k,
        also=also,
        share=1.0 - share,
        turns=turns,
        reads=("source", "unlabelled"),
    )
    return (*phases, Phase(FINETUNE, share, train=("model.*",), reads=("target",))) if share else phases


def adaptation_weight(config: AdaptationSettings, progress: Progress) -> float:
    """The weight of the alignment at this point of the phase, ramped as `config.ramp` says."""
    return config.weight * (1.0 if config.ramp is None else ramp(progress.phase_fraction, steepness=config.ramp))


def both_domains(batch: Batch) -> tuple[Examples, Examples]:
    """The labelled source rows and the unlabelled target rows. Raises ValueError where either is missing."""
    if batch.source is None or batch.unlabelled is None:
        raise ValueError("the batch lacks source rows or unlabelled target rows")
    return batch.source, batch.unlabelled


def aligned_loss(
    strategy: Strategy,
    batch: Batch,
    progress: Progress,
    *,
    term: str,
    distance: Callable[[Output, Output], Tensor],
    reaches: Literal["both", "target"] = "both",
) -> Losses:
    """The loss of a method that adds one weighted distance between the domains' outputs to the source's task.

    distance: of the source's and the target's output, a scalar. reaches: whose features have a gradient of it. In the
    last phase of fine-tuning, the task's loss on granted target labels alone.
    """
    if progress.phase == FINETUNE:
        return labelled_loss(strategy, batch, "target")
    source, target = both_domains(batch)
    of_source, of_target = strategy.forward_domains(source.x, target.x)
    weight = adaptation_weight(strategy.config, progress)
    value = distance(of_source, of_target)
    return Losses(
        task={"classification": strategy.classification(of_source, source)},
        transfer={term: weight * value},
        stats={"adaptation_weight": value.new_tensor(weight)},
        features=(of_target.features,) if reaches == "target" else (of_source.features, of_target.features),
    )


def discriminator(config: AdversarialSettings, in_features: int) -> Discriminator:
    """The domain discriminator that the settings describe, with random weights."""
    return Discriminator(
        in_features,
        config.discriminator_hidden,
        dropout=config.discriminator_dropout,
        batch_norm=config.discriminator_batch_norm,
    )


def adversarial_groups(config: AdversarialSettings, model: TransferModel) -> tuple[ParamGroup, ...]:
    """The model's groups, and one for what the strategy calls `discriminator`."""
    return (*model_groups(model), ParamGroup("discriminator", ("discriminator.*",), config.discriminator_rate))


def discriminate(discriminator: nn.Module, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Domain logits (Ns,) and (Nt,), from one pass: batch-normalised apart, the domains would look alike."""
    source_logits, target_logits = discriminator(torch.cat((source, target))).split((len(source), len(target)))
    return source_logits, target_logits


def labelled_loss(strategy: Strategy, batch: Batch, learns_from: Literal["source", "target", "both"]) -> Losses:
    """The task's loss on source rows, on granted target rows, or the mean of the two."""
    parts = {"source": (batch.source,), "target": (batch.target,), "both": (batch.source, batch.target)}[learns_from]
    losses = [strategy.classification(strategy.predict(part.x, part.domain), part) for part in parts if part]
    if len(losses) != len(parts):
        raise ValueError("the batch lacks the labelled rows that this strategy needs")
    return Losses(task={"classification": torch.stack(losses).mean()})
