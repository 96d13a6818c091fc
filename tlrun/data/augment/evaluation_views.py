"""Views of an image over which an evaluation averages what the model says."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tlrun.config import ConfigError, ViewSettings
from tlrun.data.augment.geometry import shift_images
from tlrun.data.transforms import Shape


def views_of(x: Tensor, settings: ViewSettings) -> Iterator[Tensor]:
    """The views of rows x (N, H, W, C) beside the rows themselves, each of the same shape and dtype.

    shift: moved by so many pixels towards each corner, which with the rows as they are makes the five crops of
    Krizhevsky et al. 2012 (NIPS 25, section 4.1); flip: all of these mirrored, which makes their ten. What comes in at
    an edge repeats the edge.
    """
    reach = settings.shift
    places = [(0, 0), *((down, right) for down in (-reach, reach) for right in (-reach, reach) if reach)]
    for number, (down, right) in enumerate(places):
        moved = x
        if number:
            rows = torch.ones(len(x), dtype=torch.int64, device=x.device)
            moved = shift_images(x, down * rows, right * rows)
            yield moved
        if settings.flip:
            yield moved.flip(2)


def num_views(settings: ViewSettings) -> int:
    """How many predictions an evaluation averages for each row, the row as it is among them."""
    return (5 if settings.shift else 1) * (2 if settings.flip else 1)


def check_views(settings: ViewSettings, shape: Shape, *, encoded: bool) -> None:
    """Raises ConfigError where rows of this shape have no such views. encoded: whether they are outputs of a stage."""
    if settings.is_identity:
        return
    problems = []
    if len(shape) != 3:
        problems.append("engine.test_time: the rows are features, not images; set flip=false and shift=0")
    elif settings.shift >= min(shape[1:]):
        problems.append(f"engine.test_time.shift: must be below the image side {min(shape[1:])}, got {settings.shift}")
    if encoded:
        problems.append(
            "engine.test_time: views need the images, of which strategy.encode_once keeps what frozen stages made; "
            "set strategy.encode_once=false, or flip=false and shift=0"
        )
    if problems:
        raise ConfigError(problems)
