"""All pictures of a report: which there are, how they are named, and that one which fails stops no other."""

from __future__ import annotations

import re
import statistics
import sys
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from tlrun.config import ConfigError
from tlrun.files import RunError, reason_of
from tlrun.report import style
from tlrun.report.bars import bars
from tlrun.report.changed_rows import changed_picture, is_of_images
from tlrun.report.classes import class_picture
from tlrun.report.collect import Run
from tlrun.report.confusion import confusions
from tlrun.report.curves import curves
from tlrun.report.features import tsne_figure
from tlrun.report.groups import Group
from tlrun.report.pictures import KINDS, Picture
from tlrun.report.planar import boundaries, is_planar
from tlrun.report.reliability import reliabilities
from tlrun.report.samples import samples
from tlrun.report.verdicts import FIGURE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES, BARS, MATRICES, PANELS = 8, 24, 9, 10
"""The most groups in one picture; more are spread over several."""


def draw(groups: Sequence[Group], folder: Path, *, with_samples: bool = False) -> list[Picture]:
    """Draws every picture that the groups allow into the folder, as PNG and SVG, and names each on standard error.

    A picture that cannot be drawn for a reason outside our code is told there too, and the others go on. Of each pair no
    other picture stays there from an earlier call. with_samples: rows of each pair's domains too, for which its data are
    read. Raises RunError where the folder cannot be written.
    """
    drawn: list[Picture] = []
    with style.styled():
        for pair, found in groupby(groups, key=lambda group: group.pair):
            of_pair = list(found)
            # A group looks the same in every picture of the pair.
            looks = dict(zip(map(id, of_pair), style.lines([group.strategy for group in of_pair]), strict=True))
            kinds: list[tuple[str, Callable[[Sequence[Group]], Figure], int]] = [
                ("curves", lambda page, looks=looks: curves(page, [looks[id(each)] for each in page]), CURVES),  # type: ignore[misc]
                ("bars", lambda page, looks=looks: bars(page, [looks[id(each)] for each in page]), BARS),  # type: ignore[misc]
                ("confusion", confusions, MATRICES),
                ("classes", lambda page, looks=looks: class_picture(page, [looks[id(each)] for each in page]), CURVES),  # type: ignore[misc]
                ("reliability", reliabilities, MATRICES),
            ]
            for name, kind, most in kinds:
                judged = [group for group in of_pair if group.figures(FIGURE)] if name == "bars" else of_pair
                if judged:
                    drawn += _pages(name, kind, judged, most, folder, pair)
            if is_planar(of_pair[0].runs[0]):
                drawn += _pages("boundary", boundaries, of_pair, PANELS, folder, pair)
            if runs := with_floor(of_pair):
                drawn += _draw(lambda runs=runs: tsne_figure(runs), folder, pair, "tsne")  # type: ignore[misc]
                if len(runs) == 2 and is_of_images(runs[1]):
                    drawn += _draw(lambda runs=runs: changed_picture(runs), folder, pair, "changed")  # type: ignore[misc]
            if with_samples:
                drawn += _draw(lambda run=of_pair[0].runs[0]: samples(run), folder, pair, "samples")  # type: ignore[misc]
            _remove_others(folder, pair, drawn)
    return drawn


def _remove_others(folder: Path, pair: str, drawn: Sequence[Picture]) -> None:
    """Removes pictures of the pair that are not among those drawn: what they show may be of other runs."""
    name = re.compile(rf"{re.escape(file_name(pair, ''))}({'|'.join(KINDS)})(-\d+)?\.(png|svg)")
    kept = {path for each in drawn for path in each.files}
    for path in folder.glob("*"):
        if name.fullmatch(path.name) and path not in kept:
            try:
                path.unlink()
            except OSError as error:
                raise RunError(f"cannot remove {path}: {reason_of(error)}") from error


def spread(groups: Sequence[Group], most: int) -> list[list[Group]]:
    """The groups on pages of at most `most`, each of which repeats the references where there are few of them."""
    references = [group for group in groups if group.role]
    if len(groups) <= most or len(references) > most // 2:
        return [list(groups[start : start + most]) for start in range(0, len(groups), most)]
    methods = [group for group in groups if not group.role]
    pages = []
    for start in range(0, len(methods), most - len(references)):
        chosen = {id(each) for each in (*references, *methods[start : start + most - len(references)])}
        pages.append([group for group in groups if id(group) in chosen])
    return pages


def with_floor(groups: Sequence[Group]) -> list[Run]:
    """For t-SNE: a run of the method with the highest mean target accuracy, after its floor's run of the same seed.

    Methods with a floor come first; of methods without a target accuracy the first is taken; empty where there is none.
    """
    methods = [group for group in groups if group.role is None]
    methods = [group for group in methods if group.figures(FIGURE)] or methods[:1]
    with_one = [group for group in methods if _common_seed(group) is not None]
    if not methods:
        return []
    best = max(with_one or methods, key=lambda group: statistics.fmean(group.figures(FIGURE) or [0.0]))
    seed = _common_seed(best)
    return [best.runs[0]] if seed is None else [best.references["floor"].by_seed[seed], best.by_seed[seed]]


def _common_seed(group: Group) -> int | None:
    floor = group.references.get("floor")
    return next((seed for seed in group.seeds if floor and seed in floor.by_seed), None)


def _pages(
    name: str, kind: Callable[[Sequence[Group]], Figure], groups: Sequence[Group], most: int, folder: Path, pair: str
) -> list[Picture]:
    pages = spread(groups, most)
    drawn = []
    for number, page in enumerate(pages, start=1):
        drawn += _draw(lambda page=page: kind(page), folder, pair, name, number if len(pages) > 1 else None)  # type: ignore[misc]
    return drawn


def file_name(pair: str, picture: str, number: int | None = None) -> str:
    """`<pair>-<picture>[-<number>]`, whatever letters the pair's name has."""
    parts = [re.sub(r"[^\w.-]+", "_", pair), picture, *([] if number is None else [str(number)])]
    return "-".join(parts)


def _draw(
    picture: Callable[[], Figure], folder: Path, pair: str, kind: str, number: int | None = None
) -> list[Picture]:
    path = folder / file_name(pair, kind, number)
    try:
        figure = picture()
    except (RunError, ConfigError) as error:
        problems = error.problems if isinstance(error, ConfigError) else [str(error)]
        reason = problems[0] + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else "")
        print(f"no picture {path.name}: {reason}", file=sys.stderr)
        return [Picture(pair, kind, path, reason)]
    print(f"wrote {' and '.join(map(str, style.save(figure, path)))}", file=sys.stderr)
    return [Picture(pair, kind, path)]
