"""No transfer: random weights trained on the granted target labels alone. What transfer has to beat."""

from __future__ import annotations

from typing import Literal

from tlrun.batch import Batch, Losses, Progress
from tlrun.config import Needs, StrategySettings
from tlrun.strategies.base import Strategy, labelled_loss


class Scratch(Strategy):
    """Empirical risk minimisation on the granted target rows, from random weights; below it, transfer is negative."""

    class Config(StrategySettings):
        @property
        def starts_from(self) -> Literal["anything", "trained", "random"]:
            return "random"

        @property
        def needs(self) -> Needs:
            return Needs(source="unused", target="required", unlabelled="unused")

    def loss(self, batch: Batch, progress: Progress) -> Losses:
        return labelled_loss(self, batch, "target")
