"""`tlrun diff RUN RUN`: how two finished runs on the same pair differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlrun.verbs import Parser, output_file, tell

if TYPE_CHECKING:
    from tlrun.evidence.difference import Agreement, Both, Course, Difference
    from tlrun.report.tables import Table

FORMAT = 1
"""The format that the JSON states."""

EPILOG = """\
Of settings, data and environment only what differs is shown; of the results everything, the second run less the first.
Rows of the target test split are held against each other one by one (McNemar's exact test). The tables of epochs are
compared to the bit, timings aside, so that two runs of one command on two machines show where they part.
"""


def main(arguments: list[str]) -> int:
    """Prints the tables, and writes them as JSON where told to. Raises ConfigError for a wrong command or run."""
    parser = Parser("diff", "RUN RUN [options]", EPILOG)
    parser.add_argument("first", type=Path, metavar="RUN", help="the folder of a finished run")
    parser.add_argument("second", type=Path, metavar="RUN", help="that of another")
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="everything as JSON; - prints it in place of the tables"
    )
    asked = parser.parse_args(arguments)
    from tlrun.evidence.difference import difference

    found = difference(asked.first, asked.second)
    tell(_lines(found), {"format": FORMAT, **asdict(found)}, asked.json)
    return 0


def _lines(found: Difference) -> Iterator[str]:
    """The two runs with their commands, what differs in sentences, and the tables."""
    from tlrun.report import formats

    for name, folder, command in zip(("first", "second"), found.folders, found.commands, strict=True):
        yield f"{name + ':':<8}{folder}\n        {command}"
    yield from ("", *_sentences(found), "")
    yield formats.terminal(list(_tables(found))).rstrip("\n")


def _tables(found: Difference) -> Iterator[Table]:
    from tlrun.report.tables import Table

    heads = ("first", "second")
    for title, both in (("Settings", found.config), ("Data", found.data), ("Environment", found.environment)):
        if both:
            rows = tuple((key, *map(_value, values)) for key, values in both.items())
            yield Table(f"{title} that differ" if title == "Settings" else f"{title}: what differs",
                        ("key", *heads), rows, words=3)  # fmt: skip
    yield Table("Results", ("", *heads, "change"), tuple(_figures(found.results)), words=1)
    yield Table("Cost", ("", *heads, "change"), tuple(_figures(found.cost)), words=1)
    if found.classes:
        rows = tuple(
            (each.name, *map(str, each.rows), *map(_per_cent, each.accuracy), _change("accuracy", each.accuracy))
            for each in found.classes
        )
        columns = ("class", "rows (first)", "rows (second)", *heads, "change")
        yield Table("Accuracy on the target test rows by class, in %", columns, rows, words=1)


def _sentences(found: Difference) -> Iterator[str]:
    parts = (("settings", found.config), ("data", found.data), ("environment", found.environment))
    same = [name for name, both in parts if not both]
    if same:
        yield f"the same: {', '.join(same)}"
    yield _agreed(found.agreement)
    yield from _parted(found.course)


def _agreed(found: Agreement | None) -> str:
    if found is None:
        return "predictions: the runs were tested on different rows, so these cannot be held against each other"
    text = f"predictions: the same for {found.same:,} of {found.rows:,} target test rows"
    if not found.labelled:
        return text
    return (
        f"{text}\nright: of {found.labelled:,} with a label both have {found.both_right:,}, the first alone "
        f"{found.first_alone:,}, the second alone {found.second_alone:,} (McNemar's exact test: p = {found.p:.3g})"
    )


def _parted(found: Course) -> Iterator[str]:
    first, second = found.epochs
    if found.epoch is not None:
        more = f" and {len(found.columns) - 4} more" if len(found.columns) > 4 else ""
        until = f"bit-equal until epoch {found.equal}" if found.equal else "different from the first epoch on"
        at = f"epoch {found.epoch}" + (f" (step {found.step:,})" if found.step is not None else "")
        yield f"metrics.csv: {until}; at {at} they differ in {', '.join(found.columns[:4])}{more}"
    elif first == second:
        yield f"metrics.csv: bit-equal over all {first} epochs, timings aside"
    else:
        yield f"metrics.csv: bit-equal until epoch {found.equal}, where one ends ({first} and {second} epochs)"
    for name, columns in zip(("first", "second"), found.alone, strict=True):
        if columns:
            yield f"metrics.csv: only the {name} has {', '.join(columns)}"


def _figures(both: Mapping[str, Both]) -> Iterator[tuple[str, ...]]:
    for name, values in both.items():
        yield (name, *(_figure(name, value) for value in values), _change(name, values))


def _is_share(name: str) -> bool:
    return name.endswith(("accuracy", "f1", "share", "agreement")) or name in ("regret", "forgetting")


def _figure(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if _is_share(name):
        return f"{_per_cent(value)} %"
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _change(name: str, values: Both) -> str:
    """The second less the first, in points where they are shares; blank where one is no number."""
    if not all(isinstance(value, int | float) for value in values):
        return ""
    change = values[1] - values[0]
    if change == 0:
        return "="
    if _is_share(name):
        return f"{100 * change:+.2f}"
    return f"{change:+,.4g}" if isinstance(change, float) else f"{change:+,}"


def _per_cent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _value(value: Any) -> str:
    """A setting as YAML would have it, on one line."""
    return "-" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
