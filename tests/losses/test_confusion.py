"""Certainty weights and class confusion against loops over rows and classes."""

from __future__ import annotations

import math

import pytest
import torch

from tlrun.losses.confusion import certainty_weight, class_confusion


@pytest.fixture
def logits():
    return 3 * torch.randn(7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def softmax(row, temperature=1.0):
    powers = [math.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def weights(rows):
    raw = [1 + math.exp(sum(p * math.log(p) for p in row)) for row in rows]
    return [len(rows) * value / sum(raw) for value in raw]


def naive(logits, temperature):
    rows = [softmax(row, temperature) for row in logits.tolist()]
    weight, classes = weights(rows), range(logits.shape[1])
    matrix = [[sum(w * row[i] * row[j] for w, row in zip(weight, rows, strict=True)) for j in classes] for i in classes]
    off = [sum(matrix[i][j] / sum(matrix[i]) for j in classes if j != i) for i in classes]
    return sum(off) / len(off)


def test_weights_agree_with_the_loop_and_have_mean_1(logits):
    found = certainty_weight(logits)
    assert found.tolist() == pytest.approx(weights([softmax(row) for row in logits.tolist()]))
    assert float(found.mean()) == pytest.approx(1.0)


def test_a_certain_row_weighs_nearly_twice_one_that_knows_nothing_of_many_classes():
    logits = torch.zeros(2, 1000)
    logits[0, 3] = 100.0
    certain, blank = certainty_weight(logits).tolist()
    assert certain / blank == pytest.approx(2 / 1.001)


def test_no_gradient_passes_through_the_weights(logits):
    assert not certainty_weight(logits.requires_grad_()).requires_grad


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_confusion_agrees_with_the_loop(logits, temperature):
    assert float(class_confusion(logits, temperature=temperature)) == pytest.approx(naive(logits, temperature))


def test_confusion_is_0_where_every_row_is_certain_and_greatest_where_none_is():
    certain = 100 * torch.eye(5).repeat(3, 1)
    assert float(class_confusion(certain, temperature=1.0)) == pytest.approx(0.0, abs=1e-6)
    assert float(class_confusion(torch.zeros(6, 5), temperature=1.0)) == pytest.approx(1 - 1 / 5)


def test_classes_that_no_row_holds_do_not_break_it():
    logits = torch.full((4, 3), -1e4)
    logits[:, 0] = 1e4
    logits.requires_grad_()
    loss = class_confusion(logits, temperature=1.0)
    loss.backward()
    assert loss.item() == 0.0 and torch.isfinite(logits.grad).all()


def test_descending_it_makes_predictions_certain(logits):
    logits = logits.clone().requires_grad_()
    before = class_confusion(logits, temperature=2.5)
    (gradient,) = torch.autograd.grad(before, logits)
    assert class_confusion(logits - 5 * gradient, temperature=2.5) < before


def test_half_precision_under_autocast_gives_a_float32_loss(logits):
    half = logits.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = class_confusion(half, temperature=2.5)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, class_confusion(half.float(), temperature=2.5))


@pytest.mark.parametrize("shape", [(4,), (0, 3), (2, 3, 4)])
def test_logits_of_another_shape_are_refused(shape):
    for function in (certainty_weight, lambda logits: class_confusion(logits, temperature=1.0)):
        with pytest.raises(ValueError, match=r"logits must be \(N, C\) with N > 0"):
            function(torch.zeros(shape))


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_not_above_0_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature must be above 0"):
        class_confusion(torch.zeros(2, 3), temperature=temperature)
