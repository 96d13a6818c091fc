"""The vocabulary that data, models, strategies and engine share: what a batch is, what a strategy returns, what time it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Task:
    """What a strategy may know of the data before it sees a batch.

    classes: names in label order, so class i is `classes[i]` in both domains. sizes: rows per part, such as
    `{"source_train": 54000, "target_unlabelled": 53100, "target_granted": 0, ...}`.
    """

    classes: tuple[str, ...]
    sizes: Mapping[str, int]

    @property
    def num_classes(self) -> int:
        return len(self.classes)


@dataclass(frozen=True)
class Encoded:
    """Rows already run through the frozen prefix of a backbone: what stage number `stage` would receive, (N, ...)."""

    x: Tensor
    stage: int

    def __len__(self) -> int:
        return len(self.x)


Inputs = Tensor | Encoded


def concatenate(first: Inputs, second: Inputs) -> Inputs:
    """Both inputs as one batch, first rows first. Raises ValueError when one is encoded and the other is not."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return torch.cat((first, second))
    if isinstance(first, Encoded) and isinstance(second, Encoded) and first.stage == second.stage:
        return Encoded(torch.cat((first.x, second.x)), first.stage)
    raise ValueError("the two inputs are not encoded up to the same stage")


@dataclass(frozen=True)
class Examples:
    """Some rows of one domain, transformed and on the device.

    x (N, ...); y (N,) int64, (N, C) after mixup, None where the labels are withheld; index (N,) int64 row numbers
    within the domain's split; views: further augmentations of the same rows; weight (N,) or None.
    """

    x: Inputs
    y: Tensor | None
    index: Tensor
    domain: str
    views: tuple[Inputs, ...] = ()
    weight: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Batch:
    """One step's rows: labelled source, target rows whose labels were granted, target rows without labels."""

    source: Examples | None = None
    target: Examples | None = None
    unlabelled: Examples | None = None

    def __iter__(self) -> Iterator[Examples]:
        return (part for part in (self.source, self.target, self.unlabelled) if part is not None)

    def __len__(self) -> int:
        return sum(len(part) for part in self)


@dataclass(frozen=True)
class Output:
    """What a model says of N rows: features (N, D) before the head, logits (N, C)."""

    features: Tensor
    logits: Tensor


@dataclass(frozen=True)
class Terms:
    """The names under which a strategy will report, fixed before the first step: they become columns."""

    task: tuple[str, ...] = ("classification",)
    transfer: tuple[str, ...] = ()
    stats: tuple[str, ...] = ()


@dataclass(frozen=True)
class Losses:
    """What a strategy returns for a batch.

    task and transfer: weighted scalar terms, which the engine sums. stats: scalars only recorded. features: the
    tensors at which the engine measures each transfer term's gradient, to tell whether adaptation is alive.
    """

    task: Mapping[str, Tensor] = field(default_factory=dict)
    transfer: Mapping[str, Tensor] = field(default_factory=dict)
    stats: Mapping[str, Tensor] = field(default_factory=dict)
    features: tuple[Tensor, ...] = ()

    @property
    def terms(self) -> dict[str, Tensor]:
        return {**self.task, **self.transfer}

    def total(self) -> Tensor:
        """The sum of all terms, a scalar. Raises ValueError when there is none."""
        terms = list(self.terms.values())
        if not terms:
            raise ValueError("a strategy returned no loss term")
        return torch.stack([term.float() for term in terms]).sum()


@dataclass(frozen=True)
class Progress:
    """Where training stands. Everything that changes with time is a function of this.

    step of steps over the whole run, phase_step of phase_steps in the present phase: both count finished steps, so
    they run from 0. Both are places in the plan: where a phase ends early, the next one begins at its planned step.
    epoch counts from 0; phase and turn are names.
    """

    step: int
    steps: int
    epoch: int
    phase: str
    phase_step: int
    phase_steps: int
    turn: str = "all"

    @property
    def fraction(self) -> float:
        """How much of the planned run is done, in [0, 1]."""
        return min(self.step / self.steps, 1.0) if self.steps else 1.0

    @property
    def phase_fraction(self) -> float:
        """How much of the present phase is done, in [0, 1]."""
        return min(self.phase_step / self.phase_steps, 1.0) if self.phase_steps else 1.0

    def in_turn(self, turn: str) -> Progress:
        return replace(self, turn=turn)
