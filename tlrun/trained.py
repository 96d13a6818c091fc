"""From the folder of a run, or from its checkpoint alone, back to its selected model; the data need not be there."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tlrun.batch import Examples, Output, Task
from tlrun.build import component_class, typed
from tlrun.config import ConfigError, ExperimentConfig
from tlrun.data.augment.evaluation_views import views_of
from tlrun.data.domain import DomainPair, Part, load_pair
from tlrun.data.split_domain import Role
from tlrun.data.streams import evaluation_batches
from tlrun.data.transforms import Shape, Statistics, to_batch
from tlrun.engine.evaluate import Evaluator
from tlrun.engine.runtime import Precision, Runtime, has_native_bf16
from tlrun.files import RunError, reason_of
from tlrun.models.transfer import build_model
from tlrun.run import RunFolder, load_checkpoint
from tlrun.strategies.base import Strategy

MODEL = "model."
ZIP = b"PK\x03\x04"
"""How a ZIP archive begins."""
FIELDS = ("config", "classes", "sizes", "fingerprint", "inputs", "model", "strategy")
"""What a checkpoint must tell."""
CPU = torch.device("cpu")
ROLES: tuple[Role, ...] = ("source", "target")


@dataclass(frozen=True)
class Trained:
    """A run's selected model in eval mode, and what its checkpoint tells of the rows that it takes.

    shape: (C, H, W) or (D,) of an input. inputs: by domain, plain values, how a row becomes one (`DomainPair.inputs`).
    statistics: what rows of each domain are normalised by, on the device. A run without a source has inputs of the target alone.
    fingerprint: of the data that it was trained on.
    """

    config: ExperimentConfig
    task: Task
    shape: Shape
    inputs: Mapping[Role, Mapping[str, Any]]
    statistics: Mapping[Role, Statistics]
    strategy: Strategy
    runtime: Runtime
    fingerprint: str

    @property
    def evaluator(self) -> Evaluator:
        """What evaluates a part as the run did, in batches of its `eval_batch_size`."""

        def batches(part: Part) -> Iterator[Examples]:
            statistics = self.statistics[part.domain]
            size = self.config.engine.eval_batch_size
            views = self.config.engine.test_time
            return evaluation_batches(part, statistics=statistics, shape=self.shape, batch_size=size, test_time=views)

        return Evaluator(self.strategy, batches, self.runtime)

    def encode(self, part: Part) -> Output:
        """Features (N, D) and logits (N, C) of a part of the pair, in order, as the run evaluated it."""
        return self.evaluator.encode(part)[1]

    def output(self, x: Tensor, domain: Role) -> Output:
        """What the model says of one batch of fitted rows of a domain, uint8 (N, H, W, C) or float32 (N, D), not encoded.

        Works on the model's device, wherever x lies; logits are float32.
        """
        device = self.runtime.device
        rows = x.to(device, non_blocking=True)
        seen = (rows, *views_of(rows, self.config.engine.test_time))
        inputs, *views = (to_batch(each, self.statistics[domain], self.shape) for each in seen)
        index = torch.arange(len(x), device=device)
        return self.evaluator.output(Examples(inputs, None, index, domain, tuple(views)))

    def natively(self) -> Trained:
        """The same in float32 where the device has no hardware for bfloat16: faster there, and no less exact."""
        emulated = self.runtime.precision == "bf16" and not has_native_bf16(self.runtime.device)
        return replace(self, runtime=Runtime(self.runtime.device, "fp32")) if emulated else self

    def in_batches(self, size: int) -> Trained:
        """The same with batches of that size, which decide memory and speed and nothing else."""
        engine = self.config.engine.model_copy(update={"eval_batch_size": size})
        return replace(self, config=self.config.model_copy(update={"engine": engine}))

    def predict(self, x: Tensor, domain: Role) -> Tensor:
        """Class numbers (N,) of any number of such rows, taken in batches of the run's `eval_batch_size`."""
        size = self.config.engine.eval_batch_size
        batches = (x[start : start + size] for start in range(0, len(x), size))
        return torch.cat([self.output(batch, domain).logits.argmax(dim=1) for batch in batches])


