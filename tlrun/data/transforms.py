"""Rows to inputs: fitted to one size once, normalised in whole batches.

Rows are kept as they are small: uint8 images (N, H, W, C), grey ones with one channel, or float32 features (N, D). What
leaves here is float32 and normalised, images (N, C, H, W) in channels-last memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from tlrun.data.augment.colour import LUMA
from tlrun.data.augment.geometry import crop_centre
from tlrun.data.rows import RowStore
from tlrun.data.splits import sample

Shape = tuple[int, ...]
Fitting = Literal["none", "crop", "resize"]
Figures = tuple[list[float], list[float]]
"""Means and standard deviations, a channel or feature each."""

CHUNK = 1024  # images at a time where floats are needed: the float copy of a whole set would take four times its memory


def fitting(height: int, width: int, size: int | None) -> Fitting:
    """How an image of this size becomes `size` x `size`; None asks for nothing.

    An even margin of at most a quarter of the side is cut off (32 to 28, 256 to 224); anything else is resized.
    """
    if size is None or (height, width) == (size, size):
        return "none"
    margins = (height - size, width - size)
    if all(0 <= margin <= side // 4 and margin % 2 == 0 for margin, side in zip(margins, (height, width), strict=True)):
        return "crop"
    return "resize"


def describe_fitting(shape: tuple[int, ...], *, size: int | None, channels: int | None) -> str:
    """What `fit` and `to_batch` do to rows that come as `shape`, (H, W, C) or (D,), in words for the data card."""
    if len(shape) != 3:
        return "none"
    height, width, stored = shape
    how = fitting(height, width, size)
    words = {
        "none": f"size as it came, {height}x{width}",
        "crop": f"centre crop from {height}x{width} to {size}x{size}",
        "resize": f"antialiased bilinear resize from {height}x{width} to {size}x{size}",
    }[how]
    words += ", aspect changed" if how == "resize" and height != width else ""
    if channels is None or channels == stored:
        return words
    return words + (", grey repeated in three channels" if stored == 1 else ", colour made grey by luma")


def fit(x: NDArray[Any], rows: NDArray[np.int64], *, size: int | None, channels: int | None) -> Tensor:
    """A copy of these rows of x, fitted: the one copy that is made of them.

    x (N, H, W, C) uint8 or (N, D) float32; returns the rows (R, size, size, C') of the same type, C' = 1 where colour
    was asked to become grey (by luma). Grey images keep one channel even where `channels` is 3: `to_batch` repeats it.
    """
    if x.ndim != 4:
        return torch.from_numpy(x[rows])
    height, width, stored = x.shape[1:]
    how = fitting(height, width, size)
    out_height, out_width = (height, width) if size is None else (size, size)
    if how == "crop":
        top, left = (height - out_height) // 2, (width - out_width) // 2
        x = x[:, top : top + out_height, left : left + out_width]
    to_grey = channels == 1 and stored == 3
    if how != "resize" and not to_grey:
        return torch.from_numpy(x[rows])
    out = torch.empty(len(rows), out_height, out_width, 1 if to_grey else stored, dtype=torch.uint8)
    for start in range(0, len(rows), CHUNK):
        chunk = torch.from_numpy(x[rows[start : start + CHUNK]]).permute(0, 3, 1, 2).float()
        if to_grey:
            chunk = (chunk * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
        if how == "resize":
            chunk = interpolate(chunk, (out_height, out_width), mode="bilinear", antialias=True)
        out[start : start + CHUNK] = chunk.round_().clamp_(0, 255).permute(0, 2, 3, 1)
    return out


@dataclass(frozen=True)
class Statistics:
    """What normalisation takes away and divides by, for each channel (of values in [0, 1]) or feature.

    mean, std (C,). scale, offset (P,): the same as `offset + scale * value` for each of the P numbers of a row in
    channels-last order, on the device of the rows. Broadcasting over an innermost 3 instead takes four times as long.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: Tensor
    offset: Tensor

    @classmethod
    def of(cls, mean: Sequence[float], std: Sequence[float], shape: Shape, device: torch.device) -> Statistics:
        """For rows that become `shape`. One grey channel's figures are repeated; no spread counts as 1."""
        repeats = shape[0] // len(mean)
        means = torch.tensor(mean, dtype=torch.float64).repeat(repeats)
        stds = torch.tensor(std, dtype=torch.float64).repeat(repeats)
        # A constant channel or feature is centred and no more; rounding may leave it a spread that float32 cannot show.
        stds[stds <= torch.finfo(torch.float32).eps * means.abs()] = 1.0
        unit = 255.0 if len(shape) == 3 else 1.0
        pixels = math.prod(shape[1:])
        scale, offset = (values.repeat(pixels).float().to(device) for values in (1 / (unit * stds), -means / stds))
        return cls(tuple(means.tolist()), tuple(stds.tolist()), scale, offset)


def measure_sample(x: RowStore, shape: Shape) -> Figures:
    """What `measure` says of a fixed sample of rows that are images and not in memory, cropped as for evaluation."""
    chosen, step = sample(len(x)), 32
    pieces = (x.take(torch.from_numpy(chosen[start : start + step])) for start in range(0, len(chosen), step))
    return _measure_images(crop_centre(piece, shape) for piece in pieces)


def measure(x: Tensor) -> Figures:
    """Mean and population standard deviation of each channel of uint8 images, in [0, 1], or of each feature.

    x (N, H, W, C) or (N, D), on the CPU, N > 0. Images are summed up in integers, exactly, a few at a time.
    """
    if x.ndim == 2:
        centre = x.mean(0, dtype=torch.float64)
        spread = torch.zeros_like(centre)
        for start in range(0, len(x), CHUNK):
            spread += (x[start : start + CHUNK].double() - centre).square().sum(0)
        return centre.tolist(), (spread / len(x)).sqrt().tolist()
    return _measure_images(x[start : start + 128] for start in range(0, len(x), 128))


def _measure_images(chunks: Iterable[Tensor]) -> Figures:
    """Of images (n, H, W, C) uint8 in pieces of at most 128, since 128 * 255^2 is far from 2^32."""
    sums = squares = np.zeros(1, dtype=np.int64)
    count = channels = 0
    for piece in chunks:
        chunk = piece.reshape(len(piece), -1).numpy().astype(np.uint32)
        sums = sums + chunk.sum(0, dtype=np.uint32)
        squares = squares + np.einsum("nd,nd->d", chunk, chunk)
        channels = piece.shape[3]
        count += piece.numel() // channels
    totals = (each.reshape(-1, channels).sum(0).tolist() for each in (sums, squares))
    pairs = list(zip(*totals, strict=True))  # Python's integers from here: count * square is beyond 64 bits
    means = [total / count / 255 for total, _ in pairs]
    return means, [math.sqrt(count * square - total**2) / count / 255 for total, square in pairs]


def to_batch(x: Tensor, statistics: Statistics, shape: Shape) -> Tensor:
    """Rows (N, H, W, C') uint8 or (N, D) float32 as normalised float32 (N, *shape), images in channels-last memory.

    One grey channel is repeated to as many as `shape` has; of images larger than `shape` the centre is taken. Works on
    the device of x.
    """
    x = crop_centre(x, shape)
    flat = x.flatten(1).float()
    if len(shape) == 1:
        return torch.addcmul(statistics.offset, flat, statistics.scale)
    channels, height, width = shape
    if x.shape[3] != channels:
        flat = flat.unsqueeze(2).expand(-1, -1, channels).flatten(1)
    normalised = torch.addcmul(statistics.offset, flat, statistics.scale)
    return normalised.view(len(x), height, width, channels).permute(0, 3, 1, 2)
