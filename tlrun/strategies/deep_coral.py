"""Deep CORAL: features whose covariance is the same in both domains."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from tlrun.batch import Batch, Losses, Output, Progress, Terms
from tlrun.config import AdaptationSettings
from tlrun.losses.coral import coral
from tlrun.strategies.base import Phase, Strategy, adaptation_phases, aligned_loss


class DeepCoral(Strategy):
    """Correlation alignment in a deep network (Sun and Saenko 2016, arXiv:1607.01719, eqs. 1 and 6).

    The paper aligns the outputs of its last layer (match: [logits]), with a weight such that both losses are about
    equal at the end. Departures: the features may be aligned instead or too, and the weight is ramped.
    """

    class Config(AdaptationSettings):
        match: tuple[Literal["features", "logits"], ...]

        def problems(self) -> list[str]:
            problems = super().problems()
            if not self.match or len(set(self.match)) != len(self.match):
                problems.append("match: must name features, logits, or each of them once")
            return problems

    @property
    def terms(self) -> Terms:
        return Terms(task=("classification",), transfer=("coral",), stats=("adaptation_weight",))

    def phases(self) -> tuple[Phase, ...]:
        return adaptation_phases(self.config, self.model)

    def loss(self, batch: Batch, progress: Progress) -> Losses:
        return aligned_loss(self, batch, progress, term="coral", distance=self.distance)

    def distance(self, source: Output, target: Output) -> Tensor:
        """The sum of the matched layers' distances, a scalar."""
        return torch.stack([coral(getattr(source, layer), getattr(target, layer)) for layer in self.config.match]).sum()
