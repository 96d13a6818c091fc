"""Rows to inputs: fitted to one size once, normalised and augmented in whole batches.

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

from tlrun.config import AugmentSettings, ConfigError
from tlrun.data.per_image import PerImage
from tlrun.data.rows import RowStore
from tlrun.data.splits import sample

Shape = tuple[int, ...]
Fitting = Literal["none", "crop", "resize"]
Figures = tuple[list[float], list[float]]
"""Means and standard deviations, a channel or feature each."""

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601: red, green, blue to grey
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


def crop_centre(x: Tensor, shape: Shape) -> Tensor:
    """The central part of images (N, H, W, C) that has the height and width of `shape`; features as they are."""
    if len(shape) != 3 or x.shape[1:3] == shape[1:]:
        return x
    top, left = ((whole - part) // 2 for whole, part in zip(x.shape[1:3], shape[1:], strict=True))
    return x[:, top : top + shape[1], left : left + shape[2]]


def shift_images(x: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Each image of x (N, H, W, C) moved by its own number of pixels, down (N,) and right (N,), negative the other way.

    What comes in at an edge repeats the edge: digits keep their black ground, and photographs get no black bar that a
    domain discriminator could go by.
    """
    rows, height, width, channels = x.shape
    line = (torch.arange(height, device=x.device) - down[:, None]).clamp_(0, height - 1)
    line += torch.arange(rows, device=x.device)[:, None] * height
    column = (torch.arange(width, device=x.device) - right[:, None]).clamp_(0, width - 1)
    value = column[:, :, None] * channels + torch.arange(channels, device=x.device)
    # Whole lines first, then along the lines: a quarter of the time of indexing pixel by pixel.
    lines = x.reshape(rows * height, width * channels).index_select(0, line.view(-1)).view(rows, height, -1)
    return lines.gather(2, value.view(rows, 1, -1).expand(-1, height, -1)).view_as(x)


def scale_contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Each image of x (N, H, W, C) in 0..255 with its distance from its own mean value times factor (N,), as float32.

    The mean is over pixels and channels alike; results are clipped to 0..255.
    """
    flat = x.flatten(1).float()
    factor = factor[:, None]
    return torch.addcmul(flat.mean(1, keepdim=True) * (1 - factor), flat, factor).clamp_(0, 255).view(x.shape)


class Augmentation:
    """The augmentation that a config asks for, of whole batches of raw rows: per image, then shift, then contrast.

    Raises ConfigError, with all that is wrong, when rows of `shape` cannot be augmented so.
    """

    def __init__(self, settings: AugmentSettings, shape: Shape) -> None:
        self.settings = settings
        self._channels = shape[0]
        self._shape = shape
        problems = []
        if len(shape) != 3 and not settings.is_identity:
            problems.append("augment: the rows are features, not images; only augment=none fits them")
        elif settings.shift and settings.shift >= min(shape[1:]):
            problems.append(f"augment.shift: must be below the image side {min(shape[1:])}, got {settings.shift}")
        if problems:
            raise ConfigError(problems)
        self._per_image = PerImage(settings.albumentations, shape) if settings.albumentations else None

    @property
    def is_per_image(self) -> bool:
        return self._per_image is not None

    def __call__(self, x: Tensor, *, generator: torch.Generator, seeds: NDArray[np.uint64] | None) -> Tensor:
        """x (N, H, W, C) uint8 to the same, or to float32 in 0..255 where contrast changes; both are for `to_batch`.

        generator: on the CPU, for the whole batch; seeds: one for each row (N,), needed where `is_per_image`.
        """
        if self._per_image is not None:
            if seeds is None:
                raise ValueError("operations per image need a seed for each row")
            x = self._per_image(crop_centre(x, self._shape).expand(-1, -1, -1, self._channels), seeds)
        if self.settings.shift:
            reach = self.settings.shift
            down, right = torch.randint(-reach, reach + 1, (2, len(x)), generator=generator).to(x.device)
            x = shift_images(x, down, right)
        if self.settings.contrast:
            factor = 1 + self.settings.contrast * (2 * torch.rand(len(x), generator=generator) - 1)
            x = scale_contrast(x, factor.to(x.device))
        return x
