"""What a fair comparison runs: strategies between their floor and their ceiling, over seeds and granted labels.

It is a sweep, planned by `compose.plan.plan` and done by `session.carry_out`; what is here says which runs belong to it, and
how each of them stands. Loads no torch, but where only that can name device and precision.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hydra.core.override_parser.overrides_parser import OverridesParser

from tlrun.compose.override_text import readable
from tlrun.compose.plan import Job, Request, job_names, located, plan
from tlrun.compose.resolve import for_machine, name_choices, pretrain_config
from tlrun.config import ConfigError, ExperimentConfig, FileDomainSettings
from tlrun.evidence.own_settings import share_out
from tlrun.report.groups import REFERENCES, Role
from tlrun.run import RunFolder, State

SEEDS = 3
"""So many where the command does not say: the fewest that tell something of their spread."""

MOST_SEEDS = 200
"""More are refused: a run takes some 0.05 s to compose before anything is shown, and a comparison has several a seed."""

Requests = dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]]
"""Sweeps: strategies by their overrides and grants."""

_ORDER: tuple[Role | None, ...] = ("floor", "scratch", None, "ceiling")


@dataclass(frozen=True)
class Asked:
    """What a command line wants compared.

    labels: the grants `data.target_labels`, empty where the command names none or one among its settings. own: settings
    of the strategies asked for (`strategy.KEY`), each for those that have the key; common: all others.
    """

    strategies: tuple[str, ...]
    seeds: tuple[int, ...]
    labels: tuple[str, ...]
    common: tuple[str, ...]
    own: tuple[str, ...]
    config_dir: str | None


@dataclass(frozen=True)
class Member:
    """One run of a comparison: every setting named, and how it stood when the comparison was planned.

    job: how a sweep has it; None for a source model that is no other run of the comparison, since the first that starts
    from it trains it.
    """

    config: ExperimentConfig
    state: State
    job: Job | None

    @property
    def folder(self) -> RunFolder:
        return RunFolder.of(self.config)

    @property
    def role(self) -> Role | None:
        """What the others are held against, if it is that."""
        return next((role for role, name in REFERENCES.items() if name == self.config.strategy.name), None)


@dataclass(frozen=True)
class Comparison:
    """All runs, each once, seed after seed; source models that are still to be made; and what cannot be, and why.

    notes: settings of a strategy that do not reach every strategy asked for, a line each.
    """

    members: tuple[Member, ...]
    source_models: tuple[Member, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


def read_asked(overrides: Sequence[str], *, config_dir: str | None) -> Asked:
    """What a command's settings ask for. Raises ConfigError with all that is wrong with them as such."""
    given: dict[str, str] = {}
    common: list[str] = []
    own: list[str] = []
    problems: list[str] = []
    for text in overrides:
        key, _, value = text.partition("=")
        if key in ("strategy", "seeds", "labels"):
            problems += [f"{key}: is given twice"] if key in given else []
            given[key] = value
        elif key.lstrip("+~") == "seed":
            problems.append(f"{text}: compare takes seeds: seeds=5 for 0 to 4, or a list such as seeds=3,4,9")
        elif problem := _sweeps(text):
            problems.append(problem)
        elif key.lstrip("+~").startswith("strategy."):
            own.append(text)
        else:
            common.append(text)
    if "labels" in given and any(text.startswith("data.target_labels=") for text in common):
        problems.append("labels: and data.target_labels say the same thing; give one of them")
    strategies = _names(given.get("strategy", ""))
    if not strategies:
        problems.append("strategy: must name what is compared, such as strategy=dann,mmd (tlrun list strategies)")
    problems += [f"strategy={name}: must be a name, or several with commas between" for name in strategies
                 if not re.fullmatch(r"[\w./-]+", name)]  # fmt: skip
    if "labels" in given and not _names(given["labels"]):
        problems.append("labels: must be none, all, or numbers per class with commas between, such as labels=1,5,10")
    seeds: tuple[int, ...] = ()
    try:
        seeds = _seeds(given.get("seeds", str(SEEDS)))
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)
    return Asked(strategies, seeds, _names(given.get("labels", "")), tuple(common), tuple(own), config_dir)


def plan_comparison(asked: Asked) -> Comparison:
    """Composes, types and cross-checks every run, and looks up how it stands. Raises ConfigError with all problems."""
    shared = share_out(
        asked.strategies,
        [name for name in REFERENCES.values() if name not in asked.strategies],
        common=asked.common,
        own=asked.own,
        config_dir=asked.config_dir,
    )
    wanted: Requests = {}
    for name in asked.strategies:
        overrides = (*asked.common, *shared.resets.get(name, ()), *shared.own[name])
        wanted.setdefault((overrides, asked.labels), []).append(name)
    jobs = _all_planned(asked, wanted)
    if len(wanted) > 1:
        jobs.sort(key=lambda job: asked.strategies.index(_strategy(job)))
    brackets, left_out = _brackets(jobs[0].settings)
    jobs += _all_planned(asked, _requests(asked, brackets, [job.settings for job in jobs], shared.resets))
    members = _members(jobs)
    seeds = {seed: number for number, seed in enumerate(asked.seeds)}
    members.sort(key=lambda each: (seeds[each.config.seed], _ORDER.index(each.role)))
    return Comparison(tuple(members), tuple(_source_models(members)), tuple(left_out), shared.notes)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, (each.strip() for each in text.split(",")))))


