"""A pair of domains as the parts a run trains and measures on: labels granted or withheld, classes aligned by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from tlrun.batch import Task
from tlrun.build import component_class
from tlrun.config import ConfigError, Grant, PairSettings
from tlrun.data.card import Treatment, fingerprint_pair, pair_card
from tlrun.data.datasets.base import Domain, DomainData, Places
from tlrun.data.datasets.base import find_places as find_places
from tlrun.data.rows import RowStore
from tlrun.data.split_domain import Role, Split, SplitDomain, SplitName, split_domain
from tlrun.data.splits import Labels, RowNumbers, class_counts, plant_noise, take_per_class
from tlrun.data.transforms import Shape, Statistics, measure_rows

LabelSets = Literal["closed", "partial", "open"]
T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """Rows of one domain that are read together.

    x: uint8 (N, H, W, C) or float32 (N, D), for the device; where `stage` is given, what that stage of the backbone
    would receive, (N, ...). y: int64 (N,); None where the labels are withheld, -1 where the class is not one of the
    task's (`label_sets=open`). index: int64 (N,) row numbers within the domain's split as this run has it, so each is
    below that split's size, and a granted row has one number in both of its parts. granted: bool (N,) in the target's
    evaluation parts: whose label was granted for selection. rows: int64 (N,) on the CPU, the same rows as the domain
    itself numbers them; identity: what stands behind such a number (`Split.identity`). views: of encoded training rows,
    what several augmentations of them gave, each like x, which is the first.
    """

    name: str
    domain: Role
    x: RowStore
    y: Tensor | None
    index: Tensor
    granted: Tensor | None = None
    rows: Tensor | None = None
    identity: str | None = None
    stage: int | None = None
    views: tuple[RowStore, ...] = ()

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class DomainPair:
    """Two domains, ready to run on.

    parts: for training `source_train`, `target_unlabelled` (all target training rows, no labels) and `target_granted`
    (maybe empty); for evaluation `source_val`, `source_test`, `target_val`, `target_test`. card: the data card, plain
    values. fingerprint: SHA-256 of both domains' data and splits, the same for every seed. shape: (C, H, W) or (D,) of
    an input. statistics: what each domain is normalised by.
    """

    task: Task
    parts: Mapping[str, Part]
    card: dict[str, Any]
    fingerprint: str
    shape: Shape
    statistics: Mapping[Role, Statistics]

    def inputs(self) -> dict[str, Any]:
        """What a checkpoint tells of how a row became an input, as plain values."""
        keys = ("shape_before", "fitting", "normalized_by_mean", "normalized_by_std")
        return {
            "shape": list(self.shape),
            **{role: {key: self.card[role][key] for key in keys} for role in self.statistics},
        }


def load_pair(config: PairSettings, *, seed: int, device: torch.device) -> DomainPair:
    """Read both domains and make the pair. One domain's arrays are gone before the next one's are read.

    Raises ConfigError, with what is wrong in both.
    """
    domains = split_pair(config)
    return _join(domains["source"], domains["target"], config, seed=seed, device=device)


def split_pair(config: PairSettings) -> dict[Role, SplitDomain]:
    """Both domains, split and fitted, all labels with them. Raises ConfigError, with what is wrong in both."""
    places = find_places(config)
    roles: tuple[Role, Role] = ("source", "target")
    loaded = _together(partial(_load_split, config, role, places) for role in roles)
    return dict(zip(roles, loaded, strict=True))


def make_pair(
    source: DomainData, target: DomainData, config: PairSettings, *, seed: int, device: torch.device
) -> DomainPair:
    """The pair of two domains in memory. seed decides grants and label noise, nothing else. Raises ConfigError."""
    first, second = _together(
        (
            partial(split_domain, source, role="source", config=config),
            partial(split_domain, target, role="target", config=config),
        )
    )
    return _join(first, second, config, seed=seed, device=device)


def load_domain(config: PairSettings, role: Role) -> DomainData:
    """One domain of the pair as it comes, in memory, all labels with it. Raises ConfigError."""
    return _domain(config, role, find_places(config)).load()


def whereabouts(config: PairSettings, role: Role) -> str:
    """Where one domain's rows are or what they are made from, without reading them. Raises ConfigError."""
    return _domain(config, role, find_places(config)).whereabouts()


def _domain(config: PairSettings, role: Role, places: Places) -> Domain:
    settings = config.source if role == "source" else config.target
    domain: Domain = component_class("domain", settings.name, where=f"data.{role}")(settings, places)
    return domain


