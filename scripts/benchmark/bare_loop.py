"""DANN on digits written out by hand, as fast as plain PyTorch makes it: what the engine's speed is held against.

It computes what `tlrun strategy=dann` computes, on the same batches, and nothing else: no reports beyond the summed
loss, no checkpoints, no selection, no phases. The benchmark checks that both arrive at the same losses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PEAK_RATE, MOMENTUM, RAMP, ALPHA, BETA = 0.01, 0.9, 10.0, 10.0, 0.75


class ReverseGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * -ctx.weight, None


def digits_network() -> nn.ModuleDict:
    """The network of the default run, layer by layer in its order, so that its parameters can be copied over."""
    features = nn.Sequential(
        *(nn.Conv2d(3, 32, 5), nn.MaxPool2d(2), nn.BatchNorm2d(32), nn.ReLU(inplace=True)),
        *(nn.Conv2d(32, 48, 5), nn.MaxPool2d(2), nn.BatchNorm2d(48), nn.ReLU(inplace=True)),
        nn.Flatten(),
    )
    head = nn.Sequential(nn.Linear(768, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10))
    discriminator = nn.Sequential(nn.Linear(768, 100), nn.ReLU(), nn.Linear(100, 1))
    return nn.ModuleDict({"features": features, "head": head, "discriminator": discriminator})


class Rows:
    """One domain's training rows in memory, uint8 (N, 28, 28, C), and how they become normalised input."""

    def __init__(self, x: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.x = x.flatten(1)
        self.channels = x.shape[3]
        scale = torch.tensor([1 / (255 * each) for each in std])
        offset = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)])
        # A row of pixels at a time: broadcasting over an innermost 3 is several times slower.
        self.scale, self.offset = scale.repeat(28 * 28), offset.repeat(28 * 28)

    def batch(self, positions: Tensor) -> Tensor:
        """Normalised bfloat16 (B, 3, 28, 28) in channels-last memory: what autocast would make of float32 later."""
        rows = self.x.index_select(0, positions).float()
        if self.channels == 1:
            rows = rows.unsqueeze(2).expand(-1, -1, 3).flatten(1)
        normalised = torch.addcmul(self.offset, rows, self.scale).bfloat16()
        return normalised.view(-1, 28, 28, 3).permute(0, 3, 1, 2)


def train(
    network: nn.ModuleDict,
    source: Rows,
    y: Tensor,
    target: Rows,
    positions: Iterator[tuple[Tensor, Tensor]],
    *,
    steps: int,
) -> Iterator[Tensor]:
    """Trains for `steps` steps, handing out the sum of the losses so far after each of them."""
    features, head, discriminator = network["features"], network["head"], network["discriminator"]
    network.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=PEAK_RATE, momentum=MOMENTUM, fused=True)
    total = torch.zeros(())
    for step, (source_rows, target_rows) in enumerate(positions):
        fraction = step / steps
        optimizer.param_groups[0]["lr"] = PEAK_RATE * (1 + ALPHA * fraction) ** -BETA
        weight = math.tanh(RAMP * fraction / 2)
        half = len(source_rows)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            x = torch.cat((source.batch(source_rows), target.batch(target_rows)))
            maps = features(x)
            logits = head(maps)
            domains = discriminator(ReverseGradient.apply(maps, weight)).squeeze(1)
        domains = domains.float()
        adversarial = -(F.logsigmoid(domains[:half]).mean() + F.logsigmoid(-domains[half:]).mean()) / 2
        loss = F.cross_entropy(logits[:half].float(), y.index_select(0, source_rows)) + adversarial
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total += loss.detach()
        yield total
