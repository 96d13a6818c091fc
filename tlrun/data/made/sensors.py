"""Worse sensors: whole batches of uint8 images, the same bits on every machine.

So random numbers come from `chance`, weights are whole numbers, and no operation is used whose last
bit may differ between machines: sums of integers below 2^24 are exact in float32, in whatever order they are added.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlrun.data.made.chance import normal, uniform

Images = NDArray[np.uint8]
Sensor = Callable[[Images, int, str], Images]
"""Images (N, H, W, C), a severity 1..5 and the split's name to the same images, worse."""

RECIPE = 1
"""Raised when any sensor changes, so that no cache keeps images of an older one."""

CHUNK_VALUES = 1 << 21  # of an image array at a time: its float copies stay small
UNIT = 4096  # the sum of the weights of `resample`; 255 * 4096 / 256 * 4096 is below 2^24

# What the severities 1 to 5 mean.
BLUR_SIDES = (0.025, 0.04, 0.055, 0.075, 0.1)  # standard deviation, in shorter sides of the image
LOW_RESOLUTION_SIDES = (0.67, 0.5, 0.4, 0.3, 0.2)  # pixels left along a side
NOISE_LEVELS = (20.0, 31.0, 46.0, 66.0, 97.0)  # standard deviation, of 255: that of Hendrycks and Dietterich
LIGHT_ELECTRONS = (400.0, 160.0, 64.0, 25.0, 10.0)  # a white pixel's, of which sqrt(electrons) is shot noise
LIGHT_BRIGHTNESS = (0.6, 0.45, 0.32, 0.22, 0.15)  # of white, after the camera's gain
READ_ELECTRONS = 2.0  # noise of reading a pixel, standard deviation
OCCLUSION_AREAS = (0.1, 0.18, 0.26, 0.34, 0.42)  # hidden, of the image
OCCLUSION_ASPECTS = (0.5, 0.7, 1.0, 1.4, 2.0)  # height to width, one of these by chance
JPEG_QUALITIES = (30, 20, 12, 8, 5)


