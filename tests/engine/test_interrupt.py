"""Ctrl-C and SIGTERM: the first ends a run cleanly after its step, the second at once; either way it can go on."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.children import INTERRUPTED, Child, Hold
from tests.engine.runs import SAVING, TOY, differences
from tlrun.compose.resolve import name_choices, pretrain_config
from tlrun.config import ExperimentConfig
from tlrun.engine.interrupt import Interrupts
from tlrun.run import RunFolder, load_checkpoint
from tlrun.run_files import unknown_files
from tlrun.strategies.base import Strategy

Describe = Callable[..., ExperimentConfig]
Train = Callable[..., RunFolder]

SETTINGS = (*TOY, "strategy=dann", "strategy.finetune_share=0.3", "model.dropout=0.2")
SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def steps_done(folder: RunFolder) -> int:
    steps: int = load_checkpoint(folder.last, digest=None)["state"]["optimizer_steps"]
    return steps


@SIGNALS
@pytest.mark.usefixtures("children")
def test_first_signal_ends_the_run_after_its_step_and_the_next_start_goes_on(
    number: signal.Signals, described: Describe, train: Train, tmp_path: Path
) -> None:
    config = described(*SETTINGS)
    folder = RunFolder.of(name_choices(config))
    hold = Hold(tmp_path)
    child = Child(config, hold.rig(step=6))
    hold.wait()
    child.signal(number)
    hold.go.touch()
    assert child.end() == (INTERRUPTED, "")
    assert folder.read_status()["state"] == "interrupted"
    assert unknown_files(folder.path) == []
    assert steps_done(folder) == 6
    train(*SETTINGS)
    train(*SETTINGS, root="whole")
    assert differences(tmp_path / "whole", tmp_path / "runs") == []


@pytest.mark.slow
@SIGNALS
@pytest.mark.usefixtures("children")
def test_second_signal_ends_the_process_at_once_and_the_next_start_goes_on(
    number: signal.Signals, described: Describe, train: Train, tmp_path: Path
) -> None:
    config = described(*SETTINGS, *SAVING)
    folder = RunFolder.of(name_choices(config))
    hold = Hold(tmp_path)
    child = Child(config, hold.rig(step=6))
    hold.wait()
    child.signal(number)
    time.sleep(0.2)
    assert child.process.is_alive()
    child.signal(number)
    assert child.end()[0] == 1
    assert folder.state() == "interrupted"
    assert steps_done(folder) == 5
    train(*SETTINGS)
    train(*SETTINGS, root="whole")
    assert differences(tmp_path / "whole", tmp_path / "runs") == []


@pytest.mark.slow
@pytest.mark.usefixtures("children")
def test_signal_while_the_source_model_trains_ends_both_runs_cleanly(
    described: Describe, train: Train, tmp_path: Path
) -> None:
    settings = (*TOY, "strategy=feature_extract")
    config = described(*settings)
    source, outer = RunFolder.of(pretrain_config(config)), RunFolder.of(name_choices(config))
    hold = Hold(tmp_path)
    child = Child(config, hold.rig(step=3))
    hold.wait()
    child.signal(signal.SIGTERM)
    hold.go.touch()
    assert child.end() == (INTERRUPTED, "")
    assert [folder.read_status()["state"] for folder in (source, outer)] == ["interrupted", "interrupted"]
    assert not outer.last.exists()
    train(*settings)
    train(*settings, root="whole")
    assert differences(tmp_path / "whole", tmp_path / "runs") == []


@pytest.mark.slow
def test_signal_at_the_last_step_of_an_epoch_or_phase_loses_nothing(train: Train, tmp_path: Path) -> None:
    train(*SETTINGS, root="whole")
    count = itertools.count(1)

    def after_step(self: Strategy, progress: object) -> None:
        if next(count) in (4, 8, 12):  # of the first epoch, of the first phase, of the run
            signal.raise_signal(signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Strategy, "after_step", after_step)
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                train(*SETTINGS)
    assert train(*SETTINGS).read_summary()["steps"] == 12
    assert differences(tmp_path / "whole", tmp_path / "runs") == []


def test_signals_act_as_before_once_the_run_is_over() -> None:
    # A shell that starts us in the background has SIGINT ignored; then there would be nothing to see.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    before = [signal.getsignal(number) for number in Interrupts.SIGNALS]
    with Interrupts() as interrupts:
        requested = [interrupts.requested]
        signal.raise_signal(signal.SIGINT)
        requested.append(interrupts.requested)
    assert requested == [False, True]
    assert [signal.getsignal(number) for number in Interrupts.SIGNALS] == before
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_run_in_another_thread_leaves_signals_alone() -> None:
    before = [signal.getsignal(number) for number in Interrupts.SIGNALS]
    seen = []

    def enter() -> None:
        with Interrupts() as interrupts:
            seen.append((interrupts.requested, [signal.getsignal(number) for number in Interrupts.SIGNALS]))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
