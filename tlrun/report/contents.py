"""All that a report says, found once: the terminal, every file format and the page show this and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from tlrun import files
from tlrun.config import ConfigError
from tlrun.report.collect import Collection, collect
from tlrun.report.diagnosis import Diagnosis, diagnose
from tlrun.report.groups import Group, group
from tlrun.report.label_curve import Curve, label_curves
from tlrun.report.planar import is_planar, svc_lines
from tlrun.report.selection_rules import Judged, judge, rule_table
from tlrun.report.source_models import without_source_models
from tlrun.report.tables import Line, Table, label_tables, lines_of, tables


@dataclass(frozen=True)
class Contents:
    """What was found, its groups, and what is said of them.

    groups: sorted, those of one pair together. lines: one a group in the same order, and the references that are no
    runs. judged: the selection rules. curves: over granted labels. diagnosis: beyond accuracy. tables: what people read, in
    the order in which it is shown.
    """

    collection: Collection
    groups: tuple[Group, ...]
    lines: tuple[Line, ...]
    judged: tuple[Judged, ...]
    curves: tuple[Curve, ...]
    diagnosis: Diagnosis
    tables: tuple[Table, ...]

    @property
    def by_pair(self) -> dict[str, list[tuple[Group, Line]]]:
        """Each pair's groups, each with what is said of it."""
        found: dict[str, list[tuple[Group, Line]]] = {}
        for each, line in zip(self.groups, (line for line in self.lines if line.is_run), strict=True):
            found.setdefault(each.pair, []).append((each, line))
        return found


def contents(paths: Sequence[Path], *, rules_by_strategy: bool = False) -> Contents:
    """Everything on the finished runs under `paths`. rules_by_strategy: the selection rules also for each strategy apart.

    Raises ConfigError where there is no run. What is left out is told on standard error.
    """
    collection = without_source_models(collect(paths))
    for each in collection.left_out:
        print(f"left out {each.path}: {each.reason}", file=sys.stderr)
    groups = group(collection.runs)
    lines = _lines(groups)
    curves = label_curves(groups)
    judged = judge(collection.runs)
    rules = rule_table(judged, by_strategy=rules_by_strategy)
    diagnosis = diagnose(groups)
    diagnosed = [replace(each, section="diagnosis") for each in diagnosis.tables()]
    shown = [*tables(lines), *label_tables(curves), *([rules] if rules else []), *diagnosed]
    return Contents(collection, tuple(groups), tuple(lines), tuple(judged), tuple(curves), diagnosis, tuple(shown))


def _lines(groups: Sequence[Group]) -> list[Line]:
    """A line a group, and after each pair in the plane those of the SVC."""
    lines: list[Line] = []
    for _, found in groupby(groups, key=lambda each: each.pair):
        of_pair = list(found)
        lines += lines_of(of_pair)
        if is_planar(of_pair[0].runs[0]):
            try:
                lines += svc_lines(of_pair)
            except (ConfigError, files.RunError) as error:
                print(f"no SVC beside {of_pair[0].pair}: {error}", file=sys.stderr)
    return lines
