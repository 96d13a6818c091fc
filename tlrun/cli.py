"""The command line: verbs, exit codes, and what is said at the end. Loads no torch before a run starts."""

from __future__ import annotations

import argparse
import importlib
import io
import logging
import os
import shlex
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlrun import listing
from tlrun.config import ConfigError
from tlrun.error_text import did_you_mean
from tlrun.files import RunError
from tlrun.verbs import VERBS, Parser

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from tlrun.compose import Plan
    from tlrun.config import ExperimentConfig
    from tlrun.experiment import Outcome

DONE, FAILED, WRONG = 0, 1, 2
"""Exit codes: all that was asked for is there; a run failed or missed `run.require`; command or settings are wrong."""

_COMPLETES = {f"{verb}={shell}" for verb in ("install", "uninstall", "query") for shell in ("bash", "zsh", "fish")}

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Does what the command line asks, and returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except ConfigError as error:
        _say(*error.problems)
        return WRONG
    except RunError as error:  # of a verb: each run of a sweep has told its own
        _say(str(error))
        return FAILED
    except KeyboardInterrupt:
        _say("interrupted" if arguments[:1] and arguments[0] in VERBS else "interrupted before a run started")
        return FAILED
    except BrokenPipeError:  # whoever reads our output has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


def _dispatch(arguments: list[str]) -> int:
    if arguments and arguments[0] in VERBS:
        verb = importlib.import_module(f"tlrun.verbs.{arguments[0]}")
        try:
            code: int = verb.main(arguments[1:])
        except SystemExit:  # argparse has shown the verb's help
            return DONE
        return code
    if {"--help", "-h"} & set(arguments):
        print(listing.help_text([listing.config_folder()]))
        return DONE
    if "--version" in arguments:
        print(listing.version_text())
        return DONE
    if {"--shell-completion", "-sc"} & set(arguments) and not _COMPLETES & set(arguments):
        raise ConfigError("-sc: needs install=bash, install=zsh or install=fish; the same with uninstall=")
    if {"--shell-completion", "-sc", "--hydra-help"} & set(arguments):
        return _show(arguments)
    return _train(arguments)


def _train(arguments: list[str]) -> int:
    """Checks everything, then runs everything. Raises ConfigError before the first run starts."""
    from tlrun.compose import Request, plan

    options, problems = _parse(arguments)
    request = Request(
        tuple(options.overrides),
        multirun=options.multirun,
        config_dir=options.config_dir,
        config_name=options.config_name or "train",
    )
    shows = bool(options.cfg or options.info)
    planned = plan(request, problems=problems, types=not shows)
    if shows:
        return _show([*_flags(options), *planned.overrides])
    _check_runs(planned)
    session = Session(arguments, planned, origin=_origin(options))
    with ExitStack() as stack:
        stack.enter_context(_console())
        stack.enter_context(_terminable())
        overrides = list(planned.overrides)
        if planned.hides_sweep_dir:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tlrun-"))
            overrides.append(f"hydra.sweep.dir='{folder}'")
        session.run([*_flags(options), *overrides])
    return session.report()


def _check_runs(planned: Plan) -> None:
    """Tells before a sweep starts what only the data, the device or the weights show. Raises ConfigError."""
    if len(planned.here) < 2:
        return
    from tlrun.compose import located
    from tlrun.rehearsal import rehearse

    found: dict[str, list[str]] = {}
    rehearsed = rehearse([job.settings for job in planned.here])
    for name, problems in zip(planned.jobs, rehearsed, strict=True):
        for problem in problems:
            found.setdefault(problem, []).append(name)
    if found:
        raise ConfigError(located(found, len(planned.jobs)))


def _parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Hydra's options and the overrides, wherever they stand; and what is wrong with the rest."""
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    parser.__class__ = Parser  # to tell a wrong option as we tell everything else
    parser.prog = "tlrun"
    options, rest = parser.parse_known_intermixed_args(arguments)
    known = [name for action in parser._actions for name in action.option_strings if name.startswith("--")]
    problems = [_option_problem(text, known) for text in rest if text.startswith("-")]
    options.overrides += [text for text in rest if not text.startswith("-")]  # argparse stops at an unknown option
    if options.config_path is not None or options.experimental_rerun is not None:
        problems.append(
            "--config-path and --experimental-rerun: not offered; your own YAML goes in with --config-dir DIR"
        )
    if options.multirun and (options.cfg or options.info):
        problems.append("--cfg and --info show one run; leave -m out")
    first = arguments[0] if arguments else ""
    if first.isidentifier() and (near := did_you_mean(first, VERBS)):
        problems.append(f"{first}: no such verb; {near}")
        options.overrides.remove(first)
    return options, problems


