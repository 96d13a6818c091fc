"""Class by class: what a method changes against its floor, which classes it loses, and a picture of all of them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tlrun.files import RunError
from tlrun.report import style
from tlrun.report.collect import Run
from tlrun.report.groups import Group
from tlrun.report.tables import Table, table_of
from tlrun.report.verdicts import MARGIN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMED = 3
"""So many classes at most are named in a cell."""
TOLD = 0.0005
"""Changes up to this would read as 0.0 points."""
DRAWN = 40
"""Of more classes, those are drawn whose accuracy differs most between the groups."""


@dataclass(frozen=True)
class Change:
    """One class under a method and under its floor, over common seeds: test rows, accuracies (the class's recall) in
    [0, 1], and their paired differences, one a seed."""

    name: str
    rows: float
    before: float
    after: float
    differences: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.differences)


@dataclass(frozen=True)
class Changes:
    """A group against its floor: the classes that have target test rows, and the change of the accuracy over all rows."""

    group: Group
    seeds: tuple[int, ...]
    classes: tuple[Change, ...]
    accuracy: float

    @property
    def lost(self) -> tuple[Change, ...]:
        """Classes that fall in every seed, by more than MARGIN on average, while accuracy over all rows rises by more
        than that; the worst first."""
        if self.accuracy <= MARGIN:
            return ()
        fallen = [each for each in self.classes if each.mean < -MARGIN and max(each.differences) < 0]
        return tuple(sorted(fallen, key=lambda each: each.mean))


def class_accuracies(run: Run) -> dict[str, tuple[int, float]]:
    """Class -> rows and accuracy of the selected model on the target test split, of classes that have labelled rows.

    Empty where no row has a label. Raises RunError where the confusion matrix is missing or damaged.
    """
    if (known := run.counts("target", "test")) is None:
        return {}
    found = enumerate(zip(*known, strict=True))
    return {name: (sum(row), row[at] / sum(row)) for at, (name, row) in found if sum(row)}


def class_changes(group: Group) -> Changes | None:
    """None without a floor, a common seed, or labelled rows. Raises RunError as `class_accuracies`, and where the two
    were not tested on the same classes."""
    floor = group.references.get("floor")
    seeds = tuple(seed for seed in group.seeds if floor and seed in floor.by_seed)
    if floor is None or not seeds:
        return None
    ours, theirs = ([class_accuracies(each.by_seed[seed]) for seed in seeds] for each in (group, floor))
    names = list(ours[0])
    for each, seed in zip((*ours, *theirs), seeds * 2, strict=True):
        if each.keys() != ours[0].keys():
            raise RunError(f"{group.by_seed[seed].folder.path} and its floor were tested on different classes")
    if not names:
        return None
    classes = []
    for name in names:
        after, before = ([each[name][1] for each in found] for found in (ours, theirs))
        differences = tuple(one - other for one, other in zip(after, before, strict=True))
        rows = statistics.fmean(each[name][0] for each in ours)
        classes.append(Change(name, rows, statistics.fmean(before), statistics.fmean(after), differences))
    return Changes(group, seeds, tuple(classes), _overall(ours) - _overall(theirs))


def change_table(found: Sequence[Changes]) -> Table | None:
    """A line a method: the worst class before and after, and the classes that change most."""
    title = "Classes: target test accuracy in %, and its change in points against source_only over n common seeds"
    return table_of(title, [(each.group, _cells(each)) for each in found], words=5) if found else None


def lost_table(found: Sequence[Changes]) -> Table | None:
    """A line for each class that a method loses while its accuracy rises."""
    title = (
        "Classes lost although accuracy rises, in every one of n seeds (target test accuracy in %, change in points)"
    )
    lines = [
        (
            changes.group,
            {
                "class": each.name,
                "n": str(len(changes.seeds)),
                "rows": f"{each.rows:g}",
                "source_only": f"{100 * each.before:.1f}",
                "here": f"{100 * each.after:.1f}",
                "change": f"{100 * each.mean:+.1f}",
                "all classes": f"{100 * changes.accuracy:+.1f}",
            },
        )
        for changes in found
        for each in changes.lost
    ]
    return table_of(title, lines, words=1) if lines else None


def class_picture(groups: Sequence[Group], looks: Sequence[style.Line] | None = None) -> Figure:
    """Accuracy of every class under each group, mean over seeds: a line a class, the best under the first group on top.

    Of more than DRAWN classes those whose accuracy differs most between groups. Raises RunError where no row has a label.
    """
    drawn = [
        (group, look, means)
        for group, look in zip(groups, looks or style.lines([group.strategy for group in groups]), strict=True)
        if (means := _means(group))
    ]
    if not drawn:
        raise RunError("no target test row has a label")
    every = [means for _, _, means in drawn]
    names = list(dict.fromkeys(name for means in every for name in means))
    shown = sorted(names, key=lambda name: -_spread([means[name] for means in every if name in means]))[:DRAWN]
    shown.sort(key=lambda name: (-every[0].get(name, 0.0), names.index(name)))
    figure = style.figure(height=1.1 + 0.17 * max(4, len(shown)) + 0.16 * len(drawn) / 3)
    axes = figure.subplots()
    for at, name in enumerate(shown):
        values = [100 * means[name] for means in every if name in means]
        axes.plot([min(values), max(values)], [at, at], color="0.85", lw=1.5, zorder=1)
    handles = [_dots(axes, look, shown, means) for _, look, means in drawn]
    axes.set_yticks(range(len(shown)), [style.cut(name, 22) for name in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlim(-2, 102)
    axes.set_xlabel("target test accuracy of the class (%)")
    if len(shown) < len(names):
        axes.set_title(f"the {len(shown)} of {len(names)} classes whose accuracy differs most")
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x", color="0.92", lw=0.6)
    style.legend_below(figure, handles, [f"{group.label} (n = {len(group.runs)})" for group, _, _ in drawn])
    return figure


def _dots(axes: Axes, look: style.Line, shown: Sequence[str], means: Mapping[str, float]) -> Any:
    """A group's accuracies; floor and ceiling, which have no marker, are short lines."""
    places = [at for at, name in enumerate(shown) if name in means]
    filled = look.marker not in ("", "x")
    edge: dict[str, Any] = {"linewidths": 0.3, "edgecolors": "white"} if filled else {}
    values = [100 * means[shown[at]] for at in places]
    size = 16 if look.marker else 45
    return axes.scatter(
        values, places, s=size, c=look.colour, marker=look.marker or "|", zorder=2, clip_on=False, **edge
    )


def _cells(found: Changes) -> dict[str, str]:
    worst_before = min(found.classes, key=lambda each: each.before)
    worst_after = min(found.classes, key=lambda each: each.after)
    by_change = sorted(found.classes, key=lambda each: each.mean)
    fallen = [each for each in by_change if each.mean < -TOLD]
    risen = [each for each in reversed(by_change) if each.mean > TOLD]
    return {
        "worst in source_only": f"{worst_before.name} {100 * worst_before.before:.1f}",
        "worst here": f"{worst_after.name} {100 * worst_after.after:.1f}",
        "rise most": _named(risen),
        "fall most": _named(fallen),
        "fall": f"{len(fallen)} of {len(found.classes)}",
        "n": str(len(found.seeds)),
        "all classes": f"{100 * found.accuracy:+.1f}",
    }


def _named(classes: Sequence[Change]) -> str:
    return ", ".join(f"{each.name} {100 * each.mean:+.1f}" for each in classes[:NAMED])


def _overall(found: Sequence[dict[str, tuple[int, float]]]) -> float:
    """Accuracy over all rows, mean over runs."""
    return statistics.fmean(
        sum(rows * accuracy for rows, accuracy in run.values()) / sum(rows for rows, _ in run.values()) for run in found
    )


def _means(group: Group) -> dict[str, float]:
    """Class -> accuracy, mean over the seeds that have rows of it."""
    found: dict[str, list[float]] = {}
    for run in group.runs:
        for name, (_, accuracy) in class_accuracies(run).items():
            found.setdefault(name, []).append(accuracy)
    return {name: statistics.fmean(values) for name, values in found.items()}


def _spread(values: Sequence[float]) -> float:
    return max(values) - min(values)
