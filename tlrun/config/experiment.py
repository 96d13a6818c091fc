"""The types of the nodes `data`, `model`, `schedule`, `device`, `run` and `pretrain`, and of one run, whole."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SerializeAsAny

from tlrun.config.augment import AugmentSettings
from tlrun.config.base import Count, Fraction, HalfOpenFraction, Natural, NonNegative, OpenFraction, Positive, Settings
from tlrun.config.strategy import Grant, StrategySettings
from tlrun.config.training import EngineSettings, OptimSettings


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
    image_channels: ClassVar[Literal[1, 3] | None] = None
    """How many channels its images must have, None where any number will do."""

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
    are the model's published ones where they are null. channels: colour becomes grey by luma, grey is repeated in three;
    null is as many as the richer domain has. What is `auto` follows from the model, see `tlrun/compose/inputs.py`.

    source None: one labelled domain alone, the target. protocol: split holds test rows out; transductive trains on all
    target rows without labels and tests on the same, granted ones apart.
    """

    source: SerializeAsAny[DomainSettings] | None
    target: SerializeAsAny[DomainSettings]
    protocol: Literal["split", "transductive"]
    image_size: Count | Literal["auto"] | None
    channels: Literal["auto", 1, 3] | None
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
        """`image_size`, once `auto` is named; so are the next three."""
        if self.image_size == "auto":
            raise _unnamed("image_size")
        return self.image_size

    @property
    def num_channels(self) -> Literal[1, 3] | None:
        if self.channels == "auto":
            raise _unnamed("channels")
        return self.channels

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


LoggerName = Literal["tensorboard", "mlflow", "wandb"]


class RunSettings(Settings):
    """Where results go and what is asked of them; not part of a run's name. loggers: where epochs are told beside
    metrics.csv, see `tlrun/loggers`."""

    root: str
    fresh: bool
    require: str | None
    checkpoint_seconds: NonNegative
    plots: bool
    loggers: tuple[LoggerName, ...]

    def problems(self) -> list[str]:
        twice = sorted({name for name in self.loggers if self.loggers.count(name) > 1})
        return [f"loggers: names {', '.join(twice)} twice"] if twice else []


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
