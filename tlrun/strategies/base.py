"""What a strategy is: it turns a batch into losses and says which parameters learn when. The engine does everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from tlrun.batch import Batch, Encoded, Examples, Inputs, Losses, Output, Progress, Task, Terms, concatenate
from tlrun.config import AdaptationSettings, AdversarialSettings, ConfigError, StrategySettings
from tlrun.layers.discriminator import Discriminator
from tlrun.layers.domain_statistics import DomainStatistics
from tlrun.losses.adversarial import ramp
from tlrun.losses.classification import task_loss
from tlrun.models.transfer import TransferModel
from tlrun.strategies._phases import ParamGroup as ParamGroup
from tlrun.strategies._phases import Phase as Phase
from tlrun.strategies._phases import Plateau as Plateau
from tlrun.strategies._phases import Turn as Turn
from tlrun.strategies._phases import frozen_stages as frozen_stages
from tlrun.strategies._phases import in_views as in_views
from tlrun.strategies._phases import keep_still as keep_still
from tlrun.strategies._phases import model_groups as model_groups
from tlrun.strategies._phases import training_phases as training_phases

Part = Literal["source_train", "target_granted", "target_unlabelled"]


class Access(Protocol):
    """What a strategy may ask for between steps: training rows, and what the model says of them. Never a withheld label."""

    def examples(self, part: Part) -> Iterator[Examples]:
        """All rows of a training part once, in order, batch by batch, without augmentation."""

    def encode(self, part: Part) -> tuple[Tensor, Output]:
        """Row numbers (N,) and what the model, in eval mode, says of every row of a training part."""


class Strategy(nn.Module):
    """A transfer method: `loss` is the one method to write.

    Parameters and buffers are its whole memory: they are what a checkpoint holds of it, so anything that changes
    with time is either a buffer, sized in `__init__`, or a function of `Progress`. class_weights: by domain, how much
    a labelled row counts for its class's sake, (C,); the engine sets it from the labels that are trained on.
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
        self.class_weights: dict[str, Tensor] = {}
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
        features = self.model.encode_prefix(concatenate(source, target), len(self.model.stage_names) - 1).x
        # The head sees the halves joined again, so that the gradient of what is said of logits can be taken at them.
        of_source, of_target = features[: len(source)], features[len(source) :]
        logits: Tensor = self.model.head(torch.cat((of_source, of_target)))
        return Output(of_source, logits[: len(source)]), Output(of_target, logits[len(source) :])

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
        weight = self.class_weights.get(examples.domain)
        return task_loss(output.logits, examples, label_smoothing=self.label_smoothing, class_weight=weight)


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
        encode_once=bool(config.encode_once),
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
