"""What a report tells of finished runs beyond their accuracy: class by class, how sure they are, how labels shifted."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from tlrun.files import RunError
from tlrun.report.classes import Changes, change_table, class_changes, lost_table
from tlrun.report.groups import Group
from tlrun.report.label_shares import Estimate, estimate, share_table
from tlrun.report.reliability import Reliability, calibration_table, of_group
from tlrun.report.tables import Table

T = TypeVar("T")


@dataclass(frozen=True)
class Diagnosis:
    """Of the groups of a report, as far as their files allow: methods against their floor, all with labelled target test
    rows, and those whose classifier was judged on the source."""

    changes: tuple[Changes, ...]
    reliabilities: tuple[Reliability, ...]
    estimates: tuple[Estimate, ...]

    def tables(self) -> list[Table]:
        """What people read."""
        by_classes: dict[tuple[str, tuple[str, ...]], list[Estimate]] = {}
        for each in self.estimates:
            by_classes.setdefault((each.group.pair, each.classes), []).append(each)
        some = [change_table(self.changes), lost_table(self.changes), calibration_table(self.reliabilities)]
        shares = [share_table(found) for found in by_classes.values()]
        return [*(table for table in some if table is not None), *shares]

    def plain(self) -> dict[str, Any]:
        """Every figure as it is, shares in [0, 1], for JSON."""
        return {
            "classes": [
                _of(found.group)
                | {"seeds": list(found.seeds), "accuracy_change": found.accuracy}
                | {"classes": [asdict(each) for each in found.classes], "lost": [each.name for each in found.lost]}
                for found in self.changes
            ],
            "calibration": [
                _of(found.group)
                | {"runs": [{"bins": each.plain(), "error": each.calibration_error} for each in found.runs]}
                for found in self.reliabilities
            ],
            "label_shift": [_of(found.group) | found.plain() for found in self.estimates],
        }


def diagnose(groups: Sequence[Group]) -> Diagnosis:
    """Reads what the tables need. A group whose files are damaged is named on standard error and left out."""
    # A model trained on target labels alone says little of the source, on which the estimate of shares rests.
    of_source = [group for group in groups if group.role not in ("ceiling", "scratch")]
    return Diagnosis(
        _each(class_changes, [group for group in groups if group.role is None], "classes"),
        _each(of_group, groups, "calibration"),
        _each(estimate, of_source, "label shift"),
    )


def _each(tell: Callable[[Group], T | None], groups: Sequence[Group], what: str) -> tuple[T, ...]:
    found = []
    for group in groups:
        try:
            told = tell(group)
        except RunError as error:
            print(f"no {what} of {group.pair}, {group.label}: {error}", file=sys.stderr)
            continue
        if told is not None:
            found.append(told)
    return tuple(found)


def _of(group: Group) -> dict[str, Any]:
    return {"pair": group.pair, "strategy": group.strategy, "settings": dict(group.differs)}
