"""Which parameters learn in a phase, and which modules keep still because nothing in them does."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from torch import nn

from tlrun.config import ConfigError


def matching(module: nn.Module, patterns: Iterable[str], *, where: str) -> set[str]:
    """The names of the module's parameters that match any of the patterns.

    Raises ConfigError naming `where` for a pattern that matches no parameter.
    """
    names = [name for name, _ in module.named_parameters()]
    found: set[str] = set()
    for pattern in patterns:
        hits = {name for name in names if fnmatchcase(name, pattern)}
        if not hits:
            raise ConfigError(f"{where}: the pattern '{pattern}' matches no parameter; there are {', '.join(names)}")
        found |= hits
    return found


def set_learning(module: nn.Module, learning: set[str]) -> None:
    """Lets exactly the parameters named in `learning` take gradients, drops the gradients of the others."""
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in learning)
        if name not in learning:
            parameter.grad = None


def set_modes(module: nn.Module, *, still: Iterable[str] = ()) -> None:
    """Training mode, except for subtrees that have parameters of which none learns: those keep still.

    In eval mode a frozen subtree's batch statistics do not move and its dropout is off. A module without parameters
    (a dropout between two frozen layers, say) follows its parent. still: names of submodules that go to eval mode
    although something in them learns.
    """
    _set_modes(module)
    for name in still:
        module.get_submodule(name).eval()


def _set_modes(module: nn.Module) -> None:
    kinds = _kinds(module)

    def go(module: nn.Module) -> None:
        if kinds[module] == {False}:
            module.eval()
            return
        module.training = True
        for child in module.children():
            go(child)

    go(module)


def _kinds(module: nn.Module) -> dict[nn.Module, set[bool]]:
    """Of each module below, and itself, whether its parameters learn: both answers, one, or none where it has none.

    Asked once for all: asking each module for all parameters below it takes a tenth of a second in a deep network.
    """
    kinds: dict[nn.Module, set[bool]] = {}

    def ask(module: nn.Module) -> set[bool]:
        found = {parameter.requires_grad for parameter in module.parameters(recurse=False)}
        kinds[module] = found.union(*(ask(child) for child in module.children()))
        return kinds[module]

    ask(module)
    return kinds


def first_learning_stage(stages: Iterable[tuple[str, nn.Module]]) -> int:
    """The number of stages before the first with a parameter that learns: the frozen prefix."""
    count = 0
    for _, stage in stages:
        if any(parameter.requires_grad for parameter in stage.parameters()):
            return count
        count += 1
    return count
