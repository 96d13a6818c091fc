from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tlrun.build import typed
from tlrun.compose.plan import Request, plan
from tlrun.compose.resolve import name_choices
from tlrun.config import ConfigError, ExperimentConfig
from tlrun.data.datasets import degraded
from tlrun.data.datasets.base import DomainData, Places
from tlrun.data.datasets.degraded import Degraded
from tlrun.data.datasets.digits import Digits
from tlrun.data.datasets.mnistm import MnistM
from tlrun.data.datasets.toy_gaussians import ToyGaussians
from tlrun.data.made import sensors

OF = Digits.Config(name="digits", frame="stretched")


def settings(**changed: Any) -> Degraded.Config:
    return Degraded.Config(**{"name": "degraded", "of": OF, "kind": "noise", "severity": 3, **changed})


def load(places: Places, **changed: Any) -> DomainData:
    return Degraded(settings(**changed), places).load()


def test_rows_keep_their_labels_and_places(places: Places) -> None:
    sound, worse = Digits(OF, places).load(), load(places, severity=1)
    assert worse.classes == sound.classes
    assert worse.test is None
    np.testing.assert_array_equal(worse.train.y, sound.train.y)
    assert worse.train.x.shape == sound.train.x.shape
    np.testing.assert_array_equal(worse.train.x, sensors.SENSORS["noise"](sound.train.x, 1, "train"))


def test_test_rows_are_degraded_too_and_otherwise_than_training_rows(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = Digits(OF, places).load()
    with_test = DomainData(sound.classes, sound.train, sound.train, "twice the same")

    class Twice(Digits):
        def load(self) -> DomainData:
            return with_test

    monkeypatch.setattr(degraded, "component_class", lambda *_: Twice)
    worse = load(places)
    assert worse.test is not None
    assert not np.array_equal(worse.test.x, sound.train.x)
    assert not np.array_equal(worse.test.x, worse.train.x)
    np.testing.assert_array_equal(worse.test.y, sound.train.y)


def test_images_are_made_once_for_each_setting(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(places)
    load(places, kind="blur")
    load(places, severity=4)
    load(places, of=Digits.Config(name="digits", frame="padded"))
    monkeypatch.setattr(degraded, "SENSORS", {})
    np.testing.assert_array_equal(load(places).train.x, first.train.x)
    with pytest.raises(KeyError):
        load(places, severity=5)
    assert len(list(places.cache.glob("degraded-noise-*/contents.json"))) == 3
    assert len(list(places.cache.glob("degraded-blur-*/contents.json"))) == 1


def test_the_data_card_says_what_was_done(places: Places) -> None:
    sound, worse = Digits(OF, places).load(), load(places, kind="low_light", severity=4)
    assert worse.origin == f"{sound.origin}; then degraded: low_light, severity 4 of 5"
    assert worse.notes == sound.notes


def test_degradations_follow_one_upon_the_other(places: Places) -> None:
    worse = load(places, of=settings(kind="blur"), kind="jpeg")
    assert worse.origin.endswith("; then degraded: blur, severity 3 of 5; then degraded: jpeg, severity 3 of 5")


def test_features_cannot_be_degraded(places: Places) -> None:
    of = ToyGaussians.Config(
        name="toy_gaussians", num_rows=10, classes=("a", "b"), spread=1, rotation=0, shift=(0, 0), draw=0
    )
    with pytest.raises(ConfigError) as error:
        load(places, of=of)
    assert str(error.value) == (
        "data: degraded is made of a domain of images, and the rows of toy_gaussians are features; choose another with "
        "domain@data.target.of=NAME (or domain@data.source.of)"
    )


def test_automatic_choices_within_it_are_named(places: Places) -> None:
    of = MnistM.Config(name="mnistm", images="auto")
    assert settings(of=of).resolved(places.root).of == MnistM.Config(name="mnistm", images="made")


# ---- from the command line


def test_the_domain_it_is_made_of_is_chosen_like_any_other(config: Callable[..., ExperimentConfig]) -> None:
    chosen = config(
        "data=pair",
        "domain@data.source=usps",
        "domain@data.target=degraded",
        "domain@data.target.of=usps",
        "data.target.of.frame=padded",
        "data.target.severity=5",
    )
    assert chosen.data.name == "usps_degraded"
    target = chosen.to_dict()["data"]["target"]
    assert target == {"name": "degraded", "of": {"name": "usps", "frame": "padded"}, "kind": "noise", "severity": 5}
    assert typed(chosen.to_dict()).to_dict() == chosen.to_dict()


@pytest.mark.parametrize(("pair", "of"), [("mnist_degraded", "mnist"), ("fashion_degraded", "fashion")])
def test_a_pair_nests_the_domain_of_its_source(config: Callable[..., ExperimentConfig], pair: str, of: str) -> None:
    data = config(f"data={pair}").to_dict()["data"]
    assert (data["source"], data["target"]["of"]) == ({"name": of}, {"name": of})
    assert config(f"data={pair}").data.name == pair
    assert config(f"data={pair}", "domain@data.target.of=kmnist").to_dict()["data"]["target"]["of"]["name"] == "kmnist"


def test_choices_within_a_nested_domain_are_named_before_a_run_is(
    config: Callable[..., ExperimentConfig], tmp_path: Path
) -> None:
    chosen = config("data=mnist_degraded", "domain@data.target.of=mnistm", f"data.root={tmp_path}")
    assert name_choices(chosen).to_dict()["data"]["target"]["of"] == {"name": "mnistm", "images": "made"}


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (("data.target.severity=6",), "data.target.severity: must be at most 5, got 6"),
        (("data.target.severity=0",), "data.target.severity: must be at least 1, got 0"),
        (
            ("data.target.kind=fog",),
            "data.target.kind: must be one of blur, noise, low_light, occlusion, jpeg, low_resolution, got 'fog'",
        ),
        (
            ("domain@data.target.of=usps", "data.target.of.frame=wide"),
            "data.target.of.frame: must be one of stretched, padded, got 'wide'",
        ),
        (
            ("data.target.of=kmnist",),
            "data.target.of: must be a group of settings, got 'kmnist'; choose with domain@data.target.of=kmnist",
        ),
        (("+data.target.of.size=3",), "data.target.of.size: unknown key (allowed: name)"),
        (
            ("domain@data.target.of=degraded", "data.target.of.of.name=moon"),
            "data.target.of.of.name: there is no 'moon'; did you mean moons? (choices: csv, degraded, digits, ",
        ),
    ],
    ids=["severe", "none", "kind", "field", "name", "key", "twice"],
)
def test_what_is_wrong_is_told_under_its_full_key(overrides: tuple[str, ...], problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        plan(Request(("data=mnist_degraded", *overrides)))
    (found,) = error.value.problems
    assert found.startswith(problem)