def in_chunks(x: Images, severity: int, split: str, *, see: Callable[[Images, int, int, str], Images]) -> Images:
    """What `see(images, first row, severity, split)` makes of x, a part at a time."""
    out = np.empty_like(x)
    rows = max(1, CHUNK_VALUES // max(1, math.prod(x.shape[1:])))
    for start in range(0, len(x), rows):
        out[start : start + rows] = see(x[start : start + rows], start, severity, split)
    return out


def blur(x: Images, start: int, severity: int, split: str) -> Images:
    """Out of focus: a Gaussian whose width goes with the image's side; beyond an edge the edge goes on."""
    height, width = x.shape[1:3]
    sigma = BLUR_SIDES[severity - 1] * min(height, width)
    return resample(x, gaussian_weights(height, sigma), gaussian_weights(width, sigma))


def low_resolution(x: Images, start: int, severity: int, split: str) -> Images:
    """Fewer pixels: means over areas, brought back to the old size linearly."""
    sides = (max(1, round(LOW_RESOLUTION_SIDES[severity - 1] * side)) for side in x.shape[1:3])
    down, across = (coarse_weights(side, left) for side, left in zip(x.shape[1:3], sides, strict=True))
    return resample(x, down, across)


def noise(x: Images, start: int, severity: int, split: str) -> Images:
    """The same Gaussian noise everywhere, each pixel and channel its own."""
    spread = np.float32(NOISE_LEVELS[severity - 1])
    return _to_pixels(x.astype(np.float32) + spread * normal(x.shape, start, "sensor", "noise", split))


def low_light(x: Images, start: int, severity: int, split: str) -> Images:
    """Few photons: shot noise, which grows with the root of the light, and read noise; what is left is dark."""
    white = np.float32(LIGHT_ELECTRONS[severity - 1])
    electrons = x.astype(np.float32) * (white / np.float32(255))
    spread = np.sqrt(electrons + np.float32(READ_ELECTRONS**2))
    seen = electrons + spread * normal(x.shape, start, "sensor", "low_light", split)
    return _to_pixels(seen * (np.float32(255 * LIGHT_BRIGHTNESS[severity - 1]) / white))


def occlusion(x: Images, start: int, severity: int, split: str) -> Images:
    """Something in the way: one upright rectangle of one grey, anywhere inside the image."""
    rows, height, width = x.shape[:3]
    chance = uniform((rows, 4), start, "sensor", "occlusion", split)
    aspect = np.array(OCCLUSION_ASPECTS)[(chance[:, 0] * len(OCCLUSION_ASPECTS)).astype(np.int64)]
    area = OCCLUSION_AREAS[severity - 1] * height * width
    high = np.clip(np.rint(np.sqrt(area * aspect)), 1, height)
    wide = np.clip(np.rint(area / high), 1, width)
    top, left = np.floor(chance[:, 1] * (height - high + 1)), np.floor(chance[:, 2] * (width - wide + 1))
    y, x_ = np.arange(height), np.arange(width)
    hides_y = (y >= top[:, None]) & (y < (top + high)[:, None])
    hides_x = (x_ >= left[:, None]) & (x_ < (left + wide)[:, None])
    hidden = (hides_y[:, :, None] & hides_x[:, None, :])[..., None]
    grey = (chance[:, 3] * 256).astype(np.uint8)[:, None, None, None]
    return np.where(hidden, grey, x)


def jpeg(x: Images, start: int, severity: int, split: str) -> Images:
    """Compressed by JPEG, without thinning out colour.

    JPEG codes squares of 8 pixels apart from each other. So images filled up to whole squares by their edge, and put one
    below the other, come out as each would by itself, in one call for thousands.
    """
    from PIL import Image  # only where images are made: a run that finds them in the cache does without

    rows, height, width, channels = x.shape
    fill = ((0, 0), (0, -height % 8), (0, -width % 8), (0, 0))
    padded = np.pad(x, fill, mode="edge")
    tall, wide = padded.shape[1:3]
    strip = max(1, 65_000 // tall)  # JPEG allows 65,535 lines
    out = np.empty_like(padded)
    for first in range(0, rows, strip):
        part = padded[first : first + strip].reshape(-1, wide, channels)
        packed = io.BytesIO()
        image = Image.fromarray(part[..., 0] if channels == 1 else part)
        image.save(packed, "JPEG", quality=JPEG_QUALITIES[severity - 1], subsampling=0)
        with Image.open(packed) as seen:
            out[first : first + strip] = np.asarray(seen).reshape(-1, tall, wide, channels)
    return out[:, :height, :width]


KINDS: Mapping[str, Callable[[Images, int, int, str], Images]] = {
    "blur": blur,
    "noise": noise,
    "low_light": low_light,
    "occlusion": occlusion,
    "jpeg": jpeg,
    "low_resolution": low_resolution,
}
SENSORS: Mapping[str, Sensor] = {name: partial(in_chunks, see=see) for name, see in KINDS.items()}


def resample(x: Images, down: NDArray[np.int64], across: NDArray[np.int64]) -> Images:
    """Lines (N, H, W, C) mixed by `down` (H, H), then columns by `across` (W, W); weights of a line sum to UNIT."""
    rows, height, width, channels = x.shape
    mixed = down.astype(np.float32) @ x.reshape(rows, height, width * channels).astype(np.float32)
    mixed = np.rint(mixed / np.float32(256)).reshape(rows, height, width, channels)
    mixed = np.swapaxes(mixed, 2, 3) @ across.T.astype(np.float32)
    return _to_pixels(np.swapaxes(mixed, 2, 3) / np.float32(UNIT * UNIT / 256))


def gaussian_weights(side: int, sigma: float) -> NDArray[np.int64]:
    """Weights (side, side) of a Gaussian around each place, in 1/UNIT; beyond the ends the end's value goes on."""
    reach = math.ceil(3 * sigma)
    offsets = range(-reach, reach + 1)
    weights = np.zeros((side, side))
    for place in range(side):
        for offset in offsets:
            weights[place, min(max(place + offset, 0), side - 1)] += math.exp(-0.5 * (offset / sigma) ** 2)
    return _whole(weights)


def coarse_weights(side: int, left: int) -> NDArray[np.int64]:
    """Weights (side, side), in 1/UNIT, of: means over `left` equal areas, then linear between the areas' middles."""
    edges = np.arange(left + 1) * (side / left)
    pixels = np.arange(side)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    means = np.clip(overlap, 0, None) * (left / side)  # (left, side)
    at = np.clip((pixels + 0.5) * (left / side) - 0.5, 0, left - 1)
    below = np.minimum(np.floor(at).astype(np.int64), max(left - 2, 0))
    share = at - below
    between = np.zeros((side, left))
    between[pixels, below] += 1 - share
    between[pixels, np.minimum(below + 1, left - 1)] += share
    # A product of ours, not of BLAS, whose order of adding differs between machines.
    return _whole((between[:, :, None] * means[None]).sum(1))


def _whole(weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """The weights of each line as whole numbers that sum to UNIT; what rounding lacks, the largest takes."""
    whole: NDArray[np.int64] = np.rint(weights / weights.sum(1, keepdims=True) * UNIT).astype(np.int64)
    whole[np.arange(len(whole)), whole.argmax(1)] += UNIT - whole.sum(1)
    return whole


def _to_pixels(values: NDArray[Any]) -> Images:
    pixels: Images = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return pixels
