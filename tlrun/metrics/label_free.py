"""What predictions tell without a label: which checkpoint to trust, and whether a model has collapsed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tlrun.metrics.precision import sum_dtype


def entropy(logits: Tensor) -> Tensor:
    """Mean entropy of the predictions in nats, in [0, ln C]; logits (N, C), N > 0, to a scalar.

    Low where the model is sure of each row; Grandvalet & Bengio 2004 (NIPS 17), as a validator Morerio et al. 2018
    (arXiv:1711.10288). A model that predicts one class throughout scores best, which is what
    `information_maximisation` mends.
    """
    return _entropy(_probabilities(logits)).mean()


def information_maximisation(logits: Tensor) -> Tensor:
    """Entropy of the mean prediction less the mean entropy, in nats, in [0, ln C]; logits (N, C), N > 0, to a scalar.

    The mutual information of row and prediction: high where rows are predicted surely and classes evenly. Shi & Sha
    2012 (ICML, arXiv:1206.6438); as a validator Musgrave et al. 2022 (arXiv:2208.07360). 0 when one class
    is predicted throughout.
    """
    probabilities = _probabilities(logits)
    return _entropy(probabilities.mean(0)) - _entropy(probabilities).mean()


def nuclear_norm(logits: Tensor) -> Tensor:
    """Nuclear norm of the matrix of predictions over its rows, in (0, sqrt(min(N, C) / N)]; logits (N, C), N > 0.

    Cui et al. 2020 (arXiv:2003.12237, eq. 11, whose loss is its negative), batch nuclear-norm maximisation; as a
    validator Musgrave et al. 2022 (arXiv:2208.07360). High where rows are predicted surely and classes evenly: both a
    large Frobenius norm and a high rank raise it. Returns a scalar.
    """
    probabilities = _probabilities(logits)
    norm: Tensor = torch.linalg.matrix_norm(probabilities.cpu(), ord="nuc")
    return norm / len(logits)


def largest_class_share(logits: Tensor) -> Tensor:
    """Share of rows predicted as the most frequent class, in [1 / C, 1]; logits (N, C), N > 0, to a scalar."""
    counts = torch.bincount(logits.argmax(1), minlength=logits.shape[1])
    return counts.max() / len(logits)


@dataclass(frozen=True)
class LabelFree:
    """The figures over a split's rows, and the class that most of them were predicted as; without rows, None.

    Of equally frequent classes largest_class is the first.
    """

    rows: int
    entropy: float | None
    information_maximisation: float | None
    nuclear_norm: float | None
    largest_class_share: float | None
    largest_class: int | None


class LabelFreeMetrics:
    """The functions of this module over a split, batch by batch, on the device: nothing waits for it until `result`.

    The figures are those of all rows together, however they were cut into batches.
    """

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self.num_classes = num_classes
        self._rows = 0
        self._dtype = sum_dtype(device)
        self._entropy = torch.zeros((), dtype=self._dtype, device=device)
        self._probabilities = torch.zeros(num_classes, dtype=self._dtype, device=device)
        self._products = torch.zeros(num_classes, num_classes, dtype=self._dtype, device=device)
        self._counts = torch.zeros(num_classes, dtype=torch.int64, device=device)

    @torch.no_grad()
    def update(self, logits: Tensor) -> None:
        """Counts a batch of logits (N, C). Raises ValueError when the shape does not fit."""
        if logits.ndim != 2 or logits.shape[1] != self.num_classes:
            raise ValueError(f"expected logits (N, {self.num_classes}), got {tuple(logits.shape)}")
        probabilities = _probabilities(logits)
        self._rows += len(logits)
        self._entropy += _entropy(probabilities).sum()
        self._probabilities += probabilities.sum(0)
        self._products += probabilities.T @ probabilities
        self._counts.index_add_(0, logits.argmax(1), torch.ones(len(logits), dtype=torch.int64, device=logits.device))

    def result(self) -> LabelFree:
        """The figures of all rows so far; the one point that waits for the device."""
        if not self._rows:
            return LabelFree(0, None, None, None, None, None)
        mean_entropy = float(self._entropy) / self._rows
        counts = self._counts.tolist()
        return LabelFree(
            rows=self._rows,
            entropy=mean_entropy,
            information_maximisation=float(_entropy(self._probabilities / self._rows)) - mean_entropy,
            nuclear_norm=self._nuclear_norm() / self._rows,
            largest_class_share=max(counts) / self._rows,
            largest_class=counts.index(max(counts)),
        )

    def _nuclear_norm(self) -> float:
        """The sum of the singular values of all rows' predictions: the roots of the eigenvalues of their products."""
        if not self._products.isfinite().all():  # as the other figures then are; the decomposition would raise
            return math.nan
        eigenvalues = torch.linalg.eigvalsh(self._products.cpu())
        return float(eigenvalues.clamp(min=0).sqrt().sum())


def _probabilities(logits: Tensor) -> Tensor:
    """Softmax of logits (N, C), in the precision that is summed in."""
    return logits.to(sum_dtype(logits.device)).softmax(1)


def _entropy(probabilities: Tensor) -> Tensor:
    """Entropy in nats over the last dimension. A probability of 0 adds 0, where its logarithm would make it nan."""
    entropies: Tensor = torch.special.entr(probabilities).sum(-1)
    return entropies
