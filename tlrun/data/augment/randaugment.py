"""RandAugment (Cubuk et al. 2020, arXiv:1909.13719): a few operations drawn for each image, all of one magnitude.

The fourteen operations of the paper's section 3. How far each goes at magnitude 30, the most there is, follows torchvision's
RandAugment. Departures: what comes in at an edge repeats the edge instead of being grey or black; every operation that
has two directions goes either way; shears and turns are about the middle; contrast is about an image's mean value.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tlrun.config import RandAugmentSettings
from tlrun.data.augment.colour import autocontrast, equalize, jitter, posterize, sharpen, solarize
from tlrun.data.augment.geometry import warp

HIGHEST = 30
"""The magnitude at which an operation goes as far as it can."""

Operation = Callable[[Tensor, Tensor], Tensor]
"""Of images (n, H, W, C) uint8 and a strength (n,) in [-1, 1], on the CPU, whose sign is the direction."""


def rand_augment(x: Tensor, settings: RandAugmentSettings, generator: torch.Generator) -> Tensor:
    """Each image of x (N, H, W, C) uint8 after its own `operations`, one after the other; the like of x.

    Images that drew the same operation go through it together.
    """
    shape = (settings.operations, len(x))
    drawn = torch.randint(len(OPERATIONS), shape, generator=generator)
    signs = 1 - 2 * torch.randint(2, shape, generator=generator)
    strengths = signs * (settings.magnitude / HIGHEST)
    x = x.clone()
    for kinds, strength in zip(drawn, strengths, strict=True):
        for kind, operation in enumerate(OPERATIONS.values()):
            rows = (kinds == kind).nonzero()[:, 0]
            if len(rows):
                where = rows.to(x.device)
                x[where] = operation(x[where], strength[rows])
    return x


def _affine(*values: Tensor | float, like: Tensor) -> Tensor:
    """The matrix (n, 2, 3) of these six values, each (n,) or the same for all."""
    columns = [value if isinstance(value, Tensor) else torch.full_like(like, value) for value in values]
    return torch.stack(columns, 1).view(-1, 2, 3)


def _rotated(x: Tensor, strength: Tensor) -> Tensor:
    angle = math.radians(30) * strength
    cos, sin = angle.cos(), angle.sin()
    return warp(x, _affine(cos, sin, 0.0, -sin, cos, 0.0, like=strength))


def _sheared_right(x: Tensor, strength: Tensor) -> Tensor:
    return warp(x, _affine(1.0, 0.3 * strength, 0.0, 0.0, 1.0, 0.0, like=strength))


def _sheared_down(x: Tensor, strength: Tensor) -> Tensor:
    return warp(x, _affine(1.0, 0.0, 0.0, 0.3 * strength, 1.0, 0.0, like=strength))


def _moved_right(x: Tensor, strength: Tensor) -> Tensor:
    distance = 150 / 331 * x.shape[2] * strength
    return warp(x, _affine(1.0, 0.0, distance, 0.0, 1.0, 0.0, like=strength))


def _moved_down(x: Tensor, strength: Tensor) -> Tensor:
    distance = 150 / 331 * x.shape[1] * strength
    return warp(x, _affine(1.0, 0.0, 0.0, 0.0, 1.0, distance, like=strength))


def _jittered(
    x: Tensor, *, brightness: Tensor | None = None, contrast: Tensor | None = None, saturation: Tensor | None = None
) -> Tensor:
    same = torch.ones(len(x))
    bright, far, vivid = (same if each is None else 1 + 0.9 * each for each in (brightness, contrast, saturation))
    return jitter(x, bright, far, vivid, torch.zeros_like(same))


OPERATIONS: dict[str, Operation] = {
    "identity": lambda x, strength: x,
    "autocontrast": lambda x, strength: autocontrast(x),
    "equalize": lambda x, strength: equalize(x),
    "rotate": _rotated,
    "solarize": lambda x, strength: solarize(x, 255 * (1 - strength.abs())),
    "color": lambda x, strength: _jittered(x, saturation=strength),
    "posterize": lambda x, strength: posterize(x, 8 - (4 * strength.abs()).round()),
    "contrast": lambda x, strength: _jittered(x, contrast=strength),
    "brightness": lambda x, strength: _jittered(x, brightness=strength),
    "sharpness": lambda x, strength: sharpen(x, 1 + 0.9 * strength),
    "shear-x": _sheared_right,
    "shear-y": _sheared_down,
    "translate-x": _moved_right,
    "translate-y": _moved_down,
}
"""The paper's names -> what they do."""
