"""From what was asked to what will be computed: combinations are checked, every `auto` becomes a name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tlrun.compose.inputs import name_inputs
from tlrun.compose.requirement import parse_requirement
from tlrun.config import AugmentSettings, ConfigError, EngineSettings, ExperimentConfig, Grant, StrategySettings
from tlrun.engine.machine import cpu_precision, has_no_gpu
from tlrun.engine.selection import asked_rules, automatic_rule
from tlrun.loggers.base import not_installed

if TYPE_CHECKING:
    import torch


def check(config: ExperimentConfig) -> list[str]:
    """What does not go together in a typed config, one line each. Loads no torch."""
    return [
        *_source_problems(config),
        *_protocol_problems(config),
        *_label_problems(config),
        *_view_problems(config),
        *_weight_problems(config),
        *_pretrain_problems(config),
        *_rule_problems(config),
        *_balance_problems(config),
        *_requirement_problems(config),
        *not_installed(config.run.loggers),
    ]


def name_choices(config: ExperimentConfig) -> ExperimentConfig:
    """The config with every `auto` named that does not depend on the machine, and unused grants taken back.

    A grant that the strategy does not read becomes `none`, so that floors are shared along a label curve; and so does
    the augmentation of target rows, where it reads none of them. Loads no torch, unless an `auto` asks a library what
    its model was trained with. Raises ConfigError.
    """
    data = config.data
    root = Path(data.root).expanduser()
    strategy = _strategy(config)
    config = config.model_copy(update={"strategy": strategy})
    select = automatic_rule(config) if config.engine.select == "auto" else config.engine.select
    reads_target_val = "target_val" in (select, *asked_rules(config).values())
    data = data.model_copy(
        update={
            "source": None if data.source is None else data.source.resolved(root),
            "target": data.target.resolved(root),
            "target_labels": strategy.own_grant(data.target_labels),
            "target_val_labels": data.target_val_labels if reads_target_val else "none",
        }
    )
    weights = _weights(config)
    data = name_inputs(config.model_copy(update={"data": data}), weights=weights)
    return config.model_copy(
        update={
            "data": data,
            "augment": _augment(config),
            "model": config.model.model_copy(update={"weights": weights}),
            "engine": config.engine.model_copy(update={"select": select}),
        }
    )


def name_images(config: ExperimentConfig) -> ExperimentConfig:
    """The config with everything named that decides what images become, and nothing else. Raises ConfigError."""
    return config.model_copy(update={"data": name_inputs(config, weights=_weights(config))})


def name_machine(config: ExperimentConfig) -> tuple[ExperimentConfig, torch.device]:
    """The config with device and precision named for this machine, and the device. Raises ConfigError."""
    from tlrun.engine.runtime import resolve_device, resolve_precision

    device = resolve_device(config.device)
    return _on_machine(config, device.type, partial(resolve_precision, device=device)), device


def for_machine(config: ExperimentConfig) -> ExperimentConfig:
    """The config that `name_machine` gives, without torch where the system itself tells enough. Raises ConfigError."""
    told = {"fp32": "fp32", "bf16": "bf16", "auto": cpu_precision()}
    on_cpu = config.device.name == "cpu" or (config.device.name == "auto" and has_no_gpu())
    if on_cpu and all(told.get(engine.precision) for engine in (config.engine, config.pretrain.engine)):
        return _on_machine(config, "cpu", lambda precision: str(told[precision]))
    return name_machine(config)[0]


def _on_machine(config: ExperimentConfig, device: str, precision: Callable[[str], str]) -> ExperimentConfig:
    def named(engine: EngineSettings) -> EngineSettings:
        return engine.model_copy(update={"precision": precision(engine.precision)})

    pretrain = config.pretrain.model_copy(update={"engine": named(config.pretrain.engine)})
    device_settings = config.device.model_copy(update={"name": device})
    return config.model_copy(update={"device": device_settings, "engine": named(config.engine), "pretrain": pretrain})


def pretrain_config(config: ExperimentConfig) -> ExperimentConfig:
    """The run that makes the source model of `config`: the node `pretrain` on the same data, model and seed.

    No target label is granted to it, and it stands for itself: neither requirement nor fresh start is passed on.
    """
    pretrain = config.pretrain
    inner = config.model_copy(
        update={
            "strategy": pretrain.strategy,
            "model": config.model.model_copy(update={"weights": pretrain.weights, "head": "auto"}),
            "optim": pretrain.optim,
            "schedule": pretrain.schedule,
            "engine": pretrain.engine,
            "augment": _seen_once(config.augment, pretrain.strategy),
            "run": config.run.model_copy(update={"require": None, "fresh": False}),
        }
    )
    return name_choices(inner)


def _strategy(config: ExperimentConfig) -> StrategySettings:
    seen_as_is = config.augment.is_identity and config.engine.test_time.is_identity
    return config.strategy.resolved(config.data.target_labels, augmented=not seen_as_is)


def _augment(config: ExperimentConfig) -> AugmentSettings:
    """The augmentation with its automatic values named, and without one for target rows where none are read."""
    needs, domains = config.strategy.needs, (config.data.source, config.data.target)
    named = config.augment.resolved(
        characters=any(domain is not None and domain.shows_characters for domain in domains)
    )
    reads_target = needs.target != "unused" or needs.unlabelled != "unused"
    return named if reads_target else named.model_copy(update={"target": None})


def _seen_once(augment: AugmentSettings, strategy: StrategySettings) -> AugmentSettings:
    """The augmentation for a strategy that did not ask for it: without further views where it reads one."""
    if strategy.needs.views > 1:
        return augment
    target = None if augment.target is None else augment.target.model_copy(update={"views": None})
    return augment.model_copy(update={"views": None, "target": target})


def _view_problems(config: ExperimentConfig) -> list[str]:
    strategy, augment = config.strategy, config.augment
    nodes = {"augment": augment, "augment.target": augment.target}
    if strategy.needs.views > 1:
        return []
    return [
        f"{key}.views: strategy {strategy.name} reads one view of a row, so this would have no effect; leave it null"
        for key, node in nodes.items()
        if node is not None and node.views is not None
    ]


def _weights(config: ExperimentConfig) -> str:
    if config.model.weights != "auto":
        return config.model.weights
    if config.strategy.starts_from == "random":
        return "random"
    if config.model.has_imagenet_weights:
        return "imagenet"
    return "source" if config.strategy.starts_from == "trained" else "random"


def _source_problems(config: ExperimentConfig) -> list[str]:
    """What asks for a source where there is none."""
    data, strategy = config.data, config.strategy
    if data.source is not None:
        return []
    name_one = "name a source with domain@data.source=NAME"
    problems = []
    if _strategy(config).needs.source == "required":
        problems.append(
            f"data.source: strategy {strategy.name} learns from source rows and there is no source; {name_one}, or "
            "choose a strategy that learns from target labels alone (fine_tune, feature_extract, progressive, scratch)"
        )
    elif _weights(config) == "source":
        asked = f"auto for strategy {strategy.name} and model {config.model.name}"
        asked = "source" if config.model.weights == "source" else asked
        problems.append(
            f"model.weights: {asked} means a model trained on the source and there is no source; {name_one}, or set "
            "model.weights to a path, to imagenet with a model that has such weights, or strategy=scratch"
        )
    problems += [
        f"{key}: source_val reads source rows and there is no source; {name_one}"
        for key, rule in asked_rules(config).items()
        if rule == "source_val"
    ]
    unused = {"source_rows": None, "source_label_noise": 0.0, "label_sets": "closed"}
    problems += [f"data.{key}: has no effect without a source" for key in unused if getattr(data, key) != unused[key]]
    return problems


def _protocol_problems(config: ExperimentConfig) -> list[str]:
    """What a transductive protocol, whose test rows are training rows without their labels, does not allow."""
    data, strategy = config.data, config.strategy
    if not data.is_transductive:
        return []
    named, problems = name_choices(config).data, []
    if data.target_labels != "all" and strategy.own_grant(data.target_labels) == "all":
        problems.append(
            f"data.protocol: strategy {strategy.name} would train on its own test rows under transductive; "
            "set data.protocol=split for a ceiling"
        )
    for key in ("target_labels", "target_val_labels"):
        if getattr(data, key) == getattr(named, key) == "all":
            problems.append(
                f"data.{key}: all would leave no test rows under data.protocol=transductive, where granted rows leave "
                "the test set; grant a number per class, or set data.protocol=split"
            )
    return problems


def _label_problems(config: ExperimentConfig) -> list[str]:
    grant: Grant = config.data.target_labels
    strategy = _strategy(config)
    if strategy.needs.target == "required" and strategy.own_grant(grant) == "none":
        return [
            f"data.target_labels: strategy {strategy.name} learns from target labels and none are granted; "
            "set data.target_labels to a number per class, or to all"
        ]
    return []


def _weight_problems(config: ExperimentConfig) -> list[str]:
    weights, strategy = config.model.weights, config.strategy
    problems = []
    if strategy.starts_from == "random" and weights not in ("auto", "random"):
        problems.append(f"model.weights: strategy {strategy.name} starts from random weights, got {weights}")
    if weights == "imagenet" and not config.model.has_imagenet_weights:
        problems.append(
            f"model.weights: model {config.model.name} has no imagenet weights; set random, source, or a path"
        )
    if weights == "random" and config.model.head == "keep":
        problems.append("model.head: keep needs weights with a head, got model.weights=random; set model.head=auto")
    return problems


def _pretrain_problems(config: ExperimentConfig) -> list[str]:
    if _weights(config) != "source":
        return []
    pretrain = config.pretrain
    problems = []
    if pretrain.strategy.needs.target != "unused" or pretrain.strategy.starts_from == "trained":
        problems.append(
            f"pretrain.strategy: must be trained on the source from the start, such as source_only, "
            f"got {pretrain.strategy.name}"
        )
    if pretrain.weights == "source":
        problems.append("pretrain.weights: must be auto, random, imagenet or a path, got source")
    if pretrain.engine.select == "oracle" and config.engine.select != "oracle":
        problems.append("pretrain.engine.select: oracle peeks at target labels that engine.select does not; name both")
    return problems


def _rule_problems(config: ExperimentConfig) -> list[str]:
    problems = []
    for key, rule in asked_rules(config).items():
        if rule == "target_val" and config.data.target_val_labels == "none":
            problems.append(
                f"{key}: target_val reads labels of target validation rows and none are granted; "
                "set data.target_val_labels to a number per class, or to all"
            )
        if rule == "last" and key != "engine.select":
            problems.append(f"{key}: 'last' never stops improving; name another rule, or null")
    return problems


def _balance_problems(config: ExperimentConfig) -> list[str]:
    nodes = {"": (config.engine, config.optim)}
    if _weights(config) == "source":
        nodes["pretrain."] = (config.pretrain.engine, config.pretrain.optim)
    return [
        f"{prefix}engine.sampling: balanced and {prefix}optim.class_weights={optim.class_weights} even out the classes "
        "twice; choose one of them"
        for prefix, (engine, optim) in nodes.items()
        if engine.sampling == "balanced" and optim.class_weights != "none"
    ]


def _requirement_problems(config: ExperimentConfig) -> list[str]:
    if config.run.require is None:
        return []
    try:
        parse_requirement(config.run.require)
    except ConfigError as error:
        return error.problems
    return []
