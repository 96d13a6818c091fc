"""What the pixels of an image are, for whole batches, each image in its own way: contrast, colour, tones, rectangles.

Images come as uint8 (N, H, W, C) in 0..255 on any device, grey with one channel or red, green, blue with three. Factors
are (N,) on the CPU, where they are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601: red, green, blue to grey
CHUNK_VALUES = 1 << 19
"""Values at a time where bytes become floats: as many as stay in a processor's cache, a third of the time of all at once."""

# Luma and the two differences that tell colour (NTSC's YIQ): to scale and turn these two is saturation and hue.
_TO_YIQ = ((0.299, 0.587, 0.114), (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))
_FROM_YIQ = np.linalg.inv(np.array(_TO_YIQ))


def scale_contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Each image of x (N, H, W, C) in 0..255 with its distance from its own mean value times factor (N,), as float32.

    The mean is over pixels and channels alike; results are clipped to 0..255. factor is on the device of x.
    """
    flat = x.flatten(1).float()
    factor = factor[:, None]
    return torch.addcmul(flat.mean(1, keepdim=True) * (1 - factor), flat, factor).clamp_(0, 255).view(x.shape)


def jitter(x: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, hue: Tensor) -> Tensor:
    """Brightness, saturation and contrast times a factor (N,), and the hue turned by a share hue (N,) of a circle.

    All of it is one linear map of an image's colours and a shift, clipped and rounded once, at the end. Saturation is
    the distance from the luma, contrast that from the image's mean value. Departures from torchvision's ColorJitter:
    the order is fixed; the hue turns about the grey axis at equal luma (in YIQ), not in HSV.
    """
    matrix = colour_matrix(brightness, saturation, hue) if x.shape[3] == 3 else brightness.view(-1, 1, 1)
    return _by_chunks(_mapped, x, matrix.float().to(x.device), contrast.float().to(x.device))


def colour_matrix(brightness: Tensor, saturation: Tensor, hue: Tensor) -> Tensor:
    """What each image's red, green and blue are multiplied by from the left, (N, 3, 3) float64."""
    angle = 2 * math.pi * hue.double()
    turn = torch.zeros(len(hue), 3, 3, dtype=torch.float64)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = saturation * angle.cos()
    turn[:, 2, 1] = saturation * angle.sin()
    turn[:, 1, 2] = -turn[:, 2, 1]
    matrix = torch.from_numpy(_FROM_YIQ) @ turn @ torch.tensor(_TO_YIQ, dtype=torch.float64)
    return brightness.view(-1, 1, 1) * matrix


def _mapped(x: Tensor, matrix: Tensor, contrast: Tensor) -> Tensor:
    planes = torch.bmm(matrix, x.flatten(1, 2).transpose(1, 2).float())
    mean = planes.mean((1, 2))
    planes = planes.mul_(contrast.view(-1, 1, 1)).add_((mean * (1 - contrast)).view(-1, 1, 1))
    return planes.clamp_(0, 255).round_().to(torch.uint8).transpose(1, 2).reshape(x.shape)


