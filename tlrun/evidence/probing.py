"""What can be known of a pair before anything is trained: sizes, distances, probes, and how long a run would take here.

Nothing here reads a withheld label of the target.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tlrun.compose.resolve import for_machine, name_choices, name_machine, pretrain_config
from tlrun.config import ExperimentConfig
from tlrun.data.augment.augmentation import check_augmentation
from tlrun.data.domain import DomainPair, Part
from tlrun.engine.pace import Pace, pace
from tlrun.engine.runtime import seed_everything
from tlrun.evidence import spaces
from tlrun.evidence.findings import Findings, SpaceFound, Start
from tlrun.experiment import build_engine, untrained
from tlrun.metrics.distance import mmd_test, proxy_a_distance
from tlrun.metrics.probes import FOLDS, Probes, probe
from tlrun.models.transfer import build_model
from tlrun.run import RunFolder

LEAST_ROWS = 10
"""Fewer rows of a domain give no distance."""
PATIENCE = 10.0
"""Seconds for the steps of one phase: a large network on a CPU is timed by a step or two."""


def start_of(config: ExperimentConfig) -> Start:
    """Where a strategy that starts from a trained model would take its weights from."""
    weights = config.model.weights
    if weights == "auto":
        if config.model.has_imagenet_weights:
            return "imagenet"
        return "nowhere" if config.data.source is None else "source"
    named: dict[str, Start] = {"imagenet": "imagenet", "source": "source", "random": "random"}
    return named.get(weights, "given")


def named_for_probing(config: ExperimentConfig) -> tuple[ExperimentConfig, torch.device]:
    """The settings under which rows are read and encoded, and the device; grants are those asked for.

    The weights are those that a trained start would have, and random ones where these are still to be trained. Raises
    ConfigError.
    """
    weights = {"nowhere": "random", "given": config.model.weights}.get(start_of(config), start_of(config))
    config = config.model_copy(update={"model": config.model.model_copy(update={"weights": weights})})
    named, device = name_machine(name_choices(config))
    if weights == "source" and not _is_trained(named):
        named = untrained(named)
    # A strategy that reads no target label has its grant taken back; the probes may read what was granted.
    return named.model_copy(
        update={"data": named.data.model_copy(update={"target_labels": config.data.target_labels})}
    ), device


def find(config: ExperimentConfig, pair: DomainPair, device: torch.device, *, start: Start, rows: int) -> Findings:
    """All that is to be known of the pair. config: of `named_for_probing`; rows: so many of each domain at the most."""
    parts = pair.parts
    model = build_model(config.model, shape=pair.shape, num_classes=pair.task.num_classes)
    found, probes = _spaces(config, pair, device, rows=rows)
    source, granted = _counts(parts["source_train"], pair), _counts(parts["target_granted"], pair)
    exact = config.data.target_labels == "all"
    shares = probes.shares_moved if probes else None
    if exact and source.sum() and granted.sum():
        shares = float(np.abs(source / source.sum() - granted / granted.sum()).sum() / 2)
    counts = granted if exact else source
    tested = parts["target_test"].y
    return Findings(
        classes=pair.task.num_classes,
        source_rows=len(parts["source_train"]),
        target_rows=len(parts["target_unlabelled"]),
        granted=len(parts["target_granted"]),
        test_labels=0 if tested is None else int((tested >= 0).sum()),
        transductive=config.data.is_transductive,
        start=start,
        stages=len(model.learning_stages),
        has_batch_norm=any(isinstance(each, nn.modules.batchnorm._BatchNorm) for each in model.modules()),
        has_bottleneck=model.has_bottleneck,
        epochs=config.engine.epochs,
        imbalance=float(counts.max() / counts[counts > 0].min()) if counts.sum() else None,
        shares_moved=shares,
        shares_exact=exact and bool(source.sum()),
        spaces=found,
    )


def run_pace(config: ExperimentConfig, pair: DomainPair) -> tuple[Pace, Pace | None]:
    """How long the run of these settings would take, and the source model's run that it waits for, if it is to be trained.

    Weights of a trained start do not change the time of a step, so random ones stand for a source model. Raises
    ConfigError where the run could not be built.
    """
    config, device = name_machine(name_choices(config))
    source = None
    if config.model.weights == "source":
        if not _is_trained(config):
            source = _pace(pretrain_config(config), pair, device)
        config = untrained(config)
    return _pace(config, pair, device), source


def _is_trained(config: ExperimentConfig) -> bool:
    """Whether the source model of a run is there."""
    return RunFolder.of(pretrain_config(config)).state() == "done"


def _pace(config: ExperimentConfig, pair: DomainPair, device: torch.device) -> Pace:
    check_augmentation(config.augment, pair)
    folder = RunFolder.of(config)  # nothing is written there
    with _scratch_cache() as cache:
        engine_settings = config.engine.model_copy(update={"sampling": "shuffled"})  # of a few rows classes are missing
        data = config.data.model_copy(update={"cache_root": str(cache)})
        config = config.model_copy(update={"engine": engine_settings, "data": data})
        seed_everything(config.seed)
        return pace(build_engine(config, pair, folder, device, source=None), patience=PATIENCE)


@contextmanager
def _scratch_cache() -> Iterator[Path]:
    """A cache for rows that are encoded to be timed alone."""
    with tempfile.TemporaryDirectory(prefix="tlrun-") as folder:
        yield Path(folder)


def _spaces(
    config: ExperimentConfig, pair: DomainPair, device: torch.device, *, rows: int
) -> tuple[tuple[SpaceFound, ...], Probes | None]:
    """Distances and probes of raw inputs, then of features where trained weights are there; the probes of the last."""
    if min(rows, len(pair.parts["source_train"]), len(pair.parts["target_unlabelled"])) < LEAST_ROWS:
        return (), None
    parts = spaces.choose_parts(pair, "train", rows=rows, with_labels=False)
    measured = [spaces.raw_inputs(pair, parts)]
    if config.model.weights != "random":
        measured.append(spaces.start(config, pair, parts, device))
    probes = [_probes(space) for space in measured]
    return tuple(_found(space, each) for space, each in zip(measured, probes, strict=True)), probes[-1]


def _probes(space: spaces.Space) -> Probes | None:
    """What probes say in a space; None where the source's rows are of one class."""
    y, granted = space.source.y, space.granted
    if y is None or len(np.unique(y)) < 2 or len(y) < FOLDS:
        return None
    labelled = None if granted is None or granted.y is None else (granted.x, granted.y)
    return probe((space.source.x, y), space.target.x, labelled)


def _found(space: spaces.Space, probes: Probes | None) -> SpaceFound:
    return SpaceFound(
        name=space.name,
        mmd=mmd_test(space.source.x, space.target.x, permutations=0)[0],
        a_distance=proxy_a_distance(space.source.x, space.target.x, classifier="linear"),
        source_accuracy=probes.source_accuracy if probes else None,
        target_accuracy=probes.target_accuracy if probes else None,
        granted_accuracy=probes.granted_accuracy if probes else None,
        source_agreement=probes.source_agreement if probes else None,
        target_agreement=probes.target_agreement if probes else None,
    )


def _counts(part: Part, pair: DomainPair) -> NDArray[np.int64]:
    """Rows of each class of a training part with labels, (C,)."""
    y = np.array([], dtype=np.int64) if part.y is None else part.y.cpu().numpy()
    counts: NDArray[np.int64] = np.bincount(y[y >= 0], minlength=pair.task.num_classes)
    return counts


def finished(config: ExperimentConfig) -> Path | None:
    """The folder of the run of these settings, where it is done."""
    folder = RunFolder.of(for_machine(name_choices(config)))
    return folder.path if folder.state() == "done" else None
