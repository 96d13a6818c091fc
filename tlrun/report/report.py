"""A whole report: run folders in, tables and pictures out. Read this first."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from tlrun import files
from tlrun.config import ConfigError
from tlrun.report import formats
from tlrun.report.collect import collect
from tlrun.report.diagnosis import diagnose
from tlrun.report.groups import Group, group
from tlrun.report.planar import is_planar, svc_lines
from tlrun.report.selection_rules import judge, rule_table
from tlrun.report.tables import Line, line_of, tables


def report(
    paths: Sequence[Path], wanted: Mapping[str, str], *, plots: Path | None, rules_by_strategy: bool = False
) -> None:
    """Reports on all finished runs under `paths`.

    wanted: format (csv, markdown, latex, json) -> file, `-` for standard output, where the tables for people are shown
    otherwise. plots: the folder for the pictures, None for no pictures. rules_by_strategy: the selection rules also for
    each strategy apart. What is left out or goes wrong with a picture
    is told on standard error. Raises ConfigError where there is no run, RunError where a file cannot be written.
    """
    collection = collect(paths)
    for each in collection.left_out:
        print(f"left out {each.path}: {each.reason}", file=sys.stderr)
    groups = group(collection.runs)
    lines = _lines(groups)
    judged = judge(collection.runs)
    rules = rule_table(judged, by_strategy=rules_by_strategy)
    diagnosis = diagnose(groups)
    shown = [*tables(lines), *([rules] if rules else []), *diagnosis.tables()]
    texts = {
        "csv": lambda: formats.csv_text(lines),
        "json": lambda: formats.json_text(lines, collection, judged, diagnosis),
        "markdown": lambda: formats.markdown(shown),
        "latex": lambda: formats.latex(shown),
    }
    for name, place in wanted.items():
        if place == "-":
            print(texts[name](), end="", flush=True)
        else:
            files.write_bytes(Path(place), texts[name]().encode())
    if "-" not in wanted.values():
        print(formats.terminal(shown), end="", flush=True)
    if plots is not None:
        from tlrun.report.plots import draw

        draw(groups, plots)


def _lines(groups: Sequence[Group]) -> list[Line]:
    """A line a group, and after each pair in the plane those of the SVC."""
    lines: list[Line] = []
    for _, found in groupby(groups, key=lambda each: each.pair):
        of_pair = list(found)
        lines += [line_of(each) for each in of_pair]
        if is_planar(of_pair[0].runs[0]):
            try:
                lines += svc_lines(of_pair)
            except (ConfigError, files.RunError) as error:
                print(f"no SVC beside {of_pair[0].pair}: {error}", file=sys.stderr)
    return lines
