"""Losses compute in float32 whatever the model runs in, and gradients come back in the model's precision."""

from __future__ import annotations

import pytest
import torch

from tlrun.losses.precision import in_float32


@in_float32
def product(first, second=None, *, scale=None):
    """Under autocast a matrix product is what would fall to half precision."""
    result = first @ first.T
    return result if scale is None else result * scale


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_cast_up_and_gradients_come_back_in_it(dtype):
    x = torch.randn(4, 3).to(dtype).requires_grad_()
    result = product(x)
    assert result.dtype == torch.float32
    assert torch.equal(result, x.float() @ x.float().T)
    result.sum().backward()
    assert x.grad.dtype == dtype


def test_autocast_is_off_inside_and_on_again_outside():
    x = torch.randn(4, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = product(x)
        assert torch.is_autocast_enabled("cpu")
        assert (x @ x.T).dtype == torch.bfloat16
    assert result.dtype == torch.float32
    assert torch.equal(result, x @ x.T)


def test_keyword_tensors_are_cast_too():
    x = torch.randn(4, 3, dtype=torch.bfloat16)
    scale = torch.full((), 1.5, dtype=torch.bfloat16)
    assert product(first=x, scale=scale).dtype == torch.float32


def test_float64_and_integers_are_left_alone():
    assert product(torch.randn(2, 2, dtype=torch.float64)).dtype == torch.float64
    assert product(torch.ones(2, 2, dtype=torch.int64)).dtype == torch.int64


def test_name_and_docstring_stay():
    assert product.__name__ == "product"
    assert product.__doc__.startswith("Under autocast")


def test_no_tensor_is_an_error():
    with pytest.raises(TypeError, match="product needs a tensor"):
        product(1.0)
