"""Learning-rate schedules: pure functions of the step, each with its settings. Imports no torch, so that settings type fast."""

from __future__ import annotations

import math
from abc import abstractmethod

from tlrun.config import Fraction, HalfOpenFraction, NonNegative, OpenFraction, Positive, ScheduleSettings


class Schedule(ScheduleSettings):
    """A factor on the learning rate over a run, after an optional linear warm-up."""

    def factor(self, step: int, steps: int) -> float:
        """The factor for the step numbered `step` (from 0) of `steps`; at least 0.

        Warm-up takes the first `warmup_fraction` of the steps and never gives a rate of 0.
        """
        warmup = self.warmup_steps(steps)
        if step < warmup:
            return (step + 1) / (warmup + 1) * self.after_warmup(0.0)
        return self.after_warmup(self.fraction_after_warmup(step, steps))

    def warmup_steps(self, steps: int) -> int:
        """How many steps the warm-up takes, rounded up; 0.07 of 100 are 7, whatever 0.07 * 100 is in binary."""
        return math.ceil(round(self.warmup_fraction * steps, 6))

    def fraction_after_warmup(self, step: int, steps: int) -> float:
        """How much of what follows the warm-up is done, in [0, 1]; 0 during it."""
        warmup = self.warmup_steps(steps)
        return min(max(step - warmup, 0) / max(steps - warmup, 1), 1.0)

    def momentum_at(self, step: int, steps: int) -> float | None:
        """The optimizer's momentum (or first beta) for this step; None where the schedule leaves it alone."""
        return None

    @abstractmethod
    def after_warmup(self, fraction: float) -> float:
        """The factor at `fraction` in [0, 1] of the steps that follow the warm-up."""


class Constant(Schedule):
    def after_warmup(self, fraction: float) -> float:
        return 1.0


class Step(Schedule):
    """The rate is multiplied by `gamma` at each milestone, a fraction of the run."""

    milestones: tuple[OpenFraction, ...]
    gamma: Positive

    def after_warmup(self, fraction: float) -> float:
        return self.gamma ** sum(fraction >= milestone for milestone in self.milestones)


class Cosine(Schedule):
    """Half a cosine from 1 to `final` (Loshchilov and Hutter 2017, arXiv:1608.03983, eq. 5, without restarts)."""

    final: Fraction

    def after_warmup(self, fraction: float) -> float:
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * fraction))


class OneCycle(Schedule):
    """Up to the full rate and down again, both by half a cosine (Smith and Topin 2018, arXiv:1708.07120).

    Starts at `start` of the rate, peaks after `rise` of the run, ends at `final`. With `momentum` (high, low) the
    optimizer's momentum moves the other way: high, low at the peak, high (Smith 2018, arXiv:1803.09820, section 4.3).
    """

    rise: OpenFraction
    start: Fraction
    final: Fraction
    momentum: tuple[HalfOpenFraction, HalfOpenFraction] | None

    def problems(self) -> list[str]:
        found = []
        if self.momentum is not None and self.momentum[0] <= self.momentum[1]:
            found.append(f"momentum: must be [high, low], high above low, got {list(self.momentum)}")
        if self.start == 0 and self.warmup_fraction > 0:
            found.append("start: must be above 0 with a warm-up, which rises to it; or set warmup_fraction=0")
        return found

    def after_warmup(self, fraction: float) -> float:
        return self._between(self.start, 1.0, self.final, fraction)

    def momentum_at(self, step: int, steps: int) -> float | None:
        if self.momentum is None:
            return None
        high, low = self.momentum
        return self._between(high, low, high, self.fraction_after_warmup(step, steps))

    def _between(self, first: float, peak: float, last: float, fraction: float) -> float:
        """From first to peak to last by half a cosine each."""
        if fraction < self.rise:
            low, high, place = first, peak, fraction / self.rise
        else:
            low, high, place = (peak, last, (fraction - self.rise) / (1.0 - self.rise))
        return high + (low - high) * 0.5 * (1.0 + math.cos(math.pi * place))


class InverseDecay(Schedule):
    """(1 + alpha p)^-beta for progress p (Ganin et al. 2016, JMLR 17, section 5.2.2: alpha 10, beta 0.75)."""

    alpha: NonNegative
    beta: NonNegative

    def after_warmup(self, fraction: float) -> float:
        return float((1.0 + self.alpha * fraction) ** -self.beta)


SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "step": Step,
    "cosine": Cosine,
    "one_cycle": OneCycle,
    "inverse_decay": InverseDecay,
}
