"""MCC: target predictions that do not hold two classes at once."""

from __future__ import annotations

from tlrun.batch import Batch, Losses, Progress, Terms
from tlrun.config import AdaptationSettings, Positive
from tlrun.losses.confusion import class_confusion
from tlrun.strategies.base import Phase, Strategy, adaptation_phases, aligned_loss


class Mcc(Strategy):
    """Minimum class confusion (Jin et al. 2020, arXiv:1912.03699, section 3).

    No domain is aligned with another: the confusion between classes in the target's predictions is the transfer term.
    Departure: its weight may be ramped (`ramp: null` is the paper's constant weight).
    """

    class Config(AdaptationSettings):
        temperature: Positive

    @property
    def terms(self) -> Terms:
        return Terms(task=("classification",), transfer=("class_confusion",), stats=("adaptation_weight",))

    def phases(self) -> tuple[Phase, ...]:
        return adaptation_phases(self.config, self.model)

    def loss(self, batch: Batch, progress: Progress) -> Losses:
        return aligned_loss(
            self,
            batch,
            progress,
            term="class_confusion",
            distance=lambda source, target: class_confusion(target.logits, temperature=self.config.temperature),
            reaches="target",
        )
