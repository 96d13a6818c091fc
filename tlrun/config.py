"""The types of every setting. Values live in `configs/`, each written once; nothing here has a default, nothing imports torch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
OpenFraction = Annotated[float, Field(gt=0, lt=1)]
HalfOpenFraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Grant = Literal["none", "all"] | Count
"""Target labels granted: none, all, or so many per class."""

Rule = Literal["last", "source_val", "target_val", "entropy", "information_maximisation", "oracle"]

RULES: dict[str, str] = {
    "last": "the weights of the last step; reads nothing",
    "source_val": "highest accuracy on the source validation rows",
    "target_val": "highest accuracy on the target validation rows whose labels were granted",
    "entropy": "lowest mean entropy of the predictions on target validation rows (transductive: on all); reads no label",
    "information_maximisation": "entropy of the mean prediction less the mean entropy, on the same rows; reads no label",
    "oracle": "highest accuracy on the target test rows: peeks at withheld labels, so it must be asked for by name",
}
"""Every selection rule and what it reads; their code is `tlrun/engine/selection.py`."""


class ConfigError(Exception):
    """What the user can mend: one line a problem, *where: what was found, what is allowed, what to do*."""

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True)
class Needs:
    """Which rows a configured strategy reads: labelled source, granted target, target without labels."""

    source: Literal["required", "optional", "unused"]
    target: Literal["required", "optional", "unused"]
    unlabelled: Literal["required", "optional", "unused"]
    views: int = 1


class Settings(BaseModel):
    """Base of every node of the configuration: typed, immutable, no unknown key.

    A component's settings are its nested class `Config(Settings)` and may use only the standard library, pydantic
    and this module, so that they can be read without importing the component (see `build.settings_class`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)

    def problems(self) -> list[str]:
        """What is wrong between fields that are each in range, as "field: text" lines relative to this node."""
        return []


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
    def rules(self) -> tuple[Rule, ...]:
        """The selection rules that the method itself consults, to end a phase."""
        return ()

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


class TuningSettings(StrategySettings):
    """Base of the methods that train a pretrained model further on labelled rows."""

    learns_from: Literal["source", "target", "both"]

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


class AdaptationSettings(StrategySettings):
    """Base of the methods that learn from source labels while they align the domains' features.

    weight times a ramp from 0 to 1 (steepness `ramp`, null for a constant 1) scales the alignment. batch_norm: both
    domains in one pass with common statistics, or each with its own, in training and evaluation. A last phase, of
    `finetune_share` of the run, may learn from granted target labels; null means 0 without grants and 0.2 with.
    """

    weight: Positive
    ramp: Positive | None
    batch_norm: Literal["joint", "apart"]
    train: Literal["all", "head", "last_k", "progressive"]
    last_k: Count | None
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
        if self.finetune_share is not None:
            return self
        return self.model_copy(update={"finetune_share": 0.0 if target_labels == "none" else 0.2})

    def problems(self) -> list[str]:
        return last_k_problems(self.train, self.last_k)


class AdversarialSettings(AdaptationSettings):
    """Base of the methods that align through a domain discriminator: its shape, and its rate beside the model's."""

    discriminator_hidden: tuple[Count, ...]
    discriminator_dropout: HalfOpenFraction
    discriminator_batch_norm: bool
    discriminator_rate: Positive


class DomainSettings(Settings):
    """Base of the domains' `Config`."""

    name: str

    @property
    def called(self) -> str:
        """What run names, tables and messages call the domain: letters, digits, `.`, `_` and `-`."""
        return self.name

    def repeats(self, other: DomainSettings) -> bool:
        """Whether each row of this domain shows what the row of that number in `other` shows, seen otherwise."""
        return False

    def resolved(self, root: Path) -> Self:
        """The same settings with every automatic value named, given the data root."""
        return self


class FileDomainSettings(DomainSettings):
    """Base of the domains made of image files. title: what they are called, null to take it from where they lie."""

    title: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None

    @property
    def place(self) -> str | None:
        """The folder or file that the user named, if any."""
        raise TypeError(f"{type(self).__qualname__} does not say where its files lie")

    @property
    def called(self) -> str:
        if self.title is not None or self.place is None:
            return self.title or self.name
        stem = re.sub(r"\.(csv|txt|lst)$", "", PurePath(self.place).name)
        return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or self.name


