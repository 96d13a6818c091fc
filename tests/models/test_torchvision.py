from __future__ import annotations

import hashlib
import math
import types
import urllib.error

import pytest
import torch

from tests.data.server import serve
from tlrun.compose.resolve import name_choices
from tlrun.config import ConfigError
from tlrun.models import zoo
from tlrun.models.torchvision import models, published_weights
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


@pytest.mark.slow
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


@pytest.mark.slow
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
    weight = model.backbone.get_parameter("stages.layer3.layer3.0.conv1.weight")
    deviation = math.sqrt(2 / (256 * 9))
    built = weight.std().item()
    before = model.state_dict()["backbone.stages.layer2.layer2.0.conv1.weight"].clone()
    old = weight.clone()
    reinitialise(model, ["layer3"])
    assert torch.equal(model.state_dict()["backbone.stages.layer2.layer2.0.conv1.weight"], before)
    assert not torch.equal(weight, old)
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
        f"model.weights: imagenet needs {FILE}, found neither in model.weights_root (TLRUN_WEIGHTS, not set) nor in "
        f"{hub}; fetch it from https://download.pytorch.org/models/{FILE} with model.download=true (45 MB), or put it "
        "there by hand, or name it with model.weights_file=PATH, or set model.weights=random"
    )


def test_weights_that_cannot_be_fetched_say_why_and_where_to_put_them(make, settings, hub):
    config = settings("resnet18", weights="imagenet", download=True)
    with pytest.raises(ConfigError) as error:
        zoo.load_weights(make("resnet18"), config, classes=("cat", "dog"))
    assert str(error.value) == (
        f"model.download: {FILE} could not be fetched from https://download.pytorch.org/models/{FILE} "
        f"(<urlopen error no network here>); put it into {hub} or model.weights_root by hand, or name it with "
        "model.weights_file=PATH"
    )


@pytest.mark.slow
def test_weights_are_fetched_once_and_held_against_their_published_hash(make, settings, network, tmp_path, monkeypatch):
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    content = (tmp_path / "weights.pth").read_bytes()
    sound, other = f"resnet18-{hashlib.sha256(content).hexdigest()[:8]}.pth", "resnet18-00000000.pth"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    config = settings("resnet18", weights="imagenet", download=True)
    entry = published_weights("resnet18")

    def load(server, name):
        model = make("resnet18")
        served = types.SimpleNamespace(url=server.address(name), meta=entry.meta)
        with monkeypatch.context() as patch:
            patch.setattr("tlrun.models.torchvision.published_weights", lambda arch: served)
            zoo.load_weights(model, config, classes=("cat", "dog"))
        return model

    with serve({sound: content, other: content}) as server:
        with pytest.raises(ConfigError, match="model.download: .* could not be fetched .*invalid hash value"):
            load(server, other)
        for _ in range(2):
            model = load(server, sound)
            assert torch.equal(model.backbone.get_parameter("stages.stem.conv1.weight"), network.conv1.weight)
        assert [name for name, _ in server.asked] == [other, sound]


@pytest.mark.parametrize("setting", ["weights_file", "weights_root"])
def test_published_weights_are_read_from_a_file_or_a_folder_of_the_users(
    make, settings, network, hub, tmp_path, setting
):
    path = tmp_path / FILE
    torch.save(network.state_dict(), path)
    config = settings("resnet18", weights="imagenet", **{setting: str(path if setting == "weights_file" else tmp_path)})
    model = make("resnet18")
    assert zoo.load_weights(model, config, classes=("cat", "dog")).origin == f"imagenet ({FILE})"
    assert torch.equal(model.backbone.get_parameter("stages.stem.conv1.weight"), network.conv1.weight)


def test_a_file_or_folder_of_weights_that_is_not_there_is_named(make, settings, hub, tmp_path):
    for setting, kind in (("weights_file", "file"), ("weights_root", "folder")):
        config = settings("resnet18", weights="imagenet", **{setting: str(tmp_path / "nowhere")})
        with pytest.raises(ConfigError, match=f"model.{setting}: no {kind} {tmp_path / 'nowhere'}; name one"):
            zoo.load_weights(make("resnet18"), config, classes=("cat", "dog"))


def test_a_file_of_published_weights_needs_weights_imagenet(make, settings):
    with pytest.raises(ConfigError, match="model.weights_file: has no effect with model.weights=random; set imagenet"):
        zoo.load_weights(make("resnet18"), settings("resnet18", weights="random", weights_file="x.pth"), classes=("a",))


@pytest.mark.parametrize("name", ["torchvision", "timm"])
def test_a_network_that_is_not_named_is_told_as_missing(config, name):
    with pytest.raises(ConfigError) as error:
        name_choices(config("data=mnist_mnistm", f"model={name}"))
    (problem,) = error.value.problems
    assert problem.startswith("model.arch: must be given, such as ") and problem.endswith(" names them all")


def test_an_unknown_network_is_named_with_near_ones(make):
    with pytest.raises(ConfigError, match="torchvision has no classification model 'resnet19'; did you mean resnet1"):
        make("torchvision", arch="resnet19")


@pytest.mark.parametrize(
    ("arch", "side", "weights", "message"),
    [
        (
            "vit_b_16",
            40,
            "random",
            r"vit_b_16 takes no images of 40 x 40 pixels \(.*\); set data.image_size=224, or auto",
        ),
        ("vit_b_16", 32, "imagenet", r"of 32 x 32 pixels \(its weights are for one size\); set data.image_size=224"),
        ("maxvit_t", 60, "random", "maxvit_t takes no images of 60 x 60 pixels"),
        ("alexnet", 16, "random", "alexnet takes no images of 16 x 16 pixels"),
    ],
)
def test_sizes_that_a_network_cannot_take_are_refused(make, arch, side, weights, message):
    with pytest.raises(ConfigError, match=f"data.image_size: .*{message}"):
        make("torchvision", (3, side, side), arch=arch, weights=weights)


def test_a_network_for_colour_refuses_grey_images_and_says_what_to_set(make):
    with pytest.raises(
        ConfigError, match="data.channels: resnet18 takes 3 channels, got 1; set data.channels=3 or auto"
    ):
        make("resnet18", (1, 64, 64))


def test_imagenet_weights_of_a_small_network_are_an_error(make, settings):
    with pytest.raises(ConfigError) as error:
        zoo.load_weights(make("lenet"), settings("lenet", weights="imagenet"), classes=tuple("0123456789"))
    assert str(error.value) == (
        "model.weights: this model has no imagenet weights; set model.weights=random, source or a path"
    )
