from __future__ import annotations

import gc
import os
import sys
import types
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tlrun.config import ConfigError, DomainSettings, PairSettings
from tlrun.data.datasets.base import Domain, DomainData, Places
from tlrun.data.domain import DomainPair, Part, find_places, load_pair, make_pair

MakeData = Callable[..., DomainData]
MakeConfig = Callable[..., PairSettings]
MakePair = Callable[..., DomainPair]

COUNTS = {"cat": 40, "dog": 30, "owl": 20}
TRAINING = ("source_train", "target_unlabelled", "target_granted")
EVALUATION = ("source_val", "source_test", "target_val", "target_test")
CPU = torch.device("cpu")


def true_labels(data: DomainData, part: Part) -> np.ndarray:
    assert part.rows is not None
    return data.train.y[part.rows.numpy()]


def test_parts_are_the_seven_that_are_promised(images: MakeData, pair_of: MakePair) -> None:
    pair = pair_of(images(COUNTS), images(COUNTS, draw=1), target_labels=2)
    assert set(pair.parts) == {*TRAINING, *EVALUATION}
    assert pair.task.sizes == {name: len(part) for name, part in pair.parts.items()}
    assert pair.task.sizes["target_granted"] == 6
    assert pair.task.classes == ("cat", "dog", "owl")
    for name, part in pair.parts.items():
        assert part.name == name
        assert part.domain == name.split("_")[0]
        assert (part.y is None) == (name == "target_unlabelled")


def test_rows_and_labels_are_those_of_the_domain(images: MakeData, pair_of: MakePair) -> None:
    source, target = images(COUNTS), images(COUNTS, draw=1)
    pair = pair_of(source, target, target_labels=3)
    for name, part in pair.parts.items():
        data = source if part.domain == "source" else target
        assert part.rows is not None
        assert np.array_equal(part.x.tensor().numpy(), data.train.x[part.rows.numpy()])
        if part.y is not None:
            assert np.array_equal(part.y.numpy(), true_labels(data, part)), name


def test_granted_rows_are_also_among_the_unlabelled(images: MakeData, pair_of: MakePair) -> None:
    pair = pair_of(images(COUNTS), images(COUNTS, draw=1), target_labels=4)
    granted, unlabelled = pair.parts["target_granted"], pair.parts["target_unlabelled"]
    assert granted.y is not None
    assert torch.bincount(granted.y).tolist() == [4, 4, 4]
    assert torch.equal(unlabelled.x.take(granted.index), granted.x.tensor())
    assert torch.equal(unlabelled.index, torch.arange(len(unlabelled)))


def test_grant_of_all_holds_the_rows_once(images: MakeData, pair_of: MakePair) -> None:
    pair = pair_of(images(COUNTS), images(COUNTS, draw=1), target_labels="all")
    assert pair.parts["target_granted"].x is pair.parts["target_unlabelled"].x
    assert len(pair.parts["target_granted"]) == 54


def test_fewer_granted_rows_lie_inside_more_and_follow_the_seed(images: MakeData, pair_of: MakePair) -> None:
    def granted(count: int, seed: int) -> set[int]:
        pair = pair_of(images(COUNTS), images(COUNTS, draw=1), target_labels=count, seed=seed)
        return set(pair.parts["target_granted"].index.tolist())

    assert granted(2, 0) < granted(3, 0) < granted(9, 0)
    assert granted(2, 0) == granted(2, 0) != granted(2, 1)


def test_only_granted_val_labels_are_marked_for_selection(images: MakeData, pair_of: MakePair) -> None:
    source, target = images(COUNTS), images(COUNTS, draw=1)
    for grant, counts in (("none", [0, 0, 0]), (2, [2, 2, 2]), ("all", [6, 5, 3])):
        pair = pair_of(source, target, target_val_labels=grant)
        val, test = pair.parts["target_val"], pair.parts["target_test"]
        assert val.granted is not None
        assert val.y is not None
        assert test.granted is not None
        assert torch.bincount(val.y[val.granted], minlength=3).tolist() == counts
        assert not test.granted.any()
        assert pair.parts["source_val"].granted is None
        assert len(pair.parts["target_granted"]) == 0


