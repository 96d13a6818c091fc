"""How long a run that is still to be done will take, from finished runs that did the same work in an epoch."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tlrun.config import ExperimentConfig
from tlrun.files import RunError
from tlrun.report.collect import Run, read_run
from tlrun.run import RunFolder

_INDIFFERENT = (
    *("engine.epochs", "engine.select", "data.target_labels", "data.target_val_labels", "data.source_label_noise"),
    *("data.source.fingerprint", "data.target.fingerprint", "optim.", "schedule.", "pretrain."),
)
"""Settings that leave the work of an epoch as it is."""


class Estimates:
    """Seconds by the finished runs under one root; each setting is looked up once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: list[tuple[dict[str, Any], float | None]] = []

    def seconds(self, config: ExperimentConfig) -> float | None:
        """What the rest of a run will take; None where no finished run did the same work on such a device.

        config: as named for the machine. A run that was cut off goes on after the epochs in its metrics.csv.
        """
        epoch = self._epoch_seconds(config)
        left = config.engine.epochs - _epochs_done(RunFolder.of(config))
        return None if epoch is None else epoch * max(left, 0)

    def _epoch_seconds(self, config: ExperimentConfig) -> float | None:
        run = Run(RunFolder.of(config), config.to_dict(), {}, {})
        work = _work(run)
        for known, seconds in self._known:
            if known == work:
                return seconds
        found = [
            each.summary["seconds"] / each.summary["epochs"]
            for each in self._finished(config)
            if each.summary["device"] == config.device.name and each.summary["epochs"] and _work(each) == work
        ]
        self._known.append((work, statistics.fmean(found) if found else None))
        return self._known[-1][1]

    def _finished(self, config: ExperimentConfig) -> Sequence[Run]:
        """The finished runs of the same pair and strategy, by their names."""
        strategy = config.strategy.name.rpartition(".")[2]
        runs = []
        for path in sorted(self.root.glob(f"{config.data.name}-{strategy}-s*")):
            with suppress(RunError):
                runs.append(read_run(RunFolder(path)))
        return runs


def told(seconds: float) -> str:
    """A duration for people, a second at least: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{max(1, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _work(run: Run) -> dict[str, Any]:
    """The settings that decide how much work an epoch is."""
    return {key: value for key, value in run.settings.items() if not key.startswith(_INDIFFERENT)}


def _epochs_done(folder: RunFolder) -> int:
    if not folder.metrics.exists():
        return 0
    with folder.metrics.open() as file:
        return max(sum(1 for _ in file) - 1, 0)
