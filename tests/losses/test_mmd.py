"""The mean discrepancy against double loops, closed forms, and what it must be whatever the numbers."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch

from tlrun.losses.mmd import mmd

KERNELS = (0.125, 0.25, 0.5, 1.0, 2.0)
ESTIMATES = ("biased", "unbiased", "linear")
BANDWIDTHS = ("median", "mean", 3.0)


def samples(num_source=6, num_target=6, dimensions=3, shift=1.0, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    source = torch.randn(num_source, dimensions, generator=generator, dtype=dtype)
    target = shift + 1.5 * torch.randn(num_target, dimensions, generator=generator, dtype=dtype)
    return source, target


def naive(source, target, *, kernels, bandwidth, estimate):
    """Pair by pair in Python floats."""
    x, y = source.double().tolist(), target.double().tolist()
    if estimate == "linear":
        rows = min(len(x), len(y)) // 2 * 2
        x, y = x[:rows], y[:rows]

    def squared(a, b):
        return sum((i - j) ** 2 for i, j in zip(a, b, strict=True))

    distances = sorted(squared(a, b) for a, b in combinations(x + y, 2))
    base = {"mean": sum(distances) / len(distances), "median": distances[(len(distances) - 1) // 2]}.get(
        bandwidth, bandwidth
    )

    def k(a, b):
        return sum(math.exp(-squared(a, b) / (2 * multiple * base)) for multiple in kernels)

    if estimate == "linear":
        total = 0.0
        for i in range(0, len(x), 2):
            total += k(x[i], x[i + 1]) + k(y[i], y[i + 1]) - k(x[i], y[i + 1]) - k(x[i + 1], y[i])
        return total / (len(x) / 2)
    total = 0.0
    for sample in (x, y):
        n = len(sample)
        for i in range(n):
            for j in range(n):
                if estimate == "biased":
                    total += k(sample[i], sample[j]) / n**2
                elif i != j:
                    total += k(sample[i], sample[j]) / (n * (n - 1))
    for a in x:
        for b in y:
            total -= 2 * k(a, b) / (len(x) * len(y))
    return total


@pytest.mark.parametrize("bandwidth", BANDWIDTHS)
@pytest.mark.parametrize("estimate", ESTIMATES)
@pytest.mark.parametrize(("num_source", "num_target"), [(6, 6), (7, 4), (2, 9)])
def test_agrees_with_the_double_loop(num_source, num_target, estimate, bandwidth):
    source, target = samples(num_source, num_target)
    options = {"kernels": KERNELS, "bandwidth": bandwidth, "estimate": estimate}
    assert float(mmd(source, target, **options)) == pytest.approx(naive(source, target, **options), rel=1e-9)


@pytest.mark.parametrize("bandwidth", BANDWIDTHS)
@pytest.mark.parametrize("estimate", ESTIMATES)
def test_float32_agrees_with_the_double_loop_far_from_the_origin(estimate, bandwidth):
    source, target = samples(16, 16, dimensions=64, dtype=torch.float32)
    far_source, far_target = source + 1000, target + 1000
    options = {"kernels": KERNELS, "bandwidth": bandwidth, "estimate": estimate}
    expected = naive(far_source, far_target, **options)
    assert float(mmd(far_source, far_target, **options)) == pytest.approx(expected, abs=1e-5)


def test_two_points_have_a_closed_form():
    source, target = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]])
    options = {"kernels": (1.0,), "estimate": "biased"}
    assert float(mmd(source, target, bandwidth=10.0, **options)) == pytest.approx(2 - 2 * math.exp(-25 / 20))
    # Mean and median of the one pair are its squared distance, so the exponent is one half.
    for bandwidth in ("mean", "median"):
        assert float(mmd(source, target, bandwidth=bandwidth, **options)) == pytest.approx(2 - 2 * math.exp(-0.5))


@pytest.mark.parametrize("estimate", ESTIMATES)
def test_kernels_add_up(estimate):
    source, target = samples()
    options = {"bandwidth": "mean", "estimate": estimate}
    parts = [mmd(source, target, kernels=(multiple,), **options) for multiple in KERNELS]
    torch.testing.assert_close(mmd(source, target, kernels=KERNELS, **options), torch.stack(parts).sum())


@pytest.mark.parametrize("bandwidth", BANDWIDTHS)
def test_equal_samples_agree_in_any_order(bandwidth):
    source, _ = samples(32, 32, dtype=torch.float32)
    shuffled = source[torch.randperm(32, generator=torch.Generator().manual_seed(1))]
    value = mmd(source, shuffled, kernels=KERNELS, bandwidth=bandwidth, estimate="biased")
    assert float(value) == pytest.approx(0, abs=2e-6)


@pytest.mark.parametrize("estimate", ["unbiased", "linear"])
def test_mean_over_draws_from_one_distribution_is_zero(estimate):
    values = torch.stack([mmd(*_from_one(seed), **_fixed(estimate)) for seed in range(400)])
    standard_error = values.std() / math.sqrt(len(values))
    assert abs(float(values.mean())) < 4 * float(standard_error)
    # The biased estimate of the same draws is well above 0, so the test can tell.
    biased = torch.stack([mmd(*_from_one(seed), **_fixed("biased")) for seed in range(50)])
    assert float(biased.mean()) > 10 * float(standard_error)


def _from_one(seed):
    x = torch.randn(16, 3, generator=torch.Generator().manual_seed(seed))
    return x[:8], x[8:]


def _fixed(estimate):
    return {"kernels": (1.0,), "bandwidth": 3.0, "estimate": estimate}


@pytest.mark.parametrize("estimate", ESTIMATES)
def test_grows_with_the_shift_between_the_domains(estimate):
    values = [
        float(mmd(*samples(64, 64, shift=shift), kernels=KERNELS, bandwidth=3.0, estimate=estimate))
        for shift in (0.0, 1.0, 2.0, 4.0)
    ]
    assert values == sorted(values)


@pytest.mark.parametrize("estimate", ["biased", "unbiased"])
def test_domains_and_rows_may_change_places(estimate):
    source, target = samples(7, 5)
    options = {"kernels": KERNELS, "bandwidth": "median", "estimate": estimate}
    value = mmd(source, target, **options)
    torch.testing.assert_close(value, mmd(target, source, **options))
    torch.testing.assert_close(value, mmd(source.flip(0), target.flip(0), **options))


@pytest.mark.parametrize("bandwidth", ["median", "mean"])
@pytest.mark.parametrize("estimate", ESTIMATES)
def test_bandwidth_from_the_data_makes_it_free_of_place_and_scale(estimate, bandwidth):
    source, target = samples(12, 12, dtype=torch.float32)
    options = {"kernels": KERNELS, "bandwidth": bandwidth, "estimate": estimate}
    value = mmd(source, target, **options)
    torch.testing.assert_close(value, mmd(source + 100, target + 100, **options), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(value, mmd(1e-6 * source, 1e-6 * target, **options), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(value, mmd(1e6 * source, 1e6 * target, **options), rtol=1e-4, atol=1e-5)


def test_linear_estimate_leaves_out_rows_that_have_no_partner():
    source, target = samples(7, 5)
    options = {"kernels": KERNELS, "bandwidth": "median", "estimate": "linear"}
    torch.testing.assert_close(mmd(source, target, **options), mmd(source[:4], target[:4], **options))


@pytest.mark.parametrize("estimate", ESTIMATES)
def test_gradient_is_right_at_a_fixed_bandwidth(estimate):
    source, target = (each.requires_grad_() for each in samples(4, 5))

    def loss(x, y):
        return mmd(x, y, kernels=KERNELS, bandwidth=3.0, estimate=estimate)

    assert torch.autograd.gradcheck(loss, (source, target))


@pytest.mark.parametrize("bandwidth", ["median", "mean"])
@pytest.mark.parametrize("estimate", ESTIMATES)
def test_no_gradient_passes_through_the_bandwidth(estimate, bandwidth):
    source, target = (each.requires_grad_() for each in samples())
    joint = torch.cat((source, target)).detach()
    distances = torch.pdist(joint).square()
    base = float(distances.mean() if bandwidth == "mean" else distances.median())

    def gradients(bandwidth):
        value = mmd(source, target, kernels=KERNELS, bandwidth=bandwidth, estimate=estimate)
        return torch.autograd.grad(value, (source, target))

    torch.testing.assert_close(gradients(bandwidth), gradients(base))


@pytest.mark.parametrize("bandwidth", BANDWIDTHS)
@pytest.mark.parametrize("estimate", ESTIMATES)
@pytest.mark.parametrize("value", [0.0, 0.1, -1e4])
def test_rows_that_all_coincide_give_zero_and_no_gradient(estimate, bandwidth, value):
    source = torch.full((5, 8), value, requires_grad=True)
    target = torch.full((4, 8), value, requires_grad=True)
    loss = mmd(source, target, kernels=KERNELS, bandwidth=bandwidth, estimate=estimate)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    assert torch.equal(source.grad, torch.zeros_like(source))
    assert torch.equal(target.grad, torch.zeros_like(target))


@pytest.mark.parametrize("estimate", ESTIMATES)
def test_a_median_of_zero_gives_way_to_the_mean(estimate):
    rows = torch.full((8, 16), 0.3)
    source, target = rows.clone(), rows.clone()
    target[-1] += torch.linspace(0, 1, 16)
    target[-2] += 0.7
    source.requires_grad_()
    options = {"kernels": KERNELS, "estimate": estimate}
    by_median, by_mean = (mmd(source, target, bandwidth=kind, **options) for kind in ("median", "mean"))
    assert torch.equal(by_median, by_mean)
    by_median.backward()
    assert source.grad.isfinite().all()
    assert float(source.grad.abs().max()) < 10


@pytest.mark.parametrize("scale", [1e-19, 1e-12, 1e15])
@pytest.mark.parametrize("bandwidth", ["median", "mean"])
def test_gradient_is_finite_for_features_of_any_size(scale, bandwidth):
    source, target = (scale * each.float() for each in samples())
    source.requires_grad_()
    mmd(source, target, kernels=KERNELS, bandwidth=bandwidth, estimate="biased").backward()
    assert source.grad.isfinite().all()


@pytest.mark.parametrize("estimate", ESTIMATES)
def test_rounding_never_lifts_a_kernel_above_one(estimate):
    source = 1e3 * samples(32, 32, dimensions=64, dtype=torch.float32)[0]
    twins = source + 1e-4 * torch.randn(32, 64, generator=torch.Generator().manual_seed(1))
    # Nearer to each other than the Gram matrix can tell, under a bandwidth that makes much of the difference.
    value = mmd(source, twins, kernels=KERNELS, bandwidth=1e-2, estimate=estimate)
    assert abs(float(value)) <= 2 * len(KERNELS)


@pytest.mark.parametrize("bandwidth", BANDWIDTHS)
@pytest.mark.parametrize("estimate", ESTIMATES)
def test_half_precision_under_autocast_gives_a_float32_value(estimate, bandwidth):
    source, target = (each.bfloat16() for each in samples(8, 8, dimensions=32))
    options = {"kernels": KERNELS, "bandwidth": bandwidth, "estimate": estimate}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = mmd(source, target, **options)
    assert value.dtype == torch.float32
    assert value.shape == ()
    assert float(value) == pytest.approx(naive(source, target, **options), abs=1e-5)


def test_descending_it_brings_the_domains_together():
    source, target = samples(32, 32, shift=3.0, dtype=torch.float32)
    offset = torch.zeros(3, requires_grad=True)
    for _ in range(100):
        value = mmd(source, target + offset, kernels=KERNELS, bandwidth="mean", estimate="biased")
        (gradient,) = torch.autograd.grad(value, offset)
        offset = (offset - gradient).detach().requires_grad_()
    between = (target + offset).mean(0) - source.mean(0)
    assert float(between.detach().norm()) < 0.5  # from 5.2; their spreads differ, so it need not be 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": torch.zeros(4, 3)}, r"\(4, 3\) and \(4, 2\)"),
        ({"source": torch.zeros(4)}, r"must be \(Ns, D\)"),
        ({"source": torch.zeros(0, 2)}, "the biased estimate needs 1 rows a domain, got 0 and 4"),
        ({"source": torch.zeros(1, 2), "estimate": "unbiased"}, "the unbiased estimate needs 2 rows"),
        ({"target": torch.zeros(1, 2), "estimate": "linear"}, "the linear estimate needs 2 rows a domain, got 4 and 1"),
        ({"estimate": "quadratic"}, "biased, unbiased or linear, got 'quadratic'"),
        ({"kernels": ()}, "at least one"),
        ({"kernels": (1.0, 0.0)}, "multiples above 0"),
        ({"bandwidth": 0.0}, "median, mean or above 0, got 0.0"),
        ({"bandwidth": "mode"}, "median, mean or above 0, got 'mode'"),
        ({"bandwidth": math.nan}, "median, mean or above 0, got nan"),
    ],
)
def test_what_cannot_be_computed_is_refused(change, message):
    arguments = {"source": torch.zeros(4, 2), "target": torch.zeros(4, 2), "kernels": KERNELS}
    arguments |= {"bandwidth": "mean", "estimate": "biased"} | change
    with pytest.raises(ValueError, match=message):
        mmd(arguments.pop("source"), arguments.pop("target"), **arguments)
