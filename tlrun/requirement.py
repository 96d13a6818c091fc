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
from tlrun.run import SUMMARY_FIELDS

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
