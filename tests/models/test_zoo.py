from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from tlrun.config import ConfigError
from tlrun.models import zoo

DIGITS = tuple("0123456789")
ADVICE = "take the model, data.channels and data.image_size that it was made with"
UNREADABLE = "cannot be read as weights, it is damaged or something else; name another file"


def checkpoint(model, path, classes=DIGITS, **changes):
    """Writes what a run writes, and more than a model needs."""
    content = {"format": 1, "model": model.state_dict(), "classes": list(classes), "config": {"seed": 0}}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({**content, "progress": {"step": 3}, **changes}, path)
    return path


def other(make, file="digits_cnn", **changes):
    """A model whose every value differs from that of a freshly made one."""
    model = make(file, **changes)
    for tensor in model.state_dict().values():
        tensor += 1
    return model


def fails(model, config, *, classes=DIGITS, source=None):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ConfigError) as error:
        zoo.load_weights(model, config, classes=classes, source=source)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model.pretrained == set()
    return str(error.value)


def test_random_weights_leave_the_model_as_it_was_built(make, settings):
    model, untouched = make("lenet"), make("lenet")
    loaded = zoo.load_weights(model, settings("lenet", weights="random"), classes=DIGITS)
    assert loaded == zoo.LoadedWeights("random", None, ())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), untouched.parameters(), strict=True))


def test_random_weights_have_no_head_to_keep(make, settings):
    assert fails(make("lenet"), settings("lenet", weights="random", head="keep")) == (
        "model.head: keep needs weights with a head, got model.weights=random; set model.head=auto"
    )


def test_unresolved_weights_are_refused(make, settings):
    with pytest.raises(ValueError, match="auto must be resolved"):
        zoo.load_weights(make("lenet"), settings("lenet", weights="auto"), classes=DIGITS)
    with pytest.raises(ValueError, match="needs the path of the source model"):
        zoo.load_weights(make("lenet"), settings("lenet", weights="source"), classes=DIGITS)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["digits_cnn", "lenet", "dtn", "mlp", "resnet18"])
def test_a_checkpoint_comes_back_bit_for_bit(make, settings, file, tmp_path):
    trained = other(make, file, bottleneck=8)
    path = checkpoint(trained, tmp_path / "best.pt")
    model = make(file, bottleneck=8)
    loaded = zoo.load_weights(model, settings(file, weights=str(path), bottleneck=8), classes=DIGITS)
    mine, theirs = model.state_dict(), trained.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert loaded == zoo.LoadedWeights(str(path), zoo.weights_hash(theirs), model.stage_names)
    assert model.pretrained == set(model.stage_names)


def test_a_run_folder_stands_for_its_best_checkpoint(make, settings, tmp_path):
    trained = other(make)
    checkpoint(trained, tmp_path / "run" / "checkpoints" / "best.pt")
    checkpoint(make("digits_cnn"), tmp_path / "run" / "checkpoints" / "last.pt")
    model = make("digits_cnn")
    zoo.load_weights(model, settings("digits_cnn", weights="source"), classes=DIGITS, source=tmp_path / "run")
    assert torch.equal(model.head.out.weight, trained.head.out.weight)


def test_loading_draws_nothing(make, settings, tmp_path):
    path = checkpoint(other(make), tmp_path / "best.pt")
    model = make("digits_cnn")
    before = torch.get_rng_state()
    zoo.load_weights(model, settings("digits_cnn", weights=str(path)), classes=DIGITS)
    assert torch.equal(before, torch.get_rng_state())


def test_weights_stay_channels_last(make, settings, tmp_path):
    path = checkpoint(other(make), tmp_path / "best.pt")
    model = make("digits_cnn")
    zoo.load_weights(model, settings("digits_cnn", weights=str(path)), classes=DIGITS)
    weight = model.backbone.stages["conv2"][0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("policy", "classes", "kept"),
    [
        ("auto", DIGITS, True),
        ("auto", tuple("abcdefghij"), False),
        ("auto", DIGITS[::-1], False),
        ("new", DIGITS, False),
        ("keep", DIGITS, True),
    ],
)
def test_the_head_is_kept_as_the_class_names_say(make, settings, tmp_path, policy, classes, kept):
    trained = other(make)
    path = checkpoint(trained, tmp_path / "best.pt")
    model = make("digits_cnn")
    fresh = model.head.out.weight.clone()
    loaded = zoo.load_weights(model, settings("digits_cnn", weights=str(path), head=policy), classes=classes)
    assert torch.equal(model.head.out.weight, trained.head.out.weight if kept else fresh)
    assert ("head" in loaded.stages) == ("head" in model.pretrained) == kept
    assert torch.equal(model.backbone.stages["conv2"][0].bias, trained.backbone.stages["conv2"][0].bias)


