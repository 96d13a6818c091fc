"""A pair of domains as the parts a run trains and measures on: labels granted or withheld, classes aligned by name."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tlrun.batch import Task
from tlrun.build import component_class
from tlrun.config import ConfigError, FileDomainSettings, PairSettings
from tlrun.data.cache.kept import domain_key, forget_all_but, kept_domain
from tlrun.data.card import Treatment, fingerprint_pair, pair_card
from tlrun.data.datasets.base import Domain, DomainData, Places
from tlrun.data.datasets.base import find_places as find_places
from tlrun.data.labels import align_classes, granted_rows, noisy_labels, renumbered, together
from tlrun.data.measured import figures_used, measured
from tlrun.data.rows import RowStore
from tlrun.data.split_domain import Role, Split, SplitDomain, SplitName, absent_source, found_fingerprint, split_domain
from tlrun.data.splits import Labels, RowNumbers
from tlrun.data.transforms import Shape, Statistics

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """Rows of one domain that are read together.

    x: uint8 (N, H, W, C) or float32 (N, D), for the device; where `stage` is given, what that stage of the backbone
    would receive, (N, ...). y: int64 (N,); None where the labels are withheld, -1 where nobody knows the class or it is
    not one of the task's (`label_sets=open`). index: int64 (N,) row numbers within the domain's split as this run has
    it, so each is below that split's size, and a granted row has one number in both of its parts. granted: bool (N,) in
    the target's evaluation parts: whose label was granted for selection. rows: int64 (N,) on the CPU, the same rows as
    the domain itself numbers them; identity: what stands behind such a number (`Split.identity`). views: of encoded
    training rows, what several augmentations of them gave, each like x, which is the first. judged_without_labels:
    whether the selection rules without labels read these rows.
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
    judged_without_labels: bool = False

    def __len__(self) -> int:
        return len(self.x)

    def take(self, positions: Tensor) -> Part:
        """These rows of it, positions (N,) int64 on the CPU."""
        place = positions.to(self.index.device)
        return replace(
            self,
            x=self.x.subset(place),
            y=None if self.y is None else self.y.index_select(0, place),
            index=self.index.index_select(0, place),
            granted=None if self.granted is None else self.granted.index_select(0, place),
            rows=None if self.rows is None else self.rows.index_select(0, positions),
        )


@dataclass(frozen=True)
class DomainPair:
    """Two domains, ready to run on, or one: then the source's parts are there, and empty.

    parts: for training `source_train`, `target_unlabelled` (all target training rows, no labels) and `target_granted`
    (maybe empty); for evaluation `source_val`, `source_test`, `target_val`, `target_test`. card: the data card, plain
    values; the source is null where there is none. unknown: positions of the rows without any label in
    `target_unlabelled` and `target_val`, which are predicted beside those of `target_test`. fingerprint: SHA-256 of both
    domains' data and splits, the same for every seed. shape: (C, H, W) or (D,) of an input. statistics: what each domain is normalised by.
    """

    task: Task
    parts: Mapping[str, Part]
    card: dict[str, Any]
    fingerprint: str
    shape: Shape
    statistics: Mapping[Role, Statistics]
    unknown: Mapping[str, RowNumbers] = field(default_factory=dict)

    def inputs(self) -> dict[str, Any]:
        """What a checkpoint tells of how a row became an input, as plain values."""
        keys = ("shape_before", "fitting", "normalized_by_mean", "normalized_by_std")
        return {
            "shape": list(self.shape),
            **{role: {key: self.card[role][key] for key in keys} for role in self.statistics if self.card[role]},
        }


def load_pair(config: PairSettings, *, seed: int, device: torch.device) -> DomainPair:
    """Read both domains, or the one there is, and make the pair. One's arrays are gone before the next one's are read.

    Raises ConfigError, with what is wrong in both.
    """
    domains = split_pair(config)
    return _join(domains.get("source"), domains["target"], config, seed=seed, device=device)


