"""Some rows of a pair as they came and as training sees them, for the eye."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tlrun.config import ExperimentConfig
from tlrun.data.augmentation import pipelines
from tlrun.data.datasets.base import DomainData
from tlrun.data.domain import DomainPair, Part, load_domain, make_pair
from tlrun.data.mixing import draw_mixture
from tlrun.data.split_domain import Role
from tlrun.data.splits import hash64, row_keys
from tlrun.data.transforms import to_batch

PER_CLASS_POINTS = 200
"""So many rows a class are shown of a pair in the plane."""


@dataclass(frozen=True)
class Preview:
    """Rows of one domain's train split, class by class, with all their labels: to be looked at, never trained on.

    y (N,) numbers of `classes`; before (N, H, W, C) uint8 or (N, D) float32 as they came; after: what training sees,
    by a name for each view, (N, C, H, W) or (N, D) float32, augmented and normalised, mixed where labelled rows are;
    granted (N,) whether a target row's label was granted for training.
    """

    role: Role
    name: str
    classes: tuple[str, ...]
    y: NDArray[np.int64]
    before: NDArray[Any]
    after: Mapping[str, NDArray[np.float32]]
    granted: NDArray[np.bool_]


def preview(config: ExperimentConfig, *, per_class: int) -> tuple[DomainPair, list[Preview]]:
    """The pair, and `per_class` training rows of each class of source and target; of features in the plane more.

    Raises ConfigError as a run would.
    """
    domains: dict[Role, DomainData] = {role: load_domain(config.data, role) for role in ("source", "target")}
    pair = make_pair(domains["source"], domains["target"], config.data, seed=config.seed, device=torch.device("cpu"))
    count = PER_CLASS_POINTS if pair.shape == (2,) else per_class
    return pair, [_preview(config, pair, role, data, count) for role, data in domains.items()]


def _preview(config: ExperimentConfig, pair: DomainPair, role: Role, data: DomainData, per_class: int) -> Preview:
    part = pair.parts["source_train" if role == "source" else "target_unlabelled"]
    assert part.rows is not None
    rows = part.rows.numpy()
    y = data.train.y[rows]
    chosen = np.concatenate([np.flatnonzero(y == number)[:per_class] for number in range(len(data.classes))])
    granted = pair.parts["target_granted"].rows
    is_granted = np.isin(rows[chosen], granted.numpy()) if role == "target" and granted is not None else chosen < 0
    return Preview(
        role=role,
        name=pair.card[role]["name"],
        classes=data.classes,
        y=y[chosen],
        before=data.train.x[rows[chosen]],
        after=_after(config, pair, role, part, torch.from_numpy(chosen)),
        granted=is_granted,
    )


def _after(
    config: ExperimentConfig, pair: DomainPair, role: Role, part: Part, chosen: Tensor
) -> dict[str, NDArray[np.float32]]:
    """These rows of a part as a batch of them would hold them, view by view."""
    assert part.rows is not None
    x = part.x[chosen]
    rows = (x.shape[1], x.shape[2]) if x.ndim == 4 else None
    both = pipelines(config.augment, role, pair.shape, rows)
    count = config.strategy.needs.views
    mixture = None
    if config.augment.mix is not None and part.y is not None:
        seed = hash64(config.seed, "preview", "mix")
        mixture = draw_mixture(config.augment.mix, pair.shape, len(x), seed=seed, device=x.device)
    found = {}
    for view in range(count):
        augmentation = both[min(view, 1)]
        salt = (config.seed, "preview", *((view,) if view else ()))
        seen = augmentation(
            x,
            generator=torch.Generator().manual_seed(hash64(*salt) >> 1),
            seeds=row_keys(part.rows[chosen].numpy(), *salt) if augmentation.is_per_image else None,
        )
        batch = to_batch(seen, pair.statistics[role], pair.shape)
        name = "as training sees it" if count == 1 else f"view {view + 1} of {count}"
        if mixture is not None:
            batch, name = mixture.rows(batch), f"{name}, mixed"
        found[f"{name}, normalised"] = batch.numpy()
    return found