class ModelSettings(Settings):
    """Base of the backbones' `Config`: what every model has beside its backbone's own fields."""

    name: str
    weights: str
    head: Literal["auto", "new", "keep"]
    head_type: Literal["linear", "mlp"]
    hidden: Count
    dropout: HalfOpenFraction
    bottleneck: Count | None

    has_imagenet_weights: ClassVar[bool] = False


class PairSettings(Settings):
    """The node `data`: two domains, what is taken of them, and which target labels are granted.

    Of image files, which come in all sizes: fit, crop_fraction (evaluation sees so much of the square that a file is
    fitted to), interpolation, cache, on_bad_image and workers (threads that read; null for one a core).

    source None: one labelled domain alone, the target. protocol: split holds test rows out; transductive trains on all
    target rows without labels and tests on the same, granted ones apart.
    """

    source: SerializeAsAny[DomainSettings] | None
    target: SerializeAsAny[DomainSettings]
    protocol: Literal["split", "transductive"]
    image_size: Count | None
    channels: Literal[1, 3] | None
    normalize: Literal["shared", "per_domain"]
    val_fraction: OpenFraction
    test_fraction: OpenFraction
    source_rows: Count | None
    target_rows: Count | None
    target_labels: Grant
    target_val_labels: Grant
    source_label_noise: Fraction
    label_sets: Literal["closed", "partial", "open"]
    fit: Literal["crop", "squash", "pad"]
    crop_fraction: Annotated[float, Field(ge=0.1, le=1)]
    interpolation: Literal["bilinear", "bicubic"]
    on_bad_image: Literal["stop", "skip"]
    cache: Literal["none", "decoded"]
    workers: Count | None
    root: str
    cache_root: str | None
    download: bool

    @property
    def name(self) -> str:
        """`mnist_mnistm`, or the one name when a domain is adapted to another version of itself or stands alone."""
        names = [domain.called for domain in (self.source, self.target) if domain is not None]
        return "_".join(dict.fromkeys(names))

    @property
    def is_transductive(self) -> bool:
        return self.protocol == "transductive"


class AugmentSettings(Settings):
    """Augmentation of training rows: tensor operations on whole batches, or albumentations operations per image."""

    shift: Natural
    contrast: HalfOpenFraction
    albumentations: list[dict[str, Any]]

    @property
    def is_identity(self) -> bool:
        return self.shift == 0 and self.contrast == 0 and not self.albumentations


class OptimSettings(Settings):
    """A torch optimizer by its path; any further key is an argument of that optimizer."""

    model_config = ConfigDict(extra="allow")

    target: str = Field(alias="_target_")
    lr: Positive
    weight_decay: NonNegative
    label_smoothing: HalfOpenFraction


class ScheduleSettings(Settings):
    """Base of the learning-rate schedules, which live with their formulas in `tlrun/engine/schedules.py`."""

    name: str
    warmup_fraction: HalfOpenFraction
    per_phase: bool


class EarlyStopSettings(Settings):
    metric: Rule | None
    patience: Count


class EngineSettings(Settings):
    epochs: Count
    steps_per_epoch: Count | None
    batch_size: Count
    eval_batch_size: Count
    accumulate: Count
    clip_norm: Positive | None
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    evaluate_every: Count
    select: Literal["auto"] | Rule
    early_stop: EarlyStopSettings


class DeviceSettings(Settings):
    """Where a run computes. It may change rounding and nothing else, so it is not part of a run's name."""

    name: Literal["auto", "cpu", "cuda", "mps"]
    threads: Count | None


class RunSettings(Settings):
    """Where results go and what is asked of them; not part of a run's name."""

    root: str
    fresh: bool
    require: str | None
    checkpoint_seconds: NonNegative
    plots: bool


class PretrainSettings(Settings):
    """The source model that trained starts share: a run of its own, with values of its own."""

    strategy: SerializeAsAny[StrategySettings]
    weights: str
    optim: OptimSettings
    schedule: SerializeAsAny[ScheduleSettings]
    engine: EngineSettings


class ExperimentConfig(Settings):
    """One run, whole."""

    strategy: SerializeAsAny[StrategySettings]
    data: PairSettings
    model: SerializeAsAny[ModelSettings]
    optim: OptimSettings
    schedule: SerializeAsAny[ScheduleSettings]
    engine: EngineSettings
    augment: AugmentSettings
    pretrain: PretrainSettings
    device: DeviceSettings
    run: RunSettings
    seed: Natural

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as the YAML would hold them."""
        return self.model_dump(mode="json", by_alias=True)
