"""How long a run would take, from a few of its steps: the sum under a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.runs import TOY
from tlrun.compose.resolve import name_choices, name_machine
from tlrun.config import ExperimentConfig
from tlrun.data.domain import load_pair
from tlrun.engine import pace as module
from tlrun.engine.engine import Engine
from tlrun.engine.pace import TIMED, WARM_UP, pace
from tlrun.experiment import build_engine, untrained
from tlrun.listing import config_folder, headings
from tlrun.run import RunFolder
from tlrun.run_files import EVALUATION_PARTS


class Clock:
    """Seconds that pass only where a step is taken or rows are encoded."""

    def __init__(self) -> None:
        self.now = 100.0
        self.steps: list[str] = []

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def build(config: Callable[..., ExperimentConfig], tmp_path: Path) -> Callable[..., Engine]:
    def engine(*overrides: str) -> Engine:
        asked = config(*TOY, "engine.epochs=4", *overrides)
        data = asked.data.model_copy(update={"cache_root": str(tmp_path)})
        named, device = name_machine(name_choices(asked.model_copy(update={"data": data})))
        pair = load_pair(named.data, seed=0, device=device)
        return build_engine(untrained(named), pair, RunFolder(tmp_path / "run"), device, source=None)

    return engine


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module.time, "monotonic", made.monotonic)
    return made


def slow_down(engine: Engine, clock: Clock, *, step: dict[str, float], row: float) -> None:
    """Steps of a phase take these seconds, a row through the network `row`; the very first steps take thrice as long."""
    take, encode = engine.step, engine.evaluator.encode

    def slow_step(stretch: Any, progress: Any) -> None:
        take(stretch, progress)
        first = clock.steps.count(stretch.phase.name) < WARM_UP
        clock.steps.append(stretch.phase.name)
        clock.now += step[stretch.phase.name] * (3 if first else 1)

    def slow_encode(part: Any) -> Any:
        clock.now += row * len(part)
        return encode(part)

    engine.step, engine.evaluator.encode = slow_step, slow_encode  # type: ignore[method-assign]


def test_timed_steps_stand_for_all_steps_and_rows_for_all_evaluations(
    build: Callable[..., Engine], clock: Clock
) -> None:
    engine = build("strategy=dann", "data.target_labels=5")
    tested = sum(len(engine.pair.parts[name]) for name in EVALUATION_PARTS)
    slow_down(engine, clock, step={"train": 0.5, "finetune": 0.25}, row=0.01)
    found = pace(engine, patience=60.0)
    assert [(each.phase.name, each.epochs) for each in engine.plan.stretches] == [("train", 3), ("finetune", 1)]
    assert clock.steps == ["train"] * (WARM_UP + TIMED) + ["finetune"] * (WARM_UP + TIMED)
    assert found.training == pytest.approx(3 * 4 * 0.5 + 4 * 0.25)
    assert found.evaluation == pytest.approx(4 * tested * 0.01)
    assert found.encoding == 0
    assert found.total == found.training + found.evaluation


def test_rows_that_are_encoded_once_are_counted_once(build: Callable[..., Engine], clock: Clock) -> None:
    engine = build("strategy=feature_extract", "data.target_labels=5")
    rows = sum(len(engine.pair.parts[name]) for name in (*EVALUATION_PARTS, "target_granted"))
    slow_down(engine, clock, step={"train": 0.5}, row=0.01)
    found = pace(engine, patience=60.0)
    assert found.encoding == pytest.approx(rows * 0.01)
    assert found.evaluation == 0
    assert found.training == pytest.approx(4 * 4 * 0.5)


def test_a_slow_step_is_timed_alone(build: Callable[..., Engine], clock: Clock) -> None:
    engine = build("strategy=source_only")
    slow_down(engine, clock, step={"train": 10.0}, row=0.01)
    found = pace(engine, patience=20.0)
    assert clock.steps == ["train"]
    assert found.training == pytest.approx(4 * 4 * 30.0)


def test_evaluations_are_as_many_as_the_run_makes(build: Callable[..., Engine], clock: Clock) -> None:
    engine = build("strategy=source_only", "engine.evaluate_every=3")
    tested = sum(len(engine.pair.parts[name]) for name in EVALUATION_PARTS)
    slow_down(engine, clock, step={"train": 0.5}, row=0.01)
    assert pace(engine, patience=60.0).evaluation == pytest.approx(2 * tested * 0.01)  # after epochs 3 and 4


@pytest.mark.parametrize("strategy", sorted(headings(config_folder() / "strategy")))
def test_every_strategy_can_be_timed(build: Callable[..., Engine], strategy: str) -> None:
    engine = build(f"strategy={strategy}", "data.target_labels=5", "model.bottleneck=8", "engine.sampling=shuffled")
    before = torch.cat([each.detach().flatten().clone() for each in engine.strategy.parameters()])
    assert pace(engine, patience=5.0).training > 0
    assert not torch.equal(before, torch.cat([each.detach().flatten() for each in engine.strategy.parameters()]))
