"""What the validators see of an evaluation: some validation rows of both domains, the source's with their labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tlrun.batch import Output
from tlrun.data.splits import RowNumbers, row_keys
from tlrun.losses.mmd import mmd
from tlrun.metrics import validators

ROWS = 1000
"""Validators read at most so many validation rows of each domain: the neighbours of all rows would cost their square."""
LEARNT_ROWS = 250
"""The domain classifier learns from at most so many rows of each half of a domain."""
MMD_ROWS = 500
LEAST_ROWS = 4
"""Fewer rows of a domain than this can be validated by nothing that compares rows."""


@dataclass(frozen=True)
class Validation:
    """A score of each validator, higher is better; None where there are too few rows or features are not finite."""

    snd: float | None = None
    dev: float | None = None
    iwv: float | None = None
    nearest_source: float | None = None
    feature_mmd: float | None = None


class Sample:
    """Features and logits of the same rows of one domain at every evaluation, gathered batch by batch on the device.

    Which rows: at most ROWS, by a hash of their numbers alone, in its order. So they depend on no seed and no label, and
    every beginning of them is a fair choice.
    """

    def __init__(self, num_rows: int) -> None:
        self._order = chosen(num_rows)
        self._ascending = np.sort(self._order)
        self._start = 0
        self._batches: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def add(self, output: Output, y: Tensor | None) -> None:
        """Takes the chosen rows of the next batch; y (N,) labels, or None where no validator may read them."""
        stop = self._start + len(output.logits)
        first, last = np.searchsorted(self._ascending, (self._start, stop))
        rows = torch.from_numpy(self._ascending[first:last] - self._start).to(output.logits.device)
        self._batches.append((output.features[rows], output.logits[rows], None if y is None else y[rows]))
        self._start = stop

    def result(self) -> tuple[Output, Tensor | None]:
        """What the model says of the chosen rows, and their labels."""
        features, logits, labels = zip(*self._batches, strict=True)
        order = torch.from_numpy(np.searchsorted(self._ascending, self._order)).to(logits[0].device)
        output = Output(torch.cat(features)[order].float(), torch.cat(logits)[order])
        return output, None if labels[0] is None else torch.cat(labels)[order]

    def __len__(self) -> int:
        return len(self._order)


def chosen(num_rows: int) -> RowNumbers:
    """The numbers of at most ROWS of so many rows, in the order of their hashes."""
    return np.argsort(row_keys(np.arange(num_rows), "validators"), kind="stable")[:ROWS]


@torch.no_grad()
def validate(source: Sample, target: Sample) -> Validation:
    """Every validator's score. source: with labels, of which those below 0 are left out; target: without."""
    if len(target) < LEAST_ROWS:
        return Validation()
    unlabelled, labels = target.result()
    assert labels is None
    density = float(validators.soft_neighbourhood_density(unlabelled.logits))
    if len(source) < LEAST_ROWS:
        return Validation(snd=density)
    labelled, y = source.result()
    assert y is not None
    known = y >= 0
    features, correct = labelled.features[known], (labelled.logits.argmax(1) == y)[known]
    if len(features) < LEAST_ROWS or not all(each.isfinite().all() for each in (features, unlabelled.features)):
        return Validation(snd=density)
    weights = validators.density_ratio(features, unlabelled.features, rows=LEARNT_ROWS)
    return Validation(
        snd=density,
        dev=float(validators.dev_accuracy(weights, correct)),
        iwv=float(validators.importance_weighted_accuracy(weights, correct)),
        nearest_source=float(validators.nearest_source_accuracy(features, correct, unlabelled.features)),
        feature_mmd=-float(
            # Measured in the median distance of the rows themselves, so that features which only shrink gain nothing.
            mmd(features[:MMD_ROWS], unlabelled.features[:MMD_ROWS], kernels=(1.0,), bandwidth="median",
                estimate="unbiased")
        ),
    )  # fmt: skip
