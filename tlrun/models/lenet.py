"""The network of the CDAN line for MNIST and USPS."""

from __future__ import annotations

from torch import nn

from tlrun.config import ModelSettings
from tlrun.models.transfer import Backbone, image_shape


class LeNet(Backbone):
    """LeNet as CDAN and its successors train it on MNIST and USPS (Long et al. 2018, arXiv:1705.10667).

    Two convolutions 5 x 5 with 20 and 50 maps, dropout of whole maps in the second, and a layer of 500. It follows
    LeCun et al. 1998 in outline only: larger maps, ReLU and dropout are the CDAN line's.
    """

    class Config(ModelSettings):
        pass

    def __init__(self, config: Config, shape: tuple[int, ...]) -> None:
        channels, height, width = image_shape(shape, model="lenet", smallest=16)
        # A side of n pixels becomes n - 4 and then half of that, rounded down, twice.
        flat = 50 * (height // 4 - 3) * (width // 4 - 3)
        super().__init__(
            {
                "conv1": nn.Sequential(nn.Conv2d(channels, 20, kernel_size=5), nn.MaxPool2d(2), nn.ReLU(inplace=True)),
                "conv2": nn.Sequential(
                    nn.Conv2d(20, 50, kernel_size=5),
                    # Before the dropout, which scales whole maps: the same result, on a quarter of the values.
                    nn.MaxPool2d(2),
                    nn.Dropout2d(0.5),
                    nn.ReLU(inplace=True),
                    nn.Flatten(),
                ),
                "fc": nn.Sequential(nn.Linear(flat, 500), nn.ReLU(), nn.Dropout(0.5)),
            },
            out_features=500,
        )
