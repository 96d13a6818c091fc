"""DANN on digits the usual way: an image at a time as a PIL image, a DataLoader, float32, NCHW, torch as it comes."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from bare_loop import Network
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

WORKERS = 2


class PairedImages(Dataset):
    """A source image with its label and a target image. One loader over both has two workers, not two for each."""

    def __init__(self, source: Tensor, y: Tensor, target: Tensor, statistics: Sequence[Any]) -> None:
        transforms = importlib.import_module("torchvision.transforms")
        self.source, self.y, self.target = source.numpy(), y.tolist(), target.numpy()
        self.transforms = [
            transforms.Compose([transforms.ToTensor(), transforms.Normalize(each.mean, each.std)])
            for each in statistics
        ]

    def __len__(self) -> int:
        return min(len(self.source), len(self.target))

    def __getitem__(self, row: int) -> tuple[Tensor, int, Tensor]:
        digit = Image.fromarray(self.source[row, :, :, 0]).convert("RGB")
        return self.transforms[0](digit), self.y[row], self.transforms[1](Image.fromarray(self.target[row]))


def train(
    network: Network,
    optimizer: torch.optim.Optimizer,
    images: PairedImages,
    *,
    batch_size: int,
    rate: Callable[[int], float],
    weight: Callable[[int], float],
) -> Iterator[None]:
    """Trains for as long as it is asked, handing over after each step."""
    loader = DataLoader(images, batch_size, shuffle=True, num_workers=WORKERS, drop_last=True, persistent_workers=True)
    truth = torch.cat((torch.ones(batch_size), torch.zeros(batch_size)))
    network.train()
    step = 0
    while True:
        for source, y, target in loader:
            for group in optimizer.param_groups:
                group["lr"] = rate(step)
            logits, domains = network(source, target, weight(step))
            loss = F.cross_entropy(logits, y) + F.binary_cross_entropy_with_logits(domains, truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            yield
