"""The engine against two loops written by hand, in images per second.

    python throughput.py bare [--network paper]     the same computation on the same batches, by hand: bare_loop.py
    python throughput.py usual [--network paper]    PIL images, a DataLoader with 2 workers, float32, NCHW: usual_loop.py

Each side is a process of its own, and the two take turns of some steps, so that whatever else the machine does meets
both; the figure is the median over pairs of turns. Data and batch size are the default run's, and so are network and
optimizer, or they are the DANN paper's. Nobody augments.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

TARGETS = {"bare": 0.95, "usual": 3.0}
NAMES = {"bare": "the same computation in a bare loop", "usual": "PIL images, DataLoader with 2 workers, float32, NCHW"}
NETWORKS = {
    "default": (),
    "paper": (
        *("model=digits_cnn", "optim=sgd", "schedule=inverse_decay", "data.normalize=shared"),
        *("strategy.discriminator_hidden=[100]", "strategy.batch_norm=joint"),
    ),
}
"""What the default run trains, and what the DANN paper did: its smaller network leaves less to hide behind."""
STEPS = 42
"""Steps in a turn: a tenth of an epoch, so that every turn of the engine measures the transfer gradients once."""
UNTIMED = 8
"""Steps before each turn's clock starts: a loader's workers fill its queue while the other side has its turn."""


class Stopped(BaseException):
    """Takes the engine out of its run once there are turns enough. No Exception, so that nothing mistakes it for one."""


class Worker:
    """One side in a process of its own, which trains only while it is told to."""

    def __init__(self, side: str, network: str, log: Path) -> None:
        self.side, self.log = side, log
        with log.open("w") as errors:
            command = [sys.executable, __file__, side, "--network", network, "--worker"]
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        self._answer()

    def turn(self) -> tuple[float, float]:
        """Seconds of one turn, and the sum of all parameters after it."""
        assert self.process.stdin is not None
        self.process.stdin.write("turn\n")
        self.process.stdin.flush()
        seconds, parameters = self._answer()
        return float(seconds), float(parameters)

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _answer(self) -> list[str]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.side} ended early:\n{self.log.read_text()}")
        return line.split()


def compare(other: str, network: str, turns: int) -> None:
    """Prints the engine's speed against the other's."""
    from table import at_least, plain, show, spread

    with tempfile.TemporaryDirectory(prefix="tlrun-benchmark-") as folder:
        workers = [Worker(side, network, Path(folder) / f"{side}.log") for side in ("engine", other)]
        pairs = [[worker.turn() for worker in workers] for _ in range(turns + 1)][1:]
        for worker in workers:
            worker.stop()
    ratios = [theirs / ours for (ours, _), (theirs, _) in pairs]
    at_least(f"engine against {NAMES[other]}, {network} network", median(ratios), TARGETS[other])
    for number, name in enumerate(("engine", other)):
        plain(f"  {name}", median(2 * 128 * STEPS / pair[number][0] for pair in pairs), "images/s")
    show(f"  over {turns} pairs of turns of {STEPS} steps of 128 + 128 images; single pairs {spread(ratios)}")
    if other == "bare":
        (_, ours), (_, theirs) = pairs[0]
        same = "the same to the last bit" if ours == theirs else f"apart by {abs(ours / theirs - 1):.1e} of their sum"
        show(f"  parameters of the two after {2 * (STEPS + UNTIMED)} steps: {same}")
        if abs(ours / theirs - 1) > 1e-3:
            raise SystemExit("the two do not compute the same, so their speeds cannot be compared")


# -- in a worker's process --------------------------------------------------------------------------------------------


def work(side: str, network: str) -> None:
    with tempfile.TemporaryDirectory(prefix="tlrun-benchmark-") as folder:
        always = ("strategy=dann", "data=mnist_mnistm", "data.target.images=made", "augment=none", "engine.epochs=1000")
        settings = [*always, *NETWORKS[network], f"run.root={folder}"]
        {"engine": work_engine, "bare": work_bare, "usual": work_usual}[side](settings)


class Clock:
    """Waits for its turn, lets so many steps pass, and reports how long they took."""

    def __init__(self, parameters: Any) -> None:
        self.parameters = list(parameters)
        self.steps = -UNTIMED
        _answer("ready")
        self._wait()

    def step(self) -> None:
        """To be called after every step."""
        self.steps += 1
        if self.steps == 0:
            self.start = time.perf_counter()
        if self.steps == STEPS:
            seconds = time.perf_counter() - self.start
            _answer(f"{seconds} {sum(float(each.detach().double().sum()) for each in self.parameters)!r}")
            self.steps = -UNTIMED
            self._wait()

    def _wait(self) -> None:
        if not sys.stdin.readline():
            raise Stopped


def _answer(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def compose(settings: list[str]) -> Any:
    """The typed config of these overrides, with everything named that does not depend on the machine."""
    import hydra
    from omegaconf import OmegaConf

    from tlrun.build import typed
    from tlrun.compose.composed import version_base
    from tlrun.compose.resolve import name_choices
    from tlrun.listing import config_folder

    with hydra.initialize_config_dir(str(config_folder()), **version_base()):
        composed = hydra.compose("train", overrides=settings)
    return name_choices(typed(OmegaConf.to_container(composed, resolve=True)))


def prepare(settings: list[str]) -> tuple[Any, Any, Any, Any]:
    """Config, pair, strategy and runtime as a run has them before its first step."""
    from tlrun.build import component_class
    from tlrun.compose.resolve import name_machine
    from tlrun.data.domain import load_pair
    from tlrun.engine.runtime import Runtime, seed_everything
    from tlrun.models.transfer import build_model

    config, device = name_machine(compose(settings))
    pair = load_pair(config.data, seed=config.seed, device=device)
    seed_everything(config.seed)
    model = build_model(config.model, shape=pair.shape, num_classes=pair.task.num_classes)
    strategy = component_class("strategy", config.strategy.name)(config.strategy, model, pair.task)
    return config, pair, strategy, Runtime(device, config.engine.precision)


def work_engine(settings: list[str]) -> None:
    from tlrun.engine.engine import Engine
    from tlrun.models.zoo import LoadedWeights
    from tlrun.run import RunFolder

    config, pair, strategy, runtime = prepare(settings)
    folder = RunFolder.of(config)
    clock = Clock(strategy.parameters())
    strategy.after_step = lambda progress: clock.step()
    with folder.lock(wait=False):
        Engine(config, strategy, pair, folder, runtime, weights=LoadedWeights("random", None, ())).fit()


def network_of(config: Any) -> Any:
    """The hand-written network of the same layers, untouched by torch's global generator."""
    import torch
    from bare_loop import Network

    model, strategy = config.model, config.strategy
    with torch.random.fork_rng():
        return Network(
            model.maps,
            map_dropout=model.map_dropout,
            hidden=[model.hidden] * model.hidden_layers,
            dropout=model.dropout,
            discriminator=strategy.discriminator_hidden,
            joint=strategy.batch_norm == "joint",
        )


