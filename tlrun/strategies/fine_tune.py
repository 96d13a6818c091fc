"""Fine-tuning: a pretrained model trained further, whole or from some stage up, pretrained stages at smaller rates."""

from __future__ import annotations

import math
from typing import Literal, Self

from tlrun.batch import Batch, Losses, Progress, Task
from tlrun.config import (
    ConfigError,
    Count,
    Fraction,
    Grant,
    HalfOpenFraction,
    UnfreezingSettings,
    last_k_problems,
    view_problems,
)
from tlrun.models.transfer import TransferModel, reinitialise
from tlrun.strategies.base import (
    ParamGroup,
    Phase,
    Strategy,
    frozen_stages,
    in_views,
    keep_still,
    labelled_loss,
    model_groups,
    training_phases,
)


class FineTune(Strategy):
    """Pretrained weights as the start (Yosinski et al. 2014, arXiv:1411.1792).

    train says which backbone stages learn beside the head: all, the last_k, or `ratio` of them (rounded up) from the
    top. Rates by depth: Howard and Ruder 2018 (arXiv:1801.06146, section 3.2). With `head_share` the head alone learns
    for that share of the run before (LP-FT: Kumar et al. 2022, arXiv:2202.10054, section 3.4), so that what reaches the
    pretrained stages is not the gradient of a random head; `schedule.per_phase=true` gives each part a schedule of its
    own, as the paper does. `keep_stages=k` keeps the first k stages as they were trained and starts all above anew (the
    AnB experiments of Yosinski et al.).
    encode_once: frozen stages are run once per image, in the head's phase alone (`head`), in every phase that has some
    (true), or in none; null means `head` where there is such a phase and images are not augmented.
    """

    class Config(UnfreezingSettings):
        train: Literal["all", "last_k", "ratio"]
        last_k: Count | None
        ratio: Fraction | None
        head_share: HalfOpenFraction
        keep_stages: Count | None
        encode_once: bool | Literal["head"] | None

        def problems(self) -> list[str]:
            problems = [
                *last_k_problems(self.train, self.last_k),
                *view_problems(self.encode_once, self.encode_views),
            ]
            if self.train == "ratio" and self.ratio is None:
                problems.append("ratio: must be set with train=ratio (the share of the backbone stages that learn)")
            if self.train != "ratio" and self.ratio is not None:
                problems.append(f"ratio: has no effect with train={self.train}; set train=ratio or leave it null")
            if self.encode_once == "head" and not self.head_share:
                problems.append("encode_once: head needs a phase of the head; set head_share above 0")
            if (
                self.train == "all"
                and self.encode_once is True
                and not self.head_share
                and 0 not in (self.rates or {}).values()
            ):
                problems.append("encode_once: has no effect with train=all, where no stage is frozen")
            if self.head_share and self.keep_stages is not None:
                problems.append(
                    "head_share: has no use with keep_stages, whose fresh stages would give the head random features; "
                    "set head_share=0 or keep_stages=null"
                )
            return problems

        def resolved(self, target_labels: Grant, *, augmented: bool) -> Self:
            if self.encode_once is not None:
                return self
            once = self.head_share and (not augmented or self.encode_views is not None)
            return self.model_copy(update={"encode_once": "head" if once else False})

    def __init__(self, config: Config, model: TransferModel, task: Task, *, label_smoothing: float = 0.0) -> None:
        super().__init__(config, model, task, label_smoothing=label_smoothing)
        if config.keep_stages is not None:
            start_anew(model, config.keep_stages)

    def loss(self, batch: Batch, progress: Progress) -> Losses:
        return labelled_loss(self, batch, self.config.learns_from)

    def phases(self) -> tuple[Phase, ...]:
        config, closed = self.config, frozen_stages(self.model, self.config.rates)
        head: tuple[Phase, ...] = ()
        if config.head_share:
            once = bool(config.encode_once)
            head = training_phases(self.model, "head", name="head", share=config.head_share, encode_once=once)
        stages = len(self.model.learning_stages)
        last_k = config.last_k if config.train == "last_k" else math.ceil((config.ratio or 0.0) * stages)
        opened = training_phases(
            self.model,
            "all" if config.train == "all" else "last_k",
            last_k=None if config.train == "all" else last_k,
            closed=closed,
            share=1.0 - config.head_share,
            encode_once=config.encode_once is True,
        )
        if config.encode_once is True and not any(phase.encode_once for phase in (*head, *opened)):
            raise ConfigError("strategy.encode_once: has no effect, since the lowest stage learns in every phase")
        kept = self.model.learning_stages[: config.keep_stages]
        phases = in_views((*head, *opened), config.encode_views)
        return keep_still(self.model, phases, batch_norm=config.batch_norm, loaded=kept, rates=config.rates)

    def param_groups(self) -> tuple[ParamGroup, ...]:
        config = self.config
        return model_groups(
            self.model, backbone_rate=config.backbone_rate, stage_decay=config.stage_decay, rates=config.rates
        )


def start_anew(model: TransferModel, keep_stages: int) -> None:
    """Draws fresh weights for every stage above the first `keep_stages` backbone stages that learn, and for the head."""
    stages = model.learning_stages
    if keep_stages > len(stages):
        raise ConfigError(
            f"strategy.keep_stages: must be at most {len(stages)} ({', '.join(stages)}), got {keep_stages}"
        )
    kept = stages[:keep_stages]
    reinitialise(model, [stage for stage in model.stage_names if stage not in kept])