def _load_split(config: PairSettings, role: Role, places: Places) -> SplitDomain:
    return split_domain(_domain(config, role, places).load(), role=role, config=config)


def _join(
    source: SplitDomain, target: SplitDomain, config: PairSettings, *, seed: int, device: torch.device
) -> DomainPair:
    numbers = align_classes(source, target, config.label_sets)
    shape = input_shape(source, target, config)
    source_y = noisy_labels(source, config.source_label_noise, seed)
    target_y = {name: numbers[split.y] for name, split in target.splits.items()}
    granted = granted_rows(target, target_y, source.classes, config, seed)
    made = [*_source_parts(source, source_y, device), *_target_parts(target, target_y, granted, device)]
    parts = {part.name: part for part in made}

    measured = {domain.role: measure_rows(domain.splits["train"].x, shape) for domain in (source, target)}
    used = measured if config.normalize == "per_domain" else dict.fromkeys(measured, measured["source"])
    statistics = {role: Statistics.of(*used[role], shape, device) for role in measured}
    treatments: dict[Role, Treatment] = {
        "source": Treatment(
            labels_used={"training": len(source.splits["train"]), "selection": len(source.splits["val"])},
            labels_made_wrong={name: int((source_y[name] != split.y).sum()) for name, split in source.splits.items()},
            measured=measured["source"],
            used=statistics["source"],
        ),
        "target": Treatment(
            labels_used={"training": len(granted["train"]), "selection": len(granted["val"])},
            labels_made_wrong={},
            measured=measured["target"],
            used=statistics["target"],
        ),
    }
    card = pair_card(config, (source, target), treatments, shape)
    sizes = {name: len(part) for name, part in parts.items()}
    return DomainPair(Task(source.classes, sizes), parts, card, fingerprint_pair(source, target), shape, statistics)


def align_classes(source: SplitDomain, target: SplitDomain, label_sets: LabelSets) -> Labels:
    """The task's number of each of the target's classes, (C_target,): where its name stands among the source's.

    -1 where the source lacks it. closed: both have the same names; partial: the target may lack some; open: it may have
    more. Raises ConfigError naming the classes that one side should not have alone.
    """
    alone = {
        "source": [name for name in source.classes if name not in target.classes],
        "target": [name for name in target.classes if name not in source.classes],
    }
    refused = {"closed": ("source", "target"), "partial": ("target",), "open": ("source",)}[label_sets]
    if any(alone[role] for role in refused):
        found = [
            f"only {domain.told} has {', '.join(alone[domain.role])}"
            for domain in (source, target)
            if alone[domain.role]
        ]
        fits = [name for name, role in (("partial", "target"), ("open", "source")) if not alone[role]]
        hint = f"; set data.label_sets={fits[0]} if that is meant" if fits else ""
        raise ConfigError(f"data.label_sets: {label_sets} does not allow that {' and '.join(found)}{hint}")
    known = {name: number for number, name in enumerate(source.classes)}
    return np.array([known.get(name, -1) for name in target.classes], dtype=np.int64)


def input_shape(source: SplitDomain, target: SplitDomain, config: PairSettings) -> Shape:
    """(C, H, W) or (D,) of what the model sees; without `channels`, as many as the richer domain has.

    Raises ConfigError when the domains do not fit together.
    """
    first, second = (domain.splits["train"].x.shape[1:] for domain in (source, target))
    if source.is_image != target.is_image:
        kinds = [f"{domain.told} holds {'images' if domain.is_image else 'features'}" for domain in (source, target)]
        raise ConfigError(f"data: {', '.join(kinds)}; a pair needs two of a kind")
    if not source.is_image:
        given = [key for key in ("image_size", "channels") if getattr(config, key) is not None]
        problems = [f"data.{key}: must be null, the rows of {config.name} are features" for key in given]
        if first != second:
            problems.append(f"data: {source.told} has {first[0]} features and {target.told} has {second[0]}")
        if problems:
            raise ConfigError(problems)
        return (int(first[0]),)
    channels = config.channels or max(first[2], second[2])
    if config.image_size is not None:  # rows of files are larger, and cropped
        return (int(channels), config.image_size, config.image_size)
    if first[:2] != second[:2]:
        sizes = [f"{domain.told} has {x[0]}x{x[1]}" for domain, x in ((source, first), (target, second))]
        raise ConfigError(f"data.image_size: must be given where sizes differ: {', '.join(sizes)}")
    return (int(channels), int(first[0]), int(first[1]))


