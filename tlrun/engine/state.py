"""What a run remembers beside its tensors: the place in the plan, the metric history, the best so far. A checkpoint holds it all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

from tlrun.config import Rule
from tlrun.engine.selection import Best, Patience


@dataclass
class TrainingState:
    """The engine's memory, all of it plain values.

    phase and phase_step: how far the plan is done. rows and class_rows: `metrics.csv` and `classes.csv` so far.
    phase_patience: the present phase's plateau. gradients: the largest gradient norm seen of each transfer term.
    ended_early: of each phase that ended before its share was used up, the rule that had stopped improving.
    """

    best: Best
    stop: Patience | None
    oracle: Best = field(default_factory=lambda: Best("oracle"))
    phase: int = 0
    phase_step: int = 0
    phase_patience: Patience | None = None
    optimizer_steps: int = 0
    images: int = 0
    seconds: float = 0.0
    training_seconds: float = 0.0
    encode_seconds: float = 0.0
    epoch_seconds: float = 0.0
    epoch_images: int = 0
    source_test_accuracy_before: float | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    class_rows: list[dict[str, Any]] = field(default_factory=list)
    gradients: dict[str, float] = field(default_factory=dict)
    trainable: dict[str, int] = field(default_factory=dict)
    ended_early: dict[str, Rule] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        plain = dict(self.__dict__)
        plain["best"] = self.best.to_dict()
        plain["oracle"] = self.oracle.to_dict()
        plain["stop"] = self.stop.to_dict() if self.stop else None
        plain["phase_patience"] = self.phase_patience.to_dict() if self.phase_patience else None
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Self:
        stop, phase_patience = plain["stop"], plain["phase_patience"]
        return cls(
            **{
                **plain,
                "best": Best.from_dict(plain["best"]),
                "oracle": Best.from_dict(plain["oracle"]),
                "stop": Patience.from_dict(stop) if stop else None,
                "phase_patience": Patience.from_dict(phase_patience) if phase_patience else None,
            }
        )
