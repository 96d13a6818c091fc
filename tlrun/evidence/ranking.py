"""What to start from: every candidate model, the labelled target rows in its features, and its transferability scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tlrun.batch import Examples
from tlrun.compose.resolve import name_choices, name_machine, pretrain_config
from tlrun.config import ConfigError, ExperimentConfig
from tlrun.data.domain import DomainPair, Part, load_domain, load_pair
from tlrun.data.splits import row_keys
from tlrun.data.streams import evaluation_batches
from tlrun.data.transforms import Shape, Statistics
from tlrun.engine.encoding import Encoding
from tlrun.engine.evaluate import Evaluator
from tlrun.engine.freezing import set_learning
from tlrun.engine.runtime import Runtime, seed_everything
from tlrun.evaluation import inputs_taken
from tlrun.experiment import build_engine, run
from tlrun.metrics.transferability import SCORES, Score, measure
from tlrun.run import RunFolder
from tlrun.strategies.base import Phase, Strategy
from tlrun.trained import load_trained

LABELLED = "target_granted"


@dataclass(frozen=True)
class Candidate:
    """Something to start from: the start of a run of these settings, as composed, or in its place a run folder's model."""

    name: str
    config: ExperimentConfig
    path: Path | None = None


@dataclass(frozen=True)
class Start:
    """A model in eval mode, and the target alone as it takes it; what `Encoding` asks for.

    origin: where the weights are from, in words. no_head: why its class probabilities mean nothing, None where they do.
    notes: what a reader of its scores should know. train_seconds: what its source model took, None where there is none;
    trained_now: whether that was trained just now.
    """

    name: str
    config: ExperimentConfig
    strategy: Strategy
    pair: DomainPair
    runtime: Runtime
    origin: str
    no_head: str | None = None
    notes: tuple[str, ...] = ()
    train_seconds: float | None = None
    trained_now: bool = False


@dataclass(frozen=True)
class Rows:
    """Labelled target rows behind a model: features (N, D), y (N,), probabilities (N, Z) of source classes or None.

    seconds: what encoding them took, next to nothing where they were kept.
    """

    features: NDArray[np.float64]
    y: NDArray[np.int64]
    probabilities: NDArray[np.float64] | None
    seconds: float


@dataclass(frozen=True)
class Scored:
    """What is known of one candidate: its model, the rows that the scores read, and every one of SCORES."""

    start: Start
    rows: Rows
    scores: dict[str, Score]


def resolved(config: ExperimentConfig) -> tuple[ExperimentConfig, torch.device]:
    """The config with everything named, its grant of target labels as it was asked for, and the device."""
    named, device = name_machine(name_choices(config))
    # A strategy that reads no target label has its grant taken back; the scores may read what was granted.
    data = named.data.model_copy(update={"target_labels": config.data.target_labels})
    return named.model_copy(update={"data": data}), device


def is_trained(candidate: Candidate) -> bool:
    """Whether nothing is left to be trained before a candidate can be scored."""
    if candidate.path is not None:
        return True
    config, _ = resolved(candidate.config)
    return config.model.weights != "source" or RunFolder.of(pretrain_config(config)).state() == "done"


def check_labels(candidate: Candidate, *, most: int) -> None:
    """Raises ConfigError, before anything is trained, where the target's labelled rows do not do for the scores."""
    config, device = resolved(candidate.config)
    target, granted = config.data.target.called, f"data.target_labels={config.data.target_labels}"
    try:
        y = _some(_target_alone(config, device, {}).parts[LABELLED], most).y
    except ConfigError as error:
        if (load_domain(config.data, "target").train.y >= 0).any():
            raise
        raise ConfigError(
            f"rank: no train row of {target} has a label that {granted} could grant, and every score reads such; label "
            "rows of two classes or more (domain csv: column label; folder: a folder for each class); "
            "without labels, tlrun distance compares source and target"
        ) from error
    assert y is not None
    counts = np.bincount(y.cpu().numpy())
    if (counts > 0).sum() < 2:
        raise ConfigError(f"rank: the labelled rows of {target} ({granted}) are all of one class; scores need two")
    if (counts > 1).sum() < 2:
        raise ConfigError(
            f"rank: the labelled rows of {target} ({granted}) are too few: the k-NN probe leaves one out, and needs two "
            "rows in each of two classes; grant 2 per class or more"
        )


