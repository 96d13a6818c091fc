"""Progressive unfreezing: the head first, then one more stage from the top with each phase."""

from __future__ import annotations

from tlrun.batch import Batch, Losses, Progress
from tlrun.config import Count, Positive, Rule, TuningSettings, view_problems
from tlrun.strategies.base import ParamGroup, Phase, Plateau, Strategy, labelled_loss, model_groups, training_phases


class Progressive(Strategy):
    """Gradual unfreezing (Howard and Ruder 2018, ULMFiT, arXiv:1801.06146, section 3.3).

    Phases have equal shares of the run; with `plateau` a phase also ends once that rule's score has not improved for
    `patience` evaluations. The paper opens a layer per epoch and then trains all to the end; here the last phase,
    with everything open, gets the same share as the others.
    """

    class Config(TuningSettings):
        plateau: Rule | None
        patience: Count
        backbone_rate: Positive
        stage_decay: Positive
        encode_once: bool

        def problems(self) -> list[str]:
            return view_problems(self.encode_once, self.encode_views)

        @property
        def rules(self) -> tuple[Rule, ...]:
            return (self.plateau,) if self.plateau else ()

    def loss(self, batch: Batch, progress: Progress) -> Losses:
        return labelled_loss(self, batch, self.config.learns_from)

    def phases(self) -> tuple[Phase, ...]:
        config = self.config
        until = Plateau(config.plateau, config.patience) if config.plateau else None
        once, views = config.encode_once, config.encode_views
        return training_phases(self.model, "progressive", until=until, encode_once=once, encode_views=views)

    def param_groups(self) -> tuple[ParamGroup, ...]:
        return model_groups(self.model, backbone_rate=self.config.backbone_rate, stage_decay=self.config.stage_decay)
