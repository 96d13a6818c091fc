"""A picture of a pair before a run: images by class as they came and as training sees them, or points in the plane."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tlrun.config import ConfigError
from tlrun.config.error_text import unknown
from tlrun.data.preview import Preview
from tlrun.report.named_file import named_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CLASSES = 20
"""Of more classes only the first so many are drawn, or the images would be too small to see."""
SPREAD = 2.5
"""Normalised values from -SPREAD (black) to SPREAD (white)."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
"""Okabe and Ito's palette, which the colour-blind can tell apart."""
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")


def draw(previews: list[Preview], path: Path) -> bool:
    """Writes the picture; False where the rows are features of more than two dimensions, which nothing shows as they are.

    Raises ConfigError where the path's suffix names no kind of picture, RunError where it cannot be written.
    """
    figure = picture(previews)
    if figure is None:
        return False
    kind = path.suffix.removeprefix(".").lower() or "png"
    if kind not in (known := figure.canvas.get_supported_filetypes()):
        raise ConfigError(f"data: --picture {path}: no picture is written as .{kind}{unknown(kind, known)}")
    drawn = io.BytesIO()
    figure.savefig(drawn, format=kind, dpi=150, bbox_inches="tight")
    with named_file(path) as put:
        put(drawn.getvalue())
    return True


def picture(previews: list[Preview]) -> Figure | None:
    """The picture, or None where nothing shows the rows as they are."""
    from matplotlib.figure import Figure

    images = previews[0].before[0].ndim == 3
    if not images and len(previews[0].before[0]) != 2:
        return None
    if images:
        classes = min(MOST_CLASSES, max(len(each.classes) for each in previews))
        columns = max(np.bincount(each.y).max() for each in previews)
        panels = sum(1 + len(each.after) for each in previews)
        label = 0.08 * max(len(name) for each in previews for name in each.classes[:MOST_CLASSES])
        figure = Figure(figsize=((3.1 + label) * panels, 0.8 + 3.0 * classes / columns), layout="constrained")
        axes = iter(figure.subplots(1, panels))
        for each in previews:
            _show(next(axes), each, [_as_came(image) for image in each.before], "as it came")
            for what, seen in each.after.items():
                _show(next(axes), each, [_as_seen(image) for image in seen], what)
    else:
        figure = Figure(figsize=(4.5 * len(previews), 4.4), layout="constrained")
        planes = figure.subplots(1, len(previews), sharex=True, sharey=True, squeeze=False)[0]
        for plane, each in zip(planes, previews, strict=True):
            _scatter(plane, each)
    return figure


def _show(axes: Axes, preview: Preview, images: list[NDArray[Any]], what: str) -> None:
    """One montage: a line a class."""
    numbers = range(min(len(preview.classes), MOST_CLASSES))
    columns = max(int((preview.y == number).sum()) for number in numbers)
    side = max(max(image.shape[:2]) for image in images)
    sheet = np.ones((len(numbers) * side, columns * side, 3))
    for number in numbers:
        for column, place in enumerate(np.flatnonzero(preview.y == number)):
            image = images[place]
            top, left = number * side + (side - image.shape[0]) // 2, column * side + (side - image.shape[1]) // 2
            sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    axes.imshow(sheet, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([(number + 0.5) * side for number in numbers], [preview.classes[number] for number in numbers])
    axes.tick_params(length=0, labelsize=8)
    axes.set_title(f"{preview.role}: {preview.name}\n{what}", fontsize=9)


def _as_came(image: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(image, 3, axis=2) / 255 if image.shape[2] == 1 else image / 255


def _as_seen(image: NDArray[Any]) -> NDArray[Any]:
    shown = np.clip(image / (2 * SPREAD) + 0.5, 0, 1).transpose(1, 2, 0)
    return np.repeat(shown, 3, axis=2) if shown.shape[2] == 1 else shown


def _scatter(axes: Axes, preview: Preview) -> None:
    before = np.stack(preview.before)
    for number, name in enumerate(preview.classes):
        points = before[preview.y == number]
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        axes.scatter(points[:, 0], points[:, 1], s=14, alpha=0.6, linewidths=0, label=name, c=colour, marker=marker)
    granted = before[preview.granted]
    if len(granted):
        axes.scatter(granted[:, 0], granted[:, 1], s=70, facecolors="none", edgecolors="black", label="label granted")
    axes.set_title(f"{preview.role}: {preview.name}", fontsize=10)
    axes.set_aspect("equal", adjustable="box")
    axes.legend(fontsize=8, loc="best")
