"""AdaBN: batch statistics of the target in a model trained on the source."""

from __future__ import annotations

import torch

from tlrun.batch import Batch, Losses, Progress, Task, Terms
from tlrun.config import ConfigError, Needs, StrategySettings
from tlrun.layers.domain_statistics import DomainStatistics
from tlrun.models.transfer import TransferModel
from tlrun.strategies.base import Strategy, both_domains


class Adabn(Strategy):
    """Adaptive batch normalisation (Li et al. 2016, arXiv:1603.04779, algorithm 1).

    Nothing is aligned by a loss: source rows train the model as in `source_only`, and target rows are normalised by
    the target's own mean and variance. Departure: these are moving averages over unlabelled target batches beside
    training, where the paper takes them in one pass after it.
    """

    class Config(StrategySettings):
        @property
        def needs(self) -> Needs:
            return Needs(source="required", target="unused", unlabelled="required")

    statistics: DomainStatistics

    def __init__(self, config: Config, model: TransferModel, task: Task, *, label_smoothing: float = 0.0) -> None:
        super().__init__(config, model, task, label_smoothing=label_smoothing)
        self.statistics = DomainStatistics(model)
        if not len(self.statistics):
            raise ConfigError(
                "strategy.name: adabn replaces the statistics of batch normalisation, and this model has none; "
                "choose a model that has, or set model.bottleneck"
            )

    @property
    def terms(self) -> Terms:
        return Terms(task=("classification",), stats=("statistics_shift",))

    def loss(self, batch: Batch, progress: Progress) -> Losses:
        source, target = both_domains(batch)
        with torch.no_grad():
            self.forward_target(target.x)  # in training mode, so that the target's statistics move
        output = self.forward_source(source.x)
        return Losses(
            task={"classification": self.classification(output, source)},
            stats={"statistics_shift": self.statistics.shift()},
        )
