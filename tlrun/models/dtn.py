"""The network of the CDAN line for SVHN and MNIST."""

from __future__ import annotations

import math

from torch import nn

from tlrun.config import ModelSettings
from tlrun.models.transfer import Backbone, image_shape


class DTN(Backbone):
    """The digits network that CDAN and its successors train from SVHN to MNIST (Long et al. 2018, arXiv:1705.10667).

    Three convolutions 5 x 5 that each halve the image, 64, 128 and 256 maps, batch-normalised, with growing dropout
    of whole maps; then a layer of 512. Theirs sees 3 x 32 x 32; the last layer adapts to any size from 16 pixels.
    """

    class Config(ModelSettings):
        pass

    def __init__(self, config: Config, shape: tuple[int, ...]) -> None:
        channels, height, width = image_shape(shape, model="dtn", smallest=16)
        flat = 256 * math.ceil(height / 8) * math.ceil(width / 8)
        super().__init__(
            {
                "conv1": nn.Sequential(*convolution(channels, 64, dropout=0.1)),
                "conv2": nn.Sequential(*convolution(64, 128, dropout=0.3)),
                "conv3": nn.Sequential(*convolution(128, 256, dropout=0.5), nn.Flatten()),
                "fc": nn.Sequential(nn.Linear(flat, 512), nn.BatchNorm1d(512), nn.ReLU(inplace=True), nn.Dropout(0.5)),
            },
            out_features=512,
        )


def convolution(channels: int, maps: int, *, dropout: float) -> list[nn.Module]:
    """The layers of one stage, which halves the image, rounding up."""
    return [
        nn.Conv2d(channels, maps, kernel_size=5, stride=2, padding=2),
        nn.BatchNorm2d(maps),
        nn.Dropout2d(dropout),
        nn.ReLU(inplace=True),
    ]
