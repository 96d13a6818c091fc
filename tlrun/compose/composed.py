"""One command's configs as Hydra composes them, at a fraction of the time where jobs make the same choices."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from contextlib import suppress

import hydra
from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra._internal.hydra import Hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf


def version_base() -> dict[str, str]:
    """The argument without which Hydra 1.3 behaves as 1.0, and of which 1.4 warns."""
    return {"version_base": "1.3"} if hydra.__version__.startswith("1.3.") else {}


class Composed:
    """Hydra, and what it composed by now.

    searchpath: overrides of `hydra.searchpath`, which add to what there is to choose.
    """

    def __init__(self, engine: Hydra, config_name: str) -> None:
        self.hydra = engine
        self.config_name = config_name
        self.parser = OverridesParser.create(config_loader=engine.config_loader)
        self.searchpath: list[str] = []
        self._parsed: dict[str, Override] = {}
        self._options: dict[str, list[str]] = {}
        self._without_values: dict[tuple[str, ...], bytes] = {}

    def parse(self, override: str) -> Override:
        if override not in self._parsed:
            self._parsed[override] = self.parser.parse_override(override)
        return self._parsed[override]

    def options(self, group: str) -> list[str]:
        """What there is to choose from in a group; nothing where there is no such group."""
        if group not in self._options:
            self._options[group] = self.hydra.config_loader.get_group_options(
                group, config_name=self.config_name, overrides=self.searchpath
            )
        return self._options[group]

    def chooses(self, override: Override) -> bool:
        """Whether an override chooses from a group."""
        return not isinstance(override._value, dict) and bool(self.options(override.key_or_group))

    def compose(self, overrides: Sequence[str], mode: RunMode) -> DictConfig:
        """Raises whatever Hydra raises. Mode MULTIRUN leaves open what is still to be chosen, RUN refuses it."""
        if mode == RunMode.RUN:
            with suppress(Exception):  # what is wrong with them, Hydra says below
                parsed = [self.parse(override) for override in overrides]
                values = [each for each in parsed if self._is_plain_value(each)]
                if values and not any(each.is_add() or each.is_force_add() or each.is_delete() for each in parsed):
                    return self._with_values(parsed, values)
        return self.hydra.compose_config(self.config_name, list(overrides), mode, from_shell=True)

    def _with_values(self, overrides: Sequence[Override], values: Sequence[Override]) -> DictConfig:
        """What Hydra composes of such overrides, made from what it composed without those that only set a value.

        Jobs with the same choices differ in such values alone, and Hydra sets them last. It takes some 0.3 s to compose;
        a copy takes a hundredth of that, as a pickle (`copy.deepcopy` takes four times as long).
        """
        base = tuple(str(each.input_line) for each in overrides if each not in values)
        if base not in self._without_values:
            composed = self.hydra.compose_config(self.config_name, list(base), RunMode.RUN, from_shell=True)
            self._without_values[base] = pickle.dumps(composed)
        config: DictConfig = pickle.loads(self._without_values[base])
        for each in values:
            OmegaConf.update(config, each.key_or_group, each.value(), merge=True)
        task = [each for each in overrides if not each.is_hydra_override()]
        job, naming = config.hydra.job, config.hydra.job.config.override_dirname
        config.hydra.overrides.task = [each.input_line for each in task]
        job.override_dirname = get_overrides_dirname(
            task, kv_sep=naming.kv_sep, item_sep=naming.item_sep, exclude_keys=naming.exclude_keys
        )
        return config

    def _is_plain_value(self, override: Override) -> bool:
        """Whether it gives one of our settings one value."""
        ours = override.package is None and not override.key_or_group.startswith("hydra")
        return ours and not override.is_sweep_override() and not self.chooses(override)
