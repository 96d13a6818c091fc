"""Where the pixels of an image go, for whole batches, each image in its own way: crops, mirroring, shifts, affine maps.

Images are uint8 (N, H, W, C), and stay so. What comes in at an edge repeats the edge: digits keep their black ground, and
photographs get no black bar that a domain discriminator could go by.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from tlrun.config import CropSettings

ATTEMPTS = 10
"""So many boxes are drawn before the largest allowed one is taken, as in torchvision's RandomResizedCrop."""


def crop_centre(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The middle of images (N, H, W, C) that has the height and width of shape (C, h, w), a view; features as they are.

    An odd margin leaves one pixel more below and right. Raises ValueError for images that are smaller.
    """
    if len(shape) != 3 or x.shape[1:3] == shape[1:]:
        return x
    margins = [have - want for have, want in zip(x.shape[1:3], shape[1:], strict=True)]
    if min(margins) < 0:
        raise ValueError(f"images of {x.shape[1]}x{x.shape[2]} have no middle of {shape[1]}x{shape[2]}")
    top, left = (margin // 2 for margin in margins)
    return x[:, top : top + shape[1], left : left + shape[2]]


def draw_boxes(
    rows: int, size: tuple[int, int], area: tuple[float, float], aspect: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """A rectangle for each of `rows` images of this height and width: (N, 4) int64 top, left, height, width.

    Its share of the image's area is even in `area`, its width over its height even on a log scale in `aspect`; one that
    does not fit is drawn again (Szegedy et al. 2015, arXiv:1409.4842, section 6, as torchvision's RandomResizedCrop
    does it). After ATTEMPTS the largest centred rectangle of an allowed aspect is taken.
    """
    height, width = size
    shares, aspects = torch.rand(2, ATTEMPTS, rows, generator=generator, dtype=torch.float64)
    pixels = (area[0] + (area[1] - area[0]) * shares) * height * width
    low, high = map(math.log, aspect)
    aspects = (low + (high - low) * aspects).exp()
    widths, heights = (pixels * aspects).sqrt().round(), (pixels / aspects).sqrt().round()
    fits = (widths >= 1) & (widths <= width) & (heights >= 1) & (heights <= height)
    first = fits.int().argmax(0, keepdim=True)  # 0 where none fits
    fallback = min(max(width / height, aspect[0]), aspect[1])
    largest_width, largest_height = min(width, round(height * fallback)), min(height, round(width / fallback))
    found = fits.any(0)
    drawn_width = torch.where(found, widths.gather(0, first)[0], largest_width)
    drawn_height = torch.where(found, heights.gather(0, first)[0], largest_height)
    down, right = torch.rand(2, rows, generator=generator, dtype=torch.float64)
    top = torch.where(found, down * (height - drawn_height + 1), (height - largest_height) / 2).floor()
    left = torch.where(found, right * (width - drawn_width + 1), (width - largest_width) / 2).floor()
    return torch.stack((top, left, drawn_height, drawn_width), 1).long()


def random_crop(x: Tensor, settings: CropSettings, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """A random part of each image, scaled to (N, height, width, C)."""
    boxes = draw_boxes(len(x), (x.shape[1], x.shape[2]), settings.area, settings.aspect, generator)
    return resized_crop(x, boxes, size)


def resized_crop(x: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """The rectangle of each image that boxes (N, 4) on the CPU name, scaled bilinearly and antialiased to `size`.

    On the CPU torch's own kernel for bytes goes image by image, twenty times as fast as any way to take all at once;
    elsewhere the same sums are two matrix products for the whole batch. The two round within one level of each other.
    """
    if x.device.type != "cpu":
        return _resized_by_products(x, boxes.to(x.device), size)
    out = x.new_empty((len(x), *size, x.shape[3]))
    for row, (top, left, height, width) in enumerate(boxes.tolist()):
        part = x[row : row + 1, top : top + height, left : left + width].permute(0, 3, 1, 2)
        out[row] = interpolate(part, size, mode="bilinear", antialias=True)[0].permute(1, 2, 0)
    return out


def _resized_by_products(x: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    down = _weights(boxes[:, 0], boxes[:, 2], x.shape[1], size[0])
    right = _weights(boxes[:, 1], boxes[:, 3], x.shape[2], size[1])
    planes = x.permute(0, 3, 1, 2).float()
    scaled = down[:, None] @ planes @ right[:, None].transpose(2, 3)
    return scaled.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _weights(start: Tensor, extent: Tensor, side: int, size: int) -> Tensor:
    """How much each of `side` pixels gives to each of `size` scaled ones, (N, size, side); each row of it sums to 1.

    A triangle around where the scaled pixel lies, as wide as two pixels of the coarser grid, cut off at the box.
    """
    start, extent = start[:, None, None].float(), extent[:, None, None].float()
    scale = extent / size
    places = torch.arange(side, device=start.device)[None, None, :] + 0.5 - start
    centres = (torch.arange(size, device=start.device)[None, :, None] + 0.5) * scale
    weights = (1 - (places - centres).abs() / scale.clamp(min=1)).clamp_(min=0)
    weights = weights * ((places > 0) & (places < extent))
    return weights / weights.sum(2, keepdim=True)


def mirror_images(x: Tensor, which: Tensor) -> Tensor:
    """Each image with left and right exchanged where which (N,), bool, says so."""
    return torch.where(which.view(-1, 1, 1, 1), x.flip(2), x)


def shift_images(x: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Each image of x (N, H, W, C) moved by its own number of pixels, down (N,) and right (N,), negative the other way."""
    rows, height, width, channels = x.shape
    line = (torch.arange(height, device=x.device) - down[:, None]).clamp_(0, height - 1)
    line += torch.arange(rows, device=x.device)[:, None] * height
    column = (torch.arange(width, device=x.device) - right[:, None]).clamp_(0, width - 1)
    value = column[:, :, None] * channels + torch.arange(channels, device=x.device)
    # Whole lines first, then along the lines: a quarter of the time of indexing pixel by pixel.
    lines = x.reshape(rows * height, width * channels).index_select(0, line.view(-1)).view(rows, height, -1)
    return lines.gather(2, value.view(rows, 1, -1).expand(-1, height, -1)).view_as(x)


def warp(x: Tensor, matrix: Tensor) -> Tensor:
    """Each image under its own affine map, by the nearest pixel.

    matrix (N, 2, 3), on any device: from where, right and down of the middle in pixels, a pixel of the result comes: its first column
    is what a step to the right moves, the second what a step down moves, the third is moved by everywhere.
    """
    rows, height, width, channels = x.shape
    matrix = matrix.to(x.device)[:, :, :, None, None]
    right = torch.arange(width, device=x.device)[None, None, :] - (width - 1) / 2
    down = torch.arange(height, device=x.device)[None, :, None] - (height - 1) / 2
    column, line = (matrix[:, axis, 0] * right + matrix[:, axis, 1] * down + matrix[:, axis, 2] for axis in (0, 1))
    column = (column + (width - 1) / 2).round_().clamp_(0, width - 1).int()
    line = (line + (height - 1) / 2).round_().clamp_(0, height - 1).int()
    line += torch.arange(rows, device=x.device, dtype=torch.int32).view(-1, 1, 1) * height
    places = (line * width + column).view(-1)
    return x.reshape(-1, channels).index_select(0, places).view(x.shape)
