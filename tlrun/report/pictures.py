"""Which pictures a report has, and what is said of each where it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tlrun.report.tables import Section

KINDS: dict[str, tuple[Section, str]] = {
    "bars": ("results", "Target test accuracy: means and 95 % intervals over seeds, between floor and ceiling"),
    "curves": ("results", "Learning curves: mean over seeds, in a band of one sample standard deviation"),
    "boundary": ("results", "What each strategy predicts all over the plane, first seed"),
    "confusion": ("diagnosis", "Confusion on the target test rows, summed over seeds: true classes down"),
    "classes": ("diagnosis", "Accuracy class by class against the floor"),
    "reliability": (
        "diagnosis",
        "Reliability on the target test rows: how often predictions of each confidence are right",
    ),
    "tsne": ("diagnosis", "Features by t-SNE, before adaptation (the floor) and after"),
    "changed": ("diagnosis", "Target test rows that adaptation changed most: gained and lost"),
    "samples": ("data", "Training rows as they came, class by class"),
}
"""Kind of picture -> where it stands on the page, and what it shows."""


@dataclass(frozen=True)
class Picture:
    """A picture of a pair: one of KINDS, and its file without suffix. problem: why there is none, else empty."""

    pair: str
    kind: str
    path: Path
    problem: str = ""

    @property
    def files(self) -> list[Path]:
        """What was written; nothing where there is a problem."""
        return [] if self.problem else [self.path.with_name(f"{self.path.name}.{kind}") for kind in ("png", "svg")]

    @property
    def section(self) -> Section:
        return KINDS[self.kind][0]

    @property
    def caption(self) -> str:
        return KINDS[self.kind][1]