def find_start(candidate: Candidate, *, command: str, tell: Callable[[str], None]) -> Start:
    """The candidate's model: of its run folder, of its source model, trained now where it is not there, or as published.

    tell: hears of it before a training begins. Raises ConfigError and RunError, as a run does.
    """
    config, device = resolved(candidate.config)
    if candidate.path is not None:
        return _of_run(candidate.name, candidate.path, config, device)
    if config.model.weights != "source":
        return _of_weights(candidate.name, config, device)
    inner = pretrain_config(config)
    folder = RunFolder.of(inner)
    if folder.state() != "done":
        tell(f"{candidate.name}: training its source model {folder.path}")
    outcome = run(inner, command=command, is_source=True)
    assert config.data.source is not None
    return replace(
        _of_run(candidate.name, outcome.folder, config, device),
        origin=f"{config.model.name} trained on {config.data.source.called}",
        train_seconds=outcome.summary["seconds"],
        trained_now=outcome.state == "done",
    )


def encode(start: Start, *, most: int, between_blocks: Callable[[str, int, int], None]) -> Rows:
    """The labelled target rows, at most so many by a hash of their numbers, in the features that the head receives.

    From the cache of encoded rows where they are kept there. between_blocks: as in `Encoding`. Raises ConfigError where
    features are not finite.
    """
    began = time.perf_counter()
    part = _some(start.pair.parts[LABELLED], most)
    model = start.strategy.model
    # Random weights above loaded ones tell nothing of these: features are those below a bottleneck that is new.
    above = ["head"] if "bottleneck" in model.pretrained or not model.has_bottleneck else ["bottleneck", "head"]
    learning = {f"model.{stage}.{name}" for stage in above for name, _ in model.stage(stage).named_parameters()}
    set_learning(start.strategy, learning)
    encoder = replace(start, pair=replace(start.pair, parts={LABELLED: part}))
    phase = Phase("rank", encode_once=True)
    encoded = Encoding(encoder, between_blocks=between_blocks).encode(phase, training=(), evaluated=(LABELLED,))
    part = encoded.parts[LABELLED]
    features = part.x.tensor().flatten(1).double().cpu().numpy()
    if not np.isfinite(features).all():
        raise ConfigError(f"rank: the features of {start.name} are not finite, so no score can be told")
    assert part.y is not None
    probabilities = None if start.no_head else _probabilities(start, part)
    return Rows(features, part.y.cpu().numpy(), probabilities, time.perf_counter() - began)


def score(start: Start, *, most: int, between_blocks: Callable[[str, int, int], None]) -> Scored:
    """Every score of one candidate, of rows encoded as `encode` does."""
    rows = encode(start, most=most, between_blocks=between_blocks)
    return Scored(start, rows, measure(rows.features, rows.y, rows.probabilities))


def places(values: Mapping[str, float | None]) -> dict[str, int | None]:
    """Each one's place among those that have a value, the largest first; equal values share the better place."""
    known = [value for value in values.values() if value is not None]
    return {
        name: None if value is None else 1 + sum(each > value for each in known) for name, value in values.items()
    }  # fmt: skip


def ordered(values: Mapping[str, float | None]) -> list[str]:
    """The names by falling value, those without one last, equal ones as they were given."""

    def key(name: str) -> float:
        value = values[name]
        return np.inf if value is None else -value

    return sorted(values, key=key)


def firsts(scores: Mapping[str, Mapping[str, Score]]) -> dict[str, list[str]]:
    """For each score that any candidate has: who is first by it. scores: of every candidate."""
    found = {}
    for name in SCORES:
        place = places({candidate: each[name].value for candidate, each in scores.items()})
        if best := [candidate for candidate, at in place.items() if at == 1]:
            found[name] = best
    return found


