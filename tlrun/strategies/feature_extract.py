"""Feature extraction: the pretrained backbone is frozen, only what lies above it learns."""

from __future__ import annotations

from typing import Self

from tlrun.batch import Batch, Losses, Progress
from tlrun.config import Grant, TuningSettings, view_problems
from tlrun.strategies.base import Phase, Strategy, in_views, labelled_loss, training_phases


class FeatureExtract(Strategy):
    """A new classifier on fixed features (Donahue et al. 2014, DeCAF, arXiv:1310.1531).

    A frozen backbone gives each image the same features in every epoch, so they are computed once unless the images are
    augmented (`encode_once` null), and then too where a number of views is asked for (`encode_views`).
    """

    class Config(TuningSettings):
        encode_once: bool | None

        def resolved(self, target_labels: Grant, *, augmented: bool) -> Self:
            if self.encode_once is not None:
                return self
            return self.model_copy(update={"encode_once": not augmented or self.encode_views is not None})

        def problems(self) -> list[str]:
            return view_problems(self.encode_once, self.encode_views)

    def loss(self, batch: Batch, progress: Progress) -> Losses:
        return labelled_loss(self, batch, self.config.learns_from)

    def phases(self) -> tuple[Phase, ...]:
        phases = training_phases(self.model, "head", encode_once=self.config.encode_once)
        return in_views(phases, self.config.encode_views)
