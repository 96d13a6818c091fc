"""What a phase reads when the stages below the first that learns are frozen: every row behind them, encoded once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from tlrun.batch import Examples
from tlrun.config import AugmentSettings, ConfigError, ExperimentConfig, ModelSettings
from tlrun.data.augment.augmentation import pipelines
from tlrun.data.cache.encoded import RECIPE, encoded_rows, rows_key
from tlrun.data.cache.housekeeping import keep_below
from tlrun.data.domain import DomainPair, Part, find_places
from tlrun.data.rows import Held
from tlrun.data.streams import augmented_batches, evaluation_batches
from tlrun.engine.freezing import first_learning_stage
from tlrun.engine.runtime import Runtime
from tlrun.models.zoo import weights_hash
from tlrun.strategies.base import Phase, Strategy

TOLD_SECONDS = 1.0
"""Encoding that takes longer is worth a line in the log."""

log = logging.getLogger(__name__)


class Encodes(Protocol):
    """Whose frozen stages rows are taken through: an engine, or a finished model with rows of a pair."""

    @property
    def config(self) -> ExperimentConfig: ...
    @property
    def strategy(self) -> Strategy: ...
    @property
    def pair(self) -> DomainPair: ...
    @property
    def runtime(self) -> Runtime: ...


@dataclass(frozen=True)
class EncodedParts:
    """The parts of a pair as a phase reads them: for evaluation, and for its streams of training rows."""

    parts: dict[str, Part]
    training: dict[str, Part]


def check_encoding(phases: Iterable[Phase], augment: AugmentSettings) -> None:
    """Raises ConfigError where rows encoded once would undo an augmentation, or be kept in views without one."""
    for phase in phases:
        if not phase.encode_once:
            continue
        if augment.mix is not None:
            raise ConfigError(
                "strategy.encode_once: runs frozen stages once per image, and augment.mix makes new images in every step; "
                "set augment/mix=none, or strategy.encode_once=false"
            )
        if phase.encode_views is None and not augment.is_identity:
            raise ConfigError(
                "strategy.encode_once: runs frozen stages once per image, so augmentation would have no effect; "
                "set augment=none, strategy.encode_once=false, or strategy.encode_views to a number of views of each row"
            )
        if phase.encode_views is not None and augment.is_identity:
            raise ConfigError(
                f"strategy.encode_views: {phase.encode_views} views of a row would be equal with augment=none; "
                "set an augmentation, or strategy.encode_views=null"
            )


class Encoding:
    """Takes parts of a pair through the frozen prefix of a model, or finds them taken.

    Rows are encoded in inference mode, in the run's precision, in the batches of an evaluation, each domain with its
    own batch statistics where the strategy keeps such: so that what follows sees the bits it would see without it.
    between_blocks: told the part's name, the rows done and how many there are; may raise to stop, and nothing is lost.
    """

    def __init__(self, engine: Encodes, *, between_blocks: Callable[[str, int, int], None]) -> None:
        self.engine = engine
        self.between_blocks = between_blocks
        self.cache = find_places(engine.config.data).cache

    def encode(self, phase: Phase, *, training: Sequence[str], evaluated: Sequence[str]) -> EncodedParts:
        """The parts of these names encoded up to the phase's first stage that learns; the others as they are.

        training: those that its streams read, in several views where the phase asks for that.
        """
        engine = self.engine
        model = engine.strategy.model
        stage = first_learning_stage((name, model.stage(name)) for name in model.stage_names)
        engine.strategy.eval()
        parts, streamed = dict(engine.pair.parts), dict(engine.pair.parts)
        prefixes = {domain: self._prefix(domain, stage) for domain in ("source", "target")}
        for name in evaluated:
            parts[name] = self._encoded(parts[name], stage, prefixes)
        for name in training:
            if phase.encode_views is None:
                parts[name] = streamed[name] = self._encoded(parts[name], stage, prefixes)
            else:
                views = [self._encoded(parts[name], stage, prefixes, view) for view in range(phase.encode_views)]
                streamed[name] = replace(views[0], views=tuple(each.x for each in views))
        keep_below(self.cache, engine.config.data.cache_gigabytes)
        return EncodedParts(parts, streamed)

    def _encoded(self, part: Part, stage: int, prefixes: dict[str, dict[str, Any]], view: int | None = None) -> Part:
        if not len(part):
            return part
        rows, engine = rows_key(part), self.engine
        statistics = engine.pair.statistics[part.domain]
        inputs = None if rows is None else {
            **prefixes[part.domain],
            "rows": rows,
            "shape": list(engine.pair.shape),
            "mean": list(statistics.mean),
            "std": list(statistics.std),
            "batch_size": engine.config.engine.eval_batch_size,
            "augment": None if view is None else [view, part.domain, self._augment(part)],
        }  # fmt: skip
        domain = getattr(engine.config.data, part.domain).called
        shown = "" if view is None else f", view {view + 1}"
        model = engine.config.model.name.rpartition(".")[2]
        about = (
            f"{domain}: {len(part):,} rows ({part.name}{shown}) up to {engine.strategy.model.stage_names[stage]} of "
            f"{model}, {engine.runtime.precision}"
        )

        def encode(start: int) -> Iterator[Tensor]:
            return self._blocks(part, stage, view, start)

        x = encoded_rows(encode, count=len(part), cache=self.cache, inputs=inputs, about=about)
        return replace(part, x=Held(x.to(engine.runtime.device)), stage=stage)

    def _blocks(self, part: Part, stage: int, view: int | None, start: int) -> Iterator[Tensor]:
        """The part's rows from `start` on as the stage would receive them, block by block, with a word on the speed."""
        engine, began, done = self.engine, time.monotonic(), 0
        for examples in self._batches(part, view, start):
            with torch.inference_mode(), engine.runtime.autocast():
                encoded = engine.strategy.encode_prefix(examples.x, part.domain, stage)
            yield encoded.x
            done += len(examples)
            self.between_blocks(part.name, start + done, len(part))
        seconds = time.monotonic() - began
        if seconds > TOLD_SECONDS:
            log.info("encoded %s once: %d rows in %.1f s, %.0f rows/s", part.name, done, seconds, done / seconds)

    def _batches(self, part: Part, view: int | None, start: int) -> Iterator[Examples]:
        engine = self.engine
        common: dict[str, Any] = {
            "statistics": engine.pair.statistics[part.domain],
            "shape": engine.pair.shape,
            "batch_size": engine.config.engine.eval_batch_size,
            "start": start,
        }
        if view is None:
            return evaluation_batches(part, **common)
        first, _ = pipelines(engine.config.augment, part.domain, engine.pair.shape, part.x.shape)
        return augmented_batches(part, first, view=view, **common)

    def _augment(self, part: Part) -> dict[str, Any]:
        """The pipeline of the part's rows, as plain values."""
        own = self.engine.config.augment.of(part.domain)
        return own.model_dump(mode="json", exclude={"mix", "target", "views"})

    def _prefix(self, domain: str, stage: int) -> dict[str, Any]:
        """What fixes the values that the frozen stages give: their weights, their settings, and how they are computed."""
        engine = self.engine
        strategy, model = engine.strategy, engine.strategy.model
        with strategy.statistics.source() if domain == "source" and strategy.statistics else nullcontext():
            state = {
                f"{name}.{key}": value
                for name in model.stage_names[:stage]
                for key, value in model.stage(name).state_dict().items()
            }
            weights = weights_hash(state)
        own = engine.config.model.model_dump(mode="json", exclude=set(ModelSettings.model_fields) - {"name"})
        return {
            "recipe": RECIPE,
            "weights": weights,
            "model": own,
            "stage": stage,
            "precision": engine.runtime.precision,
            "device": engine.runtime.kernels(),
            "torch": str(torch.__version__),
        }
