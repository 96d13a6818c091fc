"""Source models among the runs: what others start from is no method of its own where it had a budget of its own."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import PurePath

from tlrun.files import RunError
from tlrun.report.collect import Collection, LeftOut, Run
from tlrun.report.groups import shared_settings

ORIGIN = "the source model "
"""How `environment.json` begins to name the run that another's weights came from."""


def without_source_models(found: Collection) -> Collection:
    """Leaves out the runs that others here start from, but for those that stand beside them at the same settings.

    These are floors as well. Any other would be a second row of `source_only` with another budget, which nothing is held
    against, and would put a column into every table for each of its settings.
    """
    starts = Counter(filter(None, map(started_from, found.runs)))
    beside = {shared_settings(run.settings) for run in found.runs if run.folder.path.name not in starts}
    only = {
        name: run
        for run in found.runs
        if (name := run.folder.path.name) in starts and shared_settings(run.settings) not in beside
    }
    told = [
        LeftOut(
            run.folder.path,
            f"the source model of {starts[name]} run{'s' if starts[name] > 1 else ''} here, with settings of its own",
        )
        for name, run in only.items()
    ]
    runs = tuple(run for run in found.runs if run.folder.path.name not in only)
    return replace(found, runs=runs, left_out=(*found.left_out, *told))


def started_from(run: Run) -> str | None:
    """The name of the folder of the run that this one's weights came from; None where that is no run, or not known."""
    try:
        origin = run.folder.read_environment().get("weights_origin")
    except RunError:
        return None
    text = str(origin)
    return PurePath(text.removeprefix(ORIGIN)).name if text.startswith(ORIGIN) else None
