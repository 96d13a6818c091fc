"""Feature extraction: the pretrained backbone is frozen, only what lies above it learns."""

from __future__ import annotations

from typing import Self

from tlrun.batch import Batch, Losses, Progress
from tlrun.config import Grant, TuningSettings
from tlrun.strategies.base import Phase, Strategy, labelled_loss, training_phases


class FeatureExtract(Strategy):
    """A new classifier on fixed features (Donahue et al. 2014, DeCAF, arXiv:1310.1531).

    A frozen backbone gives each image the same features in every epoch, so they are computed once unless the images are
    augmented (`encode_once` null).
    """

    class Config(TuningSettings):
        encode_once: bool | None

        def resolved(self, target_labels: Grant, *, augmented: bool) -> Self:
            return self if self.encode_once is not None else self.model_copy(update={"encode_once": not augmented})

    def loss(self, batch: Batch, progress: Progress) -> Losses:
        return labelled_loss(self, batch, self.config.learns_from)

    def phases(self) -> tuple[Phase, ...]:
        return training_phases(self.model, "head", encode_once=self.config.encode_once)
