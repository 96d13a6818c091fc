"""The data card: what a run trained and measured on, as plain values for JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tlrun.config import PairSettings
from tlrun.data.opened import describe_reading
from tlrun.data.split_domain import Role, SplitDomain
from tlrun.data.splits import class_counts
from tlrun.data.transforms import Shape, Statistics, describe_fitting

PROTOCOLS = {
    "split": "test rows are held out of training",
    "transductive": (
        "the target's training rows, taken without labels, are its test rows too, as in the published tables of "
        "unsupervised adaptation; rows whose labels are granted leave the test set; there is no ceiling to close a gap to"
    ),
}
"""What each protocol means for the figures of a run."""


@dataclass(frozen=True)
class Treatment:
    """What was done to one domain beyond splitting it.

    labels_used: how many labels training and selection may see. labels_made_wrong: how many by planted noise, by split.
    measured: mean and standard deviation of its own train split. used: what it is normalised by.
    """

    labels_used: Mapping[str, int]
    labels_made_wrong: Mapping[str, int]
    measured: tuple[Sequence[float], Sequence[float]]
    used: Statistics


def pair_card(
    config: PairSettings, domains: Sequence[SplitDomain], treatments: Mapping[Role, Treatment], shape: Shape
) -> dict[str, Any]:
    """The data card of a pair, source and target, or of a target alone, whose inputs are of `shape`."""
    source, target = domains[0], domains[-1]
    return {
        "pair": config.name,
        "protocol": config.protocol,
        "protocol_means": PROTOCOLS[config.protocol],
        "classes": list(source.classes),
        "label_sets": config.label_sets,
        "classes_of_source_alone": [name for name in source.classes if name not in target.classes],
        "classes_of_target_alone": [name for name in target.classes if name not in source.classes],
        "input_shape": list(shape),
        "normalize": config.normalize,
        "fingerprint": fingerprint_pair(*domains),
        "source": None,
        **{domain.role: _domain_card(config, domain, treatments[domain.role], shape) for domain in domains},
    }


def fingerprint_pair(*domains: SplitDomain) -> str:
    """SHA-256 of the domains' data and of which rows their splits hold; no seed enters."""
    digest = hashlib.sha256()
    for domain in domains:
        digest.update(domain.fingerprint.encode())
        for name, split in domain.splits.items():
            digest.update(f"{domain.role} {name} {len(split)}".encode())
            digest.update(split.rows.data)
    return digest.hexdigest()


def _domain_card(config: PairSettings, domain: SplitDomain, treatment: Treatment, shape: Shape) -> dict[str, Any]:
    mean, std = treatment.measured
    return {
        "name": domain.name,
        "origin": domain.origin,
        "notes": list(domain.notes),
        "fingerprint": domain.fingerprint,
        **_split_origins(config, domain),
        "rows": {name: len(split) for name, split in domain.splits.items()},
        "rows_without_label": {name: int((split.y < 0).sum()) for name, split in domain.splits.items()},
        "rows_per_class": {
            name: dict(zip(domain.classes, class_counts(split.y, len(domain.classes)).tolist(), strict=True))
            for name, split in domain.splits.items()
        },
        "shape_before": None if domain.shape_before is None else list(domain.shape_before),
        "shape_after": list(domain.splits["train"].x.shape[1:]),
        "fitting": _fitting(config, domain, shape),
        "train_mean": list(mean),
        "train_std": list(std),
        "normalized_by_mean": list(treatment.used.mean),
        "normalized_by_std": list(treatment.used.std),
        "labels_used": dict(treatment.labels_used),
        "labels_made_wrong": dict(treatment.labels_made_wrong),
    }


def _split_origins(config: PairSettings, domain: SplitDomain) -> dict[str, str]:
    """Where the test and the val split are from, in words."""
    unknown = domain.has_unknown
    drawn = "of train, without regard to unknown labels" if unknown else "of train, stratified"
    val = f"{config.val_fraction:g} {drawn}"
    if config.is_transductive and domain.role == "target":
        test, val = "the whole target, which is the train split too", "none but rows whose labels are granted"
    elif domain.has_official_test:
        test = "official"
    elif config.is_transductive:
        test = "none"
    else:
        test = f"{config.test_fraction:g} {drawn}"
    if domain.has_official_val and not (config.is_transductive and domain.role == "target"):
        val = "official"
    return {"test_split": test, "val_split": val}


def _fitting(config: PairSettings, domain: SplitDomain, shape: Shape) -> str:
    """How a row became one of the run's size, in words."""
    if domain.shape_before is not None:
        return describe_fitting(domain.shape_before, size=config.side, channels=shape[0])
    return describe_reading(config)
