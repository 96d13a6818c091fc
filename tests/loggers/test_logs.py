"""The logs of a run hold what metrics.csv holds, each epoch once, however the run went."""

from __future__ import annotations

import importlib.util
import logging
import math
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.engine.children import Child, die_at_write
from tests.engine.runs import SAVING, TOY, rows
from tests.loggers.readers import READERS
from tlrun import experiment
from tlrun.cli import main
from tlrun.compose.resolve import check, name_choices, name_machine
from tlrun.config import ExperimentConfig
from tlrun.experiment import run
from tlrun.loggers import logs
from tlrun.loggers.base import PACKAGES, Logger, figures, not_installed
from tlrun.loggers.mlflow import without_password
from tlrun.run import RunError, RunFolder, digest

Describe = Callable[..., ExperimentConfig]
Train = Callable[..., RunFolder]

MMD = (*TOY, "strategy=mmd")


def installed(name: str) -> Any:
    """The logger as a parameter, skipped where its package is not there."""
    missing = importlib.util.find_spec(PACKAGES[name]) is None  # type: ignore[index]
    return pytest.param(name, marks=[pytest.mark.skipif(missing, reason=f"needs the extra {name}"),
                                     *([pytest.mark.slow] if name != "tensorboard" else [])])  # fmt: skip


each_logger = pytest.mark.parametrize("name", [installed(name) for name in PACKAGES])
# What the tools warn of on their own account is none of ours.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


class Memory:
    """A logger that remembers what it is told, and fails when it is asked to."""

    told: ClassVar[list[tuple[str, Any]]] = []
    fails_at: ClassVar[str | int] = ""

    def start(self, folder: RunFolder, config: ExperimentConfig, known: Any) -> dict[str, Any]:
        self._tell("start", dict(known))
        return {"where": "memory"}

    def epoch(self, row: Any) -> None:
        self._tell("epoch", row["epoch"])

    def end(self, summary: Any) -> None:
        self._tell("end", summary and summary["status"])

    def _tell(self, what: str, value: Any) -> None:
        self.told.append((what, value))
        if self.fails_at in (what, value):
            raise ValueError("no space\nleft")


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> type[Memory]:
    """Stands for TensorBoard."""
    module = importlib.import_module("tlrun.loggers.tensorboard")
    monkeypatch.setattr(module, "TensorBoardLogger", Memory)
    monkeypatch.setattr(Memory, "told", [])
    monkeypatch.setattr(Memory, "fails_at", "")
    return Memory


def assert_logged(name: str, folder: RunFolder) -> None:
    """Every figure of metrics.csv is in the log, once, at its epoch; and the summary's."""
    found = READERS[name](folder)
    expected: dict[str, list[tuple[int, float]]] = {}
    for row in rows(folder):
        for column, value in figures(row).items():
            expected.setdefault(column, []).append((row["epoch"], value))
    exact = {key: values for key, values in found.items() if not key.startswith("summary/")}
    assert exact.keys() == expected.keys()
    for key, values in expected.items():  # TensorBoard keeps single precision
        assert [epoch for epoch, _ in exact[key]] == [epoch for epoch, _ in values], key
        assert [value for _, value in exact[key]] == pytest.approx([value for _, value in values], rel=1e-6), key
    accuracy = folder.read_summary()["target_test_accuracy"]
    assert [value for _, value in found["summary/target_test_accuracy"]] == pytest.approx([accuracy])
    assert folder.read_loggers()[name]["complete"] is True


@pytest.mark.slow
@each_logger
def test_a_run_killed_between_two_epochs_has_each_epoch_once_in_its_log(
    name: str, described: Describe, tmp_path: Path, children: None
) -> None:
    config = described(*MMD, *SAVING, f"run.loggers=[{name}]")
    child = Child(config, partial(die_at_write, 6, "before", "last.pt"))  # after the row of epoch 1, within epoch 2
    assert child.end()[0] == -signal.SIGKILL
    folder = RunFolder(run(config, command="again").folder)
    assert "resumed after" in folder.log.read_text()
    assert_logged(name, folder)


@pytest.mark.slow
@each_logger
def test_a_finished_run_is_logged_from_its_files_when_it_is_asked_for_later(
    name: str, described: Describe, train: Train
) -> None:
    before = train(*MMD).metrics.read_text()
    folder = train(*MMD, f"run.loggers=[{name}]")
    assert folder.metrics.read_text() == before
    assert_logged(name, folder)
    written = folder.loggers.stat().st_mtime_ns
    train(*MMD, f"run.loggers=[{name}]")
    assert folder.loggers.stat().st_mtime_ns == written