def test_grants_beyond_what_there_is_are_refused_together(images: MakeData, pair_of: MakePair) -> None:
    with pytest.raises(ConfigError) as caught:
        pair_of(images(COUNTS), images(COUNTS, draw=1), target_labels=20, target_val_labels=6)
    assert caught.value.problems == [
        "data.target_labels: there (target) has fewer train rows than the 20 per class asked for, "
        "of dog (18), owl (12)",
        "data.target_val_labels: there (target) has fewer val rows than the 6 per class asked for, of dog (5), owl (3)",
    ]


def test_splits_do_not_depend_on_the_seed(images: MakeData, pair_of: MakePair) -> None:
    source, target = images(COUNTS), images(COUNTS, draw=1)
    settings = {"target_labels": 2, "source_rows": 20, "source_label_noise": 0.5}
    first, second = (pair_of(source, target, seed=seed, **settings) for seed in (0, 1))
    for name in first.parts.keys() - {"target_granted"}:
        assert torch.equal(first.parts[name].x.tensor(), second.parts[name].x.tensor()), name
    assert first.fingerprint == second.fingerprint


def test_planted_noise_spoils_train_and_val_but_not_test(images: MakeData, pair_of: MakePair) -> None:
    source = images(COUNTS)
    pair = pair_of(source, images(COUNTS, draw=1), source_label_noise=0.25)
    shares = {}
    for name in ("source_train", "source_val", "source_test"):
        part = pair.parts[name]
        assert part.y is not None
        shares[name] = int((part.y.numpy() != true_labels(source, part)).sum())
    assert shares == {"source_train": 14, "source_val": 4, "source_test": 0}  # of 54, 14 and 22 rows
    assert pair.card["source"]["labels_made_wrong"] == {"train": 14, "val": 4, "test": 0}


def test_noise_follows_the_seed(images: MakeData, pair_of: MakePair) -> None:
    pairs = [pair_of(images(COUNTS), images(COUNTS, draw=1), source_label_noise=0.2, seed=seed) for seed in (0, 0, 1)]
    first, again, other = (pair.parts["source_train"].y for pair in pairs)
    assert first is not None
    assert again is not None
    assert other is not None
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_classes_are_aligned_by_name(images: MakeData, pair_of: MakePair) -> None:
    target = images({"owl": 20, "cat": 40, "dog": 30}, draw=1)
    pair = pair_of(images(COUNTS), target)
    for name in ("target_val", "target_test"):
        part = pair.parts[name]
        assert part.y is not None
        named = [pair.task.classes[number] for number in part.y.tolist()]
        assert named == [target.classes[number] for number in true_labels(target, part)]


def test_partial_target_may_lack_classes(images: MakeData, pair_of: MakePair) -> None:
    target = images({"owl": 20, "cat": 40}, draw=1)
    pair = pair_of(images(COUNTS), target, label_sets="partial", target_labels=3)
    assert pair.task.classes == ("cat", "dog", "owl")
    assert pair.parts["target_granted"].y is not None
    assert torch.bincount(pair.parts["target_granted"].y, minlength=3).tolist() == [3, 0, 3]
    assert pair.card["classes_of_source_alone"] == ["dog"]


@pytest.mark.parametrize("grant", [3, "all"])
def test_open_target_keeps_its_own_classes_out_of_the_labels(
    images: MakeData, pair_of: MakePair, grant: str | int
) -> None:
    target = images({"ant": 20, **COUNTS}, draw=1)
    pair = pair_of(images(COUNTS), target, label_sets="open", target_labels=grant, target_val_labels="all")
    unlabelled, val, test = (pair.parts[name] for name in ("target_unlabelled", "target_val", "target_test"))
    assert pair.task.classes == ("cat", "dog", "owl")
    assert (true_labels(target, unlabelled) == 0).sum() == 12  # they are among the unlabelled
    assert pair.parts["target_granted"].y is not None
    assert pair.parts["target_granted"].y.min() >= 0  # but never granted
    for part in (val, test):
        assert part.y is not None
        assert np.array_equal(part.y.numpy(), true_labels(target, part) - 1)
    assert val.granted is not None
    assert val.y is not None
    assert torch.equal(val.granted, val.y >= 0)