def test_keeping_a_head_of_other_classes_names_both_lists(make, settings, tmp_path):
    path = checkpoint(make("lenet", num_classes=2), tmp_path / "best.pt", classes=("cat", "dog"))
    assert fails(make("lenet"), settings("lenet", weights=str(path), head="keep")) == (
        f"model.head: keep needs weights trained for the same classes; {path} knows cat, dog, "
        "the data have 0, 1, 2, 3, 4, 5, 6, 7, 8, 9; set model.head=new"
    )


def test_a_head_is_not_kept_for_the_same_classes_in_another_order(make, settings, tmp_path):
    path = checkpoint(make("lenet", num_classes=2), tmp_path / "best.pt", classes=("cat", "dog"))
    config = settings("lenet", weights=str(path), head="keep")
    assert fails(make("lenet", num_classes=2), config, classes=("dog", "cat")) == (
        f"model.head: keep needs weights trained for the same classes; {path} knows cat, dog, "
        "the data have dog, cat; set model.head=new"
    )


def test_a_head_of_other_classes_is_replaced(make, settings, tmp_path):
    path = checkpoint(other(make, "lenet", num_classes=2), tmp_path / "best.pt", classes=("cat", "dog"))
    model = make("lenet")
    assert zoo.load_weights(model, settings("lenet", weights=str(path)), classes=DIGITS).stages == (
        "conv1",
        "conv2",
        "fc",
    )


def test_a_head_of_another_form_is_named_and_not_dropped_in_silence(make, settings, tmp_path):
    path = checkpoint(make("lenet", head_type="mlp"), tmp_path / "best.pt")
    advice = "set model.head=new, or model.head_type, model.hidden and model.bottleneck as they are there"
    assert fails(make("lenet"), settings("lenet", weights=str(path))).splitlines() == [
        f"model.head: {path} does not fit: head.out.weight is (10, 100) there and (10, 500) here; {advice}",
        f"model.head: {path} has more than this model: head.hidden1.weight, head.hidden1.bias; {advice}",
    ]


@pytest.mark.parametrize("policy", ["new", "keep"])
def test_a_bottleneck_only_on_one_side_matters_to_a_kept_head(make, settings, tmp_path, policy):
    plain = checkpoint(make("lenet"), tmp_path / "plain.pt")
    narrow = checkpoint(make("lenet", bottleneck=500), tmp_path / "narrow.pt")
    wanted = {"head": policy, "bottleneck": None}, {"head": policy, "bottleneck": 500}
    if policy == "new":
        for path, changes in zip((narrow, plain), wanted, strict=True):
            model = make("lenet", bottleneck=changes["bottleneck"])
            loaded = zoo.load_weights(model, settings("lenet", weights=str(path), **changes), classes=DIGITS)
            assert loaded.stages == model.backbone_stages
        return
    advice = "set model.bottleneck as it is there, or model.head=new without one"
    assert fails(make("lenet"), settings("lenet", weights=str(narrow), **wanted[0])) == (
        f"model.bottleneck: {narrow} has more than this model: "
        f"bottleneck.0.weight, bottleneck.0.bias, bottleneck.1.weight and 4 more; {advice}"
    )
    assert fails(make("lenet", bottleneck=500), settings("lenet", weights=str(plain), **wanted[1])) == (
        f"model.bottleneck: {plain} lacks: "
        f"bottleneck.0.weight, bottleneck.0.bias, bottleneck.1.weight and 3 more; {advice}"
    )


def test_a_new_head_still_takes_the_bottleneck(make, settings, tmp_path):
    trained = other(make, "lenet", bottleneck=8)
    path = checkpoint(trained, tmp_path / "best.pt")
    model = make("lenet", bottleneck=8)
    loaded = zoo.load_weights(model, settings("lenet", weights=str(path), head="new", bottleneck=8), classes=DIGITS)
    assert loaded.stages == ("conv1", "conv2", "fc", "bottleneck")
    assert torch.equal(model.bottleneck[0].weight, trained.bottleneck[0].weight)


