"""Runs that differ in their seed alone are a group; groups have a floor, a ceiling and a scratch of the same setting."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from tlrun.report.collect import Run

Role = Literal["floor", "ceiling", "scratch"]

REFERENCES: dict[Role, str] = {"floor": "source_only", "ceiling": "target_only", "scratch": "scratch"}
"""The strategies that methods are held against."""

_OWN = (
    "data.target_labels",
    "data.target_val_labels",
    "data.normalize",
    "data.mean",
    "data.std",
    "model.weights",
    "model.head",
    "engine.select",
)
"""Settings whose named value follows from the strategy: no difference in the setting that two methods share."""

_BUDGET = ("engine.epochs", "engine.steps_per_epoch", "engine.batch_size", "engine.accumulate")
"""How many rows a run trains on."""

_ALIKE = ("data.normalize", "data.mean", "data.std", "model.head")
"""Those of them in which a reference agrees as far as one is there that does."""

_AUTOMATIC_SELECT = {
    "floor": ("source_val", "last"),
    "ceiling": ("target_val", "last"),
    "scratch": ("target_val", "last"),
}


@dataclass(frozen=True, eq=False)
class Group:
    """Runs of one configuration, one a seed, in the order of their seeds.

    differs: the settings that tell it from other groups of the report, dotted key -> value. references: the groups to
    hold it against, as far as they are there.
    """

    runs: tuple[Run, ...]
    differs: Mapping[str, Any] = field(default_factory=dict)
    references: dict[Role, Group] = field(default_factory=dict)

    @property
    def pair(self) -> str:
        return self.runs[0].pair

    @property
    def strategy(self) -> str:
        return self.runs[0].strategy

    @property
    def settings(self) -> Mapping[str, Any]:
        return self.runs[0].settings

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.seed for run in self.runs)

    @property
    def role(self) -> Role | None:
        """Which of REFERENCES it is, if any."""
        return next((role for role, name in REFERENCES.items() if name == self.strategy), None)

    @property
    def label(self) -> str:
        """Its strategy and what tells it from others, for legends: `mmd, lr=0.01`."""
        return ", ".join([self.strategy, *(f"{short(key)}={shown(value)}" for key, value in self.differs.items())])

    @cached_property
    def by_seed(self) -> dict[int, Run]:
        return {run.seed: run for run in self.runs}

    def figures(self, name: str, seeds: Iterable[int] | None = None) -> list[float]:
        """A number of the summary, run by run, where it is there; all runs, or those of some seeds."""
        runs = self.runs if seeds is None else [self.by_seed[seed] for seed in seeds]
        values = (run.figure(name) for run in runs)
        return [value for value in values if value is not None]


def group(runs: Iterable[Run]) -> list[Group]:
    """The groups, sorted by pair, then floor, scratch, methods by name, ceiling; each with its references."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(_text(run.settings), []).append(run)
    groups = [Group(tuple(sorted(each, key=lambda run: run.seed))) for each in found.values()]
    keys = differing_keys(groups)
    told = [Group(each.runs, {key: each.settings[key] for key in keys if key in each.settings}) for each in groups]
    for each in told:
        for role in REFERENCES:
            if (reference := find_reference(each, role, told)) is not None:
                each.references[role] = reference
    return sorted(told, key=_order)


def differing_keys(groups: Sequence[Group]) -> list[str]:
    """The settings that tell groups of the same pair apart, beside what follows from the strategy; sorted.

    A strategy's own settings, and those that it decides, count where they differ within one strategy.
    """
    values: dict[tuple[str, str, str], set[str]] = {}
    keys = sorted({key for each in groups for key in each.settings})
    for each in groups:
        for key in keys:
            strategy = each.strategy if _is_own(key) else ""
            value = _text(each.settings[key]) if key in each.settings else "absent"
            values.setdefault((key, each.pair, strategy), set()).add(value)
    return sorted({key for (key, _, _), found in values.items() if len(found) > 1})