def split_pair(config: PairSettings, *, keep_bad: bool = False) -> dict[Role, SplitDomain]:
    """The domains there are, split and fitted, all labels with them. keep_bad: see `split_domain`.

    Raises ConfigError, with what is wrong in both.
    """
    places = find_places(config)
    roles = roles_of(config)
    reads = {role: partial(_load_split, config, role, places, keep_bad=keep_bad) for role in roles}
    if not keep_bad:
        keys = {role: domain_key(config, role) for role in roles}
        forget_all_but(keys.values())
        reads = {role: partial(kept_domain, keys[role], read) for role, read in reads.items()}
    return dict(zip(roles, together(reads.values()), strict=True))


def roles_of(config: PairSettings) -> tuple[Role, ...]:
    """The roles that have a domain."""
    return ("target",) if config.source is None else ("source", "target")


def make_pair(
    source: DomainData | None, target: DomainData, config: PairSettings, *, seed: int, device: torch.device
) -> DomainPair:
    """The pair of two domains in memory, or one. seed decides grants and label noise, nothing else. Raises ConfigError."""
    given: dict[Role, DomainData] = {"target": target} if source is None else {"source": source, "target": target}
    made = together(partial(split_domain, data, role=role, config=config) for role, data in given.items())
    return _join(made[0] if len(made) == 2 else None, made[-1], config, seed=seed, device=device)


def load_domain(config: PairSettings, role: Role) -> DomainData:
    """One domain of the pair as it comes, in memory, all labels with it. Raises ConfigError."""
    return _loaded(config, role, find_places(config))


def found_fingerprints(config: PairSettings) -> dict[Role, str]:
    """The content fingerprint of each domain of files, as the files lie there now: what a data card has of it.

    Nothing is decoded or downloaded. A domain whose place is not there is left out, and so is one that is no domain of
    files, whose rows follow from its settings. Raises ConfigError where what is there is no such domain any more.
    """
    config = config.model_copy(update={"download": False})
    found: dict[Role, str] = {}
    for role in roles_of(config):
        if not isinstance(getattr(config, role), FileDomainSettings):
            continue
        try:
            whereabouts(config, role)
        except ConfigError:
            log.info("data.%s: its files are not here, so nothing tells whether they changed", role)
        else:
            found[role] = found_fingerprint(load_domain(config, role), role=role, config=config)
    return found


def whereabouts(config: PairSettings, role: Role) -> str:
    """Where one domain's rows are or what they are made from, without reading them. Raises ConfigError."""
    return _domain(config, role, find_places(config)).whereabouts()


def _domain(config: PairSettings, role: Role, places: Places) -> Domain:
    settings = config.source if role == "source" else config.target
    assert settings is not None
    domain: Domain = component_class("domain", settings.name, where=f"data.{role}")(settings, places)
    return domain


def _load_split(config: PairSettings, role: Role, places: Places, *, keep_bad: bool) -> SplitDomain:
    return split_domain(_loaded(config, role, places), role=role, config=config, keep_bad=keep_bad)


def _loaded(config: PairSettings, role: Role, places: Places) -> DomainData:
    """The rows of one domain; what is wrong with a user's own files is told under the key of the domain."""
    domain = _domain(config, role, places)
    if not isinstance(domain.config, FileDomainSettings):
        return domain.load()
    try:
        return domain.load()
    except ConfigError as error:
        raise ConfigError(re.sub("^data: ", f"data.{role}: ", problem) for problem in error.problems) from error


