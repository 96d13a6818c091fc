"""What the rows of a run's domains look like."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tlrun.files import RunError
from tlrun.report.collect import Run
from tlrun.report.preview_picture import picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PER_CLASS = 6


def samples(run: Run) -> Figure:
    """Some training rows of each class and domain as they came, or points of the plane.

    Raises ConfigError where the data are not to be had, RunError where they cannot be shown.
    """
    from tlrun.data.preview import preview
    from tlrun.trained import read_config

    _, previews = preview(read_config(run.folder), per_class=PER_CLASS)
    figure = picture([replace(each, after={}) for each in previews])
    if figure is None:
        raise RunError("nothing shows rows of more than two features as they are")
    return figure
