"""How long a run would take here: a few of its steps, timed, times all of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from tlrun.data.domain import DomainPair, Part
from tlrun.engine.encoding import EncodedParts, Encoding
from tlrun.engine.engine import KINDS, Engine
from tlrun.engine.freezing import set_learning, set_modes
from tlrun.engine.plan import Stretch
from tlrun.run_files import EVALUATION_PARTS

WARM_UP, TIMED = 2, 5
"""Steps of each phase before the clock starts, and under it."""
LONG_ENOUGH = 0.2
"""Seconds of forward passes from which on their speed is believed."""
ROWS = 32
"""So many rows of each part are read again and again: what a step costs does not depend on which rows it reads."""


@dataclass(frozen=True)
class Pace:
    """Seconds of a whole run by what they go into, none of them read from a finished one.

    training: all steps of all phases. encoding: the passes through frozen stages of what a phase reads encoded, were
    nothing of it kept from an earlier run. evaluation: all evaluations of the other phases.
    """

    training: float
    encoding: float
    evaluation: float

    @property
    def total(self) -> float:
        return self.training + self.encoding + self.evaluation


def pace(engine: Engine, *, patience: float) -> Pace:
    """Times a few steps of each phase, and a few forward passes. patience: seconds at the most for a phase's steps.

    A step that takes longer than that is timed alone. The engine is of no use afterwards: its weights have moved. Reads
    no label of the target but granted ones, and writes nothing but encoded rows to the engine's cache.
    """
    whole = engine.pair
    rows_per_second = _rows_per_second(engine, whole.parts["target_unlabelled"])
    engine.pair = _few(whole)
    training = encoded = evaluated = 0.0
    for number, stretch in enumerate(engine.plan.stretches):
        training += _step_seconds(engine, number, patience) * stretch.steps
        tested = sum(len(whole.parts[name]) for name in EVALUATION_PARTS)
        if stretch.phase.encode_once:
            read = sum(len(whole.parts[KINDS[kind]]) for kind in engine.kinds(stretch))
            encoded += tested + read * (stretch.phase.encode_views or 1)
        else:
            evaluated += tested * math.ceil(stretch.epochs / engine.config.engine.evaluate_every)
    return Pace(training, encoded / rows_per_second, evaluated / rows_per_second)


def _step_seconds(engine: Engine, number: int, patience: float) -> float:
    """Mean seconds of a step of a phase."""
    stretch = engine.plan.stretches[number]
    _open(engine, number, stretch)
    begun = start = time.monotonic()
    for step in range(WARM_UP + TIMED):
        if step == WARM_UP:
            start = time.monotonic()
        engine.step(stretch, engine.plan.progress(number, step % stretch.steps))
        engine.runtime.synchronize()
        if time.monotonic() - begun > patience:
            done = step + 1
            return (time.monotonic() - start) / (done if done <= WARM_UP else done - WARM_UP)
    return (time.monotonic() - start) / TIMED


def _open(engine: Engine, number: int, stretch: Stretch) -> None:
    """Makes the engine ready for the first step of a phase."""
    phase = stretch.phase
    set_learning(engine.strategy, engine.learning[number])
    opened = EncodedParts(dict(engine.pair.parts), dict(engine.pair.parts))
    if phase.encode_once:
        training = [KINDS[kind] for kind in engine.kinds(stretch)]
        encoding = Encoding(engine, between_blocks=lambda name, done, count: None)
        opened = encoding.encode(phase, training=training, evaluated=())
    engine.parts = opened.parts
    engine.open_streams(stretch, opened)
    engine.strategy.begin_phase(phase, engine)
    set_modes(engine.strategy, still=phase.still)
    engine.strategy.begin_epoch(engine)
    set_modes(engine.strategy, still=phase.still)


def _rows_per_second(engine: Engine, part: Part) -> float:
    """Rows through the whole network in an evaluation, over ever more of them until that takes long enough."""
    count = ROWS
    encode: Callable[[Part], Any] = engine.evaluator.encode
    while True:
        rows = part.take(torch.arange(min(count, len(part))))
        start = time.monotonic()
        encode(rows)
        engine.runtime.synchronize()
        seconds = time.monotonic() - start
        if seconds >= LONG_ENOUGH or len(rows) == len(part):
            return len(rows) / max(seconds, 1e-6)
        count *= 4


def _few(pair: DomainPair) -> DomainPair:
    """The pair with the first few rows of every part."""
    few = {name: part.take(torch.arange(min(ROWS, len(part)))) for name, part in pair.parts.items()}
    return replace(pair, parts=few)
