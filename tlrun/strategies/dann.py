"""DANN: features from which a discriminator cannot tell the domains apart, by gradient reversal or by turns."""

from __future__ import annotations

from typing import Literal

import torch

from tlrun.batch import Batch, Examples, Losses, Progress, Task, Terms
from tlrun.config import AdversarialSettings, Count
from tlrun.layers.gradient_reversal import reverse_gradient
from tlrun.losses.adversarial import domain_accuracy, domain_loss
from tlrun.models.transfer import TransferModel
from tlrun.strategies.base import (
    FINETUNE,
    ParamGroup,
    Phase,
    Strategy,
    Turn,
    adaptation_phases,
    adaptation_weight,
    adversarial_groups,
    both_domains,
    discriminate,
    discriminator,
    labelled_loss,
    model_groups,
)


class Dann(Strategy):
    """Domain-adversarial training of neural networks (Ganin et al. 2016, JMLR 17, eqs. 13-18; arXiv:1505.07818).

    update=reversal: the features descend the task's loss and ascend the discriminator's, through a layer that
    multiplies its gradient by minus the ramped weight. update=alternating: the discriminator takes
    `discriminator_steps` steps on fixed features, then the model takes one on inverted domain labels (Goodfellow et
    al. 2014, arXiv:1406.2661, section 3, as in Tzeng et al. 2017, arXiv:1702.05464).
    Departures: the domain loss is the mean of the two domains' rather than their sum, and hidden sizes are options.
    """

    class Config(AdversarialSettings):
        update: Literal["reversal", "alternating"]
        discriminator_steps: Count

        def problems(self) -> list[str]:
            problems = super().problems()
            if self.update == "reversal" and self.discriminator_steps != 1:
                problems.append("discriminator_steps: has no effect with update=reversal; set update=alternating")
            return problems

    def __init__(self, config: Config, model: TransferModel, task: Task, *, label_smoothing: float = 0.0) -> None:
        super().__init__(config, model, task, label_smoothing=label_smoothing)
        self.discriminator = discriminator(config, model.num_features)

    @property
    def terms(self) -> Terms:
        own = ("discriminator",) if self.config.update == "alternating" else ()
        return Terms(
            task=("classification", *own),
            transfer=("adversarial",),
            stats=("discriminator_accuracy", "adaptation_weight"),
        )

    def phases(self) -> tuple[Phase, ...]:
        turns: tuple[Turn, ...] = (Turn(),)
        if self.config.update == "alternating":
            model = tuple(group.name for group in model_groups(self.model))
            turns = (Turn("discriminator", ("discriminator",), self.config.discriminator_steps), Turn("model", model))
        return adaptation_phases(self.config, self.model, also=("discriminator.*",), turns=turns)

    def param_groups(self) -> tuple[ParamGroup, ...]:
        return adversarial_groups(self.config, self.model)

    def loss(self, batch: Batch, progress: Progress) -> Losses:
        if progress.phase == FINETUNE:
            return labelled_loss(self, batch, "target")
        source, target = both_domains(batch)
        if progress.turn == "discriminator":
            return self.discriminator_loss(source, target)
        of_source, of_target = self.forward_domains(source.x, target.x)
        weight = adaptation_weight(self.config, progress)
        features = (of_source.features, of_target.features)
        if self.config.update == "reversal":
            logits = discriminate(self.discriminator, *(reverse_gradient(each, weight) for each in features))
            adversarial = domain_loss(*logits)
        else:
            logits = discriminate(self.discriminator, *features)
            adversarial = weight * domain_loss(*logits, inverted=True)
        return Losses(
            task={"classification": self.classification(of_source, source)},
            transfer={"adversarial": adversarial},
            stats={
                "discriminator_accuracy": domain_accuracy(*logits),
                "adaptation_weight": adversarial.new_tensor(weight),
            },
            features=features,
        )

    def discriminator_loss(self, source: Examples, target: Examples) -> Losses:
        """The discriminator's own turn: its loss on features that get no gradient."""
        with torch.no_grad():
            outputs = self.forward_domains(source.x, target.x)
        logits = discriminate(self.discriminator, *(each.features for each in outputs))
        return Losses(task={"discriminator": domain_loss(*logits)})