@pytest.mark.parametrize(
    ("label_sets", "source", "target", "message"),
    [
        ("closed", "ab", "bc", "closed does not allow that only here (source) has a and only there (target) has c"),
        (
            "closed",
            "abc",
            "bc",
            "closed does not allow that only here (source) has a; set data.label_sets=partial if that is meant",
        ),
        (
            "closed",
            "ab",
            "abc",
            "closed does not allow that only there (target) has c; set data.label_sets=open if that is meant",
        ),
        (
            "partial",
            "abc",
            "bd",
            "partial does not allow that only here (source) has a, c and only there (target) has d",
        ),
        ("open", "abd", "abc", "open does not allow that only here (source) has d and only there (target) has c"),
    ],
)
def test_label_sets_that_do_not_fit_are_refused_by_name(
    images: MakeData, pair_of: MakePair, label_sets: str, source: str, target: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        pair_of(images(dict.fromkeys(source, 9)), images(dict.fromkeys(target, 9)), label_sets=label_sets)
    assert str(caught.value) == f"data.label_sets: {message}"


def test_problems_of_both_domains_are_told_together(images: MakeData, pair_of: MakePair) -> None:
    with pytest.raises(ConfigError) as caught:
        pair_of(images({"a": 3}), images({"a": 4, "b": 0}))
    assert caught.value.problems == [
        "data.source: here must have at least two classes, got a",
        "data.target: there has no training rows of b",
    ]


def test_shape_is_that_of_the_richer_domain_unless_it_is_asked_for(images: MakeData, pair_of: MakePair) -> None:
    grey, colour = images(COUNTS, channels=1), images(COUNTS)
    assert pair_of(grey, colour).shape == (3, 8, 8)
    assert pair_of(grey, grey).shape == (1, 8, 8)
    assert pair_of(grey, grey, channels=3, image_size=12).shape == (3, 12, 12)
    pair = pair_of(colour, grey, channels=1)
    assert pair.shape == (1, 8, 8)
    assert pair.parts["source_train"].x.shape[1:] == (8, 8, 1)


def test_sizes_that_differ_need_image_size(images: MakeData, pair_of: MakePair) -> None:
    with pytest.raises(ConfigError) as caught:
        pair_of(images(COUNTS, size=8), images(COUNTS, size=10))
    assert str(caught.value) == (
        "data.image_size: must be given where sizes differ: here (source) has 8x8, there (target) has 10x10"
    )
    pair = pair_of(images(COUNTS, size=8), images(COUNTS, size=10), image_size=8)
    assert pair.card["target"]["fitting"] == "centre crop from 10x10 to 8x8"


def test_images_and_features_make_no_pair(images: MakeData, features: MakeData, pair_of: MakePair) -> None:
    with pytest.raises(ConfigError) as caught:
        pair_of(images(COUNTS), features(COUNTS))
    assert str(caught.value) == (
        "data: here (source) holds images, there (target) holds features; a pair needs two of a kind"
    )


def test_features_must_agree_in_number_and_take_no_image_settings(features: MakeData, pair_of: MakePair) -> None:
    with pytest.raises(ConfigError) as caught:
        pair_of(features(COUNTS), features(COUNTS, columns=4), image_size=28, channels=3)
    assert caught.value.problems == [
        "data.image_size: must be null, the rows of here_there are features",
        "data.channels: must be null, the rows of here_there are features",
        "data: here (source) has 3 features and there (target) has 4",
    ]
    pair = pair_of(features(COUNTS), features(COUNTS, draw=1))
    assert pair.shape == (3,)
    assert len(pair.statistics["target"].mean) == 3


def test_shared_normalisation_is_that_of_the_source_train_split(images: MakeData, pair_of: MakePair) -> None:
    source, target = images(COUNTS, channels=1), images(COUNTS, draw=1)
    shared, apart = (pair_of(source, target, normalize=rule) for rule in ("shared", "per_domain"))
    own = {
        role: shared.parts[name].x.tensor().double().div(255).mean((0, 1, 2)).tolist()
        for role, name in (("source", "source_train"), ("target", "target_unlabelled"))
    }
    for role in ("source", "target"):
        assert shared.statistics[role].mean == pytest.approx(own["source"] * 3)
    assert apart.statistics["target"].mean == pytest.approx(own["target"])
    assert apart.card["target"]["train_mean"] == pytest.approx(own["target"])


def test_places_come_from_the_settings(
    pair_settings: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    places = find_places(pair_settings(root="~/sets", cache_root="~/kept", download=True))
    assert places == Places(tmp_path / "sets", tmp_path / "kept", True)
    assert tmp_path in find_places(pair_settings()).cache.parents


@pytest.fixture
def own_domains(monkeypatch: pytest.MonkeyPatch, images: MakeData) -> dict[str, Any]:
    """Modules `lab.here` and `lab.there`, each with a domain of its own; tells what was loaded and is still held."""
    record: dict[str, Any] = {"held": [], "alive_at_load": []}

    def make(draw: int) -> type[Domain]:
        class Own(Domain):
            def load(self) -> DomainData:
                gc.collect()
                record["alive_at_load"].append([array() is not None for array in record["held"]])
                data = images(COUNTS, draw=draw)
                record["held"] += [weakref.ref(data.train.x), weakref.ref(data.train.y)]
                return data

        return Own

    monkeypatch.setitem(sys.modules, "lab", types.ModuleType("lab"))
    for draw, name in enumerate(("here", "there")):
        module = types.ModuleType(f"lab.{name}")
        module.Own = make(draw)  # type: ignore[attr-defined]
        module.Own.__module__ = module.__name__  # type: ignore[attr-defined]
        module.__spec__ = types.SimpleNamespace(origin=None)  # type: ignore[assignment]
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return record


def test_pair_is_loaded_one_domain_after_the_other(
    own_domains: dict[str, Any], images: MakeData, pair_settings: MakeConfig
) -> None:
    settings = {role: DomainSettings(name=f"lab.{name}") for role, name in (("source", "here"), ("target", "there"))}
    config = pair_settings(**settings)
    loaded = load_pair(config, seed=0, device=CPU)
    made = make_pair(images(COUNTS), images(COUNTS, draw=1), config, seed=0, device=CPU)
    assert loaded.card == made.card
    assert own_domains["alive_at_load"] == [[], [False, False]]
    gc.collect()
    assert [array() for array in own_domains["held"]] == [None] * 4


def test_missing_data_of_both_domains_is_told_together(
    own_domains: dict[str, Any], pair_settings: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "there"):

        def load(self: Domain) -> DomainData:
            raise ConfigError(f"data.root: nothing of {self.config.name}")

        monkeypatch.setattr(sys.modules[f"lab.{name}"].Own, "load", load)
    config = pair_settings(source=DomainSettings(name="lab.here"), target=DomainSettings(name="lab.there"))
    with pytest.raises(ConfigError) as caught:
        load_pair(config, seed=0, device=CPU)
    assert caught.value.problems == ["data.root: nothing of lab.here", "data.root: nothing of lab.there"]


@pytest.mark.slow
def test_shipped_mnist_makes_a_pair(pair_settings: MakeConfig) -> None:
    mnist = DomainSettings(name="mnist")
    config = pair_settings(source=mnist, target=mnist, image_size=28, channels=3, val_fraction=0.1, target_labels=10)
    pair = load_pair(config, seed=0, device=CPU)
    assert pair.task.sizes == {
        "source_train": 54000,
        "source_val": 6000,
        "source_test": 10000,
        "target_unlabelled": 54000,
        "target_granted": 100,
        "target_val": 6000,
        "target_test": 10000,
    }
    assert pair.parts["source_train"].x.shape == (54000, 28, 28, 1)
    assert pair.card["source"]["rows_per_class"]["test"]["1"] == 1135
    assert pair.statistics["target"].mean == pytest.approx([0.1307] * 3, abs=2e-4)
    assert pair.statistics["target"].std == pytest.approx([0.3081] * 3, abs=2e-4)


@pytest.mark.slow
def test_released_mnistm_is_cropped_to_mnist(pair_settings: MakeConfig, tmp_path: Path) -> None:
    root = os.environ.get("TLRUN_DATA")
    if not root or not (Path(root) / "mnist_m").is_dir():
        pytest.skip("TLRUN_DATA names no folder with the released MNIST-M")
    from tlrun.data.datasets.mnistm import MnistM

    config = pair_settings(
        source=DomainSettings(name="mnist"),
        target=MnistM.Config(name="mnistm", images="released"),
        image_size=28,
        channels=3,
        val_fraction=0.1,
        root=root,
        cache_root=str(tmp_path),
    )
    pair = load_pair(config, seed=0, device=CPU)
    assert pair.card["target"]["fitting"] == "centre crop from 32x32 to 28x28"
    assert pair.card["target"]["rows"] == {"train": 53101, "val": 5900, "test": 9001}
