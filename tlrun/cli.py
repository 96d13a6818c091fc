"""The command line: verbs, exit codes, and what is said at the end. Loads no torch before a run starts."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from tlrun import listing
from tlrun.config import ConfigError
from tlrun.config.error_text import did_you_mean
from tlrun.files import RunError, reason_of
from tlrun.session import DONE, FAILED, WRONG, carry_out, say, under_hydra
from tlrun.verbs import VERBS, Parser

if TYPE_CHECKING:
    from omegaconf import DictConfig

_COMPLETES = {f"{verb}={shell}" for verb in ("install", "uninstall", "query") for shell in ("bash", "zsh", "fish")}


def main(argv: Sequence[str] | None = None) -> int:
    """Does what the command line asks, and returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not sys.stdout:  # it was closed before Python began
        say("cannot write to standard output: it is closed")
        return FAILED
    with redirect_stdout(cast(TextIO, _Output(sys.stdout))):
        code = _told(lambda: _dispatch(arguments), arguments)
        return code or _told(_flush, arguments)


def _told(act: Callable[[], int], arguments: Sequence[str]) -> int:
    """The exit code of an act; what stops it is told on standard error."""
    try:
        return act()
    except ConfigError as error:
        say(*error.problems)
        return WRONG
    except RunError as error:  # of a verb: each run of a sweep has told its own
        say(str(error))
        return FAILED
    except KeyboardInterrupt:
        say("interrupted" if arguments[:1] and arguments[0] in VERBS else "interrupted before a run started")
        return FAILED
    except BrokenPipeError:  # whoever reads our output has seen enough, as `head` does
        return DONE


def _flush() -> int:
    sys.stdout.flush()
    return DONE


class _Output:
    """Standard output, whose refusal is a RunError, told once: from then on it leads nowhere, also when Python ends."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._refusals():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._refusals():
            self._stream.flush()

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            if isinstance(error, BrokenPipeError):
                raise
            raise RunError(f"cannot write to standard output: {reason_of(error)}") from error


def _dispatch(arguments: list[str]) -> int:
    if arguments and arguments[0] in VERBS:
        verb = importlib.import_module(f"tlrun.verbs.{arguments[0]}")
        try:
            code: int = verb.main(arguments[1:])
        except SystemExit:  # argparse has shown the verb's help
            return DONE
        return code
    if {"--help", "-h"} & set(arguments):
        options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        options.add_argument("--config-dir", "-cd")
        print(listing.help_text(listing.folders(options.parse_known_args(arguments)[0].config_dir)))
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
    from tlrun.compose.plan import Request, plan

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
    session = carry_out(planned, arguments, flags=_flags(options), origin=_origin(options))
    return session.report()


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


def _show(arguments: list[str]) -> int:
    """Prints what Hydra shows, all at once, since Hydra itself does not bear a reader who closes early."""
    code, shown = DONE, io.StringIO()
    try:
        with redirect_stdout(shown):
            under_hydra(arguments, _no_run)
    except SystemExit:  # there is nothing of that name to show, and Hydra has said so
        code = WRONG
    print(shown.getvalue(), end="")
    return code


def _no_run(config: DictConfig) -> None:
    raise AssertionError("a command that shows something started a run")
