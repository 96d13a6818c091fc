"""Strategies as bars with intervals, between the lines of their floor and their ceiling."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tlrun.report import style
from tlrun.report.groups import Group
from tlrun.report.intervals import t_interval
from tlrun.report.verdicts import FIGURE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def bars(groups: Sequence[Group], looks: Sequence[style.Line] | None = None) -> Figure:
    """Target test accuracy of each group with its t interval, where n is 2 or more; one pair.

    Floor and ceiling are lines across those bars that are held against them. looks: one for each group, where several
    pictures share them.
    """
    looks = looks or style.lines([group.strategy for group in groups])
    drawn = [(group, look) for group, look in zip(groups, looks, strict=True) if group.figures(FIGURE)]
    shown = [group for group, _ in drawn]
    figure = style.figure(height=0.9 + 0.3 * len(shown))
    axes = figure.subplots()
    for at, (group, look) in enumerate(drawn):
        interval = t_interval(group.figures(FIGURE))
        mean = 100 * interval.mean
        axes.barh(at, mean, height=0.62, color=_fill(look), hatch=look.hatch, edgecolor="white", lw=0)
        end = mean
        if interval.low is not None and interval.high is not None:
            low, high = max(0.0, 100 * interval.low), min(100.0, 100 * interval.high)
            axes.errorbar(mean, at, xerr=[[mean - low], [high - mean]], color="black", capsize=2.5, lw=0.9)
            end = high
        axes.text(end + 1.2, at, f"{mean:.1f}", va="center", fontsize=7, bbox={"fc": "white", "ec": "none", "pad": 0.8})
    handles = _references(axes, shown)
    axes.set_yticks(range(len(shown)), [style.wrapped(f"{group.label} (n = {len(group.runs)})", 40) for group in shown])
    axes.invert_yaxis()
    axes.set_xlim(0, 110)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("target test accuracy (%)")
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x", color="0.92", lw=0.6)
    if handles:
        style.legend_below(figure, list(handles.values()), list(handles))
    return figure


def _references(axes: Axes, groups: Sequence[Group]) -> dict[str, Any]:
    """Draws the lines; returns a handle of each kind for the legend."""
    kinds = {"floor (source_only)": ("floor", (0, (4, 2))), "ceiling (target_only)": ("ceiling", (0, (1, 1.2)))}
    handles = {}
    for label, (role, dash) in kinds.items():
        for at, group in enumerate(groups):
            reference = group if group.role == role else group.references.get(role)  # type: ignore[call-overload]
            if reference is None or not reference.figures(FIGURE):
                continue
            value = 100 * statistics.fmean(reference.figures(FIGURE))
            # Each bar has its own line, so that those of different settings have different ones; equal ones join.
            (handles[label],) = axes.plot([value, value], [at - 0.5, at + 0.5], color="black", ls=dash, lw=1.1)
    return handles


def _fill(look: style.Line) -> str:
    return "#BBBBBB" if look.marker in ("", "x") else look.colour
