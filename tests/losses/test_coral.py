"""Correlation alignment against covariances written out, and what it must be whatever the numbers."""

from __future__ import annotations

import pytest
import torch

from tlrun.losses.coral import coral


def samples(num_source=6, num_target=9, dimensions=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    source = torch.randn(num_source, dimensions, generator=generator, dtype=torch.float64)
    target = 2 + 1.5 * torch.randn(num_target, dimensions, generator=generator, dtype=torch.float64)
    return source, target


def covariance(rows):
    """Entry by entry in Python floats."""
    columns = rows.T.tolist()
    means = [sum(column) / len(column) for column in columns]

    def entry(i, j):
        pairs = zip(columns[i], columns[j], strict=True)
        return sum((a - means[i]) * (b - means[j]) for a, b in pairs) / (len(rows) - 1)

    return [[entry(i, j) for j in range(len(columns))] for i in range(len(columns))]


@pytest.mark.parametrize("dimensions", [1, 3, 14, 15, 16, 40])  # fewer features than rows, as many, more
def test_agrees_with_the_covariances_written_out(dimensions):
    source, target = samples(dimensions=dimensions)
    ours, theirs = covariance(source), covariance(target)
    expected = sum(
        (a - b) ** 2 for row, other in zip(ours, theirs, strict=True) for a, b in zip(row, other, strict=True)
    ) / (4 * dimensions**2)
    assert float(coral(source, target)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("dimensions", [3, 40])
def test_means_do_not_count_and_equal_samples_are_at_0(dimensions):
    source, target = samples(dimensions=dimensions)
    torch.testing.assert_close(coral(source + 7, target - 5), coral(source, target))
    assert float(coral(source, source + 3)) == pytest.approx(0.0, abs=1e-12)


def test_twice_the_spread_is_nine_times_the_variance_apart():
    source = torch.tensor([[0.0], [2.0]], dtype=torch.float64)  # variance 2, of twice the spread 8
    assert float(coral(source, 2 * source)) == pytest.approx((8 - 2) ** 2 / 4)


@pytest.mark.parametrize("dimensions", [3, 20])
def test_gradient_is_right(dimensions):
    inputs = tuple(each.requires_grad_() for each in samples(4, 5, dimensions))
    assert torch.autograd.gradcheck(coral, inputs)


def test_half_precision_under_autocast_gives_a_float32_loss():
    source, target = (each.bfloat16() for each in samples(dimensions=30))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = coral(source, target)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, coral(source.float(), target.float()))


@pytest.mark.parametrize(
    ("source", "target", "text"),
    [
        (torch.zeros(4, 2), torch.zeros(4, 3), "samples must be"),
        (torch.zeros(4), torch.zeros(4), "samples must be"),
        (torch.zeros(1, 2), torch.zeros(4, 2), "a covariance needs 2 rows a domain, got 1 and 4"),
    ],
)
def test_samples_that_do_not_fit_are_refused(source, target, text):
    with pytest.raises(ValueError, match=text):
        coral(source, target)
