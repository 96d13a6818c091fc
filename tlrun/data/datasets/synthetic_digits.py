"""Synthetic digits: numbers drawn from fonts in all colours, after SYN NUMBERS of Ganin et al. 2016 (JMLR 17, section
5.2.4, arXiv:1505.07818), of which the paper gives the outline.

As there, the text (one, two or three digits, of which the middle one counts), its place, angle, colours, background and
blur vary. Departures: 20 fonts, those inside matplotlib's wheel, stretched, slanted and of varied weight, where the
paper takes Windows' fonts; some digits have an outline, and backgrounds vary smoothly.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tlrun.config import DomainSettings, Natural
from tlrun.data.cache.arrays import Arrays, cached_arrays
from tlrun.data.datasets.base import Domain, DomainData, Rows
from tlrun.data.datasets.mnist import CLASSES
from tlrun.data.made.chance import uniform
from tlrun.data.made.glyphs import FONTS, GRID, SPAN, Glyphs, draw_glyphs

Floats = NDArray[Any]  # float32; mypy cannot follow scalars of two kinds

RECIPE = 1
"""Raised when the drawing changes, so that no cache keeps images of an older one."""

CHUNK_PIXELS = 1 << 19  # at a time: the arrays of one step stay in the processor's cache
LUMA = np.array((0.299, 0.587, 0.114), dtype=np.float32)  # ITU-R BT.601
CONTRAST = 0.25  # least difference in luma, of 1, between digit and ground
TEXTURE = 4  # coarse places along a side between which the ground varies


class SyntheticDigits(Domain):
    """Digits drawn from fonts, in colour, the middle one of a number of up to three."""

    class Config(DomainSettings):
        train_rows: Annotated[int, Field(ge=100)]
        test_rows: Annotated[int, Field(ge=100)]
        size: Annotated[int, Field(ge=16, le=128)]
        draw: Natural

        @property
        def shows_characters(self) -> bool:
            return True

    config: Config

    def load(self) -> DomainData:
        config = self.config
        rows = {"train": config.train_rows, "test": config.test_rows}
        inputs = {"rows": rows, "size": config.size, "draw": config.draw, "recipe": RECIPE}

        def make() -> Arrays:
            glyphs = draw_glyphs()
            arrays: Arrays = {}
            for split, count in rows.items():
                y = labels(count, draw=config.draw, split=split)
                arrays |= {f"{split}_x": render(y, glyphs, config.size, draw=config.draw, split=split), f"{split}_y": y}
            return arrays

        arrays = cached_arrays(self.places.cache, "synthetic-digits", inputs=inputs, make=make)
        train, test = (Rows(arrays[f"{split}_x"], arrays[f"{split}_y"]) for split in rows)
        return DomainData(
            classes=CLASSES,
            train=train,
            test=test,
            origin=(
                f"digits drawn from {len(FONTS)} fonts shipped with matplotlib, after SYN NUMBERS of Ganin et al. 2016; "
                f"draw {config.draw}"
            ),
            notes=("not the SYN NUMBERS of the paper: accuracies do not compare with published tables",),
        )


def labels(count: int, *, draw: int, split: str) -> NDArray[np.int64]:
    """The digit in the middle of each image, (count,), all equally likely."""
    return (uniform((count, 1), 0, "synthetic label", draw, split)[:, 0] * 10).astype(np.int64)


def render(y: NDArray[np.int64], glyphs: Glyphs, size: int, *, draw: int, split: str) -> NDArray[np.uint8]:
    """The images (N, size, size, 3) of the digits y (N,). Row i depends on draw, split, i and its digit alone."""
    images = np.empty((len(y), size, size, 3), dtype=np.uint8)
    step = max(1, CHUNK_PIXELS // size**2)
    for start in range(0, len(y), step):
        part = y[start : start + step]
        chance = uniform((len(part), Style.NUMBERS), start, "synthetic style", draw, split).astype(np.float32)
        texture = uniform((len(part), TEXTURE, TEXTURE, 3), start, "synthetic texture", draw, split).astype(np.float32)
        images[start : start + step] = _paint(part, Style(chance, size), texture, glyphs, size)
    return images


class Style:
    """What chance decides for each of N images; lengths in pixels, colours in 0..1, each (N,) or (N, 3).

    Angles are given by the tangent of their half, so that no cosine, which differs between machines, is needed.
    """

    NUMBERS = 40
    """How many numbers in [0, 1) an image needs."""

    def __init__(self, chance: Floats, size: int) -> None:
        hues, numbers = chance[:, :9], iter(chance.T[9:])

        def between(low: float, high: float) -> Floats:
            drawn: Floats = np.float32(low) + np.float32(high - low) * next(numbers)
            return drawn

        self.font = (next(numbers) * np.float32(len(FONTS))).astype(np.int64)
        self.height = size * between(0.48, 0.86)
        self.stretch = between(0.75, 1.2)
        self.slant = between(-0.15, 0.2)
        self.weight = between(-0.005, 0.04)
        half = between(-0.15, 0.15)  # 17 degrees each way
        self.cosine, self.sine = (1 - half * half) / (1 + half * half), 2 * half / (1 + half * half)
        self.x = size * between(0.42, 0.58)
        self.y = size * between(0.42, 0.58)
        self.gap = between(0.95, 1.2)
        self.neighbours = [(next(numbers) < 0.5, (next(numbers) * np.float32(10)).astype(np.int64)) for _ in range(2)]
        self.edge = 1 + (size / 32) * np.float32(5) * between(0, 1) * between(0, 1)  # width of an edge: the blur
        ground = next(numbers)
        self.ground = coloured(ground, between(0, 1), hues[:, :3])
        self.ink = coloured(_apart(ground, next(numbers)), between(0, 1), hues[:, 3:6])
        self.outline = coloured(_apart(_luma(self.ink), next(numbers)), between(0, 1), hues[:, 6:])
        self.outline_width = np.where(next(numbers) < 0.3, between(0.05, 0.1), np.float32(0))
        self.roughness = np.float32(0.3) * between(0, 1) * between(0, 1)


def _apart(luma: Floats, chance: Floats) -> Floats:
    """A luma at least CONTRAST from the given one, either way as there is room: around a circle they lie apart too."""
    turned = luma + np.float32(CONTRAST) + chance * np.float32(1 - 2 * CONTRAST)
    wrapped: Floats = turned - np.floor(turned)
    return wrapped


def _luma(colour: Floats) -> Floats:
    luma: Floats = colour[:, 0] * LUMA[0] + colour[:, 1] * LUMA[1] + colour[:, 2] * LUMA[2]
    return luma


def coloured(luma: Floats, saturation: Floats, hue: Floats) -> Floats:
    """A colour (N, 3) of exactly that luma (N,): from grey towards the hue (N, 3), as far as 0..1 and saturation allow."""
    away = hue - _luma(hue)[:, None]
    room = np.where(away > 0, 1 - luma[:, None], luma[:, None]) / np.maximum(np.abs(away), np.float32(1e-6))
    colour: Floats = luma[:, None] + away * (saturation * room.min(1))[:, None]
    return colour


class _Place(NamedTuple):
    """One digit of each of M images: its field, and where its middle lies along the line of text, in pixels."""

    rows: NDArray[np.int64]
    glyph: NDArray[np.int64]
    along: Floats


def _places(y: NDArray[np.int64], style: Style, glyphs: Glyphs) -> list[_Place]:
    """The middle digits, then the neighbours to the left and to the right where there are any."""
    every = np.arange(len(y))
    places = [_Place(every, style.font * 10 + y, np.zeros(len(y), dtype=np.float32))]
    for side, (there, digit) in zip((-1, 1), style.neighbours, strict=True):
        rows = np.flatnonzero(there)
        font, beside = style.font[rows], digit[rows]
        widths = (glyphs.widths[font, y[rows]] + glyphs.widths[font, beside]) / 2
        along = side * widths * (style.height * style.stretch * style.gap)[rows]
        places.append(_Place(rows, font * 10 + beside, along.astype(np.float32)))
    return places


def _paint(y: NDArray[np.int64], style: Style, texture: Floats, glyphs: Glyphs, size: int) -> NDArray[np.uint8]:
    middle, *beside = _places(y, style, glyphs)
    inside = _distance(middle, style, glyphs, size)
    for place in beside:
        inside[place.rows] = np.maximum(inside[place.rows], _distance(place, style, glyphs, size))
    colour = _ground(style, texture, size)
    outlined = np.flatnonzero(style.outline_width > 0)
    for rows, width, paint in ((outlined, style.outline_width, style.outline), (slice(None), None, style.ink)):
        wider = inside[rows] if width is None else inside[rows] + (width * style.height)[rows, None]
        share = np.clip(wider / style.edge[rows, None] + np.float32(0.5), 0, 1)
        share = (share * share * (3 - 2 * share))[..., None]
        colour[rows] += share * (paint[rows, None, :] - colour[rows])
    pixels: NDArray[np.uint8] = (np.clip(colour, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return pixels.reshape(len(y), size, size, 3)


def _distance(place: _Place, style: Style, glyphs: Glyphs, size: int) -> Floats:
    """How far inside the strokes of one digit each pixel lies, in pixels, (M, size * size), linear between places."""
    rows = place.rows
    height, sine, cosine = (each[rows, None] for each in (style.height, style.sine, style.cosine))
    pixels = np.arange(size, dtype=np.float32)
    # A pixel's place in the digit is linear in its line and column, so each needs one number a line and one a column.
    x, y = pixels - style.x[rows, None] + np.float32(0.5), pixels - style.y[rows, None] + np.float32(0.5)
    scale = np.float32(GRID / SPAN) / height
    slant, stretch = style.slant[rows, None], style.stretch[rows, None]
    down = _outer(-sine * x * scale, cosine * y * scale)
    across = _outer(
        ((cosine - slant * sine) * x - place.along[:, None]) * scale / stretch,
        (sine + slant * cosine) * y * scale / stretch,
    )
    field = np.ascontiguousarray(glyphs.fields).reshape(-1)
    line, column = (np.clip(each + np.float32(GRID / 2 - 0.5), 0, np.float32(GRID - 1.001)) for each in (down, across))
    top, left = line.astype(np.int32), column.astype(np.int32)
    line -= top
    column -= left
    at = (place.glyph[:, None] * GRID**2).astype(np.int32) + top * GRID + left
    upper, lower = field[at], field[at + GRID]
    upper += column * (field[at + 1] - upper)
    lower += column * (field[at + GRID + 1] - lower)
    upper += line * (lower - upper)
    distance: Floats = (upper + style.weight[rows, None]) * height
    return distance


def _outer(columns: Floats, lines: Floats) -> Floats:
    """Sums (M, lines * columns) of a number a column (M, W) and a number a line (M, H)."""
    sums: Floats = lines[:, :, None] + columns[:, None, :]
    return sums.reshape(len(lines), lines.shape[1] * columns.shape[1])


def _ground(style: Style, texture: Floats, size: int) -> Floats:
    """The backgrounds (N, size * size, 3): one colour, and around it what chance draws at a few places, linear between."""
    at = np.arange(size, dtype=np.float32) * np.float32((TEXTURE - 1) / (size - 1))
    low = np.minimum(at.astype(np.int64), TEXTURE - 2)
    share = at - low.astype(np.float32)
    lines = texture[:, low] + share[:, None, None] * (texture[:, low + 1] - texture[:, low])
    rough = lines[:, :, low] + share[:, None] * (lines[:, :, low + 1] - lines[:, :, low])
    rough = (rough.reshape(len(texture), -1, 3) - np.float32(0.5)) * style.roughness[:, None, None]
    ground: Floats = style.ground[:, None, :] + rough
    return ground
