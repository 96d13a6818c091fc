"""The domain discriminator: its shape, its parameters, and that it can learn."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tlrun.layers.discriminator import Discriminator
from tlrun.losses.adversarial import domain_accuracy, domain_loss


@pytest.mark.parametrize("hidden", [(), (5,), (7, 5)])
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("rows", [2, 9])
def test_gives_one_logit_a_row(hidden, batch_norm, rows):
    discriminator = Discriminator(6, hidden, dropout=0.5, batch_norm=batch_norm)
    assert discriminator(torch.randn(rows, 6)).shape == (rows,)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_parameters_are_counted_by_hand(batch_norm):
    discriminator = Discriminator(6, (7, 5), dropout=0.1, batch_norm=batch_norm)
    count = sum(parameter.numel() for parameter in discriminator.parameters())
    assert count == (6 * 7 + 7) + (7 * 5 + 5) + (5 + 1) + (2 * (7 + 5) if batch_norm else 0)


def test_is_the_function_written_out():
    discriminator = Discriminator(6, (4,), dropout=0.0, batch_norm=False)
    first, _, last = discriminator.layers
    x = torch.randn(3, 6)
    torch.testing.assert_close(discriminator(x), last(torch.relu(first(x)))[:, 0])


def test_ends_in_a_logit_of_either_sign_and_any_size():
    discriminator = Discriminator(6, (), dropout=0.0, batch_norm=False)
    logits = discriminator(1000 * torch.randn(100, 6))
    assert logits.min() < -10
    assert logits.max() > 10


def test_dropout_works_in_training_and_rests_in_evaluation():
    torch.manual_seed(0)
    discriminator = Discriminator(6, (50,), dropout=0.5, batch_norm=False)
    x = torch.randn(3, 6)
    assert not torch.equal(discriminator(x), discriminator(x))
    discriminator.eval()
    assert torch.equal(discriminator(x), discriminator(x))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_no_part_is_there_unasked(batch_norm):
    kinds = [type(each) for each in Discriminator(6, (4, 4), dropout=0.0, batch_norm=batch_norm).modules()]
    assert nn.Dropout not in kinds
    assert kinds.count(nn.BatchNorm1d) == (2 if batch_norm else 0)


def test_learns_to_tell_two_clusters_apart():
    torch.manual_seed(0)
    source, target = torch.randn(64, 6) + 1, torch.randn(64, 6) - 1
    discriminator = Discriminator(6, (8,), dropout=0.0, batch_norm=True)
    for _ in range(50):
        logits = discriminator(torch.cat((source, target)))
        gradients = torch.autograd.grad(domain_loss(logits[:64], logits[64:]), list(discriminator.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(discriminator.parameters(), gradients, strict=True):
                parameter -= 0.5 * gradient
    logits = discriminator(torch.cat((source, target)))
    assert float(domain_accuracy(logits[:64], logits[64:])) > 0.95


@pytest.mark.parametrize(("in_features", "hidden"), [(0, (4,)), (4, (0,))])
def test_a_size_below_one_is_refused(in_features, hidden):
    with pytest.raises(ValueError, match="sizes must be at least 1"):
        Discriminator(in_features, hidden, dropout=0.0, batch_norm=False)


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_dropout_out_of_range_is_refused(dropout):
    with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\)"):
        Discriminator(4, (4,), dropout=dropout, batch_norm=False)