def _by_chunks(change: Callable[..., Tensor], x: Tensor, *amounts: Tensor) -> Tensor:
    """The same as change(x, *amounts), a few images at a time."""
    step = max(1, CHUNK_VALUES // max(1, x[0].numel())) if len(x) else 1
    if step >= len(x):
        return change(x, *amounts)
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        out[rows] = change(x[rows], *(each[rows] for each in amounts))
    return out


def paint_boxes(x: Tensor, boxes: Tensor, which: Tensor) -> Tensor:
    """Each image with a rectangle painted in its own mean colour where which (N,), bool, says so.

    boxes (N, 4) on the CPU: top, left, height, width. Zhong et al. 2020, arXiv:1708.04896, algorithm 1; there the colour is noise
    or a data set's mean, which would tell a discriminator nothing here but would be one more thing to measure.
    """
    rows = which.nonzero()[:, 0]
    if not len(rows):
        return x
    top, left, height, width = boxes[rows].to(x.device)[:, :, None].unbind(1)
    rows = rows.to(x.device)
    line, column = (torch.arange(side, device=x.device) for side in x.shape[1:3])
    lines = (line >= top) & (line < top + height)
    columns = (column >= left) & (column < left + width)
    chosen = x[rows]
    mean = chosen.flatten(1, 2).mean(1, dtype=torch.float32)
    mean = mean if x.is_floating_point() else mean.round().to(torch.uint8)
    out = x.clone()
    out[rows] = torch.where(lines[:, :, None, None] & columns[:, None, :, None], mean[:, None, None, :], chosen)
    return out


def autocontrast(x: Tensor) -> Tensor:
    """Each channel of each image stretched from its darkest and brightest value to 0 and 255; one value alone stays."""
    flat = x.flatten(1, 2)
    low, high = flat.amin(1).float(), flat.amax(1).float()
    scale = torch.where(high > low, 255 / (high - low).clamp(min=1), 1.0)
    offset = torch.where(high > low, -low * scale, 0.0)
    table = torch.arange(256, device=x.device) * scale[:, :, None] + offset[:, :, None]
    return _look_up(x, table)


def equalize(x: Tensor) -> Tensor:
    """Each channel of each image with its values spread so that all are about as frequent, as Pillow does it."""
    rows, channels = len(x), x.shape[3]
    number = torch.arange(rows * channels, device=x.device).view(rows, 1, channels)
    counted = torch.zeros(rows * channels * 256, dtype=torch.int64, device=x.device)
    places = (number * 256 + x.flatten(1, 2)).view(-1)
    counts = counted.scatter_add_(0, places, torch.ones_like(places)).view(rows, channels, 256)
    last = 255 - (counts > 0).flip(2).int().argmax(2, keepdim=True)
    step = (counts.sum(2, keepdim=True) - counts.gather(2, last)) // 255
    table = (counts.cumsum(2) - counts + step // 2) // step.clamp(min=1)
    table = torch.where(step == 0, torch.arange(256, device=x.device), table)
    return _look_up(x, table.float())


def solarize(x: Tensor, threshold: Tensor) -> Tensor:
    """Values of at least threshold (N,) taken from 255."""
    return torch.where(x >= threshold.view(-1, 1, 1, 1).to(x.device), 255 - x, x)


def posterize(x: Tensor, bits: Tensor) -> Tensor:
    """All but the highest bits (N,), 0 to 8, of each value set to 0."""
    mask = (256 - 2 ** (8 - bits.long())).to(torch.uint8)
    return x & mask.view(-1, 1, 1, 1).to(x.device)


def sharpen(x: Tensor, factor: Tensor) -> Tensor:
    """Each image's distance from a smoothed version of itself times factor (N,); the outermost pixels stay.

    Smoothed by the 3 x 3 kernel of Pillow's ImageFilter.SMOOTH: 5 in the middle, 1 around it, over 13.
    """
    if min(x.shape[1:3]) < 3:
        return x
    planes = x.permute(0, 3, 1, 2).float()
    kernel = torch.ones(x.shape[3], 1, 3, 3, device=x.device)
    kernel[:, :, 1, 1] = 5.0
    inner = planes[:, :, 1:-1, 1:-1]
    smooth = conv2d(planes, kernel / 13, groups=x.shape[3]).round_()
    out = x.clone()
    sharp = smooth + factor.view(-1, 1, 1, 1).to(x.device) * (inner - smooth)
    out[:, 1:-1, 1:-1] = sharp.clamp_(0, 255).round_().to(torch.uint8).permute(0, 2, 3, 1)
    return out


def _look_up(x: Tensor, table: Tensor) -> Tensor:
    """Each value replaced by what table (N, C, 256) has for it in its image and channel, cut to a whole number."""
    values = table.clamp(0, 255).to(torch.uint8)
    return values.gather(2, x.flatten(1, 2).transpose(1, 2).long()).transpose(1, 2).reshape(x.shape)
