"""One run from its config to its folder: config, data, model, strategy, engine, summary, in this order. Read this first."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from tlrun.build import component_class
from tlrun.compose.inputs import departures, run_card
from tlrun.compose.requirement import check_answerable, parse_requirement
from tlrun.compose.resolve import name_choices, name_machine, pretrain_config
from tlrun.config import ExperimentConfig
from tlrun.data.augment.augmentation import check_augmentation
from tlrun.data.domain import DomainPair, found_fingerprints, load_pair
from tlrun.engine.engine import Engine
from tlrun.engine.evaluate import labelled_rows
from tlrun.engine.outcome import finish
from tlrun.engine.runtime import Precision, Runtime, seed_everything
from tlrun.files import Damaged, RunError
from tlrun.loggers.logs import complete_logs, open_logs
from tlrun.models.transfer import build_model
from tlrun.models.zoo import load_weights
from tlrun.run import RunFolder, environment

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What came of a run: its folder, its summary, its selection score, and how `run.require` was missed if it was."""

    folder: Path
    summary: dict[str, Any]
    state: Literal["done", "already done"]
    unmet: str | None

    @property
    def score(self) -> float | None:
        """The score by which the selection rule chose: what a sweeper may see."""
        score: float | None = self.summary["select_score"]
        return score


def run(config: ExperimentConfig, *, command: str, is_source: bool = False) -> Outcome:
    """Trains what the config describes, goes on where an earlier start was cut off, or finds it done.

    is_source: whether another run starts from it, which waits where a third process is training it, and passes no fresh
    start on to it. Raises ConfigError for what the user can mend, RunError for what stopped the run, KeyboardInterrupt
    after a signal; the folder's status says which it was. A run that is refused before its first step leaves no folder,
    or the one there was as it was.
    """
    config, device = name_machine(name_choices(config))
    folder = RunFolder.of(config)
    way = "remove the folder, and it is trained again" if is_source else "run.fresh=true starts over"
    with folder.lock(wait=is_source), _advising(folder, way):
        if not config.run.fresh and folder.state() == "done":
            _check_unchanged(config, folder)
            if config.run.plots and not folder.plots.is_dir():  # asked for only now
                _draw(folder)
            complete_logs(config, folder)
            return _outcome(config, folder, "already done")
        with folder.opening(fresh=config.run.fresh) as ready, folder.logging(), _status(folder), _advising(folder, way):
            folder.write_config(config)
            folder.write_command(command)
            _train(config, folder, device, command, ready)
    gc.collect()  # engine and checkpoints refer to each other; in a sweep the next run needs the memory of the arrays
    return _outcome(config, folder, "done")


def _check_unchanged(config: ExperimentConfig, folder: RunFolder) -> None:
    """Raises RunError where a finished run was made from other files than there are now, so that it is not this one."""
    found = found_fingerprints(config.data)
    card = folder.read_data_card() if found else {}
    for role, now in found.items():
        before = (card.get(role) or {}).get("fingerprint")
        if before != now:
            seen = f"fingerprint {str(before)[:12]}, now {now[:12]}"
            why = f"is of other files of data.{role} than are there now ({seen}); put them back to use it"
            raise Damaged(folder.path, why)


def _train(
    config: ExperimentConfig, folder: RunFolder, device: torch.device, command: str, ready: Callable[[], None]
) -> None:
    pair = load_pair(config.data, seed=config.seed, device=device)
    if config.model.weights == "source":  # what does not fit is told before a source model is trained
        check_augmentation(config.augment, pair)
        build_engine(untrained(config), pair, folder, device, source=None)
    source = _source_model(config, command)
    # Only now, so that a source model trained just now and one found ready lead to the same draws.
    seed_everything(config.seed)
    engine = build_engine(config, pair, folder, device, source=source.folder if source else None)
    threads = torch.get_num_threads()
    ready()
    # First of all, so that a run which other data or weights would change is refused with its files as they were.
    engine.checkpoints.resume()
    folder.write_data_card(run_card(config, pair.card))
    for sentence in departures(config):
        log.info("images: %s", sentence)
    start, device_name = engine.weights, engine.runtime.describe()
    folder.write_environment(
        environment(command=command, device=device_name, threads=threads, weights=start.sha256, origin=start.origin)
    )
    with open_logs(config, folder, engine.state.rows) as logs:
        engine.follow = logs.epoch
        engine.fit()
        logs.end(finish(engine, pretrain_seconds=source.summary["seconds"] if source else None))
    if config.run.plots:
        _draw(folder)


def _draw(folder: RunFolder) -> None:
    """Pictures of a finished run, from its files. They cost no run: one that fails is a warning."""
    try:
        from tlrun.report import confusion, curves

        curves.write_run(folder)
        confusion.write_run(folder)
    except Exception as error:
        log.warning("no pictures in %s: %s: %s", folder.plots, type(error).__name__, error)


def build_engine(
    config: ExperimentConfig, pair: DomainPair, folder: RunFolder, device: torch.device, *, source: Path | None
) -> Engine:
    """Model, weights, strategy and engine, ready for the first step. source: what `model.weights=source` stands for."""
    check_answerable(config.run.require, labelled_rows(pair.parts))
    model = build_model(config.model, shape=pair.shape, num_classes=pair.task.num_classes)
    weights = load_weights(model, config.model, classes=pair.task.classes, source=source)
    kind = component_class("strategy", config.strategy.name)
    strategy = kind(config.strategy, model, pair.task, label_smoothing=config.optim.label_smoothing).to(device)
    precision: Precision = config.engine.precision  # type: ignore[assignment]  # name_machine has named it
    return Engine(config, strategy, pair, folder, Runtime(device, precision), weights=weights)


def untrained(config: ExperimentConfig) -> ExperimentConfig:
    """The same run from random weights: to be built where its source model need not be there yet."""
    return config.model_copy(update={"model": config.model.model_copy(update={"weights": "random", "head": "auto"})})


def _source_model(config: ExperimentConfig, command: str) -> Outcome | None:
    """The run that `model.weights=source` stands for: found done, gone on with, or trained now."""
    if config.model.weights != "source":
        return None
    inner = pretrain_config(config)
    log.info("weights: the source model %s", RunFolder.of(inner).path.name)
    source = run(inner, command=command, is_source=True)
    if not RunFolder(source.folder).best.is_file():
        raise RunError(
            f"{source.folder}: the source model is done, but its checkpoints/best.pt is gone; put it back, or remove the "
            "folder, and it is trained again"
        )
    return source


def _outcome(config: ExperimentConfig, folder: RunFolder, state: Literal["done", "already done"]) -> Outcome:
    summary = folder.read_summary()
    unmet = parse_requirement(config.run.require).check(summary) if config.run.require else None
    return Outcome(folder.path, summary, state, unmet)


@contextmanager
def _advising(folder: RunFolder, way: str) -> Iterator[None]:
    """Says of a file of the run that is of no use how the run can start over, which only who starts it knows."""
    try:
        yield
    except Damaged as error:
        if not error.path.is_relative_to(folder.path):
            raise
        raise RunError(f"{error}; {way}") from error


@contextmanager
def _status(folder: RunFolder) -> Iterator[None]:
    """Keeps status.json true, whatever happens within."""
    folder.write_status("running")
    try:
        yield
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        # A folder that cannot be written is the error already on its way.
        with suppress(RunError):
            folder.write_status("interrupted" if interrupted else "failed", str(error) or type(error).__name__)
        raise
    folder.write_status("done")
