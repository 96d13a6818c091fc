"""The adversarial game's loss, score and ramp against torch, loops and the paper's formula."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from tlrun.losses.adversarial import domain_accuracy, domain_loss, ramp


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return 3 * torch.randn(5), 3 * torch.randn(8)


@pytest.mark.parametrize("inverted", [False, True])
def test_domain_loss_is_the_mean_of_the_two_domains_cross_entropies(logits, inverted):
    source, target = logits
    expected = 0.0
    for domain, label in ((source, 1.0), (target, 0.0)):
        label = 1 - label if inverted else label
        for logit in domain.tolist():
            right = 1 / (1 + math.exp(-logit))
            expected -= (label * math.log(right) + (1 - label) * math.log(1 - right)) / len(domain) / 2
    assert float(domain_loss(source, target, inverted=inverted)) == pytest.approx(expected, rel=1e-5)


def test_domain_loss_agrees_with_torch_where_the_domains_are_of_equal_size(logits):
    source, target = logits[0], logits[1][:5]
    labels = torch.cat((torch.ones(5), torch.zeros(5)))
    expected = F.binary_cross_entropy_with_logits(torch.cat((source, target)), labels)
    torch.testing.assert_close(domain_loss(source, target), expected)


@pytest.mark.parametrize("inverted", [False, True])
def test_a_discriminator_that_knows_nothing_costs_ln_2(inverted):
    loss = domain_loss(torch.zeros(3), torch.zeros(9), inverted=inverted)
    assert float(loss) == pytest.approx(math.log(2))


def test_a_domain_counts_the_same_however_many_rows_it_has(logits):
    source, target = logits
    torch.testing.assert_close(domain_loss(source, target), domain_loss(source, target.repeat(7)))


def test_weights_say_how_much_a_row_counts(logits):
    source, target = logits
    twice = torch.tensor([2.0, 0.0, 1.0, 1.0, 1.0])
    expected = domain_loss(torch.stack([source[index] for index in (0, 0, 2, 3, 4)]), target)
    torch.testing.assert_close(domain_loss(source, target, weights=(twice, torch.ones(8))), expected)


def test_weights_of_another_number_are_refused(logits):
    with pytest.raises(ValueError, match="weights must be as many as logits, got"):
        domain_loss(*logits, weights=(torch.ones(5), torch.ones(7)))


def test_inverted_labels_are_the_domains_exchanged(logits):
    source, target = logits
    torch.testing.assert_close(domain_loss(source, target, inverted=True), domain_loss(target, source))


def test_inverted_labels_pull_where_the_reversed_gradient_has_faded():
    source = torch.full((4,), 20.0, requires_grad=True)
    target = torch.full((4,), -20.0, requires_grad=True)
    (reversed_,) = torch.autograd.grad(-domain_loss(source, target), source)
    (inverted,) = torch.autograd.grad(domain_loss(source, target, inverted=True), source)
    assert (inverted > 0).all()  # both push a source row towards "target", one of them with force
    assert (reversed_ >= 0).all()
    assert float(inverted[0]) == pytest.approx(0.5 / 4, rel=1e-3)
    assert float(reversed_[0]) < 1e-8


def test_domain_loss_of_enormous_logits_is_finite():
    source, target = torch.tensor([-1e4, 1e4]), torch.tensor([1e4, -1e4])
    assert float(domain_loss(source, target)) == pytest.approx(5e3)


@pytest.mark.parametrize("inverted", [False, True])
def test_gradient_is_right(logits, inverted):
    inputs = tuple(each.double().requires_grad_() for each in logits)
    assert torch.autograd.gradcheck(lambda s, t: domain_loss(s, t, inverted=inverted), inputs)


def test_half_precision_under_autocast_gives_a_float32_loss(logits):
    source, target = (each.bfloat16() for each in logits)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = domain_loss(source, target)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, domain_loss(source.float(), target.float()))


def test_domain_accuracy_is_the_mean_of_the_two_domains_accuracies():
    source = torch.tensor([1.0, 2.0, -1.0, 0.5])
    target = torch.tensor([-1.0, 1.0])
    assert float(domain_accuracy(source, target)) == pytest.approx((3 / 4 + 1 / 2) / 2)


@pytest.mark.parametrize("answer", [-1.0, 0.0, 1.0])
def test_one_answer_for_all_rows_is_worth_one_half(answer):
    assert float(domain_accuracy(torch.full((3,), answer), torch.full((30,), answer))) == 0.5


def test_domain_accuracy_has_no_gradient(logits):
    source, target = (each.requires_grad_() for each in logits)
    assert not domain_accuracy(source, target).requires_grad


@pytest.mark.parametrize("function", [domain_loss, domain_accuracy])
@pytest.mark.parametrize("shape", [(4, 1), (0,), ()])
def test_logits_of_another_shape_are_refused(function, shape):
    for arguments in ((torch.zeros(shape), torch.zeros(4)), (torch.zeros(4), torch.zeros(shape))):
        with pytest.raises(ValueError, match=r"must be \(N,\) with N > 0"):
            function(*arguments)


@pytest.mark.parametrize("steepness", [0.1, 1.0, 10.0, 1000.0])
@pytest.mark.parametrize("fraction", [0.0, 1e-9, 0.1, 0.5, 1.0])
def test_ramp_is_the_papers_formula(fraction, steepness):
    expected = 2 / (1 + math.exp(-steepness * fraction)) - 1
    assert ramp(fraction, steepness=steepness) == pytest.approx(expected, abs=1e-15)


def test_ramp_runs_from_zero_to_almost_one():
    values = [ramp(step / 100, steepness=10) for step in range(101)]
    assert values[0] == 0
    assert values == sorted(values)
    assert values[-1] == pytest.approx(0.99990920)


@pytest.mark.parametrize("steepness", [0.0, -1.0, math.nan])
def test_ramp_without_a_slope_is_refused(steepness):
    with pytest.raises(ValueError, match="steepness must be above 0"):
        ramp(0.5, steepness=steepness)


@pytest.mark.parametrize("fraction", [-0.1, 1.1, math.nan])
def test_ramp_outside_of_training_is_refused(fraction):
    with pytest.raises(ValueError, match=r"fraction must be in \[0, 1\]"):
        ramp(fraction, steepness=10)
