"""Confusion matrices side by side, legible from two classes to a hundred."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlrun.files import RunError
from tlrun.report import style
from tlrun.report.collect import Run
from tlrun.report.groups import Group
from tlrun.run import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUMBERED = 12
"""Up to so many classes, every cell says its number."""
TICKS = 12
"""At most so many classes are named on an axis; of more, every second, fifth, ... one."""
WIDE = 30
"""From so many classes on, a picture has two columns of panels instead of three."""


def confusions(groups: Sequence[Group]) -> Figure:
    """Target test rows of each group, summed over its seeds; one pair.

    Raises RunError where none has a label, and where a file of counts is missing or damaged.
    """
    panels = []
    for group in groups:
        if (summed := _summed(group.runs, "target")) is not None:
            panels.append((f"{group.label} (n = {len(group.runs)})", *summed))
    if not panels:
        raise RunError("no target test row has a label")
    return matrices(panels)


def write_run(folder: RunFolder) -> list[Path]:
    """Draws `plots/confusion.png` of a finished run: source and target test rows, as far as they have labels."""
    run = Run(folder, folder.read_config(), folder.read_summary(), folder.read_data_card())
    with style.styled():
        found = {domain: _summed([run], domain) for domain in style.DOMAINS}
        panels = [(f"{domain} test", *summed) for domain, summed in found.items() if summed is not None]
        if not panels:
            return []
        return style.save(matrices(panels), folder.plots / "confusion", kinds=("png",))


def matrices(panels: Sequence[tuple[str, Sequence[str], Any]]) -> Figure:
    """Panels of a title, class names (C,) and counts (C, C), true classes down; each row is shown as shares of it."""
    import numpy as np

    largest = max(len(classes) for _, classes, _ in panels)
    columns = min(2 if len(panels) == 4 or largest >= WIDE else 3, len(panels))
    rows = math.ceil(len(panels) / columns)
    side = style.WIDTH / max(2, columns)
    longest = max(len(style.cut(name)) for _, classes, _ in panels for name in classes)
    lines = max(style.wrapped(title, 34).count("\n") + 1 for title, _, _ in panels)
    height = rows * (side + 0.1 + 0.14 * lines) + 0.4 + 0.055 * longest
    figure = style.figure(width=side * columns + 0.7 + 0.055 * longest, height=height)
    axes = figure.subplots(rows, columns, squeeze=False)
    for at, each in enumerate(axes.flat):
        if at >= len(panels):
            each.set_visible(False)
            continue
        title, classes, counts = panels[at]
        totals = counts.sum(axis=1, keepdims=True)
        shares = 100 * np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
        image = each.imshow(shares, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
        each.set_title(style.wrapped(title, 34))
        _name(each, classes, names_rows=at % columns == 0, names_columns=at + columns >= len(panels))
        if len(classes) <= NUMBERED:
            _number(each, shares, size=min(8.0, 22 * side / len(classes)))
    bar = figure.colorbar(image, ax=axes, shrink=0.7, aspect=25, pad=0.02)
    bar.set_label("share of the true class (%)")
    bar.outline.set_linewidth(0.4)
    return figure


def _summed(runs: Sequence[Run], domain: str) -> tuple[tuple[str, ...], Any] | None:
    """Class names and the sum of the runs' counts (C, C) of test rows; None where those of a run have no label.

    Raises RunError where they do not have the same classes, or a file is missing or damaged.
    """
    import numpy as np

    read = [found for run in runs if (found := run.counts(domain, "test")) is not None]
    if len(read) < len(runs):
        return None
    classes = read[0][0]
    for run, (names, counts) in zip(runs, read, strict=True):
        if names != classes or np.shape(counts) != (len(names), len(names)):
            raise RunError(f"{run.folder.confusion(domain, 'test')}: other classes than {runs[0].folder.path.name}")
    return classes, np.sum([counts for _, counts in read], axis=0)


def _name(axes: Any, classes: Sequence[str], *, names_rows: bool, names_columns: bool) -> None:
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 1000) if len(classes) <= step * TICKS)
    places, names = list(range(0, len(classes), step)), [style.cut(name) for name in classes[::step]]
    upright = len(classes) > 6 and max(map(len, names)) > 2 or max(map(len, names)) > 30 / len(classes)  # noqa: RUF021
    axes.set_xticks(places, names if names_columns else [], rotation=90 if upright else 0, fontsize=6.5)
    axes.set_yticks(places, names if names_rows else [], fontsize=6.5)
    axes.tick_params(length=0 if step == 1 else 2)
    axes.spines[:].set_visible(True)
    axes.spines[:].set_linewidth(0.4)
    if names_columns:
        axes.set_xlabel("predicted")
    if names_rows:
        axes.set_ylabel("true")


def _number(axes: Any, shares: Any, *, size: float) -> None:
    for (row, column), share in zip(_places(len(shares)), shares.flat, strict=True):
        if share >= 0.5:  # a nought in every empty cell would hide the others
            colour = "white" if share > 55 else "black"
            axes.text(column, row, f"{share:.0f}", ha="center", va="center", color=colour, fontsize=size)


def _places(count: int) -> list[tuple[int, int]]:
    return [(row, column) for row in range(count) for column in range(count)]
