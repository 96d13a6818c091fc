"""Overrides as Hydra reads them, and mistakes in them as lines for people: what was typed, what may have been meant."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from omegaconf.errors import OmegaConfBaseException

from tlrun.config import ConfigError
from tlrun.config.error_text import MISSING, did_you_mean, unknown

_KEY = re.compile(r"[+~]{0,2}[\w./-]+(@[\w./:-]*)?(\[\d+\])*")

NOUNS = {"data": "pair", "optim": "optimizer"}
"""What an option of a group is called, where that is not the group's own name."""


def readable(text: str) -> str:
    """An override as Hydra can read it: a value that its grammar refuses is quoted, so `run.require=a>=0.7` is text.

    Raises ConfigError where it is no override at all, or an unfinished list or mapping.
    """
    key, equals, value = text.partition("=")
    if not equals and not text.startswith("~"):
        raise ConfigError(f"{text}: not a setting; settings are written key=value, see tlrun --help")
    if not _KEY.fullmatch(key):
        raise ConfigError(f"{text}: {key!r} is no key; settings are written key=value, see tlrun --help")
    try:
        OverridesParser.create().parse_override(text)
    except Exception as error:  # 1.3 and 1.4 raise different kinds
        if value[:1] in ("[", "{"):
            raise ConfigError(f"{text}: cannot be read as a list or mapping: {first_line(error)}") from error
        return f"{key}={QuotedString(value, Quote.single).with_quotes()}"
    return text


def as_typed(override: str) -> str:
    """The override as the user wrote it, where `readable` quoted it."""
    value = OverridesParser.create().parse_override(override)._value
    if not isinstance(value, QuotedString):
        return override
    bare = f"{override.partition('=')[0]}={value.text}"
    with suppress(ConfigError):
        return bare if readable(bare) == override else override
    return override


def choice_problem(override: Override, options: Sequence[str], choices: Mapping[str, Any]) -> str | None:
    """What is wrong with an override that chooses from a group with these options; choices: those made by now."""
    key, group = bare_key(override), override.key_or_group
    if override.is_delete():
        return None
    plain = str(override.input_line).lstrip("+")
    if key not in choices and not override.is_add():
        if places := places_of(group, choices):
            ways = [f"{place}={override.get_value_element_as_str()}" for place in places]
            return f"{override.input_line}: say where: {' or '.join(ways)}"
        return f"{override.input_line}: nothing is chosen from this group by default; write +{plain}"
    value = override.value()
    names = value if isinstance(value, list) else [value]
    wrong = [name for name in names if not isinstance(name, str) or name.removesuffix(".yaml") not in options]
    if wrong:
        return f"{override.input_line}: no such {noun(group)}{unknown(str(wrong[0]), options)}"
    if key in choices and plain != override.input_line:
        return f"{override.input_line}: this group is there already; write {plain}, without +"
    return None


def package_problem(override: Override, choices: Mapping[str, Any]) -> str:
    """What is wrong with an override that names a package of a group that does not exist."""
    near = did_you_mean(bare_key(override), choices)
    return f"{override.input_line}: no such group{f'; {near}' if near else ''}"


def key_problem(override: Override, settings: Mapping[str, Any], choices: Mapping[str, Any]) -> str | None:
    """What is wrong with the key of an override that sets a value, given the settings that it would change."""
    parts = re.findall(r"[^.\[\]]+", override.key_or_group)
    at: Any = settings
    for number, part in enumerate(parts):
        if at is None:
            key = ".".join(parts[:number])
            choice = next((each for each in choices if package_of(each) == key), None)
            how = (
                f"; choose it with {choice}=NAME"
                if choice
                else f"; give it whole: '{key}={{...}}', or add a key with +"
            )
            return f"{override.input_line}: {key} is null{how}"
        if not isinstance(at, Mapping):
            return None
        if part not in at:
            return f"{override.input_line}: unknown key{_key_hint(parts, number, at, settings, choices)}"
        at = at[part]
    return None


def missing_choices(choices: Mapping[str, Any]) -> list[str]:
    """The groups from which something must be chosen and nothing was."""
    return sorted(key for key, value in choices.items() if value == MISSING)


def places_of(group: str, choices: Mapping[str, Any]) -> list[str]:
    """The choices made from a group: `domain@data.source` and `domain@data.target` for `domain`."""
    return sorted(key for key in choices if key.partition("@")[0] == group)


def unknowable_keys(override: Override, settings: Mapping[str, Any], choices: Mapping[str, Any]) -> list[str]:
    """The keys about which nothing can be said once this choice is refused; the empty key stands for all."""
    if override.is_hydra_override():
        return []
    keys = [package_of(bare_key(override)), *map(package_of, places_of(override.key_or_group, choices))]
    found = [key for key in keys if holds(settings, key)]
    return found or [""]


def holds(settings: Any, key: str) -> bool:
    """Whether nested settings have a dotted key."""
    for part in key.split("."):
        if not isinstance(settings, Mapping) or part not in settings:
            return False
        settings = settings[part]
    return True


def noun(group: str) -> str:
    return NOUNS.get(group, group.rpartition("/")[2])


def bare_key(override: Override) -> str:
    return override.get_key_element().lstrip("+~")


def package_of(choice: str) -> str:
    """The key at which a choice puts its settings: `data.source` for `domain@data.source`, `model` for `model`."""
    group, _, package = choice.partition("@")
    return package or group.replace("/", ".")


def first_line(error: Exception) -> str:
    """The part of an error of Hydra, OmegaConf or YAML that tells what is wrong, and where in a file."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark and problem:  # YAML's own error, whose first line names neither
        return f"{mark.name}, line {mark.line + 1}: {problem}"
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return lines[0] if lines else type(cause).__name__


def _key_hint(
    parts: Sequence[str],
    number: int,
    at: Mapping[str, Any],
    settings: Mapping[str, Any],
    choices: Mapping[str, Any],
) -> str:
    """What may have been meant by a key whose part `number` is not in `at`."""
    before = "".join(f"{part}." for part in parts[:number])
    groups = [] if before else [key for key in choices if not key.startswith("hydra")]
    if near := did_you_mean(parts[number], [*at, *groups]):
        return f"; {near.replace('did you mean ', f'did you mean {before}', 1)}"
    places = [key for key in _keys(settings) if key.rpartition(".")[2] == parts[-1]]
    if places and "_target_" not in at:
        return f"; did you mean {' or '.join(places[:3])}?"
    chosen = [f" with {key}={choices[key]}" for key in choices if before and package_of(key) == before[:-1]]
    whose = f"keys of {before[:-1]}" if before else "keys"
    hint = f"{''.join(chosen)} ({whose}: {', '.join(at)})"
    if "_target_" in at:
        hint += f"; a further argument of the optimizer is added with +{'.'.join(parts)}=..."
    return hint


def _keys(node: Mapping[str, Any], before: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield f"{before}{key}"
        if isinstance(value, Mapping):
            yield from _keys(value, f"{before}{key}.")
