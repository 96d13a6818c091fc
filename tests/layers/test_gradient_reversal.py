"""Gradient reversal: nothing forward, minus the weight backward, and nothing remembered."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tlrun.layers.gradient_reversal import reverse_gradient


@pytest.mark.parametrize("shape", [(5,), (4, 3), (2, 3, 4, 4), (0, 3)])
def test_forward_is_the_identity(shape):
    x = torch.randn(shape)
    assert torch.equal(reverse_gradient(x, 0.3), x)


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0, 3.0])
def test_gradient_is_multiplied_by_minus_the_weight(weight):
    x = torch.randn(4, 3, requires_grad=True)
    upstream = torch.randn(4, 3)
    (gradient,) = torch.autograd.grad(reverse_gradient(x, weight), x, upstream)
    torch.testing.assert_close(gradient, -weight * upstream)


def test_the_same_call_twice_gives_the_same_gradient():
    x = torch.randn(4, 3, requires_grad=True)
    first, second = (torch.autograd.grad(reverse_gradient(x, 0.5).sum(), x)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_what_lies_above_descends_and_what_lies_below_ascends():
    torch.manual_seed(0)
    below, above = nn.Linear(3, 4), nn.Linear(4, 1)
    x = torch.randn(8, 3)

    def gradients(weight):
        features = below(x) if weight is None else reverse_gradient(below(x), weight)
        return torch.autograd.grad(above(features).square().mean(), [below.weight, above.weight])

    plain, reversed_ = gradients(None), gradients(0.5)
    torch.testing.assert_close(reversed_[0], -0.5 * plain[0])
    torch.testing.assert_close(reversed_[1], plain[1])


def test_twice_reversed_is_the_gradient_again():
    x = torch.randn(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: reverse_gradient(reverse_gradient(z, 0.5), 2.0), x)


def test_second_derivatives_pass_through_it():
    x = torch.tensor([2.0], requires_grad=True)
    (first,) = torch.autograd.grad(reverse_gradient(x, 0.5).pow(3), x, create_graph=True)
    assert float(first.detach()) == pytest.approx(-0.5 * 3 * 4)
    assert first.requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_precision_stays(dtype):
    x = torch.randn(4).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = reverse_gradient(x, 0.5)
    assert y.dtype == dtype
    y.sum().backward()
    assert x.grad.dtype == dtype


def test_input_is_not_written_to_by_what_follows():
    x = torch.ones(3)
    reverse_gradient(x.requires_grad_(), 1.0).sum().backward()
    assert torch.equal(x.detach(), torch.ones(3))


@pytest.mark.parametrize("weight", [-1.0, math.nan])
def test_a_weight_that_reverses_nothing_is_refused(weight):
    with pytest.raises(ValueError, match="weight must be at least 0"):
        reverse_gradient(torch.zeros(3), weight)
