"""Whether a run can go on with one row a batch, told before its first step."""

from __future__ import annotations

import copy

import torch

from tlrun.batch import Batch, Examples
from tlrun.config import ConfigError
from tlrun.data.domain import DomainPair
from tlrun.data.streams import evaluation_batches
from tlrun.engine.freezing import set_learning, set_modes
from tlrun.engine.plan import Plan
from tlrun.strategies.base import Strategy


def first_row(pair: DomainPair, name: str) -> Examples | None:
    """The first row of one of the pair's parts, as a batch; None where the part has none."""
    part = pair.parts[name]
    statistics = pair.statistics[part.domain]
    return next(evaluation_batches(part, statistics=statistics, shape=pair.shape, batch_size=1), None)


def check_single_rows(strategy: Strategy, plan: Plan, batches: list[Batch], learning: list[set[str]]) -> None:
    """Tries the loss of every phase and turn on one row of each kind, on a copy, and draws nothing that counts.

    Batch normalisation of one row has no variance, and some distances between domains need two rows of each. batches
    and learning: for each phase, a batch of one row of each kind that it reads, and the parameters that learn. Raises
    ConfigError where a loss cannot be had, or is not finite.
    """
    devices = [parameter.device for parameter in strategy.parameters() if parameter.device.type == "cuda"][:1]
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        for number, (batch, names) in enumerate(zip(batches, learning, strict=True)):
            phase = plan.stretches[number].phase
            trial = copy.deepcopy(strategy)
            set_learning(trial, names)
            set_modes(trial, still=phase.still)
            for turn in phase.turns:
                try:
                    loss = trial.loss(batch, plan.progress(number, 0).in_turn(turn.name)).total()
                except ValueError as error:
                    raise too_few(phase.name, str(error).rstrip(".")) from error
                if not torch.isfinite(loss):
                    raise too_few(phase.name, "the loss is not finite")


def too_few(phase: str, reason: str) -> ConfigError:
    return ConfigError(f"engine.batch_size: one row is too few in phase '{phase}' ({reason}); set at least 2")
