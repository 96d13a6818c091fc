"""MMD: features whose distribution is the same in both domains, measured by a multi-kernel mean discrepancy."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from tlrun.batch import Batch, Losses, Output, Progress, Terms
from tlrun.config import AdaptationSettings, Positive
from tlrun.losses.mmd import mmd
from tlrun.strategies.base import Phase, Strategy, adaptation_phases, aligned_loss


class Mmd(Strategy):
    """Deep adaptation networks (Long et al. 2015, arXiv:1502.02791, eq. 4) on features, logits, or both.

    Departures: one fixed sum of kernels in place of weights learnt by a quadratic program, as the known
    implementations do; the estimate is an option, the paper's being the linear-time one.
    """

    class Config(AdaptationSettings):
        match: tuple[Literal["features", "logits"], ...]
        kernels: tuple[Positive, ...]
        bandwidth: Literal["median", "mean"] | Positive
        estimate: Literal["biased", "unbiased", "linear"]

        def problems(self) -> list[str]:
            problems = super().problems()
            if not self.kernels:
                problems.append("kernels: must name at least one multiple of the bandwidth")
            if not self.match or len(set(self.match)) != len(self.match):
                problems.append("match: must name features, logits, or each of them once")
            return problems

    @property
    def terms(self) -> Terms:
        return Terms(task=("classification",), transfer=("mmd",), stats=("adaptation_weight",))

    def phases(self) -> tuple[Phase, ...]:
        return adaptation_phases(self.config, self.model)

    def loss(self, batch: Batch, progress: Progress) -> Losses:
        return aligned_loss(self, batch, progress, term="mmd", distance=self.distance)

    def distance(self, source: Output, target: Output) -> Tensor:
        """The sum of the matched layers' squared discrepancies, a scalar."""
        options = {"kernels": self.config.kernels, "bandwidth": self.config.bandwidth, "estimate": self.config.estimate}
        layers = [mmd(getattr(source, layer), getattr(target, layer), **options) for layer in self.config.match]
        return torch.stack(layers).sum()