def load_trained(place: RunFolder | Path, *, device: torch.device = CPU) -> Trained:
    """The selected model of a finished run: of its folder, or of a checkpoint alone, wherever that lies.

    In the run's precision; the CPU has no fp16 to speak of and takes float32 instead. Random states stay as they are.
    Raises ConfigError where there is no such run, RunError where it is not finished, a file is damaged, or
    another version of tlrun wrote what this one cannot read.
    """
    path, content = _read(place)
    config = _settings(content["config"], path)
    shape = tuple(content["inputs"]["shape"])
    inputs = {role: content["inputs"][role] for role in ROLES if role in content["inputs"]}
    statistics = {
        role: Statistics.of(each["normalized_by_mean"], each["normalized_by_std"], shape, device)
        for role, each in inputs.items()
    }
    statistics = {"source": statistics["target"], **statistics}  # as in a pair of one domain
    task = Task(tuple(content["classes"]), dict(content["sizes"]))
    with torch.random.fork_rng(devices=[]):  # weights are drawn only to be replaced
        model = build_model(config.model, shape=shape, num_classes=task.num_classes)
        kind = component_class("strategy", config.strategy.name)
        strategy = kind(config.strategy, model, task, label_smoothing=config.optim.label_smoothing)
    weights = {MODEL + name: value for name, value in content["model"].items()}
    try:
        strategy.load_state_dict(weights | content["strategy"])
    except RuntimeError as error:  # names or shapes of another version
        raise _foreign(path, "its parameters are not those of the model that its settings describe") from error
    named = config.engine.precision
    precision: Precision = "bf16" if named == "bf16" else "fp16" if named == "fp16" and device.type != "cpu" else "fp32"
    runtime = Runtime(device, precision)
    strategy = strategy.to(device).eval()
    return Trained(config, task, shape, inputs, statistics, strategy, runtime, content["fingerprint"])


def read_config(folder: RunFolder) -> ExperimentConfig:
    """A run's settings, typed. Raises ConfigError where this version knows other ones, RunError as all readers."""
    return typed(_with_run(folder.read_config(), folder.path.parent))


def load_run_pair(folder: RunFolder, config: ExperimentConfig, *, known: DomainPair | None = None) -> DomainPair:
    """The pair that a run was trained on, on the CPU, downloading nothing; known: where it is in memory already.

    Raises ConfigError where data are missing, RunError where they are not those of the run.
    """
    pair = known
    if pair is None:
        data = config.data.model_copy(update={"download": False})
        pair = load_pair(data, seed=config.seed, device=CPU)
    check_same_data(pair, folder.read_data_card().get("fingerprint"), where=str(folder.path))
    return pair


def check_same_data(pair: DomainPair, before: str | None, *, where: str) -> None:
    """Raises RunError where a pair is not the one of a run, whose fingerprint was that."""
    if before != pair.fingerprint:
        seen = f"{str(before)[:12]}, now {pair.fingerprint[:12]}"
        raise RunError(f"{where}: the data found here are not those of the run (fingerprint {seen})")


def _read(place: RunFolder | Path) -> tuple[Path, dict[str, Any]]:
    """The checkpoint behind a run folder or a path, and what it holds. Raises ConfigError and RunError."""
    path = place.path if isinstance(place, RunFolder) else place
    if path.is_dir():
        folder = RunFolder(path)
        _check_finished(folder)
        # Not computed from the settings: a later release may name the same ones otherwise.
        path, digest = folder.best, folder.read_summary().get("digest")
    elif path.is_file():
        if not _is_checkpoint(path):
            raise ConfigError(f"{path} is no checkpoint; give a run folder or a checkpoint")
        digest = None
    else:
        raise ConfigError(f"{path}: no such run folder, and no checkpoint of this name")
    content = load_checkpoint(path, digest=digest)
    if missing := [key for key in FIELDS if key not in content]:
        raise _foreign(path, f"it lacks {', '.join(missing)}")
    return path, content


def _is_checkpoint(path: Path) -> bool:
    """Whether a file is a checkpoint, whole or damaged: a ZIP archive, with torch's table of contents where it has one.

    Raises RunError when it cannot be read.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(ZIP)) != ZIP:
                return False
            with zipfile.ZipFile(file) as archive:
                return any(name.endswith("/data.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return True
    except OSError as error:
        raise RunError(f"cannot read {path}: {reason_of(error)}") from error


def _check_finished(folder: RunFolder) -> None:
    """Raises ConfigError where this is no run folder, RunError where its run has not come to its end."""
    if not folder.status.exists():
        if any(folder.path.glob("*/status.json")):
            raise ConfigError(f"{folder.path} holds run folders and is none itself; name one of them")
        raise ConfigError(f"{folder.path} is no run folder: it has no {folder.status.name}")
    state = folder.state()
    if state != "done":
        kept = f", or name {folder.best} to take its model as it stands" if folder.best.is_file() else ""
        raise RunError(f"{folder.path}: the run is {state}, not done; give its command again to end it{kept}")


def _settings(content: Mapping[str, Any], path: Path) -> ExperimentConfig:
    """The settings in a checkpoint, typed. Raises RunError, in one line, where this version cannot read them."""
    try:
        return typed(_with_run(content, path.parent.parent.parent))
    except ConfigError as error:
        more = f" (and {len(error.problems) - 1} more)" if len(error.problems) > 1 else ""
        raise _foreign(path, f"{error.problems[0]}{more}") from error


def _with_run(content: Mapping[str, Any], root: Path) -> dict[str, Any]:
    # Where a run wrote to decides no number, and its settings may be older than we are.
    own: dict[str, Any] = {"fresh": False, "require": None, "checkpoint_seconds": 60.0, "plots": False, "loggers": []}
    return {**content, "run": {"root": str(root), **own}}


def _foreign(path: Path, why: str) -> RunError:
    return RunError(f"{path} does not fit this installation of tlrun: {why}")
