"""The model every strategy trains: a backbone of ordered stages, an optional bottleneck, a head."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from tlrun.batch import Encoded, Inputs, Output
from tlrun.build import component_class
from tlrun.config import ConfigError, ModelSettings


@dataclass(frozen=True)
class PublishedWeights:
    """A local file of published weights, and the names of its classes in the order of its classifier, if known.

    state: what the file holds under the names that `Backbone.own_names` knows, where its own are others.
    """

    path: Path
    classes: tuple[str, ...] | None
    state: Mapping[str, Tensor] | None = None


class Backbone(nn.Module):
    """Base of the feature extractors: named stages, bottom to top, of which the last gives (N, out_features).

    A subclass has a nested `Config(ModelSettings)` and is made as `Subclass(config, shape)`, shape being that of one
    row. hidden_layers: how many hidden layers a head of type mlp has on this backbone.
    """

    hidden_layers = 1

    def __init__(self, stages: Mapping[str, nn.Module], *, out_features: int) -> None:
        super().__init__()
        self.stages = nn.ModuleDict(stages)
        self.out_features = out_features

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages.values():
            x = stage(x)
        return x

    def reset_stages(self, names: Collection[str]) -> None:
        """Draws the parameters of stages anew, bottom to top, from the distribution they were first drawn from."""
        for name, stage in self.stages.items():
            if name in names:
                reset_parameters(stage)

    def own_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict of the original architecture under this model's names, `stages....` and `head....`.

        Empty where the names are not those of the original either.
        """
        return {}

    def imagenet_weights(self, config: ModelSettings) -> PublishedWeights:
        """The published weights that `config` stands for, as a local file, fetched where it allows that.

        Raises ConfigError where there are none, or none on this machine, with what to put where.
        """
        raise ConfigError(
            "model.weights: this model has no imagenet weights; set model.weights=random, source or a path"
        )


