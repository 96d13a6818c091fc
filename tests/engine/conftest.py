"""Short runs from their settings, in this process and in processes of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.engine.children import start_server
from tlrun import experiment
from tlrun.config import ExperimentConfig
from tlrun.run import RunFolder


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Only a power failure could tell whether files were synced; and runs set torch's threads."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def described(config: Callable[..., ExperimentConfig], tmp_path: Path) -> Callable[..., ExperimentConfig]:
    """The config of these overrides, its run below a folder of this name."""

    def describe(*overrides: str, root: str = "runs") -> ExperimentConfig:
        composed = config(*overrides)
        return composed.model_copy(update={"run": composed.run.model_copy(update={"root": str(tmp_path / root)})})

    return describe


@pytest.fixture
def train(described: Callable[..., ExperimentConfig]) -> Callable[..., RunFolder]:
    """Trains what these overrides describe, in this process, and gives the folder."""

    def run(*overrides: str, root: str = "runs") -> RunFolder:
        return RunFolder(experiment.run(described(*overrides, root=root), command="a test").folder)

    return run


@pytest.fixture(scope="session")
def children() -> None:
    """Makes sure that children start fast."""
    start_server()
