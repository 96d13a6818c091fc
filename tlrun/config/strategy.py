"""The types of the strategies' settings: what all have in common, and what each family of methods has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

from tlrun.config.base import Count, HalfOpenFraction, NonNegative, Positive, Settings
from tlrun.config.training import Rule

Grant = Literal["none", "all"] | Count
"""Target labels granted: none, all, or so many per class."""


@dataclass(frozen=True)
class Needs:
    """Which rows a configured strategy reads: labelled source, granted target, target without labels."""

    source: Literal["required", "optional", "unused"]
    target: Literal["required", "optional", "unused"]
    unlabelled: Literal["required", "optional", "unused"]
    views: int = 1


class StrategySettings(Settings):
    """Base of the strategies' `Config`: what the rest of the system asks about a strategy before building it."""

    name: str

    @property
    def starts_from(self) -> Literal["anything", "trained", "random"]:
        """What the method starts from; decides `model.weights=auto`, and refuses what contradicts it."""
        return "anything"

    @property
    def needs(self) -> Needs:
        raise TypeError(f"{type(self).__qualname__} does not say what data it needs")

    @property
    def last_phase_learns_from(self) -> frozenset[str]:
        """Whose labels the last phase learns from: a subset of {"source", "target"}; decides `engine.select=auto`."""
        needs = self.needs
        parts = {"source": needs.source, "target": needs.target}
        return frozenset(domain for domain, need in parts.items() if need == "required")

    @property
    def rules(self) -> dict[str, Rule]:
        """The selection rules that the method itself consults, to end a phase, each under the setting that names it."""
        return {}

    def resolved(self, target_labels: Grant, *, augmented: bool) -> Self:
        """The same settings with every automatic value named, given the granted target labels and any augmentation."""
        return self

    def own_grant(self, target_labels: Grant) -> Grant:
        """The target labels the strategy trains on, given those asked for; a ceiling is its own request for all."""
        return "none" if self.needs.target == "unused" else target_labels


def last_k_problems(train: str, last_k: int | None) -> list[str]:
    """`last_k` belongs to `train=last_k`, and to nothing else."""
    if train == "last_k" and last_k is None:
        return ["last_k: must be set with train=last_k (how many backbone stages learn, from the top)"]
    if train != "last_k" and last_k is not None:
        return [f"last_k: has no effect with train={train}; set train=last_k or leave it null"]
    return []


def view_problems(encode_once: bool | str | None, encode_views: int | None) -> list[str]:
    """`encode_views` belongs to rows that are encoded once."""
    if encode_views is not None and encode_once is False:
        return ["encode_views: has no effect with encode_once=false; set encode_once=true or leave encode_views null"]
    return []


class TuningSettings(StrategySettings):
    """Base of the methods that train a pretrained model further on labelled rows."""

    learns_from: Literal["source", "target", "both"]
    encode_views: Count | None

    @property
    def starts_from(self) -> Literal["anything", "trained", "random"]:
        return "trained"

    @property
    def needs(self) -> Needs:
        return Needs(
            source="unused" if self.learns_from == "target" else "required",
            target="unused" if self.learns_from == "source" else "required",
            unlabelled="unused",
        )


class UnfreezingSettings(TuningSettings):
    """Base of the tuning methods under which stages of the backbone learn too: at what rate, with which statistics.

    A pretrained stage learns at `backbone_rate` of the rate, each lower one at `stage_decay` of the one above it. rates
    replaces this for the stages that a pattern (shell style) names, `{layer4: 0.5, stem: 0}`; 0 keeps a stage frozen.
    batch_norm: whether the loaded stages' batch normalisation learns, keeps its running statistics while scale and
    shift learn, or keeps all of it.
    """

    backbone_rate: Positive
    stage_decay: Positive
    rates: dict[str, NonNegative] | None
    batch_norm: Literal["train", "frozen_statistics", "frozen"]


class AdaptationSettings(StrategySettings):
    """Base of the methods that learn from source labels while they align the domains' features.

    weight times a ramp from 0 to 1 (steepness `ramp`, null for a constant 1) scales the alignment. batch_norm: both
    domains in one pass with common statistics, or each with its own, in training and evaluation. encode_once: frozen
    stages are run once per image; null means where there are such and images are not augmented. A last phase, of
    `finetune_share` of the run, may learn from granted target labels; null means 0 without grants and 0.2 with.
    """

    weight: Positive
    ramp: Positive | None
    batch_norm: Literal["joint", "apart"]
    train: Literal["all", "head", "last_k", "progressive"]
    last_k: Count | None
    encode_once: bool | None
    finetune_share: HalfOpenFraction | None

    @property
    def needs(self) -> Needs:
        target: Literal["optional", "required", "unused"] = "required" if self.finetune_share else "unused"
        return Needs("required", "optional" if self.finetune_share is None else target, "required")

    @property
    def starts_from(self) -> Literal["anything", "trained", "random"]:
        return "anything" if self.train == "all" else "trained"

    @property
    def last_phase_learns_from(self) -> frozenset[str]:
        return frozenset({"target"} if self.finetune_share else {"source"})

    def resolved(self, target_labels: Grant, *, augmented: bool) -> Self:
        update: dict[str, Any] = {}
        if self.finetune_share is None:
            update["finetune_share"] = 0.0 if target_labels == "none" else 0.2
        if self.encode_once is None:
            update["encode_once"] = self.train != "all" and not augmented
        return self.model_copy(update=update)

    def problems(self) -> list[str]:
        problems = last_k_problems(self.train, self.last_k)
        if self.train == "all" and self.encode_once:
            problems.append("encode_once: has no effect with train=all, where no stage is frozen")
        return problems


class AdversarialSettings(AdaptationSettings):
    """Base of the methods that align through a domain discriminator: its shape, and its rate beside the model's."""

    discriminator_hidden: tuple[Count, ...]
    discriminator_dropout: HalfOpenFraction
    discriminator_batch_norm: bool
    discriminator_rate: Positive
