"""A moving average of a module's weights, kept beside them and put in their place when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EmaCopy(nn.Module):
    """Exponential moving average of every parameter and floating-point buffer of a module (Polyak and Juditsky 1992).

    Batch normalisation's running statistics are averaged with the weights that they belong to; whole numbers, such as
    counters, are the module's own of the last update. Starts as a copy. Holds on to the module's tensors themselves, so
    it is made once the module is on its device, for a module whose tensors are changed in place from then on.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._tensors: list[Tensor] = [*module.parameters(), *module.buffers()]
        for number, tensor in enumerate(self._tensors):
            self.register_buffer(f"average_{number}", tensor.detach().clone())
        self._averages = list(self.buffers())
        real = [number for number, tensor in enumerate(self._tensors) if tensor.is_floating_point()]
        whole = [number for number, tensor in enumerate(self._tensors) if not tensor.is_floating_point()]
        self._real, self._whole = (
            [(self._averages[number], self._tensors[number]) for number in each] for each in (real, whole)
        )

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Moves each average to `decay` times itself and 1 - decay times the module's value. decay in [0, 1]."""
        averages, values = ([pair[place].data for pair in self._real] for place in (0, 1))
        torch._foreach_lerp_(averages, values, 1.0 - decay)
        for average, value in self._whole:
            average.copy_(value)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Puts the average into the module and takes it out again, bit for bit; nothing is copied."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for average, tensor in zip(self._averages, self._tensors, strict=True):
            average.data, tensor.data = tensor.data, average.data


def warmed_up(decay: float, steps: int) -> float:
    """The decay after `steps` updates: (1 + steps) / (10 + steps) until that reaches `decay`, as TensorFlow's average."""
    return min(decay, (1 + steps) / (10 + steps))
