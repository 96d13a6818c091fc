"""The runs of one command: checked together, done one after the other, and told of at the end.

The command line and the verbs that train go through `carry_out`, so that there is one console, one answer to Ctrl-C and
SIGTERM and one set of exit codes. Loads no torch before a run starts.
"""

from __future__ import annotations

import gc
import logging
import os
import shlex
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tlrun import listing
from tlrun.config import ConfigError
from tlrun.data.cache.kept import keeping_domains
from tlrun.files import RunError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from tlrun.compose.plan import Plan
    from tlrun.config import ExperimentConfig
    from tlrun.experiment import Outcome

DONE, FAILED, WRONG = 0, 1, 2
"""Exit codes: all that was asked for is there; a run failed or missed `run.require`; command or settings are wrong."""

log = logging.getLogger(__name__)


def carry_out(
    planned: Plan, arguments: Sequence[str], *, flags: Sequence[str] = (), origin: Sequence[str] = ()
) -> Session:
    """Checks every run of a plan, then does them, and returns what came of each; nothing of it has been told yet.

    arguments: the command, as after `tlrun`, that does the same again. flags: Hydra's options, for what it has to do
    itself. origin: the options that say where settings come from. Raises ConfigError before the first run starts.
    """
    session = Session(arguments, planned, origin=origin)
    with ExitStack() as stack:
        stack.enter_context(keeping_domains())
        _check_runs(planned)
        gc.freeze()  # what is loaded by now stays; looking through it after every run would cost 0.15 s
        stack.callback(gc.unfreeze)
        stack.enter_context(_console())
        stack.enter_context(_terminable())
        overrides = list(planned.overrides)
        if planned.hides_sweep_dir:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tlrun-"))
            overrides.append(f"hydra.sweep.dir='{folder}'")
        session.run([*flags, *overrides])
    return session


def say(*lines: str) -> None:
    """Lines for whoever sits before the terminal, on standard error."""
    for line in lines:
        print(line, file=sys.stderr, flush=True)


def _check_runs(planned: Plan) -> None:
    """Tells before a sweep starts what only the data, the device or the weights show. Raises ConfigError."""
    if len(planned.here) < 2:
        return
    from tlrun.compose.plan import located
    from tlrun.rehearsal import rehearse

    found: dict[str, list[str]] = {}
    rehearsed = rehearse([job.settings for job in planned.here])
    for name, problems in zip(planned.jobs, rehearsed, strict=True):
        for problem in problems:
            found.setdefault(problem, []).append(name)
    if found:
        raise ConfigError(located(found, len(planned.jobs)))


def under_hydra(arguments: list[str], job: Callable[[DictConfig], Any]) -> None:
    """Runs `hydra.main` on these arguments. What it refuses it prints, and raises SystemExit."""
    import hydra

    from tlrun.compose.composed import version_base

    wrapped = hydra.main(config_path=str(listing.config_folder()), config_name="train", **version_base())(job)
    before = sys.argv
    sys.argv = [before[0], *arguments]
    try:
        wrapped()
    finally:
        sys.argv = before


@dataclass(frozen=True)
class Result:
    """What came of one job: its name, its exit code, and why where that is not 0."""

    name: str
    code: int
    reason: str = ""


