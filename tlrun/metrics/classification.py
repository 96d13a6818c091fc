"""How well one split is classified: all that a run reports of it, from one pass over its rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tlrun.metrics.precision import sum_dtype


@dataclass(frozen=True)
class ClassMetrics:
    """One class of a split; shares in [0, 1], None where there is nothing to divide by.

    accuracy: share of the class's rows that were predicted as it, its recall; None where it has no rows. precision:
    share of the predictions of the class that were right; None where there are none. f1: None where both hold.
    """

    rows: int
    accuracy: float | None
    precision: float | None
    f1: float | None


@dataclass(frozen=True)
class SplitMetrics:
    """What one evaluation says of one split; without rows every figure is None.

    macro_f1: mean over the classes that occur among labels or predictions, as scikit-learn's `f1_score` takes it.
    loss: mean cross entropy in nats. calibration_error: expected calibration error in [0, 1]. confusion: rows per
    [true class][predicted class].
    """

    rows: int
    accuracy: float | None
    macro_f1: float | None
    loss: float | None
    calibration_error: float | None
    confusion: list[list[int]]
    classes: tuple[ClassMetrics, ...]


class ClassificationMetrics:
    """Sums over a split, batch by batch, on the device: nothing waits for it until `result`.

    bins: of the calibration error, equally wide over (0, 1]. Raises ValueError when num_classes or bins is below 1.
    """

    def __init__(self, num_classes: int, device: torch.device, bins: int = 15) -> None:
        if num_classes < 1 or bins < 1:
            raise ValueError(f"num_classes and bins must be at least 1, got {num_classes} and {bins}")
        self.num_classes = num_classes
        self._dtype = sum_dtype(device)
        self._confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)
        self._loss = torch.zeros((), dtype=self._dtype, device=device)
        self._bins = torch.zeros(bins, 2, dtype=self._dtype, device=device)  # summed confidence, summed correctness
        self._edges = torch.arange(1, bins, dtype=self._dtype, device=device) / bins  # between the bins

    @torch.no_grad()
    def update(self, logits: Tensor, y: Tensor) -> None:
        """Counts a batch: logits (N, C), y (N,) int64 classes; rows whose label is below 0 are left out.

        Raises ValueError when the shapes do not fit. Of equal logits the first class is the prediction.
        """
        if logits.ndim != 2 or logits.shape[1] != self.num_classes or y.shape != logits.shape[:1]:
            raise ValueError(
                f"expected logits (N, {self.num_classes}) and y (N,), got {tuple(logits.shape)} and {tuple(y.shape)}"
            )
        known = y >= 0
        label = y.clamp(min=0)
        logits = logits.to(self._dtype)
        confidence, prediction = logits.softmax(1).max(1)
        # Rows are weighted, not picked out: picking would make the host wait for the device.
        self._confusion.view(-1).index_add_(0, label * self.num_classes + prediction, known.long())
        losses = F.cross_entropy(logits, label, reduction="none")
        self._loss += torch.where(known, losses, 0.0).sum()
        # Bins are open below and closed above, so a confidence of exactly 1 lies in the last.
        members = F.one_hot(torch.bucketize(confidence, self._edges), len(self._bins)) * known[:, None]
        correct = (prediction == label).to(self._dtype)
        self._bins += members.to(self._dtype).T @ torch.stack((confidence, correct), dim=1)

    def result(self) -> SplitMetrics:
        """The figures of all rows so far; the one point that waits for the device.

        Accuracy, precision and F1 follow from the confusion matrix. The calibration error is Guo et al. 2017
        (arXiv:1706.04599, eq. 3): the mean over rows of the distance between accuracy and mean confidence in the
        row's bin.
        """
        confusion = self._confusion.cpu()
        rows = int(confusion.sum())
        hits, counts, guesses = (each.tolist() for each in (confusion.diagonal(), confusion.sum(1), confusion.sum(0)))
        classes = tuple(
            ClassMetrics(count, _share(hit, count), _share(hit, guess), _share(2 * hit, count + guess))
            for hit, count, guess in zip(hits, counts, guesses, strict=True)
        )
        occurring = [each.f1 for each in classes if each.f1 is not None]
        confidence, correct = self._bins.cpu().double().unbind(1)
        return SplitMetrics(
            rows=rows,
            accuracy=_share(sum(hits), rows),
            macro_f1=_share(sum(occurring), len(occurring)),
            loss=_share(float(self._loss), rows),
            calibration_error=_share(float((correct - confidence).abs().sum()), rows),
            confusion=confusion.tolist(),
            classes=classes,
        )


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