def course_of(config: Any, pair: Any) -> dict[str, Any]:
    """Learning rate and weight of the reversed gradient by step, as the config has them."""
    longest = max(len(pair.parts["source_train"]), len(pair.parts["target_unlabelled"]))
    steps = config.engine.epochs * math.ceil(longest / config.engine.batch_size)
    return {
        "rate": lambda step: config.optim.lr * config.schedule.factor(step, steps),
        "weight": lambda step: math.tanh(config.strategy.ramp * step / steps / 2),
    }


def optimizer_of(config: Any, network: Any, **more: Any) -> Any:
    import torch

    kind = getattr(torch.optim, config.optim.target.rpartition(".")[2])
    return kind(network.parameters(), lr=config.optim.lr, **(config.optim.model_extra or {}), **more)


def work_bare(settings: list[str]) -> None:
    import torch
    from bare_loop import Rows, train

    config, pair, strategy, _ = prepare(settings)
    network = network_of(config)
    with torch.no_grad():
        for ours, theirs in zip(network.parameters(), strategy.parameters(), strict=True):
            ours.copy_(theirs)
    parts = {"source": pair.parts["source_train"], "target": pair.parts["target_unlabelled"]}
    source, target = (
        Rows(part.x.tensor(), pair.statistics[role].mean, pair.statistics[role].std) for role, part in parts.items()
    )
    optimizer = optimizer_of(config, network, fused=True)
    clock = Clock(network.parameters())
    y = parts["source"].y
    for _ in train(network, optimizer, source, y, target, positions(config, pair), **course_of(config, pair)):
        clock.step()


def positions(config: Any, pair: Any) -> Iterator[tuple[Any, Any]]:
    """The rows of the engine's own batches, so that both see the same ones; a slice of a permutation each."""
    from tlrun.data.streams import Stream

    streams = [
        Stream(
            pair.parts[name],
            statistics=pair.statistics["source"],
            shape=pair.shape,
            batch_size=config.engine.batch_size,
            seed=config.seed,
            augment=config.augment,
        )
        for name in ("source_train", "target_unlabelled")
    ]
    address = 0
    while True:
        source, target = (stream.positions(address) for stream in streams)
        yield source, target
        address += 1


def work_usual(settings: list[str]) -> None:
    import torch

    from tlrun.data.domain import load_pair
    from tlrun.models.vision import import_torchvision

    import_torchvision()
    from usual_loop import PairedImages, train

    config = compose(settings)
    pair = load_pair(config.data, seed=config.seed, device=torch.device("cpu"))
    source, target = pair.parts["source_train"], pair.parts["target_unlabelled"]
    images = PairedImages(
        source.x.tensor(), source.y, target.x.tensor(), [pair.statistics[role] for role in ("source", "target")]
    )
    network = network_of(config)
    clock = Clock(())
    batch_size = config.engine.batch_size
    optimizer = optimizer_of(config, network)
    for _ in train(network, optimizer, images, batch_size=batch_size, **course_of(config, pair)):
        clock.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", choices=(*NAMES, "engine"))
    parser.add_argument("--network", choices=NETWORKS, default="default")
    parser.add_argument("--turns", type=int, default=20, help="pairs of turns that are measured, after one that is not")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        try:
            work(options.other, options.network)
        except Stopped:
            return
    else:
        compare(options.other, options.network, options.turns)


if __name__ == "__main__":
    main()
