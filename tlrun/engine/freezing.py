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
    parameters = list(module.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        module.eval()
        return
    module.training = True
    children = list(module.children())
    for child in children:
        _set_modes(child)


def first_learning_stage(stages: Iterable[tuple[str, nn.Module]]) -> int:
    """The number of stages before the first with a parameter that learns: the frozen prefix."""
    count = 0
    for _, stage in stages:
        if any(parameter.requires_grad for parameter in stage.parameters()):
            return count
        count += 1
    return count