def _seeds(text: str) -> tuple[int, ...]:
    """The seeds that a text stands for. Raises ConfigError where it stands for none, or for too many."""
    names = _names(text)
    are_numbers = all(re.fullmatch("[0-9]{1,18}", name) for name in names)
    numbers = tuple(dict.fromkeys(map(int, names))) if are_numbers else ()
    listed = numbers if "," in text else range(numbers[0] if numbers else 0)
    if not listed:
        raise ConfigError(f"seeds: must be how many (above 0), or a list of whole numbers such as 3,4,9, got {text}")
    if len(listed) > MOST_SEEDS:
        raise ConfigError(f"seeds: must be at most {MOST_SEEDS}, got {len(listed):,}")
    return tuple(listed)


def _sweeps(text: str) -> str | None:
    """What is wrong with a setting of several values."""
    try:
        several = OverridesParser.create().parse_override(readable(text)).is_sweep_override()
    except ConfigError:  # told with everything else that composing finds
        return None
    if not several:
        return None
    if text.startswith("data.target_labels="):
        return f"{text}: write labels={text.partition('=')[2]}"
    return f"{text}: compare varies strategy, seeds and labels alone; for more: tlrun -m ..., then tlrun report"


def _all_planned(asked: Asked, requests: Requests) -> list[Job]:
    """The jobs of several sweeps. Raises ConfigError with the problems of all."""
    jobs: list[Job] = []
    problems: list[str] = []
    for (overrides, labels), names in requests.items():
        try:
            jobs += _planned(asked, names, overrides, labels)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(dict.fromkeys(problems))
    return jobs


def _strategy(job: Job) -> str:
    """The strategy as the sweep chose it."""
    return next(text for text in reversed(job.overrides) if text.startswith("strategy=")).partition("=")[2]


def _planned(asked: Asked, names: Iterable[str], overrides: Iterable[str], labels: Sequence[str]) -> Sequence[Job]:
    """The jobs of one sweep over strategies, seeds and grants. Raises ConfigError."""
    axes = [f"strategy={','.join(names)}", f"seed={','.join(map(str, asked.seeds))}"]
    axes += [f"data.target_labels={','.join(labels)}"] if labels else []
    planned = plan(Request((*overrides, *axes), multirun=True, config_dir=asked.config_dir))
    if not planned.here:
        raise ConfigError("hydra: compare runs here, one run after the other; for a launcher or a search of Hydra's: "
                          "tlrun -m ..., then tlrun report")  # fmt: skip
    return planned.here


def _brackets(settings: ExperimentConfig) -> tuple[list[Role], list[str]]:
    """Which of floor and ceiling there can be, and why the others cannot."""
    left_out = []
    if settings.data.source is None:
        left_out.append("no floor (source_only): there is no source to learn from")
    if settings.data.is_transductive:
        left_out.append("no ceiling (target_only): under data.protocol=transductive it would train on its test rows")
    elif not _has_labels(settings):
        left_out.append("no ceiling (target_only): no row of the target has a label")
    roles: tuple[Role, ...] = ("floor", "ceiling")
    return [role for role in roles if not any(each.startswith(f"no {role}") for each in left_out)], left_out


def _has_labels(settings: ExperimentConfig) -> bool:
    """Whether any target row has a label: only a user's own files may have none, and those are looked at."""
    if not isinstance(settings.data.target, FileDomainSettings):
        return True
    from tlrun.data.domain import load_domain

    return bool((load_domain(name_choices(settings).data, "target").train.y >= 0).any())


def _requests(
    asked: Asked,
    brackets: Sequence[Role],
    settings: Sequence[ExperimentConfig],
    resets: Mapping[str, tuple[str, ...]],
) -> Requests:
    """The sweeps that what is added needs. resets: of each strategy, as `OwnSettings` has them.

    Floor and ceiling do not read a grant, so one of a label curve does; `scratch` needs one. Weights that a strategy
    cannot start from are not passed on: `scratch` is from random ones, floor and ceiling are no second stage.
    """
    grants = tuple(dict.fromkeys(str(each.data.target_labels) for each in settings))
    granted = tuple(each for each in grants if each != "none")
    found: Requests = {}
    for role in brackets:
        common = [text for text in asked.common if text != "model.weights=source"]
        overrides = (*common, *resets.get(REFERENCES[role], ()))
        found.setdefault((overrides, asked.labels[:1]), []).append(REFERENCES[role])
    if granted:
        common = [text for text in asked.common if not text.startswith(("model.weights=", "model.head="))]
        overrides = (*common, *resets.get(REFERENCES["scratch"], ()))
        found.setdefault((overrides, granted if asked.labels else ()), []).append(REFERENCES["scratch"])
    return found


def _members(jobs: Sequence[Job]) -> list[Member]:
    """A member for each run: those of one name are one. Raises ConfigError where settings cannot be named."""
    found: dict[str, Member] = {}
    problems: dict[str, list[str]] = {}
    for name, job in zip(job_names([job.overrides for job in jobs]), jobs, strict=True):
        try:
            member = _member(name_choices(job.settings), job)
        except ConfigError as error:
            for problem in error.problems:
                problems.setdefault(problem, []).append(name)
            continue
        found.setdefault(str(member.folder.path), member)
    if problems:
        raise ConfigError(located(problems, len(jobs)))
    return list(found.values())


def _member(config: ExperimentConfig, job: Job | None) -> Member:
    named = for_machine(config)
    return Member(named, RunFolder.of(named).state(), job)


def _source_models(members: Sequence[Member]) -> list[Member]:
    """The source models that runs still to be done start from, and that are neither done nor members."""
    found: dict[str, Member] = {str(each.folder.path): each for each in members}
    for each in members:
        if each.state != "done" and each.config.model.weights == "source":
            inner = _member(pretrain_config(each.config), None)
            found.setdefault(str(inner.folder.path), inner)
    return [each for each in found.values() if each.job is None and each.state != "done"]
