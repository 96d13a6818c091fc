"""A whole report: run folders in, tables and pictures out. Read this first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tlrun.report import formats
from tlrun.report.contents import contents
from tlrun.report.named_file import named_file
from tlrun.report.pictures import Picture


def report(
    paths: Sequence[Path], wanted: Mapping[str, str], *, plots: Path | None, rules_by_strategy: bool = False
) -> list[Picture]:
    """Reports on all finished runs under `paths`; returns the pictures.

    wanted: format (csv, markdown, latex, json, html) -> file, `-` for standard output, where the tables for people are shown
    otherwise. plots: the folder for the pictures, None for no pictures. rules_by_strategy: the selection rules also for
    each strategy apart. What is left out or goes wrong with a picture is told on standard error. Raises ConfigError
    where there is no run, RunError where a file cannot be written.
    """
    found = contents(paths, rules_by_strategy=rules_by_strategy)
    texts: dict[str, Callable[[], str]] = {
        "csv": lambda: formats.csv_text(found.lines),
        "json": lambda: formats.json_text(found.lines, found.collection, found.judged, found.curves, found.diagnosis),
        "markdown": lambda: formats.markdown(found.tables),
        "latex": lambda: formats.latex(found.tables),
    }
    for name, text in texts.items():
        if name in wanted:
            _give(text(), wanted[name])
    if "-" not in wanted.values():
        with suppress(BrokenPipeError):  # files that were asked for are written also where nobody reads on
            print(formats.terminal(found.tables), end="", flush=True)
    pictures: list[Picture] = []
    if plots is not None:
        from tlrun.report.plots import draw

        pictures = draw(found.groups, plots, with_samples="html" in wanted)
    if "html" in wanted:
        from tlrun.report.page import page

        _give(page(found, pictures), wanted["html"])
    return pictures


def _give(text: str, place: str) -> None:
    """Into a file, or to standard output where the place is `-`."""
    if place == "-":
        print(text, end="", flush=True)
    else:
        with named_file(Path(place)) as put:
            put(text.encode())