class TransferModel(nn.Module):
    """A backbone, a bottleneck (nn.Identity where there is none) and a head, run in this order.

    The features of an `Output` are what the head receives. Stages are counted from 0 at the bottom: those of the
    backbone, then "bottleneck" if there is one, then "head". pretrained: the stages that hold loaded weights, kept
    by `zoo.load_weights` and `reinitialise`. Images are run channels-last; every initial value is torch's own.
    """

    def __init__(self, backbone: Backbone, config: ModelSettings, *, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.num_features = config.bottleneck or backbone.out_features
        self.bottleneck: nn.Module = nn.Identity()
        if config.bottleneck is not None:
            self.bottleneck = nn.Sequential(
                nn.Linear(backbone.out_features, config.bottleneck), nn.BatchNorm1d(config.bottleneck), nn.ReLU()
            )
        layers = backbone.hidden_layers if config.head_type == "mlp" else 0
        self.head = classifier(self.num_features, [config.hidden] * layers, num_classes, dropout=config.dropout)
        self.has_bottleneck = config.bottleneck is not None
        self.backbone_stages: tuple[str, ...] = tuple(backbone.stages)
        self.pretrained: set[str] = set()

    @property
    def stage_names(self) -> tuple[str, ...]:
        return (*self.backbone_stages, *(("bottleneck",) if self.has_bottleneck else ()), "head")

    @property
    def learning_stages(self) -> tuple[str, ...]:
        """The backbone's stages that have parameters, bottom to top."""
        return tuple(name for name, stage in self.backbone.stages.items() if any(True for _ in stage.parameters()))

    def stage(self, name: str) -> nn.Module:
        """The module of a stage. Raises ValueError when there is none of this name."""
        if name in self.backbone_stages:
            return self.backbone.stages[name]
        if name not in self.stage_names:
            raise ValueError(f"no stage {name!r}, there are {', '.join(self.stage_names)}")
        return self.bottleneck if name == "bottleneck" else self.head

    def encode_prefix(self, x: Inputs, stage: int) -> Encoded:
        """Rows as stage number `stage` receives them; the number of the head, the last one, gives the features.

        Rows that are encoded already are taken further. Raises ValueError when there is no such stage above them.
        """
        first, rows = (x.stage, x.x) if isinstance(x, Encoded) else (0, x)
        if not 0 <= first <= stage < len(self.stage_names):
            raise ValueError(f"cannot encode from stage {first} to {stage} of {len(self.stage_names)}")
        if rows.dim() == 4:  # a cache may hand rows back in another memory order
            rows = rows.contiguous(memory_format=torch.channels_last)
        for name in self.stage_names[first:stage]:
            rows = self.stage(name)(rows)
        return Encoded(rows, stage)

    def forward(self, x: Inputs) -> Output:
        """Features (N, num_features) and logits (N, C) of images, tabular rows, or rows encoded by this model."""
        features = self.encode_prefix(x, len(self.stage_names) - 1).x
        return Output(features, self.head(features))


def classifier(in_features: int, hidden: Iterable[int], num_classes: int, *, dropout: float) -> nn.Sequential:
    """A linear layer to the classes, above hidden layers of the given widths with ReLU.

    Dropout acts on what each hidden layer gives, or, where there is none, on the features. Names (`hidden1`, `out`)
    do not depend on it, so weights fit with and without.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, width in enumerate(hidden, start=1):
        layers[f"hidden{number}"] = nn.Linear(in_features, width)
        layers[f"relu{number}"] = nn.ReLU()
        layers[f"dropout{number}"] = nn.Dropout(dropout)
        in_features = width
    if not layers:
        layers["dropout"] = nn.Dropout(dropout)
    layers["out"] = nn.Linear(in_features, num_classes)
    return nn.Sequential(layers)


def build_model(config: ModelSettings, *, shape: tuple[int, ...], num_classes: int) -> TransferModel:
    """The model that `config` describes, for rows of this shape ((C, H, W) or (D,)), with random weights.

    Parameters are drawn from torch's global generator. Raises ConfigError where the model cannot take such rows.
    """
    backbone = component_class("model", config.name)(config, shape)
    model = TransferModel(backbone, config, num_classes=num_classes)
    return model.to(memory_format=torch.channels_last) if len(shape) == 3 else model  # type: ignore[call-overload]


def image_shape(
    shape: tuple[int, ...], *, model: str, smallest: int = 1, channels: int | None = None
) -> tuple[int, int, int]:
    """The shape as (C, H, W). Raises ConfigError where rows are no images, or not such as the model takes."""
    if len(shape) != 3:
        raise ConfigError(
            f"model: {model} takes images (channels, height, width), got rows of shape {shape}; choose model=mlp"
        )
    found, height, width = shape
    problems = []
    if channels is not None and found != channels:
        problems.append(
            f"data.channels: {model} takes {channels} channels, got {found}; set data.channels={channels} or auto"
        )
    if min(height, width) < smallest:
        problems.append(
            f"data.image_size: {model} takes at least {smallest} x {smallest} pixels, got {height} x {width}; "
            f"set data.image_size={smallest} or more"
        )
    if problems:
        raise ConfigError(problems)
    return found, height, width


def reinitialise(model: TransferModel, stage_names: Iterable[str]) -> None:
    """Draws fresh parameters for the named stages, bottom to top, from torch's global generator.

    Batch statistics start anew too. Raises ValueError for a name that is no stage.
    """
    names = set(stage_names)
    if unknown := names - set(model.stage_names):
        raise ValueError(f"no stage {', '.join(sorted(unknown))}, there are {', '.join(model.stage_names)}")
    model.backbone.reset_stages(names.intersection(model.backbone_stages))
    for name in model.stage_names:
        if name in names and name not in model.backbone_stages:
            reset_parameters(model.stage(name))
    model.pretrained -= names


def reset_parameters(module: nn.Module) -> None:
    """Draws every parameter below `module` anew, as torch's layers first draw them.

    Raises ValueError where a layer holds parameters and does not say how they are drawn (`reset_parameters`).
    """
    for layer in module.modules():
        reset = getattr(layer, "reset_parameters", None)
        if reset is not None:
            reset()
        elif any(True for _ in layer.parameters(recurse=False)):
            raise ValueError(f"{type(layer).__name__} has parameters but no reset_parameters()")
