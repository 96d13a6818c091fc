"""Weights & Biases: offline, in the run folder, unless WANDB_MODE says otherwise. `wandb sync` sends it later."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping
from typing import Any

from tlrun.config import ExperimentConfig
from tlrun.loggers.base import figures
from tlrun.run import RunFolder

PROJECT = "tlrun"
"""Where WANDB_PROJECT does not say otherwise."""


class WandbLogger:
    """A row of metrics.csv is a step of the history; the settings are its config, summary.json is in its summary.

    An offline log is written anew when a run goes on, under its old id. Online, W&B has the first epochs already and
    is told those that follow.
    """

    def start(self, folder: RunFolder, config: ExperimentConfig, known: Mapping[str, Any]) -> dict[str, Any]:
        mode = os.environ.get("WANDB_MODE") or "offline"
        if mode != "online":
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it tells its makers of its own errors
        import wandb

        if folder.wandb.exists():
            shutil.rmtree(folder.wandb)
        name = str(known.get("run") or f"{folder.path.name[-10:]}-{uuid.uuid4().hex[:8]}")
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=name,
            name=folder.path.name,
            config=config.to_dict(),
            dir=folder.path,
            mode=mode,
            resume="allow",
            settings=wandb.Settings(
                console="off", silent=True, save_code=False, disable_git=True, x_disable_stats=True
            ),
        )
        return {"where": folder.wandb.name if mode == "offline" else mode, "run": name}

    def epoch(self, row: Mapping[str, Any]) -> None:
        if row["epoch"] >= self.run.step:
            self.run.log(figures(row), step=int(row["epoch"]), commit=True)  # else W&B keeps it until the next

    def end(self, summary: Mapping[str, Any] | None) -> None:
        if summary is not None:
            # W&B's own summary has the last epoch's figures under their plain names.
            known = {f"summary/{name}": value for name, value in summary.items() if value is not None}
            self.run.summary.update(known)
        self.run.finish(exit_code=1 if summary is None else 0)
