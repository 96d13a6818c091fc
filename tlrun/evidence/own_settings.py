"""Which strategies of a comparison a strategy's settings reach: an experiment's its own, a command's those that have them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tlrun.compose.override_text import holds
from tlrun.compose.plan import Request, choices_alone, composed
from tlrun.report.groups import shown


@dataclass(frozen=True)
class OwnSettings:
    """What each strategy gets beside the settings that all share, and what a reader must know of it, a line each.

    resets: overrides that take back what an experiment sets for another strategy. own: settings of the command.
    """

    resets: Mapping[str, tuple[str, ...]]
    own: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]


def share_out(
    asked: Sequence[str], added: Sequence[str], *, common: Sequence[str], own: Sequence[str], config_dir: str | None
) -> OwnSettings:
    """Gives an experiment's `strategy` settings to the strategy that it chooses, each of `own` to those that have its key.

    asked, added: the strategies that the command names, and those that are held against them, which get none of `own`.
    What no strategy asked for has goes to all of them, so that composing refuses it. Raises ConfigError where an
    experiment cannot be composed with what all share.
    """
    request = Request(tuple(common), config_dir=config_dir)
    alone: dict[str, Mapping[str, Any] | None] = dict.fromkeys((*asked, *added))
    experiment = next((text for text in reversed(common) if text.lstrip("+").startswith("experiment=")), None)
    if experiment or (own and len(asked) > 1):
        alone = {name: _alone(request, name) for name in alone}
    resets: dict[str, tuple[str, ...]] = {}
    notes: list[str] = []
    if experiment:
        chosen = composed(request)["strategy"]
        for name, values in alone.items():
            if values is not None and values["name"] != chosen["name"]:
                both = composed(Request((*common, f"strategy={name}"), config_dir=config_dir))
                resets[name] = tuple(_taken_back(values, both["strategy"], "strategy."))
        keys = dict.fromkeys(text.partition("=")[0].lstrip("~") for name in asked for text in resets.get(name, ()))
        if keys:
            notes.append(f"{experiment}: of its settings {', '.join(keys)} goes to {chosen['name']} alone")
    for text in own if len(asked) > 1 else ():
        with_key = [name for name in asked if _has(alone[name], text)]
        without = [name for name in asked if name not in with_key]
        if with_key and without:
            notes.append(f"{text}: goes to {', '.join(with_key)}; there is no such key in {', '.join(without)}")
    return OwnSettings(resets, {name: _reaching(name, asked, alone, own) for name in asked}, tuple(notes))


def _alone(request: Request, name: str) -> Mapping[str, Any] | None:
    """What a strategy has by itself; None where that cannot be known, which composing will tell of."""
    try:
        (values,) = choices_alone(request, "strategy", [name])
    except Exception:  # ours, and Hydra's of many kinds
        return None
    return values


def _reaching(
    name: str, asked: Sequence[str], alone: Mapping[str, Mapping[str, Any] | None], own: Sequence[str]
) -> tuple[str, ...]:
    return tuple(text for text in own if _has(alone[name], text) or not any(_has(alone[each], text) for each in asked))


def _has(values: Mapping[str, Any] | None, text: str) -> bool:
    """Whether a strategy has the key that an override sets; an override that adds a key fits all."""
    return values is None or text.startswith("+") or holds({"strategy": values}, text.partition("=")[0].lstrip("~"))


def _taken_back(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """The overrides that make what is after to what was before."""
    for key, value in after.items():
        if key not in before:
            yield f"~{prefix}{key}"
        elif isinstance(value, Mapping) and isinstance(before[key], Mapping):
            yield from _taken_back(before[key], value, f"{prefix}{key}.")
        elif value != before[key]:
            yield f"{prefix}{key}={shown(before[key])}"
