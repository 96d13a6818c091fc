"""The ceiling: train on all target labels, which is its own request for them."""

from __future__ import annotations

from tlrun.batch import Batch, Losses, Progress
from tlrun.config import Grant, Needs, StrategySettings
from tlrun.strategies.base import Strategy, labelled_loss


class TargetOnly(Strategy):
    """Empirical risk minimisation on every target training row, whatever `data.target_labels` grants to others."""

    class Config(StrategySettings):
        @property
        def needs(self) -> Needs:
            return Needs(source="unused", target="required", unlabelled="unused")

        def own_grant(self, target_labels: Grant) -> Grant:
            return "all"

    def loss(self, batch: Batch, progress: Progress) -> Losses:
        return labelled_loss(self, batch, "target")
