"""The types of every setting. Values live in `configs/`, each written once; nothing here has a default, nothing imports torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SerializeAsAny

from tlrun.augment_settings import AugmentSettings as AugmentSettings
from tlrun.settings import ConfigError as ConfigError
from tlrun.settings import Count as Count
from tlrun.settings import Fraction as Fraction
from tlrun.settings import HalfOpenFraction as HalfOpenFraction
from tlrun.settings import Natural as Natural
from tlrun.settings import NonNegative as NonNegative
from tlrun.settings import OpenFraction as OpenFraction
from tlrun.settings import Positive as Positive
from tlrun.settings import Settings as Settings
from tlrun.training_settings import RULES as RULES
from tlrun.training_settings import EarlyStopSettings as EarlyStopSettings
from tlrun.training_settings import EmaSettings as EmaSettings
from tlrun.training_settings import EngineSettings as EngineSettings
from tlrun.training_settings import OptimSettings as OptimSettings
from tlrun.training_settings import Rule as Rule
from tlrun.training_settings import ViewSettings as ViewSettings

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
    def shows_characters(self) -> bool:
        """Whether rows are digits or letters, which mirrored are others or none."""
        return False

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


@dataclass(frozen=True)
class InputSpec:
    """What images a network's published weights were trained for.

    size: side in pixels, of the centre that is crop_fraction of the resized image; mean, std: of its three channels
    with values in [0, 1].
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Literal["bilinear", "bicubic"]
    crop_fraction: float


class ModelSettings(Settings):
    """Base of the backbones' `Config`: what every model has beside its backbone's own fields.

    Published weights (`weights=imagenet`) are read from weights_file, else looked for in the folder weights_root and
    where their library keeps them; with download they are fetched where they are not there.
    """

    name: str
    weights: str
    head: Literal["auto", "new", "keep"]
    head_type: Literal["linear", "mlp"]
    hidden: Count
    dropout: HalfOpenFraction
    bottleneck: Count | None

    weights_file: str | None
    weights_root: str | None
    download: bool

    has_imagenet_weights: ClassVar[bool] = False

    @property
    def input_spec(self) -> InputSpec | None:
        """What images the published weights were trained for, None where there are none; may import the library."""
        return None


def _unnamed(key: str) -> ValueError:
    return ValueError(f"data.{key}=auto must be named before data are read")


class PairSettings(Settings):
    """The node `data`: two domains, what is taken of them, and which target labels are granted.

    Of image files, which come in all sizes: fit, crop_fraction (evaluation sees so much of the square that a file is
    fitted to), interpolation, cache, on_bad_image and workers (threads that read; null for one a core).

    normalize: by the statistics of the source (shared), of each domain (per_domain), or by mean and std (model), which
    are the model's published ones where they are null. What is `auto` follows from the model, see `tlrun/inputs.py`.

    source None: one labelled domain alone, the target. protocol: split holds test rows out; transductive trains on all
    target rows without labels and tests on the same, granted ones apart.
    """

    source: SerializeAsAny[DomainSettings] | None
    target: SerializeAsAny[DomainSettings]
    protocol: Literal["split", "transductive"]
    image_size: Count | Literal["auto"] | None
    channels: Literal[1, 3] | None
    normalize: Literal["auto", "shared", "per_domain", "model"]
    mean: tuple[float, ...] | None
    std: tuple[Positive, ...] | None
    val_fraction: OpenFraction
    test_fraction: OpenFraction
    source_rows: Count | None
    target_rows: Count | None
    target_labels: Grant
    target_val_labels: Grant
    source_label_noise: Fraction
    label_sets: Literal["closed", "partial", "open"]
    fit: Literal["crop", "squash", "pad"]
    crop_fraction: Literal["auto"] | Annotated[float, Field(ge=0.1, le=1)]
    interpolation: Literal["auto", "bilinear", "bicubic"]
    on_bad_image: Literal["stop", "skip"]
    cache: Literal["none", "decoded"]
    workers: Count | None
    root: str
    cache_root: str | None
    cache_gigabytes: Positive | None
    download: bool

    @property
    def name(self) -> str:
        """`mnist_mnistm`, or the one name when a domain is adapted to another version of itself or stands alone."""
        names = [domain.called for domain in (self.source, self.target) if domain is not None]
        return "_".join(dict.fromkeys(names))

    @property
    def side(self) -> int | None:
        """`image_size`, once `auto` is named; so are the next two."""
        if self.image_size == "auto":
            raise _unnamed("image_size")
        return self.image_size

    @property
    def centre_fraction(self) -> float:
        if self.crop_fraction == "auto":
            raise _unnamed("crop_fraction")
        return self.crop_fraction

    @property
    def resampling(self) -> Literal["bilinear", "bicubic"]:
        if self.interpolation == "auto":
            raise _unnamed("interpolation")
        return self.interpolation

    def problems(self) -> list[str]:
        if (self.mean is None) != (self.std is None):
            return ["mean: data.mean and data.std belong together, a number a channel each; set both or none"]
        if self.mean is not None and self.normalize != "model":
            return [f"mean: has no effect with normalize={self.normalize}; set data.normalize=model or leave it null"]
        if self.mean is not None and self.std is not None and len(self.mean) != len(self.std):
            return [f"std: must have as many numbers as data.mean, {len(self.mean)}, got {len(self.std)}"]
        return []

    @property
    def is_transductive(self) -> bool:
        return self.protocol == "transductive"


class ScheduleSettings(Settings):
    """Base of the learning-rate schedules, which live with their formulas in `tlrun/engine/schedules.py`."""

    name: str
    warmup_fraction: HalfOpenFraction
    per_phase: bool


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
