"""Rows taken once through the frozen prefix of a backbone, so that later epochs start behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch

from tlrun.batch import Encoded, Examples, Inputs
from tlrun.data.domain import Part
from tlrun.data.rows import Held


def encode_part(part: Part, batches: Callable[[Part], Iterable[Examples]], encode: Callable[[Inputs], Encoded]) -> Part:
    """The same rows, labels and numbers, each row as the first stage that learns would receive it.

    batches gives the part's rows in order without augmentation; encode runs the frozen stages. An empty part stays as
    it is. The values are those that the stages gave, in their own precision, so what follows sees no difference.
    """
    encoded = [encode(examples.x) for examples in batches(part)]
    if not encoded:
        return part
    return replace(part, x=Held(torch.cat([each.x for each in encoded])), stage=encoded[0].stage)