def _join(
    given: SplitDomain | None, target: SplitDomain, config: PairSettings, *, seed: int, device: torch.device
) -> DomainPair:
    source = absent_source(target) if given is None else given
    classes = source.classes
    numbers = align_classes(source, target, config.label_sets)
    shape = input_shape(source, target, config)
    source_y = noisy_labels(source, config.source_label_noise, seed)
    target_y = {name: renumbered(split.y, numbers) for name, split in target.splits.items()}
    granted = granted_rows(target, target_y, classes, config, seed)
    layout = _whole_parts if config.is_transductive else _target_parts
    made = [*_source_parts(source, source_y, device), *layout(target, target_y, granted, device)]
    parts = {part.name: part for part in made}

    domains = [domain for domain in (given, target) if domain is not None]
    figures = {domain.role: measured(domain, shape, config) for domain in domains}
    used = figures_used(config, figures, common=figures[domains[0].role], shape=shape)
    statistics = {role: Statistics.of(*used[role], shape, device) for role in figures}
    labels: dict[Role, dict[str, int]] = {
        "source": {"training": len(source.splits["train"]), "selection": len(source.splits["val"])},
        "target": {"training": len(granted["train"]), "selection": len(granted["val"])},
    }
    wrong: dict[str, int] = {name: int((source_y[name] != split.y).sum()) for name, split in source.splits.items()}
    treatments = {
        role: Treatment(labels[role], wrong if role == "source" else {}, figures[role], statistics[role])
        for role in figures
    }
    return DomainPair(
        task=Task(classes, {name: len(part) for name, part in parts.items()}),
        parts=parts,
        card=pair_card(config, domains, treatments, shape),
        fingerprint=fingerprint_pair(*domains),
        shape=shape,
        statistics={"source": statistics["target"], **statistics},
        unknown=_unknown(target, config),
    )


def _unknown(target: SplitDomain, config: PairSettings) -> dict[str, RowNumbers]:
    if config.is_transductive:  # every row without a label is a test row
        return {}
    held: dict[SplitName, str] = {"train": "target_unlabelled", "val": "target_val"}
    return {part: np.flatnonzero(target.splits[split].y < 0) for split, part in held.items()}


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
    channels = config.num_channels or max(first[2], second[2])
    if config.side is not None:  # rows of files are larger, and cropped
        return (int(channels), config.side, config.side)
    if first[:2] != second[:2]:
        sizes = [f"{domain.told} has {x[0]}x{x[1]}" for domain, x in ((source, first), (target, second))]
        raise ConfigError(f"data.image_size: must be given where sizes differ: {', '.join(sizes)}")
    return (int(channels), int(first[0]), int(first[1]))


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
            replace(
                _part(f"target_{each}", "target", target.splits[each], y[each], device, granted[each]),
                judged_without_labels=each == "val",
            )
            for each in evaluation
        ),
    ]


def _whole_parts(
    target: SplitDomain,
    y: Mapping[SplitName, Labels],
    granted: Mapping[SplitName, RowNumbers],
    device: torch.device,
) -> list[Part]:
    """The same under a transductive protocol: rows granted for selection are val, those granted for nothing are test.

    Together with the rows granted for training they are the whole target, which is what training sees without labels.
    Raises ConfigError where the grants leave no test row.
    """
    whole, labels = target.splits["train"], y["train"]
    unlabelled = _part("target_unlabelled", "target", whole, None, device)
    left = np.setdiff1d(np.arange(len(whole)), np.concatenate((granted["train"], granted["val"])))
    if not len(left):
        raise ConfigError(
            "data.target_labels: under data.protocol=transductive granted rows leave the test set, and none is left; "
            "grant fewer, or set data.protocol=split"
        )
    parts = [_granted_part(unlabelled, labels, granted["train"])]
    for name, positions in (("val", granted["val"]), ("test", left)):
        chosen = np.arange(len(positions)) if name == "val" else np.array([], dtype=np.int64)
        part = _part(f"target_{name}", "target", whole.take(positions), labels[positions], device, chosen)
        everything = len(positions) == len(whole)  # then the rows need not be held twice
        x = unlabelled.x if everything else part.x
        parts.append(replace(part, x=x, index=torch.from_numpy(positions).to(device)))
    return [unlabelled, *(replace(part, judged_without_labels=True) for part in parts)]


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
