"""Direct transfer: train on the source, test on the target. The floor that every adaptation is held against."""

from __future__ import annotations

from tlrun.batch import Batch, Losses, Progress
from tlrun.config import Needs, StrategySettings
from tlrun.strategies.base import Strategy, labelled_loss


class SourceOnly(Strategy):
    """Empirical risk minimisation on labelled source rows; the target is only looked at in evaluation."""

    class Config(StrategySettings):
        @property
        def needs(self) -> Needs:
            return Needs(source="required", target="unused", unlabelled="unused")

    def loss(self, batch: Batch, progress: Progress) -> Losses:
        return labelled_loss(self, batch, "source")
