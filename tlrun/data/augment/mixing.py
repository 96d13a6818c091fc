"""Labelled rows mixed with others of their batch: mixup and cutmix. The one place where labels become soft.

mixup (Zhang et al. 2018, arXiv:1710.09412, eq. 1): a weighted mean of two rows and of their labels. cutmix (Yun et al. 2019,
arXiv:1905.04899, eqs. 1 and 2): a rectangle of one image pasted into another, labels weighted by area. In both the weight
is of a Beta distribution. Departure: each row has its own weight and rectangle, where the papers' code draws one a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from tlrun.config import MixSettings


@dataclass(frozen=True)
class Mixture:
    """How each of N rows is mixed with another of the batch.

    partner (N,) int64: with which; own: what share of the row itself stays at each place, (N, 1) for features, for images
    (N, 1, 1, 1) or (N, 1, H, W); own_label (N,): what share of its label.
    """

    partner: Tensor
    own: Tensor
    own_label: Tensor

    def rows(self, x: Tensor) -> Tensor:
        """x (N, C, H, W) or (N, D), normalised, mixed; memory stays in the order that x has."""
        if x.ndim == 4:  # index_select would undo channels-last memory
            others = x.permute(0, 2, 3, 1).index_select(0, self.partner).permute(0, 3, 1, 2)
        else:
            others = x.index_select(0, self.partner)
        return torch.lerp(others, x, self.own)

    def labels(self, y: Tensor, num_classes: int) -> Tensor:
        """y (N,) int64 as probabilities (N, C) float32 of the mixed rows."""
        hard = one_hot(y, num_classes).float()
        return torch.lerp(hard.index_select(0, self.partner), hard, self.own_label[:, None])


def draw_mixture(
    settings: MixSettings, shape: tuple[int, ...], rows: int, *, seed: int, device: torch.device
) -> Mixture:
    """A mixture of so many rows of `shape`, (C, H, W) or (D,): a function of the seed, drawn on the CPU.

    Where both methods are on, each row takes either with even chances. A row may meet itself, and stays as it was.
    """
    random = np.random.default_rng(seed)
    partner = random.permutation(rows)
    is_mixed = random.random(rows) < settings.share
    is_cut = random.random(rows) < (0.5 if settings.mixup and settings.cutmix else float(settings.cutmix > 0))
    share = np.ones(rows)
    for alpha, which in ((settings.mixup, is_mixed & ~is_cut), (settings.cutmix, is_mixed & is_cut)):
        if alpha:
            share = np.where(which, random.beta(alpha, alpha, rows), share)
    if not settings.cutmix:
        own = share.reshape(-1, *(1,) * len(shape))
        return _mixture(partner, own, share, device)
    _, height, width = shape
    cut, areas = _cut_out(random, np.where(is_cut, share, 1.0), height, width)
    own = np.where(is_cut[:, None, None], ~cut, share[:, None, None])[:, None]
    return _mixture(partner, own, np.where(is_cut, 1 - areas, share), device)


def _cut_out(random: np.random.Generator, share: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Which pixels (N, H, W) are the other image's, and their share of the area (N,).

    A rectangle with the image's aspect and 1 - share of its area, around a place anywhere in it, cut off at its edges.
    """
    sides = np.sqrt(1 - share)
    inside = []
    for extent in (height, width):
        length, middle = np.floor(extent * sides), random.integers(0, extent, len(share))
        start = np.clip(middle - length // 2, 0, extent)
        stop = np.clip(middle - length // 2 + length, 0, extent)
        places = np.arange(extent)
        inside.append((places >= start[:, None]) & (places < stop[:, None]))
    cut = inside[0][:, :, None] & inside[1][:, None, :]
    return cut, cut.mean((1, 2))


def _mixture(partner: np.ndarray, own: np.ndarray, own_label: np.ndarray, device: torch.device) -> Mixture:
    weights = [torch.from_numpy(np.ascontiguousarray(each, dtype=np.float32)).to(device) for each in (own, own_label)]
    return Mixture(torch.from_numpy(partner).to(device), *weights)
