"""From the folder of a finished run back to its data and its selected model, by the code that the run itself used."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tlrun.batch import Examples, Output
from tlrun.build import component_class, typed
from tlrun.config import ExperimentConfig
from tlrun.data.domain import DomainPair, Part, load_pair
from tlrun.data.rows import Held
from tlrun.data.streams import evaluation_batches
from tlrun.engine.evaluate import Evaluator
from tlrun.engine.runtime import Precision, Runtime
from tlrun.files import RunError
from tlrun.models.transfer import build_model
from tlrun.run import RunFolder, load_checkpoint
from tlrun.strategies.base import Strategy

MODEL = "model."


@dataclass(frozen=True)
class Trained:
    """A run's resolved settings, its pair, its strategy with the selected weights, and what evaluates them."""

    config: ExperimentConfig
    pair: DomainPair
    strategy: Strategy
    evaluator: Evaluator

    def encode(self, part: Part) -> Output:
        """Features (N, D) and logits (N, C) of a part of the pair, in order, as the run evaluated it."""
        return self.evaluator.encode(part)[1]

    def predict(self, x: Tensor, domain: str) -> Tensor:
        """Class numbers (N,) of raw rows x of one domain, uint8 (N, H, W, C) or float32 (N, D) as its own rows are."""
        like = self.pair.parts[f"{domain}_test"]
        part = replace(
            like, x=Held(x), y=torch.zeros(len(x), dtype=torch.int64), index=torch.arange(len(x)), granted=None
        )
        return self.encode(part).logits.argmax(dim=1)


def load_trained(folder: RunFolder, *, pair: DomainPair | None = None) -> Trained:
    """The selected model of a finished run, on the CPU in eval mode, and the pair that it was trained on.

    pair: the same data where they are in memory already; loaded, without any download, where None. Raises ConfigError
    where the settings or the data are not to be had here, RunError where the data are not those of the run, or a file
    is missing or damaged.
    """
    config = read_config(folder)
    if pair is None:
        pair = load_run_pair(config)
    before = folder.read_data_card().get("fingerprint")
    if before != pair.fingerprint:
        raise RunError(
            f"{folder.path}: the data found here are not those of the run ({before}, now {pair.fingerprint})"
        )
    digest = folder.read_summary()["digest"]  # not computed: a later release may name the same settings otherwise
    content = load_checkpoint(folder.best, digest=digest)
    with torch.random.fork_rng(devices=[]):  # weights are drawn only to be replaced
        model = build_model(config.model, shape=pair.shape, num_classes=pair.task.num_classes)
        kind = component_class("strategy", config.strategy.name)
        strategy = kind(config.strategy, model, pair.task, label_smoothing=config.optim.label_smoothing)
    weights = {MODEL + name: value for name, value in content["model"].items()}
    strategy.load_state_dict(weights | content["strategy"])
    return Trained(config, pair, strategy, _evaluator(config, pair, strategy))


def read_config(folder: RunFolder) -> ExperimentConfig:
    """A run's settings, typed. Raises ConfigError where this version knows other ones, RunError as all readers."""
    content = folder.read_config()
    # Where a run wrote to decides no number, and its settings may be older than we are.
    own = {"root": str(folder.path.parent), "fresh": False, "require": None, "checkpoint_seconds": 60.0, "plots": False}
    content["run"] = own
    return typed(content)


def load_run_pair(config: ExperimentConfig) -> DomainPair:
    """The pair of a run's settings, on the CPU, downloading nothing. Raises ConfigError where data are missing."""
    data = config.data.model_copy(update={"download": False})
    return load_pair(data, seed=config.seed, device=torch.device("cpu"))


def _evaluator(config: ExperimentConfig, pair: DomainPair, strategy: Strategy) -> Evaluator:
    def batches(part: Part) -> list[Examples]:
        statistics = pair.statistics[part.domain]
        size = config.engine.eval_batch_size
        return list(
            evaluation_batches(
                part, statistics=statistics, shape=pair.shape, batch_size=size, test_time=config.engine.test_time
            )
        )

    # The CPU has no fp16 to speak of; float32 is the nearest that it has.
    named = config.engine.precision
    precision: Precision = "bf16" if named == "bf16" else "fp32"
    return Evaluator(strategy, batches, Runtime(torch.device("cpu"), precision))
