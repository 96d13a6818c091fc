"""From the command line to settings, by Hydra: all jobs are composed before one starts, all mistakes told at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.types import RunMode

from tlrun.build import typed
from tlrun.compose.composer import HYDRAS_SWEEP_DIR, composing, only_composes, resolved
from tlrun.compose.override_text import as_typed, readable
from tlrun.config import ConfigError, ExperimentConfig


@dataclass(frozen=True)
class Request:
    """What a command line asks for, before anything is looked up."""

    overrides: tuple[str, ...]
    multirun: bool = False
    config_dir: str | None = None
    config_name: str = "train"


@dataclass(frozen=True)
class Job:
    """One run to be done in this process: its overrides as the user wrote them, and its settings."""

    overrides: tuple[str, ...]
    settings: ExperimentConfig


@dataclass(frozen=True)
class Plan:
    """What will run: the overrides as Hydra can read them, and a name for each job in order.

    hides_sweep_dir: Hydra is to keep its own files of the sweep where nobody sees them. here: each job, composed and
    typed, where this process runs them all and Hydra has nothing to do but compose; empty otherwise.
    """

    overrides: tuple[str, ...]
    jobs: tuple[str, ...]
    multirun: bool
    hides_sweep_dir: bool
    here: tuple[Job, ...] = ()


def plan(request: Request, *, problems: Iterable[str] = (), types: bool = True) -> Plan:
    """Composes, types and cross-checks every job. Raises ConfigError with all problems, `problems` first among them.

    types False leaves out typing and cross-checks, for commands that only show what was composed.
    """
    told = list(problems)
    overrides = []
    for text in request.overrides:
        try:
            overrides.append(readable(text))
        except ConfigError as error:
            told += error.problems
    with composing(request.config_name, request.config_dir) as composer:
        multirun, jobs, node = composer.expand(overrides, multirun=request.multirun)
        told += filter(None, composer.refused.values())
        names = job_names(jobs)
        refused: dict[str, Sequence[str]] = {}
        found: dict[str, Sequence[str]] = {}
        for name, job in zip(names, jobs, strict=True):
            for problem in composer.problems(job, types=types):
                kind = refused if problem in composer.refused.values() else found
                kind[problem] = [*kind.get(problem, ()), name]
            # What is said of an override that not all jobs have tells by itself which of them have it.
            swept = filter(None, (composer.refused.get(each) for each in job if each not in overrides))
            refused |= dict.fromkeys(swept, names)
        told += [*located(refused, len(jobs)), *located(found, len(jobs))]
    hides_sweep_dir = multirun and node["sweep"]["dir"] == HYDRAS_SWEEP_DIR
    launcher = node["runtime"]["choices"].get("hydra/launcher")
    if hides_sweep_dir and launcher != "basic":
        told.append(f"hydra.sweep.dir: must be given with hydra/launcher={launcher}, as a folder that its workers see")
    if told:
        raise ConfigError(dict.fromkeys(told))
    here: list[Job] = []
    if types and only_composes(node):
        for job, typed_settings in zip(jobs, composer.settings, strict=True):
            own = [each for each in job if not composer.composed.parse(each).is_hydra_override()]
            here.append(Job(tuple(map(as_typed, own)), typed_settings))
    return Plan(tuple(overrides), tuple(names), multirun, hides_sweep_dir, tuple(here))


def settings(request: Request) -> ExperimentConfig:
    """The typed and cross-checked settings of one run. Raises ConfigError with all problems."""
    planned = _plan_one(request)
    return planned.here[0].settings if planned.here else typed(_values(request, planned))


def composed(request: Request) -> dict[str, Any]:
    """The plain values of one run, neither typed nor cross-checked. Raises ConfigError, with what is wrong with overrides."""
    return _values(request, _plan_one(request, types=False))


def choices_alone(request: Request, group: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """The plain values of each of these choices of a group, composed by itself: in a third of a whole config's time."""
    with composing(request.config_name, request.config_dir) as composer:
        load = composer.composed.hydra.config_loader.load_configuration
        nodes = [load(config_name=f"{group}/{name}", overrides=[], run_mode=RunMode.RUN) for name in names]
        return [resolved(node)[group] for node in nodes]


def _plan_one(request: Request, *, types: bool = True) -> Plan:
    planned = plan(request, types=types)
    if planned.multirun:
        raise ConfigError("-m: a sweep is many runs; leave it out")
    return planned


def _values(request: Request, planned: Plan) -> dict[str, Any]:
    with composing(request.config_name, request.config_dir) as composer:
        return resolved(composer.settle(planned.overrides)[0])


def job_names(jobs: Sequence[Sequence[str]]) -> list[str]:
    """What tells each job of a sweep from the others: the overrides that not all of them have; all, where none does."""
    shared = set(jobs[0]).intersection(*jobs) if len(jobs) > 1 else set()
    own = [[override for override in job if override not in shared] or job for job in jobs]
    return [" ".join(map(as_typed, overrides)) for overrides in own]


def located(found: Mapping[str, Sequence[str]], jobs: int) -> list[str]:
    """The problems, each with the jobs that have it where that is not all of them."""
    lines = []
    for problem, labels in found.items():
        others = f" and {len(labels) - 1} more" if len(labels) > 1 else ""
        lines.append(f"{problem} [in {labels[0]}{others}]" if len(labels) < jobs else problem)
    return lines
