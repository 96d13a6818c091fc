"""Fine-tuning: a pretrained model trained further, whole or from some stage up, pretrained stages at smaller rates."""

from __future__ import annotations

import math
from typing import Literal

from tlrun.batch import Batch, Losses, Progress, Task
from tlrun.config import ConfigError, Count, Fraction, Positive, TuningSettings, last_k_problems, view_problems
from tlrun.models.transfer import TransferModel, reinitialise
from tlrun.strategies.base import ParamGroup, Phase, Strategy, labelled_loss, model_groups, training_phases


class FineTune(Strategy):
    """Pretrained weights as the start (Yosinski et al. 2014, arXiv:1411.1792).

    train says which backbone stages learn beside the head: all, the last_k, or `ratio` of them (rounded up) from the
    top. Pretrained stages learn at `backbone_rate` of the rate, each lower one at `stage_decay` of the one above it
    (discriminative rates: Howard and Ruder 2018, arXiv:1801.06146, section 3.2). `keep_stages=k` keeps the first k
    stages as they were trained and starts all above anew (the AnB experiments of Yosinski et al.).
    """

    class Config(TuningSettings):
        train: Literal["all", "last_k", "ratio"]
        last_k: Count | None
        ratio: Fraction | None
        backbone_rate: Positive
        stage_decay: Positive
        keep_stages: Count | None
        encode_once: bool

        def problems(self) -> list[str]:
            problems = [
                *last_k_problems(self.train, self.last_k),
                *view_problems(self.encode_once, self.encode_views),
            ]
            if self.train == "ratio" and self.ratio is None:
                problems.append("ratio: must be set with train=ratio (the share of the backbone stages that learn)")
            if self.train != "ratio" and self.ratio is not None:
                problems.append(f"ratio: has no effect with train={self.train}; set train=ratio or leave it null")
            if self.train == "all" and self.encode_once:
                problems.append("encode_once: has no effect with train=all, where no stage is frozen")
            return problems

    def __init__(self, config: Config, model: TransferModel, task: Task, *, label_smoothing: float = 0.0) -> None:
        super().__init__(config, model, task, label_smoothing=label_smoothing)
        if config.keep_stages is not None:
            start_anew(model, config.keep_stages)

    def loss(self, batch: Batch, progress: Progress) -> Losses:
        return labelled_loss(self, batch, self.config.learns_from)

    def phases(self) -> tuple[Phase, ...]:
        config = self.config
        if config.train == "all":
            return training_phases(self.model, "all")
        stages = len(self.model.learning_stages)
        last_k = config.last_k if config.train == "last_k" else math.ceil(config.ratio * stages)
        once, views = config.encode_once, config.encode_views
        return training_phases(self.model, "last_k", last_k=last_k, encode_once=once, encode_views=views)

    def param_groups(self) -> tuple[ParamGroup, ...]:
        return model_groups(self.model, backbone_rate=self.config.backbone_rate, stage_decay=self.config.stage_decay)


def start_anew(model: TransferModel, keep_stages: int) -> None:
    """Draws fresh weights for every stage above the first `keep_stages` backbone stages that learn, and for the head."""
    stages = model.learning_stages
    if keep_stages > len(stages):
        raise ConfigError(
            f"strategy.keep_stages: must be at most {len(stages)} ({', '.join(stages)}), got {keep_stages}"
        )
    kept = stages[:keep_stages]
    reinitialise(model, [stage for stage in model.stage_names if stage not in kept])