def _of_run(name: str, path: Path, config: ExperimentConfig, device: torch.device) -> Start:
    """A run's selected model, and target rows brought to the inputs that it was trained on."""
    trained = load_trained(path, device=device).natively()
    pair = _target_alone(config, device, inputs_taken(trained))
    own, strategy = trained.config.data, trained.config.strategy
    learnt = strategy.needs.target != "unused" and own.target_labels != "none"
    notes = [f"{name} has learnt from labels of {own.target.called} itself ({own.target_labels}), which flatters it"]
    model = trained.strategy.model
    model.pretrained |= set(model.stage_names)
    return Start(
        name=name,
        config=trained.config.model_copy(update={"data": config.data}),
        strategy=trained.strategy,
        pair=_taken(pair, trained.shape, trained.statistics["target"], f"rank: {name}"),
        runtime=trained.runtime,
        origin=f"{trained.config.model.name} by {strategy.name} on {own.name}",
        notes=tuple(notes if learnt and own.target.called == config.data.target.called else ()),
    )


def _of_weights(name: str, config: ExperimentConfig, device: torch.device) -> Start:
    """The model that a run of these settings starts from, as the run itself builds it."""
    whole = load_pair(config.data, seed=config.seed, device=device)
    seed_everything(config.seed)
    engine = build_engine(config, whole, RunFolder.of(config), device, source=None)
    pair = _target_alone(config, device, {} if len(whole.shape) == 1 else {"channels": whole.shape[0]})
    is_random = config.model.weights == "random"
    origin = f"random weights, seed {config.seed}" if is_random else engine.weights.origin
    return Start(
        name=name,
        config=config,
        strategy=engine.strategy,
        pair=_taken(pair, whole.shape, whole.statistics["target"], f"rank: {name}"),
        runtime=engine.runtime,
        origin=f"{config.model.name}, {origin}",
        no_head=None if "head" in engine.strategy.model.pretrained else f"{origin}: no trained head",
    )


def _target_alone(config: ExperimentConfig, device: torch.device, inputs: Mapping[str, object]) -> DomainPair:
    """The target without a source, in its own classes, so that the same rows are labelled for every candidate.

    inputs: settings of data that decide what rows become.
    """
    alone = {"source": None, "source_rows": None, "source_label_noise": 0.0, "label_sets": "closed"}
    own_figures = {"normalize": "per_domain", "mean": None, "std": None}
    data = config.data.model_copy(update={**inputs, **alone, **own_figures})
    return load_pair(data, seed=config.seed, device=device)


def _taken(pair: DomainPair, shape: Shape, statistics: Statistics, where: str) -> DomainPair:
    """The target's rows normalised as a model takes them. Raises ConfigError where it takes no such rows."""
    if pair.shape != shape:
        takes, has = ("x".join(map(str, each)) for each in (shape, pair.shape))
        raise ConfigError(f"{where}: takes rows of {takes}, and those of {pair.card['target']['name']} are {has}")
    return replace(pair, statistics={"source": statistics, "target": statistics})


def _some(part: Part, most: int) -> Part:
    if len(part) <= most:
        return part
    order = np.argsort(row_keys(np.arange(len(part)), "rank"), kind="stable")[:most]
    return part.take(torch.from_numpy(np.sort(order)))


def _probabilities(start: Start, part: Part) -> NDArray[np.float64]:
    """Source class probabilities (N, Z) of encoded rows."""
    statistics, size = start.pair.statistics["target"], start.config.engine.eval_batch_size

    def batches(part: Part) -> Iterator[Examples]:
        return evaluation_batches(part, statistics=statistics, shape=start.pair.shape, batch_size=size)

    logits = Evaluator(start.strategy, batches, start.runtime).encode(part)[1].logits
    probabilities: NDArray[np.float64] = logits.double().softmax(dim=1).cpu().numpy()
    return probabilities
