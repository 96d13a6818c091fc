"""The open epoch's sums, kept on the device and read rarely, and the watch for losses that are not finite."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from tlrun.batch import Losses, Progress, Terms
from tlrun.run import RunError

LOSS = "loss"
ADVICE = "a smaller optim.lr, engine.clip_norm=1 or engine.precision=fp32 may help"


class Tally:
    """Sums of every loss term and statistic over the open epoch.

    Nothing here waits for the device until `read` or `check`; the first step at which each term was not finite is
    remembered on the device, so that a late look still names it.
    """

    def __init__(self, terms: Terms, device: torch.device) -> None:
        self.terms = (*terms.task, *terms.transfer)
        self.transfer = terms.transfer
        self.names = (LOSS, *(f"loss_{term}" for term in self.terms), *terms.stats)
        self.known = {*self.terms, *terms.stats}
        self.device = device
        self.nothing = torch.zeros((), device=device)
        self.reset()

    def reset(self) -> None:
        self.counts = dict.fromkeys(self.names, 0)
        self.sums = torch.zeros(len(self.names), device=self.device)
        self.bad_step = torch.full((len(self.terms),), -1, device=self.device)
        self.gradients: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, losses: Losses, total: Tensor, progress: Progress) -> None:
        """Takes one batch's losses into account. Raises ValueError for a term that the strategy did not declare."""
        unknown = [name for name in (*losses.terms, *losses.stats) if name not in self.known]
        if unknown:
            raise ValueError(f"the strategy reports {', '.join(unknown)}, which its `terms` do not declare")
        values = {LOSS: total, **{f"loss_{name}": value for name, value in losses.terms.items()}, **losses.stats}
        for name in values:
            self.counts[name] += 1
        # One row for all of them, 0 for what this turn does not report: twenty small operations more would show in the
        # speed of a small network.
        row = torch.stack([values.get(name, self.nothing).float() for name in self.names])
        self.sums += row
        fine = torch.isfinite(row[1 : 1 + len(self.terms)]) | (self.bad_step >= 0)
        self.bad_step = torch.where(fine, self.bad_step, progress.step)

    def add_gradient(self, term: str, norm: Tensor) -> None:
        """Keeps the largest gradient norm of a transfer term in the epoch."""
        before = self.gradients.get(term)
        self.gradients[term] = norm if before is None else torch.maximum(before, norm)

    def check(self, phase: str) -> None:
        """Raises RunError naming term, step and phase if any term of the epoch so far was not finite.

        Of several the first: from the step after it on, whatever learnt from it is not finite either.
        """
        bad = [(step, name) for step, name in zip(self.bad_step.tolist(), self.terms, strict=True) if step >= 0]
        if bad:
            step, name = min(bad, key=lambda each: each[0])
            raise RunError(f"the loss term '{name}' was not finite at step {step} of phase '{phase}'; {ADVICE}")

    def read(self) -> dict[str, float]:
        """The epoch's means of what was reported, and gradient norms under `gradient_<term>`."""
        sums = zip(self.names, self.sums.tolist(), strict=True)
        means = {name: value / self.counts[name] for name, value in sums if self.counts[name]}
        return means | {f"gradient_{term}": norm.item() for term, norm in self.gradients.items()}

    def running_loss(self) -> float:
        """The open epoch's mean loss so far; nan before its first step. Waits for the device."""
        return self.sums[0].item() / self.counts[LOSS] if self.counts[LOSS] else math.nan

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("sums", "counts", "gradients", "bad_step")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.counts = dict(state["counts"])
        self.sums, self.bad_step = state["sums"].to(self.device), state["bad_step"].to(self.device)
        self.gradients = {term: norm.to(self.device) for term, norm in state["gradients"].items()}


def check_weights(module: nn.Module, *, step: int, phase: str) -> None:
    """Raises RunError naming step and phase if a parameter that learns is not finite: the last loss does not show it."""
    named = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
    names, parameters = zip(*named, strict=True)
    finite = torch.stack([torch.isfinite(parameter).all() for parameter in parameters]).tolist()
    bad = [name for name, is_finite in zip(names, finite, strict=True) if not is_finite]
    if bad:
        raise RunError(f"{bad[0]} was not finite after step {step} of phase '{phase}'; {ADVICE}")


def gradient_norm(term: Tensor, features: tuple[Tensor, ...]) -> Tensor:
    """The Euclidean norm of a term's gradient at the features, a scalar; 0 where it does not reach them."""
    reached = [feature for feature in features if feature.requires_grad]
    if not reached or not term.requires_grad:
        return term.new_zeros((), dtype=torch.float32)
    gradients = torch.autograd.grad(term, reached, retain_graph=True, allow_unused=True)
    norms = [gradient.float().norm() for gradient in gradients if gradient is not None]
    return torch.stack(norms).norm() if norms else term.new_zeros((), dtype=torch.float32)