def test_misfitting_weights_are_named_with_both_shapes(make, settings, tmp_path):
    path = checkpoint(make("lenet", (1, 32, 32)), tmp_path / "best.pt")
    assert fails(make("lenet"), settings("lenet", weights=str(path))) == (
        f"model.weights: {path} does not fit: "
        "backbone.stages.conv1.0.weight is (20, 1, 5, 5) there and (20, 3, 5, 5) here, "
        f"backbone.stages.fc.0.weight is (500, 1250) there and (500, 800) here; {ADVICE}"
    )


def test_missing_and_unknown_weights_are_named(make, settings, tmp_path):
    path = checkpoint(make("digits_cnn"), tmp_path / "best.pt")
    assert fails(make("lenet"), settings("lenet", weights=str(path), head="new")).splitlines() == [
        (
            f"model.weights: {path} does not fit: "
            "backbone.stages.conv1.0.weight is (32, 3, 5, 5) there and (20, 3, 5, 5) here, "
            "backbone.stages.conv1.0.bias is (32,) there and (20,) here, "
            f"backbone.stages.conv2.0.weight is (48, 32, 5, 5) there and (50, 20, 5, 5) here and 1 more; {ADVICE}"
        ),
        f"model.weights: {path} lacks: backbone.stages.fc.0.weight, backbone.stages.fc.0.bias; {ADVICE}",
        (
            f"model.weights: {path} has more than this model: backbone.stages.conv1.2.weight, "
            f"backbone.stages.conv1.2.bias, backbone.stages.conv1.2.running_mean and 7 more; {ADVICE}"
        ),
    ]


def test_weights_of_a_foreign_model_are_named(make, settings, tmp_path):
    path = tmp_path / "vgg.pth"
    torch.save({f"features.{n}.weight": torch.zeros(1) for n in range(5)}, path)
    for file, first in (("lenet", "conv1.0.weight"), ("resnet18", "stem.conv1.weight")):
        message = fails(make(file), settings(file, weights=str(path)))
        assert message.startswith(
            f"model.weights: {path} is of another model: "
            "it holds features.0.weight, features.1.weight, features.2.weight and 2 more; "
            f"expected backbone.stages.{first}, "
        )


def test_a_plain_state_dict_of_the_model_or_its_backbone_fits(make, settings, tmp_path):
    trained = other(make)
    for name, state in (("model.pth", trained.state_dict()), ("backbone.pth", trained.backbone.state_dict())):
        torch.save(state, tmp_path / name)
        model = make("digits_cnn")
        config = settings("digits_cnn", weights=str(tmp_path / name))
        assert zoo.load_weights(model, config, classes=DIGITS).stages == ("conv1", "conv2")
        assert torch.equal(model.backbone.stages["conv1"][0].weight, trained.backbone.stages["conv1"][0].weight)


def test_a_plain_state_dict_without_class_names_may_be_kept(make, settings, tmp_path):
    trained = other(make)
    torch.save(trained.state_dict(), tmp_path / "model.pth")
    model = make("digits_cnn")
    config = settings("digits_cnn", weights=str(tmp_path / "model.pth"), head="keep")
    assert zoo.load_weights(model, config, classes=DIGITS).stages == ("conv1", "conv2", "head")
    assert torch.equal(model.head.out.weight, trained.head.out.weight)


def test_load_backbone_leaves_the_head_alone(make):
    trained, model, untouched = other(make), make("digits_cnn"), make("digits_cnn")
    zoo.load_backbone(model, trained.state_dict(), origin="elsewhere")
    assert torch.equal(model.head.out.weight, untouched.head.out.weight)
    assert torch.equal(model.backbone.stages["conv1"][0].weight, trained.backbone.stages["conv1"][0].weight)
    assert model.pretrained == {"conv1", "conv2"}


def test_a_file_that_is_not_there_is_named(make, settings, tmp_path):
    path = tmp_path / "nothing.pt"
    assert fails(make("lenet"), settings("lenet", weights=str(path))) == (
        f"model.weights: no file {path}; set random, imagenet, source, or the path of a file or run"
    )
    assert fails(make("lenet"), settings("lenet", weights=str(tmp_path))) == (
        f"model.weights: {tmp_path} is a folder without checkpoints/best.pt; name a run folder or a file"
    )


