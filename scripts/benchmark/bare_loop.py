"""DANN on digits written out by hand, as fast as plain PyTorch makes it: what the engine's speed is held against.

It computes what `tlrun strategy=dann` computes, on the same batches, and nothing else: no report beyond the summed
loss, no checkpoint, no selection, no phases. throughput.py checks that both arrive at the same parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ReverseGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * -ctx.weight, None


class Network(nn.Module):
    """The network of a tlrun run, with its parameters in the same order.

    joint: both domains pass batch normalisation together; otherwise each has statistics of its own.
    """

    def __init__(
        self,
        maps: tuple[int, int],
        *,
        map_dropout: float,
        hidden: Sequence[int],
        dropout: float,
        discriminator: Sequence[int],
        joint: bool,
    ) -> None:
        super().__init__()
        convolutions = [nn.Conv2d(3, maps[0], 5), nn.Conv2d(maps[0], maps[1], 5)]
        norms = [nn.BatchNorm2d(each) for each in maps]
        self.features = _stages(convolutions, norms, map_dropout)
        features = 16 * maps[1]
        self.head = _perceptron(features, (*hidden, 10), dropout)
        self.discriminator = _perceptron(features, (*discriminator, 1), 0.0)
        self.joint = joint
        if not joint:
            twins = [nn.BatchNorm2d(each) for each in maps]
            for twin, norm in zip(twins, norms, strict=True):
                twin.weight, twin.bias = norm.weight, norm.bias
            self.target_features = _stages(convolutions, twins, map_dropout)

    def forward(self, source: Tensor, target: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        """The source's class logits, and both domains' logits from the discriminator, source first."""
        if self.joint:
            maps = self.features(torch.cat((source, target)))
            logits = self.head(maps)[: len(source)]
        else:
            own = self.features(source)
            logits = self.head(own)
            others = self.target_features(target)
            with torch.no_grad():
                self.head(others)  # of no use but to draw the same dropout as tlrun, so that results can be compared
            maps = torch.cat((own, others))
        return logits, self.discriminator(ReverseGradient.apply(maps, weight)).squeeze(1)


def _stages(convolutions: Sequence[nn.Module], norms: Sequence[nn.Module], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for convolution, norm in zip(convolutions, norms, strict=True):
        layers += [convolution, nn.MaxPool2d(2), norm, nn.ReLU(inplace=True)]
        layers += [nn.Dropout2d(dropout)] if dropout else []
    return nn.Sequential(*layers, nn.Flatten())


def _perceptron(inputs: int, widths: Sequence[int], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for wide, narrow in pairwise((inputs, *widths)):
        layers += [nn.Linear(wide, narrow), nn.ReLU()]
        layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers[: -2 if dropout else -1])


class Rows:
    """One domain's training rows in memory, uint8 (N, 28, 28, C), and how they become normalised input."""

    def __init__(self, x: Tensor, mean: Sequence[float], std: Sequence[float]) -> None:
        self.x = x.flatten(1)
        self.channels = x.shape[3]
        # A row of pixels at a time: broadcasting over an innermost 3 is several times slower.
        self.scale = torch.tensor([1 / (255 * each) for each in std]).repeat(28 * 28)
        self.offset = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]).repeat(28 * 28)

    def batch(self, positions: Tensor) -> Tensor:
        """Normalised bfloat16 (B, 3, 28, 28) in channels-last memory: what autocast would make of float32 later."""
        rows = self.x.index_select(0, positions).float()
        if self.channels == 1:
            rows = rows.unsqueeze(2).expand(-1, -1, 3).flatten(1)
        normalised = torch.addcmul(self.offset, rows, self.scale).bfloat16()
        return normalised.view(-1, 28, 28, 3).permute(0, 3, 1, 2)


def train(
    network: Network,
    optimizer: torch.optim.Optimizer,
    source: Rows,
    y: Tensor,
    target: Rows,
    positions: Iterable[tuple[Tensor, Tensor]],
    *,
    rate: Callable[[int], float],
    weight: Callable[[int], float],
) -> Iterator[Tensor]:
    """Trains on the rows at these positions, handing out the sum of the losses so far after each step.

    rate and weight: the learning rate and the weight of the reversed gradient at a step.
    """
    network.train().to(memory_format=torch.channels_last)
    total = torch.zeros(())
    for step, (source_rows, target_rows) in enumerate(positions):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        half = len(source_rows)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits, domains = network(source.batch(source_rows), target.batch(target_rows), weight(step))
        domains = domains.float()
        adversarial = -(F.logsigmoid(domains[:half]).mean() + F.logsigmoid(-domains[half:]).mean()) / 2
        loss = F.cross_entropy(logits.float(), y.index_select(0, source_rows)) + adversarial
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total += loss.detach()
        yield total
