from __future__ import annotations

import pytest
import torch
from torch import nn

from tlrun.batch import Encoded
from tlrun.config import ConfigError
from tlrun.models.transfer import Backbone, TransferModel, build_model, classifier, reinitialise, reset_parameters

STAGES = {
    "digits_cnn": ("conv1", "conv2"),
    "lenet": ("conv1", "conv2", "fc"),
    "dtn": ("conv1", "conv2", "conv3", "fc"),
    "mlp": ("hidden1", "hidden2"),
    "resnet18": ("stem", "layer1", "layer2", "layer3", "layer4"),
}
SHAPES = [(1, 28, 28), (3, 28, 28), (1, 32, 32), (3, 32, 32), (1, 16, 16), (3, 17, 21)]


def rows(shape, count=4):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))


def values(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize(
    ("file", "shape"), [(file, shape) for file in STAGES for shape in SHAPES if file != "resnet18" or shape[0] == 3]
)
def test_features_and_logits_have_the_promised_widths(make, file, shape):
    model = make(file, shape)
    output = model(rows(shape))
    assert output.logits.shape == (4, 10)
    assert output.features.shape == (4, model.num_features)
    assert model.num_features == model.backbone.out_features
    assert torch.equal(output.features, model.backbone(rows(shape).contiguous(memory_format=torch.channels_last)))


@pytest.mark.slow
@pytest.mark.parametrize("file", STAGES)
def test_stages_are_named_from_bottom_to_top(make, file):
    assert make(file).stage_names == (*STAGES[file], "head")
    assert make(file, bottleneck=16).stage_names == (*STAGES[file], "bottleneck", "head")
    assert make(file).backbone_stages == make(file).learning_stages == STAGES[file]


def test_stages_without_parameters_do_not_learn(settings):
    class Pooled(Backbone):
        def __init__(self):
            super().__init__({"fc": nn.Linear(2, 2), "relu": nn.ReLU()}, out_features=2)

    model = TransferModel(Pooled(), settings("lenet"), num_classes=2)
    assert model.learning_stages == ("fc",)
    assert model.backbone_stages == ("fc", "relu")


@pytest.mark.parametrize("bottleneck", [None, 16])
@pytest.mark.parametrize("file", STAGES)
def test_encoded_rows_give_the_same_bits_as_plain_rows_at_every_stage(make, file, bottleneck):
    model = make(file, bottleneck=bottleneck)
    x = rows((3, 28, 28))
    plain = model(x)
    for stage in range(len(model.stage_names)):
        encoded = model.encode_prefix(x, stage)
        assert encoded.stage == stage
        # A cache keeps rows in its own memory order.
        for kept in (encoded.x, encoded.x.clone(memory_format=torch.contiguous_format)):
            output = model(Encoded(kept, stage))
            assert torch.equal(output.logits, plain.logits)
            assert torch.equal(output.features, plain.features)
    assert torch.equal(encoded.x, plain.features)


def test_encoding_leaves_the_given_rows_untouched(make):
    model = make("digits_cnn")
    x = rows((3, 28, 28)).contiguous(memory_format=torch.channels_last)
    encoded = model.encode_prefix(x, 1)
    before = x.clone(), encoded.x.clone()
    model(encoded)
    assert torch.equal(x, before[0])
    assert torch.equal(encoded.x, before[1])


def test_encoded_rows_can_be_encoded_further(make):
    model = make("dtn")
    x = rows((3, 28, 28))
    further = model.encode_prefix(model.encode_prefix(x, 1), 3)
    assert torch.equal(further.x, model.encode_prefix(x, 3).x)
    assert further.stage == 3


@pytest.mark.parametrize(("first", "stage"), [(0, -1), (0, 3), (2, 1), (-1, 1)])
def test_there_is_no_encoding_downwards_or_beyond_the_head(make, first, stage):
    x = rows((3, 28, 28))
    with pytest.raises(ValueError, match=f"^cannot encode from stage {first} to {stage} of 3$"):
        make("digits_cnn").encode_prefix(Encoded(x, first), stage)


def test_stage_gives_the_module_of_that_name(make):
    model = make("lenet", bottleneck=16)
    assert model.stage("fc") is model.backbone.stages["fc"]
    assert model.stage("bottleneck") is model.bottleneck
    assert model.stage("head") is model.head
    with pytest.raises(ValueError, match=r"^no stage 'bottleneck', there are conv1, conv2, fc, head$"):
        make("lenet").stage("bottleneck")


def test_a_bottleneck_is_linear_batch_norm_relu(make):
    model = make("lenet", bottleneck=16)
    assert [type(layer) for layer in model.bottleneck] == [nn.Linear, nn.BatchNorm1d, nn.ReLU]
    output = model(rows((3, 28, 28)))
    assert output.features.shape == (4, 16)
    assert output.features.min() >= 0
    assert model.num_features == 16
    assert model.has_bottleneck
    assert not make("lenet").has_bottleneck


def test_a_linear_head_is_one_layer_named_out(make):
    model = make("lenet")
    assert {name: tuple(p.shape) for name, p in model.head.named_parameters()} == {
        "out.weight": (10, 500),
        "out.bias": (10,),
    }


def test_an_mlp_head_has_a_hidden_layer_with_relu(make):
    model = make("lenet", head_type="mlp", hidden=7)
    names = {name: tuple(p.shape) for name, p in model.head.named_parameters()}
    assert names == {"hidden1.weight": (7, 500), "hidden1.bias": (7,), "out.weight": (10, 7), "out.bias": (10,)}
    x = rows((3, 28, 28))
    output = model(x)
    by_hand = model.head.out(torch.relu(model.head.hidden1(output.features)))
    assert torch.equal(output.logits, by_hand)


def test_parameter_names_do_not_depend_on_dropout(make):
    for head_type in ("linear", "mlp"):
        plain, dropped = (make("lenet", head_type=head_type, dropout=rate) for rate in (0.0, 0.5))
        assert plain.state_dict().keys() == dropped.state_dict().keys()


@pytest.mark.parametrize("hidden", [(), (1000,)])
def test_dropout_of_the_head_acts_in_training_only(hidden):
    torch.manual_seed(0)
    head = classifier(1000, hidden, 1, dropout=0.5)
    head.out = nn.Identity()
    x = torch.rand(8, 1000) + 0.5
    kept = head.eval()(x) != 0
    dropped = head.train()(x)[kept] == 0
    assert 0.45 < dropped.float().mean() < 0.55
    assert torch.equal(head.eval()(x) != 0, kept)


@pytest.mark.slow
@pytest.mark.parametrize("file", STAGES)
def test_the_seed_decides_the_parameters(settings, file):
    def built(seed):
        torch.manual_seed(seed)
        return values(build_model(settings(file), shape=(3, 28, 28), num_classes=10))

    first, again, other = built(0), built(0), built(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.out.weight"], other["head.out.weight"])


@pytest.mark.parametrize("file", ["digits_cnn", "lenet", "dtn", "resnet18"])
def test_models_of_images_are_channels_last(make, file):
    weights = [p for p in make(file).parameters() if p.dim() == 4]
    assert weights
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)


def test_stages_receive_images_channels_last_in_whatever_order_they_come(make):
    model = make("digits_cnn")
    orders = []
    for stage in model.backbone.stages.values():
        stage.register_forward_pre_hook(
            lambda module, inputs: orders.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
        )
    x = rows((3, 28, 28))
    assert not x.is_contiguous(memory_format=torch.channels_last)
    model(x)
    model(Encoded(model.encode_prefix(x, 1).x.contiguous(), 1))
    assert orders == [True] * 4


@pytest.mark.slow
@pytest.mark.parametrize("file", STAGES)
def test_reinitialise_changes_the_named_stages_and_no_other(make, file):
    model = make(file, bottleneck=16)
    names = model.stage_names
    for name in names:
        model.pretrained = set(names)
        before = values(model)
        reinitialise(model, [name])
        inside = f"{name}." if name in ("bottleneck", "head") else f"backbone.stages.{name}."
        after = model.state_dict()
        for key in before:
            drawn = key.startswith(inside) and key.endswith("weight") and after[key].dim() > 1
            if drawn:
                assert not torch.equal(before[key], after[key]), key
            if not key.startswith(inside):
                assert torch.equal(before[key], after[key]), key
        assert model.pretrained == set(names) - {name}


def test_reinitialise_is_decided_by_the_seed_and_not_by_the_order_of_names(make):
    results = []
    for names in (["conv2", "head"], ["head", "conv2"], ("conv2", "head")):
        model = make("digits_cnn")
        torch.manual_seed(5)
        reinitialise(model, names)
        results.append(values(model))
    assert all(torch.equal(results[0][key], result[key]) for result in results for key in results[0])


def test_reinitialise_starts_batch_statistics_anew(make):
    model = make("dtn").train()
    model(rows((3, 28, 28)))
    reinitialise(model, ["conv2"])
    moved, fresh = model.backbone.stages["conv1"][1], model.backbone.stages["conv2"][1]
    assert moved.num_batches_tracked == 1
    assert fresh.num_batches_tracked == 0
    assert torch.equal(fresh.running_mean, torch.zeros(128))


def test_reinitialise_refuses_a_name_that_is_no_stage(make):
    with pytest.raises(ValueError, match=r"^no stage conv9, there are conv1, conv2, head$"):
        reinitialise(make("digits_cnn"), ["conv1", "conv9"])


def test_a_layer_that_cannot_be_drawn_anew_is_named():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = nn.Parameter(torch.ones(1))

    with pytest.raises(ValueError, match=r"^Scale has parameters but no reset_parameters\(\)$"):
        reset_parameters(nn.Sequential(nn.Linear(1, 1), Scale()))


@pytest.mark.parametrize("file", ["digits_cnn", "lenet", "dtn"])
def test_too_small_images_are_an_error_that_names_the_smallest(make, file):
    with pytest.raises(ConfigError) as error:
        make(file, (3, 15, 20))
    assert str(error.value) == (
        f"data.image_size: {file} takes at least 16 x 16 pixels, got 15 x 20; set data.image_size=16 or more"
    )


@pytest.mark.parametrize("file", ["digits_cnn", "lenet", "dtn", "resnet18"])
def test_models_of_images_refuse_tabular_rows(make, file):
    with pytest.raises(ConfigError) as error:
        make(file, (2,))
    assert str(error.value) == (
        f"model: {file} takes images (channels, height, width), got rows of shape (2,); choose model=mlp"
    )


def test_resnet_refuses_grey_images(make):
    with pytest.raises(ConfigError) as error:
        make("resnet18", (1, 28, 28))
    assert str(error.value) == "data.channels: resnet18 takes 3 channels, got 1; set data.channels=3 or auto"


def test_mlp_takes_tabular_rows_and_images(make):
    assert make("mlp", (2,), widths=[5])(rows((2,))).features.shape == (4, 5)
    model = make("mlp", (3, 8, 8), widths=[6, 5, 4])
    assert model.stage_names == ("hidden1", "hidden2", "hidden3", "head")
    x = rows((3, 8, 8))
    by_hand = x.reshape(4, -1)
    for stage in model.backbone.stages.values():
        by_hand = torch.relu(next(layer for layer in stage if isinstance(layer, nn.Linear))(by_hand))
    assert torch.equal(model(x).features, by_hand)


@pytest.mark.parametrize("file", STAGES)
def test_gradients_reach_every_parameter(make, file):
    model = make(file, bottleneck=16, head_type="mlp").train()
    model(rows((3, 28, 28), count=8)).logits.logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
