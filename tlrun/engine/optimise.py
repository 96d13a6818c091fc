"""The one optimizer of a run: its parameter groups, its rates, and a step for the groups whose turn it is."""

from __future__ import annotations

from fnmatch import fnmatchcase
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from tlrun.batch import Progress
from tlrun.build import leaf
from tlrun.config import ConfigError, OptimSettings
from tlrun.engine.runtime import Runtime
from tlrun.engine.schedules import Schedule
from tlrun.strategies.base import ParamGroup, Phase, Strategy, Turn


class Optimiser:
    """Holds a torch optimizer over all parameters of a strategy for the whole run.

    Freezing never touches it: a parameter without a gradient is passed over by every torch optimizer, with its
    momentum and weight decay.
    """

    def __init__(
        self,
        strategy: Strategy,
        settings: OptimSettings,
        schedule: Schedule,
        *,
        runtime: Runtime,
        clip_norm: float | None,
    ) -> None:
        self.peak_lr = settings.lr
        self.lr = settings.lr
        self.schedule = schedule
        self.scaler = runtime.scaler
        self.clip_norm = clip_norm
        self.groups = assign(strategy, strategy.param_groups())
        self.parameters = [parameter for parameters in self.groups.values() for parameter in parameters]
        rows = []
        for group in strategy.param_groups():
            row: dict[str, Any] = {"name": group.name, "lr": settings.lr * group.rate, "rate": group.rate}
            if group.weight_decay is not None:
                row["weight_decay"] = group.weight_decay
            rows += decayed_apart(row, self.groups[group.name], whole=settings.decay_norms_and_biases)
        self.optimizer = build_optimizer(settings, rows, runtime.device)
        if schedule.momentum_at(0, 1) is not None and not has_momentum(self.optimizer):
            raise ConfigError(
                f"schedule.momentum: {settings.target} with these settings has no momentum to move; set schedule.momentum=null"
            )

    def set_rates(self, progress: Progress) -> None:
        """Sets every group's learning rate and momentum for this step; `lr` is that of a group with rate 1."""
        place = (
            (progress.phase_step, progress.phase_steps) if self.schedule.per_phase else (progress.step, progress.steps)
        )
        self.lr = self.peak_lr * self.schedule.factor(*place)
        momentum = self.schedule.momentum_at(*place)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * group["rate"]
            if momentum is not None and "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
            elif momentum is not None:
                group["momentum"] = momentum

    def begin_turn(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def backward(self, loss: Tensor) -> None:
        """Adds the loss's gradient to the parameters, scaled where the precision needs it."""
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self, turn: Turn) -> None:
        """Moves the parameters of the turn's groups; what other groups gathered meanwhile is dropped."""
        if turn.updates != ("*",):
            for name, parameters in self.groups.items():
                if name not in turn.updates:
                    for parameter in parameters:
                        parameter.grad = None
        if self.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            moving = [parameter for parameter in self.parameters if parameter.grad is not None]
            nn.utils.clip_grad_norm_(moving, self.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def check_turns(self, phase: Phase) -> None:
        """Raises ConfigError for a turn that names no group of the strategy."""
        for turn in phase.turns:
            unknown = [name for name in turn.updates if name != "*" and name not in self.groups]
            if unknown:
                raise ConfigError(
                    f"strategy: turn '{turn.name}' of phase '{phase.name}' updates {', '.join(unknown)}, "
                    f"but the parameter groups are {', '.join(self.groups)}"
                )

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])


def assign(strategy: nn.Module, groups: tuple[ParamGroup, ...]) -> dict[str, list[nn.Parameter]]:
    """Each group's parameters; a parameter goes to the first group with a pattern that matches its name.

    Raises ConfigError for two groups of one name, a pattern that matches no parameter, a parameter in no group.
    """
    assigned: dict[str, list[nn.Parameter]] = {group.name: [] for group in groups}
    if len(assigned) != len(groups):
        raise ConfigError("strategy: two parameter groups have the same name")
    used: set[str] = set()
    homeless = []
    for name, parameter in strategy.named_parameters():
        hits = [(group, pattern) for group in groups for pattern in group.patterns if fnmatchcase(name, pattern)]
        used.update(pattern for _, pattern in hits)
        if hits:
            assigned[hits[0][0].name].append(parameter)
        else:
            homeless.append(name)
    if homeless:
        raise ConfigError(f"strategy: no parameter group takes {', '.join(homeless)}")
    for group in groups:
        for pattern in group.patterns:
            if pattern not in used:
                raise ConfigError(f"strategy: parameter group '{group.name}': '{pattern}' matches no parameter")
    return assigned


def decayed_apart(row: dict[str, Any], parameters: list[nn.Parameter], *, whole: bool) -> list[dict[str, Any]]:
    """The optimizer's rows for one parameter group: one, or weights and what weight decay leaves alone, each by itself.

    Left alone are parameters of one dimension: biases, and the scales and shifts of normalisation (He et al. 2019,
    arXiv:1812.01187, section 3.1).
    """
    if whole:
        return [{**row, "params": parameters}]
    weights = [parameter for parameter in parameters if parameter.ndim > 1]
    others = [parameter for parameter in parameters if parameter.ndim <= 1]
    rows = [{**row, "params": weights}, {**row, "params": others, "weight_decay": 0.0}]
    return [each for each in rows if each["params"]]


def has_momentum(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the optimizer keeps a momentum, or a first beta, that a schedule can move; one of 0 is not kept."""
    group = optimizer.param_groups[0]
    return "betas" in group or bool(group.get("momentum"))


def build_optimizer(settings: OptimSettings, rows: list[dict[str, Any]], device: torch.device) -> torch.optim.Optimizer:
    """The torch optimizer that the settings name, over these parameter groups.

    The fused kernel is taken where the optimizer has one. Raises ConfigError for arguments that it does not take.
    """
    arguments = dict(settings.model_extra or {})
    target = leaf(settings.target, "optim", arguments=arguments)
    if settings.weight_decay or "weight_decay" in signature(target).parameters:  # Rprop, for one, has none
        arguments["weight_decay"] = settings.weight_decay
    if "fused" in signature(target).parameters and device.type in ("cpu", "cuda") and not arguments.get("foreach"):
        arguments.setdefault("fused", True)
    try:
        built = target(rows, lr=settings.lr, **arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"optim: {settings.target} does not take these settings: {error}") from error
    assert isinstance(built, torch.optim.Optimizer)
    return built
