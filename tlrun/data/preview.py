"""Some rows of a pair as they came and as training sees them, for the eye."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tlrun.config import ExperimentConfig
from tlrun.data.augment.augmentation import pipelines
from tlrun.data.augment.mixing import draw_mixture
from tlrun.data.datasets.base import DomainData, Rows
from tlrun.data.domain import DomainPair, Part, load_domain, make_pair, roles_of
from tlrun.data.files.images import BadImage, ImageFiles, read_thumbnail
from tlrun.data.rows import bad_image_error
from tlrun.data.split_domain import Role
from tlrun.data.splits import hash64, row_keys
from tlrun.data.transforms import to_batch

PER_CLASS_POINTS = 200
"""So many rows a class are shown of a pair in the plane."""
NO_LABEL = "no label"

THUMBNAIL = 224
"""The longer side, in pixels, in which image files are shown as they came."""


@dataclass(frozen=True)
class Preview:
    """Rows of one domain's train split, class by class, with all their labels: to be looked at, never trained on.

    y (N,) numbers of `classes`, the first of which is `no label` where there are such rows; before: as they came, N
    images (H, W, C) uint8 (of files thumbnails, whole) or N features (D,) float32; after: what training sees, by a name
    for each view, (N, C, H, W) or (N, D) float32, augmented and normalised, mixed where labelled rows are; granted (N,)
    whether a target row's label was granted for training.
    """

    role: Role
    name: str
    classes: tuple[str, ...]
    y: NDArray[np.int64]
    before: Sequence[NDArray[Any]]
    after: Mapping[str, NDArray[np.float32]]
    granted: NDArray[np.bool_]


def preview(config: ExperimentConfig, *, per_class: int) -> tuple[DomainPair, list[Preview]]:
    """The pair, and `per_class` training rows of each class of the domains there are; of features in the plane more.

    Raises ConfigError as a run would.
    """
    domains = {role: load_domain(config.data, role) for role in roles_of(config.data)}
    pair = make_pair(
        domains.get("source"), domains["target"], config.data, seed=config.seed, device=torch.device("cpu")
    )
    count = PER_CLASS_POINTS if pair.shape == (2,) else per_class
    return pair, [_preview(config, pair, role, data, count) for role, data in domains.items()]


def _preview(config: ExperimentConfig, pair: DomainPair, role: Role, data: DomainData, per_class: int) -> Preview:
    part = pair.parts["source_train" if role == "source" else "target_unlabelled"]
    assert part.rows is not None
    rows = part.rows.numpy()
    train = data.whole().train if role == "target" and config.data.is_transductive else data.train
    y, classes = train.y[rows], data.classes
    if (y < 0).any():
        y, classes = y + 1, (NO_LABEL, *classes)
    chosen = np.concatenate([np.flatnonzero(y == number)[:per_class] for number in range(len(classes))])
    granted = pair.parts["target_granted"].rows
    is_granted = np.isin(rows[chosen], granted.numpy()) if role == "target" and granted is not None else chosen < 0
    return Preview(
        role=role,
        name=pair.card[role]["name"],
        classes=classes,
        y=y[chosen],
        before=_as_came(train, rows[chosen]),
        after=_after(config, pair, role, part, torch.from_numpy(chosen)),
        granted=is_granted,
    )


def _as_came(given: Rows, rows: NDArray[np.int64]) -> Sequence[NDArray[Any]]:
    if not isinstance(given.x, ImageFiles):
        return list(given.x[rows])
    try:
        return [read_thumbnail(given.x.path(number), side=THUMBNAIL) for number in rows.tolist()]
    except BadImage as error:
        raise bad_image_error(error) from error


def _after(
    config: ExperimentConfig, pair: DomainPair, role: Role, part: Part, chosen: Tensor
) -> dict[str, NDArray[np.float32]]:
    """These rows of a part as a batch of them would hold them, view by view."""
    assert part.rows is not None
    x = part.x.take(chosen)
    both = pipelines(config.augment, role, pair.shape, x.shape)
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
