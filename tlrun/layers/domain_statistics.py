"""Batch statistics kept apart by domain, so that each domain is normalised by its own, in training and afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class DomainStatistics(nn.Module):
    """The source's running statistics of every batch normalisation in a model whose own are the target's.

    Scale and shift stay shared (Li et al. 2016, AdaBN, arXiv:1603.04779, section 3.2). The model by itself is the one
    for the target; within `source()` it is the one for the source. Both start from the model's statistics.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
        for number, layer in enumerate(self._layers):
            for name in ("running_mean", "running_var"):
                self.register_buffer(f"{name}_{number}", getattr(layer, name).clone())

    def __len__(self) -> int:
        """How many layers of batch normalisation there are."""
        return len(self._layers)

    @torch.no_grad()
    def shift(self) -> Tensor:
        """How far apart the domains' means are, in standard deviations of the source; the mean over channels and layers.

        A scalar, at least 0. Raises ValueError where no layer normalises batches.
        """
        if not self._layers:
            raise ValueError("no layer normalises batches")
        shifts = []
        for number, layer in enumerate(self._layers):
            mean, variance = (self.get_buffer(f"running_{name}_{number}") for name in ("mean", "var"))
            shifts.append(((layer.get_buffer("running_mean") - mean).abs() / (variance + layer.eps).sqrt()).mean())
        return torch.stack(shifts).mean()

    @contextmanager
    def source(self) -> Iterator[None]:
        """Puts the source's statistics into the model, to be read and moved there, and takes them out again."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for number, layer in enumerate(self._layers):
            for name in ("running_mean", "running_var"):
                key = f"{name}_{number}"
                layer._buffers[name], self._buffers[key] = self._buffers[key], layer._buffers[name]