def noisy_labels(source: SplitDomain, share: float, seed: int) -> dict[SplitName, Labels]:
    """The source's labels by split, of which `share` is wrong in train and val; test keeps its own."""
    return {
        name: plant_noise(
            split.y, split.rows, 0.0 if name == "test" else share, len(source.classes), "label noise", seed, name
        )
        for name, split in source.splits.items()
    }


def granted_rows(
    target: SplitDomain, y: Mapping[SplitName, Labels], classes: tuple[str, ...], config: PairSettings, seed: int
) -> dict[SplitName, RowNumbers]:
    """Positions in the target's splits of the rows whose labels are granted, ascending; none of test, ever.

    y: labels in the task's numbering; rows of no class of the task are never granted. A smaller number per class lies
    inside a larger one. Raises ConfigError naming the classes that have fewer rows than were asked for.
    """
    names = {number: name for number, name in enumerate(classes) if name in target.classes}

    def choose(split: SplitName, key: str, grant: Grant) -> RowNumbers:
        if grant == "none":
            return np.array([], dtype=np.int64)
        if grant == "all":
            return np.flatnonzero(y[split] >= 0)
        counts = class_counts(y[split], len(classes))
        if short := [f"{name} ({counts[number]})" for number, name in names.items() if counts[number] < grant]:
            raise ConfigError(
                f"data.{key}: {target.told} has fewer {split} rows than the {grant} per class asked for, "
                f"of {', '.join(short)}"
            )
        return take_per_class(y[split], target.splits[split].rows, grant, "grant", seed, split)

    train, val = _together(
        (
            partial(choose, "train", "target_labels", config.target_labels),
            partial(choose, "val", "target_val_labels", config.target_val_labels),
        )
    )
    return {"train": train, "val": val, "test": np.array([], dtype=np.int64)}


def _source_parts(source: SplitDomain, y: Mapping[SplitName, Labels], device: torch.device) -> list[Part]:
    return [_part(f"source_{name}", "source", split, y[name], device) for name, split in source.splits.items()]


def _target_parts(
    target: SplitDomain,
    y: Mapping[SplitName, Labels],
    granted: Mapping[SplitName, RowNumbers],
    device: torch.device,
) -> list[Part]:
    """Training rows without labels, the granted ones again with theirs, and the labelled evaluation parts.

    What a training part holds of labels are copies of the granted ones: none shares memory with a withheld label.
    """
    unlabelled = _part("target_unlabelled", "target", target.splits["train"], None, device)
    evaluation: tuple[SplitName, ...] = ("val", "test")
    return [
        unlabelled,
        _granted_part(unlabelled, y["train"], granted["train"]),
        *(
            _part(f"target_{each}", "target", target.splits[each], y[each], device, granted[each])
            for each in evaluation
        ),
    ]


def _part(
    name: str, role: Role, split: Split, y: Labels | None, device: torch.device, granted: RowNumbers | None = None
) -> Part:
    mask = None
    if granted is not None:
        mask = torch.zeros(len(split), dtype=torch.bool)
        mask[torch.from_numpy(granted)] = True
        mask = mask.to(device)
    return Part(
        name=name,
        domain=role,
        x=split.x.to(device),
        y=None if y is None else torch.from_numpy(y).to(device),
        index=torch.arange(len(split), device=device),
        granted=mask,
        rows=torch.from_numpy(split.rows),
        identity=split.identity,
    )


def _granted_part(unlabelled: Part, y: Labels, granted: RowNumbers) -> Part:
    """The rows of the unlabelled part that were granted, in its order, with copies of their labels."""
    device = unlabelled.index.device
    chosen = torch.from_numpy(granted)
    everything = len(granted) == len(unlabelled)  # then the rows need not be held twice
    return Part(
        name="target_granted",
        domain="target",
        x=unlabelled.x if everything else unlabelled.x.subset(chosen),
        y=torch.from_numpy(y[granted]).to(device),
        index=chosen.to(device),
        rows=None if unlabelled.rows is None else unlabelled.rows[chosen],
        identity=unlabelled.identity,
    )


def _together(calls: Iterable[Callable[[], T]]) -> list[T]:
    """What the calls return; raises one ConfigError with the problems of all."""
    results: list[T] = []
    problems: list[str] = []
    for call in calls:
        try:
            results.append(call())
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(dict.fromkeys(problems))
    return results
