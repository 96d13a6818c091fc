"""Accuracy over granted target labels, and what these are worth: how many labels scratch would need to be as good."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Any

from tlrun.report.groups import Group, most_alike, same_setting, setting_without
from tlrun.report.verdicts import FIGURE

GRANT = ("data.target_labels",)
FOLLOWS_GRANT = (*GRANT, "data.target_val_labels", "engine.select", "strategy.finetune_share")
"""Settings whose named value follows from the labels granted, where nobody names it."""


@dataclass(frozen=True)
class Needed:
    """How many labels an accuracy takes: within [least, most], one number where it lies between measured ones.

    most is None above all that was measured, least is None below.
    """

    least: float | None
    most: float | None


@dataclass(frozen=True)
class Point:
    """A group, how many target labels it was granted, its mean target test accuracy, and how many labels scratch would
    need for the same; None where no scratch can be asked."""

    group: Group
    labels: int
    accuracy: float
    needed: Needed | None = None


@dataclass(frozen=True)
class Curve:
    """Groups that differ in their grant alone, and in what follows from it, by rising number of labels.

    differs: the settings that tell it from other curves.
    """

    points: tuple[Point, ...]
    differs: Mapping[str, Any]

    @property
    def pair(self) -> str:
        return self.points[0].group.pair

    @property
    def strategy(self) -> str:
        return self.points[0].group.strategy


def label_curves(groups: Sequence[Group]) -> list[Curve]:
    """The curves of every pair of which some strategy was granted two numbers of labels or more; the order of the groups.

    Floor and ceiling are curves of one point, at none and at all labels. Groups without a target test accuracy, or of
    unknown grant, are in no curve.
    """
    found = []
    for _, of_pair in groupby(groups, key=lambda group: group.pair):
        curves = _curves(of_pair)
        if any(len(curve.points) > 1 for curve in curves):
            found += [_held_against_scratch(curve, curves) for curve in curves]
    return found


def labels_needed(measured: Sequence[tuple[int, float]], accuracy: float) -> Needed:
    """How many labels give an accuracy, by measured (labels, accuracy), labels rising and above 0: the fewest that do.

    Between two numbers of labels accuracy is taken to grow in proportion to their logarithms; beyond them nothing is
    assumed.
    """
    if accuracy < measured[0][1]:
        return Needed(None, measured[0][0])
    if accuracy == measured[0][1]:
        return Needed(measured[0][0], measured[0][0])
    for (fewer, low), (more, high) in pairwise(measured):
        if low < accuracy <= high:
            place = (accuracy - low) / (high - low)
            labels = fewer * (more / fewer) ** place
            return Needed(labels, labels)
    return Needed(measured[-1][0], None)


def _curves(groups: Iterable[Group]) -> list[Curve]:
    loose: dict[str, list[Point]] = {}
    for group in groups:
        labels, accuracies = group.figures("rows_target_labels"), group.figures(FIGURE)
        if labels and accuracies:
            point = Point(group, round(statistics.fmean(labels)), statistics.fmean(accuracies))
            loose.setdefault(setting_without(group, FOLLOWS_GRANT), []).append(point)
    curves: list[Curve] = []
    for points in loose.values():
        if len({point.labels for point in points}) == len(points):
            curves.append(_curve(points, FOLLOWS_GRANT))
            continue
        # Somebody named what else would follow from the grant: then it tells curves apart.
        strict: dict[str, list[Point]] = {}
        for point in points:
            strict.setdefault(setting_without(point.group, GRANT), []).append(point)
        curves += [_curve(each, GRANT) for each in strict.values()]
    return curves


def _curve(points: Sequence[Point], apart: Sequence[str]) -> Curve:
    differs = {key: value for key, value in points[0].group.differs.items() if key not in apart}
    return Curve(tuple(sorted(points, key=lambda point: point.labels)), differs)


def _held_against_scratch(curve: Curve, curves: Sequence[Curve]) -> Curve:
    """The curve with what each of its points stands for in labels from scratch; scratch and ceiling as they are."""
    first = curve.points[0].group
    scratch = {each.points[0].group: each for each in curves if each.points[0].group.role == "scratch"}
    fitting = most_alike(first, [each for each in scratch if same_setting(first, each)])
    if not fitting or first.role in ("scratch", "ceiling"):
        return curve
    measured = [(point.labels, point.accuracy) for point in scratch[fitting[0]].points]
    points = [replace(point, needed=labels_needed(measured, point.accuracy)) for point in curve.points]
    return Curve(tuple(points), curve.differs)
