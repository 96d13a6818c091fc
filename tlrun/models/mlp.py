"""A multilayer perceptron, for tabular rows and for flattened images."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated

from pydantic import Field
from torch import nn

from tlrun.config import Count, ModelSettings
from tlrun.models.transfer import Backbone


class MLP(Backbone):
    """Linear layers with ReLU, one stage each, `widths` from bottom to top; takes rows of any shape, flattened."""

    class Config(ModelSettings):
        widths: Annotated[tuple[Count, ...], Field(min_length=1)]

    def __init__(self, config: Config, shape: tuple[int, ...]) -> None:
        sizes = (math.prod(shape), *config.widths)
        stages = {
            f"hidden{number}": nn.Sequential(nn.Linear(below, width), nn.ReLU())
            for number, (below, width) in enumerate(pairwise(sizes), start=1)
        }
        stages["hidden1"].insert(0, nn.Flatten())
        super().__init__(stages, out_features=config.widths[-1])
