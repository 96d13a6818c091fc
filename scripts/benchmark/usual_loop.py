"""DANN on digits the usual way: an image at a time as a PIL image, a DataLoader, float32, NCHW, torch as it comes."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from bare_loop import ALPHA, BETA, MOMENTUM, PEAK_RATE, RAMP, ReverseGradient, digits_network
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

WORKERS = 2


class PairedImages(Dataset):
    """A source image with its label and a target image. One loader over both has two workers, not two for each."""

    def __init__(self, source: Tensor, y: Tensor, target: Tensor, statistics: Any) -> None:
        transforms = importlib.import_module("torchvision.transforms")
        self.source, self.y, self.target = source.numpy(), y.tolist(), target.numpy()
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize(statistics.mean, statistics.std)]
        )

    def __len__(self) -> int:
        return min(len(self.source), len(self.target))

    def __getitem__(self, row: int) -> tuple[Tensor, int, Tensor]:
        digit = Image.fromarray(self.source[row, :, :, 0]).convert("RGB")
        return self.transform(digit), self.y[row], self.transform(Image.fromarray(self.target[row]))


def train(images: PairedImages, *, batch_size: int, steps: int) -> Iterator[None]:
    """Trains for as long as it is asked, handing over after each step."""
    loader = DataLoader(images, batch_size, shuffle=True, num_workers=WORKERS, drop_last=True, persistent_workers=True)
    network = digits_network().train()
    features, head, discriminator = network["features"], network["head"], network["discriminator"]
    optimizer = torch.optim.SGD(network.parameters(), lr=PEAK_RATE, momentum=MOMENTUM)
    step = 0
    while True:
        for source, y, target in loader:
            fraction = min(step / steps, 1.0)
            for group in optimizer.param_groups:
                group["lr"] = PEAK_RATE * (1 + ALPHA * fraction) ** -BETA
            maps = features(torch.cat((source, target)))
            domains = discriminator(ReverseGradient.apply(maps, math.tanh(RAMP * fraction / 2))).squeeze(1)
            truth = torch.cat((torch.ones(batch_size), torch.zeros(batch_size)))
            loss = F.cross_entropy(head(maps[:batch_size]), y) + F.binary_cross_entropy_with_logits(domains, truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            yield
