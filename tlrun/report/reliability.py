"""Whether confidence can be believed: accuracy against confidence on the target test rows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tlrun.files import RunError
from tlrun.report import style
from tlrun.report.collect import Run
from tlrun.report.groups import Group
from tlrun.report.tables import Figure as Numbers
from tlrun.report.tables import Table, percent, table_of

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

BINS = 15
"""As in the calibration error of summary.json."""


@dataclass(frozen=True)
class Bins:
    """Rows by confidence in equally wide bins over (0, 1]: rows, summed confidence and summed correctness, each (B,)."""

    rows: NDArray[np.float64]
    confidence: NDArray[np.float64]
    correct: NDArray[np.float64]

    def plain(self) -> list[dict[str, float]]:
        """Each bin with rows."""
        bins = zip(*(each.tolist() for each in (self.rows, self.confidence, self.correct)), strict=True)
        return [{"rows": n, "confidence": sure / n, "accuracy": right / n} for n, sure, right in bins if n]

    @property
    def calibration_error(self) -> float:
        """Guo et al. 2017 (arXiv:1706.04599), eq. 3: mean over rows of |accuracy - mean confidence| in the row's bin."""
        return float(abs(self.correct - self.confidence).sum() / self.rows.sum())


@dataclass(frozen=True)
class Reliability:
    """A group, and the rows of each of its runs."""

    group: Group
    runs: tuple[Bins, ...]


def binned(confidence: NDArray[np.float64], correct: NDArray[np.bool_], *, bins: int = BINS) -> Bins:
    """confidence and correct (N,); a bin is open below and closed above, so that a confidence of 1 lies in the last."""
    import numpy as np

    place = np.searchsorted(np.arange(1, bins) / bins, confidence, side="left")
    columns = (np.ones(len(place)), confidence, correct)
    return Bins(*(np.bincount(place, weights=each, minlength=bins).astype(np.float64) for each in columns))


def of_run(run: Run) -> Bins | None:
    """The labelled target test rows of a run; None where there are none. Raises RunError where they cannot be read."""
    found = run.predicted
    known = found.label >= 0
    return binned(found.confidence[known], (found.label == found.prediction)[known]) if known.any() else None


def of_group(group: Group) -> Reliability | None:
    """Of those runs of a group that have labelled rows; None where none has. Raises as `of_run`."""
    found = tuple(bins for run in group.runs if (bins := of_run(run)))
    return Reliability(group, found) if found else None


def calibration_table(found: Sequence[Reliability]) -> Table | None:
    """A line a group: mean confidence beside accuracy, and the expected calibration error."""
    title = (
        f"Calibration on the target test rows, in %: expected calibration error (ECE) over {BINS} bins of confidence"
    )
    return table_of(title, [(each.group, _cells(each.runs)) for each in found]) if found else None


def _cells(found: Sequence[Bins]) -> dict[str, str]:
    accuracies = [float(each.correct.sum() / each.rows.sum()) for each in found]
    confidences = [float(each.confidence.sum() / each.rows.sum()) for each in found]
    surplus = [confidence - accuracy for confidence, accuracy in zip(confidences, accuracies, strict=True)]
    return {
        "n": str(len(found)),
        "accuracy": percent(Numbers.of(accuracies)),
        "confidence": percent(Numbers.of(confidences)),
        "too sure by": f"{100 * statistics.fmean(surplus):+.1f}",
        "ECE": _error(found),
    }


def _error(found: Sequence[Bins]) -> str:
    return percent(Numbers.of([each.calibration_error for each in found]))


def reliabilities(groups: Sequence[Group]) -> Figure:
    """A panel a group: accuracy by confidence, above how many rows have it, summed over seeds; one pair.

    The diagonal is where confidence is right. Raises RunError where no row has a label.
    """
    panels = [found for group in groups if (found := of_group(group))]
    if not panels:
        raise RunError("no target test row has a label")
    columns = min(len(panels), 2 if len(panels) == 4 else 3)
    lines = math.ceil(len(panels) / columns)
    names = [style.wrapped(f"{each.group.label} (n = {len(each.runs)})", 28 if columns == 3 else 44) for each in panels]
    tallest = max(name.count("\n") + 1 for name in names)
    side = style.WIDTH / max(2, columns)
    figure = style.figure(width=side * columns, height=lines * (1.05 * side + 0.3 + 0.14 * tallest) + 0.1)
    axes: Any = figure.subplots(2 * lines, columns, squeeze=False, sharex=True, height_ratios=(3, 1) * lines)
    sums = [_sum(each.runs) for each in panels]
    most = max(float(bins.rows.max()) for bins in sums)
    for at in range(lines * columns):
        upper, lower = axes[at // columns * 2 : at // columns * 2 + 2, at % columns]
        if at >= len(panels):
            upper.set_visible(False)
            lower.set_visible(False)
            continue
        _panel(upper, lower, sums[at])
        upper.set_title(f"{names[at]}\nECE {_error(panels[at].runs)} %")
        lower.set(ylim=(0.5, 3 * most), yscale="log")
        lower.minorticks_off()
        lower.yaxis.set_major_formatter("{x:g}")
        lower.tick_params(labelbottom=True)
        if at + columns >= len(panels):
            lower.set_xlabel("confidence (%)")
        for each, label in ((upper, "accuracy (%)"), (lower, "rows")):
            each.tick_params(labelleft=at % columns == 0)
            each.set_ylabel(label if at % columns == 0 else "")
    return figure


def _panel(upper: Axes, lower: Axes, bins: Bins) -> None:
    import numpy as np

    edges, held = np.linspace(0, 100, len(bins.rows) + 1), bins.rows > 0
    share = 100 * np.divide(bins.correct, bins.rows, out=np.zeros(len(bins.rows)), where=held)
    accuracy, confidence = share[held], 100 * bins.confidence[held] / bins.rows[held]
    upper.stairs(share, edges, fill=True, color=style.BLUE, alpha=0.35)
    upper.plot([0, 100], [0, 100], color="0.4", ls=":", lw=1)
    upper.plot(confidence, accuracy, color=style.BLUE, marker="o", ms=3, clip_on=False)
    upper.set(xlim=(0, 100), ylim=(0, 103), xticks=range(0, 101, 20), yticks=range(0, 101, 20))
    lower.stairs(bins.rows, edges, fill=True, color="0.6")
    for each in (upper, lower):
        each.grid(visible=True, color="0.92", lw=0.6)


def _sum(found: Sequence[Bins]) -> Bins:
    import numpy as np

    return Bins(
        *(np.sum([getattr(each, name) for each in found], axis=0) for name in ("rows", "confidence", "correct"))
    )
