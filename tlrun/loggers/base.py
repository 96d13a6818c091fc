"""What every logger offers, and what of a row it is given."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from tlrun.config import ExperimentConfig, LoggerName
from tlrun.run import RunFolder

PACKAGES: dict[LoggerName, str] = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}
"""Logger -> the package that its extra installs, by the name under which it is imported."""


class Logger(Protocol):
    """One tool's log of one run. Its methods may raise whatever the tool raises."""

    def start(self, folder: RunFolder, config: ExperimentConfig, known: Mapping[str, Any]) -> dict[str, Any]:
        """Opens the log, before the first step of this process and with the run's settings in it.

        All rows of the run's history follow by `epoch`, those of earlier processes first; the log must then hold each
        epoch once, whatever it held before. known: what `start` returned for this run the last time, empty at first.
        Returns what names the log: plain values, kept in loggers.json.
        """
        ...

    def epoch(self, row: Mapping[str, Any]) -> None:
        """One row of metrics.csv."""
        ...

    def end(self, summary: Mapping[str, Any] | None) -> None:
        """Closes the log, with the finished run's summary.json in it; None for a run that stopped before its end."""
        ...


def figures(values: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers among some values, under their names: those that metrics.csv does not leave blank."""
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def not_installed(names: Iterable[LoggerName]) -> list[str]:
    """For each logger whose package is not there, a line that names its extra. Imports none of them."""
    return [
        f"run.loggers: {name} is not installed; install it with: pip install 'tlrun[{name}]'"
        for name in names
        if importlib.util.find_spec(PACKAGES[name]) is None
    ]