def find_reference(group: Group, role: Role, groups: Iterable[Group]) -> Group | None:
    """The group to hold this one against: the same pair, data, model, optimizer, schedule and engine settings.

    Labels that a strategy does not read are no difference for floor and ceiling; `scratch` must have been granted the
    labels that the group reads. A source model counts as the weights that it started from. Where several fit, one that
    sees the data as the group does; of these the one selected by the same rule, else by the rule that `auto` stands for.
    A rule that peeks is only held against one that does. None for itself, and where there is none.
    """
    if group.role == role:
        return None
    fitting = most_alike(group, [each for each in groups if each.role == role and _fits(group, each, role)])
    select = group.settings.get("engine.select")
    for rule in (select, *_AUTOMATIC_SELECT[role]):
        for each in fitting:
            if each.settings.get("engine.select") == rule:
                return each
    return fitting[0] if fitting else None


def most_alike(group: Group, others: Sequence[Group]) -> list[Group]:
    """Those of the others that agree with the group in most of what a strategy may decide for itself about data and head."""
    agreeing = [sum(group.settings.get(key) == each.settings.get(key) for key in _ALIKE) for each in others]
    return [each for each, number in zip(others, agreeing, strict=True) if number == max(agreeing)]


def same_setting(group: Group, other: Group) -> bool:
    """Whether two groups agree in all settings that do not belong to a strategy, and either both peek or neither does."""
    return shared_settings(group.settings) == shared_settings(other.settings) and _peeks(group) == _peeks(other)


def shared_settings(settings: Mapping[str, Any]) -> str:
    """One text for equal settings, those apart that belong to the strategy or follow from it."""
    return _text({key: value for key, value in settings.items() if not _is_own(key)})


def data_and_budget(settings: Mapping[str, Any]) -> str:
    """One text for equal data and equal budgets; model, strategy and what else may be tuned at them apart."""
    return _text({key: value for key, value in settings.items() if _is_task(key) and not _is_own(key)})


def setting_without(group: Group, keys: Collection[str]) -> str:
    """One text for equal settings, those at some dotted keys apart; a rule that peeks counts even where its key does not."""
    return _text([{key: value for key, value in group.settings.items() if key not in keys}, _peeks(group)])


def short(key: str) -> str:
    """The last part of a dotted key, with the one before it where the last one alone says nothing."""
    *before, last = key.split(".")
    return f"{before[-1]}.{last}" if before and last in ("name", "_target_", "rotation", "shift") else last


def shown(value: Any) -> str:
    """A setting's value as a user would write it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _fits(group: Group, reference: Group, role: Role) -> bool:
    if not same_setting(group, reference):
        return False
    ours, theirs = group.settings, reference.settings
    if role == "scratch":
        return bool(ours.get("data.target_labels") == theirs.get("data.target_labels"))
    weights = ours.get("model.weights")
    if weights == "source":
        start = ours.get("pretrain.weights")
        return bool(theirs.get("model.weights") in (("random", "imagenet") if start == "auto" else (start,)))
    return bool(theirs.get("model.weights") == weights)


def _peeks(group: Group) -> bool:
    return bool(group.settings.get("engine.select") == "oracle")


def _is_own(key: str) -> bool:
    return key in _OWN or key.startswith(("strategy.", "pretrain."))


def _is_task(key: str) -> bool:
    return key.startswith("data.") or key in _BUDGET


def _text(value: Any) -> str:
    """One text for equal values: 1 and 1.0 are equal, as in a run's digest."""
    return json.dumps(_canonical(value), sort_keys=True)


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _order(group: Group) -> tuple[Any, ...]:
    place = {"floor": 0, "scratch": 1, None: 2, "ceiling": 3}[group.role]
    # Numbers sort as numbers, and before words.
    values = [
        (key, 0, value, "") if isinstance(value, int | float) else (key, 1, 0, _text(value))
        for key, value in group.differs.items()
    ]
    return (group.pair, place, group.strategy, values)
