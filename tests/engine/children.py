"""Runs in processes of their own, which can be killed, signalled, slowed down or made to die within a write."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import pytest

from tlrun.config import ExperimentConfig

ROOT = Path(__file__).parents[2]
INTERRUPTED = 130
PATIENCE_SECONDS = 600.0  # only a run that hangs takes so long, on the busiest machine

Rig = Callable[[], None]
"""Called in the child before its run; a function at the top of a module, or a partial of one."""
Moment = Literal["before", "torn", "after"]


class Child:
    """A process that trains what the config describes."""

    def __init__(self, config: ExperimentConfig, rig: Rig | None = None) -> None:
        context = multiprocessing.get_context("forkserver")
        self.said, says = context.Pipe(duplex=False)
        self.process = context.Process(target=_train, args=(config.to_dict(), rig, says))
        self.process.start()
        says.close()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def end(self) -> tuple[int, str]:
        """Its exit code, below 0 for the signal that killed it, and what it said of its failure."""
        self.process.join(PATIENCE_SECONDS)
        alive = self.process.exitcode is None
        if alive:
            self.process.kill()
            self.process.join()
        code = self.process.exitcode
        try:
            text: str = self.said.recv() if self.said.poll() else ""
        except EOFError:
            text = ""
        self.said.close()
        self.process.close()
        assert code is not None
        assert not alive, f"the run did not end within {PATIENCE_SECONDS:.0f} s"
        return code, text


def start_server() -> None:
    """Starts the process from which children are forked, with what a run imports already there."""
    # The first optimizer that is made imports torch._dynamo, which takes longer than all else in these runs.
    forkserver.set_forkserver_preload(
        ["torch._dynamo", "pandas", "tlrun.experiment", "tlrun.strategies", "tests.engine.children"]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path]))
        patch.setenv("OMP_NUM_THREADS", "1")
        forkserver.ensure_running()


def _train(settings: dict[str, Any], rig: Rig | None, says: Connection) -> None:
    from tlrun import experiment
    from tlrun.build import typed
    from tlrun.run import RunError

    os.fsync = lambda _: None  # type: ignore[assignment]  # only a power failure could tell
    if rig is not None:
        rig()
    try:
        experiment.run(typed(settings), command="a test")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except RunError as error:
        says.send(str(error))
        sys.exit(1)


def wait_for(there: Callable[[], bool]) -> None:
    """Returns as soon as something is so."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not there():
        assert time.monotonic() < deadline, f"nothing came in {PATIENCE_SECONDS:.0f} s"
        time.sleep(0.005)


def die_at_write(number: int, moment: Moment, name: str = "*") -> None:
    """SIGKILL from within, at the write so numbered (from 1) of all files or of those so named.

    before: nothing of it is there; torn: half of it, under its temporary name; after: all of it.
    """
    from tlrun import files

    count = itertools.count(1)
    write = files.write_bytes

    def dying(path: Path, data: bytes | memoryview) -> None:
        if name not in ("*", path.name) or next(count) != number:
            write(path, data)
            return
        if moment == "torn":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(f".{path.name}.{os.getpid()}.tmp").write_bytes(bytes(data)[: len(data) // 2])
        elif moment == "after":
            write(path, data)
        os.kill(os.getpid(), signal.SIGKILL)

    files.write_bytes = dying


class Hold:
    """Two files by which the test stops a child within a step and lets it go on."""

    def __init__(self, folder: Path) -> None:
        self.held, self.go = folder / "held", folder / "go"

    def wait(self) -> None:
        """Returns once the child stands in its step."""
        wait_for(self.held.exists)

    def rig(self, step: int) -> Rig:
        """Holds the step so numbered, from 1 over all runs of the child."""
        return partial(_hold_step, step, self.held, self.go)


def _hold_step(number: int, held: Path, go: Path) -> None:
    from tlrun.strategies.base import Strategy

    count = itertools.count(1)

    def after_step(self: Strategy, progress: object) -> None:
        if next(count) == number:
            held.touch()
            wait_for(go.exists)

    Strategy.after_step = after_step  # type: ignore[method-assign]


def full_disk(size: int) -> None:
    """No file can be longer than so many bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
