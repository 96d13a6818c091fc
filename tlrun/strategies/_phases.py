"""What learns when and at what rate: parameter groups, phases, and the ways to open a model that strategies share."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

from torch.nn.modules.batchnorm import _BatchNorm

from tlrun.config import ConfigError, Rule
from tlrun.models.transfer import TransferModel

Rates = Mapping[str, float] | None
"""The setting `strategy.rates`: pattern of stages -> rate; None for none."""


@dataclass(frozen=True)
class ParamGroup:
    """Parameters whose names match any of `patterns` (shell style), learning at `rate` times the learning rate.

    Names are those of the strategy's own `named_parameters()`: `model.backbone.stages.conv1.weight`,
    `discriminator.layers.0.bias`. A parameter belongs to the first group that matches it. weight_decay None
    means the optimizer's.
    """

    name: str
    patterns: tuple[str, ...]
    rate: float = 1.0
    weight_decay: float | None = None


@dataclass(frozen=True)
class Turn:
    """One optimizer step within a step: only the groups named in `updates` move (`*`: all of them)."""

    name: str = "all"
    updates: tuple[str, ...] = ("*",)
    repeats: int = 1


@dataclass(frozen=True)
class Plateau:
    """Ends a phase once the rule's score has not improved for `patience` evaluations."""

    metric: Rule
    patience: int


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one set of learning parameters.

    share: the most of the run it may take, relative to the other phases. train: patterns of the parameters that
    learn, frozen: of those that do not although `train` names them. still: names of modules that stay in eval mode
    although something in them learns. reads: the kinds of rows it takes, None for all that the strategy needs.
    encode_once: run the frozen stages below the first that learns once per image instead of in every epoch.
    encode_views: so many augmented views of each training row instead of the row alone, one of them an epoch.
    """

    name: str
    share: float = 1.0
    train: tuple[str, ...] = ("*",)
    frozen: tuple[str, ...] = ()
    still: tuple[str, ...] = ()
    turns: tuple[Turn, ...] = (Turn(),)
    reads: tuple[Literal["source", "target", "unlabelled"], ...] | None = None
    encode_once: bool = False
    encode_views: int | None = None
    until: Plateau | None = None


def model_groups(
    model: TransferModel,
    *,
    backbone_rate: float = 0.1,
    stage_decay: float = 1.0,
    rates: Rates = None,
) -> tuple[ParamGroup, ...]:
    """A group for the head (and bottleneck) at rate 1, and one for each backbone stage.

    A pretrained stage learns at `backbone_rate`, times `stage_decay` for each backbone stage above it; a fresh one
    at 1. The factor 0.1 is the one that Long et al. 2015 (arXiv:1502.02791, section 5.1) gave pretrained layers. What
    `rates` names learns at the rate given there, a bottleneck in a group of its own. Raises ConfigError as `named_rates`.
    """
    stages = model.backbone_stages
    named = named_rates(model, rates)
    groups = [ParamGroup("head", top_patterns(model), named.get("head", 1.0))]
    if model.has_bottleneck and named.keys() & {"head", "bottleneck"}:
        groups = [ParamGroup(name, (f"model.{name}.*",), named.get(name, 1.0)) for name in ("head", "bottleneck")]
    for depth, stage in enumerate(reversed(stages)):
        rate = backbone_rate * stage_decay**depth if stage in model.pretrained else 1.0
        if any(True for _ in model.backbone.stages[stage].parameters()):
            groups.append(ParamGroup(stage, (stage_pattern(stage),), named.get(stage, rate)))
    return tuple(groups)


def named_rates(model: TransferModel, rates: Rates) -> dict[str, float]:
    """The rate of each stage that a pattern of `strategy.rates` matches; the stages are those that learn, and the head.

    Raises ConfigError for a pattern that matches none of them, and for a stage that two patterns match: which of them
    counts would depend on their order.
    """
    rates = rates or {}
    stages = (*model.learning_stages, *(("bottleneck",) if model.has_bottleneck else ()), "head")
    found = {stage: [pattern for pattern in rates if fnmatchcase(stage, pattern)] for stage in stages}
    used = {pattern for patterns in found.values() for pattern in patterns}
    problems = [
        f"strategy.rates: '{pattern}' matches no stage that learns; there are {', '.join(stages)}"
        for pattern in rates
        if pattern not in used
    ]
    problems += [
        f"strategy.rates: '{stage}' is matched by {' and '.join(patterns)}; name each stage by one pattern"
        for stage, patterns in found.items()
        if len(patterns) > 1
    ]
    if problems:
        raise ConfigError(problems)
    return {stage: rates[patterns[0]] for stage, patterns in found.items() if patterns}


def frozen_stages(model: TransferModel, rates: Rates) -> tuple[str, ...]:
    """The stages that `strategy.rates` keeps frozen by a rate of 0. Raises ConfigError as `named_rates`, or if it is all."""
    named = named_rates(model, rates)
    if named.get("head") == 0:
        raise ConfigError("strategy.rates: the head must learn, got head: 0")
    return tuple(stage for stage, rate in named.items() if rate == 0)


def stage_pattern(stage: str) -> str:
    """The pattern of a backbone stage's parameters."""
    return f"{stage_path(stage)}.*"


