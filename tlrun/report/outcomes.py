"""Which labelled test rows a run got right, and whether the rows of two runs are the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tlrun.files import RunError, damaged

if TYPE_CHECKING:
    import numpy


@dataclass(frozen=True, eq=False)
class Outcomes:
    """rows: number, path and label of each of R labelled test rows. right (R,): 1 where the run predicts its label."""

    rows: Sequence[tuple[Any, ...]]
    right: numpy.ndarray

    @classmethod
    def of(cls, columns: Mapping[str, Sequence[Any]], path: Path, accuracy: float | None) -> Self:
        """From the columns of predictions.csv at path. accuracy: what the run's summary says of the same rows.

        Raises RunError where a column is missing, no test row has a label, or the accuracy is another.
        """
        import numpy as np

        if missing := [name for name in ("row", "label", "prediction") if name not in columns]:
            raise damaged(path, f"no column {', '.join(missing)}")
        labels, blank = columns["label"], [""] * len(columns["label"])
        # Without the column `split`, which the first runs did not write, every row is of the test split.
        splits = columns.get("split", ["test"] * len(labels))
        kept = [at for at, label in enumerate(labels) if label and splits[at] == "test"]
        if not kept:
            raise RunError(f"{path} has no labelled test row")
        paths = columns.get("path", blank)
        right = np.array([labels[at] == columns["prediction"][at] for at in kept], dtype=np.int64)
        if accuracy is None or abs(right.mean() - accuracy) > 1e-6:
            raise RunError(f"{path} has an accuracy of {right.mean():.4f}, its summary says {accuracy}")
        return cls([(columns["row"][at], paths[at], labels[at]) for at in kept], right)
