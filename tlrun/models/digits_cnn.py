"""The network of the DANN paper for MNIST and MNIST-M."""

from __future__ import annotations

from torch import nn

from tlrun.config import Count, HalfOpenFraction, ModelSettings
from tlrun.models.transfer import Backbone, image_shape


class DigitsCNN(Backbone):
    """The MNIST architecture of Ganin et al. 2016 (JMLR 17, figure 4a; arXiv:1505.07818), for 1 or 3 channels.

    Two convolutions 5 x 5 with 32 and 48 maps, each with max pooling and ReLU: 768 features at 28 x 28 pixels, which
    the paper's domain classifier sees. Its label predictor 100-100-classes is a head of type mlp with two hidden
    layers. Departures, all options: other numbers of maps, batch_norm normalises the pooled maps of each stage, map_dropout
    drops that share of whole maps after it (Tompson et al. 2015, arXiv:1411.4280, section 3.2).
    """

    class Config(ModelSettings):
        maps: tuple[Count, Count]
        batch_norm: bool
        map_dropout: HalfOpenFraction
        hidden_layers: Count

    def __init__(self, config: Config, shape: tuple[int, ...]) -> None:
        channels, height, width = image_shape(shape, model="digits_cnn", smallest=16)
        low, high = config.maps
        super().__init__(
            {
                "conv1": nn.Sequential(*convolution(channels, low, config)),
                "conv2": nn.Sequential(*convolution(low, high, config), nn.Flatten()),
            },
            # A side of n pixels becomes n - 4 and then half of that, rounded down, twice.
            out_features=high * (height // 4 - 3) * (width // 4 - 3),
        )
        self.hidden_layers = config.hidden_layers


def convolution(channels: int, maps: int, config: DigitsCNN.Config) -> list[nn.Module]:
    """The layers of one stage: 5 x 5, no padding, halved by pooling."""
    # Pooling before ReLU is the same function, since both are monotone, at a quarter of the work.
    norm = [nn.BatchNorm2d(maps)] if config.batch_norm else []
    return [
        nn.Conv2d(channels, maps, kernel_size=5),
        nn.MaxPool2d(2),
        *norm,
        nn.ReLU(inplace=True),
        nn.Dropout2d(config.map_dropout),
    ]
