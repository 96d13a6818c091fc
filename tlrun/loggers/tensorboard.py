"""TensorBoard: event files in the run folder. `tensorboard --logdir outputs` shows every run below a root."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from typing import Any

from tlrun.config import ExperimentConfig
from tlrun.loggers.base import figures
from tlrun.run import RunFolder


class TensorBoardLogger:
    """A scalar for each column of metrics.csv, by epoch; settings and summary as text, the summary's figures as scalars.

    The events are written anew when a run goes on. The first of them tells a viewer that has the old ones to forget them
    (`purge_step`).
    """

    def start(self, folder: RunFolder, config: ExperimentConfig, known: Mapping[str, Any]) -> dict[str, Any]:
        from torch.utils.tensorboard import SummaryWriter

        if folder.tensorboard.exists():
            shutil.rmtree(folder.tensorboard)
        self.last = 0
        self.writer = SummaryWriter(str(folder.tensorboard), purge_step=0)
        self.writer.add_text("config", _code(config.to_dict()), 0)
        return {"where": folder.tensorboard.name}

    def epoch(self, row: Mapping[str, Any]) -> None:
        self.last = int(row["epoch"])
        self._scalars(figures(row))
        self.writer.flush()

    def end(self, summary: Mapping[str, Any] | None) -> None:
        if summary is not None:
            self._scalars({f"summary/{name}": value for name, value in figures(summary).items()})
            self.writer.add_text("summary", _code(summary), self.last)
        self.writer.close()

    def _scalars(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, self.last)


def _code(values: Mapping[str, Any]) -> str:
    """Plain values as a block of code, in the Markdown that TensorBoard shows."""
    return "\n".join(f"    {line}" for line in json.dumps(values, indent=2, ensure_ascii=False).splitlines())
