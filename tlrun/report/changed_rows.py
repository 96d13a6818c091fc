"""The target test rows that adaptation changes most, as images: gained and lost, with both predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tlrun.config import ConfigError, ExperimentConfig
from tlrun.files import RunError
from tlrun.report import style
from tlrun.report.collect import Run

if TYPE_CHECKING:
    import numpy as np
    import pandas
    from matplotlib.figure import Figure, SubFigure
    from numpy.typing import NDArray

COLUMNS = 6
SHOWN = 2 * COLUMNS
"""So many rows gained, and so many lost."""
THUMBNAIL = 224
"""The longer side, in pixels, in which image files are shown."""


@dataclass(frozen=True)
class ChangedRow:
    """A target test row that floor and method predict differently: its number, path of its file (None without one),
    label (None where unknown), each one's prediction with its probability, and the change that ranks it."""

    row: int
    path: str | None
    label: str | None
    before: tuple[str, float]
    after: tuple[str, float]
    change: float


def is_of_images(run: Run) -> bool:
    """Whether the run's rows are images, as its data card says."""
    return len(run.card.get("input_shape", ())) == 3


def changed_rows(floor: Run, method: Run) -> tuple[list[ChangedRow], list[ChangedRow]]:
    """Up to SHOWN rows each that the method gains and loses, of those that both predict, and differently.

    Gained are rows that it alone has right, lost those that the floor alone has right, the largest change of the true
    class's probability first; where no row has a label, rows of which it is surer and less sure, by the change of the
    prediction's confidence. So that no class fills the picture, the first of every class come first, then the second.
    Raises RunError where predictions cannot be read.
    """
    ours, theirs = (run.test_rows().set_index("row") for run in (method, floor))
    both = theirs.add_suffix("_before").join(ours.add_suffix("_after"), how="inner")
    labelled = both[both["label_before"] != ""]
    rows = labelled if len(labelled) else both
    rows = rows[rows["prediction_before"] != rows["prediction_after"]]
    if len(labelled):
        rows = rows.assign(change=_of_truth(rows, "after") - _of_truth(rows, "before"))
        gained, lost = (rows[rows["label_before"] == rows[f"prediction_{when}"]] for when in ("after", "before"))
        return _chosen(gained, "label_before", -1), _chosen(lost, "label_before", 1)
    rows = rows.assign(change=rows["confidence_after"] - rows["confidence_before"])
    surer, less = rows[rows["change"] > 0], rows[rows["change"] < 0]
    return _chosen(surer, "prediction_after", -1), _chosen(less, "prediction_before", 1)


def _chosen(rows: pandas.DataFrame, by: str, sign: int) -> list[ChangedRow]:
    """The rows that come first by sign * change, class by class in turn."""
    ordered = rows.assign(key=sign * rows["change"]).sort_values("key", kind="stable")
    ordered = ordered.assign(turn=ordered.groupby(by).cumcount()).sort_values(["turn", "key"], kind="stable")
    return [_row(line) for _, line in ordered.head(SHOWN).iterrows()]


def changed_picture(runs: Sequence[Run]) -> Figure:
    """The rows that a method changes most against its floor's run of the same seed; runs: floor, method.

    Raises RunError where nothing changed, and ConfigError or RunError where the images are not to be had.
    """
    floor, method = runs
    gained, lost = changed_rows(floor, method)
    if not gained + lost:
        raise RunError(f"{floor.strategy} and {method.strategy} predict the same of every target test row")
    if any(row.label for row in gained + lost):
        named, judged = ("gained", "lost"), "the true class's probability"
    else:
        named, judged = ("surer", "less sure"), "confidence"
    blocks = {name: rows for name, rows in zip(named, (gained, lost), strict=True) if rows}
    images = _images(method, [each for rows in blocks.values() for each in rows])
    lines = {name: -(-len(rows) // COLUMNS) for name, rows in blocks.items()}
    side = style.WIDTH / COLUMNS
    figure = style.figure(height=0.25 + sum(0.25 + (side + 0.35) * count for count in lines.values()))
    figure.suptitle(
        f"Under each image: its label, then what {floor.strategy} and {method.strategy} predict, seed {method.seed}",
        fontsize=8,
    )
    places: Any = figure.subfigures(len(blocks), 1, squeeze=False, height_ratios=list(lines.values()))
    for place, (name, rows) in zip(places.flat, blocks.items(), strict=True):
        place.suptitle(
            f"{name} under {method.strategy}: the largest changes of {judged}, class by class in turn", fontsize=8
        )
        _block(place, rows, images, lines[name])
    return figure


def _block(place: SubFigure, rows: Sequence[ChangedRow], images: dict[int, Any], lines: int) -> None:
    axes: Any = place.subplots(lines, COLUMNS, squeeze=False)
    for at, each in enumerate(axes.flat):
        each.set(xticks=[], yticks=[])
        each.spines[:].set_visible(False)
        if at >= len(rows):
            each.set_visible(False)
            continue
        row = rows[at]
        each.imshow(images[row.row], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        told = [f"{style.cut(name)} ({100 * share:.0f} %)" for name, share in (row.before, row.after)]
        label = style.cut(row.label, 20) if row.label else "no label"
        each.set_xlabel("\n".join([label, *told]), fontsize=6, labelpad=2)


def _images(run: Run, rows: Sequence[ChangedRow]) -> dict[int, NDArray[np.uint8]]:
    """Row number -> image (H, W) or (H, W, 3) of values 0 to 255: of its file, whole, or as the run's data have it."""
    if all(row.path is not None for row in rows):
        return {row.row: _thumbnail(str(row.path)) for row in rows}
    import torch

    from tlrun.trained import load_run_pair

    part = load_run_pair(run.folder, _config(run)).parts["target_test"]
    assert part.rows is not None
    places = {number: at for at, number in enumerate(part.rows.tolist())}
    x = part.x.take(torch.tensor([places[row.row] for row in rows])).numpy()
    return {row.row: image[..., 0] if image.shape[-1] == 1 else image for row, image in zip(rows, x, strict=True)}


def _config(run: Run) -> ExperimentConfig:
    """Raises RunError, in one line, where another version of tlrun wrote what this one cannot read."""
    from tlrun.trained import read_config

    try:
        return read_config(run.folder)
    except ConfigError as error:
        more = f" (and {len(error.problems) - 1} more)" if len(error.problems) > 1 else ""
        raise RunError(
            f"{run.folder.config} does not fit this installation of tlrun: {error.problems[0]}{more}"
        ) from error


def _thumbnail(path: str) -> NDArray[np.uint8]:
    from tlrun.data.files.images import BadImage, read_thumbnail

    try:
        return read_thumbnail(path, side=THUMBNAIL)
    except BadImage as error:
        raise RunError(f"cannot show {error}") from error


def _of_truth(both: pandas.DataFrame, when: str) -> NDArray[np.float64]:
    """The probability of each row's own class (N,), before or after."""
    import numpy as np

    names = list(dict.fromkeys(both["label_before"]))
    shares = both[[f"probability_{name}_{when}" for name in names]].to_numpy(dtype=np.float64)
    found: NDArray[np.float64] = shares[np.arange(len(both)), [names.index(name) for name in both["label_before"]]]
    return found


def _row(line: Any) -> ChangedRow:
    before, after = ((line[f"prediction_{when}"], float(line[f"confidence_{when}"])) for when in ("before", "after"))
    path, label = line.get("path_after") or None, line["label_before"] or None
    return ChangedRow(int(line.name), path, label, before, after, float(line["change"]))
