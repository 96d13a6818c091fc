"""Progressive unfreezing: the head first, then one more stage from the top with each phase."""

from __future__ import annotations

from tlrun.batch import Batch, Losses, Progress
from tlrun.config import Count, Positive, Rule, UnfreezingSettings, view_problems
from tlrun.strategies.base import (
    ParamGroup,
    Phase,
    Plateau,
    Strategy,
    frozen_stages,
    in_views,
    keep_still,
    labelled_loss,
    model_groups,
    training_phases,
)


class Progressive(Strategy):
    """Gradual unfreezing (Howard and Ruder 2018, ULMFiT, arXiv:1801.06146, section 3.3).

    Phases have equal shares of the run, or those of `shares` in proportion, one for each phase in order; with `plateau`
    a phase also ends once that rule's score has not improved for `patience` evaluations. A stage at rate 0 has no phase.
    The paper opens a layer per epoch and then trains all to the end; here the last phase, with everything open, gets the
    same share as the others unless `shares` says otherwise.
    """

    class Config(UnfreezingSettings):
        shares: tuple[Positive, ...] | None
        plateau: Rule | None
        patience: Count
        encode_once: bool

        def problems(self) -> list[str]:
            return view_problems(self.encode_once, self.encode_views)

        @property
        def rules(self) -> dict[str, Rule]:
            return {"plateau": self.plateau} if self.plateau else {}

    def loss(self, batch: Batch, progress: Progress) -> Losses:
        return labelled_loss(self, batch, self.config.learns_from)

    def phases(self) -> tuple[Phase, ...]:
        config = self.config
        phases = training_phases(
            self.model,
            "progressive",
            shares=config.shares,
            closed=frozen_stages(self.model, config.rates),
            until=Plateau(config.plateau, config.patience) if config.plateau else None,
            encode_once=config.encode_once,
        )
        phases = in_views(phases, config.encode_views)
        loaded = self.model.learning_stages
        return keep_still(self.model, phases, batch_norm=config.batch_norm, loaded=loaded, rates=config.rates)

    def param_groups(self) -> tuple[ParamGroup, ...]:
        config = self.config
        return model_groups(
            self.model, backbone_rate=config.backbone_rate, stage_decay=config.stage_decay, rates=config.rates
        )
