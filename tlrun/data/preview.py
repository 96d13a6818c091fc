"""Some rows of a pair as they came and as training sees them, for the eye."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tlrun.config import ExperimentConfig
from tlrun.data.datasets.base import DomainData, Rows
from tlrun.data.domain import DomainPair, load_domain, make_pair
from tlrun.data.images import BadImage, ImageFiles, read_thumbnail
from tlrun.data.rows import bad_image_error
from tlrun.data.split_domain import Role
from tlrun.data.splits import hash64, row_keys
from tlrun.data.transforms import Augmentation, to_batch

PER_CLASS_POINTS = 200
"""So many rows a class are shown of a pair in the plane."""

THUMBNAIL = 224
"""The longer side, in pixels, in which image files are shown as they came."""


@dataclass(frozen=True)
class Preview:
    """Rows of one domain's train split, class by class, with all their labels: to be looked at, never trained on.

    y (N,) numbers of `classes`; before: as they came, N images
    (H, W, C) uint8 (of files thumbnails, whole) or N features (D,) float32; after (N, C, H, W) or (N, D)
    float32, augmented and normalised; granted (N,) whether a target row's label was granted for training.
    """

    role: Role
    name: str
    classes: tuple[str, ...]
    y: NDArray[np.int64]
    before: Sequence[NDArray[Any]]
    after: NDArray[np.float32]
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
    augmentation = Augmentation(config.augment, pair.shape)
    augmented = augmentation(
        part.x.take(torch.from_numpy(chosen)),
        generator=torch.Generator().manual_seed(hash64(config.seed, "preview") >> 1),
        seeds=row_keys(rows[chosen], config.seed, "preview") if augmentation.is_per_image else None,
    )
    granted = pair.parts["target_granted"].rows
    is_granted = np.isin(rows[chosen], granted.numpy()) if role == "target" and granted is not None else chosen < 0
    return Preview(
        role=role,
        name=pair.card[role]["name"],
        classes=data.classes,
        y=y[chosen],
        before=_as_came(data.train, rows[chosen]),
        after=to_batch(augmented, pair.statistics[role], pair.shape).numpy(),
        granted=is_granted,
    )


def _as_came(given: Rows, rows: NDArray[np.int64]) -> Sequence[NDArray[Any]]:
    if not isinstance(given.x, ImageFiles):
        return list(given.x[rows])
    try:
        return [read_thumbnail(given.x.path(number), side=THUMBNAIL) for number in rows.tolist()]
    except BadImage as error:
        raise bad_image_error(error) from error
