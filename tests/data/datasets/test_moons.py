from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tlrun.data.datasets.base import DomainData, Places
from tlrun.data.datasets.moons import Moons

NOWHERE = Places(root=Path("/nowhere"), cache=Path("/nowhere"), download=False)
SETTINGS: dict[str, Any] = {
    "name": "moons",
    "num_rows": 1000,
    "classes": ["upper", "lower"],
    "noise": 0.1,
    "rotation": 0.0,
    "draw": 0,
}


def load(**changed: Any) -> DomainData:
    return Moons(Moons.Config(**{**SETTINGS, **changed}), NOWHERE).load()


def test_without_noise_points_lie_on_the_half_circles_of_scikit_learn() -> None:
    from sklearn.datasets import make_moons

    data = load(noise=0, num_rows=100)
    theirs, labels = make_moons(100, shuffle=False)
    for label in (0, 1):
        np.testing.assert_allclose(
            data.train.x[data.train.y == label], theirs[labels == label] - (0.5, 0.25), atol=1e-6
        )


def test_the_moons_lie_alike_about_the_origin() -> None:
    data = load(noise=0)
    upper, lower = (data.train.x[data.train.y == label] for label in (0, 1))
    np.testing.assert_allclose(upper, -lower, atol=1e-6)


def test_noise_has_the_stated_spread() -> None:
    difference = load(noise=0.3).train.x - load(noise=0).train.x
    np.testing.assert_allclose(difference.std(0), 0.3, rtol=0.05)


def test_classes_are_balanced_and_there_is_no_official_test_split() -> None:
    data = load(num_rows=7)
    assert data.classes == ("upper", "lower")
    assert np.bincount(data.train.y).tolist() == [4, 3]
    assert data.test is None


def test_rotation_turns_by_degrees_to_the_left() -> None:
    x = load().train.x
    np.testing.assert_allclose(load(rotation=90).train.x, np.stack((-x[:, 1], x[:, 0]), axis=1), atol=1e-6)
    np.testing.assert_allclose(load(rotation=180).train.x, -x, atol=1e-6)


def test_equal_draws_are_equal_for_good_and_others_differ() -> None:
    assert not np.array_equal(load().train.x, load(draw=1).train.x)
    np.testing.assert_allclose(load().train.x[:2], [[0.6764052, -0.20998427], [-0.4021262, 0.4740893]], rtol=1e-5)


def test_the_data_card_says_how_the_rows_were_made() -> None:
    assert load(rotation=35, draw=1).origin == (
        "two half circles of radius 1 that reach into each other, with noise of standard deviation 0.1, rotated by 35 "
        "degrees about their middle; draw 1"
    )


@pytest.mark.parametrize("changed", [{"num_rows": 1}, {"classes": ["a"]}, {"noise": -0.1}, {"draw": -1}], ids=str)
def test_settings_out_of_range_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Moons.Config(**{**SETTINGS, **changed})


def test_two_classes_of_one_name_are_a_problem() -> None:
    assert Moons.Config(**{**SETTINGS, "classes": ["a", "a"]}).problems() == [
        "classes: the two names must differ, got a twice"
    ]
    assert Moons.Config(**SETTINGS).problems() == []