@pytest.mark.slow
def test_logs_change_neither_a_runs_name_nor_its_numbers(
    train: Train, described: Describe, memory: type[Memory]
) -> None:
    plain = train(*MMD, root="plain")
    logged = train(*MMD, "run.loggers=[tensorboard]")
    assert plain.path.name == logged.path.name
    assert [row | {"seconds": 0, "images_per_second": 0} for row in map(_comparable, rows(plain))] == [
        row | {"seconds": 0, "images_per_second": 0} for row in map(_comparable, rows(logged))
    ]
    assert memory.told == [("start", {}), *(("epoch", number) for number in (1, 2, 3)), ("end", "done")]


def _comparable(row: dict[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}


def test_a_logger_that_fails_on_the_way_costs_no_run_and_is_made_whole_by_the_same_command(
    train: Train, memory: type[Memory], caplog: pytest.LogCaptureFixture
) -> None:
    memory.fails_at = 2
    settings = (*MMD, "run.loggers=[tensorboard]")
    folder = train(*settings)
    said = (
        "run.loggers: tensorboard failed and gets no more of this run (ValueError: no space); the run goes on, its "
        "folder has everything, and the same command given again completes the log"
    )
    assert [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING] == [said]
    assert said in folder.log.read_text()
    assert folder.state() == "done"
    assert memory.told[-1] == ("epoch", 2)
    assert folder.read_loggers() == {"tensorboard": {"where": "memory", "complete": False}}
    memory.fails_at, memory.told[:] = "", []
    train(*settings)
    known = {"where": "memory", "complete": False}
    assert memory.told == [("start", known), *(("epoch", number) for number in (1, 2, 3)), ("end", "done")]
    assert folder.read_loggers()["tensorboard"]["complete"] is True


def test_a_logger_that_cannot_start_stops_the_run_before_its_first_step(train: Train, memory: type[Memory]) -> None:
    memory.fails_at = "start"
    with pytest.raises(RunError) as error:
        train(*MMD, "run.loggers=[tensorboard]")
    assert str(error.value) == (
        "run.loggers: tensorboard cannot log this run (ValueError: no space); mend that, or leave tensorboard out"
    )


def test_a_run_that_is_stopped_closes_its_log(
    described: Describe, memory: type[Memory], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(described(*MMD, "run.loggers=[tensorboard]"), command="a test")
    assert memory.told[-1] == ("end", None)


def test_a_package_that_is_missing_is_told_with_its_extra_before_anything_runs(
    described: Describe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(PACKAGES, "wandb", "no_such_package")
    line = "run.loggers: wandb is not installed; install it with: pip install 'tlrun[wandb]'"
    assert not_installed(["wandb"]) == [line]
    assert line in check(described(*MMD, "run.loggers=[wandb]"))
    assert main([*MMD, "run.loggers=[wandb]"]) == 2
    assert capsys.readouterr().err == f"{line}\n"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("[tb]", "run.loggers.0: must be one of tensorboard, mlflow, wandb, got 'tb'\n"),
        ("wandb", "run.loggers: must be a list, got 'wandb'\n"),
        ("[tensorboard,tensorboard]", "run.loggers: names tensorboard twice\n"),
    ],
)
def test_a_wrong_list_of_loggers_is_refused(given: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*MMD, f"run.loggers={given}"]) == 2
    assert capsys.readouterr().err == told


def test_loggers_are_no_part_of_a_runs_digest(described: Describe) -> None:
    configs = [name_machine(name_choices(described(*MMD, *more)))[0] for more in ((), ("run.loggers=[mlflow]",))]
    assert digest(configs[0]) == digest(configs[1])


def test_figures_are_the_finite_numbers() -> None:
    values = {"epoch": 1, "loss": 0.5, "phase": "train", "blank": None, "nan": math.nan, "far": math.inf, "yes": True}
    assert figures(values) == {"epoch": 1.0, "loss": 0.5}


def test_the_address_of_a_store_is_kept_without_its_password() -> None:
    assert without_password("https://me:secret@host:5000/a@b") == "https://host:5000/a@b"
    assert without_password("sqlite:////tmp/a@b/mlflow.db") == "sqlite:////tmp/a@b/mlflow.db"


def test_every_logger_has_its_class_and_its_package() -> None:
    assert logs.CLASSES.keys() == PACKAGES.keys()
    for name, called in logs.CLASSES.items():
        logger: Logger = getattr(importlib.import_module(f"tlrun.loggers.{name}"), called)()
        assert callable(logger.start)
