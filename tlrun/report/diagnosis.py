"""What a report tells of finished runs beyond their accuracy: class by class, how sure they are, how labels shifted."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from tlrun.files import RunError
from tlrun.report.classes import change_table, class_changes, lost_table
from tlrun.report.groups import Group
from tlrun.report.label_shares import Estimate, estimate, share_table
from tlrun.report.reliability import calibration_table, of_group
from tlrun.report.tables import Table

T = TypeVar("T")


def diagnosis_tables(groups: Sequence[Group]) -> list[Table]:
    """The tables that the groups' files allow. A group whose files are damaged is named on standard error and left out."""
    changes = _each(class_changes, [group for group in groups if group.role is None], "classes")
    calibrated = _each(of_group, groups, "calibration")
    tables = [change_table(changes), lost_table(changes), calibration_table(calibrated)]
    # A model trained on target labels alone says little of the source, on which the estimate rests.
    of_source = [group for group in groups if group.role not in ("ceiling", "scratch")]
    by_classes: dict[tuple[str, tuple[str, ...]], list[Estimate]] = {}
    for each in _each(estimate, of_source, "label shift"):
        by_classes.setdefault((each.group.pair, each.classes), []).append(each)
    tables += [share_table(each) for each in by_classes.values()]
    return [table for table in tables if table is not None]


def _each(tell: Callable[[Group], T | None], groups: Sequence[Group], what: str) -> list[T]:
    found = []
    for group in groups:
        try:
            told = tell(group)
        except RunError as error:
            print(f"no {what} of {group.pair}, {group.label}: {error}", file=sys.stderr)
            continue
        if told is not None:
            found.append(told)
    return found
