"""How every picture looks: colours and markers that the colour-blind and a grey printer tell apart, and how it is saved."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlrun import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

# Okabe and Ito 2008, https://jfly.uni-koeln.de/color/; their yellow is faint on white, so the last class is darker.
BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
SKY, PURPLE, BLACK = "#56B4E9", "#CC79A7", "#000000"
METHODS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY)
CLASSES = (*METHODS, BLACK, "#999999", "#7A4B00", "#B5A800")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
DOMAINS = {"source": (BLUE, "o"), "target": (VERMILLION, "^")}

WIDTH = 6.5
"""Inches: the text width of a letter page with one-inch margins."""
DOTS_PER_INCH = 200

_SETTINGS: Any = {
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "tlrun",
}


@dataclass(frozen=True)
class Line:
    """How one group is drawn wherever it appears."""

    colour: str
    marker: str
    dash: str | tuple[int, tuple[float, ...]]
    hatch: str


_REFERENCES = {
    "source_only": Line("#666666", "", (0, (4, 2)), ""),
    "target_only": Line(BLACK, "", (0, (1, 1.2)), ""),
    "scratch": Line("#999999", "x", (0, (5, 1, 1, 1)), ""),
}
_DASHES: tuple[str | tuple[int, tuple[float, ...]], ...] = ("-", (0, (6, 1.5)), (0, (3, 1.2, 1, 1.2)))
_HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++")


def lines(strategies: Sequence[str]) -> list[Line]:
    """A look for each of some groups, given their strategies: references grey or black, methods in colours."""
    looks, methods = [], 0
    seen: set[str] = set()
    for name in strategies:
        if name in _REFERENCES and name not in seen:
            looks.append(_REFERENCES[name])
        else:
            colour = METHODS[methods % len(METHODS)]
            dash = _DASHES[methods // len(METHODS) % len(_DASHES)]
            looks.append(Line(colour, MARKERS[methods % len(MARKERS)], dash, _HATCHES[methods % len(_HATCHES)]))
            methods += 1
        seen.add(name)
    return looks


@contextmanager
def styled() -> Iterator[None]:
    """Within it, figures are made in this style; nothing of matplotlib's state stays changed."""
    import matplotlib

    with matplotlib.rc_context(_SETTINGS):
        yield


def figure(width: float = WIDTH, height: float = 2.6) -> Figure:
    """An empty figure of a size in inches; its layout leaves no two texts upon each other. Only within `styled`."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: Path, *, kinds: Sequence[str] = ("png", "svg")) -> list[Path]:
    """Writes the figure as `path` with each of the suffixes, whole or not at all. Raises RunError.

    No date is written, so that the same runs give the same bytes.
    """
    written = []
    for kind in kinds:
        buffer = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(buffer, format=kind, dpi=DOTS_PER_INCH, metadata=metadata)
        figure.set_layout_engine("none")  # the places hold for the next kind; finding them takes half the time
        written.append(path.with_name(f"{path.name}.{kind}"))
        files.write_bytes(written[-1], buffer.getvalue())
    return written


def legend_below(
    figure: Figure | SubFigure, handles: Sequence[Any], labels: Sequence[str], *, width: float = WIDTH
) -> None:
    """One legend under all panels, in as many columns as the width in inches has room for.

    A figure grows by the lines that long labels take beyond their first, so that the panels keep their room.
    """
    from matplotlib.figure import Figure

    longest = max((len(label) for label in labels), default=1)
    columns = max(1, min(len(labels), int(width / (0.5 + 0.06 * longest))))
    told = [wrapped(label, int((width - 0.5) / 0.06)) for label in labels]
    if isinstance(figure, Figure):
        figure.set_figheight(figure.get_figheight() + 0.16 * sum(label.count("\n") for label in told))
    figure.legend(list(handles), told, loc="outside lower center", ncols=columns, markerscale=1.6)


def wrapped(label: str, width: int) -> str:
    """The label on as many lines as it needs."""
    return textwrap.fill(label, width, break_long_words=False, break_on_hyphens=False)


def cut(name: str, width: int = 14) -> str:
    """Of a long name, its beginning and its end: either may be what tells it from others."""
    return name if len(name) <= width else f"{name[: width // 2]}…{name[len(name) - (width - 1) // 2 :]}"
