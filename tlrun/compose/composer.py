"""Hydra composes one set of overrides after another; which of them are at fault is found where it refuses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tlrun.build import typed
from tlrun.compose.composed import Composed, version_base
from tlrun.compose.override_text import (
    bare_key,
    choice_problem,
    first_line,
    key_problem,
    missing_choices,
    package_of,
    package_problem,
    unknowable_keys,
)
from tlrun.config import ConfigError, ExperimentConfig
from tlrun.config.error_text import unknown
from tlrun.listing import config_folder

HYDRAS_SWEEP_DIR = "multirun/${now:%Y-%m-%d}/${now:%H-%M-%S}"
"""`hydra.sweep.dir` where nobody has set it."""

Refusals = tuple[dict[str, str], dict[str, list[str]]]
"""What is refused and hidden, as `Composer` says."""


@contextmanager
def composing(config_name: str, config_dir: str | None) -> Iterator[Composer]:
    """Hydra, set up as `hydra.main` does for such a primary config and folder of the user. Raises ConfigError."""
    path = create_config_search_path(str(config_folder()))
    if config_dir is not None:
        folder = Path(config_dir).resolve()
        if not folder.is_dir():
            raise ConfigError(f"--config-dir {config_dir}: no such folder")
        path.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="schema", path=None))
    if base := version_base():
        hydra.version.setbase(base["version_base"])
    GlobalHydra.instance().clear()
    try:
        yield Composer(Composed(Hydra.create_main_hydra2("tlrun", path), config_name))
    finally:
        GlobalHydra.instance().clear()


class Composer:
    """Composes one set of overrides after another, and finds which of them are at fault where Hydra refuses.

    refused: the overrides found at fault by now, and why, or nothing where another's fault may be the reason; they are
    left out of every later set that makes the same choices. hidden: for refused choices, the keys about which nothing can
    be said without them. in_all, by_choices: both, as they were before the first job, and after the last one that made
    these choices. settings: of the jobs in which nothing was wrong, in order.
    """

    def __init__(self, composed: Composed) -> None:
        self.composed = composed
        self.refused: dict[str, str] = {}
        self.hidden: dict[str, list[str]] = {}
        self.settings: list[ExperimentConfig] = []
        self.in_all: Refusals = ({}, {})
        self.by_choices: dict[tuple[str, ...], Refusals] = {}
        self.last: tuple[list[str], DictConfig, list[str]] | None = None

    def expand(self, overrides: Sequence[str], *, multirun: bool) -> tuple[bool, list[tuple[str, ...]], dict[str, Any]]:
        """Whether it is a sweep, the overrides of each job, and the node `hydra` that all share, not resolved."""
        parsed = {override: self.composed.parse(override) for override in overrides}
        self.composed.searchpath = [
            override for override, each in parsed.items() if each.key_or_group == "hydra.searchpath"
        ]
        fixed = [override for override in overrides if not parsed[override].is_sweep_override()]  # the last one holds
        several = {
            override: f"{override}: several values need -m (tlrun -m ...); a list is [a,b]"
            for override in overrides
            if override not in fixed
        }
        if not multirun:
            self.refused |= several
            self.hidden |= {
                each: [package_of(bare_key(parsed[each]))] for each in several if self.composed.chooses(parsed[each])
            }
        config = self.open(fixed) if multirun else self.settle(fixed)[0]
        node = _plain(config)["hydra"]
        if not multirun and not str(node["mode"]).endswith("MULTIRUN"):
            return False, [tuple(fixed)], node
        if only_composes(node):  # what a swept choice brings is known in the jobs alone: each of them is checked
            self.refused, self.hidden = {}, {}
        self.refused = {override: why for override, why in self.refused.items() if override not in several}
        for_hydra = [override for override, each in parsed.items() if each.is_hydra_override()]
        for override in set(for_hydra) - set(fixed):
            self.refused[override] = f"{override}: Hydra's own settings cannot be swept"
        if not str(node["sweeper"].get("_target_")).endswith(".BasicSweeper"):
            return True, [tuple(fixed)], node  # another sweeper chooses the values: each job is checked as it starts
        given = [f"{key}={value}" for key, value in (node["sweeper"].get("params") or {}).items()]
        axes = [*given, *(override for override in overrides if override not in for_hydra)]
        return True, [(*for_hydra, *job) for job in self._product(axes)], node

    def problems(self, overrides: Sequence[str], *, types: bool) -> list[str]:
        """What is wrong with one job."""
        self._recall(overrides)
        config, missing = self.settle(overrides)
        problems = [*filter(None, map(self.refused.get, overrides)), *missing]
        if not types:
            return problems
        # What a refused choice would have brought is not known, so nothing is said about what stands in its place.
        hidden = [key for each in overrides for key in self.hidden.get(each, ())]
        hidden += [package_of(each.partition(":")[0]) for each in missing]
        if "" in hidden:
            return problems
        HydraConfig.instance().set_config(config)  # for interpolations such as ${hydra:runtime.cwd}
        try:
            settings = typed(resolved(config))
        except ConfigError as error:
            return problems + [each for each in error.problems if not _under(each.partition(":")[0], hidden)]
        if problems or any(override in self.refused for override in overrides):
            return problems
        from tlrun.compose.resolve import check

        self.settings.append(settings)
        return check(settings)

    def _recall(self, overrides: Sequence[str]) -> None:
        """Goes on with what was refused in jobs of these choices: another choice may have the key that one has not."""
        if not self.by_choices:
            self.in_all = self.refused, self.hidden
        choices = tuple(override for override in overrides if self.composed.chooses(self.composed.parse(override)))
        refused, hidden = self.in_all
        self.refused, self.hidden = self.by_choices.setdefault(choices, (dict(refused), dict(hidden)))

    def settle(self, overrides: Sequence[str]) -> tuple[DictConfig, list[str]]:
        """The composed config, without overrides that Hydra refuses, and the choices that are still to be made."""
        kept = [override for override in overrides if override not in self.refused]
        if self.last is not None and self.last[0] == kept:
            return self.last[1:]
        problems: list[str] = []
        try:
            config = self.composed.compose(kept, RunMode.RUN)
        except Exception as error:  # Hydra raises many kinds
            config = self._without_refused(kept)
            missing = missing_choices(_plain(config)["hydra"]["runtime"]["choices"])
            for key in missing:
                if not any(override.startswith(f"{key}=") for override in self.refused):
                    problems.append(f"{key}: must be given{unknown('', self.composed.options(key.partition('@')[0]))}")
            if not missing and not any(override in self.refused for override in kept):
                problems.append(first_line(error))
        self.last = ([override for override in kept if override not in self.refused], config, problems)
        return config, problems

    def open(self, overrides: Sequence[str]) -> DictConfig:
        """Composes, leaving out what is refused, with choices that are still to be made left open."""
        kept = [override for override in overrides if override not in self.refused]
        try:
            return self.composed.compose(kept, RunMode.MULTIRUN)
        except Exception:
            return self._without_refused(kept)

    def _without_refused(self, overrides: Sequence[str]) -> DictConfig:
        """Composes without the overrides that are at fault, which it finds."""
        try:
            config = self.composed.compose([], RunMode.MULTIRUN)
        except Exception as error:
            raise ConfigError(f"{self.composed.config_name}: {first_line(error)}") from error
        parsed = {override: self.composed.parse(override) for override in overrides}
        stages = {override: self._stage(each) for override, each in parsed.items()}
        accepted: list[str] = []
        for stage in ("choices", "choices within choices", "values"):
            sound = []
            for override in (each for each in overrides if stages[each] == stage):
                if problem := self._problem(parsed[override], config):
                    hidden = [key for each in overrides for key in self.hidden.get(each, ())]
                    unknown_yet = hidden if stage == "values" else []
                    self.refused[override] = "" if _under(parsed[override].key_or_group, unknown_yet) else problem
                else:
                    sound.append(override)
            config = self._added(accepted, sound, config)
            accepted += [override for override in sound if override not in self.refused]
        return config

    def _added(self, accepted: Sequence[str], more: Sequence[str], config: DictConfig) -> DictConfig:
        """Composes with more overrides; where that fails, with one after the other, and refuses those that fail."""
        if not more:
            return config
        try:
            return self.composed.compose([*accepted, *more], RunMode.MULTIRUN)
        except Exception as error:
            if len(more) == 1:
                self.refused[more[0]] = f"{more[0]}: {first_line(error)}"
                return config
        fine: list[str] = []
        for override in more:
            config = self._added([*accepted, *fine], [override], config)
            fine += [override] if override not in self.refused else []
        return config

    def _product(self, axes: Sequence[str]) -> list[list[str]]:
        """Every job of a sweep in the order in which Hydra runs them."""
        try:
            overrides = self.composed.parser.parse_overrides(list(axes))
            jobs: list[list[str]] = BasicSweeper.split_arguments(overrides, None)[0]
        except Exception as error:  # a range or a glob that Hydra cannot expand
            self.refused[" ".join(axes)] = f"{' '.join(axes)}: {first_line(error)}"
            return []
        if not jobs:
            for each in overrides:
                if each.is_sweep_override() and not list(each.sweep_iterator()):
                    self.refused[str(each.input_line)] = f"{each.input_line}: stands for nothing"
        return jobs

    def _problem(self, override: Override, config: DictConfig) -> str | None:
        """What can be told of an override before it is composed, given the config that it would change."""
        if override.key_or_group.startswith("hydra."):
            return None
        settings = _plain(config)
        choices = settings.pop("hydra")["runtime"]["choices"]
        if self.composed.chooses(override):
            problem = choice_problem(override, self.composed.options(override.key_or_group), choices)
        elif override.package is not None:
            problem = package_problem(override, choices)
        else:
            return None if override.is_add() or override.is_force_add() else key_problem(override, settings, choices)
        if problem is not None:
            self.hidden[str(override.input_line)] = unknowable_keys(override, settings, choices)
        return problem

    def _stage(self, override: Override) -> str:
        """When an override can be judged: what it changes must have been chosen before."""
        if override.key_or_group.startswith("hydra."):
            return "choices"  # hydra.searchpath adds to what there is to choose
        if not self.composed.chooses(override):
            return "values"
        return "choices" if override.package is None else "choices within choices"


def only_composes(node: Mapping[str, Any]) -> bool:
    """Whether the node `hydra` asks nothing of Hydra beyond composing: no launcher, search, callback or file of its own."""
    choices = node["runtime"]["choices"]
    basic = all(str(node[part].get("_target_")).endswith(f".Basic{part.title()}") for part in ("launcher", "sweeper"))
    silent = all(choices.get(f"hydra/{group}") == "none" for group in ("job_logging", "hydra_logging"))
    writes = node["output_subdir"] is not None or node["run"]["dir"] != "." or node["sweep"]["dir"] != HYDRAS_SWEEP_DIR
    asks = node["callbacks"] or node["job"]["env_set"] or node["job"]["chdir"] or node["verbose"]
    return basic and silent and not writes and not asks


def resolved(config: DictConfig) -> dict[str, Any]:
    """Plain values with every interpolation followed. Raises ConfigError where one leads nowhere."""
    try:
        return {str(key): value for key, value in _plain(config, resolve=True).items() if key != "hydra"}
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {first_line(error)}") from error


def _plain(config: DictConfig, *, resolve: bool = False) -> dict[str, Any]:
    without = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]) if resolve else config
    plain = OmegaConf.to_container(without, resolve=resolve)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _under(key: str, nodes: Iterable[str]) -> bool:
    """Whether a key is one of these nodes or lies below one; all keys lie below the empty one."""
    return any(not node or f"{key}.".startswith(f"{node}.") for node in nodes)
