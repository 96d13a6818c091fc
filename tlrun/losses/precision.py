"""The precision that losses compute in: autocast would run their distances and exponentials in half of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import torch
from torch import Tensor

P = ParamSpec("P")


def in_float32(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Lets a loss compute in float32 under whatever precision the model runs.

    Autocast is off on the device of the first tensor argument, and floating tensors below float32 among the
    arguments, by position or keyword but not inside containers, are cast up; float64 stays, so that `gradcheck`
    works. Gradients come back in the precision of the arguments. Raises TypeError when no argument is a tensor.
    """

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        device = next((value.device for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
        if device is None:
            raise TypeError(f"{function.__name__} needs a tensor")
        with torch.autocast(device.type, enabled=False):
            return function(*map(_at_least_float32, args), **{key: _at_least_float32(kwargs[key]) for key in kwargs})

    return wrapper


def _at_least_float32(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point() and value.element_size() < 4:
        return value.float()
    return value