def test_a_path_may_start_at_home(make, settings, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    checkpoint(make("lenet"), tmp_path / "best.pt")
    loaded = zoo.load_weights(make("lenet"), settings("lenet", weights="~/best.pt"), classes=DIGITS)
    assert loaded.origin == str(tmp_path / "best.pt")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_file_cut_short_is_named(make, settings, tmp_path, share):
    path = checkpoint(make("lenet"), tmp_path / "best.pt")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert fails(make("lenet"), settings("lenet", weights=str(path))) == f"model.weights: {path} {UNREADABLE}"


@pytest.mark.parametrize(
    "content", [b"hello", b"\x80\x02", b"{}", bytes(range(256)) * 8], ids=["text", "pickle", "json", "bytes"]
)
@pytest.mark.parametrize("suffix", ["pt", "pth"])
def test_a_file_of_something_else_is_named(make, settings, tmp_path, content, suffix):
    path = tmp_path / f"some.{suffix}"
    path.write_bytes(content)
    assert fails(make("lenet"), settings("lenet", weights=str(path))) == f"model.weights: {path} {UNREADABLE}"


def test_a_pickled_model_is_not_run(make, settings, tmp_path):
    path = tmp_path / "model.pt"
    torch.save(make("lenet"), path)
    assert fails(make("lenet"), settings("lenet", weights=str(path))) == (
        f"model.weights: {path} holds Python objects, which are not loaded as they could run code; "
        "save model.state_dict() alone"
    )


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([torch.zeros(1)], "a list"),
        (torch.zeros(1), "a Tensor"),
        ({}, "an empty dict"),
        ({"state_dict": {"a": torch.zeros(1)}, "epoch": 3}, "a dict with state_dict, epoch"),
        ({"a": torch.zeros(1), 3: torch.zeros(1)}, "a dict with a, 3"),
        ({"format": 1, "model": {"a": 1}, "classes": []}, "a dict with a"),
    ],
    ids=["list", "tensor", "empty", "nested", "number", "checkpoint"],
)
def test_a_file_without_a_state_dict_says_what_it_holds(make, settings, tmp_path, content, found):
    path = tmp_path / "some.pt"
    torch.save(content, path)
    assert fails(make("lenet"), settings("lenet", weights=str(path))) == (
        f"model.weights: {path} holds no state dict (names and tensors), but {found}; save model.state_dict() alone"
    )


def test_a_checkpoint_of_a_later_format_is_refused(make, settings, tmp_path):
    path = checkpoint(make("lenet"), tmp_path / "best.pt", format=2)
    assert fails(make("lenet"), settings("lenet", weights=str(path))) == (
        f"model.weights: {path} has format 2, this version of tlrun reads 1"
    )


def test_safetensors_are_read(make, settings, tmp_path):
    trained = other(make, "lenet")
    path = tmp_path / "weights.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in trained.state_dict().items()}, path)
    model = make("lenet")
    zoo.load_weights(model, settings("lenet", weights=str(path)), classes=DIGITS)
    assert torch.equal(model.backbone.stages["conv1"][0].bias, trained.backbone.stages["conv1"][0].bias)
    path.write_bytes(path.read_bytes()[:100])
    assert fails(make("lenet"), settings("lenet", weights=str(path))) == f"model.weights: {path} {UNREADABLE}"


def test_the_hash_sees_names_values_types_and_shapes_and_nothing_else():
    state = {"a": torch.randn(2, 3, 4, 4), "n": torch.tensor(3)}
    same = {"n": state["n"].clone(), "a": state["a"].contiguous(memory_format=torch.channels_last)}
    assert zoo.weights_hash(state) == zoo.weights_hash(same)
    assert len(zoo.weights_hash(state)) == 64
    changed = state["a"].clone()
    changed[1, 2, 3, 3] += 1e-6
    variants = [
        {**state, "a": changed},
        {**state, "a": state["a"].reshape(3, 2, 4, 4)},
        {"b": state["a"], "n": state["n"]},
        {"a": state["a"]},
        {**state, "n": torch.tensor(3, dtype=torch.int32)},
        {**state, "a": state["a"].bfloat16()},
    ]
    assert len({zoo.weights_hash(variant) for variant in [state, *variants]}) == len(variants) + 1
