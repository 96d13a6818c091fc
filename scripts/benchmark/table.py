"""The rows that the benchmark prints: what was measured, what it must reach, and the ratio of the two."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def show(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def at_least(what: str, figure: float, target: float, unit: str = "") -> None:
    """A row where more is better: a ratio of 1 or above reaches the target."""
    _row(what, figure, f">= {target:g}", figure / target, unit)


def at_most(what: str, figure: float, target: float, unit: str = "") -> None:
    """A row where less is better; here too a ratio of 1 or above reaches the target."""
    _row(what, figure, f"<= {target:g}", target / figure, unit)


def plain(what: str, figure: float, unit: str = "") -> None:
    """A row that explains another one and has no target."""
    _row(what, figure, "", None, unit)


def _row(what: str, figure: float, target: str, ratio: float | None, unit: str) -> None:
    shown = f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3f}"
    told = "" if ratio is None else f"{ratio:.2f}"
    show(f"{what:<74} {f'{shown} {unit}'.strip():>12} {target:>12} {told:>7}".rstrip())


def spread(values: Sequence[float]) -> str:
    return f"{min(values):.3f} to {max(values):.3f}"
