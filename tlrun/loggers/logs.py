"""The logs of one run: opened before its first step, told each epoch, closed at its end, however it ends."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from tlrun.config import ExperimentConfig, LoggerName
from tlrun.files import RunError
from tlrun.loggers.base import Logger
from tlrun.run import RunFolder

log = logging.getLogger(__name__)

CLASSES: dict[LoggerName, str] = {
    "tensorboard": "TensorBoardLogger",
    "mlflow": "MlflowLogger",
    "wandb": "WandbLogger",
}
"""Logger -> its class, in the module of its name."""


class Logs:
    """The open logs of a run. A log that fails on the way is left behind with a warning, as it costs no run.

    What is missing in it is not lost: the rows lie in the run folder, loggers.json says that the log is not whole, and
    the same command writes it again, after the run too.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.loggers: dict[str, Logger] = {}
        self.known: dict[str, dict[str, Any]] = folder.read_loggers()

    def start(self, names: Iterable[LoggerName], config: ExperimentConfig, rows: Iterable[Mapping[str, Any]]) -> None:
        """Opens these logs with the history so far in them. Raises RunError where one cannot be, as nothing is lost yet."""
        for name in names:
            module = importlib.import_module(f"tlrun.loggers.{name}")
            logger: Logger = getattr(module, CLASSES[name])()
            try:
                named = logger.start(self.folder, config, self.known.get(name, {}))
                self._note(name, {**named, "complete": False})
                for row in rows:
                    logger.epoch(row)
            except RunError:
                raise
            except Exception as error:
                raise RunError(
                    f"run.loggers: {name} cannot log this run ({_told(error)}); mend that, or leave {name} out"
                ) from error
            self.loggers[name] = logger

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Tells every log a new row of metrics.csv."""
        for name, logger in list(self.loggers.items()):
            self._attempt(name, partial(logger.epoch, row))

    def end(self, summary: Mapping[str, Any] | None) -> None:
        """Closes the logs: as those of a finished run, or without a summary as those of one that stopped on its way."""
        for name, logger in list(self.loggers.items()):
            if self._attempt(name, partial(logger.end, summary)) and summary is not None:
                self._note(name, {**self.known[name], "complete": True})
        self.loggers.clear()

    def _attempt(self, name: str, action: Callable[[], None]) -> bool:
        try:
            action()
        except Exception as error:  # whatever a tool raises
            del self.loggers[name]
            log.warning(
                "run.loggers: %s failed and gets no more of this run (%s); the run goes on, its folder has everything, "
                "and the same command given again completes the log",
                *(name, _told(error)),
            )
            return False
        return True

    def _note(self, name: str, named: dict[str, Any]) -> None:
        self.known[name] = named
        self.folder.write_loggers(self.known)


@contextmanager
def open_logs(config: ExperimentConfig, folder: RunFolder, rows: Iterable[Mapping[str, Any]]) -> Iterator[Logs]:
    """The logs that `run.loggers` asks for, holding `rows`; whichever are still open at the end are closed as stopped."""
    logs = Logs(folder)
    try:
        logs.start(config.run.loggers, config, rows)
        yield logs
    finally:
        logs.end(None)


def complete_logs(config: ExperimentConfig, folder: RunFolder) -> None:
    """Writes from a finished run's files whichever logs are asked for and not whole."""
    known = folder.read_loggers() if config.run.loggers else {}
    missing = tuple(name for name in config.run.loggers if not known.get(name, {}).get("complete"))
    if missing:
        rows = folder.read_metrics().to_dict("records")
        asked = config.model_copy(update={"run": config.run.model_copy(update={"loggers": missing})})
        with open_logs(asked, folder, [{str(name): value for name, value in row.items()} for row in rows]) as logs:
            logs.end(folder.read_summary())
        log.info("logged by %s", ", ".join(missing))


def _told(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
