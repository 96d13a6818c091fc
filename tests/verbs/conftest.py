"""The small domains of the data tests, and finished runs that the verbs are given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.conftest import pair_of
from tests.engine.runs import TOY
from tests.trained_runs import Config, digit_run, photo_run
from tlrun import experiment
from tlrun.run import RunFolder

__all__ = ["pair_of"]


@pytest.fixture(scope="module")
def photo(config: Config, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run on folders of pictures."""
    return photo_run(config, tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def digits(config: Config, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run on digits that are held as arrays."""
    return digit_run(config, tmp_path_factory.mktemp("digits"))


@pytest.fixture
def run_of(config: Config, tmp_path: Path) -> Callable[..., RunFolder]:
    """Trains on two clusters, with these settings."""

    def train(*overrides: str) -> RunFolder:
        asked = config(*TOY, *overrides)
        asked = asked.model_copy(update={"run": asked.run.model_copy(update={"root": str(tmp_path / "runs")})})
        return RunFolder(experiment.run(asked, command="a test").folder)

    return train
