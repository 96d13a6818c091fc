"""In which spaces two domains are compared: raw inputs, a model's features before training, those of a finished run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from tlrun.compose.resolve import pretrain_config
from tlrun.config import ConfigError, ExperimentConfig
from tlrun.data.domain import DomainPair, Part
from tlrun.data.splits import row_keys
from tlrun.data.streams import evaluation_batches
from tlrun.data.transforms import Statistics
from tlrun.engine.evaluate import Evaluator
from tlrun.engine.runtime import seed_everything
from tlrun.experiment import build_engine
from tlrun.run import RunFolder

SplitName = Literal["train", "val", "test"]

LARGEST = 32
"""Larger images are averaged down to so many pixels a side before they are compared as raw inputs."""
BATCH = 500


@dataclass(frozen=True)
class Side:
    """Some rows of one domain in a space: x (N, D); y (N,), None where no label may be read, -1 where it is not known.

    error: of the model's own head on these rows, None without a head that was trained or without labels.
    """

    x: NDArray[np.float64]
    y: NDArray[np.int64] | None
    error: float | None = None


@dataclass(frozen=True)
class Space:
    """As many rows of both domains in one space, in an order that means nothing; granted: those with target labels."""

    name: str
    source: Side
    target: Side
    granted: Side | None


@dataclass(frozen=True)
class Parts:
    """Which rows are compared, the same in every space."""

    source: Part
    target: Part
    granted: Part | None


Encoder = Callable[[Part], tuple[Tensor, Tensor | None]]
"""From a part to features (N, D) and, where the model has a trained head, logits (N, C)."""


def choose_parts(pair: DomainPair, split: SplitName, *, rows: int, with_labels: bool) -> Parts:
    """At most `rows` rows of the split of each domain, equally many, by a hash of their numbers: no seed decides.

    with_labels: whether the target's own labels may be read; otherwise those granted for training may. Raises
    ConfigError where a domain has no rows of that split.
    """
    names = {"source": f"source_{split}", "target": "target_unlabelled" if split == "train" else f"target_{split}"}
    found = [pair.parts[name] for name in names.values()]
    count = min(rows, *map(len, found))
    if count < 10:
        sizes = " and ".join(f"{len(part)} of the {name}" for name, part in zip(names, found, strict=True))
        raise ConfigError(f"distance: needs 10 {split} rows of each domain, got {sizes}; choose another --split")
    source, target = (_some(part, count) for part in found)
    if with_labels:
        return Parts(source, target, target)
    granted = pair.parts["target_granted"]
    return Parts(source, target, _some(granted, rows) if len(granted) else None)


def raw_inputs(pair: DomainPair, parts: Parts) -> Space:
    """Rows as they come, pixels in [0, 1], fitted to one size and number of channels, large images averaged down."""
    channels = pair.shape[0]
    plain = Statistics.of((0.0,) * channels, (1.0,) * channels, pair.shape, parts.source.index.device)

    def encode(part: Part) -> tuple[Tensor, None]:
        batches = evaluation_batches(part, statistics=plain, shape=pair.shape, batch_size=BATCH)
        return torch.cat([_flat(examples.x) for examples in batches if isinstance(examples.x, Tensor)]), None

    return _space("inputs", parts, encode)


def start(config: ExperimentConfig, pair: DomainPair, parts: Parts, device: torch.device) -> Space:
    """Features of the model that a run of these settings starts from, as the run itself builds it; config is resolved.

    Raises ConfigError where the weights are not there.
    """
    weights = config.model.weights
    source = None
    if weights == "source":
        folder = RunFolder.of(pretrain_config(config))
        if folder.state() != "done":
            raise ConfigError(
                f"model.weights: the source model {folder.path} is not trained yet; train it first with a run that "
                "starts from it, or set model.weights=random"
            )
        source = folder.path
    seed_everything(config.seed)
    evaluator = build_engine(config, pair, RunFolder.of(config), device, source=source).evaluator
    name = {"random": f"random weights, seed {config.seed}", "source": "the source model"}.get(
        weights, f"{weights} weights"
    )
    return _space(f"start ({name})", parts, features_of(evaluator, has_head=weights == "source"))


def features_of(evaluator: Evaluator, *, has_head: bool) -> Encoder:
    """What a model makes of a part. has_head: whether its logits mean anything."""

    def encode(part: Part) -> tuple[Tensor, Tensor | None]:
        output = evaluator.encode(part)[1]
        return output.features, output.logits if has_head else None

    return encode


def selected(evaluator: Evaluator, parts: Parts) -> Space:
    """Features of a finished run's selected model."""
    return _space("selected", parts, features_of(evaluator, has_head=True))


def _space(name: str, parts: Parts, encode: Encoder) -> Space:
    sides = dict(_sides(parts, encode))
    granted = sides["target"] if parts.granted is parts.target else sides.get("granted")
    return Space(name, sides["source"], sides["target"], granted)


def _sides(parts: Parts, encode: Encoder) -> Iterator[tuple[str, Side]]:
    yield "source", _side(parts.source, encode)
    yield "target", _side(parts.target, encode)
    if parts.granted is not None and parts.granted is not parts.target:
        yield "granted", _side(parts.granted, encode)


def _side(part: Part, encode: Encoder) -> Side:
    features, logits = encode(part)
    x = features.flatten(1).double().cpu().numpy()
    if not np.isfinite(x).all():
        raise ConfigError(f"distance: the features of {part.name} are not finite, so no distance can be told")
    if part.y is None:
        return Side(x, None)
    y = part.y.cpu()
    known = y >= 0
    error = None
    if logits is not None and known.any():
        error = (logits.argmax(1).cpu() != y)[known].double().mean().item()
    return Side(x, y.numpy(), error)


def _some(part: Part, count: int) -> Part:
    order = np.argsort(row_keys(np.arange(len(part)), "distance"), kind="stable")[:count]
    return part.take(torch.from_numpy(order))


def _flat(x: Tensor) -> Tensor:
    if x.ndim == 4 and max(x.shape[2:]) > LARGEST:
        x = adaptive_avg_pool2d(x, (min(x.shape[2], LARGEST), min(x.shape[3], LARGEST)))
    return x.reshape(len(x), math.prod(x.shape[1:]))
