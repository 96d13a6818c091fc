"""The network that guesses which domain a row's features come from."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class Discriminator(nn.Module):
    """Source or target? Logits above 0 say source.

    A multilayer perceptron as in Ganin et al. 2016 (JMLR 17, arXiv:1505.07818, figure 4: hidden layers of 100, or of
    1024 and 1024): linear, batch normalisation if asked for, ReLU, dropout, for each hidden size; then one linear
    unit. No hidden size makes it linear. It ends in the logit, one a row: losses take their logarithms of that.
    With batch_norm pass both domains in one call: normalised apart, they would lose the very shift to be seen.
    Raises ValueError when a size is below 1 or dropout lies outside [0, 1).
    """

    def __init__(self, in_features: int, hidden: Sequence[int], dropout: float, batch_norm: bool) -> None:
        super().__init__()
        sizes = (in_features, *hidden)
        if min(sizes) < 1:
            raise ValueError(f"sizes must be at least 1, got {sizes}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {dropout}")
        layers: list[nn.Module] = []
        for wide, narrow in pairwise(sizes):
            layers.append(nn.Linear(wide, narrow))
            if batch_norm:
                layers.append(nn.BatchNorm1d(narrow))
            layers.append(nn.ReLU())
            if dropout:
                layers.append(nn.Dropout(dropout))
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))

    def forward(self, features: Tensor) -> Tensor:
        """features (N, D) to logits (N,)."""
        logits: Tensor = self.layers(features)
        return logits.squeeze(1)
