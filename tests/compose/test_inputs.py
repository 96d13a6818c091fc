"""What images become follows from the model's published weights where that is left to it, and is told where it does not."""

from __future__ import annotations

import pytest

from tlrun.compose.inputs import departures
from tlrun.compose.resolve import name_choices
from tlrun.config import ConfigError
from tlrun.run import digest

HALF = (0.5, 0.5, 0.5)
LITE = "model=efficientnet_lite0"


@pytest.mark.parametrize(
    ("overrides", "normalize"),
    [
        ([], "shared"),
        (["model=resnet18", "model.weights=random"], "shared"),
        ([LITE, "strategy=scratch", "data.target_labels=10"], "shared"),
        ([LITE], "model"),
        ([LITE, "model.weights=source"], "model"),
        ([LITE, "model.weights=source", "pretrain.weights=random"], "shared"),
        ([LITE, "data.normalize=per_domain"], "per_domain"),
    ],
)
def test_normalisation_is_the_models_where_its_published_weights_are_the_start(config, overrides, normalize):
    data = name_choices(config("data=mnist_usps", "data.channels=3", *overrides)).data
    assert data.normalize == normalize
    assert (data.mean, data.std) == ((HALF, HALF) if normalize == "model" else (None, None))


GREY = ("mnist_usps", "usps_mnist", "mnist_digits", "mnist_degraded", "fashion_degraded")


@pytest.mark.parametrize(
    ("overrides", "model"),
    [
        (["data=mnist_usps"], "lenet"),
        (["data=usps_mnist"], "lenet"),
        (["data=usps_mnist", "model=dtn"], "dtn"),
        (["experiment=mnist_usps_dann"], "digits_cnn"),
        (["data=mnist_mnistm"], "digits_cnn"),
    ],
)
def test_a_pair_may_bring_its_usual_model_where_none_is_asked_for(config, overrides, model):
    assert config(*overrides).model.name == model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pair", "model", "channels"),
    [
        *((pair, model, channels) for pair in GREY for model, channels in (("lenet", 1), ("resnet18", 3))),
        *(("mnist_usps", model, 1) for model in ("digits_cnn", "mlp")),
        *(("mnist_usps", model, 3) for model in ("timm model.arch=resnet18", "efficientnet_lite0")),
    ],
)
def test_pairs_of_grey_images_have_as_many_channels_as_the_model_must_have(config, pair, model, channels):
    asked = [f"data={pair}", *f"model={model} model.weights=random".split()]
    found = name_choices(config(*asked))
    assert found.data.num_channels == channels
    assert digest(found) == digest(name_choices(config(*asked, f"data.channels={channels}")))


def test_grey_images_in_three_channels_meet_published_weights_under_the_published_mean(config):
    data = name_choices(config(LITE, "data=mnist_usps")).data
    assert (data.num_channels, data.normalize, data.mean) == (3, "model", HALF)
    assert name_choices(config(LITE, "data=mnist_usps", "data.channels=1")).data.normalize == "shared"


@pytest.mark.slow
def test_size_crop_and_interpolation_are_the_models(config):
    data = name_choices(config(LITE, "data.image_size=auto")).data
    assert (data.side, data.centre_fraction, data.resampling) == (224, 0.875, "bicubic")
    data = name_choices(config()).data
    assert (data.side, data.centre_fraction, data.resampling) == (28, 0.875, "bilinear")


def test_named_inputs_stay_named(config):
    once = name_choices(config(LITE, "data.image_size=auto"))
    assert name_choices(once) == once


def test_a_model_without_published_weights_has_no_inputs_to_give(config):
    with pytest.raises(ConfigError) as error:
        name_choices(config("data.image_size=auto", "data.normalize=model"))
    assert str(error.value).splitlines() == [
        "data.image_size: auto is the size that a model's published weights were trained at, and model digits_cnn has "
        "none; set a number of pixels",
        "data.normalize: model is by the mean and std that a model's published weights were trained with, and model "
        "digits_cnn has none; set shared or per_domain, or data.mean and data.std",
    ]


def test_departures_from_what_the_weights_were_trained_on_are_told(config):
    assert departures(name_choices(config(LITE, "data=mnist_usps", "data.channels=3", "data.image_size=224"))) == []
    assert departures(name_choices(config())) == []
    assert departures(name_choices(config(LITE, "data.normalize=shared"))) == [
        "the model sees images of 28 pixels a side, its weights were trained on 224",
        f"inputs are normalised by the source's own mean and std, the weights were trained with mean {HALF} and std {HALF}",
    ]
