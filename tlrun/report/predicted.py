"""What a run's selected model said of each target test row, as arrays: read once for all tables and pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tlrun import files
from tlrun.run import RunFolder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COLUMNS = ("row", "label", "prediction", "confidence")


@dataclass(frozen=True)
class Predicted:
    """N target test rows of one run, in the order of its predictions.csv.

    row (N,): the domain's number of it; label, prediction (N,): numbers of `classes`, -1 where the label is unknown;
    confidence (N,): the prediction's probability.
    """

    classes: tuple[str, ...]
    row: NDArray[np.int64]
    label: NDArray[np.int64]
    prediction: NDArray[np.int64]
    confidence: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.row)


def read_predicted(folder: RunFolder) -> Predicted:
    """The run's target test rows. Raises RunError where its predictions.csv is missing or damaged."""
    import numpy as np

    found = files.read_columns(folder.predictions, ("split", *COLUMNS))
    if missing := [name for name in COLUMNS if name not in found]:
        raise files.damaged(folder.predictions, f"it lacks {', '.join(missing)}")
    classes = tuple(sorted({*found["label"], *found["prediction"]} - {""}))
    numbers = {name: number for number, name in enumerate(classes)} | {"": -1}
    # The first folders that tlrun wrote have the test rows alone, and no column of splits.
    kept = np.asarray([split == "test" for split in found.get("split", ["test"] * len(found["row"]))], dtype=bool)
    try:
        columns: dict[str, Any] = {
            "row": np.asarray(found["row"], dtype=np.int64),
            "label": np.asarray([numbers[name] for name in found["label"]], dtype=np.int64),
            "prediction": np.asarray([numbers[name] for name in found["prediction"]], dtype=np.int64),
            "confidence": np.asarray(found["confidence"], dtype=np.float64),
        }
    except ValueError as error:  # a row without a number
        raise files.damaged(folder.predictions, str(error)) from error
    if not np.isfinite(columns["confidence"]).all() or (columns["prediction"] < 0).any():
        raise files.damaged(folder.predictions, "a row has no prediction, or no confidence")
    return Predicted(classes, **{name: column[kept] for name, column in columns.items()})
