"""CDAN: a discriminator that sees features and predictions together, so that classes are aligned with their like."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tlrun.batch import Batch, Losses, Output, Progress, Task, Terms
from tlrun.config import AdversarialSettings, Count
from tlrun.layers.gradient_reversal import reverse_gradient
from tlrun.losses.adversarial import domain_accuracy, domain_loss
from tlrun.losses.confusion import certainty_weight
from tlrun.models.transfer import TransferModel
from tlrun.strategies.base import (
    FINETUNE,
    ParamGroup,
    Phase,
    Strategy,
    adaptation_phases,
    adaptation_weight,
    adversarial_groups,
    both_domains,
    discriminate,
    discriminator,
    labelled_loss,
)

LARGEST_PRODUCT = 4096
"""The largest outer product of features and predictions that is taken whole (Long et al. 2018, section 3.2)."""


class Cdan(Strategy):
    """Conditional domain-adversarial network (Long et al. 2018, arXiv:1705.10667, sections 3.2 and 3.3).

    The discriminator receives the outer product of a row's features and class probabilities, or, where that has over
    4096 entries, `random_features` of its random projections (null: the whole product whatever its size).
    entropy_conditioning weights the rows by the certainty of their prediction (CDAN+E).
    Departures: no gradient passes through the probabilities or the weights (the authors' code reverses that of the
    entropy, its successors cut it); weights have mean 1 in each domain; domain losses are averaged as in `dann`.
    """

    class Config(AdversarialSettings):
        entropy_conditioning: bool
        random_features: Count | None

    feature_projection: Tensor | None
    class_projection: Tensor | None

    def __init__(self, config: Config, model: TransferModel, task: Task, *, label_smoothing: float = 0.0) -> None:
        super().__init__(config, model, task, label_smoothing=label_smoothing)
        sizes = (model.num_features, task.num_classes)
        width, randomized = sizes[0] * sizes[1], False
        if config.random_features is not None and width > LARGEST_PRODUCT:
            width, randomized = config.random_features, True
        for name, size in zip(("feature_projection", "class_projection"), sizes, strict=True):
            self.register_buffer(name, torch.randn(size, width) if randomized else None)
        self.discriminator = discriminator(config, width)

    @property
    def terms(self) -> Terms:
        return Terms(
            task=("classification",),
            transfer=("adversarial",),
            stats=("discriminator_accuracy", "adaptation_weight"),
        )

    def phases(self) -> tuple[Phase, ...]:
        return adaptation_phases(self.config, self.model, also=("discriminator.*",))

    def param_groups(self) -> tuple[ParamGroup, ...]:
        return adversarial_groups(self.config, self.model)

    def loss(self, batch: Batch, progress: Progress) -> Losses:
        if progress.phase == FINETUNE:
            return labelled_loss(self, batch, "target")
        source, target = both_domains(batch)
        outputs = self.forward_domains(source.x, target.x)
        weight = adaptation_weight(self.config, progress)
        logits = discriminate(self.discriminator, *(self.condition(output, weight) for output in outputs))
        certainty = None
        if self.config.entropy_conditioning:
            certainty = (certainty_weight(outputs[0].logits), certainty_weight(outputs[1].logits))
        adversarial = domain_loss(*logits, weights=certainty)
        return Losses(
            task={"classification": self.classification(outputs[0], source)},
            transfer={"adversarial": adversarial},
            stats={
                "discriminator_accuracy": domain_accuracy(*logits),
                "adaptation_weight": adversarial.new_tensor(weight),
            },
            features=(outputs[0].features, outputs[1].features),
        )

    def condition(self, output: Output, weight: float) -> Tensor:
        """Features and probabilities as one row each, (N, width); on the way back the features' gradient is reversed."""
        features = reverse_gradient(output.features, weight)
        probabilities = output.logits.detach().float().softmax(dim=1)
        if self.feature_projection is None or self.class_projection is None:
            return (features[:, :, None] * probabilities[:, None, :]).flatten(1)
        joint: Tensor = (features @ self.feature_projection) * (probabilities @ self.class_projection)
        return joint / math.sqrt(self.feature_projection.shape[1])