def stage_path(stage: str) -> str:
    """Where in a strategy a stage is, for `get_submodule`."""
    return f"model.{stage}" if stage in ("bottleneck", "head") else f"model.backbone.stages.{stage}"


def top_patterns(model: TransferModel) -> tuple[str, ...]:
    """The patterns of what lies above the backbone: head, and bottleneck where there is one."""
    return ("model.head.*", "model.bottleneck.*") if model.has_bottleneck else ("model.head.*",)


def training_phases(
    model: TransferModel,
    train: Literal["all", "head", "last_k", "progressive"],
    *,
    name: str = "train",
    last_k: int | None = None,
    also: tuple[str, ...] = (),
    closed: Collection[str] = (),
    share: float = 1.0,
    shares: Sequence[float] | None = None,
    until: Plateau | None = None,
    encode_once: bool = False,
    **common: Any,
) -> tuple[Phase, ...]:
    """The phases of one of the four ways to open a model.

    all: everything learns. head: what lies above the backbone. last_k: that and the top k backbone stages.
    progressive: the head first, then with each phase one more stage from the top, in equal shares or those of `shares`,
    each phase ended early by `until`. closed: stages that never learn, which progressive passes over. also: patterns
    that learn throughout; common: further fields of every `Phase`.
    Raises ConfigError where the backbone has fewer than `last_k` stages that learn, and where `shares` are not as many
    as the phases.
    """
    top = (*top_patterns(model), *also)
    # A stage without parameters (pooling, flattening) opens nothing, so it does not count as one.
    stages = model.learning_stages
    if last_k is not None and last_k > len(stages):
        raise ConfigError(f"strategy.last_k: must be at most {len(stages)} ({', '.join(stages)}), got {last_k}")
    if train == "all":
        return (Phase(name, share, until=until, encode_once=encode_once and stages[0] in closed, **common),)
    lowest_is_closed = stages[0] in closed
    if train == "progressive":
        stages = tuple(stage for stage in stages if stage not in closed)
    counts = {"head": [0], "last_k": [last_k or 0], "progressive": range(len(stages) + 1)}[train]
    phases = []
    for count in counts:
        opened = tuple(stage_pattern(stage) for stage in stages[len(stages) - count :])
        title = name if train != "progressive" else ("head" if not count else f"from_{stages[-count]}")
        once = encode_once and (count < len(stages) or lowest_is_closed)
        phases.append(Phase(title, share / len(counts), (*top, *opened), until=until, encode_once=once, **common))
    return tuple(phases) if shares is None else share_out(phases, shares)


def in_views(phases: Sequence[Phase], encode_views: int | None) -> tuple[Phase, ...]:
    """The phases, with so many augmented views of each training row in those that encode rows once."""
    return tuple(replace(phase, encode_views=encode_views if phase.encode_once else None) for phase in phases)


def share_out(phases: Sequence[Phase], shares: Sequence[float]) -> tuple[Phase, ...]:
    """The phases with what they have of the run divided among them in proportion to `shares`.

    Raises ConfigError where these are not as many.
    """
    if len(shares) != len(phases):
        names = ", ".join(phase.name for phase in phases)
        raise ConfigError(f"strategy.shares: must be {len(phases)}, one for each phase ({names}), got {len(shares)}")
    whole = sum(phase.share for phase in phases)
    return tuple(replace(phase, share=whole * share / sum(shares)) for phase, share in zip(phases, shares, strict=True))


def keep_still(
    model: TransferModel,
    phases: Sequence[Phase],
    *,
    batch_norm: Literal["train", "frozen_statistics", "frozen"],
    loaded: Iterable[str],
    rates: Rates,
) -> tuple[Phase, ...]:
    """The phases with stages of rate 0 frozen throughout, and the batch normalisation of the stages `loaded` kept still.

    frozen_statistics: it normalises by its running statistics, which stay; frozen: its scale and shift stay too. A
    bottleneck counts as loaded where it is. Raises ConfigError where either setting has no effect.
    """
    for pattern, rate in (rates or {}).items():
        stages = [stage for stage in named_rates(model, rates) if fnmatchcase(stage, pattern)]
        paths = {f"{stage_path(stage)}.*" for stage in stages} | {"*"}
        if rate and not any(paths.intersection(phase.train) for phase in phases):
            raise ConfigError(f"strategy.rates: '{pattern}' has no effect, since no phase trains {', '.join(stages)}")
    frozen = [stage_pattern(stage) for stage in frozen_stages(model, rates)]
    if batch_norm == "train":
        return tuple(replace(phase, frozen=tuple(frozen)) for phase in phases)
    places = [*loaded, *(["bottleneck"] if "bottleneck" in model.pretrained else [])]
    layers = {
        f"{stage_path(stage)}.{name}".rstrip("."): layer
        for stage in places
        for name, layer in model.stage(stage).named_modules()
        if isinstance(layer, _BatchNorm)
    }
    if not layers and not (model.has_bottleneck and not model.pretrained):  # to be loaded yet, in a rehearsal
        raise ConfigError(
            f"strategy.batch_norm: {batch_norm} has no effect, the loaded stages ({', '.join(places)}) have no batch "
            "normalisation; set strategy.batch_norm=train"
        )
    if batch_norm == "frozen":
        frozen += [f"{path}.*" for path, layer in layers.items() if layer.affine]
    return tuple(replace(phase, frozen=tuple(frozen), still=tuple(layers)) for phase in phases)