def _option_problem(text: str, known: Sequence[str]) -> str:
    name, equals, _ = text.partition("=")
    if equals:
        return f"{text}: settings have no dashes before them; write {text.lstrip('-')}"
    near = did_you_mean(name, known)
    return f"{text}: no such option{f'; {near}' if near else ''}; see tlrun --help"


def _flags(options: argparse.Namespace) -> list[str]:
    """Hydra's options as Hydra 1.3 needs them: before every override."""
    flags = ["--multirun"] if options.multirun else []
    for name in ("cfg", "info", "package", "config_dir", "config_name"):
        if value := getattr(options, name):
            flags.append(f"--{name.replace('_', '-')}={value}")
    return [*flags, "--resolve"] if options.resolve else flags


def _origin(options: argparse.Namespace) -> list[str]:
    """Where a command's settings come from beside ours, so that it can be given anywhere on this machine."""
    folder, name = options.config_dir, options.config_name
    found = [f"--config-dir={Path(folder).resolve()}"] if folder else []
    return [*found, *([f"--config-name={name}"] if name and name != "train" else [])]


def _hydra(arguments: list[str], job: Callable[[DictConfig], Any]) -> None:
    """Runs `hydra.main` on these arguments. What it refuses it prints, and raises SystemExit."""
    import hydra

    from tlrun.compose import version_base

    wrapped = hydra.main(config_path=str(listing.config_folder()), config_name="train", **version_base())(job)
    before = sys.argv
    sys.argv = [before[0], *arguments]
    try:
        wrapped()
    finally:
        sys.argv = before


def _show(arguments: list[str]) -> int:
    """Prints what Hydra shows, all at once, since Hydra itself does not bear a reader who closes early."""
    code, shown = DONE, io.StringIO()
    try:
        with redirect_stdout(shown):
            _hydra(arguments, _no_run)
    except SystemExit:  # there is nothing of that name to show, and Hydra has said so
        code = WRONG
    print(shown.getvalue(), end="")
    return code


def _no_run(config: DictConfig) -> None:
    raise AssertionError("a command that shows something started a run")


@dataclass(frozen=True)
class Result:
    """What came of one job: its name, its exit code, and why where that is not 0."""

    name: str
    code: int
    reason: str = ""


class Session:
    """The jobs of one command: runs them under Hydra, remembers what came of each, and tells it at the end."""

    def __init__(self, arguments: Sequence[str], plan: Plan, *, origin: Sequence[str]) -> None:
        self.command = shlex.join(["tlrun", *arguments])
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
                _hydra(arguments, self.job)
        except KeyboardInterrupt:
            self.ended_early = True
            _say(f"interrupted; to go on, give the same command again: {self.command}")
        except SystemExit:  # the launcher or a callback failed, and Hydra has said how
            self.ended_early = True

    def job(self, config: DictConfig) -> float | None:
        """What Hydra calls for each job: returns its selection score, None where there is none, and raises nothing.

        In a process that a launcher started, where nobody could read what this one remembers, a failure is raised.
        """
        from hydra.core.hydra_config import HydraConfig

        from tlrun.override_text import as_typed

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
            _say(f"{len(failures)} of {len(self.results)} runs failed:")
            _say(*(f"  {result.name}: {result.reason}" for result in failures))
        elif failures:
            _say(failures[0].reason)
        if self.ended_early:
            return FAILED
        return min((result.code for result in failures), default=DONE)


Attempted = tuple["Outcome | None", int, str]
"""What came of one run: its outcome, its exit code, and the reason where that is not 0."""


def _attempt_composed(config: DictConfig, command: str) -> Attempted:
    """One run of what Hydra composed."""
    from tlrun.build import typed
    from tlrun.compose import resolved

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
    with suppress(BrokenPipeError):  # the run is done, whether or not anybody still reads
        print(outcome.folder, flush=True)
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


def _say(*lines: str) -> None:
    for line in lines:
        print(line, file=sys.stderr, flush=True)
