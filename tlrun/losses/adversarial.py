"""The game between features and a domain discriminator: its loss, its score, and the ramp of its weight."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from tlrun.losses.precision import in_float32


@in_float32
def domain_loss(
    source_logits: Tensor,
    target_logits: Tensor,
    *,
    inverted: bool = False,
    weights: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Mean of the two domains' binary cross entropies in nats, source being 1 and target 0; a scalar, at least 0.

    Ganin et al. 2016, JMLR 17, arXiv:1505.07818, section 4 (the domain terms of the objective). source_logits (Ns,)
    and target_logits (Nt,), any Ns, Nt > 0. ln 2 when the discriminator knows nothing.
    inverted: each domain under the other's label, which the features descend in their own turn (Goodfellow et al.
    2014, arXiv:1406.2661, section 3; Tzeng et al. 2017, arXiv:1702.05464, eq. 7): the same fixed point as the
    reversed gradient, with a gradient that does not fade where the discriminator is sure.
    weights: how much each row counts, (Ns,) and (Nt,), at least 0, of mean 1 each where the scale should stay.
    Departures: the mean over each domain, then over both, so that neither batch size nor the number of terms scales
    it; ADDA inverts the target alone, because its source features are fixed, where here both come from one model.
    Raises ValueError unless both are (N,) with N > 0, and their weights as many.
    """
    _check(source_logits, target_logits)
    sign = -1.0 if inverted else 1.0
    # -ln sigmoid(z) is the cross entropy of label 1, -ln sigmoid(-z) that of label 0; neither overflows.
    source, target = F.logsigmoid(sign * source_logits), F.logsigmoid(-sign * target_logits)
    if weights is not None:
        if (weights[0].shape, weights[1].shape) != (source.shape, target.shape):
            raise ValueError(
                f"weights must be as many as logits, got {tuple(weights[0].shape)} and {tuple(weights[1].shape)}"
            )
        source, target = weights[0] * source, weights[1] * target
    return -(source.mean() + target.mean()) / 2


def domain_accuracy(source_logits: Tensor, target_logits: Tensor) -> Tensor:
    """How well the discriminator tells the domains apart: mean of its accuracy on each; float32 scalar in [0, 1].

    source_logits (Ns,), target_logits (Nt,); 0.5 for one that answers all rows alike, whatever Ns and Nt. A logit of
    exactly 0 is an answer of "target". No gradient. Raises ValueError unless both are (N,) with N > 0.
    """
    _check(source_logits, target_logits)
    return ((source_logits > 0).float().mean() + (target_logits <= 0).float().mean()) / 2


def ramp(fraction: float, *, steepness: float) -> float:
    """The weight of an adaptation as training goes on: 2 / (1 + exp(-steepness * fraction)) - 1, from 0 towards 1.

    Ganin et al. 2016, JMLR 17, arXiv:1505.07818, section 5.2.2, where fraction is p and steepness gamma = 10. At
    fraction 1 it is 0.9999 for a steepness of 10, and only 0.46 for 1.
    Raises ValueError when fraction lies outside [0, 1] or steepness is not above 0.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must be in [0, 1], got {fraction}")
    if not steepness > 0:
        raise ValueError(f"steepness must be above 0, got {steepness}")
    return math.tanh(steepness * fraction / 2)  # the same function, exact near 0


def _check(source_logits: Tensor, target_logits: Tensor) -> None:
    for logits in (source_logits, target_logits):
        if logits.ndim != 1 or not len(logits):
            raise ValueError(f"domain logits must be (N,) with N > 0, got {tuple(logits.shape)}")
