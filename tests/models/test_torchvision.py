from __future__ import annotations

import math
import urllib.error

import pytest
import torch

from tlrun.config import ConfigError
from tlrun.models import zoo
from tlrun.models.torchvision import models
from tlrun.models.transfer import reinitialise

FILE = "resnet18-f37072fd.pth"


@pytest.fixture(scope="module")
def network():
    """torchvision's own ResNet-18 with random weights and moved batch statistics."""
    torch.manual_seed(3)
    network = models().resnet18(weights=None)
    network.train()(torch.randn(8, 3, 32, 32))
    return network.eval()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub cache, and no network."""

    def refuse(*arguments, **options):
        raise urllib.error.URLError("no network here")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    return tmp_path / "hub" / "checkpoints"


def features_of(network, x):
    captured = []
    with network.avgpool.register_forward_hook(lambda module, inputs, output: captured.append(output.flatten(1))):
        logits = network(x)
    return captured[0], logits


def test_a_plain_state_dict_gives_torchvisions_features_and_logits(make, settings, network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "resnet18.pth")
    x = torch.randn(2, 3, 64, 64)
    features, logits = features_of(network, x)
    config = settings("resnet18", weights=str(tmp_path / "resnet18.pth"), head="keep")
    model = make("resnet18", num_classes=1000)
    loaded = zoo.load_weights(model, config, classes=tuple(map(str, range(1000))))
    output = model(x)
    torch.testing.assert_close(output.features, features)
    torch.testing.assert_close(output.logits, logits)
    assert loaded.stages == model.stage_names
    assert loaded.origin == str(tmp_path / "resnet18.pth")


def test_the_last_layer_of_a_plain_state_dict_is_left_out_by_default(make, settings, network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "resnet18.pth")
    config = settings("resnet18", weights=str(tmp_path / "resnet18.pth"))
    model = make("resnet18")
    head = model.head.out.weight.clone()
    loaded = zoo.load_weights(model, config, classes=tuple("0123456789"))
    assert loaded.stages == model.backbone_stages
    assert model.pretrained == set(model.backbone_stages)
    assert torch.equal(model.head.out.weight, head)


def test_keeping_a_last_layer_of_another_size_is_an_error(make, settings, network, tmp_path):
    path = tmp_path / "resnet18.pth"
    torch.save(network.state_dict(), path)
    model = make("resnet18")
    before = model.backbone.stages["stem"].conv1.weight.clone()
    with pytest.raises(ConfigError) as error:
        zoo.load_weights(model, settings("resnet18", weights=str(path), head="keep"), classes=tuple("0123456789"))
    assert str(error.value) == (
        f"model.head: {path} does not fit: head.out.weight is (1000, 512) there and (10, 512) here, "
        "head.out.bias is (1000,) there and (10,) here; "
        "set model.head=new, or model.head_type, model.hidden and model.bottleneck as they are there"
    )
    assert torch.equal(model.backbone.stages["stem"].conv1.weight, before)
    assert model.pretrained == set()


@pytest.mark.parametrize(("arch", "features"), [("resnet34", 512), ("resnet50", 2048)])
def test_other_residual_networks_fit_too(make, arch, features):
    model = make("resnet18", arch=arch)
    zoo.load_backbone(model, models().get_model(arch, weights=None).state_dict(), origin=arch)
    assert model.num_features == features


def test_files_older_than_the_batch_counter_fit(make, network):
    state = {name: tensor for name, tensor in network.state_dict().items() if "num_batches" not in name}
    model = make("resnet18")
    zoo.load_backbone(model, state, origin="old.pth")
    assert torch.equal(model.backbone.stages["stem"].bn1.running_mean, network.bn1.running_mean)


def test_fresh_stages_are_drawn_as_torchvision_draws_them(make):
    model = make("resnet18")
    weight = model.backbone.stages["layer3"][0].conv1.weight
    deviation = math.sqrt(2 / (256 * 9))
    built = weight.std().item()
    reinitialise(model, ["layer3"])
    assert built == pytest.approx(deviation, rel=0.01)
    assert weight.std().item() == pytest.approx(deviation, rel=0.01)


def test_imagenet_weights_are_taken_from_the_local_hub_cache(make, settings, network, hub):
    hub.mkdir(parents=True)
    torch.save(network.state_dict(), hub / FILE)
    model = make("resnet18")
    loaded = zoo.load_weights(model, settings("resnet18", weights="imagenet"), classes=("cat", "dog"))
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(model(x).features, features_of(network, x)[0])
    assert loaded.origin == f"imagenet ({FILE})"
    assert loaded.stages == model.backbone_stages


def test_imagenets_own_head_is_kept_for_imagenets_classes(make, settings, network, hub):
    hub.mkdir(parents=True)
    torch.save(network.state_dict(), hub / FILE)
    categories = tuple(models().get_model_weights("resnet18").DEFAULT.meta["categories"])
    model = make("resnet18", num_classes=1000)
    zoo.load_weights(model, settings("resnet18", weights="imagenet"), classes=categories)
    assert torch.equal(model.head.out.weight, network.fc.weight)
    with pytest.raises(ConfigError) as error:
        zoo.load_weights(model, settings("resnet18", weights="imagenet", head="keep"), classes=("cat", "dog"))
    assert str(error.value) == (
        f"model.head: keep needs weights trained for the same classes; imagenet ({FILE}) knows tench, goldfish, "
        "great white shark, tiger shark, hammerhead, electric ray, stingray, cock, hen, ostrich and 990 more, "
        "the data have cat, dog; set model.head=new"
    )


def test_imagenet_weights_that_cannot_be_had_are_an_error_that_names_file_and_folder(make, settings, hub):
    with pytest.raises(ConfigError) as error:
        zoo.load_weights(make("resnet18"), settings("resnet18", weights="imagenet"), classes=("cat", "dog"))
    assert str(error.value) == (
        f"model.weights: imagenet needs {FILE}, which is not in {hub} and could not be fetched from "
        f"https://download.pytorch.org/models/{FILE} (<urlopen error no network here>); put it there, "
        "or set model.weights=PATH to a local file"
    )


def test_imagenet_weights_of_a_small_network_are_an_error(make, settings):
    with pytest.raises(ConfigError) as error:
        zoo.load_weights(make("lenet"), settings("lenet", weights="imagenet"), classes=tuple("0123456789"))
    assert str(error.value) == (
        "model.weights: this model has no imagenet weights; set model.weights=random, source or a path"
    )
