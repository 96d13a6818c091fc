from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tlrun.data.datasets.base import DomainData, Places
from tlrun.data.datasets.toy_gaussians import ToyGaussians

NOWHERE = Places(root=Path("/nowhere"), cache=Path("/nowhere"), download=False)
SETTINGS: dict[str, Any] = {
    "name": "toy_gaussians",
    "num_rows": 1000,
    "classes": ["negative", "positive"],
    "spread": 0.7,
    "rotation": 0.0,
    "shift": [0.0, 0.0],
    "draw": 0,
}


def load(**changed: Any) -> DomainData:
    return ToyGaussians(ToyGaussians.Config(**{**SETTINGS, **changed}), NOWHERE).load()


def test_the_clusters_lie_where_the_settings_say() -> None:
    data = load(num_rows=100_000, spread=0.5)
    assert data.classes == ("negative", "positive")
    for label, centre in ((0, (-2, 0)), (1, (2, 0))):
        cluster = data.train.x[data.train.y == label]
        np.testing.assert_allclose(cluster.mean(0), centre, atol=0.01)
        np.testing.assert_allclose(cluster.std(0), (0.5, 0.5), atol=0.01)
        assert abs(np.corrcoef(cluster.T)[0, 1]) < 0.02


def test_classes_are_balanced_and_there_is_no_official_test_split() -> None:
    data = load(num_rows=7)
    assert np.bincount(data.train.y).tolist() == [4, 3]
    assert data.train.x.shape == (7, 2)
    assert data.test is None


def test_rotation_turns_by_degrees_to_the_left_and_comes_before_shift() -> None:
    x, turned = load().train.x, load(rotation=90, shift=[1, -3]).train.x
    np.testing.assert_allclose(turned, np.stack((-x[:, 1] + 1, x[:, 0] - 3), axis=1), atol=1e-5)
    eighth = load(rotation=45).train.x
    np.testing.assert_allclose(eighth[:, 0], (x[:, 0] - x[:, 1]) / np.sqrt(2), atol=1e-5)


def test_equal_draws_are_equal_for_good_and_others_differ() -> None:
    np.testing.assert_array_equal(load().train.x, load().train.x)
    assert not np.array_equal(load().train.x, load(draw=1).train.x)
    np.testing.assert_allclose(load().train.x[:2], [[-0.7651633, 0.28011015], [2.6851165, 1.5686252]], rtol=1e-6)


def test_the_data_card_says_how_the_rows_were_made() -> None:
    assert load(rotation=45, shift=[1.5, -1], draw=1).origin == (
        "two Gaussian clusters of standard deviation 0.7 around (-2, 0) and (2, 0), rotated by 45 degrees about the "
        "origin, then shifted by (1.5, -1); draw 1"
    )


@pytest.mark.parametrize(
    "changed",
    [{"num_rows": 1}, {"classes": ["a"]}, {"classes": ["a", "b", "c"]}, {"spread": 0}, {"shift": [1]}, {"draw": -1}],
    ids=str,
)
def test_settings_out_of_range_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ToyGaussians.Config(**{**SETTINGS, **changed})


def test_two_classes_of_one_name_are_a_problem() -> None:
    assert ToyGaussians.Config(**{**SETTINGS, "classes": ["a", "a"]}).problems() == [
        "classes: the two names must differ, got a twice"
    ]
    assert ToyGaussians.Config(**SETTINGS).problems() == []
