"""From the `name:` of a component to its class, and from composed values to typed settings, without loading torch."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import ValidationError

from tlrun.config import (
    AugmentSettings,
    ConfigError,
    DomainSettings,
    ExperimentConfig,
    ModelSettings,
    OptimSettings,
    PairSettings,
    ScheduleSettings,
    Settings,
    StrategySettings,
)
from tlrun.config.error_text import MISSING, did_you_mean, error_lines, shown, unknown
from tlrun.config.settings_source import has_component, read_settings

Group = Literal["strategy", "domain", "model", "schedule"]
Leaf = Literal["optim", "albumentations"]


@dataclass(frozen=True)
class _Home:
    """Where the components of a group live, and what they and their settings derive from."""

    package: str
    base: tuple[str, str]
    settings: type[Settings]


_HOMES: dict[Group, _Home] = {
    "strategy": _Home("tlrun.strategies", ("tlrun.strategies.base", "Strategy"), StrategySettings),
    "domain": _Home("tlrun.data.datasets", ("tlrun.data.domain", "Domain"), DomainSettings),
    "model": _Home("tlrun.models", ("tlrun.models.transfer", "Backbone"), ModelSettings),
    "schedule": _Home("tlrun.engine.schedules", ("tlrun.engine.schedules", "Schedule"), ScheduleSettings),
}


@dataclass(frozen=True)
class _Library:
    """Where third-party classes may come from, what they derive from, and the arguments that the engine gives them."""

    package: str
    bases: tuple[str, ...]
    own: tuple[str, ...] = ()


_LEAVES: dict[Leaf, _Library] = {
    "optim": _Library("torch.optim", ("Optimizer",), own=("params", "lr", "weight_decay")),
    "albumentations": _Library("albumentations", ("BasicTransform", "BaseCompose")),
}
"""The allow-list: nothing else that a `_target_` names is ever run."""


def settings_class(group: Group, name: str, *, where: str | None = None) -> type[Settings]:
    """The typed settings of the component called `name`, read without importing its module where that can be done.

    Importing a strategy or a model loads torch, and a mistake in the settings should be told before that. where: the
    key to name in errors, the group by default. Raises ConfigError when there is no such component.
    """
    where = where or group
    if group == "schedule" and "." not in name:
        from tlrun.engine.schedules import SCHEDULES

        if name not in SCHEDULES:
            raise ConfigError(_no_such(where, name, SCHEDULES))
        return SCHEDULES[name]
    module, path = _find(group, name, where)
    found = None
    if module not in sys.modules and path is not None:
        try:
            found = read_settings(module, path)
        except SyntaxError as error:
            raise ConfigError(f"{where}.name: {path}, line {error.lineno}: {error.msg}") from error
    if found is None:
        found = _settings_of(component_class(group, name, where=where))
    if not issubclass(found, _HOMES[group].settings):
        base = _HOMES[group].settings.__name__
        raise ConfigError(f"{where}.name: the Config in {module} must derive from tlrun.config.{base}")
    return found


def component_class(group: Group, name: str, *, where: str | None = None) -> type[Any]:
    """The one component class of the module that `name` stands for, imported.

    Raises ConfigError when there is no such module, when a user's own cannot be imported, and when it defines none
    or several.
    """
    where = where or group
    if group == "schedule" and "." not in name:
        return settings_class(group, name, where=where)
    path, _ = _find(group, name, where)
    try:
        module = importlib.import_module(path)
    except Exception as error:
        if path.startswith("tlrun."):
            raise
        raise ConfigError(f"{where}.name: importing {path!r} failed: {_reason(error)}") from error
    base_module, base_name = _HOMES[group].base
    base = getattr(importlib.import_module(base_module), base_name)
    found = [
        each
        for each in vars(module).values()
        if inspect.isclass(each) and each.__module__ == path and issubclass(each, base) and each is not base
    ]
    if len(found) != 1:
        names = ", ".join(each.__name__ for each in found) or "none"
        raise ConfigError(
            f"{where}.name: {path} must define exactly one subclass of {base_module}.{base_name}, found {names}"
        )
    return found[0]


def component_names(group: Group) -> list[str]:
    """The names of the group's own components, sorted: its modules that hold a class with a nested `Config`."""
    if group == "schedule":
        from tlrun.engine.schedules import SCHEDULES

        return sorted(SCHEDULES)
    spec = importlib.util.find_spec(_HOMES[group].package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    modules = [(Path(folder) / f"{info.name}.py", info.name) for folder in folders for info in _modules(folder)]
    return sorted(name for path, name in modules if path.is_file() and has_component(path))


def leaf(target: str, group: Leaf, *, arguments: Iterable[str] = (), where: str | None = None) -> type[Any]:
    """The third-party class at `target`, such as `torch.optim.SGD`; imports the library.

    arguments: the names that settings give to it; those that the engine gives (`params`, `lr`, `weight_decay`) are
    none of them. where: the key to name in errors. Raises ConfigError when the class is not one that the group allows
    or does not take such an argument.
    """
    where = where or group
    if problem := leaf_problem(target, group, where=where):
        raise ConfigError(problem)
    package, names = _LEAVES[group].package, _LEAVES[group].bases
    if group == "albumentations":
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for its version when imported
    module = importlib.import_module(package)
    bases = tuple(getattr(module, each) for each in names)
    name = target.removeprefix(f"{package}.")
    found = getattr(module, name, None)
    if not (inspect.isclass(found) and issubclass(found, bases) and found not in bases):
        known = [key for key, each in vars(module).items() if inspect.isclass(each) and issubclass(each, bases)]
        near = did_you_mean(name, [each for each in known if each not in names])
        raise ConfigError(f"{where}._target_: {package} has no {names[0]} called {name!r}{near and f'; {near}'}")
    parameters = inspect.signature(found).parameters
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        return found
    taken = [each for each in parameters if each not in _LEAVES[group].own]
    if refused := [each for each in arguments if each not in taken]:
        raise ConfigError(f"{where}.{each}: {target} takes no such argument{unknown(each, taken)}" for each in refused)
    return found


def leaf_problem(target: object, group: Leaf, *, where: str) -> str | None:
    """What is wrong with a `_target_` as far as its text tells, without importing anything."""
    package = _LEAVES[group].package
    if target is None or target == MISSING:
        return f"{where}._target_: must be given, as {package}.<class>"
    rest = str(target).removeprefix(f"{package}.")
    if rest == str(target) or not rest.isidentifier():
        return f"{where}._target_: must be {package}.<class>, got {shown(target)}"
    return None


def _find(group: Group, name: str, where: str) -> tuple[str, Path | None]:
    """Full module name and file of the component; the file is None where the module is not plain Python.

    Runs no module but the parent packages, whose `__init__.py` in ours hold a docstring. Raises ConfigError.
    """
    ours = "." not in name
    full = f"{_HOMES[group].package}.{name}" if ours else name
    try:
        spec = importlib.util.find_spec(full) if name.isidentifier() or not ours else None
    except Exception as error:  # the parent packages are the user's own code, which may raise anything
        raise ConfigError(f"{where}.name: importing {name!r} failed: {_reason(error)}") from error
    path = Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None
    if ours and not (path and has_component(path)):
        raise ConfigError(_no_such(where, name, component_names(group)))
    if spec is None:
        raise ConfigError(
            f"{where}.name: no module {name!r}; it must be installed, or its folder be in the environment's PYTHONPATH"
        )
    return full, path


def _no_such(where: str, name: str, choices: Iterable[str]) -> str:
    return f"{where}.name: there is no {name!r}{unknown(name, choices)}"


def _reason(error: Exception) -> str:
    text = str(error).splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _modules(folder: str) -> Iterator[pkgutil.ModuleInfo]:
    return (info for info in pkgutil.iter_modules([folder]) if not info.ispkg)


def _settings_of(component: type[Any]) -> type[Settings]:
    found = getattr(component, "Config", None)
    if not (inspect.isclass(found) and issubclass(found, Settings)):
        raise ConfigError(f"{component.__module__}.{component.__qualname__} has no nested class Config")
    return found


_COMPONENTS: dict[str, Group] = {
    "strategy": "strategy",
    "data.source": "domain",
    "data.target": "domain",
    "model": "model",
    "schedule": "schedule",
    "pretrain.strategy": "strategy",
    "pretrain.schedule": "schedule",
}
"""The keys that hold a component, chosen by the `name` within them."""

_LEAF_KEYS = ("optim", "pretrain.optim")


def _group_at(key: str) -> Group | None:
    """The group of the component at a key; a domain may be made `of` another one, which lies within it."""
    while key.endswith(".of"):
        key = key.removesuffix(".of")
    return _COMPONENTS.get(key)


def typed(composed: Mapping[str, Any]) -> ExperimentConfig:
    """The whole config from plain composed values: typed, in range, no key unknown, none missing.

    Raises ConfigError with every problem, each under its full key.
    """
    problems: list[str] = []
    config = _typed_node(ExperimentConfig, composed, "", problems)
    if config is None or problems:
        raise ConfigError(dict.fromkeys(problems))
    assert isinstance(config, ExperimentConfig)
    return config


def typed_pair(composed: Mapping[str, Any]) -> PairSettings:
    """The node `data` alone, as `typed` has it. Raises ConfigError with every problem."""
    problems: list[str] = []
    pair = _typed_node(PairSettings, composed, "data", problems)
    if pair is None or problems:
        raise ConfigError(dict.fromkeys(problems))
    assert isinstance(pair, PairSettings)
    return pair


def _typed_node(kind: type[Settings], value: Any, key: str, problems: list[str]) -> Settings | None:
    """One node, those below it first, so that what is wrong in one hides nothing in another; None where it fails."""
    if not isinstance(value, Mapping):
        how = f"; choose with {_choice(key)}={value}" if _group_at(key) and isinstance(value, str) else ""
        problems.append(f"{key}: must be a group of settings, got {shown(value)}{how}")
        return None
    if group := _group_at(key):
        found = _component_settings(group, value, key, problems)
        if found is None:
            return None
        kind = found
    values, failed = dict(value), set()
    for name, field in kind.model_fields.items():
        below, optional = _settings_below(field.annotation)
        name = field.alias or name
        if name in values and below is not None and not (optional and values[name] is None):
            values[name] = _typed_node(below, values[name], _join(key, name), problems)
            if values[name] is None:
                failed.add(name)
    try:
        node = kind.model_validate(values)
    except ValidationError as error:
        problems += error_lines(error, kind, values, key, leave_out=failed)
        return None
    problems += _truth_problems(node, value, key)
    problems += [_join(key, problem) for problem in node.problems()]
    problems += _leaf_problems(node, key)
    return node


def _settings_below(annotation: Any) -> tuple[type[Settings] | None, bool]:
    """The kind of settings that a field holds, if it holds such, and whether it may hold null instead."""
    for each in (annotation, *get_args(annotation)):
        each = get_args(each)[0] if get_origin(each) is Annotated else each
        if inspect.isclass(each) and issubclass(each, Settings):
            return each, type(None) in get_args(annotation)
    return None, False


def _choice(key: str) -> str:
    """The override that chooses the component at a key: `domain@data.source`."""
    group = _group_at(key)
    return key if group == key else f"{group}@{key}"


def _component_settings(group: Group, value: Mapping[str, Any], key: str, problems: list[str]) -> type[Settings] | None:
    name = value.get("name")
    if not isinstance(name, str):
        problems.append(f"{key}.name: missing" if name is None else f"{key}.name: must be text, got {shown(name)}")
        return None
    try:
        return settings_class(group, name, where=key)
    except ConfigError as error:
        problems += error.problems
        return None


def _truth_problems(node: Settings, value: Mapping[str, Any], key: str) -> list[str]:
    # To Python true is the number 1, and pydantic takes it for one; to a person it is a slip.
    found = {name: type(getattr(node, name, given)) for name, given in value.items() if isinstance(given, bool)}
    kinds = {int: "a whole number", float: "a number"}
    return [
        f"{_join(key, name)}: must be {kinds[kind]}, got {shown(value[name])}"
        for name, kind in found.items()
        if kind in kinds
    ]


def _leaf_problems(node: Settings, key: str) -> list[str]:
    if isinstance(node, OptimSettings):
        found = [leaf_problem(node.target, "optim", where=key)]
    elif isinstance(node, AugmentSettings):
        found = [
            leaf_problem(each.get("_target_"), "albumentations", where=f"{key}.albumentations.{number}")
            for number, each in enumerate(node.albumentations)
        ]
    else:
        return []
    return [problem for problem in found if problem]


def _join(key: str, rest: str) -> str:
    return f"{key}.{rest}" if key else rest