class Session:
    """The jobs of one command: runs them under Hydra, remembers what came of each, and tells it at the end."""

    def __init__(self, arguments: Sequence[str], plan: Plan, *, origin: Sequence[str]) -> None:
        self.arguments = tuple(arguments)
        self.plan = plan
        self.origin = origin  # the options that say where settings come from: part of every job's own command
        self.results: list[Result] = []
        self.ended_early = False
        self.process = os.getpid()

    def run(self, arguments: list[str]) -> None:
        """Runs every job: here where Hydra has only composed them, else as Hydra's launcher does with these arguments."""
        try:
            for number, job in enumerate(self.plan.here):
                name = self.plan.jobs[number] if self.plan.multirun else " ".join(job.overrides)
                self._do(number, name, job.overrides, partial(_attempt, job.settings))
            if not self.plan.here:
                under_hydra(arguments, self.job)
        except KeyboardInterrupt:
            self.ended_early = True
            say(*self._way_on())
        except SystemExit:  # the launcher or a callback failed, and Hydra has said how
            self.ended_early = True

    def _way_on(self) -> list[str]:
        """What to do after an interruption: the same command, but for a fresh start, which would throw away what it has done."""
        kept = [each for each in self.arguments if each.partition("=")[0].lstrip("+") != "run.fresh"]
        asked = len(kept) < len(self.arguments)
        here = [job.settings.run.fresh for job in self.plan.here]
        if not (any(here) if here else asked):
            return [f"interrupted; to go on, give the same command again: {_command(self.arguments)}"]
        kept += [] if asked else ["run.fresh=false"]  # a primary config of the user asks for it
        lines = [f"interrupted; to go on, without the fresh start that would begin again: {_command(kept)}"]
        if self.plan.multirun:
            lines.append("runs that were done before and that it had not come to are then found done as they are")
        return lines

    def job(self, config: DictConfig) -> float | None:
        """What Hydra calls for each job: returns its selection score, None where there is none, and raises nothing.

        In a process that a launcher started, where nobody could read what this one remembers, a failure is raised.
        """
        from hydra.core.hydra_config import HydraConfig

        from tlrun.compose.override_text import as_typed

        node = HydraConfig.get()
        overrides = [as_typed(override) for override in node.overrides.task]
        number, jobs = node.job.num if self.plan.multirun else 0, self.plan.jobs
        name = jobs[number] if self.plan.multirun and number < len(jobs) else " ".join(overrides)
        return self._do(number, name, overrides, partial(_attempt_composed, config))

    def _do(
        self, number: int, name: str, overrides: Sequence[str], attempt: Callable[[str], Attempted]
    ) -> float | None:
        """One job: remembers what came of it, and returns its selection score."""
        if self.plan.multirun:
            log.info("run %d of %s: %s", number + 1, max(len(self.plan.jobs), number + 1), name)
        outcome, code, reason = attempt(shlex.join(["tlrun", *self.origin, *overrides]))
        if os.getpid() != self.process and code != DONE:
            raise RuntimeError(reason)
        self.results.append(Result(name, code, reason))
        return None if outcome is None else outcome.score

    def report(self) -> int:
        """Tells what failed, and returns the exit code."""
        failures = [result for result in self.results if result.code != DONE]
        if self.plan.multirun and failures:
            say(f"{len(failures)} of {len(self.results)} runs failed:")
            say(*(f"  {result.name}: {result.reason}" for result in failures))
        elif failures:
            say(failures[0].reason)
        if self.ended_early:
            return FAILED
        return min((result.code for result in failures), default=DONE)


def _command(arguments: Sequence[str]) -> str:
    return shlex.join(["tlrun", *arguments])


Attempted = tuple["Outcome | None", int, str]
"""What came of one run: its outcome, its exit code, and the reason where that is not 0."""


def _attempt_composed(config: DictConfig, command: str) -> Attempted:
    """One run of what Hydra composed."""
    from tlrun.build import typed
    from tlrun.compose.composer import resolved

    try:
        settings = typed(resolved(config))
    except ConfigError as error:
        return None, WRONG, "\n".join(error.problems)
    return _attempt(settings, command)


def _attempt(settings: ExperimentConfig, command: str) -> Attempted:
    """One run."""
    from tlrun import experiment

    try:
        outcome = experiment.run(settings, command=command)
    except ConfigError as error:
        return None, WRONG, "\n".join(error.problems)
    except RunError as error:
        return None, FAILED, str(error)
    except Exception as error:
        traceback.print_exc()
        return None, FAILED, f"{type(error).__name__}: {error} (not foreseen: the traceback is above and in log.txt)"
    try:
        with suppress(BrokenPipeError):  # the run is done, whether or not anybody still reads
            print(outcome.folder, flush=True)
    except RunError as error:  # standard output refuses
        return outcome, FAILED, str(error)
    log.info("%s: %s", outcome.state, _figures(outcome))
    return (outcome, DONE, "") if outcome.unmet is None else (outcome, FAILED, f"run.require: {outcome.unmet}")


def _figures(outcome: Outcome) -> str:
    summary = outcome.summary
    accuracies = [
        f"{domain} test accuracy {100 * summary[f'{domain}_test_accuracy']:.2f} %"
        for domain in ("target", "source")
        if summary.get(f"{domain}_test_accuracy") is not None
    ]
    found = ", ".join(accuracies) or "no test row has a label, see predictions.csv"
    return f"{found} (selected by {summary.get('select')}, epoch {summary.get('selected_epoch')})"


@contextmanager
def _console() -> Iterator[None]:
    """Shows our log on standard error, above a progress bar where one is drawn."""
    handler = _Console()
    handler.setFormatter(logging.Formatter("%(message)s"))
    root, own = logging.getLogger(), logging.getLogger("tlrun")
    level = own.level
    root.addHandler(handler)
    own.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        own.setLevel(level)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does, also while data are read or results written; the engine minds its steps itself."""
    if threading.current_thread() is not threading.main_thread():  # no other thread may set handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Console(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)
