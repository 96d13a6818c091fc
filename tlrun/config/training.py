"""The types of the nodes `optim` and `engine`: how a run descends, what its batches hold, what it keeps, when it ends."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from tlrun.config.base import Count, HalfOpenFraction, Natural, NonNegative, OpenFraction, Positive, Settings

Rule = Literal[
    "last",
    "source_val",
    "target_val",
    "entropy",
    "information_maximisation",
    "bnm",
    "snd",
    "dev",
    "iwv",
    "nearest_source",
    "feature_mmd",
    "oracle",
]

RULES: dict[str, str] = {
    "last": "the weights of the last step; reads nothing",
    "source_val": "highest accuracy on the source validation rows",
    "target_val": "highest accuracy on the target validation rows whose labels were granted",
    "entropy": "lowest mean entropy of the predictions on target validation rows (transductive: on all); reads no label",
    "information_maximisation": "entropy of the mean prediction less the mean entropy, on the same rows; reads no label",
    "bnm": "largest nuclear norm of the predictions on target validation rows (Cui et al. 2020); reads no label",
    "snd": "densest soft neighbourhoods of target validation predictions (Saito et al. 2021); reads no label",
    "dev": "source validation accuracy weighted to the target, with control variate (You et al. 2019)",
    "iwv": "source validation accuracy weighted by the densities' ratio (Sugiyama et al. 2007)",
    "nearest_source": "accuracy of the source validation rows nearest to target validation rows (Loog 2012)",
    "feature_mmd": "smallest discrepancy between source and target validation features (Gretton et al. 2012); reads no label",
    "oracle": "highest accuracy on the target test rows: peeks at withheld labels, so it must be asked for by name",
}
"""Every selection rule and what it reads; their code is `tlrun/engine/selection.py`."""


class OptimSettings(Settings):
    """A torch optimizer by its path, and the task's loss; any further key is an argument of that optimizer.

    class_weights: rows of rare classes count for more, in inverse proportion to the rows that a class has among those
    whose labels are trained on, or to their effective number with `effective_beta`.
    """

    model_config = ConfigDict(extra="allow")

    target: str = Field(alias="_target_")
    lr: Positive
    weight_decay: NonNegative
    decay_norms_and_biases: bool
    label_smoothing: HalfOpenFraction
    class_weights: Literal["none", "inverse_frequency", "effective_number"]
    effective_beta: OpenFraction | None

    def problems(self) -> list[str]:
        problems = []
        if not self.decay_norms_and_biases and not self.weight_decay:
            problems.append(
                "decay_norms_and_biases: false has no effect with weight_decay=0; set a weight_decay or leave it true"
            )
        if self.class_weights == "effective_number" and self.effective_beta is None:
            problems.append("effective_beta: must be set with class_weights=effective_number, 0.999 for one")
        if self.class_weights != "effective_number" and self.effective_beta is not None:
            problems.append(
                f"effective_beta: has no effect with class_weights={self.class_weights}; "
                "set class_weights=effective_number or leave it null"
            )
        return problems


class EarlyStopSettings(Settings):
    metric: Rule | None
    patience: Count


class EmaSettings(Settings):
    """An exponential moving average of the weights, which is then what a run evaluates, selects and keeps.

    decay: how much of it stays at each step, null for none. warmup: less stays over the first steps, so that the
    starting weights are soon forgotten.
    """

    decay: OpenFraction | None
    warmup: bool


class ViewSettings(Settings):
    """Views of each image over which an evaluation averages the predictions: mirrored, and moved by `shift` pixels."""

    flip: bool
    shift: Natural

    @property
    def is_identity(self) -> bool:
        return not self.flip and not self.shift


class EngineSettings(Settings):
    epochs: Count
    steps_per_epoch: Count | None
    batch_size: Count
    eval_batch_size: Count
    accumulate: Count
    sampling: Literal["shuffled", "balanced"]
    clip_norm: Positive | None
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    evaluate_every: Count
    select: Literal["auto"] | Rule
    early_stop: EarlyStopSettings
    ema: EmaSettings
    test_time: ViewSettings
