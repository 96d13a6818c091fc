"""The clock: how a strategy's phases share the epochs, and which moment of the run a step is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tlrun.batch import Progress
from tlrun.config import ConfigError
from tlrun.strategies.base import Phase


@dataclass(frozen=True)
class Stretch:
    """A phase laid out in time: epochs `first_epoch` up to `first_epoch + epochs`, each of `steps_per_epoch` steps."""

    phase: Phase
    first_epoch: int
    epochs: int
    steps_per_epoch: int

    @property
    def first_step(self) -> int:
        return self.first_epoch * self.steps_per_epoch

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch


@dataclass(frozen=True)
class Plan:
    """The whole run as planned. Where a phase ends early its remaining steps are left out, not given to the next."""

    stretches: tuple[Stretch, ...]

    @property
    def steps(self) -> int:
        return sum(stretch.steps for stretch in self.stretches)

    @property
    def epochs(self) -> int:
        return sum(stretch.epochs for stretch in self.stretches)

    def progress(self, index: int, phase_step: int) -> Progress:
        """The moment at which `phase_step` steps of phase number `index` are done."""
        stretch = self.stretches[index]
        step = stretch.first_step + phase_step
        return Progress(
            step=step,
            steps=self.steps,
            epoch=step // stretch.steps_per_epoch,
            phase=stretch.phase.name,
            phase_step=phase_step,
            phase_steps=stretch.steps,
        )


def lay_out(phases: Sequence[Phase], *, epochs: int, steps_per_epoch: int) -> Plan:
    """Shares `epochs` among the phases in proportion to their shares, whole epochs, at least one each.

    Raises ConfigError when there are more phases than epochs.
    """
    if len(phases) > epochs:
        names = ", ".join(phase.name for phase in phases)
        raise ConfigError(
            f"engine.epochs: must be at least {len(phases)}, one for each phase of the strategy ({names}), got {epochs}"
        )
    total = sum(phase.share for phase in phases)
    ends = [0]
    shared = 0.0
    for number, phase in enumerate(phases, start=1):
        shared += phase.share
        left = len(phases) - number
        ends.append(min(max(round(epochs * shared / total), ends[-1] + 1), epochs - left))
    stretches = [
        Stretch(phase, first, last - first, steps_per_epoch)
        for phase, (first, last) in zip(phases, pairwise(ends), strict=True)
    ]
    return Plan(tuple(stretches))
