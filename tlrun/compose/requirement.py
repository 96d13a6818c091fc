"""What `run.require` asks of a finished run: read from text, checked against its summary."""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tlrun.config import ConfigError
from tlrun.run_files import SUMMARY_FIELDS

_OPERATORS = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt, "==": operator.eq}


@dataclass(frozen=True)
class Requirement:
    """What `run.require` asks of the summary."""

    name: str
    operator: str
    value: float

    def check(self, summary: Mapping[str, Any]) -> str | None:
        """None when it is met, otherwise what was found instead."""
        found = summary.get(self.name)
        if found is not None and _OPERATORS[self.operator](found, self.value):
            return None
        return f"{self.name} is {'unknown' if found is None else found}, required was {self.operator} {self.value:g}"


_OF_TARGET_TEST = ("oracle_target_test_accuracy", "oracle_epoch", "last_target_test_accuracy", "regret")
_OF_SOURCE_TEST = ("source_test_accuracy_before", "forgetting")


def rows_behind(name: str) -> str | None:
    """The part whose labelled rows a field of the summary is a figure of; None where it is of none."""
    parts = {"target_test": _OF_TARGET_TEST, "source_test": _OF_SOURCE_TEST, "source_val": (), "target_val": ()}
    figures = ("accuracy", "macro_f1", "loss", "calibration_error")
    for part, others in parts.items():
        if name in others or name in [f"{part}_{figure}" for figure in figures]:
            return part
    return None


def check_answerable(text: str | None, labelled: Mapping[str, int]) -> None:
    """Raises ConfigError where a requirement is about figures that a run cannot have.

    labelled: how many rows of each evaluation part have a label.
    """
    if text is None:
        return
    name = parse_requirement(text).name
    part = rows_behind(name)
    if part is not None and not labelled[part]:
        told = part.replace("_", " ")
        raise ConfigError(
            f"run.require: {name} is a figure over labelled {told} rows, and no {told} row has a label; require another"
        )


def parse_requirement(text: str) -> Requirement:
    """`target_test_accuracy>=0.7` and the like, on a numeric field of the summary. Raises ConfigError."""
    parts = re.fullmatch(r"\s*(\w+)\s*(>=|>|<=|<|==)\s*(\S+)\s*", text)
    try:
        value = float(parts[3]) if parts else math.nan
    except ValueError:
        value = math.nan
    if parts is None or not math.isfinite(value):
        known = " ".join(_OPERATORS)
        raise ConfigError(
            f'run.require: "{text}" cannot be read; write a field of summary.json, one of {known} and a number, '
            'such as "target_test_accuracy>=0.7"'
        )
    numeric = [name for name, (kind, _) in SUMMARY_FIELDS.items() if kind in (int, float) and name != "format"]
    if parts[1] not in numeric:
        near = difflib.get_close_matches(parts[1], numeric, n=1)
        hint = f"did you mean {near[0]}?" if near else f"allowed are {', '.join(numeric)}"
        raise ConfigError(f'run.require: summary.json has no numeric field "{parts[1]}"; {hint}')
    return Requirement(parts[1], parts[2], value)
