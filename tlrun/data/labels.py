"""Whose labels are what: classes aligned by name, noise planted, labels granted or withheld. Pure functions of labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Literal, TypeVar

import numpy as np

from tlrun.config import ConfigError, Grant, PairSettings
from tlrun.data.split_domain import SplitDomain, SplitName
from tlrun.data.splits import Labels, RowNumbers, class_counts, plant_noise, take_per_class

LabelSets = Literal["closed", "partial", "open"]
T = TypeVar("T")


def align_classes(source: SplitDomain, target: SplitDomain, label_sets: LabelSets) -> Labels:
    """The task's number of each of the target's classes, (C_target,): where its name stands among the source's.

    -1 where the source lacks it. closed: both have the same names; partial: the target may lack some; open: it may have
    more. A target with rows of unknown label may lack names under each of them: such rows may be of any class. Raises
    ConfigError naming the classes that one side should not have alone.
    """
    alone = {
        "source": [name for name in source.classes if name not in target.classes],
        "target": [name for name in target.classes if name not in source.classes],
    }
    refused = {"closed": ("source", "target"), "partial": ("target",), "open": ("source",)}[label_sets]
    if target.has_unknown:
        refused = tuple(role for role in refused if role != "source")
    if any(alone[role] for role in refused):
        found = [
            f"only {domain.told} has {', '.join(alone[domain.role])}"
            for domain in (source, target)
            if alone[domain.role] and (domain.role in refused or not target.has_unknown)
        ]
        fits = [name for name, role in (("partial", "target"), ("open", "source")) if not alone[role]]
        if target.has_unknown:
            fits = ["open"]
        hint = f"; set data.label_sets={fits[0]} if that is meant" if fits else ""
        raise ConfigError(f"data.label_sets: {label_sets} does not allow that {' and '.join(found)}{hint}")
    known = {name: number for number, name in enumerate(source.classes)}
    return np.array([known.get(name, -1) for name in target.classes], dtype=np.int64)


def renumbered(split_y: Labels, numbers: Labels) -> Labels:
    """Labels (N,) in the task's numbering, given that of each of the domain's classes; unknown ones stay -1."""
    y: Labels = np.append(numbers, -1)[split_y]
    return y


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

    y: labels in the task's numbering; rows of no class of the task, or of none that is known, are never granted. A
    smaller number per class lies inside a larger one. Under data.protocol=transductive the positions of `val` are those
    in the whole target too, which is the split `train`. Raises ConfigError naming the classes that have fewer rows than
    were asked for, and where no row has a label to grant.
    """
    names = {number: name for number, name in enumerate(classes) if name in target.classes}

    def choose(split: SplitName, known: Labels, key: str, grant: Grant) -> RowNumbers:
        if grant == "none":
            return np.array([], dtype=np.int64)
        if not (known >= 0).any():
            raise ConfigError(
                f"data.{key}: no {split} row of {target.told} has a label to grant; set none, or label some"
            )
        if grant == "all":
            return np.flatnonzero(known >= 0)
        counts = class_counts(known, len(classes))
        if short := [f"{name} ({counts[number]})" for number, name in names.items() if counts[number] < grant]:
            labelled = "labelled " if target.has_unknown else ""
            raise ConfigError(
                f"data.{key}: {target.told} has fewer {labelled}{split} rows than the {grant} per class asked for, "
                f"of {', '.join(short)}"
            )
        rows = target.splits["train" if config.is_transductive else split].rows
        return take_per_class(known, rows, grant, "grant", seed, split)

    if not config.is_transductive:
        train, val = together(
            (
                partial(choose, "train", y["train"], "target_labels", config.target_labels),
                partial(choose, "val", y["val"], "target_val_labels", config.target_val_labels),
            )
        )
    else:
        train = choose("train", y["train"], "target_labels", config.target_labels)
        left = y["train"].copy()
        left[train] = -1  # a row granted for training is none to select by
        val = choose("val", left, "target_val_labels", config.target_val_labels)
    return {"train": train, "val": val, "test": np.array([], dtype=np.int64)}


def together(calls: Iterable[Callable[[], T]]) -> list[T]:
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
