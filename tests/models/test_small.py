"""The small networks against the papers' layouts, counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_digits_cnn_has_the_parameters_of_the_papers_figure(make, channels, batch_norm):
    model = make("digits_cnn", (channels, 28, 28), batch_norm=batch_norm)
    norm = 2 * 32 + 2 * 48 if batch_norm else 0
    assert count(model.backbone) == (32 * channels * 25 + 32) + (48 * 32 * 25 + 48) + norm
    assert count(model.head) == (768 * 100 + 100) + (100 * 100 + 100) + (100 * 10 + 10)
    assert model.num_features == 768


def test_digits_cnn_without_batch_norm_is_the_papers_function(make):
    model = make("digits_cnn", batch_norm=False)
    x = torch.randn(4, 3, 28, 28)
    conv1, conv2 = (model.backbone.stages[name][0] for name in ("conv1", "conv2"))
    pool = nn.MaxPool2d(2, stride=2)
    features = pool(torch.relu(conv2(pool(torch.relu(conv1(x)))))).flatten(1)
    head = model.head
    logits = head.out(torch.relu(head.hidden2(torch.relu(head.hidden1(features)))))
    output = model(x)
    torch.testing.assert_close(output.features, features)
    torch.testing.assert_close(output.logits, logits)


def test_digits_cnn_drops_whole_maps_in_training_only(make):
    model = make("digits_cnn", map_dropout=0.5, batch_norm=False)
    x = torch.randn(64, 3, 28, 28)
    kept = model(x).features.view(64, 48, 16).ne(0).any(dim=2)
    stages = model.backbone.stages
    stages["conv2"].train()
    maps = model(x).features.view(64, 48, 16)
    dropped = maps.eq(0).all(dim=2)[kept].float().mean()
    assert 0.45 < dropped < 0.55
    assert [layer.p for layer in model.backbone.modules() if isinstance(layer, nn.Dropout2d)] == [0.5, 0.5]


def test_digits_cnn_takes_a_head_of_one_hidden_layer_or_none(make):
    assert count(make("digits_cnn", hidden_layers=1).head) == (768 * 100 + 100) + (100 * 10 + 10)
    assert count(make("digits_cnn", head_type="linear").head) == 768 * 10 + 10


def test_lenet_has_the_parameters_of_the_cdan_lines_network(make):
    model = make("lenet", (1, 28, 28))
    assert count(model) == (20 * 25 + 20) + (50 * 20 * 25 + 50) + (800 * 500 + 500) + (500 * 10 + 10)
    assert [layer.p for layer in model.modules() if isinstance(layer, nn.Dropout | nn.Dropout2d)] == [0.5, 0.5, 0.0]


def test_dtn_has_the_parameters_of_the_cdan_lines_network(make):
    model = make("dtn", (3, 32, 32))
    convolutions = (64 * 75 + 64) + (128 * 64 * 25 + 128) + (256 * 128 * 25 + 256)
    norms = 2 * (64 + 128 + 256 + 512)
    assert count(model) == convolutions + norms + (256 * 4 * 4 * 512 + 512) + (512 * 10 + 10)
    rates = [layer.p for layer in model.modules() if isinstance(layer, nn.Dropout | nn.Dropout2d)]
    assert rates == [0.1, 0.3, 0.5, 0.5, 0.0]


def test_mlp_has_a_stage_for_each_width(make):
    model = make("mlp", (2,), widths=[8, 4])
    assert count(model) == (2 * 8 + 8) + (8 * 4 + 4) + (4 * 10 + 10)


def test_mlp_needs_a_width(settings):
    with pytest.raises(ValueError, match="at least 1 item"):
        settings("mlp", widths=[])
